"""pg_upgrade and what is restored from before it, on real servers: another system, archived into an epoch of its own.

One version stands for two: what pg_upgrade makes is another system, whose log no archive of the old one takes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest
from objectstore import Store
from pgworld import Host, directory, numbers, until
from test_restore_archive import RELEASE, Still, begun, exchange, insert, killed, lay, rest, source, work

from hostctl.backup import epochs, settings, state
from hostctl.common.files import Json
from hostctl.core.paths import App, Layout
from hostctl.journal import journal
from hostctl.journal.engine import Work
from hostctl.postgres import push, upgrade
from hostctl.postgres.archive import epoch_branch, replication, timelines
from hostctl.postgres.server import cluster
from hostctl.transitions.steps import restore, switch

sys.path.append(str(Path(__file__).parents[1] / "hostctl"))

from hostworld import KILLER, Killed

VERSION = cluster.installed_majors()[-1]
UPGRADE: Json = {"point": None, "at": 1000.0, "upgrade": {"from": VERSION, "to": VERSION}}


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no edge that could say whether the app is well: it is."""
    monkeypatch.setattr(switch, "verify", lambda _: "well")


def upgraded(host: Host) -> Work:
    """The cluster by a real pg_upgrade, found well."""
    doing = work(host, UPGRADE, "upgrade")
    for name, step in (("fetch", upgrade.prepare), ("data", upgrade.replace), ("verify", restore.verify)):
        doing.journal.begin(name)
        step(doing)
    doing.journal.set(result={"result": "live"})
    return doing


def restored(host: Host, data: Json) -> Work:
    """As `exchange`, found well."""
    doing = exchange(host, data)
    restore.verify(doing)
    doing.journal.set(result={"result": "live"})
    return doing


def system(host: Host) -> str:
    return cluster.control_data(host.server)["Database system identifier"]


def named(host: Host) -> list[epochs.Epoch]:
    """The epoch that counts, and those that it goes back to, as the bucket says."""
    return epochs.chain(epochs.bucket(host.app))


def archived(host: Host) -> None:
    """Everything is written where it belongs, and the watch finds nothing wrong."""
    host.backed_up()
    assert host.watch()["error"] is None
    assert state.full_required(host.app) is None


@pytest.fixture(scope="module")
def running(store: Store) -> Iterator[Host]:
    """A host whose cluster was upgraded: rows 1 and 2, a restore point, row 3, the upgrade, row 4."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(switch, "verify", lambda _: "well")
        made = begun(Host(directory(), store, store.make_bucket("upgraded")))
        try:
            insert(made, 1, 2)
            made.first, made.before, made.point = system(made), rest(), point(made)  # type: ignore[attr-defined]
            insert(made, 3)
            upgraded(made)
            insert(made, 4)
            made.after = rest()  # type: ignore[attr-defined]
            made.upgraded = system(made)  # type: ignore[attr-defined]
            assert made.upgraded != made.first  # type: ignore[attr-defined]
            yield made
        finally:
            made.systemd.power_cut()
            shutil.rmtree(made.root, ignore_errors=True)


def point(host: Host) -> str:
    """A restore point of now."""
    pushed = work(host, None, "push")
    directory = host.app.points / pushed.journal.id
    directory.mkdir(parents=True)
    found, _ = push.take_restore_point(pushed, directory)
    told = {"id": pushed.journal.id, "at": time.time(), "release": RELEASE, "for": RELEASE, **found}
    (directory / "point.json").write_text(json.dumps(told))
    pushed.journal.set(result={"result": "live"})
    return str(pushed.journal.id)


def test_a_restore_from_before_an_upgrade_that_is_undone_leaves_the_archive_as_it_was(running: Any) -> None:
    host, content = running, numbers(running)
    epoch, line = epochs.local(host.app), timelines.load(host.app)
    doing = exchange(host, source(host, host.before))
    assert numbers(host) == [1, 2]
    assert named(host)[0] == epoch
    for _ in range(2):
        restore.put_back(doing)
        restore.forget(doing)
    assert (numbers(host), system(host)) == (content, host.upgraded)
    assert epochs.local(host.app) == epoch
    assert timelines.load(host.app) == line
    assert state.paused(host.app) is None
    doing.journal.set(result={"result": "failed"})
    archived(host)
    assert named(host)[0] == epoch


def test_a_restore_point_of_before_an_upgrade_and_an_instant_of_after_it_come_back_and_are_archived(
    running: Any,
) -> None:
    host, epochs = running, len(named(running))
    restored(host, source(host, point=host.point))
    assert (numbers(host), system(host)) == ([1, 2], host.first)
    assert named(host)[0].why.startswith("restore to ")
    assert len(named(host)) == epochs + 1
    insert(host, 20)
    archived(host)
    restored(host, source(host, host.after))
    assert (numbers(host), system(host)) == ([1, 2, 3, 4], host.upgraded)
    archived(host)


@pytest.mark.parametrize("served", ["data", "fetched"])
def test_killed_while_pg_upgrade_works_the_old_data_is_whole_and_archived_as_before(
    running: Any, monkeypatch: pytest.MonkeyPatch, served: str
) -> None:
    host, content, own, epoch = running, numbers(running), system(running), epochs.local(running.app)

    def cut(_: str, argv: list[str], properties: list[str], output: IO[bytes]) -> int:
        (place,) = [line.partition("=")[2] for line in properties if line.startswith("WorkingDirectory=")]
        process = subprocess.Popen(cluster.as_postgres(argv), cwd=place, env=cluster.environment(), stdout=output)
        server = cluster.Server(Path(), host.app.cluster / served, Path())
        until(lambda: cluster.postmaster_pid(server))
        end(process.pid, *filter(None, [cluster.postmaster_pid(server)]))
        process.wait()
        raise Killed

    monkeypatch.setattr(host.systemd, "foreground", cut)
    doing = work(host, UPGRADE, "upgrade")
    doing.journal.begin("data")
    upgrade._create_cluster(doing, VERSION)
    with pytest.raises(Killed):
        upgrade.replace(doing)
    monkeypatch.undo()
    for _ in range(2):
        upgrade.put_back(doing)
        upgrade.forget(doing)
    doing.journal.set(result={"result": "failed"})
    assert (numbers(host), system(host), epochs.local(host.app)) == (content, own, epoch)
    assert not {"fetched", "upgrade"} & {path.name for path in host.app.cluster.iterdir()}
    archived(host)


def end(*roots: int) -> None:
    """kill -9 of processes and of all that they began, as systemd ends a unit's: none of them is left."""
    for pid in roots:
        os.kill(pid, signal.SIGSTOP)  # so that they begin no more
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in found - {roots[0]}))


