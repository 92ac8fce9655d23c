"""The migrations of a push: a limit for their waits for locks, and a report of invalid indexes.

While a migration waits for a lock, every later request for it waits, too: so the migration fails after `lock_timeout`.
For this it connects as a role of its own, APPUSER_migrate, which owns nothing. The role's settings are the timeout, and
`role`, which makes every session act as the app's role. The release's own sessions never have the timeout, and nothing
must be undone when a push is killed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from hostctl.common.errors import HostError
from hostctl.core.paths import App
from hostctl.instance import release_command
from hostctl.journal.engine import Work
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import Cluster, Server
from hostctl.postgres.server.url import with_user
from hostctl.release import records

SUFFIX = "_migrate"
LOCK_NOT_AVAILABLE = re.compile(r"\b(55P03|lock_not_available)\b")  # the SQLSTATE and its condition name
ROLE = """
SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \\gexec
GRANT :"user" TO :"role";
ALTER ROLE :"role" SET role = :'user';
ALTER ROLE :"role" SET lock_timeout = :'timeout';
ALTER ROLE :"role" CONNECTION LIMIT -1;
"""
# the limit of the app's role counts nothing of this one: so it is closed except for migrations
CLOSE_ROLE = 'ALTER ROLE :"role" CONNECTION LIMIT 0'
# an index that is being built is not valid yet; one of a partitioned table waits for those of its partitions
INVALID = """
SELECT n.nspname, c.relname, t.relname,
       format('%I.%I', n.nspname, c.relname), c.relname ~ '_cc(new|old)[0-9]*$'
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i'
  AND i.indexrelid NOT IN (SELECT index_relid FROM pg_stat_progress_create_index WHERE index_relid <> 0)
ORDER BY 1, 2
"""
# sessions whose transaction is older than the wait for the lock: one of them had the lock, and may still have it
HOLDERS = """
SELECT pid, usename, application_name, state, floor(extract(epoch FROM now() - xact_start))
FROM pg_stat_activity
WHERE datname = :'name' AND pid <> pg_backend_pid() AND xact_start < now() - make_interval(secs => :'timeout'::float8)
ORDER BY xact_start LIMIT 3
"""


Ask = Callable[[str], list[list[str]]]


class InvalidIndex(NamedTuple):
    """An index that a failed concurrent build left: every write updates it, and no query uses it."""

    name: str
    table: str
    repair: str
    leftover: bool


# ---------------------------------------------------------------------------------------------- the step


@contextmanager
def around_migrations(work: Work) -> Iterator[None]:
    """A context in which the release's migrations run with the timeout; afterwards it reports invalid indexes.

    Raises HostError; the error of a migration that waited for a lock names the sessions that may hold it.
    """
    config, server = cluster.require(work.app), cluster.live_server(work.app)
    variables = environment(work.app, work.release, config)
    if variables:
        _make_role(server, config)
        release_command.write_environment(work, "migrate", variables)
    else:
        work.note("lock_timeout does not apply to these migrations: DATABASE_URL does not name the app's cluster")
    try:
        yield
    except HostError as error:
        raise explain_failure(
            error, _log(work), config.lock_timeout, _lock_holders(server, config), _find_invalid(server, config)
        ) from None
    finally:
        release_command.forget(work, "migrate")
        if variables:
            _close_role(server, config)
    note_invalid(work, lambda sql: cluster.query(server, sql, config.name))


def environment(app: App, release: str, config: Cluster) -> dict[str, str]:
    """The variables that replace the release's for the migrations; none for another database."""
    url = records.environment(app, release).get("DATABASE_URL", "")
    if f"socket_dir={app.cluster_socket}" not in url:
        return {}
    user = config.user + SUFFIX
    return {"DATABASE_URL": with_user(url, user), "PGUSER": user}


def _make_role(server: Server, config: Cluster) -> None:
    bound = {"role": config.user + SUFFIX, "user": config.user, "timeout": f"{round(config.lock_timeout * 1000)}ms"}
    cluster.administer(server, ROLE, bound=bound)


def _close_role(server: Server, config: Cluster) -> None:
    """Let no session of the role begin. Without an error: the next push does it again."""
    with suppress(HostError):
        cluster.administer(server, CLOSE_ROLE, bound={"role": config.user + SUFFIX})


def _log(work: Work) -> str:
    try:
        return (work.app.record(work.release) / "migrate.log").read_text(errors="replace")
    except OSError:
        return ""  # the migrations did not start


# ---------------------------------------------------------------------------------------------- failures


def explain_failure(
    error: HostError, log: str, timeout: float, holders: Sequence[str], indexes: Sequence[InvalidIndex]
) -> HostError:
    """The error of a migration, with the holders of the lock and the invalid indexes."""
    what, fix = error.what, error.fix
    if LOCK_NOT_AVAILABLE.search(log):
        held = "".join(f"\n    {line}" for line in holders) or "\n    nobody: it was released meanwhile"
        what = (
            f"a migration waited longer than {timeout:g} s for a lock (database.lock_timeout). It may be held by:{held}"
        )
        what += f"\n{error.what}"
        fix = "push again when the lock is free, or raise database.lock_timeout in deploy.yml"
    what += "".join(f"\n{describe(index)}" for index in indexes)
    return HostError(what, error.where, fix, error.code)


def _lock_holders(server: Server, config: Cluster) -> list[str]:
    try:
        bound = {"name": config.name, "timeout": f"{config.lock_timeout:g}"}
        sessions = cluster.query(server, HOLDERS, bound=bound)
    except HostError as error:
        return [error.what]
    return [f"{user} {name} (process {pid}), {state} for {age} s" for pid, user, name, state, age in sessions]


def _find_invalid(server: Server, config: Cluster) -> list[InvalidIndex]:
    try:
        return invalid_indexes(lambda sql: cluster.query(server, sql, config.name))
    except HostError:
        return []  # the error of the migration matters more


def invalid_indexes(ask: Ask) -> list[InvalidIndex]:
    """The invalid indexes of a database, without those that are being built. `ask` runs SQL there. Raises HostError."""
    return [_parse_index(*row) for row in ask(INVALID)]


def _parse_index(schema: str, name: str, table: str, quoted: str, leftover: str) -> InvalidIndex:
    """An invalid index with its repair by PostgreSQL's manual: REINDEX, "Rebuilding Indexes Concurrently"."""
    drop = f"DROP INDEX CONCURRENTLY {quoted}"
    if leftover == "t":
        return InvalidIndex(f"{schema}.{name}", table, drop, True)
    return InvalidIndex(f"{schema}.{name}", table, f"REINDEX INDEX CONCURRENTLY {quoted}", False)


def note_invalid(work: Work, ask: Ask) -> None:
    """Report invalid indexes as notes of the step. The migrations succeeded, so nothing here is an error."""
    try:
        indexes = invalid_indexes(ask)
    except HostError as error:
        work.note(f"it is unknown whether there are invalid indexes: {error.what}")
        return
    for index in indexes:
        work.note(describe(index))


def describe(index: InvalidIndex) -> str:
    """A line about an invalid index, with its repair."""
    text = (
        f"the index {index.name} on {index.table} is invalid: a concurrent build of it failed, and no query uses it; "
    )
    text += f"fix: deploy db console --write, then {index.repair};"
    if index.leftover:
        return text
    drop = index.repair.replace("REINDEX INDEX", "DROP INDEX")
    return f"{text} or {drop}; if its migration is to run again"
