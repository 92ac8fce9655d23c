"""Directories and files as provisioning describes them: made, corrected, and never where a lesser user leads root."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostctl.common.errors import HostError
from hostctl.core.schema import mistakes
from hostctl.host.boundary import handles
from hostctl.host.converge import SPEC, Change, Entry, Spec, converge

ME, MY_GROUP = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")


@pytest.fixture
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="converge-") as made:
        yield Path(made)


def entry(path: Path, mode: str = "0644", **more: str) -> Entry:
    return Entry(path=str(path), owner=ME, group=MY_GROUP, mode=mode, **more)  # type: ignore[typeddict-item]


def spec(
    *,
    directories: tuple[Entry, ...] = (),
    files: tuple[Entry, ...] = (),
    absent: tuple[Path, ...] = (),
    check: bool = False,
    user: str = "root",
) -> Spec:
    absent_paths = [str(path) for path in absent]
    document = Spec(directories=[*directories], files=[*files], absent=absent_paths, check=check, user=user)
    assert mistakes(SPEC, document) == []
    return document


def test_what_is_missing_is_made_and_a_second_time_nothing_changes(base: Path) -> None:
    wanted = spec(directories=(entry(base / "etc", "0750"),), files=(entry(base / "etc/conf", content="a\n"),))

    first = converge(wanted)

    assert first == [Change(path=str(base / "etc"), before=None), Change(path=str(base / "etc/conf"), before=None)]
    assert (base / "etc/conf").read_text() == "a\n"
    assert [stat.S_IMODE((base / name).stat().st_mode) for name in ("etc", "etc/conf")] == [0o750, 0o644]
    assert converge(wanted) == []
    assert [path.name for path in (base / "etc").iterdir()] == ["conf"]


def test_another_content_is_replaced_and_told(base: Path) -> None:
    (base / "conf").write_text("old\n")
    assert converge(spec(files=(entry(base / "conf", content="new\n"),))) == [
        Change(path=str(base / "conf"), before="old\n")
    ]
    assert (base / "conf").read_text() == "new\n"


def test_another_mode_is_corrected_without_touching_the_content(base: Path) -> None:
    file = base / "conf"
    file.write_text("same")
    file.chmod(0o666)
    inode = file.stat().st_ino

    assert [each["path"] for each in converge(spec(files=(entry(file, content="same"),)))] == [str(file)]
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_ino) == (0o644, inode)


def test_a_file_that_is_to_be_absent_goes_and_one_that_is_not_there_is_no_change(base: Path) -> None:
    (base / "old").write_text("x")
    wanted = spec(absent=(base / "old", base / "never", base / "no/directory"))
    assert [each["path"] for each in converge(wanted)] == [str(base / "old")]
    assert list(base.iterdir()) == []


def test_a_check_tells_the_same_changes_and_makes_none(base: Path) -> None:
    (base / "old").write_text("x")
    (base / "loose").mkdir(mode=0o700)
    settings = {
        "directories": (entry(base / "loose", "0755"), entry(base / "new")),
        "files": (entry(base / "new/conf", content="a"),),
        "absent": (base / "old",),
    }
    told = converge(spec(**settings, check=True))  # type: ignore[arg-type]

    assert sorted(path.name for path in base.iterdir()) == ["loose", "old"]
    assert stat.S_IMODE((base / "loose").stat().st_mode) == 0o700
    assert told == converge(spec(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("there", ["link", "directory", "fifo"])
def test_what_is_no_plain_file_is_neither_written_nor_replaced(base: Path, there: str) -> None:
    (base / "elsewhere").write_text("mine")
    place = base / "conf"
    {"link": lambda: place.symlink_to("elsewhere"), "directory": place.mkdir, "fifo": lambda: os.mkfifo(place)}[there]()

    with pytest.raises(HostError) as refused:
        converge(spec(files=(entry(place, content="new"),)))
    assert refused.value.where == str(place)
    assert (base / "elsewhere").read_text() == "mine"


def test_a_directory_may_be_a_link_that_root_has_made(base: Path) -> None:
    (base / "disk").mkdir(mode=0o700)
    (base / "srv").symlink_to("disk")
    converge(spec(directories=(entry(base / "srv", "0755"), entry(base / "srv/app", "0755"))))
    assert (base / "srv").is_symlink()
    assert stat.S_IMODE((base / "disk").stat().st_mode) == 0o755
    assert (base / "disk/app").is_dir()


@needs_root
@pytest.mark.parametrize("case", ["another's", "writable by others", "writable by a group", "beneath another's"])
def test_nothing_is_written_where_another_user_can_exchange_the_place(base: Path, case: str) -> None:
    base.chmod(0o755)
    place = base / "open" / ("deeper" if case == "beneath another's" else "")
    place.mkdir(parents=True)
    if case == "writable by others":
        place.chmod(0o777)
    elif case == "writable by a group":
        os.chown(place, 0, 65534)
        place.chmod(0o775)
    else:
        os.chown(base / "open", 65534, 65534)

    with pytest.raises(HostError) as refused:
        converge(spec(files=(entry(place / "conf", content="x"),), absent=(place / "other",)))
    assert refused.value.where == str(base / "open")
    assert list(place.iterdir()) == []


@needs_root
def test_a_link_in_a_place_that_another_user_owns_leads_nowhere(base: Path) -> None:
    base.chmod(0o755)
    (base / "theirs").mkdir()
    (base / "theirs" / "way").symlink_to("/etc")
    os.chown(base / "theirs", 65534, 65534)
    (base / "link").symlink_to("theirs/way")
    with pytest.raises(PermissionError), handles.Directory(base / "link"):
        pass


@needs_root
def test_a_file_is_given_to_its_user(base: Path) -> None:
    given: Entry = {**entry(base / "key", "0600", content="k"), "owner": "nobody", "group": "nogroup"}  # type: ignore[typeddict-item]
    converge(spec(files=(given,)))
    found = (base / "key").stat()
    assert (found.st_uid, found.st_gid) == (pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid)
    assert converge(spec(files=(given,))) == []


def test_a_user_that_is_not_there_is_refused(base: Path) -> None:
    unknown: Entry = {**entry(base / "x", content=""), "owner": "no-such-user"}  # type: ignore[typeddict-item]
    with pytest.raises(HostError, match="no user no-such-user"):
        converge(spec(files=(unknown,)))


@pytest.mark.parametrize(
    "wrong", [{"path": "etc/x"}, {"mode": "rwx"}, {"mode": "17777"}, {"owner": "a\nb"}, {"content": 1}, {"more": ""}]
)
def test_an_entry_that_is_not_understood_is_refused(wrong: dict[str, object]) -> None:
    document = {
        "directories": [],
        "files": [{**entry(Path("/x"), content=""), **wrong}],
        "absent": [],
        "check": False,
        "user": "root",
    }
    assert mistakes(SPEC, document) == ["files is not valid"]


def test_a_file_that_even_root_may_not_replace_is_not_told_as_a_place_of_another_user(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), "conf")  # chattr +i

    monkeypatch.setattr(handles.Directory, "write", refused)
    with pytest.raises(PermissionError, match="Operation not permitted"):
        converge(spec(files=(entry(base / "conf", content="x"),)))


def test_a_file_that_its_command_does_not_accept_is_never_installed(base: Path) -> None:
    (base / "conf").write_text("good\n")
    bad = entry(base / "conf", content="bad\n")
    with pytest.raises(HostError, match=r"does not accept what .*conf would be: it is bad"):
        converge(spec(files=({**bad, "validate": ["/bin/sh", "-c", "echo it is $(cat $0) >&2; ! grep bad $0", "%s"]},)))
    assert (base / "conf").read_text() == "good\n"
    accepted: Entry = {**entry(base / "conf", content="fine\n"), "validate": ["/bin/sh", "-c", "grep -q fine $0", "%s"]}
    assert len(converge(spec(files=(accepted,)))) == 1


@needs_root
@pytest.mark.parametrize(
    ("closed", "says"), [("treasure", "cannot be opened"), ("root/treasure", "nobody may not write")]
)
def test_another_user_does_it_himself_and_a_link_of_his_leads_him_nowhere_that_he_may_not_go(
    base: Path, closed: str, says: str
) -> None:
    base.chmod(0o755)
    home, treasure = base / "home", base / closed
    home.mkdir()
    (base / "root").mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    treasure.mkdir(mode=0o700)
    his = Entry(path=str(home / ".ssh"), owner="nobody", group="nogroup", mode="0700")
    key = Entry(path=str(home / ".ssh/authorized_keys"), owner="nobody", group="nogroup", mode="0600", content="key\n")

    assert len(converge(spec(directories=(his,), files=(key,), user="nobody"))) == 2
    assert (home / ".ssh/authorized_keys").stat().st_uid == 65534

    (home / ".ssh").rename(home / ".ssh.own")
    (home / ".ssh").symlink_to(treasure)
    with pytest.raises(HostError, match=says):
        converge(spec(directories=(his,), files=(key,), user="nobody"))
    assert list(treasure.iterdir()) == []
    assert stat.S_IMODE(treasure.stat().st_mode) == 0o700
    assert treasure.stat().st_uid == 0
