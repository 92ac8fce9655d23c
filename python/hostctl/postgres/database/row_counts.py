"""What is told of a database in short: the rows of its tables, and whether hostctl's numbered rows are whole."""

from __future__ import annotations

from hostctl.backup.compare import Canary
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import Server

PATIENCE = 6 * 3600.0  # seconds for the largest table
SHORT = 60.0  # seconds for a question that reads no table as a whole
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
    """How many rows each table of the app has; one of the schema public goes by its name alone. Raises HostError."""
    return {name: int(count) for name, count in cluster.query(server, COUNTS, database, timeout=PATIENCE)}


def canary(server: Server, database: str) -> Canary:
    """hostctl's numbered rows. Raises HostError."""
    found = cluster.query(server, CANARY, database, timeout=SHORT)
    return Canary(*map(int, found[0])) if found else Canary(0, 0, 0)


def database_names(server: Server) -> set[str]:
    """Every database of the cluster. Raises HostError."""
    return {name for (name,) in cluster.query(server, "SELECT datname FROM pg_database", timeout=SHORT)}


def size(server: Server, database: str) -> int:
    """Bytes of a database on disk. Raises HostError."""
    asked = "SELECT pg_database_size(:'name')"
    return int(cluster.query(server, asked, bound={"name": database}, timeout=SHORT)[0][0])
