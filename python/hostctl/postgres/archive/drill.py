"""PostgreSQL's drill: the newest backup becomes a server of its own beside the live one, and is looked through.

pgBackRest's own word that an archive is whole proves nothing, so it is not believed here: the copy recovers from what
S3 has, its indexes and pages are checked, and its content is compared with live's, to the last numbered row that was
written before the restore began.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from subprocess import TimeoutExpired

from hostctl.backup import drill
from hostctl.backup.compare import DatabaseState, compare, newest_sound
from hostctl.backup.drill import Copy, DamagedCopyError, Work
from hostctl.common.documents import DrillResult
from hostctl.common.errors import HostError
from hostctl.common.files import remove_tree
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.postgres.archive import pgbackrest, replication, timelines
from hostctl.postgres.archive.timelines import Base
from hostctl.postgres.database.inspect import read_state, write_canary
from hostctl.postgres.server import cluster, scratch_server
from hostctl.postgres.server.cluster import Cluster, Server

# What changes and changes back while two looks are taken (a table that is made and dropped) can differ by chance.
# Damage is still there when the same is done anew.
ROUNDS = 2
PATIENCE = 60.0  # seconds at least that a row may take to S3
CHECKED = 6 * 3600.0  # seconds for each of the checks
SHOWN = 3  # findings of a program
# whatever the app's parameters make of its own sessions
UNHINDERED = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0"
NOTHING: Mapping[str, str] = {}
SIZE = "SELECT sum(pg_database_size(oid)) FROM pg_database"
# The statement is the app's: it runs with the app's rights, and psql reads no command of its own in it.
VERIFY = """
SET default_transaction_read_only = on;
SET ROLE :"user";
SELECT :'statement' \\gexec
"""


def run(app: App, host: Host) -> DrillResult:
    """Drill the cluster. As drill.run. What the retention has passed leaves the archive after a drill that passed."""
    result = drill.run(app, host, scratch_directory(app), partial(_prove, cluster.require(app)), _remove)
    with contextlib.suppress(HostError):  # a bucket that lets nobody delete keeps it
        pgbackrest.expire(app)
    return result


def remove_leftovers(app: App) -> bool:
    """Remove the copy, and the server on it, of a drill that was killed; returns whether there was one."""
    return drill.remove_leftovers(app, scratch_directory(app), _remove)


def scratch_directory(app: App) -> Path:
    """Where the copy goes: on the disk that holds the live data."""
    return app.cluster / "drill"


def _remove(directory: Path) -> None:
    scratch_server.remove_leftovers(directory)
    remove_tree(directory)


# ---------------------------------------------------------------------------------------------- one cluster


def _prove(wanted: Cluster, work: Work) -> Iterator[tuple[str, Copy]]:
    live = cluster.live_server(work.app)
    if not cluster.accepts_sessions(live):
        raise HostError("PostgreSQL does not run", work.app.cluster_unit, "deploy status")
    timeline = timelines.live_timeline(work.app)
    drill.require_space(work.app.cluster, int(cluster.query(live, SIZE)[0][0]))
    yield wanted.name, _proven(work, wanted)
    if timelines.live_timeline(work.app) != timeline:
        what = "the database was restored while it was drilled"
        raise HostError(what, work.app.cluster_unit, "run deploy backup drill again")


def _proven(work: Work, wanted: Cluster) -> Copy:
    """Restore and compare, again when they differ. What is left of the damage's search goes with it."""
    copy = Copy([])
    for _ in range(ROUNDS):
        try:
            copy = _round(work, wanted)
        except DamagedCopyError as error:
            return Copy([str(error)], restorable=_restorable(work, wanted, time.time()))
        if not copy.found or copy.restorable is not None:
            return copy
    # how far back it goes wrong only a comparison tells: so no further than the last one that found nothing
    return copy._replace(restorable=_restorable(work, wanted, drill.proven_until(work.app) or 0.0))


def _round(work: Work, wanted: Cluster) -> Copy:
    """One restore. Raises BrokenError, and HostError when there is nothing to judge."""
    live, begun = cluster.live_server(work.app), 0.0
    drill.report_step(work, "reading the live database")
    before = read_state(live, wanted.name)
    # written last: a copy that has this row is of a later moment than all that was seen
    before = before._replace(canary=before.canary._replace(last=write_canary(live, wanted)))
    drill.report_step(work, "waiting until it is on S3")
    replication.wait_until_stored(work.app, max(PATIENCE, work.backup.max_lag), work.host)
    drill.report_step(work, "restoring")
    begun = work.host.clock()
    with _copy(work) as beside:
        seconds = work.host.clock() - begun
        drill.report_step(work, "comparing")
        restored = _readable(beside, wanted, before)
        denied = verify(beside, wanted, work.backup.verify)
        size = int(cluster.query(beside, SIZE)[0][0])
        drill.report_step(work, "checking tables and indexes")
        amcheck(beside)
    drill.report_step(work, "checking pages")
    check_checksums(beside)
    found = compare(before, restored, read_state(live, wanted.name, before)) + denied
    rows = sum(table.rows for table in restored.tables.values())
    return Copy(found, size, seconds, restored.at, rows, _short(before, restored))


