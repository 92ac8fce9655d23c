"""The boundary: what a child that is another user can do, where a handle leads, who is behind a socket."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostctl.common.errors import HostError
from hostctl.host.boundary import handles, kernel, peers, users
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User, run_as, start_as

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
MINE = User("me", os.getuid(), os.getgid(), ())


@pytest.fixture
def nobody() -> User:
    return users.find("nobody")


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that every user can pass."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="boundary-") as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


# ---------------------------------------------------------------------------------------------- users


@pytest.mark.parametrize("name", ["root", "no-such-user", "", "a\0b"])
def test_root_and_a_user_that_is_not_there_are_refused(name: str) -> None:
    with pytest.raises(HostError):
        users.find(name)


@needs_root
def test_the_child_is_that_user_and_can_never_be_another(nobody: User) -> None:
    def look() -> dict[str, object]:
        told: dict[str, object] = {"ids": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups()}
        told["capabilities"] = list(kernel.capabilities())
        told["status"] = Path("/proc/thread-self/status").read_text()
        for change in (lambda: os.setuid(0), lambda: os.setgroups([0])):
            with contextlib.suppress(PermissionError):
                change()
                told["back"] = True
        return told

    told = run_as(nobody, look)

    assert told["ids"] == [nobody.uid] * 3 + [nobody.gid] * 3
    assert told["groups"] == list(nobody.groups)
    assert set(told["capabilities"]) == {0}  # type: ignore[call-overload]
    assert "NoNewPrivs:\t1" in str(told["status"])
    assert "back" not in told


@needs_root
def test_the_child_reads_nothing_that_only_root_can_read(nobody: User, base: Path) -> None:
    (base / "secret").write_text("x")
    (base / "secret").chmod(0o600)

    with pytest.raises(PermissionError):
        run_as(nobody, (base / "secret").read_text)


@needs_root
def test_the_child_has_no_handle_of_the_parent_but_those_that_are_kept(nobody: User, base: Path) -> None:
    (base / "secret").write_text("x")
    (base / "secret").chmod(0o600)
    with (base / "secret").open() as other, (base / "secret").open() as kept:
        shared = [other.fileno(), kept.fileno()]
        os.set_inheritable(other.fileno(), True)

        def works(number: int) -> bool:
            with contextlib.suppress(OSError):
                os.fstat(number)
                return True
            return False

        assert run_as(nobody, lambda: [works(number) for number in shared], keep=[shared[1]]) == [False, True]


@needs_root
def test_no_other_process_of_the_user_can_look_into_the_child(nobody: User) -> None:
    child = start_as(nobody, lambda: time.sleep(60))
    try:

        def look() -> str:
            path = Path(f"/proc/{child._pid}")
            deadline = time.monotonic() + 10
            while f"Uid:\t{nobody.uid}" not in (path / "status").read_text():
                assert time.monotonic() < deadline
            with contextlib.suppress(PermissionError), (path / "mem").open("rb"):
                return "open"
            return "closed"

        assert run_as(nobody, look) == "closed"
    finally:
        child.end()


@pytest.mark.parametrize("wrong", [HostError("what", "where", "fix", 5, reason="why"), FileNotFoundError(2, "gone")])
def test_an_error_of_the_work_is_raised_here(wrong: Exception) -> None:
    def fail() -> None:
        raise wrong

    with pytest.raises(type(wrong)) as caught:
        run_as(MINE, fail)

    if isinstance(wrong, HostError):
        assert isinstance(caught.value, HostError)
        assert (caught.value.as_dict(), caught.value.reason) == (wrong.as_dict(), "why")
    else:
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == errno.ENOENT


def test_work_that_ends_without_an_answer_or_takes_too_long_is_an_error() -> None:
    with pytest.raises(HostError, match="without a result"):
        run_as(MINE, lambda: os._exit(0))
    with pytest.raises(HostError, match="took too long"):
        run_as(MINE, lambda: time.sleep(60), seconds=0.2)
    with pytest.raises(HostError, match="RuntimeError"):
        run_as(MINE, lambda: (_ for _ in ()).throw(RuntimeError("x")))


# ---------------------------------------------------------------------------------------------- handles


@pytest.fixture(params=["openat2", "steps"])
def directory(request: pytest.FixtureRequest, base: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Directory]:
    """A directory with a file, a directory with one, and links out of it; once without openat2."""
    if request.param == "steps":

        def missing(*_: object) -> int:
            raise OSError(errno.ENOSYS, "no openat2")

        monkeypatch.setattr(kernel, "open_beneath", missing)
    root = base / "own"
    (root / "below").mkdir(parents=True)
    (root / "file").write_text("mine")
    (root / "below/file").write_text("deep")
    (base / "outside").mkdir()
    (base / "outside/file").write_text("foreign")
    (root / "link").symlink_to("../outside/file")
    (root / "way").symlink_to("../outside")
    (root / "near").symlink_to("below")
    with Directory(root) as opened:
        yield opened


def read(directory: Directory, name: str) -> str:
    with os.fdopen(directory.regular(name)) as file:
        return file.read()


def test_what_lies_beneath_is_read(directory: Directory) -> None:
    assert (read(directory, "file"), read(directory, "below/file")) == ("mine", "deep")
    with directory.within("below") as below:
        assert read(below, "file") == "deep"


@pytest.mark.parametrize(
    "name", ["link", "way/file", "near/file", "../outside/file", "below/../file", "/etc/passwd", ""]
)
def test_no_link_and_no_way_out_is_followed(directory: Directory, name: str) -> None:
    for flags in (os.O_RDONLY, os.O_PATH, os.O_WRONLY | os.O_CREAT, os.O_RDONLY | os.O_DIRECTORY):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is asked below
            directory.open(name, flags)
        assert caught.value.errno in (errno.ELOOP, errno.EXDEV, errno.ENOTDIR)


@pytest.mark.parametrize("name", ["way/new", "near/new", "../new", "way"])
def test_nothing_is_made_renamed_or_removed_through_a_link(directory: Directory, name: str, base: Path) -> None:
    before = sorted(path.name for path in (base / "outside").iterdir())
    target = f"{name}/x" if name == "way" else name
    changes = [
        lambda: directory.write(target, b"x"),
        lambda: directory.make(target),
        lambda: directory.rename("file", target),
        lambda: directory.unlink(target),
    ]
    for change in changes:
        with pytest.raises(OSError):  # noqa: PT011
            change()
    assert sorted(path.name for path in (base / "outside").iterdir()) == before
    assert (directory.path / "file").read_text() == "mine"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_written_through(directory: Directory, base: Path) -> None:
    (directory.path / ".link.new").symlink_to("../outside/file")

    directory.write("link", b"new", mode=0o640)

    assert (base / "outside/file").read_text() == "foreign"
    assert (directory.path / "link").read_text() == "new"
    assert stat.S_IMODE((directory.path / "link").lstat().st_mode) == 0o640


def test_only_a_plain_file_with_one_name_is_regular(directory: Directory) -> None:
    os.mkfifo(directory.path / "fifo")
    os.link(directory.path / "file", directory.path / "twice")
    for name in ("fifo", "twice", "below"):
        with pytest.raises(PermissionError):
            directory.regular(name)
    with pytest.raises(PermissionError):
        directory.regular("below/file", User("other", os.getuid() + 1, 1, ()))


@needs_root
def test_owner_and_mode_are_set_on_what_was_made(directory: Directory, nobody: User) -> None:
    directory.make("home")
    directory.write("home/file", b"x", nobody, 0o400)
    directory.give("home", nobody, 0o750)

    for name, mode in (("home", 0o750), ("home/file", 0o400)):
        found = (directory.path / name).stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (nobody.uid, nobody.gid, mode)


@needs_root
def test_a_directory_that_another_user_can_change_is_no_base(base: Path, nobody: User) -> None:
    for change in (lambda: base.chmod(0o775), lambda: base.chmod(0o757), lambda: os.chown(base, nobody.uid, 0)):
        change()
        with pytest.raises(PermissionError):
            Directory(base)


# ---------------------------------------------------------------------------------------------- peers


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen()
        yield server


def own_group() -> str:
    return Path("/proc/self/cgroup").read_text().splitlines()[-1].split(":", 2)[2]


def test_the_socket_of_the_owner_is_connected_to(base: Path) -> None:
    with listening(base / "agent"), peers.connect(base, "agent", MINE, None) as connection:
        assert peers.of(connection) == (os.getpid(), os.getuid(), os.getgid())


@needs_root
def test_the_one_who_connects_is_the_lesser_user(base: Path, nobody: User) -> None:
    with listening(base / "agent") as server:
        seen: list[peers.Peer] = []

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                seen.append(peers.of(connection))

        thread = threading.Thread(target=accept)
        thread.start()
        with pytest.raises(HostError, match="not the instance's"):
            run_as(nobody, lambda: bool(peers.connect(base, "agent", nobody, None)))
        thread.join(10)
    assert seen[0].uid == nobody.uid


@pytest.mark.parametrize("name", ["link", "way/agent"])
def test_a_link_to_a_socket_is_not_followed(base: Path, name: str) -> None:
    (base / "own").mkdir()
    (base / "other").mkdir()
    (base / "own/link").symlink_to(base / "other/agent")
    (base / "own/way").symlink_to(base / "other")
    with listening(base / "other/agent") as server, pytest.raises(OSError):  # noqa: PT011
        peers.connect(base / "own", name, MINE, None)
    server.close()


def test_a_socket_of_another_user_or_control_group_is_refused(base: Path) -> None:
    other = User("other", os.getuid() + 1, 1, ())
    with listening(base / "agent"):
        with pytest.raises(HostError, match="not the instance's"):
            peers.connect(base, "agent", other, None)
        for group in ("", "/", "/no-such.slice/shop@1.service"):
            with pytest.raises(HostError, match="not the instance's"):
                peers.connect(base, "agent", MINE, group)


def test_what_is_no_socket_is_refused(base: Path) -> None:
    (base / "agent").write_text("")
    with pytest.raises(HostError, match="no socket"):
        peers.connect(base, "agent", MINE, None)


def test_a_process_that_has_ended_is_in_no_group(tmp_path: Path) -> None:
    assert not peers.in_group(1, "/a", tmp_path)
    assert not peers.in_group(0, "/a", tmp_path)


def test_a_handle_of_the_parent_directory_alone_is_kept_open(base: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Directory(base) as directory:
        for name in ("x/y", "x"):
            with contextlib.suppress(OSError):
                os.close(directory.open(name))
            with contextlib.suppress(OSError):
                os.close(handles._open_by_steps(directory.handle, name, os.O_RDONLY, 0))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@needs_root
def test_a_program_that_root_runs_as_a_user_is_that_user_and_no_more(nobody: User) -> None:
    group = f"--regid={nobody.gid}"
    argv = [
        group if one.startswith("--regid") else one for one in users.command_as("nobody", ["cat", "/proc/self/status"])
    ]
    told = dict(
        line.split(":\t", 1)
        for line in subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    )
    assert set(told["Uid"].split()) == {str(nobody.uid)}
    assert set(told["Gid"].split()) == {str(nobody.gid)}
    assert {int(told[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert told["NoNewPrivs"] == "1"
