"""The state of an app's database, by which copies are compared, and the numbered rows that show how far a copy goes.

The state is read in one read-only transaction, so it is of one moment. Changes of a table's definition wait for it: so
it has an application name, and the server cancels its query when the client is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from hostctl.backup.compare import Canary, DatabaseState, Table
from hostctl.common.errors import HostError
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import READER, Cluster, Server

KEPT_ROWS = 10_000  # numbered rows
PATIENCE = 6 * 3600.0  # seconds for the largest table
CANARY_PATIENCE = 30.0  # seconds for one numbered row
LOCK_PATIENCE = 60.0  # seconds that a table may be locked by a migration

# a kind, and its values
Fact = list[str | int | float]

# The text of a value depends on the session's settings, so they are the same for every copy. No parallel workers, so
# that the live server keeps its cores.
SESSION = f"""
SET application_name = 'hostctl look';
SET lock_timeout = '{LOCK_PATIENCE:g}s';
SET client_connection_check_interval = '5s';
SET max_parallel_workers_per_gather = 0;
SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'iso_8601';
SET extra_float_digits = 1; SET bytea_output = 'hex'; SET xmlbinary = 'base64';
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
"""

# Every transaction below the horizon had ended when the state was read, so their rows can only become fewer. Rows that
# are written later, on the live server or in a copy, do not count (age: how many transactions ago, a signed number).
HORIZON = "SELECT pg_snapshot_xmin(pg_current_snapshot()) AS horizon \\gset\n"
OLD = "age(t.xmin) NOT BETWEEN 0 AND age((:'horizon'::xid8)::xid)"

# Without tables that recovery empties (unlogged) and relations that hold no rows; large objects are the app's, too.
APP = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'homeport')"
TABLES = f"""
SELECT format($$SELECT json_build_array('table', %L, count(*),
    coalesce(sum(hashtextextended((t.*)::text COLLATE "C", 0)), 0)::text) FROM ONLY %I.%I AS t WHERE %s$$,
  n.nspname || '.' || c.relname, n.nspname, c.relname,
  replace($$ {OLD.replace(":'horizon'", "HORIZON")} $$, 'HORIZON', quote_literal(:'horizon')))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.relispopulated
  AND ({APP} OR c.oid = 'pg_largeobject'::regclass)
