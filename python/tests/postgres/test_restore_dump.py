"""Dumps that are taken away and loaded, points of an app without a backup, and the console: on a real server."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pgworld import USER, Host, numbers

from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.common.files import Json
from hostctl.core import audit
from hostctl.host import disk
from hostctl.host.host import Host as RealHost
from hostctl.journal import journal
from hostctl.journal.engine import Work
from hostctl.postgres import push
from hostctl.postgres import restore as own
from hostctl.postgres.database import dumps, row_counts
from hostctl.postgres.server import cluster
from hostctl.transitions.steps import restore
from hostctl.verbs import db
from hostctl.verbs import kept as kept_aside

RELEASE = "20260101T000000Z-abcdef0"
CONSOLE = """
import subprocess, sys
from pathlib import Path
from hostctl.common import files
from hostctl.core.paths import Layout
from hostctl.host import credentials, terminal
from hostctl.host.systemd import Systemd
from hostctl.release import envfile
from hostctl.verbs import db

def foreground(unit, argv, properties, tty, host):
    # the role has no user of the system here, and systemd is not asked
    assert [one for one in properties if one.startswith("User=")][-1] == "User=shop", properties
    (path,) = [one.rpartition(":")[2] for one in properties if one.startswith("LoadCredentialEncrypted=")]
    variables = envfile.parse(Path(path).read_text())
    return subprocess.run(argv[4:], env=variables).returncode

terminal.foreground = foreground
credentials.write = lambda path, name, value: files.write_atomic(path, value)
Systemd.text = lambda *_: "[Service]\\nUser=shop\\nLoadCredentialEncrypted=secret:/x\\n"
sys.exit(db.console(Layout(Path(sys.argv[1])).app("shop"), None, sys.argv[2] == "write", "ann", "laptop"))
"""


@pytest.fixture
def host(new_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> Host:
    """An app with three rows and no backup."""
    # the role has no user of the system here; root is let in as the role
    monkeypatch.setattr(dumps, "as_user", lambda user, argv: [str(one) for one in argv])
    monkeypatch.setattr(dumps, "set_owner", lambda *_: None)
    made = new_host(backup=False)
    made.start()
    made.sql("CREATE TABLE rows(n bigint PRIMARY KEY); INSERT INTO rows VALUES (1), (2), (3)")
    return made


def real(host: Host) -> RealHost:
    return host  # type: ignore[return-value]


def work(host: Host, data: Json | None, verb: str = "load") -> Work:
    """A transition that has come to its steps."""
    name = f"2026010{len(journal.ids(host.app)) + 1}T000000000Z-aaaaaa"
    entry = journal.create(host.app, name, verb, RELEASE, "ann", "", settings={}, data=data)
    return Work(host.app, entry, real(host))


def dumped(host: Host, sql: bool = False) -> bytes:
    out = io.BytesIO()
    db.dump(host.app, None, sql, out)
    head, _, body = out.getvalue().partition(b"\n")
    assert json.loads(head)["bytes"] == len(body)
    return body


def given(host: Host, data: bytes) -> Json:
    """A file that has been received, as the transition's data."""
    path = host.app.state / "load-1.db"
    path.write_bytes(data)
    db.of(host.app).check_file(host.app, path)
    return {"point": None, "at": 1000.0, "file": str(path)}


def exchange(doing: Work) -> Work:
    for name, step in (("fetch", restore.fetch), ("data", restore.replace)):
        doing.journal.begin(name)
        step(doing)
    return doing


def undo(doing: Work) -> None:
    for step in (restore.put_back, restore.forget):
        step(doing)
        step(doing)  # as after a crash in the middle of it


def names(host: Host) -> set[str]:
    return row_counts.database_names(host.server) - {"postgres", "template0", "template1"}


# ---------------------------------------------------------------------------------------------- dump and load


