"""The roles of an app's cluster, and who owns what in it.

* postgres, the superuser, owns the databases. Its sessions are in the database postgres, to which no role of the app
  can connect; in the app's database they only define what this module says.
* The app's role owns the objects of its database, not the database: so it cannot set anything for the sessions of
  others, shut them out, or rename it. It may create schemas and trusted extensions there.
* MONITOR reads the server's state, and writes hostctl's numbered rows. It runs nothing of the app's.
* READER reads the app's data: for row counts, comparisons and dumps. These may run code of the app's (a cast, a
  function of an index), which then has the app's own privileges, and those to read; never the superuser's.

A cluster from before has another owner and lacks the roles: `converge` corrects it while the app works. Idempotent.
"""

from __future__ import annotations

from collections.abc import Sequence

from hostctl.common.errors import FAILED, HostError
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import MONITOR, READER, SUPERUSER, Cluster, Server, administer

OWN_CONNECTIONS = 5  # of the monitor, the WAL stream, a dump, a comparison and the one that comes next
ATTEMPTS = 50
PATIENCE = 60.0  # seconds; a definition waits for a lock of a migration
SCHEMA_OF_THE_APP = "homeport_replaced"  # the name that a schema of the app's gets, which has the name of hostctl's

APP_ROLE = """
SELECT format('CREATE ROLE %I LOGIN', :'user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') \\gexec
"""
# `reserved_connections` is a setting of PostgreSQL 16 and later
ROLES = f"""
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['{MONITOR}', '{READER}']) AS own(name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \\gexec
BEGIN;
ALTER ROLE {MONITOR} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE {READER} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS;
GRANT pg_monitor TO {MONITOR};
GRANT pg_read_all_data, :"user" TO {READER};
SELECT format('ALTER ROLE %I NOSUPERUSER NOCREATEROLE CONNECTION LIMIT %s', :'user',
  greatest(1, current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int - {OWN_CONNECTIONS})) \\gexec
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT ON DATABASE template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE postgres TO {MONITOR};
COMMIT;
"""  # noqa: S608 - no value from outside
# what the app could set as the owner; its settings for sessions (ALTER DATABASE ... SET) stay, and reach only its own
DATABASE = f"""
BEGIN;
ALTER DATABASE :"name" OWNER TO {SUPERUSER};
ALTER DATABASE :"name" WITH ALLOW_CONNECTIONS true CONNECTION LIMIT -1 IS_TEMPLATE false;
REVOKE CONNECT, TEMPORARY ON DATABASE :"name" FROM PUBLIC;
GRANT CONNECT, CREATE, TEMPORARY ON DATABASE :"name" TO :"user";
GRANT CONNECT ON DATABASE :"name" TO {MONITOR}, {READER};
COMMIT;
"""
# Definitions alone: they run nothing of the app's. Since version 15 `public` belongs to the owner of the database.
CONTENT = f"""
BEGIN;
SELECT format('ALTER SCHEMA public OWNER TO %I', :'user') FROM pg_namespace
WHERE nspname = 'public' AND nspowner IN ('{SUPERUSER}'::regrole, 'pg_database_owner'::regrole) \\gexec
SELECT 'ALTER SCHEMA homeport RENAME TO {SCHEMA_OF_THE_APP}' FROM pg_namespace
WHERE nspname = 'homeport' AND nspowner <> '{SUPERUSER}'::regrole \\gexec
CREATE SCHEMA IF NOT EXISTS homeport;
CREATE TABLE IF NOT EXISTS homeport.canary (n bigint PRIMARY KEY, at timestamptz NOT NULL);
REVOKE ALL ON SCHEMA homeport FROM PUBLIC;
REVOKE ALL ON homeport.canary FROM PUBLIC;
-- the app may read it, so that a pg_dump as the app's role works
GRANT USAGE ON SCHEMA homeport TO :"user", {MONITOR}, {READER};
REVOKE CREATE ON SCHEMA homeport FROM :"user";
GRANT SELECT ON homeport.canary TO :"user", {READER};
GRANT SELECT, INSERT, DELETE ON homeport.canary TO {MONITOR};
COMMIT;
"""  # noqa: S608 - no value from outside
# another table with that name would have rules and triggers of its owner's
CANARY_OWNER = """
SELECT relkind = 'r' AND relowner = 'postgres'::regrole FROM pg_class WHERE oid = 'homeport.canary'::regclass
"""
CREATE_DATABASE = 'CREATE DATABASE :"name" TEMPLATE template0'
CREATE_EXTENSION = 'SET search_path = public; CREATE EXTENSION IF NOT EXISTS :"extension" CASCADE'
NOTICES = "SET client_min_messages = error;\n"  # "it exists already" is no news


def converge(server: Server, config: Cluster) -> None:
    """Make the roles, and correct the owners and privileges of the app's database. Raises HostError. Idempotent.

    It locks no table of the app's, and keeps every session.
    """
    bound = {"user": config.user}
    administer(server, NOTICES + APP_ROLE + ROLES, timeout=PATIENCE, bound=bound)
    converge_database(server, config, config.name)


def converge_database(server: Server, config: Cluster, name: str) -> None:
    """As `converge`, for one database of the app's, once there are the roles. Raises HostError."""
    bound = {"user": config.user, "name": name}
    administer(server, NOTICES + DATABASE, timeout=PATIENCE, bound=bound)
    administer(server, NOTICES + CONTENT, name, PATIENCE, {"user": config.user})
    if administer(server, CANARY_OWNER, name) != [["t"]]:
        what = "the table homeport.canary is not hostctl's"
        fix = "drop it as the role postgres: hostctl makes its own; then deploy provision"
        raise HostError(what, f"database {name}", fix, FAILED)


def create_database(server: Server, config: Cluster, name: str, extensions: Sequence[str] = ()) -> None:
    """Create a database for the app with these extensions, and its privileges. Raises HostError."""
    administer(server, CREATE_DATABASE, timeout=PATIENCE, bound={"name": name})
    for extension in extensions:
        # before the app may create anything there, so nothing of it is found in the schema
        administer(server, CREATE_EXTENSION, name, PATIENCE, {"extension": extension})
    converge_database(server, config, name)


def create(server: Server, config: Cluster) -> None:
    """Create all roles and the app's database in a new cluster. Raises HostError."""
    bound = {"user": config.user}
    administer(server, NOTICES + APP_ROLE + ROLES, timeout=PATIENCE, bound=bound)
    create_database(server, config, config.name)


def require_access(server: Server, sleep: cluster.Sleep, poll: float = 0.1) -> None:
    """Wait until MONITOR can connect: the server reads its access rules a moment after the reload. Raises HostError."""
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            cluster.query(server, "SELECT 1")
            return
        except HostError:
            if not attempts_left:
                raise
        sleep(poll)
