"""An app leaves whole: what is whose by its name, what stays, what comes back when it fails, and kill -9 at any act."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hostworld import KILLER, Killed, World, killed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostctl.common.errors import FAILED, LOCKED, PERSON, REVERTED, USAGE, HostError
from hostctl.common.names import matches
from hostctl.core import lock
from hostctl.core.paths import App
from hostctl.journal import journal
from hostctl.removal import data, inventory, remove, steps

OTHER = "shop-admin"


class FakeMachine:
    """Units, users and the edge of a made-up host."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.own_users = {"shop", "shop-build", OTHER}
        self.applied = 0
        self.reloads = 0

    def units(self) -> list[str]:
        return sorted({*self.world.running, *self.world.drains})

    def stop(self, units: Sequence[str]) -> None:
        for unit in units:
            self.world.systemd.stop(unit)

    def reload(self) -> None:
        KILLER.act()
        self.reloads += 1

    def apply_edge(self) -> None:
        KILLER.act()
        self.applied += 1

    def close_ports(self, app: App) -> None:
        KILLER.act()
        self.closed = app.name

    def forget_user(self, name: str) -> bool:
        KILLER.act()
        there = name in self.own_users
        self.own_users.discard(name)
        return there

    def users(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self.own_users]


Wished = remove.RemoveRequest("ann", "198.51.100.9")


def furnished(world: World) -> FakeMachine:
    """A host with the app, live, and another whose name begins with its name."""
    world.push("one")
    root = world.root
    for app in ("shop", OTHER):
        for path in (
            f"etc/homeport/edge/apps/{app}.json",
            f"etc/homeport/edge/certificates/{app}/a.pem",
            f"etc/systemd/system/{app}@.service",
            f"run/systemd/system.control/{app}@20260101T000000Z-abcdefg.service.d/50-SocketBindDeny.conf",
            f"etc/systemd/system/homeport-{app}-watch.timer",
            f"etc/systemd/system/homeport-{app}-watch.service",
            f"etc/systemd/system/homeport-{app}-watch.service.d/more.conf",
            f"etc/systemd/system/timers.target.wants/homeport-{app}-watch.timer",
            f"var/lib/systemd/timers/stamp-homeport-{app}-watch.timer",
            f"run/homeport-{app}-litestream/litestream.yml",
            f"run/homeport-{app}/20260101T000001Z-abcdefa/agent",
            f"var/cache/homeport/{app}/build/.mix",
            f"var/lib/{app}/uploads/a.png",
            f"etc/homeport/{app}/app.json",
            f"var/lib/homeport/{app}/audit.jsonl",
            f"srv/{app}/releases/x/bin/app",
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            if not (root / path).exists():
                (root / path).write_text('{"routes": []}' if path.endswith(f"apps/{app}.json") else "{}")
    world.running |= {"homeport-shop-watch.timer", f"homeport-{OTHER}-watch.timer", f"{OTHER}@x.service"}
    return FakeMachine(world)


def of(world: World, app: str) -> set[str]:
    """Every path of an app, but the notes of what was removed."""
    names = {app, OTHER}
    found = [path.relative_to(world.root) for path in world.root.rglob("*")]
    return {
        str(path)
        for path in found
        if not str(path).startswith((steps.HOME, "source"))
        and any(
            inventory.owner(part.removeprefix("stamp-").removeprefix("homeport-"), names) == app for part in path.parts
        )
    }


def removed(world: World, machine: FakeMachine, **more: Any) -> dict[str, Any]:
    remove.begin(world.app, Wished._replace(**more), world)  # type: ignore[arg-type]
    result: dict[str, Any] = remove.run(world.app, world, machine)["removed"]  # type: ignore[arg-type]
    return result


# ---------------------------------------------------------------------------------------------- what is whose


@pytest.mark.parametrize(
    ("unit", "app"),
    [
        ("shop@20260101T000001Z-abcdefa.service", "shop"),
        ("shop-admin@20260101T000001Z-abcdefa.service", "shop-admin"),
        ("homeport-shop-litestream.service", "shop"),
        ("homeport-shop-admin-litestream.service", "shop-admin"),
        ("homeport-shop-admins.service", "shop"),
        ("homeport-shop-cron@nightly.timer", "shop"),
        (r"system-shop\x2dadmin.slice", "shop-admin"),
        ("system-shop.slice", "shop"),
        (r"system-homeport\x2dshop\x2dcron.slice", "shop"),
        ("system.slice", None),
        ("homeport-boot.service", None),
        ("shop.service", None),
        ("shopping@x.service", None),
        ("homeport-shopping-watch.timer", None),
        ("ssh@shop.service", None),
    ],
)
def test_a_unit_is_of_the_app_with_the_longest_name_that_fits(unit: str, app: str | None) -> None:
    assert inventory.owner_of_unit(unit, {"shop", "shop-admin"}) == app


@pytest.mark.parametrize("unit", ["homeport-shop-cron@nightly.timer", "homeport-shop-cron@.service"])
def test_a_unit_that_is_called_like_another_app_is_not_that_apps(unit: str) -> None:
    assert inventory.owner_of_unit(unit, {"shop", "shop-cron"}) == "shop"


names = st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True)


