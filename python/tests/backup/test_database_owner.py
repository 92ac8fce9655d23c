"""What root does to an app's SQLite files is done by the app's user: here a real one, `daemon`, and a hostile one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostctl.backup import settings
from hostctl.common.errors import HostError
from hostctl.core.paths import App, Layout
from hostctl.host.boundary import users
from hostctl.host.host import Host
from hostctl.sqlite import console, removal
from hostctl.sqlite.database import file_swap, files, owner, scratch
from hostctl.sqlite.stream import bootstrap, litestream

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
USER = "daemon"
REAL = {name: getattr(owner, name) for name in ("find", "run", "become", "hold")}  # what conftest.py replaces


@pytest.fixture(autouse=True)
def real_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, function in REAL.items():
        monkeypatch.setattr(owner, name, function)


@pytest.fixture
def app() -> Iterator[App]:
    """An app of the user, with a database of two rows, on a host whose directories every user can pass."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="owner-") as root:
        Path(root).chmod(0o755)
        found = Layout(Path(root)).app("shop")
        for path in (found.database.parent, found.data, found.state):
            path.mkdir(parents=True)
        (Path(root) / "secret").write_text("root's")
        (Path(root) / "secret").chmod(0o600)
        names = [{"name": name, "path": str(found.data / name)} for name in ("shop.db", "sub/more.db")]
        told = {"user": USER, "litestream": "/none", "databases": names, "backup": None}
        found.database.write_text(json.dumps(told))
        os.chown(found.data, users.find(USER).uid, users.find(USER).gid)
        owner.create(USER, found.data / "shop.db")
        by_app(
            found, lambda connection: connection.execute("CREATE TABLE users AS SELECT 'ann' name UNION SELECT 'bob'")
        )
        yield found


def by_app(app: App, work: object) -> None:
    def write() -> None:
        with files.writing(app.data / "shop.db") as connection:
            work(connection)  # type: ignore[operator]

    owner.run(USER, write)


def secret(app: App) -> Path:
    return app.layout.root / "secret"


def mine(path: Path) -> bool:
    return path.lstat().st_uid == users.find(USER).uid


# ---------------------------------------------------------------------------------------------- files and links


def test_what_is_made_and_read_is_made_and_read_by_the_apps_user(app: App) -> None:
    path = app.data / "shop.db"
    assert mine(path)
    assert owner.read_contents(USER, path).tables == {files.CANARY: 0, "users": 2}
    assert owner.write_canary(USER, path) == 1
    assert owner.migrations(USER, path) is None
    assert owner.integrity_faults(USER, path) == []
    assert all(mine(each) for each in app.data.iterdir())


def test_a_file_of_roots_is_neither_read_nor_written_through_a_link_or_a_directory(app: App) -> None:
    path = app.data / "shop.db"
    path.unlink()
    path.symlink_to(secret(app))
    for act in (lambda: owner.read_contents(USER, path), lambda: owner.write_canary(USER, path)):
        with pytest.raises(HostError, match="symbolic link"):
            act()
    (app.data / "sub").symlink_to(app.layout.root)
    with pytest.raises(HostError):
        owner.write_canary(USER, app.data / "sub/secret")
    with pytest.raises(HostError, match="cannot be followed"):
        settings.require(app).named("sub/more.db").stat()
    assert secret(app).read_text() == "root's"


def test_a_fifo_in_place_of_the_log_keeps_nobody_waiting_for_long(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    path = app.data / "shop.db"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(HostError, match="no database"):
        owner.write_canary(USER, path)
    with pytest.raises(HostError, match="took too long"):
        REAL["run"](USER, lambda: Path(path).read_text(), 0.3)
    assert settings.require(app).main.size == 0


def test_a_link_in_place_of_a_database_that_is_missing_is_not_written_through(app: App) -> None:
    path = app.data / "shop.db"
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"shop.db{suffix}").unlink(missing_ok=True)
    path.symlink_to(app.layout.root / "new")
    assert bootstrap.create_main(settings.require(app)) is False
    with pytest.raises(HostError):
        owner.create(USER, path)
    assert not (app.layout.root / "new").exists()


