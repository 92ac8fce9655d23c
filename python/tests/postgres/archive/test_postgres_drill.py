"""The drill with the real pgBackRest and a real bucket: a good backup passes, and no damage does."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from objectstore import Store, die_with_parent
from pgworld import Host, Writer

from hostctl.backup import drill as drills
from hostctl.backup import epochs, state
from hostctl.common.errors import FAILED, HostError
from hostctl.common.files import Json, read_lines
from hostctl.core.paths import App
from hostctl.host.host import Host as RealHost
from hostctl.postgres.archive import drill, pgbackrest, replication
from hostctl.postgres.server import cluster

HANGS = "SELECT pg_sleep(600) IS NOT NULL"
DRILL = """
import signal
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import pgworld
from hostctl.core.paths import Layout
from hostctl.host.host import Host
from hostctl.host.systemd import Systemd, Unit
from hostctl.postgres.archive import drill
# systemd is not asked: a server is a process of this one
servers = []
Systemd.text = lambda *_: "[Service]\\nUser=postgres\\nGroup=postgres\\n"
Systemd.attach = lambda self, unit, *rest: servers.append(pgworld.attach(Path(sys.argv[1]), *rest)) or servers[-1]
Systemd.kill = lambda self, unit, name: servers[-1].send_signal(getattr(signal, name))
Systemd.show = lambda self, *units: [Unit({}) for _ in units]
Systemd.own_unit = lambda self: ""
def stop(self, unit):
    servers[-1].send_signal(signal.SIGINT)
    servers[-1].wait()
Systemd.stop = stop
drill.run(Layout(Path(sys.argv[1])).app("shop"), Host())
"""


@pytest.fixture(scope="module")
def world(store: Store, template: Path) -> Iterator[Host]:
    """An app with two base backups, and some segments of WAL after each. Damage is made good again by each test."""
    root = Path(tempfile.mkdtemp(prefix="postgres-drill-"))
    host = Host(root, store, store.make_bucket("drilled"))
    try:
        host.start()
        host.sql("CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")
        host.sql("CREATE INDEX by_body ON entries (body)")
        grow(host)
        host.verb("run")
        grow(host)
        yield host
    finally:
        host.systemd.power_cut()
        shutil.rmtree(root, ignore_errors=True)


def grow(host: Host) -> None:
    """Numbered rows and the app's, in segments of their own."""
    for _ in range(3):
        drill.write_canary(host.server, cluster.require(host.app))
        host.sql("INSERT INTO entries (body) SELECT md5(n::text) FROM generate_series(1, 500) AS n")
        host.backed_up()


def run(host: Host) -> Json:
    return drill.run(host.app, host)  # type: ignore[arg-type]


def failed(host: Host) -> Json:
    """A drill that must fail; what it wrote down."""
    with pytest.raises(HostError) as failure:
        run(host)
    told = drills.last_result(host.app)
    assert told is not None, failure.value.what
    assert failure.value.code == FAILED
    assert not told["ok"]
    assert not drill.scratch_directory(host.app).exists()
    return told


def keys(host: Host, below: str) -> list[str]:
    mine = epochs.local(host.app)
    assert mine is not None
    return [key for key in host.objects(below) if mine.epoch in key]


@contextlib.contextmanager
def damaged(host: Host, key: str, change: Callable[[bytes], bytes | None]) -> Iterator[None]:
    """An object is another one, or gone, as long as this lasts."""
    bucket = host.store.bucket(host.bucket_name)
    found = bucket.get(key)
    assert found is not None
    new = change(found[0])
    bucket.delete(key) if new is None else bucket.put(key, new)
    try:
        yield
    finally:
        bucket.put(key, found[0])


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


def gone(_: bytes) -> None:
    return None


def test_a_good_backup_passes_and_is_measured_and_nothing_is_left_of_the_copy(world: Host) -> None:
    told = run(world)
    assert (told["ok"], told["found"]) == (True, [])
    assert told["rows"] >= 3000
    assert told["bytes"] > 1 << 20
    assert told["seconds"] > 0
    assert told["last_good"]["at"] == told["at"]
    assert told["at"] < told["up_to"] < told["at"] + 60
    assert read_lines(world.app.backup / "drills.jsonl")[-1]["ok"]
    assert not drill.scratch_directory(world.app).exists()
    assert drills.progress(world.app) == ""


def test_a_backup_passes_while_the_app_writes(world: Host) -> None:
    writer = Writer(world)
    try:
        writer.wait(100)
        assert run(world)["found"] == []
        writer.wait(10)
    finally:
        writer.end()


def newest_base(host: Host) -> str:
    """The key of the largest object of the newest base backup."""
    label = pgbackrest.bases(host.app, str(epochs.local(host.app).epoch))[-1].label  # type: ignore[union-attr]
    bucket = host.store.bucket(host.bucket_name)
    found = [one for one in bucket.list("shop/") if f"/{label}/" in one.key and "/bundle/" in one.key]
    return max(found, key=lambda one: one.size).key