ORDER BY n.nspname, c.relname \\gexec
"""  # noqa: S608 - no value from outside

MIGRATIONS = f"""
SELECT format('SELECT json_build_array(''version'', version::text) FROM %I.schema_migrations', n.nspname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relkind = 'r' AND c.relname = 'schema_migrations' AND a.attname = 'version' AND {APP}
ORDER BY n.nspname \\gexec
"""  # noqa: S608 - no value from outside

# A copy of a cluster has the same catalogs, object ids included: so their rows are the schema. Of pg_class only the
# columns that the app's definitions set; the server changes the others.
SCHEMA = f"""
WITH app AS (SELECT n.oid FROM pg_namespace n WHERE {APP}),
relation AS (SELECT c.* FROM pg_class c JOIN app ON app.oid = c.relnamespace),
part(content) AS (
  SELECT 'namespace' || (n.*)::text FROM pg_namespace n JOIN app USING (oid)
  UNION ALL SELECT 'class' || ROW(c.oid, c.relname, c.relnamespace, c.relowner, c.relkind, c.relpersistence,
    c.reloptions, c.relrowsecurity, c.relforcerowsecurity, c.relacl)::text FROM relation c
  UNION ALL SELECT 'attribute' || (a.*)::text FROM pg_attribute a JOIN relation c ON c.oid = a.attrelid
  UNION ALL SELECT 'default' || (d.*)::text FROM pg_attrdef d JOIN relation c ON c.oid = d.adrelid
  UNION ALL SELECT 'index' || (i.*)::text FROM pg_index i JOIN relation c ON c.oid = i.indrelid
  UNION ALL SELECT 'trigger' || (t.*)::text FROM pg_trigger t JOIN relation c ON c.oid = t.tgrelid
  UNION ALL SELECT 'rule' || (r.*)::text FROM pg_rewrite r JOIN relation c ON c.oid = r.ev_class
  UNION ALL SELECT 'policy' || (p.*)::text FROM pg_policy p JOIN relation c ON c.oid = p.polrelid
  UNION ALL SELECT 'sequence' || (s.*)::text FROM pg_sequence s JOIN relation c ON c.oid = s.seqrelid
  UNION ALL SELECT 'constraint' || (k.*)::text FROM pg_constraint k JOIN app ON app.oid = k.connamespace
  UNION ALL SELECT 'function' || (f.*)::text FROM pg_proc f JOIN app ON app.oid = f.pronamespace
  UNION ALL SELECT 'type' || (y.*)::text FROM pg_type y JOIN app ON app.oid = y.typnamespace
  UNION ALL SELECT 'enum' || (e.*)::text FROM pg_enum e
  UNION ALL SELECT 'extension' || (x.*)::text FROM pg_extension x
)
SELECT json_build_array('schema', md5(string_agg(content, chr(10) ORDER BY content COLLATE "C"))) FROM part;
"""  # noqa: S608 - no value from outside

CANARY = """
SELECT to_regclass('homeport.canary') IS NOT NULL AS numbered \\gset
\\if :numbered
SELECT json_build_array('canary', coalesce(min(n), 0), coalesce(max(n), 0), count(*),
  coalesce(extract(epoch FROM max(at)), 0)::float8) FROM homeport.canary;
\\endif
"""

# One writer at a time, so no number is skipped.
WRITE_CANARY = f"""
SET application_name = 'hostctl canary';
BEGIN;
SET LOCAL synchronous_commit = on;
LOCK TABLE homeport.canary IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO homeport.canary SELECT coalesce(max(n), 0) + 1, clock_timestamp() FROM homeport.canary RETURNING n;
DELETE FROM homeport.canary WHERE n <= (SELECT max(n) FROM homeport.canary) - {KEPT_ROWS};
COMMIT;
"""  # noqa: S608 - no value from outside


def read_state(server: Server, database: str, before: DatabaseState | None = None) -> DatabaseState:
    """The state of the database at one moment. Raises HostError.

    `before` is an earlier state: the tables are then read up to the same transaction as there (see compare.Table).
    """
    horizon = _horizon(before)
    bound = {} if horizon is None else {"horizon": str(horizon)}
    script = SESSION + ("" if bound else HORIZON)
    script += "SELECT json_build_array('horizon', :'horizon');\n" + TABLES + MIGRATIONS + SCHEMA + CANARY + "COMMIT;\n"
    return _parse_state(_query_json(server, database, script, PATIENCE, bound))


def _horizon(before: DatabaseState | None) -> int | None:
    return next((table.upto for table in before.tables.values()), None) if before else None


def _query_json(server: Server, database: str, script: str, timeout: float, bound: dict[str, str]) -> list[Fact]:
    """The rows of a script; each result is one column of JSON without line breaks."""
    printed = cluster.query(server, script, database, READER, timeout=timeout, bound=bound)
    return [json.loads(line) for row in printed for line in row[0].splitlines() if line]


def _parse_state(facts: Iterable[Fact]) -> DatabaseState:
    tables: dict[str, Table] = {}
    versions, schema, canary, at, horizon = set(), "", Canary(0, 0, 0), 0.0, 0
    for kind, *values in facts:
        match kind:
            case "horizon":
                horizon = int(values[0])
            case "table":
                tables[str(values[0])] = Table(int(values[1]), str(values[2]), horizon)
            case "version":
                versions |= {int(values[0])} if str(values[0]).isdecimal() else set()
            case "schema":
                schema = str(values[0])
            case "canary":
                canary, at = Canary(*map(int, values[:3])), float(values[3])
    return DatabaseState(tables, schema, tuple(sorted(versions)), canary, at)


def migrations(server: Server, database: str) -> tuple[int, ...]:
    """The versions of the migrations that the app has recorded, if any. Raises HostError."""
    return _parse_state(_query_json(server, database, SESSION + MIGRATIONS + "COMMIT;\n", CANARY_PATIENCE, {})).versions


def write_canary(server: Server, config: Cluster) -> int:
    """Write the next numbered row, durable when this returns, and delete the oldest; returns its number.

    Raises HostError.
    """
    rows = cluster.query(server, WRITE_CANARY, config.name, timeout=CANARY_PATIENCE)
    if not rows or not rows[0][0].strip().isdecimal():
        raise HostError("the numbered row was not written", f"database {config.name} at {server.socket}", "deploy logs")
    return int(rows[0][0])