@given(names, names, st.sampled_from(["", "-drill.timer", "@x", ".json", ".pem"]))
def test_nothing_of_one_app_is_taken_for_anothers_whatever_the_two_are_called(app: str, other: str, rest: str) -> None:
    assert inventory.owner(f"{app}{rest}", {app, other}) in (
        {app} if not f"{app}{rest}".startswith(other) or len(other) < len(app) or app == other else {app, other}
    )
    assert inventory.owner(app, {app, other}) == app


# ---------------------------------------------------------------------------------------------- what goes, what stays


def test_nothing_of_the_app_is_left_and_all_of_the_other(world: World) -> None:
    machine = furnished(world)
    before = of(world, OTHER)
    result = removed(world, machine)
    assert (result["ok"], result["error"]) == (True, None)
    assert of(world, "shop") == set()
    assert of(world, OTHER) == before
    assert machine.own_users == {OTHER}
    assert world.running == {f"homeport-{OTHER}-watch.timer", f"{OTHER}@x.service"}
    assert remove.unfinished(world.app) is None


def test_what_no_backup_holds_is_moved_where_root_alone_reads_it(world: World) -> None:
    result = removed(world, furnished(world))
    (data,) = result["left"]
    assert data == {"path": f"{result['note']}/data", "bytes": 2}
    assert (Path(data["path"]) / "uploads/a.png").read_text() == "{}"
    assert Path(result["note"]).stat().st_mode & 0o777 == Path(result["note"]).parent.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in Path(result["note"]).iterdir()} == {"remove.json", "audit.jsonl", "data"}


def test_an_app_that_kept_no_file_leaves_a_note_alone(world: World) -> None:
    machine = furnished(world)
    (world.app.data / "uploads/a.png").unlink()
    result = removed(world, machine)
    assert result["left"] == []
    assert not (Path(result["note"]) / "data").exists()


def test_with_keep_data_there_stays_what_a_setup_takes_the_database_up_by(world: World) -> None:
    machine = furnished(world)
    app = world.app
    for name in ("database.json", "backup.env", "backup-ca.pem", "pgbackrest.conf", "notify.json"):
        (app.config.parent / name).write_text("{}")
    for directory in (app.backup, app.aside, app.points):
        directory.mkdir()
        (directory / "x").write_text("{}")
    app.database.unlink()  # the engine's own doing is tested with the engine
    result = removed(world, machine, keep_data=True)
    assert result["ok"]
    kept = {path.name for path in app.config.parent.iterdir()}
    assert kept == {"backup.env", "backup-ca.pem", "pgbackrest.conf"}
    assert {path.name for path in app.state.iterdir()} == {"backup", "aside", "audit.jsonl"}
    assert (app.data / "uploads/a.png").exists()
    assert not app.srv.exists()
    assert machine.own_users == {"shop", OTHER}
    assert {one["path"] for one in result["left"]} == {str(app.data), str(app.config.parent), str(app.state)}


def test_what_was_kept_can_be_removed_later(world: World) -> None:
    machine = furnished(world)
    removed(world, machine, keep_data=True)
    told = remove.plan(world.app, world, machine)  # type: ignore[arg-type]
    assert (told["gone"], told["live"], told["releases"]) == (None, None, 0)
    assert removed(world, machine)["ok"]
    assert of(world, "shop") == set()


def test_an_app_that_was_never_quite_provisioned_can_be_removed(world: World) -> None:
    machine = FakeMachine(world)
    world.app.config.unlink()
    assert removed(world, machine)["ok"]
    assert of(world, "shop") == set()


# ---------------------------------------------------------------------------------------------- what is told


def test_the_plan_tells_what_would_go_and_changes_nothing(world: World) -> None:
    machine = furnished(world)
    before = of(world, "shop")
    told = remove.plan(world.app, world, machine)  # type: ignore[arg-type]
    assert (told["releases"], told["live"], told["domains"]) == (1, world.app.live(), ["shop.test"])
    assert (told["users"], told["backup"], told["unfinished"]) == (["shop", "shop-build"], None, None)
    assert told["bytes"] > 0
    assert of(world, "shop") == before


