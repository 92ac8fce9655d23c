"""Short facts about a database: the rows of each table, its size, and the range of hostctl's numbered rows."""

from __future__ import annotations

from hostctl.backup.compare import Canary
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import READER, Server

PATIENCE = 6 * 3600.0  # seconds for the largest table
SHORT = 60.0  # seconds for a query that reads no whole table
COUNTS = """
SET application_name = 'hostctl look';
SET lock_timeout = '60s';
SELECT format('SELECT %L, count(*) FROM %I.%I',
  CASE n.nspname WHEN 'public' THEN '' ELSE n.nspname || '.' END || c.relname, n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p'
  AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'homeport')
ORDER BY n.nspname, c.relname \\gexec
"""
CANARY = """
SELECT to_regclass('homeport.canary') IS NOT NULL AS numbered \\gset
\\if :numbered
SELECT coalesce(min(n), 0), coalesce(max(n), 0), count(*) FROM homeport.canary;
\\endif
"""


def rows(server: Server, database: str) -> dict[str, int]:
    """The rows of each table of the app; names in the schema public have no prefix. Raises HostError."""
    return {name: int(count) for name, count in cluster.query(server, COUNTS, database, READER, timeout=PATIENCE)}


def canary(server: Server, database: str) -> Canary:
    """The range and number of hostctl's numbered rows. Raises HostError."""
    result = cluster.query(server, CANARY, database, timeout=SHORT)
    return Canary(*map(int, result[0])) if result else Canary(0, 0, 0)


def database_names(server: Server) -> set[str]:
    """Every database of the cluster. Raises HostError."""
    return {name for (name,) in cluster.query(server, "SELECT datname FROM pg_database", timeout=SHORT)}


def size(server: Server, database: str) -> int:
    """Bytes of a database on disk. Raises HostError."""
    sql = "SELECT pg_database_size(:'name')"
    return int(cluster.query(server, sql, bound={"name": database}, timeout=SHORT)[0][0])
