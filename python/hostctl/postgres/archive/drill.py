"""PostgreSQL's drill: restores the newest backup into a temporary server and compares it with the live one.

That pgBackRest finds its archive complete proves nothing. So the copy recovers from S3 alone, its indexes and pages are
checked, and its content is compared with the live database, up to the last numbered row before the restore began.
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
from hostctl.postgres.server import cluster, roles, scratch_server
from hostctl.postgres.server.cluster import Cluster, Server

# A change that is undone between two reads (a table that is created and dropped) can make the copies differ by chance.
# Damage is still there in another round.
ROUNDS = 2
PATIENCE = 60.0  # seconds, at least, that a row may take to arrive on S3
LONGEST = 6 * 3600.0  # seconds for each of the checks
SHOWN = 3  # findings of a program in an error
SIZE = "SELECT sum(pg_database_size(oid)) FROM pg_database"
# The statement is the app's: it runs in a session of the app's role, and psql interprets no meta-command in it.
VERIFY = """
SET default_transaction_read_only = on;
SELECT :'statement' \\gexec
"""


def run(app: App, host: Host) -> DrillResult:
    """Drill the cluster, as hostctl.backup.drill.run does. Delete expired backups after a drill that passed."""
    remove = partial(_remove, app, host)
    result = drill.run(app, host, scratch_directory(app), partial(_prove, cluster.require(app)), remove)
    with contextlib.suppress(HostError):  # a bucket that forbids deletion keeps them
        pgbackrest.expire(app)
    return result


def remove_leftovers(app: App, host: Host) -> bool:
    """Remove the copy of a killed drill and the server on it; returns whether there was one."""
    return drill.remove_leftovers(app, scratch_directory(app), partial(_remove, app, host))


def scratch_directory(app: App) -> Path:
    """The directory of the copy, on the disk of the live data."""
    return app.cluster / "drill"


def _remove(app: App, host: Host, directory: Path) -> None:
    scratch_server.remove_leftovers(app, host, directory)
    remove_tree(directory)


# ---------------------------------------------------------------------------------------------- one cluster


def _prove(config: Cluster, work: Work) -> Iterator[tuple[str, Copy]]:
    live = cluster.live_server(work.app)
    if not cluster.accepts_sessions(live):
        raise HostError("PostgreSQL does not run", work.app.cluster_unit, "deploy status")
    timeline = timelines.live_timeline(work.app)
    drill.require_space(work.app.cluster, int(cluster.query(live, SIZE)[0][0]))
    yield config.name, _drill_cluster(work, config)
    if timelines.live_timeline(work.app) != timeline:
        what = "the database was restored during the drill"
        raise HostError(what, work.app.cluster_unit, "run deploy backup drill again")


def _drill_cluster(work: Work, config: Cluster) -> Copy:
    """Restore and compare, once more if they differ; a damaged copy also has the newest sound instant."""
    copy = Copy([])
    for _ in range(ROUNDS):
        try:
            copy = _compare_once(work, config)
        except DamagedCopyError as error:
            return Copy([str(error)], restorable=_restorable(work, config, time.time()))
        if not copy.found or copy.restorable is not None:
            return copy
    # only a comparison shows since when it is wrong: so at most as new as the last drill without a fault
    return copy._replace(restorable=_restorable(work, config, drill.proven_until(work.app) or 0.0))


def _compare_once(work: Work, config: Cluster) -> Copy:
    """Restore and compare once. Raises DamagedCopyError, and HostError when no comparison is possible."""
    live = cluster.live_server(work.app)
    drill.report_step(work, "reading the live database")
    before = read_state(live, config.name)
    # written last: a copy with this row is of a later moment than the state that was read
    before = before._replace(canary=before.canary._replace(last=write_canary(live, config)))
    drill.report_step(work, "waiting until it is on S3")
    replication.wait_until_stored(work.app, max(PATIENCE, work.backup.max_lag), work.host)
    drill.report_step(work, "restoring")
    started = work.host.clock()
    with _copy(work) as copy_server:
        seconds = work.host.clock() - started
        drill.report_step(work, "comparing")
        restored = _read_copy(copy_server, config, before)
        failed_checks = verify(copy_server, config, work.backup.verify)
        size = int(cluster.query(copy_server, SIZE)[0][0])
        drill.report_step(work, "checking tables and indexes")
        amcheck(copy_server)
    drill.report_step(work, "checking pages")
    check_checksums(copy_server)
    differences = compare(before, restored, read_state(live, config.name, before)) + failed_checks
    rows = sum(table.rows for table in restored.tables.values())
    return Copy(differences, size, seconds, restored.at, rows, _end_of_truncated(before, restored))


def _end_of_truncated(before: DatabaseState, restored: DatabaseState) -> float | None:
    """The instant of the last row of a sound copy whose WAL ends too early; None for any other copy.

    Recovery skips no WAL, so the copy is complete up to that instant.
    """
    truncated = restored.canary.rows and not restored.canary.missing and restored.canary.last < before.canary.last
    return restored.at if truncated else None


@contextlib.contextmanager
def _copy(work: Work, at: float | None = None) -> Iterator[Server]:
    """A server on a restored copy, shut down cleanly at the end; its data stays. Raises DamagedCopyError."""
    target = work.scratch
    _remove(work.app, work.host, target)
    with contextlib.ExitStack() as stack:
        try:
            restored = pgbackrest.restore(work.app, target, at)
            server = scratch_server.server(work.app, work.host, target, settings=restored.settings)
            copy_server = stack.enter_context(server)
            roles.converge(copy_server, cluster.require(work.app))  # the base backup may be from before they were
        except HostError as error:
            raise DamagedCopyError(error.what) from None
        yield copy_server


def _read_copy(copy_server: Server, config: Cluster, before: DatabaseState | None = None) -> DatabaseState:
    try:
        return read_state(copy_server, config.name, before)
    except HostError as error:
        raise DamagedCopyError(f"the copy cannot be read: {error.what}") from None


# ---------------------------------------------------------------------------------------------- what can be restored


def _restorable(work: Work, config: Cluster, until: float) -> float | None:
    """The newest instant up to `until` from which a sound copy can be restored; None without one."""
    drill.report_step(work, "looking for what can be restored")
    with contextlib.suppress(HostError):
        times = [at for at in restore_times(pgbackrest.bases(work.app, work.epoch)) if at <= until]
        return newest_sound(times, partial(_is_sound, work, config))
    return None


def restore_times(bases: Sequence[Base]) -> list[float]:
    """The instants to try, newest first: just after each base backup, and just before it from the one before.

    pgBackRest gives the end of a base backup in whole seconds, rounded down.
    """
    ends = [math.floor(base.ended) for base in bases]
    return sorted({*(end + 1.0 for end in ends), *(end - 1.0 for end in ends[1:])}, reverse=True)


def _is_sound(work: Work, config: Cluster, at: float) -> bool:
    try:
        with _copy(work, at) as copy_server:
            state = _read_copy(copy_server, config)
            amcheck(copy_server)
        check_checksums(copy_server)
    except DamagedCopyError:
        return False
    return state.canary.missing == 0


# ---------------------------------------------------------------------------------------------- whether a copy is sound


def amcheck(copy_server: Server) -> None:
    """Check the tables and indexes in all databases of the copy. Raises DamagedCopyError."""
    argv: list[str | Path] = [copy_server.bin / "pg_amcheck", "--all", "--heapallindexed", "--install-missing"]
    # the functions of an index run as its owner: see amcheck's documentation
    options = cluster.session_options(copy_server, cluster.SUPERUSER, {"statement_timeout": "0"})
    env = {**cluster.client_environment(), "PGOPTIONS": options}
    _run_check([*argv, "-h", copy_server.socket, "-U", cluster.SUPERUSER], "pg_amcheck", env)


def check_checksums(copy_server: Server) -> None:
    """Check the checksums of the stopped copy's pages, if the cluster has them. Raises DamagedCopyError."""
    if cluster.control_data(copy_server).get("Data page checksum version") != "0":
        _run_check([copy_server.bin / "pg_checksums", "--check", "-D", copy_server.data], "pg_checksums")