def test_once_it_is_gone_it_is_told_who_removed_it(world: World) -> None:
    machine = furnished(world)
    removed(world, machine)
    told = remove.plan(world.app, world, machine)  # type: ignore[arg-type]
    assert (told["gone"]["who"], told["gone"]["ok"]) == ("ann", True)
    with pytest.raises(HostError, match="there is no app shop") as caught:
        remove.begin(world.app, Wished, world)  # type: ignore[arg-type]
    assert caught.value.code == USAGE


def test_an_app_that_never_was_there_is_a_mistake(world: World) -> None:
    nobody = world.app.layout.app("nobody")
    for asked in (
        lambda: remove.plan(nobody, world, FakeMachine(world)),  # type: ignore[arg-type]
        lambda: remove.begin(nobody, Wished, world),  # type: ignore[arg-type]
    ):
        with pytest.raises(HostError, match="there is no app nobody") as caught:
            asked()
        assert caught.value.code == USAGE
    assert not nobody.state.exists()


def test_progress_tells_the_step_at_work_and_in_the_end_the_result(world: World) -> None:
    machine = furnished(world)
    started = remove.begin(world.app, Wished, world)["started"]  # type: ignore[arg-type]
    told = remove.progress(world.app, world)["remove"]  # type: ignore[arg-type]
    assert (told["step"], told["result"]) == ("check", None)
    remove.run(world.app, world, machine)  # type: ignore[arg-type]
    told = remove.progress(world.app, world)["remove"]  # type: ignore[arg-type]
    assert (told["step"], told["result"]["at"], told["result"]["ok"]) == ("", started, True)


# ---------------------------------------------------------------------------------------------- who holds the lock


def test_a_lock_is_respected(world: World) -> None:
    machine = furnished(world)
    lock.acquire(world.app, "bob", "", "until noon")
    before = of(world, "shop")
    with pytest.raises(HostError, match="locked by bob") as caught:
        remove.begin(world.app, Wished, world)  # type: ignore[arg-type]
    assert caught.value.code == LOCKED
    assert remove.newest(world.app) is None
    assert of(world, "shop") - {"var/lib/homeport/shop/start.lock"} == before - {"var/lib/homeport/shop/start.lock"}
    assert machine.applied == 0


def test_while_it_works_nobody_else_does(world: World) -> None:
    machine = furnished(world)
    seen: list[Any] = []
    machine.reload = lambda: seen.append(lock.holder(world.app))  # type: ignore[method-assign]
    removed(world, machine)
    assert [(told["who"], told["verb"]) for told in seen] == [("ann", "remove")]


def test_nobody_pushes_to_what_a_killed_removal_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = furnished(world)
    monkeypatch.setattr(machine, "stop", lambda _: KILLER.act())
    remove.begin(world.app, Wished, world)  # type: ignore[arg-type]
    KILLER.arm(world.root, 14)
    with pytest.raises(Killed):
        remove.run(world.app, world, machine)  # type: ignore[arg-type]
    KILLER.disarm()
    with pytest.raises(HostError, match=r"locked by ann .*it is being removed; deploy remove goes on") as caught:
        world.push("two")
    assert caught.value.code == LOCKED


# ---------------------------------------------------------------------------------------------- what fails


@pytest.fixture
def no_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(app: App, host: object) -> bool:
        raise HostError("the bucket is away", "s3://backups", "deploy backup status")

    monkeypatch.setattr(data, "send_all", refuse)


def test_without_a_final_backup_nothing_goes_and_the_app_serves_again(world: World, no_backup: None) -> None:
    machine = furnished(world)
    before, ran = of(world, "shop"), set(world.running)
    result = removed(world, machine)
    assert (result["ok"], result["reverted"], result["error"]["code"]) == (False, True, REVERTED)
    assert "there is no final backup: the bucket is away" in result["error"]["what"]
    assert "--force" in result["error"]["fix"]
    ignored = {f"var/lib/homeport/shop/{name}" for name in ("lock", "lock.json", "start.lock")}
    assert of(world, "shop") - ignored == before - ignored
    assert world.running == ran
    assert remove.unfinished(world.app) is None
    assert lock.holder(world.app) is None


