"""What was moved aside is told, and deleted by a person's word alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostctl import cli
from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.core import audit
from hostctl.core.paths import App, Layout
from hostctl.journal import journal
from hostctl.notify import alerts
from hostctl.verbs import kept

RESTORED, MOVED, CLUSTER = "20261101T120000000Z-000001", "20261102T120000000Z-000002", "20261103T120000000Z-000003"
MB = 1 << 20


@pytest.fixture
def app(tmp_path: Path) -> App:
    """An app with three things aside: of a restore, of nobody knows what, and a cluster."""
    found = Layout(tmp_path).app("shop")
    for path in (found.aside / RESTORED / "old", found.aside / MOVED, found.cluster / "aside" / CLUSTER / "old/base/1"):
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"x" * MB)
    (found.aside / "not-an-id").mkdir()
    ended(found, RESTORED, {"result": "live"})
    return found


def ended(app: App, name: str, result: dict[str, object] | None) -> None:
    app.transitions.parent.mkdir(parents=True, exist_ok=True)
    entry = journal.create(app, name, "restore", None, "ann", "laptop")
    entry.set(kept={"since": 1_793_448_000.0}, result=result)


def test_what_lies_aside_is_told_with_its_size_and_why(app: App) -> None:
    found = kept.every(app)
    assert [one["id"] for one in found] == [RESTORED, MOVED, CLUSTER]
    assert all(MB <= one["bytes"] < 2 * MB for one in found)
    assert [one["why"] for one in found] == [
        "what was live before the restore of ann to 2026-10-31 12:00:00 UTC",
        "",
        "",
    ]
    assert found[2]["path"] == str(app.cluster / "aside" / CLUSTER)
    assert kept.space(app)["count"] == 3
    assert kept.space(app)["bytes"] == sum(one["bytes"] for one in found)


def test_where_nothing_was_ever_moved_there_is_nothing(tmp_path: Path) -> None:
    app = Layout(tmp_path).app("shop")
    assert (kept.every(app), kept.space(app)) == ([], {"count": 0, "bytes": 0})


@pytest.mark.parametrize("name", [RESTORED, MOVED, CLUSTER])
def test_only_what_is_named_is_forgotten_and_the_audit_tells(app: App, name: str) -> None:
    told = kept.forget(app, name, "bob", "desk")
    assert told["id"] == name
    assert not Path(told["path"]).exists()
    assert {one["id"] for one in kept.every(app)} == {RESTORED, MOVED, CLUSTER} - {name}
    assert (app.aside / "not-an-id").exists()
    line = audit.read(app, 1)[0]
    assert (line["who"], line["from"], line["verb"]) == ("bob", "desk", "backup forget")
    assert name in line["message"]


@pytest.mark.parametrize("name", ["", "20261104T120000000Z-000004", "not-an-id", "../transitions"])
def test_what_is_not_there_cannot_be_forgotten(app: App, name: str) -> None:
    with pytest.raises(HostError) as refused:
        kept.forget(app, name, "bob", "desk")
    assert refused.value.code == USAGE
    assert len(kept.every(app)) == 3


def test_what_a_transition_under_way_may_need_stays(app: App) -> None:
    ended(app, CLUSTER, None)
    with pytest.raises(HostError) as refused:
        kept.forget(app, CLUSTER, "bob", "desk")
    assert refused.value.code == LOCKED
    kept.forget(app, MOVED, "bob", "desk")
    assert [one["id"] for one in kept.every(app)] == [RESTORED, CLUSTER]


def test_what_a_killed_one_left_half_deleted_is_not_offered_and_goes_with_the_next(app: App) -> None:
    (app.aside / MOVED).rename(app.aside / f"{kept.GONE}{MOVED}")
    assert [one["id"] for one in kept.every(app)] == [RESTORED, CLUSTER]
    kept.forget(app, RESTORED, "bob", "desk")
    assert sorted(path.name for path in app.aside.iterdir()) == ["not-an-id"]


@pytest.mark.parametrize(("size", "count"), [(199, 0), (201, 1)])
def test_a_fifth_of_the_disk_aside_is_trouble(size: int, count: int) -> None:
    disk = {"free": 500, "total": 1000, "inodes": 10, "inodes_free": 9}
    told = {"disk": disk, "aside": {"count": 2, "bytes": size}, "backup": None}
    assert len(alerts.of_database(told, 0.0)) == count


def test_an_id_is_taken_on_the_command_line_only_as_one() -> None:
    assert cli.parse("backup", ["forget", "--id", MOVED, "--plan"]).id == MOVED
    assert cli.parse("backup", ["list"]).id is None
    with pytest.raises(HostError) as refused:
        cli.parse("backup", ["forget", "--id", "../x"])
    assert refused.value.code == USAGE