def test_what_was_dumped_is_loaded_beside_and_takes_the_name_and_the_old_database_is_kept(host: Host) -> None:
    host.sql("CREATE EXTENSION citext; CREATE TABLE mails(a citext); INSERT INTO mails VALUES ('Ann@x')")
    data = dumped(host)
    host.sql("INSERT INTO rows VALUES (4); DROP TABLE mails")
    doing = exchange(work(host, given(host, data)))
    assert numbers(host) == [1, 2, 3]
    assert host.sql("SELECT a FROM mails WHERE a = 'ANN@X'") == [["Ann@x"]]
    assert host.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'rows'") == [[USER]]
    assert row_counts.canary(host.server, "shop").rows == 1
    kept = doing.journal.content["kept"]
    aside = kept["aside"].removeprefix("the database ")
    assert kept["tables"] == {"shop": {"mails": [None, 1], "rows": [4, 3]}}
    assert names(host) == {"shop", aside}
    assert cluster.query(host.server, "SELECT count(*) FROM public.rows", aside, cluster.READER) == [["4"]]
    (listed,) = kept_aside.every(host.app)
    assert (listed["id"], listed["path"]) == (doing.journal.id, kept["aside"])
    assert listed["bytes"] == row_counts.size(host.server, aside)
    assert kept_aside.space(host.app) == {"count": 1, "bytes": listed["bytes"]}
    with pytest.raises(HostError) as refused:
        kept_aside.forget(host.app, listed["id"], "ann", "laptop")
    assert refused.value.code == LOCKED
    assert not list(host.app.state.glob("load-*"))
    undo(doing)
    assert numbers(host) == [1, 2, 3, 4]
    assert names(host) == {"shop"}


def test_what_the_loaded_data_had_taken_in_since_the_flip_is_kept_when_it_is_undone(host: Host) -> None:
    doing = exchange(work(host, given(host, dumped(host))))
    doing.journal.begin("flip")
    host.sql("INSERT INTO rows VALUES (9)")
    undo(doing)
    assert numbers(host) == [1, 2, 3]
    (undone,) = names(host) - {"shop"}
    assert cluster.query(host.server, "SELECT max(n) FROM public.rows", undone, cluster.READER) == [["9"]]
    doing.journal.set(result={"result": "failed"})
    told = kept_aside.forget(host.app, doing.journal.id, "ann", "laptop")
    assert (told["path"], told["why"]) == (
        f"the database {undone}",
        "what was written before the load of ann was undone",
    )
    assert names(host) == {"shop"}
    assert kept_aside.every(host.app) == []
    assert audit.read(host.app, 1)[0]["verb"] == "backup forget"
    with pytest.raises(HostError, match="no kept data with id"):
        kept_aside.find(host.app, doing.journal.id)


def test_databases_that_are_only_named_like_one_aside_are_not_hostctls_to_forget(host: Host) -> None:
    for name in ("shop_aside_", "shop_aside_old", f"shop_aside_{RELEASE}", "other_aside_20260101T000000000Z-aaaaaa"):
        cluster.administer(host.server, f'CREATE DATABASE "{name}"')
    assert kept_aside.every(host.app) == []
    host.stop()
    assert kept_aside.space(host.app) == {"count": 0, "bytes": 0}
    with pytest.raises(HostError, match="socket"):
        kept_aside.find(host.app, "20260101T000000000Z-aaaaaa")


