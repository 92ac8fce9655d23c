"""Runs before every start of Litestream: decides which epoch to replicate into, and restores missing databases.

It runs as root, for the state of the backup is root's. What it does in the app's directory, the app's user does.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hostctl.backup import epochs as backup_epochs
from hostctl.backup import settings, state
from hostctl.backup.epochs import BucketState, Decision, Epoch
from hostctl.backup.settings import Backup, Database, Databases
from hostctl.common.errors import PERSON, HostError
from hostctl.common.files import Json, make_directory, remove_tree, unlink, write_atomic
from hostctl.common.names import transition_id
from hostctl.core.paths import App
from hostctl.host.boundary import handles, trees
from hostctl.host.boundary.handles import Directory
from hostctl.host.host import Host
from hostctl.sqlite.database import file_swap, owner, scratch
from hostctl.sqlite.stream import litestream

_OLD_STAGE = re.compile(r"\.homeport-[0-9a-f]{8}")


def prepare(app: App, host: Host) -> Json:
    """Prepare the start of Litestream. Returns the decision and what was done.

    Raises HostError when nothing may be replicated; the reason is stored for `start` and for the monitor.
    """
    dbs = settings.require(app)
    if dbs.backup is None:
        return {"made": create_main(dbs)}
    if state.running(app) is not None:
        state.require_full(app, "Litestream ended without being stopped")
    try:
        document = _prepare(app, dbs, host)
    except HostError as error:
        state.refuse_start(app, error, again=error.code != PERSON)
        raise
    state.clear_refusal(app)
    state.disallow_empty(app)
    state.started(app, fingerprint(app, host))
    return document


def create_main(dbs: Databases) -> bool:
    """Create the main database if it is missing; returns whether it was created."""
    if dbs.main.exists:
        return False
    owner.create(dbs.user, dbs.main.path)
    return True


def fingerprint(app: App, host: Host) -> str:
    """A digest of all settings that Litestream starts with: when it differs, Litestream needs a restart."""
    local = backup_epochs.local(app)
    parts = [host.systemd.text(app.stream_unit), local.epoch if local else ""]
    parts += [_text(path) for path in (app.database, app.backup_credentials)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _prepare(app: App, dbs: Databases, host: Host) -> Json:
    local, file = backup_epochs.local(app), dbs.main.exists
    # the app waits for this; with an epoch and a file here, replication may start without an answer of S3
    bucket, unanswered = backup_epochs.try_read_bucket(app, hurried=local is not None and file)
    decision = backup_epochs.decide(local, file, bucket, state.empty_allowed(app))
    done = _act(app, dbs, decision, local, bucket, unanswered, host)
    current = backup_epochs.local(app)
    assert current is not None  # noqa: S101 - every path through _act ends with an epoch
    remove_tree(_stage(app))  # of a restore that was killed after its last step
    _remove_old_stages(dbs)
    litestream.adopt(dbs, current.epoch)
    _write_configuration(app, dbs, current.epoch)
    return {"decision": decision.name.lower(), "epoch": current.epoch, **done}


def _write_configuration(app: App, dbs: Databases, epoch: str) -> None:
    """Write Litestream's configuration, which has no secret, to a directory of root's; its socket lies beneath."""
    make_directory(app.stream_runtime, 0o755)
    write_atomic(app.stream_runtime / "litestream.yml", litestream.config(app, dbs, epoch).encode(), 0o644)
    unlink(app.stream_runtime / litestream.OLD_SOCKET)
    with Directory(app.stream_runtime) as directory:
        if directory.stat(litestream.SOCKETS) is None:  # systemd makes it, but for the unit of an older Homeport
            directory.make(litestream.SOCKETS)


def _remove_old_stages(dbs: Databases) -> None:
    """Remove what an older Homeport, killed while it restored, left in the app's directory."""
    with handles.owned(dbs.main.directory) as directory:
        for name in filter(_OLD_STAGE.fullmatch, directory.names()):
            found = directory.stat(name)
            if found is not None and found.st_uid == os.geteuid():
                trees.remove(directory, name)


