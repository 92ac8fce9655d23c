"""What stands around the migrations of a push: no wait for a lock without end, and no invalid index unnoticed.

While a migration waits for a lock, all who come after it wait behind it: so it gives up after `lock_timeout`. For this
the migrations connect as a role of their own, APPUSER_migrate, which owns nothing: its settings are the timeout, and
`role`, so that from its first statement on it is the app's own. No session of a release ever has the timeout, and
there is nothing to take back when a push is killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
TIMED_OUT = ("canceling statement due to lock timeout", "lock_not_available", "55P03")
ROLE = """
SELECT format('CREATE ROLE %I LOGIN', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \\gexec
GRANT :"user" TO :"role";
ALTER ROLE :"role" SET role = :'user';
ALTER ROLE :"role" SET lock_timeout = :'timeout';
"""
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
# sessions whose transaction is older than the wait that came to nothing: one of them had the lock, and may still
HOLDERS = """
SELECT pid, usename, application_name, state, floor(extract(epoch FROM now() - xact_start))
FROM pg_stat_activity
WHERE datname = :'name' AND pid <> pg_backend_pid() AND xact_start < now() - make_interval(secs => :'timeout'::float8)
ORDER BY xact_start LIMIT 3
"""


Ask = Callable[[str], list[list[str]]]


class InvalidIndex(NamedTuple):
    """An index that a concurrent build left behind: it costs every write, and no query uses it."""

    name: str
    table: str
    repair: str
    leftover: bool


# ---------------------------------------------------------------------------------------------- the step


@contextmanager
def around(work: Work) -> Iterator[None]:
    """Let the release's migrations run with the timeout, and tell of invalid indexes afterwards.

    A failure inside is told with the lock that was waited for. Raises HostError.
    """
    wanted, server = cluster.require(work.app), cluster.live_server(work.app)
    own = environment(work.app, work.release, wanted)
    if own:
        _make_role(server, wanted)
        release_command.write_environment(work, "migrate", own)
    else:
        work.note("lock_timeout does not hold for these migrations: the app's DATABASE_URL is its own")
    try:
        yield
    except HostError as error:
        raise explain_failure(
            error, _log(work), wanted.lock_timeout, _holders(server, wanted), _known(server, wanted)
        ) from None
    finally:
        release_command.forget(work, "migrate")
    note_invalid(work, lambda sql: cluster.query(server, sql, wanted.name))


def environment(app: App, release: str, wanted: Cluster) -> dict[str, str]:
    """What the migrations are to have in place of the release's variables; nothing for a database of the app's own."""
    url = records.environment(app, release).get("DATABASE_URL", "")
    if f"socket_dir={app.cluster_socket}" not in url:
        return {}
    user = wanted.user + SUFFIX
    return {"DATABASE_URL": with_user(url, user), "PGUSER": user}


def _make_role(server: Server, wanted: Cluster) -> None:
    bound = {"role": wanted.user + SUFFIX, "user": wanted.user, "timeout": f"{round(wanted.lock_timeout * 1000)}ms"}
    cluster.query(server, ROLE, bound=bound)


def _log(work: Work) -> str:
    try:
        return (work.app.record(work.release) / "migrate.log").read_text(errors="replace")
    except OSError:
        return ""  # the migrations did not get as far


# ---------------------------------------------------------------------------------------------- what went wrong


def explain_failure(
    error: HostError, log: str, timeout: float, holders: Sequence[str], indexes: Sequence[InvalidIndex]
) -> HostError:
    """The failure of a migration, with what is known of its cause and what it left behind."""
    what, fix = error.what, error.fix
    if any(words in log for words in TIMED_OUT):
        held = "".join(f"\n    {line}" for line in holders) or "\n    nobody: it was let go meanwhile"
        what = (
            f"a migration waited longer than {timeout:g} s for a lock (database.lock_timeout). Who may hold it:{held}"
        )
        what += f"\n{error.what}"
        fix = "push again when the lock is free, or raise database.lock_timeout in deploy.yml"
    what += "".join(f"\n{describe(one)}" for one in indexes)
    return HostError(what, error.where, fix, error.code)


def _holders(server: Server, wanted: Cluster) -> list[str]:
    try:
        bound = {"name": wanted.name, "timeout": f"{wanted.lock_timeout:g}"}
        found = cluster.query(server, HOLDERS, bound=bound)
    except HostError as error:
        return [error.what]
    return [f"{user} {name} (process {pid}), {state} for {age} s" for pid, user, name, state, age in found]


def _known(server: Server, wanted: Cluster) -> list[InvalidIndex]:
    try:
        return invalid_indexes(lambda sql: cluster.query(server, sql, wanted.name))
    except HostError:
        return []  # the failure that is being told says enough


def invalid_indexes(ask: Ask) -> list[InvalidIndex]:
    """The invalid indexes of a database, but for those that are being built. `ask` runs SQL there. Raises HostError."""
    return [_invalid(*row) for row in ask(INVALID)]


def _invalid(schema: str, name: str, table: str, quoted: str, leftover: str) -> InvalidIndex:
    """What mends it is as PostgreSQL's manual has it under REINDEX, "Rebuilding Indexes Concurrently"."""
    drop = f"DROP INDEX CONCURRENTLY {quoted}"
    if leftover == "t":
        return InvalidIndex(f"{schema}.{name}", table, drop, True)
    return InvalidIndex(f"{schema}.{name}", table, f"REINDEX INDEX CONCURRENTLY {quoted}", False)


def note_invalid(work: Work, ask: Ask) -> None:
    """Tell whoever follows of invalid indexes. The migrations went well: nothing here makes them fail."""
    try:
        found = invalid_indexes(ask)
    except HostError as error:
        work.note(f"whether there are invalid indexes is not known: {error.what}")
        return
    for one in found:
        work.note(describe(one))


def describe(one: InvalidIndex) -> str:
    """An invalid index in words, with what mends it."""
    text = f"the index {one.name} on {one.table} is invalid: a concurrent build of it failed, and no query uses it; "
    text += f"fix: deploy db console --write, then {one.repair};"
    if one.leftover:
        return text
    drop = one.repair.replace("REINDEX INDEX", "DROP INDEX")
    return f"{text} or {drop}; if its migration is to run again"
