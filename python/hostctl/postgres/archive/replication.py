"""`hostctl APP stream ACTION` for PostgreSQL: which copy counts, a cluster that is not here, what is archived where.

The server itself archives, and the tail streams; this sees that they know where to, and that nothing of another host's
is overwritten. An epoch is worth something once it has a base backup: until then one is owed.
"""

from __future__ import annotations

import time
from pathlib import Path

from hostctl.backup import epochs, settings, state, units
from hostctl.backup.epochs import BucketState, Decision, Epoch
from hostctl.backup.settings import Backup
from hostctl.common.errors import HostError
from hostctl.common.files import Json, make_directory, read_json, sync_directory, write_json
from hostctl.common.names import transition_id
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres.archive import pgbackrest, timelines, wal_stream
from hostctl.postgres.server import cluster, create, scratch_server
from hostctl.sqlite.stream.replication import BusyError as BusyError
from hostctl.sqlite.stream.replication import exclusive as exclusive

POLL = 0.1
ARCHIVED = 120.0  # seconds that the archiver may take for what waits
AGAIN = "deploy backup status tells what is so now"


# ---------------------------------------------------------------------------------------------- start


def start(app: App, host: Host, allow_empty: bool = False) -> Json:
    """See that the server runs as it is configured, and is archived; returns whether anything was changed.

    Restores, or makes, a cluster that is not here. Raises HostError.
    """
    wanted = cluster.require(app)
    make_directory(app.backup, 0o700)
    if wanted.backup is None:
        made = create.create(app)
        return {"changed": _run(app, host) or made}
    if (paused := state.paused(app)) is not None:
        return {"changed": False, "paused": paused}
    with exclusive(app):
        told = _decided(app, wanted.backup, host, allow_empty)
        changed = _archive(app, host, bool(told.get("changed")))
    if state.full_required(app) is not None:
        start_backup(app, host)
    return {**told, "changed": changed}


def _decided(app: App, backup: Backup, host: Host, allow_empty: bool) -> Json:
    mine, present = epochs.local(app), settings.has_data(app)
    seen, unanswered = epochs.try_read_bucket(app, hurried=mine is not None and present)
    decision = epochs.decide(mine, present, seen, allow_empty)
    told: Json = {"decision": decision.name.lower()}
    if decision is Decision.STREAM:
        if seen.asked and mine is not None:
            epochs.save(app, backup, mine._replace(published=True, replaces=None))
        return told
    if decision is Decision.SUPERSEDED and seen.current is not None:
        # what is archived goes into an epoch of this host's own, where it harms nobody
        return {**told, "superseded": epochs.mark_superseded(app, seen.current)}
    return {**told, "changed": True, **_act(app, backup, decision, mine, seen, unanswered)}


def _act(
    app: App, backup: Backup, decision: Decision, mine: Epoch | None, seen: BucketState, unanswered: HostError | None
) -> Json:
    if decision is Decision.PUBLISH:
        epochs.publish(app, epochs.bucket(app))
        return {}
    if decision is Decision.RESTORE and seen.current is not None:
        return _restore(app, backup, seen.current)
    if decision in (Decision.EMPTY, Decision.EMPTY_LATER):
        return _first(app, backup, None, decision is Decision.EMPTY)
    if decision in (Decision.FIRST, Decision.REOPEN):
        return _first(app, backup, mine, True)
    raise epochs.start_refusal(app, decision, seen, unanswered, app.cluster_data, backup.prefix)


def _first(app: App, backup: Backup, parent: Epoch | None, publish: bool) -> Json:
    """An epoch that goes on from nothing that is in the bucket."""
    made = create.create(app)
    mine = epochs.new_local(app, backup, parent, "the bucket named no epoch")
    epochs.save(app, backup, mine._replace(replaces=None))
    state.require_full(app, "the epoch is new")
    if publish:
        epochs.publish(app, epochs.bucket(app))
    return {"made": made}


def _restore(app: App, backup: Backup, current: Epoch) -> Json:
    """Bring back what the copy has, and go on from it in an epoch of this host's own."""
    begun, into = time.time(), app.cluster / "fetched"
    cluster.make_directories(app)
    if not app.cluster_bin.is_symlink():
        cluster.use_version(app, cluster.installed_majors()[-1])
    pgbackrest.configure(app, current.epoch)
    restored = pgbackrest.restore(app, into)
    cluster.use_version(app, cluster.data_major(into))
    with scratch_server.recovered(app, into, restored.settings, archive=True):
        pass  # stopped clean, on a timeline of its own
    epochs.new_local(app, backup, current, "restored on a new host")
    state.require_full(app, "restored on a new host")
    _place(app, into)
    epochs.publish(app, epochs.bucket(app))
    return {"restored": restored.label, "seconds": round(time.time() - begun, 3)}


