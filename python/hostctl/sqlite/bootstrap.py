"""Runs before every start of Litestream: decides which epoch to replicate into, and restores missing databases."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hostctl.backup import epochs as backup_epochs
from hostctl.backup import settings, state
from hostctl.backup.epochs import BucketState, Decision, Epoch
from hostctl.backup.settings import Backup, Database, Databases
from hostctl.common.errors import PERSON, HostError
from hostctl.common.files import Json, make_directory, remove_tree, write_atomic
from hostctl.common.names import transition_id
from hostctl.core import moving
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.sqlite import file_swap, files, litestream


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
        told = _prepared(app, dbs, host)
    except HostError as error:
        state.refuse_start(app, error, again=error.code != PERSON)
        raise
    state.clear_refusal(app)
    state.disallow_empty(app)
    state.started(app, fingerprint(app, host))
    return told


def create_main(dbs: Databases) -> bool:
    """Create the main database if it is missing; returns whether it was created."""
    if dbs.main.path.exists():
        return False
    files.create(dbs.main.path, dbs.user)
    return True


def fingerprint(app: App, host: Host) -> str:
    """A digest of all settings that Litestream starts with: when it differs, Litestream needs a restart."""
    mine = backup_epochs.local(app)
    parts = [host.systemd.text(app.stream_unit), mine.epoch if mine else ""]
    parts += [_text(path) for path in (app.database, app.backup_credentials)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _prepared(app: App, dbs: Databases, host: Host) -> Json:
    mine, file = backup_epochs.local(app), dbs.main.path.exists()
    # the app waits for this, and what is here may go on without an answer
    seen, unanswered = backup_epochs.try_read_bucket(app, hurried=mine is not None and file)
    decision = backup_epochs.decide(mine, file, seen, state.empty_allowed(app))
    told = _act(app, dbs, decision, mine, seen, unanswered, host)
    streams = backup_epochs.local(app)
    assert streams is not None  # noqa: S101 - every way through _act ends with an epoch
    litestream.adopt(dbs, streams.epoch)
    make_directory(app.stream_runtime, 0o700)
    write_atomic(app.stream_runtime / "litestream.yml", litestream.config(app, dbs, streams.epoch).encode())
    return {"decision": decision.name.lower(), "epoch": streams.epoch, **told}


def _act(
    app: App,
    dbs: Databases,
    decision: Decision,
    mine: Epoch | None,
    seen: BucketState,
    unanswered: HostError | None,
    host: Host,
) -> Json:
    assert dbs.backup is not None  # noqa: S101 - asked by prepare
    if decision is Decision.STREAM:
        return _go_on(app, dbs, dbs.backup, seen, host)
    if decision is Decision.PUBLISH:
        backup_epochs.publish(app, backup_epochs.bucket(app))
        return {}
    if decision is Decision.RESTORE:
        return _restore(app, dbs, dbs.backup, seen, host)
    if decision in (Decision.EMPTY, Decision.EMPTY_LATER):
        return _first(app, dbs, dbs.backup, None, decision is Decision.EMPTY)
    if decision in (Decision.FIRST, Decision.REOPEN):
        return _first(app, dbs, dbs.backup, mine, True)
    if decision is Decision.SUPERSEDED and seen.current is not None:
        backup_epochs.mark_superseded(app, seen.current)
        raise backup_epochs.superseded_error(seen.current, backup_epochs.bucket(app))
    raise backup_epochs.start_refusal(app, decision, seen, unanswered, dbs.main.path, dbs.backup.prefix)


def _first(app: App, dbs: Databases, backup: Backup, parent: Epoch | None, publish: bool) -> Json:
    """Begin an epoch without a parent in the bucket."""
    made = create_main(dbs)
    mine = backup_epochs.new_local(app, backup, parent, "the bucket named no epoch")
    backup_epochs.save(app, backup, mine._replace(replaces=None))
    if publish:
        backup_epochs.publish(app, backup_epochs.bucket(app))
    return {"made": made}


def _go_on(app: App, dbs: Databases, backup: Backup, seen: BucketState, host: Host) -> Json:
    mine = backup_epochs.local(app)
    assert mine is not None  # noqa: S101 - decided upon
    if not seen.asked:
        return {}
    backup_epochs.save(app, backup, mine._replace(published=True, replaces=None))
    if all(database.path.exists() for database in dbs.databases):
        return {}
    # extra files only: the main one is there
    return {"restored": _bring(app, dbs, backup_epochs.chain(backup_epochs.bucket(app)))}


# ---------------------------------------------------------------------------------------------- restoring


def _restore(app: App, dbs: Databases, backup: Backup, seen: BucketState, host: Host) -> Json:
    """Restore from the bucket, and replicate into a new epoch of this host."""
    begun = time.time()
    epochs = backup_epochs.chain(backup_epochs.bucket(app))
    live = app.live()
    if live is not None:
        # whatever it has open is not what will be there
        host.systemd.stop(app.unit(live))
    restored = _bring(
        app, dbs, epochs, lambda: backup_epochs.new_local(app, backup, seen.current, "restored on a new host")
    )
    backup_epochs.publish(app, backup_epochs.bucket(app))
    if live is not None:
        host.systemd.start(app.unit(live))
    return {"restored": restored, "seconds": round(time.time() - begun, 3), "started": live}


def _bring(
    app: App, dbs: Databases, epochs: Sequence[Epoch], complete: Callable[[], object] | None = None
) -> list[str]:
    """Restore every database that is not here; those that no epoch has stay absent, but for the main one."""
    stage = dbs.main.path.with_name(f".homeport-{os.urandom(4).hex()}")
    make_directory(stage, 0o700)
    try:
        fetched = [one for one in dbs.databases if not one.path.exists() and _fetched(app, dbs, epochs, one, stage)]
        if not dbs.main.path.exists() and dbs.main not in fetched:
            raise backup_epochs.lost_error(dbs.backup.prefix if dbs.backup else "")
        if complete is not None:
            complete()
        for one in fetched:
            _place(app, dbs, one, stage / one.name)
    finally:
        remove_tree(stage)
    return [one.name for one in fetched]


def _fetched(app: App, dbs: Databases, epochs: Sequence[Epoch], database: Database, stage: Path) -> bool:
    target = stage / database.name
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return litestream.fetch(app, dbs, epochs, database.name, target) is not None


def _place(app: App, dbs: Databases, database: Database, source: Path) -> None:
    """Move the database to its name, after moving leftover sidecar files: another database's log would destroy it."""
    grave = app.aside / transition_id()
    for left in file_swap.sidecar_paths(database.path):
        if os.path.lexists(left):
            make_directory(grave, 0o700)
            moving.move(left, grave / left.name)
    files.place(source, database.path, dbs.user)
