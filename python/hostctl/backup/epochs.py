"""Epochs: the backups in the bucket, and which of them is current.

Each host replicates into an epoch of its own. The object CURRENT, changed only by conditional writes, names the current
epoch; every epoch names its parent. So two hosts never write into the same epoch, and a superseded host notices it.
"""

from __future__ import annotations

import enum
import itertools
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from hostctl.backup import s3, settings
from hostctl.backup.settings import Backup
from hostctl.common.documents import Superseded
from hostctl.common.errors import PERSON, USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, unlink, write_json
from hostctl.common.names import epoch_id, matches
from hostctl.common.timestamps import utc
from hostctl.core.paths import App

MAX_CHAIN = 10_000
SHORT_SECONDS = 2.0  # seconds for a connection and for an answer


class Epoch(NamedTuple):
    """One host's copy, under `<prefix>/<epoch>/`. `opened`: seconds since the epoch.

    For this host's own epoch only: `published` says whether CURRENT has named it, `replaces` is the epoch that CURRENT
    must name before it may be changed to this one.
    """

    epoch: str
    app: str
    host: str
    opened: float
    parent: str | None
    why: str = ""
    published: bool = True
    replaces: str | None = None


class BucketState(NamedTuple):
    """The state of the bucket: unknown (not `asked`), or the current epoch and whether the prefix is empty."""

    asked: bool
    current: Epoch | None = None
    empty: bool = True


class Decision(enum.Enum):
    """What a start of the replication does."""

    STREAM = "replicate into this host's epoch"
    PUBLISH = "name this host's epoch in CURRENT, then replicate"
    REOPEN = "open an epoch from the local database: CURRENT is gone"
    FIRST = "open the first epoch from the local database"
    EMPTY = "make an empty database and open the first epoch"
    EMPTY_LATER = "make an empty database; its epoch is published when S3 answers"
    RESTORE = "restore from CURRENT and open an epoch whose parent it is"
    SUPERSEDED = "do not replicate: another host's epoch is current"
    HAS_FILE = "refuse: there is a local database, and the copy in the bucket is not its own"
    LOST = "refuse: the prefix holds copies, and CURRENT does not name the current one"
    UNREACHABLE = "refuse: S3 does not answer, so it is unknown whether there is a copy to restore"


def decide(mine: Epoch | None, file: bool, seen: BucketState, allow_empty: bool = False) -> Decision:
    """The decision, from this host's epoch, whether the main database is here, and the state of the bucket.

    An epoch that was never published and has no database is ignored. `allow_empty`: an empty database may be made
    although there may be a copy that cannot be read.
    """
    if mine is not None and (mine.published or file):
        return _decide_with_epoch(mine, file, seen, allow_empty)
    if not seen.asked:
        return _empty_later(allow_empty and not file)
    if seen.current is not None:
        return Decision.HAS_FILE if file else Decision.RESTORE
    if file:
        return Decision.FIRST
    return Decision.EMPTY if seen.empty or allow_empty else Decision.LOST


def _decide_with_epoch(mine: Epoch, file: bool, seen: BucketState, allow_empty: bool) -> Decision:
    if not seen.asked:
        # no other host writes to this epoch, so replicating into it does no harm even if the host is superseded
        return Decision.STREAM if file else _empty_later(allow_empty)
    if seen.current is None:
        return _without_current(mine, file)
    if seen.current.epoch == mine.epoch:
        return Decision.STREAM if file else Decision.RESTORE
    if not mine.published and seen.current.epoch == mine.replaces:
        return Decision.PUBLISH
    return Decision.SUPERSEDED


def _without_current(mine: Epoch, file: bool) -> Decision:
    if not file:
        return Decision.LOST
    return Decision.REOPEN if mine.published else Decision.PUBLISH


def _empty_later(allow_empty: bool) -> Decision:
    return Decision.EMPTY_LATER if allow_empty else Decision.UNREACHABLE


# ---------------------------------------------------------------------------------------------- on this host


def local(app: App) -> Epoch | None:
    """This host's epoch; None when it has none in the configured bucket."""
    document, backup = read_json(app.backup / "epoch.json"), settings.configured(app)
    if document is None or backup is None or document.get("to") != _destination(backup):
        return None
    return _from_json(document)