def test_a_held_transaction_is_the_users_and_ends_with_the_block(app: App) -> None:
    path = app.data / "shop.db"

    def is_busy() -> bool:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO users VALUES ('carl')")
            connection.execute("PRAGMA busy_timeout=0")
            return bool(connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0])

    with owner.hold(USER, [path]):
        assert owner.run(USER, is_busy)
    assert not owner.run(USER, is_busy)
    with pytest.raises(HostError, match="there is no database"), owner.hold(USER, [path, app.data / "none.db"]):
        pass


# ---------------------------------------------------------------------------------------------- what a file says


def test_the_schema_of_a_file_is_not_trusted(app: App) -> None:
    def settings_of(write: bool) -> list[int]:
        with contextlib.closing(files.connect(app.data / "shop.db", write)) as connection:
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("trusted_schema", "query_only")]

    assert owner.run(USER, lambda: settings_of(False)) == [0, 1]
    assert owner.run(USER, lambda: settings_of(True)) == [0, 0]


def test_a_trigger_on_hostctls_table_runs_as_the_apps_user(app: App) -> None:
    """It does what the app may do anyway, and nothing to what is root's."""
    body = "INSERT INTO users VALUES ('by the trigger')"
    by_app(app, lambda c: c.execute(f"CREATE TRIGGER t AFTER INSERT ON {files.CANARY} BEGIN {body}; END"))
    owner.write_canary(USER, app.data / "shop.db")
    assert owner.read_contents(USER, app.data / "shop.db").tables["users"] == 3


# ---------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize(("mode", "hidden"), [(0o711, True), (0o755, False)])
def test_a_program_that_only_root_may_read_hides_its_variables_from_its_own_user(
    app: App, mode: int, hidden: bool
) -> None:
    program = app.layout.root / "sleep"
    shutil.copy("/bin/sleep", program)
    program.chmod(mode)
    argv, secret = [str(program), "30"], {"KEY": "of the bucket"}
    with subprocess.Popen(argv, env=secret, preexec_fn=owner.become(USER)) as running:
        path = Path(f"/proc/{running.pid}/environ")
        assert path.read_text() == "KEY=of the bucket\0"
        try:
            if not hidden:
                assert owner.run(USER, path.read_text) == "KEY=of the bucket\0"
            else:
                with pytest.raises(OSError, match="Permission denied"):
                    owner.run(USER, path.read_text)
        finally:
            running.kill()


# ---------------------------------------------------------------------------------------------- scratch directories


@pytest.fixture
def work(app: App) -> Path:
    path = app.state / "work"
    scratch.make(path, USER)
    assert mine(path)
    return path


def test_a_copy_is_the_users_until_it_is_taken_and_roots_then(app: App, work: Path) -> None:
    owner.run(USER, lambda: files.copy(app.data / "shop.db", work / "copy.db"))
    scratch.take(work, "copy.db", app.state / "kept.db", USER)
    status = (app.state / "kept.db").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    scratch.put(app.state / "kept.db", work, "sub/copy.db", USER)
    assert mine(work / "sub")
    assert mine(work / "sub/copy.db")
    assert owner.read_contents(USER, work / "sub/copy.db").tables["users"] == 2


@pytest.mark.parametrize("what", ["link", "hard link", "directory", "fifo", "root's"])
def test_only_a_plain_file_of_the_user_is_taken(app: App, work: Path, what: str) -> None:
    path, other = work / "copy.db", work / "other"
    make = {
        "link": lambda: path.symlink_to(secret(app)),
        "hard link": lambda: (other.write_text(""), os.link(other, path)),
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
    }
    if what == "root's":
        path.write_text("")
    else:
        owner.run(USER, lambda: bool(make[what]()))
    with pytest.raises(OSError, match=r"plain file|symbolic links"):
        scratch.take(work, "copy.db", app.state / "kept.db", USER)
    assert not os.path.lexists(app.state / "kept.db")
    assert secret(app).read_text() == "root's"