def test_sessions_that_are_open_do_not_keep_the_databases_from_changing_names(host: Host) -> None:
    doing = work(host, given(host, dumped(host)))
    argv = [host.server.bin / "psql", "-Xq", "-h", host.server.socket, "-U", USER, "-d", "shop"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write(b"\\echo here\nSELECT 1;\n")
        session.stdin.flush()
        session.stdout.readline()
        exchange(doing)
        session.kill()
    assert numbers(host) == [1, 2, 3]


@pytest.mark.parametrize("data", [b"hello", b"PGDMP\x01\x0e\x00\x04\x08\x01\x01", b"SELECT 1;\n"])
def test_what_is_no_dump_is_refused(host: Host, data: bytes) -> None:
    with pytest.raises(HostError, match="pg_restore cannot read the dump") as caught:
        given(host, data)
    assert caught.value.code == USAGE


def test_a_dump_that_cannot_be_restored_leaves_everything_as_it_was(host: Host) -> None:
    cluster.administer(host.server, "CREATE EXTENSION pg_visibility SCHEMA public", "shop")
    data = dumped(host)
    cluster.administer(host.server, "DROP EXTENSION pg_visibility", "shop")
    doing = work(host, given(host, data))
    doing.journal.begin("fetch")
    with pytest.raises(HostError, match=r"pg_restore: .*permission denied to create extension"):
        restore.fetch(doing)
    restore.forget(doing)
    assert names(host) == {"shop"}
    assert numbers(host) == [1, 2, 3]


def test_as_text_it_is_sql_without_what_is_hostctls_own(host: Host) -> None:
    text = dumped(host, sql=True).decode()
    assert "CREATE TABLE public.rows" in text
    assert "homeport" not in text


def test_no_room_is_told_before_anything_is_dumped(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SPARE", 1 << 60)
    with pytest.raises(HostError, match="the disk is full: a copy needs"):
        dumped(host)


def test_a_disk_that_fills_while_a_dump_is_loaded_stops_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "SPARE", 1 << 60)
    monkeypatch.setattr(dumps, "DISK_POLL", 0.0)
    doing = work(host, given(host, dumped(host)))
    doing.journal.begin("fetch")
    with pytest.raises(HostError, match="the disk is full"):
        restore.fetch(doing)
    restore.forget(doing)
    assert names(host) == {"shop"}


# ---------------------------------------------------------------------------------------------- points without a backup


def test_without_a_backup_a_point_is_a_dump_from_which_the_data_comes_back(host: Host) -> None:
    directory = host.app.points / "20260109T000000000Z-aaaaaa"
    directory.mkdir(parents=True)
    found, line = push.take_restore_point(work(host, None, "push"), directory)
    assert "dumped" in line
    point = {"id": directory.name, "at": 1000.0, "release": RELEASE, "for": RELEASE, **found}
    (directory / "point.json").write_text(json.dumps(point))
    host.sql("DELETE FROM rows WHERE n < 3; INSERT INTO rows VALUES (7)")
    data = restore.source(host.app, None, directory.name, RealHost())
    assert restore.gives_up(host.app, data)["tables"] == {"shop": {"rows": [2, 3]}}
    exchange(work(host, data, "rollback"))
    assert numbers(host) == [1, 2, 3]
    assert own.row_changes(host.app, data) == {"shop": {"rows": [3, 3]}}
    (directory / "shop.dump").write_bytes(b"damaged")
    with pytest.raises(HostError, match="its SHA-256 differs from the recorded one"):
        restore.fetch(work(host, data, "rollback"))


def test_a_database_that_is_not_there_needs_no_point(new_host: Callable[..., Host]) -> None:
    assert push.no_point_reason(new_host(backup=False).app) == "none: there is no database yet"


# ---------------------------------------------------------------------------------------------- console


def console(host: Host, text: str, write: bool = False) -> subprocess.CompletedProcess[str]:
    argv: Sequence[str | Path] = [sys.executable, "-c", CONSOLE, host.root, "write" if write else "read"]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)


def test_off_a_terminal_the_console_prints_rows_with_tabs_and_stops_at_the_first_error(host: Host) -> None:
    done = console(host, "SELECT n, n * 2 FROM rows ORDER BY n; SELECT current_user;")
    assert (done.returncode, done.stdout) == (0, f"1\t2\n2\t4\n3\t6\n{USER}\n")
    wrong = console(host, "SELECT nothing; SELECT 1;")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert 'column "nothing" does not exist' in wrong.stderr
    assert "fix: " in wrong.stderr


def test_the_console_writes_only_when_asked_to_and_that_is_noted(host: Host) -> None:
    refused = console(host, "INSERT INTO rows VALUES (5);")
    assert refused.returncode == 1
    assert "read-only transaction" in refused.stderr
    assert not host.app.audit.exists()
    assert console(host, "INSERT INTO rows VALUES (5);", write=True).returncode == 0
    assert numbers(host) == [1, 2, 3, 5]
    assert "writing to shop" in host.app.audit.read_text()


def test_without_a_server_the_console_says_what_is_wrong(host: Host) -> None:
    host.stop()
    done = console(host, "SELECT 1;")
    assert done.returncode == 1
    assert "PostgreSQL does not run" in done.stderr