def _run_check(argv: Sequence[str | Path], program: str, env: Mapping[str, str] | None = None) -> None:
    try:
        done = cluster.run_as_postgres(argv, timeout=LONGEST, env=env)
    except TimeoutExpired:
        raise HostError(f"{program} did not end within {LONGEST / 3600:g} hours", "the drill", "try again") from None
    if done.returncode != 0:
        lines = [line.strip() for line in chain(done.stdout.splitlines(), done.stderr.splitlines()) if line.strip()]
        raise DamagedCopyError(f"{program} finds the copy damaged: {'; '.join(lines[:SHOWN])}")


# ---------------------------------------------------------------------------------------------- the app's own checks


def verify(copy_server: Server, config: Cluster, statements: Sequence[str]) -> list[str]:
    """The app's own checks that fail on a copy: the first column of a statement's first row must be true."""
    failures = []
    for statement in statements:
        reason = _failure(copy_server, config, statement)
        failures += [f"backup.verify: {reason}: {statement}"] if reason else []
    return failures


def _failure(copy_server: Server, config: Cluster, statement: str) -> str:
    """Why a check fails; "" for one that passes."""
    bound = {"statement": statement}
    try:
        rows = cluster.query(copy_server, VERIFY, config.name, config.user, LONGEST, bound)
    except HostError as error:
        return error.what
    if not rows:
        return "no row"
    return "" if is_true(rows[0][0]) else f"not true but {rows[0][0].strip()!r}"


def is_true(text: str) -> bool:
    """Whether the text of an SQL value is true: a boolean, or a number other than 0. NULL, the empty text, is not."""
    value = text.strip()
    return value == "t" or (re.fullmatch(r"-?[0-9.]+", value) is not None and value.strip("-0.") != "")
