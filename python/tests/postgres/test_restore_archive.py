"""Data of another instant, from the real archive: exactly what it was, in the place of the live data, and back."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from objectstore import Store
from pgworld import Host, Writer, directory, numbers

from hostctl.backup import state
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App, Layout
from hostctl.host import disk
from hostctl.host.host import Host as RealHost
from hostctl.host.systemd import Unit
from hostctl.journal import journal
from hostctl.journal.engine import Work
from hostctl.postgres import push
from hostctl.postgres.archive import timelines
from hostctl.postgres.database import dumps, inspect
from hostctl.postgres.server import cluster, scratch_server
from hostctl.transitions.steps import restore

sys.path.append(str(Path(__file__).parents[1] / "hostctl"))

from hostworld import KILLER, killed

RELEASE = "20260101T000000Z-abcdef0"


@pytest.fixture(scope="module")
def running(store: Store) -> Iterator[Host]:
    """One host for all tests that leave it as good as it was."""
    made = Host(directory(), store, store.make_bucket("restored"))
    try:
        yield begun(made)
    finally:
        made.systemd.power_cut()
        shutil.rmtree(made.root, ignore_errors=True)


def begun(host: Host) -> Host:
    host.start()
    host.sql("CREATE TABLE rows(n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())")
    return host


@pytest.fixture
def host(running: Host) -> Host:
    """The host with an empty table."""
    running.sql("DROP TABLE rows; DROP TABLE IF EXISTS notes")
    running.sql("CREATE TABLE rows(n bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())")
    return running


def real(host: Host) -> RealHost:
    return host  # type: ignore[return-value]


def insert(host: Host, *rows: int) -> None:
    host.sql(f"INSERT INTO rows VALUES {', '.join(f'({row})' for row in rows)}")


def rest() -> float:
    """The next whole second that nothing is written in, a second after everything before it."""
    time.sleep(2.1 - time.time() % 1)
    at = float(int(time.time()))
    time.sleep(1.0)
    return at


def source(host: Host, at: float | None = None, point: str | None = None) -> Json:
    return restore.source(host.app, at, point, real(host))


def work(host: Host, data: Json | None, verb: str = "restore") -> Work:
    """A transition that has come to its steps."""
    name = f"2026010{len(journal.ids(host.app)) + 1}T000000000Z-aaaaaa"
    entry = journal.create(host.app, name, verb, RELEASE, "ann", "", settings={}, data=data)
    return Work(host.app, entry, real(host))


def exchange(host: Host, data: Json) -> Work:
    doing = work(host, data)
    for name, step in (("fetch", restore.fetch), ("data", restore.replace)):
        doing.journal.begin(name)
        step(doing)
    return doing


def undo(doing: Work) -> None:
    for step in (restore.put_back, restore.forget):
        step(doing)
        step(doing)  # as after a crash in the middle of it


def spans(host: Host) -> list[int]:
    """The timelines that counted, as the host knows them."""
    return [span.timeline for span in timelines.load(host.app).spans]


# ---------------------------------------------------------------------------------------------- another instant


def test_restored_to_a_second_the_rows_are_exactly_those_of_it_also_of_before_and_after_another_restore(
    host: Host,
) -> None:
    before = spans(host)
    insert(host, 1, 2, 3)
    first = rest()
    insert(host, 4, 5)
    second = rest()
    insert(host, 6)
    doing = exchange(host, source(host, first))
    assert numbers(host) == [1, 2, 3]
    kept = doing.journal.content["kept"]
    assert kept["tables"] == {"shop": {"rows": [6, 3]}}
    assert kept["seconds"] > time.time() - first - 60
    assert Path(kept["aside"], "PG_VERSION").exists()
    assert not (host.app.cluster / "fetched").exists()
    assert state.paused(host.app) is None

    insert(host, 10)
    third = rest()
    insert(host, 11)
    exchange(host, source(host, third))
    assert numbers(host) == [1, 2, 3, 10]
    exchange(host, source(host, second))
    assert numbers(host) == [1, 2, 3, 4, 5]
    assert len(spans(host)) == len(before) + 3
    insert(host, 12)
    host.settled()


def test_undone_the_old_data_is_back_whole_and_what_was_undone_is_in_nobodys_way(host: Host) -> None:
    insert(host, 1, 2, 3)
    first = rest()
    insert(host, 4)
    before = spans(host)
    doing = exchange(host, source(host, first))
    undo(doing)
    assert numbers(host) == [1, 2, 3, 4]
    assert spans(host) == before
    assert not (host.app.cluster / "aside" / doing.journal.id).exists()
    insert(host, 5)
    second = rest()
    insert(host, 6)
    doing = exchange(host, source(host, second))
    assert numbers(host) == [1, 2, 3, 4, 5]
    doing.journal.begin("flip")
    insert(host, 7)
    undo(doing)
    assert numbers(host) == [1, 2, 3, 4, 5, 6]
    undone = host.app.cluster / "undone"
    (host.app.cluster / "aside" / doing.journal.id / "new").rename(undone)
    with scratch_server.server(host.app, real(host), undone) as server:
        assert numbers(host, server) == [1, 2, 3, 4, 5, 7]
    shutil.rmtree(undone)


def test_of_a_database_that_is_always_written_to_no_row_before_the_instant_is_missing_and_none_after_it_is_there(
    host: Host,
) -> None:
    writer = Writer(host)
    try:
        writer.wait(300)
        at = time.time()
        writer.wait(300)
        into = host.app.cluster / "scratch"
        restore.of(host.app).restore_into(host.app, source(host, at), into, real(host))
    finally:
        writer.end()
    with scratch_server.server(host.app, real(host), into) as server:
        found = numbers(host, server)
    shutil.rmtree(into)
    assert found == list(range(1, len(found) + 1))
    before = [number for number, acknowledged in writer.acknowledged if acknowledged < at]
    # the row that was being committed then is on either side
    assert before[-1] <= found[-1] <= before[-1] + 2


def test_a_restore_point_gives_back_what_pg_dump_sees_byte_by_byte_after_a_destructive_migration(host: Host) -> None:
    host.sql("INSERT INTO rows SELECT n FROM generate_series(1, 2000) AS n; CREATE INDEX by_time ON rows(at)")
    host.sql(
        "CREATE TABLE notes(id bigint GENERATED ALWAYS AS IDENTITY, body text); INSERT INTO notes(body) VALUES ('a')"
    )
    before = dump(host, "before")
    pushed = work(host, None, "push")
    directory = host.app.points / pushed.journal.id
    directory.mkdir(parents=True)
    found, line = push.take_restore_point(pushed, directory)
    assert "2001 rows" in line
    point = {"id": pushed.journal.id, "at": time.time(), "release": RELEASE, "for": RELEASE, **found}
    (directory / "point.json").write_text(json.dumps(point))
    host.sql("DELETE FROM rows WHERE n % 2 = 0; ALTER TABLE rows ADD COLUMN note text DEFAULT 'x'; DROP INDEX by_time")
    data = source(host, point=pushed.journal.id)
    assert restore.gives_up(host.app, data)["tables"] == {"shop": {"notes": [1, 1], "rows": [1000, 2000]}}
    exchange(host, data)
    assert dump(host, "after") == before


def test_what_was_acknowledged_when_a_restore_point_was_taken_is_in_it(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    acknowledged: list[float] = []
    query = cluster.query

    def answered_late(*args: Any, **options: Any) -> list[list[str]]:
        """A row is written after the point, and before the answer is here."""
        answer = query(*args, **options)
        acknowledged.append(time.time())
        return answer

    monkeypatch.setattr(cluster, "query", answered_late)
    pushed = work(host, None, "push")
    found, _ = push.take_restore_point(pushed, host.app.points / pushed.journal.id)
    assert acknowledged[-2] - 1 < found["at"] < acknowledged[-1]


def dump(host: Host, name: str) -> bytes:
    """What pg_dump writes, but for the word that guards its text, which is another one each time, and where a sequence
    stands: after any recovery up to 32 numbers later, which PostgreSQL writes to its log ahead.
    """
    lines = dumps.dump(host.server, "shop", host.root / name, sql=True).read_bytes().splitlines()
    return b"\n".join(line for line in lines if b"restrict" not in line and b"setval" not in line)


# ---------------------------------------------------------------------------------------------- beside


def test_tried_or_taken_away_the_live_data_is_left_alone_and_nothing_stays(host: Host) -> None:
    insert(host, 1, 2)
    at = rest()
    insert(host, 3)
    told = restore.rehearse(host.app, source(host, at), real(host))
    assert told["databases"]["shop"]["tables"] == {"rows": 2}
    assert told["gives_up"]["tables"] == {"shop": {"rows": [3, 2]}}
    out = io.BytesIO()
    restore.send(host.app, source(host, at), None, real(host), out)
    head, _, body = out.getvalue().partition(b"\n")
    assert (json.loads(head)["name"], json.loads(head)["bytes"]) == ("shop.dump", len(body))
    (host.root / "then.dump").write_bytes(body)
    shown = [host.server.bin / "pg_restore", "-f", "-", "-t", "rows", "-a", host.root / "then.dump"]
    text = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert [line.split("\t")[0] for line in text.splitlines() if "\t" in line] == ["1", "2"]
    assert numbers(host) == [1, 2, 3]
    assert not {path.name for path in host.app.cluster.iterdir()} & {"fetched", "scratch"}


def test_a_server_that_is_dead_is_restored_as_far_as_its_log_had_arrived(new_host: Callable[..., Host]) -> None:
    host = begun(new_host())
    insert(host, 1, 2, 3)
    host.settled()
    host.systemd.power_cut()
    shutil.rmtree(host.app.cluster_data / "base")
    doing = exchange(host, source(host, time.time()))
    assert numbers(host) == [1, 2, 3]
    assert any(
        "the WAL ends before" in line for line in (doing.journal.directory / "events.jsonl").read_text().splitlines()
    )


def test_what_cannot_be_had_is_refused_with_the_reason(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match="outside what can be restored") as caught:
        source(host, time.time() - 3600)
    assert caught.value.code == USAGE
    with pytest.raises(HostError, match="there is no restore point"):
        source(host, point="20260101T000000000Z-aaaaaa")
    monkeypatch.setattr(disk, "space", lambda _: {"free": 0, "total": 1, "inodes": 1, "inodes_free": 1})
    doing = work(host, source(host))
    with pytest.raises(HostError, match="the disk is full"):
        restore.fetch(doing)
    restore.forget(doing)
    assert not (host.app.cluster / "fetched").exists()


def test_a_hole_in_hostctls_rows_stops_a_restore(host: Host) -> None:
    _, middle, _ = (inspect.write_canary(host.server, cluster.require(host.app)) for _ in range(3))
    bound = {"n": str(middle)}
    cluster.administer(host.server, "DELETE FROM homeport.canary WHERE n = :'n'", "shop", bound=bound)
    doing = work(host, source(host))
    with pytest.raises(HostError, match="has gaps: 1 of hostctl's numbered rows are missing"):
        restore.fetch(doing)
    restore.forget(doing)
    cluster.administer(host.server, "INSERT INTO homeport.canary VALUES (:'n', now())", "shop", bound=bound)


def test_what_postgresql_says_is_told_with_what_it_means(tmp_path: Path) -> None:
    log = "00000 LOG:  starting\nXX000 FATAL:  recovery ended before configured recovery target was reached\n"
    error = scratch_server.server_error(log, tmp_path)
    assert "the archive ends before the requested instant" in error.what
    assert "FATAL:  recovery ended" in error.what
    assert "LOG" not in error.what
    assert "deploy backup list" in error.fix
    assert error.reason == "XX000"
    assert "XX000" not in error.what

    full = scratch_server.server_error("53100 PANIC:  could not write to file\n00000 LOG:  shut down\n", tmp_path)
    assert "the disk is full" in full.what


# ---------------------------------------------------------------------------------------------- kill -9


class Still:
    """A host whose server is only said to run."""

    def __init__(self) -> None:
        self.systemd = self
        self.runs = True

    def show(self, *_: str) -> list[Unit]:
        return [Unit({})]

    def start(self, _: object, __: object = None) -> None:
        KILLER.act()
        self.runs = True

    def stop(self, _: object, __: object = None) -> None:
        KILLER.act()
        self.runs = False


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[App, Still]]:
    """An app with data, and other data beside it as if it had been fetched."""
    app, host = Layout(tmp_path).app("shop"), Still()
    monkeypatch.setattr(cluster, "start", host.start)
    monkeypatch.setattr(cluster, "stop", host.stop)
    monkeypatch.setattr(cluster, "accepts_sessions", lambda _: False)
    # the directories of a test are root's alone
    monkeypatch.setattr(cluster, "as_owner", lambda work, _=None: work())
    app.database.parent.mkdir(parents=True)
    app.database.write_text(json.dumps({"engine": "postgres", "user": "u", "name": "n", "pool": 1, "lock_timeout": 1}))
    lay(app.cluster_data, "old")
    yield app, host
    KILLER.disarm()


def lay(data: Path, content: str) -> None:
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text(f"{cluster.installed_majors()[-1]}\n")
    (data / "content").write_text(content)


def content(app: App) -> str:
    return (app.cluster_data / "content").read_text()


@pytest.mark.parametrize("again", [0, 3, 6, 9, 12])
def test_killed_at_any_act_of_the_exchange_and_of_its_undo_the_old_data_serves_again(
    still: tuple[App, Still], again: int
) -> None:
    app, host = still
    after, done = 0, False
    while not done:
        lay(app.cluster / "fetched", "new")
        entry = journal.create(
            app, f"20260101T{after:09}Z-aaaaaa", "restore", RELEASE, "ann", "", settings={}, data=DATA
        )
        doing = Work(app, entry, host)  # type: ignore[arg-type]
        for step in ("fetch", "data"):
            doing.journal.begin(step)
        doing.journal.set(names=["n"], tables={})
        done = not killed(app.layout.root, after, partial(restore.replace, doing))
        assert not done or content(app) == "new"
        killed(app.layout.root, again, partial(restore.put_back, doing))
        undo(doing)
        assert content(app) == "old"
        assert host.runs
        assert {path.name for path in app.cluster.iterdir()} - {"aside"} == {"bin", "data"}
        assert not list((app.cluster / "aside").glob("*"))
        assert state.paused(app) is None
        after += 1
    assert after > 10


DATA: Json = {"point": None, "at": 1000.0, "newest": 1000.0}
