"""The replication of a cluster: decides which copy is current, creates or restores a missing cluster, and sets the
epoch of the archive.

The server archives its WAL and the WAL stream sends the rest. This module configures both, so that they never overwrite
the copy of another host. A new epoch requires a full base backup: nothing can be restored from it before.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypedDict

from hostctl.backup import epochs, settings, state, units
from hostctl.backup.epochs import BucketState, Decision, Epoch
from hostctl.backup.settings import Backup
from hostctl.common.errors import HostError
from hostctl.common.files import make_directory, read_json, sync_directory, write_json
from hostctl.common.names import transition_id
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres.archive import pgbackrest, timelines, wal_stream
from hostctl.postgres.server import cluster, create, roles, scratch_server

POLL = 0.1
ARCHIVED = 120.0  # seconds that the archiver may take for all waiting segments
STATUS = "deploy backup status"


class StartOutcome(TypedDict, total=False):
    """What a start decided and did: `made` a cluster, or `restored` a base backup in some seconds."""

    decision: str
    changed: bool
    paused: object
    superseded: object
    made: bool
    restored: str
    seconds: float


# ---------------------------------------------------------------------------------------------- start


def start(app: App, host: Host, allow_empty: bool = False) -> StartOutcome:
    """Start the server with its configuration, and its archiving. Restore or create a cluster that is missing.

    Returns whether anything was changed. Raises HostError.
    """
    config = cluster.require(app)
    make_directory(app.backup, 0o700)
    cluster.make_directories(app)
    if config.backup is None:
        created = create.create(app, host)
        return {"changed": _start_server(app, host) or created}
    if (paused := state.paused(app)) is not None:
        return {"changed": False, "paused": paused}
    with state.exclusive(app):
        outcome = _follow_decision(app, host, config.backup, allow_empty)
        changed = _archive(app, host, bool(outcome.get("changed")))
    if state.full_required(app) is not None:
        start_backup(app, host)
    return {**outcome, "changed": changed}


def _follow_decision(app: App, host: Host, backup: Backup, allow_empty: bool) -> StartOutcome:
    """Decide which copy is current, and act on it; returns the decision and what was done."""
    own_epoch, present = epochs.local(app), settings.has_data(app)
    bucket, unanswered = epochs.try_read_bucket(app, hurried=own_epoch is not None and present)
    decision = epochs.decide(own_epoch, present, bucket, allow_empty)
    outcome: StartOutcome = {"decision": decision.name.lower()}
    if decision is Decision.STREAM:
        if bucket.asked and own_epoch is not None:
            epochs.save(app, backup, own_epoch._replace(published=True, replaces=None))
        return outcome
    if decision is Decision.SUPERSEDED and bucket.current is not None:
        # this host archives into an epoch of its own, so it overwrites nothing
        return {**outcome, "superseded": epochs.mark_superseded(app, bucket.current)}
    return {**outcome, "changed": True, **_act(app, host, backup, decision, own_epoch, bucket, unanswered)}


def _act(
    app: App,
    host: Host,
    backup: Backup,
    decision: Decision,
    own_epoch: Epoch | None,
    bucket: BucketState,
    unanswered: HostError | None,
) -> StartOutcome:
    if decision is Decision.PUBLISH:
        epochs.publish(app, epochs.bucket(app))
        return {}
    if decision is Decision.RESTORE and bucket.current is not None:
        return _restore(app, host, backup, bucket.current)
    if decision in (Decision.EMPTY, Decision.EMPTY_LATER):
        return _open_first(app, host, backup, None, decision is Decision.EMPTY)
    if decision in (Decision.FIRST, Decision.REOPEN):
        return _open_first(app, host, backup, own_epoch, True)
    raise epochs.start_refusal(app, decision, bucket, unanswered, app.cluster_data, backup.prefix)


def _open_first(app: App, host: Host, backup: Backup, parent: Epoch | None, publish: bool) -> StartOutcome:
    """Open an epoch that continues no copy in the bucket, with a new cluster if there is none."""
    created = create.create(app, host)
    own_epoch = epochs.new_local(app, backup, parent, "the bucket named no epoch")
    epochs.save(app, backup, own_epoch._replace(replaces=None))
    state.require_full(app, "the epoch is new")
    if publish:
        epochs.publish(app, epochs.bucket(app))
    return {"made": created}


def _restore(app: App, host: Host, backup: Backup, current: Epoch) -> StartOutcome:
    """Restore the current copy, and continue it in an epoch of this host."""
    started, into = time.time(), app.cluster / "fetched"
    cluster.make_directories(app)
    if not app.cluster_bin.is_symlink():
        cluster.use_version(app, cluster.installed_majors()[-1])
    pgbackrest.configure(app, current.epoch)
    restored = pgbackrest.restore(app, into)
    cluster.use_version(app, cluster.data_major(into))
    with scratch_server.recovered(app, host, into, restored.settings, archive=True) as (server, _):
        roles.converge(server, cluster.require(app))  # then shut down cleanly, on a timeline of its own
    epochs.new_local(app, backup, current, "restored on a new host")
    state.require_full(app, "restored on a new host")
    _place(app, into)
    epochs.publish(app, epochs.bucket(app))
    return {"restored": restored.label, "seconds": round(time.time() - started, 3)}


def _place(app: App, source: Path) -> None:
    """Rename a data directory to the cluster's; an invalid one in its place is kept in `aside`."""
    if app.cluster_data.exists():
        kept = app.cluster / "aside" / transition_id()
        make_directory(kept, 0o700)
        app.cluster_data.rename(kept / "data")
    source.rename(app.cluster_data)
    sync_directory(app.cluster)