def _destination(backup: Backup) -> Json:
    return {"bucket": backup.bucket, "prefix": backup.prefix, "endpoint": backup.endpoint}


def _from_json(document: Json) -> Epoch | None:
    """The epoch of a JSON document; None for any other document."""
    if not matches("epoch", document.get("epoch")) or not isinstance(document.get("opened"), int | float):
        return None
    fields = {name: document[name] for name in Epoch._fields if name in document}
    return Epoch(**{"app": "", "host": "", "parent": None, **fields})


def save(app: App, backup: Backup, mine: Epoch) -> Epoch:
    """Write this host's epoch to epoch.json; returns it."""
    make_directory(app.backup, 0o700)
    write_json(app.backup / "epoch.json", {**mine._asdict(), "to": _destination(backup)})
    return mine


def delete_local(app: App) -> None:
    """Delete epoch.json: this host has no epoch any more."""
    unlink(app.backup / "epoch.json")


def superseded(app: App) -> Superseded | None:
    """The host that superseded this one in the configured backup, as far as this host knows; None if none did."""
    known = cast("Superseded | None", read_json(app.backup / "superseded.json"))
    backup = settings.configured(app)
    if known is None or backup is None:
        return known
    bucket = _destination(backup)
    return known if known.get("to", bucket) == bucket else None


def refuse_superseded(app: App) -> None:
    """Raises HostError when another host's epoch is current: this host's data could not be restored from it."""
    record = superseded(app)
    if record is not None:
        what = f"this host is superseded: {record['why']}"
        raise HostError(what, str(app.backup), "deploy backup takeover; then deploy restore")


def mark_superseded(app: App, current: Epoch) -> Superseded:
    """Record that another host's epoch is current; returns the record."""
    make_directory(app.backup, 0o700)
    why = f"{current.host} took over at {utc(current.opened)}"
    backup = settings.backup(app)
    new: Superseded = {
        "at": time.time(),
        "epoch": current.epoch,
        "host": current.host,
        "why": why,
        "to": _destination(backup),
    }
    document = superseded(app) or new
    write_json(app.backup / "superseded.json", document)
    return document


def clear_superseded(app: App) -> None:
    """Remove the record of `mark_superseded`."""
    unlink(app.backup / "superseded.json")


# ---------------------------------------------------------------------------------------------- in the bucket


def bucket(app: App, hurried: bool = False) -> s3.Bucket:
    """The bucket of the app's backup; `hurried` limits a request to a few seconds instead of half a minute.

    Raises HostError when the app has no backup or no keys.
    """
    limits = {"connect": SHORT_SECONDS, "total": SHORT_SECONDS, "tries": 1} if hurried else {}
    return s3.Bucket(settings.backup(app), settings.credentials(app), **limits)  # type: ignore[arg-type]


def current(app: App, store: s3.Bucket) -> Epoch | None:
    """The current epoch; None when there is none. Raises HostError, also for an epoch of another app."""
    return _current(app.name, store)[0]


def _current(app: str, store: s3.Bucket) -> tuple[Epoch | None, str]:
    """The current epoch, and the ETag of CURRENT; (None, "") without it. Raises HostError."""
    found = store.get(_current_key(store))
    if found is None:
        return None, ""
    epoch = parse(found[0])
    if epoch is None:
        raise HostError(
            f"{_current_key(store)} was not written by Homeport", store.where, "choose another backup.prefix", PERSON
        )
    if epoch.app != app:
        what = f"the prefix {store.prefix} holds the backup of another app: {epoch.app}"
        raise HostError(what, store.where, "choose another backup.prefix", PERSON)
    return epoch, found[1]


def read_bucket(app: App, store: s3.Bucket) -> BucketState:
    """The state of the bucket. Raises HostError when S3 does not answer."""
    epoch = current(app, store)
    return BucketState(True, epoch, epoch is None and not store.any(f"{store.prefix}/"))


def try_read_bucket(app: App, hurried: bool) -> tuple[BucketState, HostError | None]:
    """The state of the bucket, and the error if S3 did not answer. Raises HostError for another app's bucket."""
    try:
        return read_bucket(app, bucket(app, hurried)), None
    except (s3.Unreachable, s3.Refused) as error:
        return BucketState(False), error