def _short(before: DatabaseState, restored: DatabaseState) -> float | None:
    """Up to when a sound copy goes whose log ends too early: recovery leaves nothing out, so it is whole up to there.

    None for any other copy.
    """
    ends = restored.canary.rows and not restored.canary.missing and restored.canary.last < before.canary.last
    return restored.at if ends else None


@contextlib.contextmanager
def _copy(work: Work, at: float | None = None) -> Iterator[Server]:
    """A server on a restored copy, stopped clean at the end; its data stays. Raises BrokenError."""
    target = work.scratch
    _remove(target)
    with contextlib.ExitStack() as stack:
        try:
            restored = pgbackrest.restore(work.app, target, at)
            beside = stack.enter_context(scratch_server.server(work.app, target, settings=restored.settings))
        except HostError as error:
            raise DamagedCopyError(error.what) from None
        yield beside


def _readable(beside: Server, wanted: Cluster, before: DatabaseState | None = None) -> DatabaseState:
    try:
        return read_state(beside, wanted.name, before)
    except HostError as error:
        raise DamagedCopyError(f"the copy cannot be read: {error.what}") from None


# ---------------------------------------------------------------------------------------------- what can be restored


def _restorable(work: Work, wanted: Cluster, until: float) -> float | None:
    """The newest moment up to `until` of which a sound copy can be restored; None when there is none."""
    drill.report_step(work, "looking for what can be restored")
    with contextlib.suppress(HostError):
        times = [at for at in restore_times(pgbackrest.bases(work.app, work.epoch)) if at <= until]
        return newest_sound(times, partial(_good, work, wanted))
    return None


def restore_times(bases: Sequence[Base]) -> list[float]:
    """Moments worth trying, newest first: just after each base backup, and the last before it, from the one older.

    pgBackRest tells the end of a base backup in whole seconds, and cuts off what is beyond.
    """
    ends = [math.floor(base.ended) for base in bases]
    return sorted({*(end + 1.0 for end in ends), *(end - 1.0 for end in ends[1:])}, reverse=True)


def _good(work: Work, wanted: Cluster, at: float) -> bool:
    try:
        with _copy(work, at) as beside:
            seen = _readable(beside, wanted)
            amcheck(beside)
        check_checksums(beside)
    except DamagedCopyError:
        return False
    return seen.canary.missing == 0


# ---------------------------------------------------------------------------------------------- whether a copy is sound


def amcheck(beside: Server) -> None:
    """Raises BrokenError when a table or an index of the copy is not as it should be, in any of its databases."""
    argv: list[str | Path] = [beside.bin / "pg_amcheck", "--all", "--heapallindexed", "--install-missing"]
    _checked([*argv, "-h", beside.socket, "-U", cluster.SUPERUSER], "pg_amcheck", {"PGOPTIONS": UNHINDERED})


def check_checksums(beside: Server) -> None:
    """Raises BrokenError when a page of the stopped copy is not what was written. A cluster may have none to check."""
    if cluster.control_data(beside).get("Data page checksum version") != "0":
        _checked([beside.bin / "pg_checksums", "--check", "-D", beside.data], "pg_checksums")


def _checked(argv: Sequence[str | Path], program: str, env: Mapping[str, str] = NOTHING) -> None:
    try:
        done = cluster.run_as_postgres(argv, timeout=CHECKED, env=env)
    except TimeoutExpired:
        raise HostError(f"{program} did not end within {CHECKED / 3600:g} hours", "the drill", "try again") from None
    if done.returncode != 0:
        lines = [line.strip() for line in chain(done.stdout.splitlines(), done.stderr.splitlines()) if line.strip()]
        raise DamagedCopyError(f"{program} finds the copy damaged: {'; '.join(lines[:SHOWN])}")


# ---------------------------------------------------------------------------------------------- the app's own checks


def verify(beside: Server, wanted: Cluster, statements: Sequence[str]) -> list[str]:
    """What the app's own checks say of a copy: the first column of each statement's first row must be true."""
    found = []
    for statement in statements:
        wrong = _denied(beside, wanted, statement)
        found += [f"backup.verify: {wrong}: {statement}"] if wrong else []
    return found


def _denied(beside: Server, wanted: Cluster, statement: str) -> str:
    bound = {"user": wanted.user, "statement": statement}
    try:
        rows = cluster.query(beside, VERIFY, wanted.name, timeout=CHECKED, bound=bound)
    except HostError as error:
        return error.what
    if not rows:
        return "no row"
    return "" if is_true(rows[0][0]) else f"not true but {rows[0][0].strip()!r}"


def is_true(text: str) -> bool:
    """Whether SQL's text of a value is true: a boolean, or a number other than 0. NULL's text is empty, and is not."""
    value = text.strip()
    return value == "t" or (re.fullmatch(r"-?[0-9.]+", value) is not None and value.strip("-0.") != "")