def test_a_scratch_directory_is_made_anew_whatever_was_left_in_it(app: App, work: Path) -> None:
    owner.run(USER, lambda: (work / "link").symlink_to(app.layout.root))
    scratch.make(work, USER)
    assert list(work.iterdir()) == []
    assert secret(app).exists()


# ---------------------------------------------------------------------------------------------- what uses them


def test_dump_and_load_read_a_database_as_the_apps_user(app: App) -> None:
    (app.state / "dump").mkdir(mode=0o700)
    copied = console.copy(app, "shop.db", False, app.state / "dump")
    assert copied.stat().st_uid == 0
    text = console.copy(app, "shop.db", True, app.state / "dump").read_text()
    assert "INSERT INTO" in text
    assert "'ann'" in text
    console.check_file(app, copied)
    assert copied.stat().st_uid == 0
    copied.write_bytes(b"no database" * 100)
    with pytest.raises(HostError, match="no sound SQLite database"):
        console.check_file(app, copied)
    assert sorted(path.name for path in app.state.iterdir()) == ["dump"]


def test_a_swap_moves_nothing_through_a_link_in_the_apps_directory(app: App, work: Path) -> None:
    """By its path, root would move a file of root's away, and put the app's in its place."""
    dbs, target = settings.require(app), app.layout.root / "more.db"
    owner.run(USER, lambda: (work / "sub").mkdir())
    owner.run(USER, lambda: files.copy(app.data / "shop.db", work / "sub/more.db"))
    file_swap.swap(dbs, ["sub/more.db"], work, app.aside / "one")
    assert mine(app.data / "sub/more.db")
    target.write_text("root's")
    (app.data / "sub").rename(app.data / "away")
    (app.data / "sub").symlink_to(app.layout.root)
    with pytest.raises(OSError, match="symbolic links"):
        file_swap.swap_back(app.aside / "one")
    with pytest.raises(HostError, match="cannot be followed"):
        file_swap.swap(dbs, ["sub/more.db"], work, app.aside / "two")
    assert target.read_text() == "root's"
    (app.data / "sub").unlink()
    (app.data / "away").rename(app.data / "sub")
    file_swap.swap_back(app.aside / "one")
    assert not (app.data / "sub/more.db").exists()


def test_a_removal_deletes_nothing_through_a_link_and_is_not_held_up_by_one(app: App) -> None:
    (app.data / "sub").symlink_to(app.layout.root)
    target = app.layout.root / "more.db"
    target.write_text("root's")
    assert [each["bytes"] > 0 for each in removal.databases(app, Host())] == [True, False]
    removal.delete(app)
    assert target.read_text() == "root's"
    assert [path.name for path in app.data.iterdir()] == ["sub"]


def test_state_that_an_older_homeport_wrote_as_root_becomes_the_users(app: App) -> None:
    state = litestream.state_directory(app.data / "shop.db")
    (state / "ltx/0").mkdir(parents=True)
    (state / "ltx/0/0000000000000001-0000000000000001.ltx").write_text("")
    (state / litestream.ADOPTED).write_text("e1")
    litestream.adopt(settings.require(app), "e1")
    assert all(mine(path) for path in [state, *state.rglob("*")])
    assert litestream.local_txid(settings.require(app).main) == 1
    litestream.adopt(settings.require(app), "e2")
    assert (state / litestream.ADOPTED).read_text() == "e2"
    assert litestream.local_txid(settings.require(app).main) == 0


def test_a_link_in_place_of_that_state_is_not_given_away(app: App) -> None:
    state = litestream.state_directory(app.data / "shop.db")
    state.symlink_to(app.layout.root)
    litestream.adopt(settings.require(app), "e1")
    assert secret(app).stat().st_uid == 0
    assert app.layout.root.stat().st_uid == 0


def test_what_a_killed_restore_of_an_older_homeport_left_is_removed(app: App) -> None:
    old, own = app.data / ".homeport-0a1b2c3d", app.data / ".homeport-ffffffff"
    old.mkdir()
    (old / "shop.db.tmp").symlink_to(secret(app))
    owner.run(USER, own.mkdir)
    bootstrap._remove_old_stages(settings.require(app))
    assert (old.exists(), own.exists(), secret(app).exists()) == (False, True, True)