def parse(text: bytes) -> Epoch | None:
    """The epoch in CURRENT or EPOCH; None for any other content."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return _from_json(document) if isinstance(document, dict) else None


def _to_json(epoch: Epoch) -> bytes:
    fields = {name: value for name, value in epoch._asdict().items() if name not in ("published", "replaces")}
    return json.dumps(fields, separators=(",", ":")).encode()


def _current_key(store: s3.Bucket) -> str:
    return f"{store.prefix}/CURRENT"


def _epoch_key(store: s3.Bucket, epoch: str) -> str:
    return f"{store.prefix}/{epoch}/EPOCH"


def read_epoch(store: s3.Bucket, epoch: str) -> Epoch | None:
    """The epoch that the object EPOCH describes; None without one. Raises HostError."""
    found = store.get(_epoch_key(store, epoch))
    return parse(found[0]) if found else None


def chain(store: s3.Bucket) -> list[Epoch]:
    """The current epoch and its ancestors, newest first; empty without CURRENT."""
    found = store.get(_current_key(store))
    newest = parse(found[0]) if found else None
    epochs = [newest] if newest else []
    while epochs and (parent := epochs[-1].parent) and len(epochs) < MAX_CHAIN:
        epoch = read_epoch(store, parent) if matches("epoch", parent) else None
        if epoch is None or any(epoch.epoch == known.epoch for known in epochs):
            break  # older epochs were deleted
        epochs.append(epoch)
    return epochs


def epoch_for(epochs: Sequence[Epoch], at: float) -> Epoch:
    """The epoch of a chain that was current at that time. Raises HostError (usage) for a time before all of them."""
    return candidates(epochs, at)[0][0]


def candidates(epochs: Sequence[Epoch], at: float | None) -> list[tuple[Epoch, float | None]]:
    """The epochs that can have the data of an instant (None: the newest), best first, each with the time to restore it
    to.

    The epoch of a host that died before its first write is empty. The data is then in its parent, up to the time at
    which the parent was succeeded: later writes of the parent's host do not count.
    """
    found: list[tuple[Epoch, float | None]] = []
    until = at
    for epoch in epochs:
        if until is None or epoch.opened <= until:
            found.append((epoch, until))
            until = epoch.opened
    if not found:
        oldest = utc(epochs[-1].opened) if epochs else "never"
        raise HostError(f"the backup begins at {oldest}", "--at", "deploy backup list", USAGE)
    return found


def expired(epochs: Sequence[Epoch], before: float) -> list[Epoch]:
    """The epochs of a chain that were succeeded before that time, oldest first."""
    return [old for newer, old in itertools.pairwise(epochs) if newer.opened < before][::-1]


def delete(store: s3.Bucket, epoch: Epoch) -> None:
    """Delete an epoch from the bucket. EPOCH goes last, so that an interrupted deletion is resumed."""
    own = _epoch_key(store, epoch.epoch)
    for one in store.list(f"{store.prefix}/{epoch.epoch}/"):
        if one.key != own:
            store.delete(one.key)
    store.delete(own)


# ---------------------------------------------------------------------------------------------- changes


def open_epoch(app: App, parent: Epoch | None, why: str) -> Epoch:
    """Begin a new epoch from the local data: saved on this host, then published.

    Returns it unpublished when S3 does not answer or refuses; the monitor publishes it later. Raises HostError when
    another host's epoch is current.
    """
    mine = new_local(app, settings.backup(app), parent, why)
    try:
        return publish(app, bucket(app))
    except (s3.Unreachable, s3.Refused):
        return mine


def new_local(app: App, backup: Backup, parent: Epoch | None, why: str) -> Epoch:
    """Save a new, unpublished epoch on this host, and return it."""
    if parent is not None and not parent.published:
        # it was never published, so its parent is the parent
        ancestor, replaces = parent.parent, parent.replaces
    else:
        ancestor = replaces = parent.epoch if parent else None
    host = socket.gethostname()
    return save(app, backup, Epoch(epoch_id(), app.name, host, time.time(), ancestor, why, False, replaces))


def publish(app: App, store: s3.Bucket) -> Epoch:
    """Let CURRENT name this host's epoch. Raises HostError when another host was first."""
    backup, mine = settings.backup(app), local(app)
    if mine is None:
        raise HostError("this host has no epoch", str(app.backup), "deploy backup status")
    try:
        _change_current(app, store, mine)
    except s3.Conflict:
        # another host was first, or this write succeeded and its answer was lost
        now = current(app, store)
        if now is None or now.epoch != mine.epoch:
            raise superseded_error(now, store) from None
    return save(app, backup, mine._replace(published=True, replaces=None))