def _place(app: App, source: Path) -> None:
    """To the cluster's name; what bears it without being one goes aside."""
    if app.cluster_data.exists():
        grave = app.cluster / "aside" / transition_id()
        make_directory(grave, 0o700)
        app.cluster_data.rename(grave / "data")
    source.rename(app.cluster_data)
    sync_directory(app.cluster)


# ---------------------------------------------------------------------------------------------- what runs


def _run(app: App, host: Host) -> bool:
    """The server runs, with its configuration as it is now; returns whether it did not."""
    ran = host.systemd.show(app.cluster_unit)[0].runs
    cluster.start(app, host)
    return bool(cluster.apply_configuration(app, host)) or not ran


def _archive(app: App, host: Host, moved: bool) -> bool:
    """Server, repository and tail of this host's epoch; returns whether anything was changed."""
    mine = epochs.local(app)
    if mine is None:
        raise HostError("this host has no epoch", str(app.backup), AGAIN)
    configured = pgbackrest.configure(app, mine.epoch)
    ensure_repository(app)
    ran = _run(app, host)
    timelines.record_live(app)
    streams = ensure_wal_stream(app, host, configured or moved)
    return configured or ran or streams or moved


def ensure_repository(app: App) -> bool:
    """Create the epoch's repository; False while S3 does not answer: the monitor tries again."""
    mine = epochs.local(app)
    prepared = app.backup / "prepared.json"
    if mine is None or (read_json(prepared) or {}).get("epoch") == mine.epoch:
        return mine is not None
    try:
        epochs.bucket(app, hurried=True).check()  # pgBackRest takes its time to find out
        pgbackrest.create_repository(app)
    except HostError:
        return False
    write_json(prepared, {"epoch": mine.epoch, "at": time.time()})
    return True


def ensure_wal_stream(app: App, host: Host, anew: bool) -> bool:
    """Start the WAL stream; with `anew` restart it for another epoch. Returns whether it was started."""
    if host.systemd.show(app.tail_unit)[0].runs and not anew:
        return False
    host.systemd.stop(app.tail_unit)
    host.systemd.start(app.tail_unit)
    return True


def start_backup(app: App, host: Host) -> None:
    """Start a backup in a unit of its own, unless one runs. Raises HostError."""
    if not host.systemd.show(units.run_unit(app))[0].runs:
        units.start_run(app, host)


def switch_epoch(app: App, host: Host, epoch: Epoch, at: float | None = None) -> None:
    """Archive into another epoch of this host's from now on; a base backup is owed. Raises HostError.

    `at`: the instant whose data the server goes on from, where that is known.
    """
    pgbackrest.configure(app, epoch.epoch)
    state.require_full(app, epoch.why or "the epoch is new")
    timelines.record_live(app, at)
    ensure_repository(app)
    ensure_wal_stream(app, host, anew=True)


# ---------------------------------------------------------------------------------------------- until it is there


def archive_all(app: App, host: Host, patience: float = ARCHIVED) -> None:
    """End the current segment, and wait until all segments are archived. Raises HostError."""
    (found,) = cluster.query(cluster.live_server(app), "SELECT pg_walfile_name(pg_switch_wal())")
    begun = host.clock()
    while left := unarchived(app, found[0]):
        if host.clock() - begun > patience:
            what = f"{len(left)} segments of PostgreSQL's log are not archived after {patience:.0f} s: "
            what += archive_error(app)
            raise HostError(what, "the backup on S3", AGAIN)
        host.sleep(POLL)


def unarchived(app: App, until: str = "~") -> list[str]:
    """The segments, histories and backup marks that wait to be archived, up to a segment."""
    names = (path.name.removesuffix(".ready") for path in (app.cluster_data / "pg_wal/archive_status").glob("*.ready"))
    return sorted(name for name in names if name <= until)


def archive_error(app: App) -> str:
    """The archiver's last error, in its own words where they are known."""
    if (app.cluster / "dropping").exists():
        return "they are dropped"
    return pgbackrest.last_error(app) or "the archiver does not say why"


def wait_until_stored(app: App, patience: float, host: Host) -> None:
    """Wait until everything that is committed now is on S3, in the archive or the WAL stream. Raises HostError."""
    timeline = timelines.live_timeline(app)
    (found,) = cluster.query(cluster.live_server(app), "SELECT pg_current_wal_flush_lsn()")
    at, begun = timelines.parse_lsn(found[0]), host.clock()
    while not wal_stream.has_sent(app, timeline, at):
        if host.clock() - begun > patience:
            error = (wal_stream.last_note(app) or {}).get("error") or "the tail does not say why"
            raise HostError(f"what was written is not on S3 after {patience:.0f} s: {error}", app.tail_unit, AGAIN)
        host.sleep(POLL)


# ---------------------------------------------------------------------------------------------- refusing