def _act(
    app: App,
    dbs: Databases,
    decision: Decision,
    local: Epoch | None,
    bucket: BucketState,
    unanswered: HostError | None,
    host: Host,
) -> Json:
    assert dbs.backup is not None  # noqa: S101 - checked by prepare
    if decision is Decision.STREAM:
        return _continue(app, dbs, dbs.backup, bucket)
    if decision is Decision.PUBLISH:
        backup_epochs.publish(app, backup_epochs.bucket(app))
        return {}
    if decision is Decision.RESTORE:
        return _restore(app, dbs, dbs.backup, bucket, host)
    if decision in (Decision.EMPTY, Decision.EMPTY_LATER):
        return _first(app, dbs, dbs.backup, None, decision is Decision.EMPTY)
    if decision in (Decision.FIRST, Decision.REOPEN):
        return _first(app, dbs, dbs.backup, local, True)
    if decision is Decision.SUPERSEDED and bucket.current is not None:
        backup_epochs.mark_superseded(app, bucket.current)
        raise backup_epochs.superseded_error(bucket.current, backup_epochs.bucket(app))
    raise backup_epochs.start_refusal(app, decision, bucket, unanswered, dbs.main.path, dbs.backup.prefix)


def _first(app: App, dbs: Databases, backup: Backup, parent: Epoch | None, publish: bool) -> Json:
    """Begin an epoch in a bucket that names none; `parent` is the epoch that this host had. Returns `made`."""
    made = create_main(dbs)
    epoch = backup_epochs.new_local(app, backup, parent, "the bucket named no epoch")
    backup_epochs.save(app, backup, epoch._replace(replaces=None))
    if publish:
        backup_epochs.publish(app, backup_epochs.bucket(app))
    return {"made": made}


def _continue(app: App, dbs: Databases, backup: Backup, bucket: BucketState) -> Json:
    """Stream into the epoch of this host, and restore missing files of `extra`."""
    local = backup_epochs.local(app)
    assert local is not None  # noqa: S101 - the decision requires it
    if not bucket.asked:
        return {}
    backup_epochs.save(app, backup, local._replace(published=True, replaces=None))
    if len(dbs.existing()) == len(dbs.databases):
        return {}
    return {"restored": _restore_missing(app, dbs, backup_epochs.chain(backup_epochs.bucket(app)))}


# ---------------------------------------------------------------------------------------------- restoring


def _restore(app: App, dbs: Databases, backup: Backup, bucket: BucketState, host: Host) -> Json:
    """Restore from the bucket, and replicate into a new epoch of this host."""
    begun = time.time()
    epochs = backup_epochs.chain(backup_epochs.bucket(app))
    live = app.live()
    if live is not None:
        # it may have a file open that is replaced
        host.systemd.stop(app.unit(live))
    restored = _restore_missing(
        app, dbs, epochs, lambda: backup_epochs.new_local(app, backup, bucket.current, "restored on a new host")
    )
    backup_epochs.publish(app, backup_epochs.bucket(app))
    if live is not None:
        host.systemd.start(app.unit(live))
    return {"restored": restored, "seconds": round(time.time() - begun, 3), "started": live}


def _stage(app: App) -> Path:
    """The directory of restored files, before they are moved to their places."""
    return app.state / "restored"


def _restore_missing(
    app: App, dbs: Databases, epochs: Sequence[Epoch], complete: Callable[[], object] | None = None
) -> list[str]:
    """Restore every missing database; returns their names. One that no epoch has stays missing.

    Calls `complete` when all are fetched, before they are moved to their places. Raises HostError when no epoch has the
    main one.
    """
    stage = _stage(app)
    scratch.make(stage, dbs.user)
    try:
        missing = [database for database in dbs.databases if not database.exists]
        fetched = [database for database in missing if _fetch(app, dbs, epochs, database, stage)]
        if not dbs.main.exists and dbs.main not in fetched:
            raise backup_epochs.lost_error(dbs.backup.prefix if dbs.backup else "")
        if complete is not None:
            complete()
        for database in fetched:
            _place(app, dbs, database, stage / database.name)
    finally:
        remove_tree(stage)
    return [database.name for database in fetched]


def _fetch(app: App, dbs: Databases, epochs: Sequence[Epoch], database: Database, stage: Path) -> bool:
    return litestream.fetch(app, dbs, epochs, database.name, stage / database.name) is not None


def _place(app: App, dbs: Databases, database: Database, source: Path) -> None:
    """Move the database to its place, after moving leftover sidecars to the kept data: another database's log would
    destroy it.
    """
    with handles.owned(database.directory) as live:
        left = [name for name in file_swap.sidecar_names(database.name) if live.stat(name) is not None]
        if left:
            _keep(live, left, app.aside / transition_id())
    owner.place(dbs.user, source, database.path)


def _keep(live: Directory, names: Sequence[str], directory: Path) -> None:
    make_directory(directory, 0o700)
    with Directory(directory) as kept:
        for name in names:
            trees.move(live, name, kept, Path(name).name)