def _change_current(app: App, store: s3.Bucket, mine: Epoch) -> None:
    now, etag = _current(app.name, store)
    if now is not None and now.epoch == mine.epoch:
        return
    if now is not None and now.epoch != mine.replaces:
        raise superseded_error(now, store)
    store.put(_epoch_key(store, mine.epoch), _to_json(mine))
    if now is None:
        store.put(_current_key(store), _to_json(mine), if_none_match=True)
    else:
        store.put(_current_key(store), _to_json(mine), if_match=etag)


def superseded_error(now: Epoch | None, store: s3.Bucket) -> HostError:
    """The error of a host that is superseded by the epoch `now`."""
    who = f"{now.host} (epoch {now.epoch})" if now else "nobody"
    fix = "deploy backup takeover makes this host's data current; deploy restore can then restore any point in time"
    return HostError(f"another host has taken over the backup: {who} is current", store.where, fix, PERSON)


def start_refusal(
    app: App, decision: Decision, seen: BucketState, unanswered: HostError | None, place: Path, prefix: str
) -> HostError:
    """The error of a start for which `decide` allows no replication. `place` is where the database is or would be."""
    if decision is Decision.HAS_FILE and seen.current is not None:
        what = f"there is a database here, and the backup is another's: {seen.current.host}, {seen.current.epoch}"
        fix = "deploy backup takeover keeps this database; move it to another place, and the backup is restored"
        return HostError(what, str(place), fix, PERSON)
    if decision is Decision.LOST:
        return lost_error(prefix)
    if unanswered is not None:
        fix = f"{unanswered.fix}; deploy provision --allow-empty begins without a backup"
        fix = unanswered.fix if settings.has_data(app) else fix
        return HostError(f"S3 cannot be asked which backup counts: {unanswered.what}", unanswered.where, fix)
    return HostError(f"the replication may not start: {decision.value}", str(place), "see deploy backup status", PERSON)


def lost_error(prefix: str) -> HostError:
    """The error for a prefix with backups of which CURRENT names none."""
    what = "the bucket has backups under this prefix, but no object CURRENT that says which one is current"
    fix = "choose another backup.prefix, or restore CURRENT from the bucket's versions; --allow-empty ignores them"
    return HostError(what, f"{prefix}/CURRENT", fix, PERSON)


def return_to(app: App, epoch: Epoch) -> Epoch:
    """The undo of `open_epoch`: make this host's earlier epoch current again. Returns and raises as `open_epoch`."""
    backup, mine = settings.backup(app), local(app)
    if mine is None or mine.epoch != epoch.epoch:
        replaces = mine.epoch if mine else None
        mine = save(app, backup, epoch._replace(published=False, replaces=replaces))
    try:
        return publish(app, bucket(app))
    except (s3.Unreachable, s3.Refused):
        return mine


def takeover(app: App) -> Epoch:
    """Make this host's data current, in a new epoch. Without data here, the next start restores instead.

    Raises HostError. The host that was current notices within a minute, and stops its replication.
    """
    backup, store, mine = settings.backup(app), bucket(app), local(app)
    now = current(app, store)
    if mine is not None and now is not None and now.epoch == mine.epoch:
        clear_superseded(app)
        return mine
    if not settings.has_data(app):
        return _start_over(app, now, store)
    new_local(app, backup, now, "takeover")
    opened = publish(app, store)
    clear_superseded(app)
    return opened


def _start_over(app: App, now: Epoch | None, store: s3.Bucket) -> Epoch:
    if now is None:
        raise HostError(
            "there is no data on this host, and no backup", store.where, "deploy restore, or deploy push", PERSON
        )
    delete_local(app)
    clear_superseded(app)
    return now
