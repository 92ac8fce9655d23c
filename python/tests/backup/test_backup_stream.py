"""The stream on the real Litestream and a real S3 server: nothing that was committed is missing in what is restored."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from objectstore import Store
from world import Host, Writer, application, rows, sound

from hostctl.backup import epochs as backup_epochs
from hostctl.backup import s3, state
from hostctl.common.errors import PERSON, HostError
from hostctl.common.files import read_json
from hostctl.sqlite.database import file_swap, files
from hostctl.sqlite.stream import lag, litestream, replication


def epoch(host: Host) -> str:
    mine = backup_epochs.local(host.app)
    assert mine is not None
    return mine.epoch


def chain(host: Host) -> list[str]:
    return [one.epoch for one in backup_epochs.chain(backup_epochs.bucket(host.app))]


def whole(host: Host, last: int) -> None:
    """What S3 gives back is exactly what is here, up to at least that row, without a gap."""
    host.catch_up()
    copy = host.restored(epoch(host))
    assert rows(copy) == rows(host.path) == list(range(1, rows(copy)[-1] + 1))
    assert rows(copy)[-1] >= last
    assert sound(copy)


@contextmanager
def writing(host: Host, checkpoint: int = 0) -> Iterator[Writer]:
    writer = Writer(host.path, checkpoint)
    try:
        yield writer
    finally:
        writer.stop()


@contextmanager
def away(store: Store) -> Iterator[None]:
    """Nobody answers at S3's address."""
    store.stop()
    try:
        yield
    finally:
        store.start()


def eventually(host: Host, good: Callable[[], object]) -> None:
    """Wait for what another process does by itself."""
    deadline = time.monotonic() + 90
    while not good():
        assert time.monotonic() < deadline, host.log()[-3000:]
        time.sleep(0.05)


# ------------------------------------------------------------------------------- first starts


def test_a_new_app_gets_an_empty_database_and_the_first_epoch(host: Host) -> None:
    assert host.start() == {"changed": True}
    assert chain(host) == [epoch(host)]
    assert files.read_contents(host.path).tables == {files.CANARY: 0}
    assert host.start() == {"changed": False}


def test_a_database_that_is_there_already_opens_the_first_epoch(host: Host) -> None:
    with application(host.path) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.execute("CREATE TABLE rows(n INTEGER PRIMARY KEY)")
        app.execute("INSERT INTO rows VALUES (1)")
        host.start()
        whole(host, 1)


def test_without_a_backup_the_database_is_made_and_nothing_is_streamed(host: Host) -> None:
    host.configure(backup=None)
    assert host.start() == {"changed": True}
    assert host.start() == {"changed": False}
    assert host.path.exists()
    assert host.systemd.calls == []


def test_when_s3_cannot_be_asked_no_empty_database_is_made(host: Host) -> None:
    host.configure(endpoint="http://127.0.0.1:9")
    with pytest.raises(HostError, match="S3 cannot be asked which backup counts") as caught:
        host.start()
    assert "--allow-empty" in caught.value.fix
    assert not host.path.exists()
    assert backup_epochs.local(host.app) is None


def test_by_a_persons_word_an_empty_database_is_made_and_published_when_s3_is_back(host: Host, store: Store) -> None:
    with away(store):
        host.start(allow_empty=True)
        assert host.path.exists()
        told = host.watch()
        assert told["error"]
    eventually(host, lambda: host.watch()["error"] is None)
    assert chain(host) == [epoch(host)]


def test_a_persons_word_is_good_for_one_start(host: Host, store: Store) -> None:
    with away(store):
        host.start(allow_empty=True)
        host.stop()
        host.path.unlink()
        backup_epochs.delete_local(host.app)
        with pytest.raises(HostError, match="S3 cannot be asked"):
            host.start()


