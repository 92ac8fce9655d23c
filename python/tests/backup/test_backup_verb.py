"""`hostctl APP backup ACTION` against a stream that really runs; only units are made up."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from drillworld import DrillWorld
from objectstore import Store

from hostctl.backup import epochs, s3, settings
from hostctl.common.errors import LOCKED, HostError
from hostctl.common.files import Json, write_json
from hostctl.core import audit
from hostctl.core.actor import Actor
from hostctl.host.host import Host
from hostctl.host.systemd import Systemd, Unit
from hostctl.notify import alerts
from hostctl.verbs import backup

ANN = Actor("ann", "laptop")


class Units(Systemd):
    """Units that do what they are told at once."""

    def __init__(self, world: DrillWorld) -> None:
        self.world = world
        self.running: set[str] = set()
        self.asked: list[str] = []

    def show(self, *units: str) -> list[Unit]:
        runs = self.running | ({self.world.app.stream_unit} if self.world.process else set())
        return [Unit({"ActiveState": "active" if unit in runs else "inactive"}) for unit in units]

    def start(self, unit: str) -> None:
        self.asked.append(f"start {unit}")
        if unit == self.world.app.stream_unit and not self.world.process:
            self.world.start()

    def stop(self, unit: str) -> None:
        self.asked.append(f"stop {unit}")
        if unit == self.world.app.stream_unit:
            self.world.stop()

    def background(self, unit: str, argv: Sequence[str], properties: Sequence[str]) -> None:
        self.asked.append(f"run {unit}: {' '.join(argv[1:])}")

    def next_elapse(self, timer: str) -> float | None:
        return 1_900_000_000.0

    def running_inside(self, unit: str) -> bool:
        return unit in self.running


@pytest.fixture
def world(store: Store, bucket: str, litestream: Path) -> Iterator[DrillWorld]:
    root = Path(tempfile.mkdtemp(prefix="drill-"))
    found = DrillWorld(root, store, bucket, litestream)
    found.start()
    yield found
    found.end()
    shutil.rmtree(root)


@pytest.fixture
def host(world: DrillWorld) -> Host:
    found = Host()
    found.systemd = Units(world)
    return found


def ask(world: DrillWorld, host: Host, action: str) -> Json:
    return backup.perform(world.app, action, ANN, host)


def asked(host: Host) -> list[str]:
    assert isinstance(host.systemd, Units)
    return host.systemd.asked


def short(world: DrillWorld, host: Host) -> Json:
    told = backup.summary(world.app, host)
    assert told is not None
    found: Json = told["backup"]
    return found


def test_the_status_tells_of_lag_epoch_and_drills(world: DrillWorld, host: Host) -> None:
    world.uploaded()
    world.drill()
    told = ask(world, host, "status")
    found = told["database"]["backup"]
    assert told["database"]["bytes"] > 0
    assert (found["stream"], found["superseded"], found["owed"], found["left_open"]) == ("active", None, None, None)
    assert found["lag"] < 5
    assert found["epoch"] == epochs.local(world.app).epoch  # type: ignore[union-attr]
    assert found["drill"]["ok"]
    assert found["last_good"]["seconds"] > 0
    assert (found["schedule"], found["next_drill"]) == ("weekly", 1_900_000_000.0)
    # nobody runs the watch here
    assert told["trouble"] == []


def test_the_lag_grows_while_s3_is_away_and_is_gone_when_it_is_back(
    world: DrillWorld, host: Host, store: Store
) -> None:
    world.uploaded()
    store.freeze()
    try:
        deadline = time.monotonic() + 20
        while not (short(world, host)["lag"] or 0) > 1:
            world.add(1)
            assert time.monotonic() < deadline
        behind = short(world, host)["lag"]
        found = alerts.of_backup({**short(world, host), "max_lag": 1}, time.time())
        assert any("newest write on S3" in reason for reason in found)
    finally:
        store.thaw()
    world.uploaded()
    deadline = time.monotonic() + 20
    while short(world, host)["lag"] >= behind:
        assert time.monotonic() < deadline


def test_without_litestream_the_lag_is_what_the_watch_saw_and_the_time_since(world: DrillWorld, host: Host) -> None:
    world.stop()
    assert short(world, host)["lag"] is None
    write_json(world.app.backup / "watch.json", {"at": time.time() - 100, "lag": 3.0, "canary": 1, "error": None})
    assert 103 <= short(world, host)["lag"] < 110


def test_no_backup_and_no_database_are_told_as_such(world: DrillWorld, host: Host) -> None:
    told = json.loads(world.app.database.read_text())
    world.app.database.write_text(json.dumps({**told, "backup": None}))
    summary = backup.summary(world.app, host)
    assert summary is not None
    assert summary["backup"] is None
    world.app.database.unlink()
    assert backup.summary(world.app, host) is None


def test_an_app_that_may_checkpoint_is_drilled_daily_and_told_what_stays_open(world: DrillWorld, host: Host) -> None:
    told = json.loads(world.app.database.read_text())
    world.app.database.write_text(json.dumps({**told, "unsafe_checkpoints": "allow"}))
    found = short(world, host)
    assert found["schedule"] == "daily"
    assert "wal_autocheckpoint" in found["left_open"]


def test_a_drill_from_outside_starts_the_timers_unit(world: DrillWorld, host: Host) -> None:
    begun = ask(world, host, "drill")["started"]
    assert asked(host) == ["start homeport-shop-drill.service"]
    assert ask(world, host, "progress")["drill"] == {"running": False, "step": "", "result": None}
    host.systemd.running.add("homeport-shop-drill.service")  # type: ignore[attr-defined]
    assert ask(world, host, "drill")["ok"]
    told = ask(world, host, "progress")["drill"]
    assert told["running"]
    assert told["result"]["at"] >= begun


@pytest.mark.parametrize(
    ("action", "unit"), [("drill", "homeport-shop-drill.service"), ("run", "homeport-shop-backup.service")]
)
def test_what_runs_already_is_not_started_again(
    world: DrillWorld, host: Host, action: str, unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.systemd.running.add(unit)  # type: ignore[attr-defined]
    monkeypatch.setattr(Units, "running_inside", lambda self, unit: False)
    with pytest.raises(HostError) as refused:
        ask(world, host, action)
    assert refused.value.code == LOCKED


def test_a_run_from_outside_is_a_unit_of_its_own_and_forces_a_snapshot(world: DrillWorld, host: Host) -> None:
    ask(world, host, "run")
    assert asked(host) == ["run homeport-shop-backup.service: shop backup run"]
    world.add(3)
    host.systemd.running.add("homeport-shop-backup.service")  # type: ignore[attr-defined]
    assert world.objects(9) == []
    told = ask(world, host, "run")
    assert (told["ok"], told["found"]) == (True, [])
    assert len(world.objects(9)) == 1
    assert ask(world, host, "progress")["run"]["result"] == told
    assert [line["verb"] for line in audit.read(world.app, 9)] == ["backup run"]


def test_the_list_names_points_epochs_and_times(world: DrillWorld, host: Host) -> None:
    world.add(1)
    world.uploaded()
    told = ask(world, host, "list")
    (epoch,) = told["epochs"]
    assert epoch["host"]
    times = epoch["databases"]["shop.db"]
    assert time.time() - 60 < times["from"] <= times["to"] < time.time() + 5
    assert (told["points"], told["last_good"]) == ([], None)


def test_the_check_tells_of_a_good_bucket(world: DrillWorld, host: Host) -> None:
    told = ask(world, host, "check")
    assert abs(told["skew"]) < 60
    assert world.store.bucket(world.name).list("shop/.") == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"bucket": "nowhere"}, "there is no bucket nowhere"),
        ({"require": ["object_lock"]}, "object_lock"),
        ({"require": ["versioning"]}, "versioning is not enabled"),
        ({"endpoint": "http://127.0.0.1:1"}, "nothing listens"),
    ],
)
def test_the_check_tells_what_is_wrong_with_a_bucket(world: DrillWorld, host: Host, more: Json, says: str) -> None:
    world.configure(**more)
    with pytest.raises(HostError, match=says):
        ask(world, host, "check")


def test_the_check_tells_of_a_key_that_may_not_write_and_of_clocks_apart(
    world: DrillWorld, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "SKEW", -1.0)
    with pytest.raises(HostError, match="clock"):
        ask(world, host, "check")
    settings.save_credentials(world.app, {"access_key_id": "READER", "secret_access_key": "only-reads"})
    with pytest.raises(HostError, match="may not PUT"):
        ask(world, host, "check")


def test_a_takeover_of_what_is_ones_own_touches_nothing(world: DrillWorld, host: Host) -> None:
    assert ask(world, host, "takeover")["changed"] is False
    assert asked(host) == []


def test_a_takeover_opens_an_epoch_that_goes_on_from_the_others(world: DrillWorld, host: Host) -> None:
    mine = epochs.local(world.app)
    assert mine is not None
    bucket = world.store.bucket(world.name)
    other = mine._replace(epoch="20260101T000000Z-abcdef", host="web2")
    bucket.put("shop/CURRENT", json.dumps(other._asdict()).encode())
    epochs.mark_superseded(world.app, other)
    assert "web2 took over" in short(world, host)["superseded"]["why"]
    assert next(alerts.of_backup(short(world, host), time.time())).startswith("nothing streams from here: web2")
    told = ask(world, host, "takeover")
    assert (told["changed"], told["parent"]) == (True, other.epoch)
    assert short(world, host)["superseded"] is None
    assert epochs.current(world.app, bucket).epoch == told["epoch"]  # type: ignore[union-attr]
    assert [line["verb"] for line in audit.read(world.app, 9)] == ["backup takeover"]
    world.add(1)
    world.uploaded()
    assert world.drill()["ok"]
