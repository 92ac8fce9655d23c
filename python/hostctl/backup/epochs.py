"""Which copy counts. Each host streams into an epoch of its own; the object CURRENT, moved by conditional writes alone,
names the epoch that counts, and every epoch names the one that it went on from.

So two hosts can never write into each other's copy, and a host that comes back finds out that it was superseded.
"""

from __future__ import annotations

import enum
import itertools
import json
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

from hostctl.backup import s3, settings
from hostctl.backup.settings import Backup
from hostctl.common.errors import PERSON, USAGE, HostError
from hostctl.common.files import Json, make_directory, read_json, unlink, write_json
from hostctl.common.names import epoch_id, matches
from hostctl.common.timestamps import utc
from hostctl.core.paths import App

LONGEST_CHAIN = 10_000
HURRIED = 2.0  # seconds for a connection, and for an answer


class Epoch(NamedTuple):
    """One host's copy, under `<prefix>/<epoch>/`. `opened`: seconds since the epoch.

    Only of this host's own: whether CURRENT has named it, and which epoch CURRENT must name for it to be moved here.
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
    """What the bucket says: nothing (not `asked`), or which epoch CURRENT names, and whether the prefix is empty."""

    asked: bool
    current: Epoch | None = None
    empty: bool = True


class Decision(enum.Enum):
    """What a starting stream does."""

    STREAM = "stream into the epoch that is this host's"
    PUBLISH = "name this host's epoch in CURRENT, then stream"
    REOPEN = "open an epoch from the file that is here: CURRENT is gone"
    FIRST = "open the first epoch from the file that is here"
    EMPTY = "make an empty database and open the first epoch"
    EMPTY_LATER = "make an empty database; its epoch is published when S3 can be asked"
    RESTORE = "restore from CURRENT and open an epoch that goes on from it"
    SUPERSEDED = "never stream: another host's epoch counts"
    HAS_FILE = "refuse: there is a file here, and a copy that is not its own"
    LOST = "refuse: the prefix holds copies, and CURRENT does not say which"
    UNREACHABLE = "refuse: S3 cannot be asked whether there is anything to restore"


def decide(mine: Epoch | None, file: bool, seen: BucketState, allow_empty: bool = False) -> Decision:
    """What to do, from this host's epoch, whether the main database is here, and what the bucket says.

    An epoch that was never published and has no file is worth nothing. `allow_empty` is a person's word that an empty
    database may be made where a copy may be, but cannot be seen.
    """
    if mine is not None and (mine.published or file):
        return _go_on(mine, file, seen, allow_empty)
    if not seen.asked:
        return _empty_later(allow_empty and not file)
    if seen.current is not None:
        return Decision.HAS_FILE if file else Decision.RESTORE
    if file:
        return Decision.FIRST
    return Decision.EMPTY if seen.empty or allow_empty else Decision.LOST


def _go_on(mine: Epoch, file: bool, seen: BucketState, allow_empty: bool) -> Decision:
    if not seen.asked:
        # its own prefix is nobody else's: streaming there does no harm, whoever counts
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


# ---------------------------------------------------------------------------------------------- what is so here


def local(app: App) -> Epoch | None:
    """The epoch that this host streams to; None when it has none in the bucket that is configured now."""
    found, backup = read_json(app.backup / "epoch.json"), settings.configured(app)
    if found is None or backup is None or found.get("to") != _destination(backup):
        return None
    return _of(found)


def _destination(backup: Backup) -> Json:
    return {"bucket": backup.bucket, "prefix": backup.prefix, "endpoint": backup.endpoint}


def _of(told: Json) -> Epoch | None:
    """An epoch from JSON; None for what is none."""
    if not matches("epoch", told.get("epoch")) or not isinstance(told.get("opened"), int | float):
        return None
    known = {"app": "", "host": "", "parent": None} | {name: told[name] for name in Epoch._fields if name in told}
    return Epoch(**known)


def save(app: App, backup: Backup, mine: Epoch) -> Epoch:
    """Write this host's epoch down; returns it."""
    make_directory(app.backup, 0o700)
    write_json(app.backup / "epoch.json", {**mine._asdict(), "to": _destination(backup)})
    return mine


def delete_local(app: App) -> None:
    """This host has no epoch any more."""
    unlink(app.backup / "epoch.json")


def superseded(app: App) -> Json | None:
    """Who has taken over the backup that is configured now, as far as this host has noticed; None while it has not."""
    found, backup = read_json(app.backup / "superseded.json"), settings.configured(app)
    if found is None or backup is None:
        return found
    there = _destination(backup)
    return found if found.get("to", there) == there else None