def test_a_prefix_whose_current_is_gone_needs_a_person(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    one.start()
    backup_epochs.bucket(one.app).delete("shop/CURRENT")
    with pytest.raises(HostError, match="no object CURRENT that says which one is current") as caught:
        two.start()
    assert caught.value.code == PERSON
    assert not two.path.exists()


def test_wrong_keys_fail_the_start_by_name(host: Host, store: Store) -> None:
    text = host.app.backup_credentials.read_text()
    host.app.backup_credentials.write_text(text.replace(store.secret, "wrong"))
    with pytest.raises(HostError, match="secret access key is wrong"):
        host.start()
    host.app.backup_credentials.write_text(text)
    assert host.start() == {"changed": True}


# ------------------------------------------------------------------------------- restarts


def test_restarted_again_and_again_under_writes_it_misses_nothing(host: Host) -> None:
    host.start()
    with writing(host) as writer:
        for _ in range(6):
            writer.reach(100)
            host.restart()
        last = writer.reach(100)
    whole(host, last)
    assert state.full_required(host.app) is None


def test_an_app_that_checkpoints_by_itself_is_kept_from_it_over_planned_restarts(new_host: Callable[..., Host]) -> None:
    host = new_host(unsafe=True)
    host.start()
    with writing(host, checkpoint=1000) as writer:
        for _ in range(4):
            writer.reach(300)
            host.restart()
        last = writer.reach(300)
    whole(host, last)


def test_a_configuration_that_changed_restarts_it_with_care_and_nothing_else_does(host: Host) -> None:
    host.start()
    process = host.systemd.process
    assert host.start() == {"changed": False}
    assert host.systemd.process is process
    host.configure(interval=0.1)
    assert host.start() == {"changed": True}
    assert host.systemd.process is not process
    assert "sync-interval=100ms" in host.log()
    assert host.start() == {"changed": False}


def test_a_restart_without_s3_streams_again_and_owes_its_snapshot(host: Host, store: Store) -> None:
    host.start()
    with writing(host) as writer:
        writer.reach(50)
        with away(store):
            with pytest.raises(HostError):
                host.restart("an upgrade")
            assert state.full_required(host.app)["why"] == "an upgrade"  # type: ignore[index]
            assert host.systemd.show(host.app.stream_unit)[0].runs
            writer.reach(50)
        last = writer.reach(50)
        eventually(host, lambda: host.watch()["error"] is None)
    assert state.full_required(host.app) is None
    whole(host, last)


def test_what_is_in_this_programs_environment_does_not_reach_litestream(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    host.start()
    host.restart()
    assert host.watch()["error"] is None


# ------------------------------------------------------------------------------- unclean ends


def test_killed_it_owes_a_snapshot_which_the_watch_pays(host: Host) -> None:
    host.start()
    with writing(host) as writer:
        for _ in range(3):
            writer.reach(100)
            host.systemd.kill()
            assert "without being stopped" in state.full_required(host.app)["why"]  # type: ignore[index]
            host.systemd.start(host.app.stream_unit)
            writer.reach(20)
            assert host.watch()["error"] is None
            assert state.full_required(host.app) is None
        last = writer.reach(50)
    # each in an epoch of its own: into the old one a compaction could bring a hole back
    assert len(chain(host)) == 4
    whole(host, last)


def test_after_a_power_cut_nothing_is_missing_and_a_snapshot_is_owed(host: Host) -> None:
    host.start()
    for _ in range(3):
        with writing(host) as writer:
            last = writer.reach(100)
            host.systemd.power_cut()
        host.start()
        assert state.full_required(host.app) is not None
    with application(host.path):
        assert host.watch()["error"] is None
        whole(host, last)


def test_a_clean_stop_owes_nothing(host: Host) -> None:
    host.start()
    host.stop()
    host.start()
    assert state.full_required(host.app) is None


def test_a_stream_that_does_not_run_is_started_by_the_watch(host: Host) -> None:
    host.start()
    host.systemd.power_cut()
    assert host.watch()["error"] == "Litestream did not run"
    assert host.watch()["error"] is None
    assert state.full_required(host.app) is None


# ------------------------------------------------------------------------------- pause


def test_paused_everything_is_on_s3_and_nothing_starts_it(host: Host) -> None:
    host.start()
    with writing(host) as writer:
        last = writer.reach(100)
        writer.stop()
        replication.pause(host.app, host)  # type: ignore[arg-type]
        replication.pause(host.app, host)  # type: ignore[arg-type]
    copy = host.restored(epoch(host))
    assert rows(copy) == rows(host.path)
    assert rows(copy)[-1] >= last
    with pytest.raises(HostError, match="hostctl works on the database"):
        replication.condition(host.app)
    assert host.start()["changed"] is False
    assert host.watch() == {"paused": True}
    replication.resume(host.app, host, snapshot=True)  # type: ignore[arg-type]
    host.start()
    assert state.full_required(host.app) is None
    whole(host, last)


def test_a_pause_says_when_s3_has_not_got_everything(host: Host, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litestream, "LAST_SYNC", 1.0)
    host.start()
    with writing(host) as writer:
        writer.reach(50)
        store.stop()
        try:
            last = writer.reach(200)
            writer.stop()
            with pytest.raises(HostError):
                replication.pause(host.app, host)  # type: ignore[arg-type]
            replication.pause(host.app, host, verify=False)  # type: ignore[arg-type]
        finally:
            store.start()
    replication.pause(host.app, host)  # type: ignore[arg-type]
    assert rows(host.restored(epoch(host)))[-1] >= last


def test_a_pause_that_a_crash_left_is_ended_by_the_watch(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.start()
    replication.pause(host.app, host)  # type: ignore[arg-type]
    monkeypatch.setattr("hostctl.sqlite.stream.monitor.FORGOTTEN", -1.0)
    assert host.watch()["error"] == "the stream was left paused"
    assert host.watch()["error"] is None


# ------------------------------------------------------------------------------- restoring by itself


def test_a_new_host_restores_all_and_goes_on_in_an_epoch_of_its_own(new_host: Callable[..., Host]) -> None:
    one = new_host(extra=("jobs.db",))
    with application(one.app.data / "jobs.db") as jobs:
        jobs.execute("PRAGMA journal_mode=WAL")
        jobs.execute("CREATE TABLE rows(n INTEGER PRIMARY KEY)")
        jobs.execute("INSERT INTO rows VALUES (7)")
        one.start()
        with writing(one) as writer:
            writer.reach(100)
        one.catch_up("jobs.db")
        one.catch_up()
        one.stop()
    two = new_host(extra=("jobs.db",))
    two.app.tree("20260101T000000Z-0000000").mkdir(parents=True)
    two.app.live_link.symlink_to("releases/20260101T000000Z-0000000")
    two.start()
    assert rows(two.path) == rows(one.path)
    assert rows(two.app.data / "jobs.db") == [7]
    assert chain(two) == [epoch(two), epoch(one)]
    assert two.app.unit("20260101T000000Z-0000000") in two.systemd.running
    assert two.path.stat().st_mode & 0o777 == 0o600
    with writing(two) as writer:
        last = writer.reach(50)
    whole(two, last)


def test_a_file_that_vanished_comes_back_and_the_log_of_the_old_one_is_kept_aside(host: Host) -> None:
    host.start()
    first = epoch(host)
    with writing(host) as writer:
        last = writer.reach(100)
        writer.stop()
        host.catch_up()
    host.stop()
    before, left = rows(host.path), Path(f"{host.path}-wal")
    left.write_bytes(b"the log of another file")
    host.path.unlink()
    host.start()
    assert rows(host.path) == before
    assert rows(host.path)[-1] >= last
    assert chain(host) == [epoch(host), first]
    assert [p.read_bytes() for p in host.app.aside.glob("*/shop.db-wal")] == [b"the log of another file"]


def test_killed_while_it_restores_it_begins_anew(
    new_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = new_host(), new_host()
    one.start()
    with writing(one) as writer:
        writer.reach(50)
        writer.stop()
        one.catch_up()
    one.stop()
    for point in (
        "hostctl.backup.epochs.new_local",
        "hostctl.sqlite.database.files.place",
        "hostctl.backup.epochs.publish",
        "hostctl.backup.state.started",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(point, _dies)
            with pytest.raises(KeyboardInterrupt):
                two.systemd.start(two.app.stream_unit)
    two.start()
    assert rows(two.path) == rows(one.path)
    assert chain(two) == [epoch(two), epoch(one)]


def _dies(*_: object, **__: object) -> None:
    raise KeyboardInterrupt  # nothing handles it, as nothing handles kill -9


def test_an_epoch_that_died_before_its_first_write_is_no_hole(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    one.start()
    with writing(one) as writer:
        writer.reach(50)
        writer.stop()
        one.catch_up()
    one.stop()
    backup_epochs.open_epoch(one.app, backup_epochs.local(one.app), "opened, and dead at once")
    two.start()
    assert rows(two.path) == rows(one.path)
    assert len(chain(two)) == 3


# ------------------------------------------------------------------------------- two hosts


def test_a_database_beside_anothers_backup_is_never_streamed_before_a_takeover(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    one.start()
    with writing(two) as writer:
        last = writer.reach(20)
        with pytest.raises(HostError, match="the backup is another's") as caught:
            two.start()
        assert (caught.value.code, "takeover" in caught.value.fix) == (PERSON, True)
        with pytest.raises(HostError, match="nothing is streamed"):
            replication.condition(two.app)
        assert chain(two) == [epoch(one)]
        backup_epochs.takeover(two.app)
        two.start()
    whole(two, last)
    assert chain(two) == [epoch(two), epoch(one)]


def test_the_host_that_was_taken_over_stops_and_nothing_it_wrote_harms_the_winner(
    new_host: Callable[..., Host],
) -> None:
    one, two = new_host(), new_host()
    one.start()
    with writing(one) as zombie:
        zombie.reach(50)
        one.catch_up()
        two.start()
        with writing(two) as writer:
            assert writer.reach(50) >= zombie.reach(50) - 1000
            told = one.watch()
            assert told["error"].split(" took over")[0] == os.uname().nodename
            assert not one.systemd.show(one.app.stream_unit)[0].runs
            with pytest.raises(HostError, match="took over"):
                replication.condition(one.app)
            assert "superseded" in one.start()
            assert one.watch()["error"]
            zombie.reach(20)
            assert two.watch()["error"] is None
            last = writer.reach(50)
    whole(two, last)
    third = new_host()
    two.stop()
    third.start()
    assert rows(third.path) == rows(two.path)
    assert epoch(one) in chain(third)


def test_a_host_that_comes_back_after_a_takeover_never_streams(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    one.start()
    with writing(one) as writer:
        writer.reach(20)
        writer.stop()
        one.catch_up()
    one.systemd.power_cut()
    two.start()
    with pytest.raises(HostError, match="another host has taken over the backup") as caught:
        one.start()
    assert caught.value.code == PERSON
    assert "superseded" in one.start()
    assert chain(two) == [epoch(two), epoch(one)]


def test_the_loser_takes_the_backup_back_only_by_a_takeover(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    one.start()
    with writing(one) as writer:
        writer.reach(20)
        one.catch_up()
        two.start()
        one.watch()
        backup_epochs.takeover(one.app)
        one.start()
        last = writer.reach(20)
    whole(one, last)
    assert two.watch()["error"]
    assert not two.systemd.show(two.app.stream_unit)[0].runs
    assert chain(one)[0] == epoch(one)
    assert epoch(two) in chain(one)


# ------------------------------------------------------------------------------- epochs of one host


def test_a_new_epoch_and_back_again_leaves_both_whole(host: Host) -> None:
    host.start()
    with writing(host) as writer:
        writer.reach(50)
        first = backup_epochs.local(host.app)
        assert first is not None
        second = backup_epochs.open_epoch(host.app, first, "a test")
        host.start()
        writer.reach(50)
        host.catch_up()
        assert sound(host.restored(second.epoch))
        backup_epochs.return_to(host.app, first)
        host.start()
        last = writer.reach(50)
    whole(host, last)
    assert chain(host) == [first.epoch]


def test_what_was_swapped_in_and_back_streams_on_where_it_stopped(host: Host) -> None:
    host.start()
    with writing(host) as writer:
        writer.reach(50)
        writer.stop()
    first = backup_epochs.local(host.app)
    assert first is not None
    replication.pause(host.app, host)  # type: ignore[arg-type]
    other, aside = host.app.state / "other", host.app.aside / "20260101T000000000Z-aaaaaa"
    other.mkdir()
    files.create(other / "shop.db")
    aside.parent.mkdir(exist_ok=True)
    file_swap.swap(host.databases, ["shop.db"], other, aside)
    backup_epochs.open_epoch(host.app, first, "a restore")
    replication.resume(host.app, host)  # type: ignore[arg-type]
    host.catch_up()
    replication.pause(host.app, host, verify=False)  # type: ignore[arg-type]
    file_swap.swap_back(aside)
    backup_epochs.return_to(host.app, first)
    replication.resume(host.app, host)  # type: ignore[arg-type]
    with writing(host) as writer:
        last = writer.reach(50)
    whole(host, last)
    assert chain(host) == [first.epoch]


def test_a_current_that_was_deleted_makes_the_watch_open_another_epoch(host: Host) -> None:
    host.start()
    first = epoch(host)
    backup_epochs.bucket(host.app).delete("shop/CURRENT")
    with writing(host) as writer:
        assert "CURRENT is gone" in host.watch()["error"]
        eventually(host, lambda: host.watch()["error"] is None)
        last = writer.reach(20)
    assert chain(host) == [epoch(host), first]
    whole(host, last)


# ------------------------------------------------------------------------------- what the watch tells


def test_the_watch_writes_numbered_rows_and_tells_the_lag(host: Host) -> None:
    host.start()
    told = [host.watch() for _ in range(3)]
    assert [one["canary"] for one in told] == [1, 2, 3]
    assert all(0 <= one["lag"] < 10 and one["error"] is None for one in told)
    assert read_json(host.app.backup / "watch.json") == told[-1]
    assert files.read_contents(host.restored(epoch(host))).canary == (1, 3, 3)


def test_with_s3_away_the_lag_grows_from_the_first_write_and_afterwards_nothing_is_missing(
    host: Host, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.start()
    with writing(host) as writer:
        writer.reach(50)
        assert host.watch()["error"] is None
        monkeypatch.setattr("hostctl.sqlite.stream.monitor.PATIENCE", 0.3)
        with away(store):
            told = [host.watch() for _ in range(3)]
            writer.reach(100)
        assert all(one["error"] for one in told)
        assert told[0]["lag"] < told[1]["lag"] < told[2]["lag"]
        assert told[0]["since"] == told[2]["since"]
        assert [one["canary"] for one in told] == [2, 3, 4]
        last = writer.reach(50)
        eventually(host, lambda: host.watch()["error"] is None)
    whole(host, last)


def test_of_a_second_outage_only_its_own_seconds_are_told_though_no_look_fell_between_the_two(
    host: Host, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostctl.sqlite.stream.monitor.PATIENCE", 0.3)
    host.start()
    with writing(host) as writer:
        writer.reach(50)
        with away(store):
            writer.reach(50)
            first = host.watch()
        assert first["error"]
        eventually(host, lambda: litestream.position(host.app, "shop.db").behind_since is None)
        between = time.time()
        with away(store):
            writer.reach(50)
            second = host.watch()
            assert told_lag(host) <= time.time() - between + 1
    assert first["since"] < between - 1
    assert second["since"] > between - 1


def test_a_litestream_that_is_restarted_while_s3_is_away_does_not_make_what_arrived_before_look_late(
    host: Host, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hostctl.sqlite.stream.monitor.PATIENCE", 0.3)
    host.start()
    with writing(host) as writer:
        writer.reach(50)
        eventually(host, lambda: host.watch()["error"] is None)
        seen = read_json(host.app.backup / "watch.json") or {}
        for one in (litestream.state_directory(host.path) / "ltx/0").iterdir():
            os.utime(one, (seen["arrived"] - 1000,) * 2)  # long ago, and long on S3
        with away(store):
            writer.reach(50)
            host.systemd.kill()
            host.watch()  # starts it
            told = host.watch()
            assert told["error"]
            assert told["since"] >= seen["arrived"]
            assert 0 < told_lag(host) <= time.time() - seen["arrived"]


def told_lag(host: Host) -> float:
    """What status tells."""
    found = lag.lag(host.app, host.databases, read_json(host.app.backup / "watch.json"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("told", "reached"),
    [
        ({"active": False}, 25),
        ({"active": True, "phase": "checkpoint_exec"}, 25),  # waits for a reader: a log beyond 500 MB is to be cut
        ({"active": True, "phase": "sync_page_map"}, None),
        ({"active": False, "operation": "snapshot"}, None),
        ({"active": False, "started_at": "2026-11-21T13:00:00.123456789Z"}, None),
    ],
)
def test_a_look_counts_once_it_has_read_what_was_there(
    told: dict[str, object], reached: int | None, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"path": str(host.path), "operation": "sync", "started_at": "2026-11-21T14:00:00.123456789Z", "txid": 25}
    monkeypatch.setattr(
        "hostctl.sqlite.stream.litestream.request", lambda app, target: {"databases": [{**known, **told}]}
    )
    assert litestream.synced_txid(host.app, host.path, 1795267800.0) == reached  # 13:30


def test_keys_that_were_revoked_are_named(host: Host, store: Store) -> None:
    host.start()
    host.app.backup_credentials.write_text(host.app.backup_credentials.read_text().replace(store.secret, "wrong"))
    assert "secret access key is wrong" in host.watch()["error"]


def test_the_position_tells_what_may_not_be_on_s3(host: Host, store: Store) -> None:
    host.start()
    with application(host.path):
        files.write_canary(host.path)
        done = host.catch_up()
        eventually(host, lambda: litestream.position(host.app, "shop.db").behind_since is None)
        assert litestream.position(host.app, "shop.db")[:2] == (done, done)
        with away(store):
            stored = litestream.position(host.app, "shop.db").replica_txid  # Litestream writes rows of its own, too
            before = time.time()
            files.write_canary(host.path)
            eventually(host, lambda: litestream.position(host.app, "shop.db").local_txid > stored)
            told = litestream.position(host.app, "shop.db")
            assert told.replica_txid == stored
            assert told.behind_since is not None
            assert before - 1 <= told.behind_since <= time.time()


# ------------------------------------------------------------------------------- times


def test_restored_to_a_second_the_rows_are_exactly_those_of_that_second(host: Host) -> None:
    host.start()
    moments: list[tuple[float, list[int]]] = []
    with application(host.path) as app:
        app.execute("CREATE TABLE rows(n INTEGER PRIMARY KEY)")
        for number in range(1, 5):
            app.execute("INSERT INTO rows VALUES (?)", (number,))
            host.catch_up()
            moment = float(int(time.time()) + 1)
            eventually(host, lambda moment=moment: time.time() > moment)  # type: ignore[misc]
            moments.append((moment, list(range(1, number + 1))))
        host.catch_up()
    for moment, wanted in moments:
        assert rows(host.restored(epoch(host), moment)) == wanted
    assert rows(host.restored(epoch(host), time.time() + 3600)) == [1, 2, 3, 4]
    with pytest.raises(litestream.NoBackupError):
        host.restored(epoch(host), moments[0][0] - 86_400)
    told = litestream.restorable_range(host.app, host.databases, epoch(host), "shop.db")
    assert told is not None
    assert told["from"] <= moments[0][0] <= told["to"] + 2
    assert litestream.restorable_range(host.app, host.databases, epoch(host), "other.db") is None


def test_a_time_is_restored_from_the_epoch_that_counted_then(new_host: Callable[..., Host]) -> None:
    one, two = new_host(), new_host()
    one.start()
    with application(one.path) as app:
        app.execute("CREATE TABLE rows(n INTEGER PRIMARY KEY)")
        app.execute("INSERT INTO rows VALUES (1)")
        one.catch_up()
        then = time.time()
        two.start()
        opened = backup_epochs.local(two.app)
        assert opened is not None
        app.execute("INSERT INTO rows VALUES (666)")
        one.catch_up()
    with application(two.path) as app:
        app.execute("INSERT INTO rows VALUES (2)")
        two.catch_up()
        epochs = backup_epochs.chain(backup_epochs.bucket(two.app))
        found = [_fetched(two, epochs, at) for at in (then, opened.opened, None)]
    assert found == [(epoch(one), [1]), (epoch(one), [1]), (epoch(two), [1, 2])]


def _fetched(host: Host, epochs: list[backup_epochs.Epoch], at: float | None) -> tuple[str, list[int]]:
    target = host.root / "fetched.db"
    target.unlink(missing_ok=True)
    found = litestream.fetch(host.app, host.databases, epochs, "shop.db", target, at)
    assert found is not None
    return found.epoch, rows(target)


def test_a_database_that_no_epoch_has_is_not_made_up(host: Host) -> None:
    host.configure(extra=("jobs.db",))
    host.start()
    epochs = backup_epochs.chain(backup_epochs.bucket(host.app))
    target = host.root / "jobs.db"
    assert litestream.fetch(host.app, host.databases, epochs, "jobs.db", target) is None
    assert not target.exists()


def test_an_error_of_litestream_holds_nothing_of_the_keys(host: Host, store: Store) -> None:
    host.start()
    host.bucket_name = "no-such-bucket"
    host.configure()
    with pytest.raises(HostError, match="NoSuchBucket") as caught:
        litestream.restore(host.app, host.databases, epoch_id(), "shop.db", host.root / "x.db")
    assert store.secret not in repr(caught.value.as_dict())
    assert store.access not in repr(caught.value.as_dict())


def epoch_id() -> str:
    return "20260101T000000Z-aaaaaa"


def test_the_configuration_holds_no_secret_and_sets_both_intervals(host: Host, store: Store) -> None:
    text = litestream.config(host.app, host.databases, epoch_id())
    assert store.secret not in text
    assert store.access not in text
    assert text.count('"250ms"') == 3  # the shutdown's pace is the third


def test_the_bucket_is_asked_for_what_is_stored_without_a_long_listing(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.start()
    with application(host.path):
        for _ in range(3):
            files.write_canary(host.path)
            done = host.catch_up()
    store, listed = backup_epochs.bucket(host.app), s3.Bucket.list
    asked: list[str] = []
    monkeypatch.setattr(
        s3.Bucket, "list", lambda self, prefix, after="": asked.append(after) or listed(self, prefix, after)
    )
    assert litestream.stored_txid(store, epoch(host), "shop.db", done) == done
    assert litestream.stored_txid(store, epoch(host), "shop.db") == done
    assert len(asked) == 2
    assert asked[0].endswith(f"{done - 1:016x}-")
