"""The archive and the tail on real servers: PostgreSQL, pgBackRest, S3 with TLS. Only systemd is made up."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from objectstore import Store
from pgworld import Host, Writer, numbers, until

from hostctl.backup import epochs, state
from hostctl.common.errors import HostError
from hostctl.postgres.archive import monitor, pgbackrest, replication, timelines, wal_stream
from hostctl.postgres.server import cluster, scratch_server


def troubles(host: Host) -> list[str]:
    return [str(one) for one in host.verb("status")["trouble"]]


def restored(host: Host, at: float | None = None, point: pgbackrest.Point | None = None) -> list[int]:
    """The rows as the bucket gives them back, in a cluster beside."""
    into = host.app.cluster / "drill"
    found = pgbackrest.restore(host.app, into, at, point)
    with scratch_server.recovered(host.app, host, into, found.settings) as (server, _):
        return numbers(host, server)


def rows(host: Host, first: int, last: int) -> float:
    """Commit those rows; returns an instant at which they and no later ones are there."""
    host.sql("CREATE TABLE IF NOT EXISTS rows(n bigint PRIMARY KEY)")
    host.sql(f"INSERT INTO rows SELECT generate_series({first}, {last})")
    (found,) = host.sql("SELECT extract(epoch FROM clock_timestamp())")
    return float(found[0]) + 0.0005


def in_place(host: Host, at: float) -> Path:
    """What a restore in place does to the cluster; returns where the old data is."""
    into, aside = host.app.cluster / "fetched", host.app.cluster / "aside"
    replication.archive_all(host.app, host)  # type: ignore[arg-type]
    found = pgbackrest.restore(host.app, into, at)
    with scratch_server.recovered(host.app, host, into, found.settings, archive=True):
        pass
    swap(host, into, aside, at)
    return aside


def swap(host: Host, data: Path, aside: Path, at: float | None = None) -> None:
    """Stop the server, put other data in its place, and start it."""
    host.systemd.stop(host.app.cluster_unit)
    host.app.cluster_data.rename(aside)
    data.rename(host.app.cluster_data)
    cluster.start(host.app, host)  # type: ignore[arg-type]
    timelines.record_live(host.app, at)


def test_a_host_that_is_lost_under_writes_comes_back_elsewhere_without_a_gap(new_host: Callable[..., Host]) -> None:
    one = new_host()
    assert one.start()["changed"]
    assert not one.start()["changed"]
    assert troubles(one) == []
    assert one.watch()["error"] is None
    writer = Writer(one)
    writer.wait(200)
    one.settled()
    safe = len(writer.acknowledged) - 1
    writer.wait(100)
    one.systemd.power_cut()
    writer.end()

    two = new_host()
    assert two.start()["decision"] == "restore"
    found = numbers(two)
    assert found == list(range(1, len(found) + 1))
    assert len(found) >= safe
    assert troubles(two) == []
    listed = two.verb("list")["epochs"]
    assert [epoch["parent"] for epoch in listed] == [listed[1]["epoch"], None]

    # the first host wakes up: it finds out, goes on into its own epoch, and harms nobody
    assert one.start()["superseded"]["epoch"] == listed[0]["epoch"]
    rows(one, 100_001, 100_002)
    assert "took over" in str(one.watch()["error"])
    assert troubles(one)[0].startswith("writes on this host are archived into an epoch that is not current")
    one.backed_up()
    two.settled()
    assert restored(two) == found

    # a person decides that it counts after all
    assert one.verb("takeover")["parent"] == listed[0]["epoch"]
    assert one.watch()["error"] is None
    assert "took over" in str(two.watch()["error"])
    assert 100_002 in restored(one)


def test_a_new_epoch_without_a_base_backup_yet_is_restored_from_the_one_before_it(
    new_host: Callable[..., Host],
) -> None:
    one = new_host()
    one.start()
    rows(one, 1, 10)
    one.settled()
    one.systemd.power_cut()
    two = new_host()
    two.systemd.deferred = []  # it dies before its first base backup
    two.start()
    assert state.full_required(two.app) is not None
    rows(two, 11, 20)
    two.backed_up()
    at = rows(two, 21, 30)
    rows(two, 31, 31)
    two.settled()
    two.systemd.power_cut()
    three = new_host()
    three.start()
    assert numbers(three) == list(range(1, 32))
    assert restored(three, at) == list(range(1, 31))
    assert state.full_required(three.app) is None


def test_s3_away_loses_nothing_and_is_caught_up_with(host: Host, store: Store) -> None:
    host.start()
    rows(host, 1, 10)
    host.settled()
    store.freeze()
    try:
        rows(host, 11, 20)
        host.sql("SELECT 1")
        until(lambda: (host.tail_says() or {}).get("error"))
        assert (wal_stream.lag(host.app) or 0) > 0
        host.configure(max_lag=1)
        assert any("newest write on S3" in one for one in troubles(host))
        (segment,) = cluster.administer(host.server, "SELECT pg_walfile_name(pg_switch_wal())")
        rows(host, 21, 30)
        assert segment[0] in replication.unarchived(host.app)
    finally:
        store.thaw()
    host.settled()
    assert restored(host) == list(range(1, 31))
    host.backed_up()
    until(lambda: not [key for key in host.objects("/tail/") if segment[0] in key])


def test_log_that_had_to_be_dropped_is_a_gap_that_is_told_and_healed(
    host: Host, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pgbackrest, "PUSH", 2)  # the archiver looks at the mark when it has given up a segment
    host.start()
    before = rows(host, 1, 10)
    host.backed_up()
    host.configure(max_wal=20 << 20)
    store.stop()
    try:
        for number in range(2):
            rows(host, 100 + number, 100 + number)
            cluster.administer(host.server, "SELECT pg_switch_wal()")
        inside = rows(host, 200, 200)
        assert "dropped" in str(host.watch()["error"])
        cluster.administer(host.server, "SELECT pg_switch_wal()")
        until(lambda: not replication.unarchived(host.app))
        assert "log is dropped" in "".join(troubles(host))
        assert host.verb("status")["database"]["backup"]["gaps"][0]["until"] is None
    finally:
        store.start()
    monkeypatch.setattr(monitor, "RETRY", 0.0)
    assert "S3 answers again" in str(host.watch()["error"])
    until(lambda: host.watch()["error"] is None)
    assert state.full_required(host.app) is None
    after = rows(host, 300, 300)
    host.settled()
    (gap,) = host.verb("list")["epochs"][0]["gaps"]
    assert gap["since"] < inside < gap["until"] < after
    with pytest.raises(HostError, match="there is a gap"):
        pgbackrest.restore(host.app, host.app.cluster / "drill", inside)
    assert restored(host, before) == list(range(1, 11))
    assert restored(host) == [*range(1, 11), 100, 101, 200, 300]
    assert troubles(host) == []


def test_an_instant_is_found_on_the_timeline_that_counted_then_also_once_the_host_has_lost_its_notes(
    host: Host, store: Store
) -> None:
    host.start()
    first = rows(host, 1, 10)
    second = rows(host, 11, 20)
    aside = in_place(host, first)  # timeline 2: 1-10
    assert numbers(host) == list(range(1, 11))
    rows(host, 50, 50)
    host.backed_up()
    swap(host, aside, host.app.cluster / "undone")  # and it is undone: timeline 1 again
    assert numbers(host) == list(range(1, 21))
    third = rows(host, 21, 30)
    aside = in_place(host, second)  # timeline 3, though 2 never counted: 1-20
    (found,) = cluster.administer(host.server, "SELECT pg_create_restore_point('here')")
    (epoch, timeline) = (epochs.local(host.app), timelines.live_timeline(host.app))
    assert epoch is not None
    assert timeline == 3
    point = pgbackrest.Point("here", time.time(), epoch.epoch, timeline, found[0])
    last = rows(host, 60, 70)
    host.verb("run")
    rows(host, 71, 71)
    host.settled()
    assert restored(host) == [*range(1, 21), *range(60, 72)]
    assert restored(host, last) == [*range(1, 21), *range(60, 71)]
    assert restored(host, third) == list(range(1, 31))
    assert restored(host, first) == list(range(1, 11))
    assert restored(host, point=point) == list(range(1, 21))
    known, bases = timelines.load(host.app), monitor.known_bases(host.app)
    for name in ("timelines.json", "bases.json"):  # and the host loses what it knew
        (host.app.backup / name).unlink()
    store.freeze()
    try:
        timelines.record_live(host.app)
        assert [span.timeline for span in timelines.load(host.app).spans] == [3]
    finally:
        store.thaw()
    assert host.watch()["error"] is None
    assert timelines.load(host.app) == known
    assert timelines.read_stored(epochs.bucket(host.app), epoch.epoch) == known
    assert monitor.known_bases(host.app) == bases
    assert restored(host, third) == list(range(1, 31))


def test_the_watch_leaves_the_stream_to_whoever_is_at_work_on_it(host: Host) -> None:
    host.start()
    before = host.watch()
    with state.exclusive(host.app):
        assert host.watch() == {"left_to": "another process works on the stream"}
    assert before["error"] is None
    assert host.verb("status")["database"]["backup"]["watch"] == before


def test_with_a_key_nothing_in_the_bucket_can_be_read_without_it(new_host: Callable[..., Host], store: Store) -> None:
    one = new_host(encrypted=True)
    with pytest.raises(HostError, match="encryption key is not on this host"):
        one.start()
    one.keep_keys("a phrase that nobody guesses")
    one.start()
    one.sql("CREATE TABLE told(what text)")
    one.sql("INSERT INTO told VALUES ('ATTACK AT DAWN')")
    one.settled()
    bucket = store.bucket(one.bucket_name)
    tails = [bucket.get(key) for key in one.objects("/tail/")]
    assert tails
    assert all(found is not None and found[0].startswith(wal_stream.MAGIC) for found in tails)
    one.systemd.power_cut()
    argvs = " ".join(host_argv(one))
    assert "a phrase" not in argvs
    two = new_host(encrypted=True)
    two.keep_keys("another phrase")
    with pytest.raises(HostError) as refused:
        two.start()
    assert "phrase" not in repr(refused.value)
    two.keep_keys("a phrase that nobody guesses")
    two.start()
    assert two.sql("SELECT what FROM told") == [["ATTACK AT DAWN"]]


def host_argv(host: Host) -> list[str]:
    return [str(part) for process in host.systemd.processes.values() for part in process.args]  # type: ignore[union-attr]


def test_the_watch_starts_a_server_that_is_dead(host: Host) -> None:
    host.start()
    host.systemd.power_cut()
    assert host.watch()["error"] == "PostgreSQL did not run"
    assert host.watch()["error"] is None
    assert monitor.known_bases(host.app)


def test_a_recovery_goes_to_the_end_of_the_wal_only_if_that_is_before_its_target(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.start()
    middle = rows(host, 1, 10)
    rows(host, 11, 20)
    host.backed_up()
    later = time.time() + 3600
    assert restored(host, middle) == list(range(1, 11))
    assert restored(host, later) == list(range(1, 21))

    # a failure of another kind, before a target that the WAL has: no other data in place of what was asked for
    attempts = fail_first(monkeypatch)
    with pytest.raises(HostError, match="interrupted"):
        restored(host, middle)
    assert len(attempts) == 2
    attempts.clear()
    assert restored(host, later) == list(range(1, 21))


def fail_first(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Let the first start of a temporary server fail; returns the list of starts."""
    attempts: list[object] = []
    real = scratch_server.server

    def server(*args: Any) -> AbstractContextManager[cluster.Server]:
        attempts.append(args)
        if len(attempts) == 1:
            raise HostError("interrupted", reason="XX000")
        return real(*args)

    monkeypatch.setattr(scratch_server, "server", server)
    return attempts