def refuse_superseded(app: App) -> None:
    """Raises HostError where another host's copy counts: this host's data could not be restored from it."""
    told = superseded(app)
    if told is not None:
        what = f"another host's backup counts: {told['why']}"
        raise HostError(what, str(app.backup), "deploy backup takeover, and then restore the time you want")


def mark_superseded(app: App, current: Epoch) -> Json:
    """Write down that another host's epoch counts; returns what was written."""
    make_directory(app.backup, 0o700)
    why = f"{current.host} took over at {utc(current.opened)}"
    backup = settings.backup(app)
    fresh = {"at": time.time(), "epoch": current.epoch, "host": current.host, "why": why, "to": _destination(backup)}
    told = superseded(app) or fresh
    write_json(app.backup / "superseded.json", told)
    return told


def clear_superseded(app: App) -> None:
    """The opposite of `yield_to`."""
    unlink(app.backup / "superseded.json")


# ---------------------------------------------------------------------------------------------- what is in the bucket


def bucket(app: App, hurried: bool = False) -> s3.Bucket:
    """The bucket of the app's backup; `hurried` gives it a few seconds, not half a minute.

    Raises HostError when there is no backup, or no keys.
    """
    patience = {"connect": HURRIED, "total": HURRIED, "tries": 1} if hurried else {}
    return s3.Bucket(settings.backup(app), settings.credentials(app), **patience)  # type: ignore[arg-type]


def current(app: App, store: s3.Bucket) -> Epoch | None:
    """The epoch that counts; None when there is none. Raises HostError, also for one that is another app's."""
    return _current(app.name, store)[0]


def _current(app: str, store: s3.Bucket) -> tuple[Epoch | None, str]:
    found = store.get(_current_key(store))
    if found is None:
        return None, ""
    epoch = parse(found[0])
    if epoch is None:
        raise HostError(f"{_current_key(store)} is not Homeport's", store.where, "choose another backup.prefix", PERSON)
    if epoch.app != app:
        what = f"the prefix {store.prefix} holds the backup of another app: {epoch.app}"
        raise HostError(what, store.where, "choose another backup.prefix", PERSON)
    return epoch, found[1]


def read_bucket(app: App, store: s3.Bucket) -> BucketState:
    """What the bucket says. Raises HostError when it cannot be asked."""
    found = current(app, store)
    return BucketState(True, found, found is None and not store.any(f"{store.prefix}/"))


def try_read_bucket(app: App, hurried: bool) -> tuple[BucketState, HostError | None]:
    """What the bucket says, and why it could not be asked. Raises HostError for a bucket that is not this app's."""
    try:
        return read_bucket(app, bucket(app, hurried)), None
    except (s3.Unreachable, s3.Refused) as error:
        return BucketState(False), error


def parse(text: bytes) -> Epoch | None:
    """What CURRENT or EPOCH holds; None for what is neither."""
    try:
        told = json.loads(text)
    except ValueError:
        return None
    return _of(told) if isinstance(told, dict) else None


def _text(epoch: Epoch) -> bytes:
    told = {name: value for name, value in epoch._asdict().items() if name not in ("published", "replaces")}
    return json.dumps(told, separators=(",", ":")).encode()


def _current_key(store: s3.Bucket) -> str:
    return f"{store.prefix}/CURRENT"


def _epoch_key(store: s3.Bucket, epoch: str) -> str:
    return f"{store.prefix}/{epoch}/EPOCH"


def read_epoch(store: s3.Bucket, epoch: str) -> Epoch | None:
    """What an epoch of the bucket says of itself; None when it says nothing. Raises HostError."""
    found = store.get(_epoch_key(store, epoch))
    return parse(found[0]) if found else None


def chain(store: s3.Bucket) -> list[Epoch]:
    """The epoch that counts and those that it goes back to, newest first; empty without CURRENT."""
    found = store.get(_current_key(store))
    newest = parse(found[0]) if found else None
    epochs = [newest] if newest else []
    while epochs and (parent := epochs[-1].parent) and len(epochs) < LONGEST_CHAIN:
        epoch = read_epoch(store, parent) if matches("epoch", parent) else None
        if epoch is None or any(epoch.epoch == known.epoch for known in epochs):
            break  # the bucket was cleared of what is older
        epochs.append(epoch)
    return epochs


def epoch_for(epochs: Sequence[Epoch], at: float) -> Epoch:
    """The epoch of a chain that counted at that time. Raises HostError (usage) for a time before all of them."""
    return candidates(epochs, at)[0][0]