def test_a_host_lost_right_after_such_a_restore_comes_back_with_what_was_restored(running: Any, quick: None) -> None:
    host = running
    host.systemd.deferred = []  # it dies before its first base backup
    restored(host, source(host, host.after if system(host) == host.first else host.before))
    insert(host, 100)
    content = numbers(host)
    host.settled()
    host.systemd.power_cut()
    another = Host(directory(), host.store, host.bucket_name)
    try:
        another.start()
        assert numbers(another) == content
    finally:
        another.systemd.power_cut()
        shutil.rmtree(another.root, ignore_errors=True)


def test_a_host_that_was_restored_elsewhere_goes_back_to_before_that_and_is_archived(
    new_host: Callable[..., Host],
) -> None:
    host, another = begun(new_host()), new_host()
    insert(host, 1)
    before = rest()
    insert(host, 2)
    host.settled()
    host.systemd.power_cut()
    another.start()
    restored(another, source(another, before))
    assert numbers(another) == [1]
    archived(another)


# ---------------------------------------------------------------------------------------------- kill -9


class Clocked(Still):
    def clock(self) -> float:
        return 0.0


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: Store) -> Iterator[tuple[App, Clocked]]:
    """An archived app whose server is only said to run, as pg_upgrade and S3 are."""
    app, units = Layout(tmp_path).app("shop"), Clocked()
    for module, name, act in (
        (cluster, "start", units.start),
        (cluster, "stop", units.stop),
        (replication, "archive_all", lambda *_: None),
        (replication, "ensure_repository", lambda _: True),
        (replication, "ensure_wal_stream", lambda *_, **__: True),
        (timelines, "record_live", lambda *_: 1),
        (upgrade, "_pg_upgrade", lambda _: lay(app.cluster / "fetched", "new")),
        (upgrade, "_analyze", lambda _: None),
        # the directories of a test are root's alone
        (cluster, "as_owner", lambda work, _=None: work()),
        (epoch_branch, "_publish", lambda _: None),
    ):
        monkeypatch.setattr(module, name, act)
    app.database.parent.mkdir(parents=True)
    told = store.backup("nowhere")._asdict() | {"ca": None}
    document = {"engine": "postgres", "user": "u", "name": "n", "pool": 1, "lock_timeout": 1, "backup": told}
    app.database.write_text(json.dumps(document))
    settings.save_credentials(app, {"access_key_id": "a", "secret_access_key": "b", "encryption_key": None})
    lay(app.cluster_data, "old")
    cluster.make_directories(app)
    yield app, units
    KILLER.disarm()


@pytest.mark.parametrize("again", [0, 4, 8, 12, 16])
def test_killed_at_any_act_of_an_upgrade_and_of_its_undo_the_old_data_serves_and_is_archived_as_before(
    still: tuple[App, Clocked], again: int
) -> None:
    app, units = still
    backup = settings.backup(app)
    mine = epochs.new_local(app, backup, None, "the first")._replace(published=True)
    after, done = 0, False
    while not done:
        epochs.save(app, backup, mine)
        name = f"20260101T{after:09}Z-aaaaaa"
        entry = journal.create(app, name, "upgrade", RELEASE, "ann", "", settings={}, data=UPGRADE)
        doing = Work(app, entry, units)  # type: ignore[arg-type]
        for step in ("fetch", "data"):
            doing.journal.begin(step)
        done = not killed(app.layout.root, after, partial(upgrade.replace, doing))
        assert not done or (app.cluster_data / "content").read_text() == "new"
        killed(app.layout.root, again, partial(upgrade.put_back, doing))
        for _ in range(2):
            upgrade.put_back(doing)
            upgrade.forget(doing)
        assert (app.cluster_data / "content").read_text() == "old"
        assert units.runs
        assert (epoch := epochs.local(app)) is not None
        assert epoch.epoch == mine.epoch
        assert not app.pgbackrest.exists() or f"/{mine.epoch}/pg" in app.pgbackrest.read_text()
        assert not list((app.cluster / "aside").glob("*"))
        assert not (app.cluster / "fetched").exists()
        assert state.paused(app) is None
        after += 1
    assert after > 15