def test_a_bucket_that_is_away_is_noticed_before_the_app_is_touched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = furnished(world)

    def away(app: App, host: object) -> None:
        raise HostError("the bucket is away", "s3://backups", "deploy backup status")

    monkeypatch.setattr(data, "check_bucket", away)
    stopped: list[str] = []
    monkeypatch.setattr(machine, "stop", stopped.extend)
    result = removed(world, machine)
    assert (result["reverted"], result["error"]["code"]) == (True, FAILED)
    assert (stopped, machine.applied) == ([], 0)


def test_a_backup_that_fails_while_the_app_serves_touches_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = furnished(world)
    monkeypatch.setattr(data, "snapshot", _refuse)
    result = removed(world, machine)
    assert (result["error"]["code"], machine.applied) == (FAILED, 0)
    assert "there is no final backup" in result["error"]["what"]


def test_forced_nothing_more_is_sent_after_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(data, "snapshot", _refuse)
    monkeypatch.setattr(data, "send_all", lambda app, host: sent.append(app.name))
    result = removed(world, furnished(world), force=True)
    assert (result["ok"], result["backup"], sent) == (True, None, [])


def test_forced_it_goes_without_and_the_data_is_moved(world: World, no_backup: None) -> None:
    result = removed(world, furnished(world), force=True)
    assert (result["ok"], result["backup"]) == (True, None)
    assert result["warnings"] == ["there is no final backup: the bucket is away"]
    assert [Path(one["path"]).name for one in result["left"]] == ["data"]


def test_after_the_final_backup_a_failure_is_gone_on_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = furnished(world)

    def busy(name: str) -> bool:
        raise HostError("process 7 does not end", "/proc/7", "reboot the host, and try again")

    monkeypatch.setattr(machine, "forget_user", busy)
    result = removed(world, machine)
    assert (result["ok"], result["again"], result["error"]["code"]) == (False, True, PERSON)
    assert "deploy remove goes on" in result["error"]["fix"]
    monkeypatch.undo()
    assert removed(world, machine)["ok"]
    assert machine.own_users == {OTHER}


def test_what_was_begun_in_one_way_is_not_ended_in_another(world: World) -> None:
    furnished(world)
    remove.begin(world.app, Wished, world)  # type: ignore[arg-type]
    with pytest.raises(HostError, match="began as deploy remove has not ended") as caught:
        remove.begin(world.app, Wished._replace(keep_data=True), world)  # type: ignore[arg-type]
    assert caught.value.code == USAGE


def test_after_a_reboot_it_goes_on_and_the_app_is_not_started(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    furnished(world)
    remove.begin(world.app, Wished, world)  # type: ignore[arg-type]
    begun: list[list[str]] = []
    monkeypatch.setattr(world.systemd, "background", lambda unit, argv, properties: begun.append(list(argv)))
    assert remove.resume_all(world.app.layout, world) == ["shop"]  # type: ignore[arg-type]
    assert begun == [["/usr/local/sbin/hostctl", "shop", "remove", "run"]]


# ---------------------------------------------------------------------------------------------- what is on S3


def a_database(app: App, backed_up: bool) -> None:
    backup = {"bucket": "b", "prefix": "shop", "region": "r"} if backed_up else None
    names = [{"name": "shop.db", "path": str(app.data / "shop.db")}]
    told = {"engine": "sqlite", "user": "shop", "litestream": "/x", "unsafe_checkpoints": "refuse", "databases": names}
    app.database.write_text(json.dumps({**told, "backup": backup}))
    app.data.mkdir(parents=True)
    for name in ("shop.db", "shop.db-wal", "shop.db-shm"):
        (app.data / name).write_text("1")
    (app.data / ".shop.db-litestream").mkdir()
    (app.data / ".shop.db-litestream/ltx").write_text("2")


def test_what_is_proven_is_deleted_and_what_is_not_is_moved(world: World, tmp_path: Path) -> None:
    a_database(world.app, backed_up=True)
    assert data.remove(world.app, True, tmp_path) == []
    assert list(world.app.data.iterdir()) == []
    (world.app.data / "avatar.png").write_text("123")
    assert data.remove(world.app, True, tmp_path) == [{"path": str(tmp_path / "data"), "bytes": 3}]
    assert not world.app.data.exists()


def test_a_database_without_a_proof_is_moved_whole(world: World, tmp_path: Path) -> None:
    a_database(world.app, backed_up=False)
    (world.app.points / "x").mkdir(parents=True)
    (world.app.points / "x/shop.db").write_text("1")
    assert not data.streams(world.app)
    moved = data.remove(world.app, False, tmp_path)
    assert [Path(one["path"]).name for one in moved] == ["data", "points"]
    assert (tmp_path / "data/shop.db-wal").read_text() == "1"
    assert data.remove(world.app, False, tmp_path) == moved


def test_what_another_host_has_taken_over_is_not_in_the_backup(world: World) -> None:
    a_database(world.app, backed_up=True)
    assert data.streams(world.app)
    world.app.backup.mkdir(parents=True)
    (world.app.backup / "superseded.json").write_text('{"why": "another host took over"}')
    assert not data.streams(world.app)


@pytest.mark.parametrize("backed_up", [True, False])
def test_a_cluster_is_archived_to_its_end_before_it_is_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch, backed_up: bool
) -> None:
    did: list[str] = []
    backup = {"bucket": "b", "prefix": "shop", "region": "r"} if backed_up else None
    told = {"engine": "postgres", "user": "shop", "name": "shop", "pool": 1, "lock_timeout": 5, "backup": backup}
    world.app.database.write_text(json.dumps(told))
    monkeypatch.setattr("hostctl.postgres.archive.replication.archive_all", lambda app, host: did.append("flush"))
    monkeypatch.setattr("hostctl.postgres.server.cluster.stop", lambda app, host: did.append("stop"))
    assert data.send_all(world.app, world) is backed_up  # type: ignore[arg-type]
    assert did == (["flush", "stop"] if backed_up else ["stop"])