def candidates(epochs: Sequence[Epoch], at: float | None) -> list[tuple[Epoch, float | None]]:
    """Where to look for the data of a time (None: the newest), best first, each with the time up to which to restore.

    An epoch that was opened and died before its first write has nothing: what counted is then its parent's, as of the
    moment that it was succeeded, however long its host went on by itself.
    """
    found: list[tuple[Epoch, float | None]] = []
    until = at
    for epoch in epochs:
        if until is None or epoch.opened <= until:
            found.append((epoch, until))
            until = epoch.opened
    if not found:
        oldest = utc(epochs[-1].opened) if epochs else "never"
        raise HostError(f"the backup begins at {oldest}", "the time", "deploy backup list", USAGE)
    return found


def expired(epochs: Sequence[Epoch], before: float) -> list[Epoch]:
    """The epochs of a chain that were succeeded before that time, oldest first: nothing since then is in them."""
    return [old for newer, old in itertools.pairwise(epochs) if newer.opened < before][::-1]


def delete(store: s3.Bucket, epoch: Epoch) -> None:
    """Remove an epoch from the bucket. EPOCH goes last, so that what is cut short is taken up again."""
    own = _epoch_key(store, epoch.epoch)
    for one in store.list(f"{store.prefix}/{epoch.epoch}/"):
        if one.key != own:
            store.delete(one.key)
    store.delete(own)


# ---------------------------------------------------------------------------------------------- changes


def open_epoch(app: App, parent: Epoch | None, why: str) -> Epoch:
    """Begin a new epoch from the data that is here: written down on this host, then published.

    Returns it unpublished when S3 is away or refuses: the watch publishes it later. Raises HostError when another
    host's counts.
    """
    mine = new_local(app, settings.backup(app), parent, why)
    try:
        return publish(app, bucket(app))
    except (s3.Unreachable, s3.Refused):
        return mine


def new_local(app: App, backup: Backup, parent: Epoch | None, why: str) -> Epoch:
    """Write a new epoch down on this host only, to be published."""
    if parent is not None and not parent.published:
        # nobody else ever heard of it: go on from where it went on from
        ancestor, replaces = parent.parent, parent.replaces
    else:
        ancestor = replaces = parent.epoch if parent else None
    host = socket.gethostname()
    return save(app, backup, Epoch(epoch_id(), app.name, host, time.time(), ancestor, why, False, replaces))


def publish(app: App, store: s3.Bucket) -> Epoch:
    """Have CURRENT name this host's epoch. Raises HostError, and the first to come wins."""
    backup, mine = settings.backup(app), local(app)
    if mine is None:
        raise HostError("this host has no epoch", str(app.backup), "deploy backup status")
    try:
        _move(app, store, mine)
    except s3.Conflict:
        # lost to another, or won with the answer lost on its way
        now = current(app, store)
        if now is None or now.epoch != mine.epoch:
            raise superseded_error(now, store) from None
    return save(app, backup, mine._replace(published=True, replaces=None))


def _move(app: App, store: s3.Bucket, mine: Epoch) -> None:
    now, etag = _current(app.name, store)
    if now is not None and now.epoch == mine.epoch:
        return
    if now is not None and now.epoch != mine.replaces:
        raise superseded_error(now, store)
    store.put(_epoch_key(store, mine.epoch), _text(mine))
    if now is None:
        store.put(_current_key(store), _text(mine), if_none_match=True)
    else:
        store.put(_current_key(store), _text(mine), if_match=etag)


def superseded_error(now: Epoch | None, store: s3.Bucket) -> HostError:
    """The error of a host that is not the one that counts."""
    who = f"{now.host} (epoch {now.epoch})" if now else "nobody"
    fix = "deploy backup takeover makes this host's data the one that counts; then deploy restore takes any time's"
    return HostError(f"another host has taken over the backup: {who} counts now", store.where, fix, PERSON)


def return_to(app: App, epoch: Epoch) -> Epoch:
    """Undo of `open_epoch`: this host's earlier epoch counts again; unpublished as there. Raises HostError as there."""
    backup, mine = settings.backup(app), local(app)
    if mine is None or mine.epoch != epoch.epoch:
        replaces = mine.epoch if mine else None
        mine = save(app, backup, epoch._replace(published=False, replaces=replaces))
    try:
        return publish(app, bucket(app))
    except (s3.Unreachable, s3.Refused):
        return mine


def takeover(app: App) -> Epoch:
    """This host's data counts from now on, in a new epoch; without any data here, the next start restores instead.

    Raises HostError. Whoever streamed before notices within a minute, and stops.
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
        raise HostError("there is no data here, and no backup", store.where, "deploy restore, or deploy push", PERSON)
    delete_local(app)
    clear_superseded(app)
    return now