# ---------------------------------------------------------------------------------------------- server and WAL stream


def _start_server(app: App, host: Host) -> bool:
    """Start the server and apply its configuration; returns whether anything was changed."""
    was_running = host.systemd.show(app.cluster_unit)[0].runs
    cluster.start(app, host)
    changed = bool(cluster.apply_configuration(app, host))
    roles.converge(cluster.live_server(app), cluster.require(app))
    roles.require_access(cluster.live_server(app), host.sleep)
    return changed or not was_running


def _archive(app: App, host: Host, moved: bool) -> bool:
    """Start the server, its archiving and the WAL stream for this host's epoch; returns whether it changed anything."""
    own_epoch = epochs.local(app)
    if own_epoch is None:
        raise HostError("this host has no epoch", str(app.backup), STATUS)
    reconfigured = pgbackrest.configure(app, own_epoch.epoch)
    ensure_repository(app)
    server_changed = _start_server(app, host)
    timelines.record_live(app)
    stream_started = ensure_wal_stream(app, host, reconfigured or moved)
    return reconfigured or server_changed or stream_started or moved


def ensure_repository(app: App) -> bool:
    """Create the epoch's repository; False while S3 does not answer: the monitor tries again."""
    own_epoch = epochs.local(app)
    record = app.backup / "prepared.json"
    if own_epoch is None or (read_json(record) or {}).get("epoch") == own_epoch.epoch:
        return own_epoch is not None
    try:
        epochs.bucket(app, hurried=True).check()  # pgBackRest takes long to report it
        pgbackrest.create_repository(app)
    except HostError:
        return False
    write_json(record, {"epoch": own_epoch.epoch, "at": time.time()})
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
    """Archive into another epoch of this host from now on; it requires a full base backup. Raises HostError.

    `at`: the instant whose data the server continues, where that is known.
    """
    pgbackrest.configure(app, epoch.epoch)
    state.require_full(app, epoch.why or "the epoch is new")
    timelines.record_live(app, at)
    ensure_repository(app)
    ensure_wal_stream(app, host, anew=True)


# ---------------------------------------------------------------------------------------------- waiting


def archive_all(app: App, host: Host, patience: float = ARCHIVED) -> None:
    """End the current segment, and wait until all segments are archived. Raises HostError."""
    ((last,),) = cluster.administer(cluster.live_server(app), "SELECT pg_walfile_name(pg_switch_wal())")
    started = host.clock()
    while waiting := unarchived(app, last):
        if host.clock() - started > patience:
            what = f"{len(waiting)} segments of WAL are not archived after {patience:.0f} s: {archive_error(app)}"
            raise HostError(what, "the backup on S3", STATUS)
        host.sleep(POLL)


def unarchived(app: App, until: str = "~") -> list[str]:
    """The names of the segments, history files and backup labels that wait to be archived, up to a segment."""
    names = (path.name.removesuffix(".ready") for path in (app.cluster_data / "pg_wal/archive_status").glob("*.ready"))
    return sorted(name for name in names if name <= until)


def archive_error(app: App) -> str:
    """The archiver's last error."""
    if (app.cluster / "dropping").exists():
        return "WAL is dropped now"
    return pgbackrest.last_error(app) or "the archiver reports no error"


def wait_until_stored(app: App, patience: float, host: Host) -> None:
    """Wait until everything that is committed now is on S3, in the archive or the WAL stream. Raises HostError."""
    timeline = timelines.live_timeline(app)
    ((flushed,),) = cluster.query(cluster.live_server(app), "SELECT pg_current_wal_flush_lsn()")
    lsn, started = timelines.parse_lsn(flushed), host.clock()
    while not wal_stream.has_sent(app, timeline, lsn):
        if host.clock() - started > patience:
            state = wal_stream.last_state(app)
            error = (state and state["error"]) or "the WAL stream reports no error"
            raise HostError(f"the last write is not on S3 after {patience:.0f} s: {error}", app.tail_unit, STATUS)
        host.sleep(POLL)