@pytest.mark.parametrize("change", [flipped, gone])
def test_a_base_backup_that_is_damaged_is_loud_and_what_can_be_restored_without_it_is_offered(
    world: Host, change: Callable[[bytes], bytes | None]
) -> None:
    good = run(world)
    newest = pgbackrest.bases(world.app, good["epoch"])[-1]
    with damaged(world, newest_base(world), change):
        told = failed(world)
    (offered,) = told["restorable"].values()
    assert told["damaged"]
    assert told["last_good"]["at"] == good["at"]
    assert newest.ended - 60 < offered < newest.ended
    assert time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(offered)) in told["offer"]
    owed = state.full_required(world.app)
    assert owed is not None
    assert "a drill" in owed["why"]


def last_segments(host: Host) -> list[str]:
    """The keys of the segments after the newest base backup, oldest first."""
    newest = pgbackrest.bases(host.app, str(epochs.local(host.app).epoch))[-1]  # type: ignore[union-attr]
    first = f"{newest.stop >> 24:X}"
    found = [key for key in keys(host, "/archive/") if key.endswith((".zst", ".gz")) or "-" in key.rpartition("/")[2]]
    segments = sorted(key for key in found if len(key.rpartition("/")[2].partition("-")[0]) == 24)
    return [key for key in segments if int(key.rpartition("/")[2][16:24], 16) > int(first, 16)]


def test_a_segment_of_wal_that_is_missing_is_loud_and_offered_is_the_time_up_to_it(world: Host) -> None:
    grow(world)
    with damaged(world, last_segments(world)[-2], gone):
        told = failed(world)
    assert any("the numbered rows end at" in what for what in told["found"])
    (offered,) = told["restorable"].values()
    assert told["at"] - 120 < offered < told["at"]


def test_the_end_of_the_wal_is_proven_too(world: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbered row that the drill writes is not in the archive yet: only the tail has it."""
    world.write_settings(archive_timeout="1h")
    cluster.administer(world.server, "SELECT pg_reload_conf()")
    arrived, bucket = replication.wait_until_stored, world.store.bucket(world.bucket_name)

    def lost(app: App, patience: float, host: RealHost) -> None:
        arrived(app, patience, host)
        world.systemd.stop(app.tail_unit)
        for key in keys(world, "/tail/"):
            bucket.delete(key)

    monkeypatch.setattr(replication, "wait_until_stored", lost)
    told = failed(world)
    monkeypatch.undo()
    world.systemd.start(world.app.tail_unit)
    assert any("the numbered rows end at" in what for what in told["found"])
    assert run(world)["ok"]


def test_an_index_that_lacks_a_row_is_found_though_it_was_copied_as_it_was(world: Host) -> None:
    flag = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'public.by_body'::regclass"
    cluster.administer(world.server, flag.format("false"), "shop")
    world.sql("INSERT INTO entries (body) VALUES ('not in the index')")
    cluster.administer(world.server, flag.format("true"), "shop")
    told = failed(world)
    assert any("pg_amcheck finds the copy damaged" in what and "by_body" in what for what in told["found"])
    world.sql("REINDEX INDEX by_body")
    assert run(world)["ok"]


def test_a_check_of_the_apps_own_that_does_not_hold_fails_the_drill(world: Host) -> None:
    world.configure(verify=["SELECT count(*) > 10 FROM entries", "SELECT count(*) > 1000000 FROM entries"])
    try:
        told = failed(world)
    finally:
        world.configure()
    assert told["found"] == ["shop: backup.verify: not true but 'f': SELECT count(*) > 1000000 FROM entries"]


def runs(pid: int) -> bool:
    """Whether a process is alive; one whose parent was killed may stay a zombie for a while."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_drill_that_is_ended_leaves_no_server_and_its_copy_is_removed(world: Host, how: signal.Signals) -> None:
    world.configure(verify=[HANGS])
    place, deadline = drill.scratch_directory(world.app), time.monotonic() + 120
    process = subprocess.Popen([sys.executable, "-c", DRILL, str(world.root), *sys.path], preexec_fn=die_with_parent)
    try:
        while drills.progress(world.app) != "comparing":
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        beside = cluster.postmaster_pid(cluster.Server(Path(), place, Path()))
        assert beside is not None
        assert drill.remove_leftovers(world.app, world) is False
    finally:
        process.send_signal(how)
        process.wait(60)
        world.configure()
    assert drill.remove_leftovers(world.app, world) is (how == signal.SIGKILL)
    assert not place.exists()
    while runs(beside):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_page_that_is_not_what_was_written_is_found(world: Host) -> None:
    (file,) = cluster.query(world.server, "SELECT pg_relation_filepath('public.entries')", "shop")[0]
    world.stop()
    path = world.app.cluster_data / file
    before = path.read_bytes()
    with path.open("rb+") as page:
        page.seek(8192 - 40)
        page.write(bytes([before[8192 - 40] ^ 0xFF]))
    world.start()
    assert any("invalid page" in what for what in failed(world)["found"])
    world.stop()
    path.write_bytes(before)
    world.start()
    assert run(world)["ok"]