def test_a_cluster_that_is_proven_is_deleted_but_for_what_lies_aside(world: World, tmp_path: Path) -> None:
    told = {"engine": "postgres", "user": "shop", "name": "shop", "pool": 1, "lock_timeout": 5, "backup": None}
    world.app.database.write_text(json.dumps(told))
    for name in ("data/PG_VERSION", "aside/20260101T000001000Z-abcdef/data/PG_VERSION", "log/x.log"):
        (world.app.cluster / name).parent.mkdir(parents=True)
        (world.app.cluster / name).write_text("17")
    (world.app.cluster / "bin").symlink_to("/usr/lib/postgresql/17/bin")
    (moved,) = data.remove(world.app, True, tmp_path)
    assert moved == {"path": str(tmp_path / "cluster"), "bytes": 2}
    assert not world.app.cluster.exists()


# ---------------------------------------------------------------------------------------------- kill -9


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=st.integers(0, 90), second=st.integers(0, 90), keep=st.booleans())
def test_killed_anywhere_the_same_command_ends_it(
    new_world: Callable[[], World], first: int, second: int, keep: bool
) -> None:
    world = new_world()
    machine = furnished(world)
    before = of(world, OTHER)
    killed(world.root, first, lambda: removed(world, machine, keep_data=keep), may_fail=True)
    killed(world.root, second, lambda: remove.run(world.app, world, machine), may_fail=True)  # type: ignore[arg-type]
    assert journal.unfinished(world.app) == []
    if remove.unfinished(world.app) or remove.newest(world.app) is None:
        assert removed(world, machine, keep_data=keep)["ok"]
    result = (remove.newest(world.app) or {})["result"]
    assert result["ok"]
    assert of(world, OTHER) == before
    left = {path.split("/")[-1] for path in of(world, "shop") if path.count("/") == 2}
    assert of(world, "shop") == set() if not keep else left <= {"homeport", "shop", "uploads"}
    assert ("shop" in machine.own_users) is keep
    kept = Path(result["note"]) / "data" if not keep else world.app.data
    assert (kept / "uploads/a.png").read_text() == "{}"


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=st.integers(0, 60), second=st.integers(0, 60))
def test_killed_while_it_is_taken_back_it_is_taken_back(
    new_world: Callable[[], World], first: int, second: int
) -> None:
    world = new_world()
    machine = furnished(world)
    before, ran = of(world, "shop"), set(world.running)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "send_all", _refuse)
        killed(world.root, first, lambda: removed(world, machine), may_fail=True)
        killed(world.root, second, lambda: remove.run(world.app, world, machine), may_fail=True)  # type: ignore[arg-type]
        remove.run(world.app, world, machine)  # type: ignore[arg-type]
    if remove.newest(world.app) is not None:
        assert (remove.newest(world.app) or {})["result"]["reverted"]
    ignored = {f"var/lib/homeport/shop/{name}" for name in ("lock", "lock.json", "start.lock", ".lock.json.new")}
    assert of(world, "shop") - ignored == before - ignored
    assert world.running == ran


def _refuse(app: App, host: object) -> bool:
    raise HostError("the bucket is away", "s3://backups", "deploy backup status")


def test_the_id_of_a_removal_is_an_id(world: World) -> None:
    removed(world, furnished(world))
    assert matches("transition", (remove.newest(world.app) or {})["id"])
