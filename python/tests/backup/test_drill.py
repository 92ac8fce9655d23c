"""The drill, with the real Litestream and a real bucket: a good backup passes, and no damage does."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drillworld import DrillWorld
from objectstore import Store

from hostctl.backup import drill, epochs, settings, state
from hostctl.backup.s3 import Bucket
from hostctl.common.errors import LOCKED, HostError
from hostctl.common.files import read_lines
from hostctl.core.lock import Flock
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.sqlite.database import files
from hostctl.sqlite.stream import drill as sqlite_drill
from hostctl.sqlite.stream import litestream


@pytest.fixture
def new_world(store: Store, bucket: str, litestream: Path) -> Iterator[Callable[..., DrillWorld]]:
    # a socket's path may have 104 bytes
    root, made = Path(tempfile.mkdtemp(prefix="drill-")), []

    def make(**more: object) -> DrillWorld:
        made.append(DrillWorld(root, store, bucket, litestream, **more))
        return made[-1]

    yield make
    for world in made:
        world.end()
    shutil.rmtree(root)


@pytest.fixture
def world(new_world: Callable[..., DrillWorld]) -> DrillWorld:
    found = new_world()
    found.start()
    return found


def test_a_good_backup_passes_and_is_measured(world: DrillWorld) -> None:
    world.add(50)
    files.write_canary(world.path)
    told = world.drill()
    assert (told["ok"], told["found"], told["rows"]) == (True, [], 51)
    assert told["bytes"] > 0
    assert told["seconds"] > 0
    assert told["last_good"]["at"] == told["at"]
    assert told["at"] < told["up_to"] < told["at"] + 60
    assert [line["ok"] for line in read_lines(world.app.backup / "drills.jsonl")] == [True]


def test_nothing_is_left_of_the_restored_copy(world: DrillWorld) -> None:
    world.drill()
    assert not (world.app.state / "drill").exists()
    assert not list(world.app.state.glob("**/*.db*"))


def test_a_good_drill_removes_the_epochs_that_the_retention_has_passed(world: DrillWorld) -> None:
    first = epochs.local(world.app)
    world.begin_anew()
    store = epochs.bucket(world.app)
    world.drill()
    assert len(epochs.chain(store)) == 2
    world.configure(retention=0.001)
    world.drill()
    assert [one.epoch for one in epochs.chain(store)] == [epochs.local(world.app).epoch]  # type: ignore[union-attr]
    assert not store.any(f"{store.prefix}/{first.epoch}/")  # type: ignore[union-attr]


def test_a_backup_passes_while_the_app_writes(world: DrillWorld) -> None:
    with world.under_load():
        for _ in range(3):
            assert world.drill()["found"] == []


def test_a_hole_is_found_and_told_and_an_epoch_of_its_own_mends_it(world: DrillWorld) -> None:
    good = world.drill()
    with world.torn():
        told = world.failed()
        owed = state.full_required(world.app)
        assert owed is not None
        assert "a drill" in owed["why"]
        assert told["last_good"]["at"] == good["at"]
        world.begin_anew()
        assert world.drill()["ok"]


def test_a_forced_snapshot_hides_a_hole_only_until_the_next_compaction(new_world: Callable[..., DrillWorld]) -> None:
    """Litestream compacts what lies on both sides of the snapshot, and restores that on top of it."""
    world = new_world()
    world.settings = {"levels": [{"interval": "5s"}]}
    world.start()
    for _ in range(5):  # until the snapshot falls between two compactions: what was compacted before it, it covers
        with world.torn() as last:
            world.snapshot()
            world.compacted()
            if not world.spans(last):
                continue
            assert world.failed()["damaged"]
            world.begin_anew()
            world.compacted()
            assert world.drill()["ok"]
            return
    pytest.fail("no compaction spanned a snapshot")


def test_a_hole_is_found_while_the_app_writes(world: DrillWorld) -> None:
    with world.torn(), world.under_load():
        assert world.failed()["damaged"]


def test_a_numbered_row_that_is_missing_fails_the_drill_even_where_live_lacks_it_too(world: DrillWorld) -> None:
    for _ in range(3):
        files.write_canary(world.path)
    world.sql(f"DELETE FROM {files.CANARY} WHERE n = 2")
    assert re.search(r"1 of the numbered rows 1 to \d are missing: a hole", world.failed()["found"][0])


def test_a_copy_that_is_cut_short_fails_the_drill(world: DrillWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = litestream.restore

    def short(*args: Any, **more: Any) -> None:
        whole(*args, **more)
        os.truncate(args[4], args[4].stat().st_size - 4096)

    world.add(50)
    world.uploaded()
    monkeypatch.setattr(litestream, "restore", short)
    told = world.failed()
    assert "SQLite" in told["found"][0]
    assert told["restorable"] == {"shop.db": None}


def damage_newest(world: DrillWorld) -> None:
    world.spoil(world.objects(0)[-1])


def damage_snapshot(world: DrillWorld) -> None:
    world.snapshot()
    world.truncate(world.objects(9)[-1])


def lose_one(world: DrillWorld) -> None:
    world.store.bucket(world.name).delete(world.objects(0)[-2])


@pytest.mark.parametrize("damage", [damage_newest, damage_snapshot, lose_one])
def test_a_damaged_object_fails_the_drill_and_what_was_good_is_offered(
    new_world: Callable[..., DrillWorld],
    damage: Callable[[DrillWorld], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    world = new_world()
    world.settings = {"levels": [{"interval": "1h"}]}  # what is lost here is not to be had from a compacted object
    world.start()
    good = world.drill()
    begun = time.time()
    while time.time() < begun + 2.5:  # the bucket tells times to the second
        world.add(1)
    damage(world)
    told = world.failed()
    assert told["last_good"]["at"] == good["at"]
    assert "<3>the backup of shop failed its drill" in capsys.readouterr().err
    at = told["restorable"]["shop.db"]
    assert f"up to {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(at))} (deploy restore --at" in told["error"].what
    dbs, mine = settings.require(world.app), epochs.local(world.app)
    assert mine is not None
    litestream.restore(world.app, dbs, mine.epoch, "shop.db", tmp_path / "back.db", at)
    assert files.integrity_faults(tmp_path / "back.db") == []


def test_the_apps_own_check_that_is_not_true_fails_it(new_world: Callable[..., DrillWorld]) -> None:
    world = new_world(verify=["SELECT count(*) > 0 FROM entries", "SELECT max(version) FROM schema_migrations"])
    world.start()
    (found,) = world.failed()["found"]
    assert found == "shop.db: backup.verify: not true but 0: SELECT count(*) > 0 FROM entries"
    world.add(1)
    assert world.drill()["ok"]


def test_a_drill_while_s3_is_away_fails_and_owes_no_snapshot(
    world: DrillWorld, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = Bucket(settings.require_backup(world.app)[1], store.credentials, total=1.0)
    monkeypatch.setattr(epochs, "bucket", lambda app: hasty)
    store.freeze()
    try:
        told = world.failed()
    finally:
        store.thaw()
    assert "S3" in told["found"][0]
    assert state.full_required(world.app) is None
    assert world.drill()["last_good"]["ok"]


def test_a_drill_without_litestream_fails(world: DrillWorld) -> None:
    world.stop()
    assert "Litestream does not run" in world.failed()["found"][0]


def test_a_superseded_host_says_so(world: DrillWorld) -> None:
    mine = epochs.local(world.app)
    assert mine is not None
    other = json.dumps({**mine._asdict(), "epoch": "20260101T000000Z-abcdef", "host": "web2"})
    world.store.bucket(world.name).put("shop/CURRENT", other.encode())
    assert "superseded: the backup belongs to web2" in world.failed()["found"][0]


def test_a_full_disk_is_told_before_anything_is_fetched(world: DrillWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SPARE", 1 << 60)
    assert "the disk is full: a drill needs" in world.failed()["found"][0]


def test_two_at_once_are_refused(world: DrillWorld) -> None:
    with Flock(world.app.backup / "drill.lock"), pytest.raises(HostError) as refused:
        sqlite_drill.run(world.app, Host())
    assert refused.value.code == LOCKED
    assert drill.last_result(world.app) is None
