"""An app that is hostile in its own database: what it defines there never runs as the server's superuser.

Numbers in brackets are those of docs/explanation/security.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hostctl.backup import compare
from hostctl.common.errors import HostError
from hostctl.host.boundary import users
from hostctl.postgres import migrate
from hostctl.postgres.archive import drill
from hostctl.postgres.database import dumps, inspect, row_counts
from hostctl.postgres.server import cluster, roles
from hostctl.postgres.server.cluster import MONITOR, READER, SUPERUSER, Cluster, Server
from tests.apps.postgres import NAME, Postgres, postgres

OTHER_USER = "nobody"
# whatever calls it as the superuser hears of it
TRAP = """
CREATE SCHEMA evil;
CREATE FUNCTION evil.trap() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user) THEN
    RAISE EXCEPTION 'the superuser is in the trap';
  END IF;
END $$;
"""
TO_REGCLASS = """
CREATE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE sql AS $$ SELECT evil.trap(); SELECT NULL::regclass $$;
"""
EQUALS = """
CREATE FUNCTION evil.same(name, name) RETURNS bool LANGUAGE sql AS $$ SELECT evil.trap(); SELECT true $$;
CREATE FUNCTION evil.same(name, text) RETURNS bool LANGUAGE sql AS $$ SELECT evil.trap(); SELECT true $$;
CREATE FUNCTION evil.same(bigint, bigint) RETURNS bool LANGUAGE sql AS $$ SELECT evil.trap(); SELECT true $$;
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = name, FUNCTION = evil.same);
CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.same);
CREATE OPERATOR evil.<= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.same);
"""
CAST = """
CREATE FUNCTION evil.text_of(entries) RETURNS text LANGUAGE sql AS $$ SELECT evil.trap(); SELECT 'x' $$;
CREATE CAST (entries AS text) WITH FUNCTION evil.text_of(entries);
"""
INDEX = """
CREATE FUNCTION evil.key_of(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN PERFORM evil.trap(); RETURN $1; END $$;
CREATE INDEX by_key ON entries (evil.key_of(body));
"""
CANARY = """
CREATE SCHEMA homeport;
CREATE TABLE homeport.canary (n bigint PRIMARY KEY, at timestamptz NOT NULL);
CREATE FUNCTION evil.on_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM evil.trap(); RETURN new; END $$;
CREATE TRIGGER t BEFORE INSERT ON homeport.canary FOR EACH ROW EXECUTE FUNCTION evil.on_insert();
"""


class World:
    """The app's database, as a host has it that was provisioned before there were roles: it belongs to the app."""

    def __init__(self, server: Postgres) -> None:
        self.postgres = server
        self.server = Server(server.bin, server.data, server.root)
        self.config = Cluster(NAME, "hostile", 10, 5.0, None)
        self.root_sql(f"CREATE DATABASE hostile OWNER {NAME}", SUPERUSER)

    def root_sql(self, statements: str, database: str = "hostile", user: str = SUPERUSER) -> str:
        """What psql prints, as an administrator runs it, without any of hostctl's settings."""
        argv: list[str | Path] = [self.server.bin / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.server.socket]
        argv += ["-U", user, "-d", database]
        done = subprocess.run(
            cluster.as_postgres(argv),
            input=statements,
            capture_output=True,
            text=True,
            env=cluster.environment(),
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def app(self, statements: str) -> str:
        """Statements of the app."""
        return self.root_sql(statements, user=NAME)

    def refused(self, statement: str) -> str:
        with pytest.raises(AssertionError) as error:
            self.app(statement)
        return str(error.value)

    def converge(self) -> None:
        roles.converge(self.server, self.config)

    def look(self) -> compare.DatabaseState:
        return inspect.read_state(self.server, "hostile")

    def everything(self) -> None:
        """All that hostctl asks or does in the database, other than dumps."""
        roles.converge(self.server, self.config)
        inspect.write_canary(self.server, self.config)
        row_counts.canary(self.server, "hostile")
        row_counts.rows(self.server, "hostile")
        row_counts.size(self.server, "hostile")
        inspect.migrations(self.server, "hostile")
        migrate.invalid_indexes(partial(cluster.query, self.server, database="hostile"))
        self.look()
        drill.amcheck(self.server)


@pytest.fixture(scope="module")
def running() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture
def world(running: Postgres) -> Iterator[World]:
    found = World(running)
    found.app("CREATE SCHEMA own; GRANT ALL ON SCHEMA own TO PUBLIC")
    found.root_sql(f"GRANT CREATE ON SCHEMA public TO {NAME}")
    found.app("CREATE TABLE entries (id int PRIMARY KEY, body text); INSERT INTO entries VALUES (1, 'a'), (2, 'b')")
    yield found
    running.sql("ALTER DATABASE hostile WITH ALLOW_CONNECTIONS true IS_TEMPLATE false", SUPERUSER)
    running.sql("DROP DATABASE hostile WITH (FORCE)", SUPERUSER)
    running.sql(f"ALTER ROLE {NAME} RESET ALL", SUPERUSER)


# ---------------------------------------------------------------------------------------------- what the app defines


@pytest.mark.parametrize("defined", [TO_REGCLASS, EQUALS], ids=["a function", "operators"])
@pytest.mark.parametrize("where", ["DATABASE hostile", f"ROLE {NAME}"])
def test_what_stands_before_pg_catalog_in_the_search_path_is_not_found(world: World, defined: str, where: str) -> None:
    """[60] [61]"""
    world.app(TRAP + defined)
    world.app(f"ALTER {where} SET search_path = evil, pg_catalog")
    if where.startswith("DATABASE"):
        # the attack is real: an administrator's own session walks into it
        with pytest.raises(AssertionError, match="the superuser is in the trap"):
            world.root_sql("SELECT to_regclass('x'); SELECT count(*) FROM pg_class WHERE relname = 'x'::name")
    world.everything()


@pytest.mark.parametrize("defined", [CAST, INDEX], ids=["a cast", "an index"])
def test_what_the_apps_types_and_indexes_call_does_not_run_as_the_superuser(world: World, defined: str) -> None:
    """[62] [63]"""
    world.app(TRAP + defined)
    if defined is CAST:
        with pytest.raises(AssertionError, match="the superuser is in the trap"):
            world.root_sql("SELECT (t.*)::text FROM entries AS t")
    world.everything()
    world.converge()
    target = Path(tempfile.mkdtemp()) / "dump"
    try:
        dumps.dump(world.server, "hostile", target)
    finally:
        shutil.rmtree(target.parent)


def test_a_schema_of_the_apps_with_the_name_of_hostctls_is_moved_away(world: World) -> None:
    """[64]"""
    world.app(TRAP + CANARY)
    with pytest.raises(AssertionError, match="the superuser is in the trap"):
        world.root_sql("INSERT INTO homeport.canary VALUES (1, now())")
    world.everything()
    assert world.root_sql("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'homeport'") == SUPERUSER
    assert world.root_sql(f"SELECT count(*) FROM {roles.SCHEMA_OF_THE_APP}.canary") == "0"
    for statement in (
        "CREATE TRIGGER t BEFORE INSERT ON homeport.canary FOR EACH ROW EXECUTE FUNCTION evil.on_insert()",
        "CREATE TABLE homeport.more (n int)",
        "INSERT INTO homeport.canary VALUES (0, now())",
        "DROP SCHEMA homeport CASCADE",
        "ALTER SCHEMA homeport RENAME TO other",
    ):
        assert "must be owner" in (answer := world.refused(statement)) or "permission denied" in answer


def test_a_dump_with_hostctls_schema_is_loaded_without_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """[65]"""
    monkeypatch.setattr(dumps, "as_user", lambda _, argv: [str(one) for one in argv])
    monkeypatch.setattr(dumps, "set_owner", lambda *_: None)
    world.app(TRAP + CANARY)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "hostile.dump"
        file.write_bytes(made_dump(world))
        world.converge()
        try:
            dumps.load(world.server, world.config, file, "hostile_loaded")
            found = row_counts.rows(world.server, "hostile_loaded")
            owner = world.root_sql("SELECT relowner::regrole FROM pg_class WHERE relname = 'canary'", "hostile_loaded")
            database = "SELECT datdba::regrole FROM pg_database WHERE datname = 'hostile_loaded'"
            assert (found, owner, world.root_sql(database)) == ({"entries": 2}, SUPERUSER, SUPERUSER)
            assert row_counts.canary(world.server, "hostile_loaded").rows == 1
        finally:
            dumps.drop_database(world.server, "hostile_loaded")


def made_dump(world: World) -> bytes:
    argv: list[str | Path] = [
        world.server.bin / "pg_dump",
        "-Fc",
        "-h",
        world.server.socket,
        "-U",
        SUPERUSER,
        "hostile",
    ]
    return subprocess.run(cluster.as_postgres(argv), capture_output=True, check=True, cwd="/").stdout


# ---------------------------------------------------------------------------------------------- what the app sets


@pytest.mark.parametrize(
    "setting",
    [
        f"role = {NAME}",
        "default_transaction_read_only = on",
        "row_security = on",
        "standard_conforming_strings = off",
        "transform_null_equals = on",
        "statement_timeout = '1ms'",
        "lock_timeout = '1ms'",
        "idle_in_transaction_session_timeout = '1ms'",
        "idle_session_timeout = '1ms'",
        "default_transaction_isolation = serializable",
        "client_min_messages = debug5",
    ],
)
def test_what_the_app_sets_for_the_sessions_of_its_database_reaches_only_its_own(world: World, setting: str) -> None:
    """[66]"""
    name = setting.partition(" ")[0]
    world.app(f"ALTER DATABASE hostile SET {setting}")
    world.everything()
    kept = "SELECT count(*) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'hostile'"
    assert world.root_sql(kept, SUPERUSER) == "1"  # it stays, for the app
    shown = cluster.query(world.server, f"SELECT current_setting('{name}'), session_user", "hostile")
    assert shown[0][1] == MONITOR
    assert shown[0][0] not in setting.partition("= ")[2].replace("'", "") or name == "client_min_messages"


def test_every_session_of_hostctls_searches_the_catalog_alone(world: World) -> None:
    world.app(f"ALTER DATABASE hostile SET search_path = own; ALTER ROLE {NAME} SET search_path = own")
    world.converge()
    for user in (MONITOR, READER, SUPERUSER):
        assert cluster.query(world.server, "SHOW search_path", "hostile", user) == [[""]]
        path = cluster.query(world.server, "SELECT current_schemas(true)", "hostile", user)
        assert path == [["{pg_catalog}"]]
    # the app's own checks see what the app sees
    assert cluster.query(world.server, "SHOW search_path", "hostile", NAME) == [["own"]]


# ---------------------------------------------------------------------------------------------- what the app may do


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER DATABASE hostile SET search_path = evil",
        "ALTER DATABASE hostile WITH ALLOW_CONNECTIONS false",
        "ALTER DATABASE hostile WITH CONNECTION LIMIT 0",
        "ALTER DATABASE hostile WITH IS_TEMPLATE true",
        f"ALTER DATABASE hostile OWNER TO {NAME}",
        f"ALTER ROLE {MONITOR} SET search_path = own",
        f"ALTER ROLE {READER} IN DATABASE hostile SET role = {NAME}",
        f"ALTER ROLE {NAME} CONNECTION LIMIT -1",
        f"SET ROLE {MONITOR}",
        f"SET ROLE {READER}",
        f"GRANT {READER} TO {NAME}",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE EVENT TRIGGER t ON ddl_command_start EXECUTE FUNCTION own.f()",
        "COPY entries FROM PROGRAM 'id'",
        "CREATE ROLE another SUPERUSER",
        "ALTER SYSTEM SET archive_command = 'id'",
    ],
)
def test_the_app_cannot_change_what_others_sessions_are_made_of(world: World, statement: str) -> None:
    """[67]"""
    world.converge()
    assert "ERROR" in world.refused(statement)


def test_what_an_ecto_app_does_it_can_still_do(world: World) -> None:
    world.converge()
    world.app("CREATE TABLE more (id int PRIMARY KEY, at timestamptz DEFAULT now())")
    world.app("CREATE EXTENSION citext; CREATE EXTENSION pgcrypto; CREATE EXTENSION pg_trgm; DROP EXTENSION pgcrypto")
    world.app("CREATE SCHEMA tenant; CREATE TABLE tenant.t (a citext); DROP SCHEMA tenant CASCADE")
    world.app("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'")
    world.app("CREATE TRIGGER t BEFORE INSERT ON more FOR EACH ROW EXECUTE FUNCTION f(); INSERT INTO more VALUES (1)")
    world.app("LISTEN x; NOTIFY x, 'y'; CREATE TEMPORARY TABLE mine (a int); SELECT pg_advisory_lock(1)")
    world.app("CREATE INDEX CONCURRENTLY by_at ON more (at)")
    world.app("ALTER TABLE entries ADD COLUMN note text; DROP TABLE more; CREATE PUBLICATION p FOR TABLE entries")
    world.app(f"ALTER ROLE {NAME} SET search_path = public, own; COMMENT ON SCHEMA public IS 'ours'")
    world.everything()


def test_an_open_session_of_the_app_goes_on_while_the_database_changes_its_owner(world: World) -> None:
    session = world.postgres.session(
        ["\\c hostile", f"SET SESSION AUTHORIZATION {NAME}", "BEGIN", "LOCK TABLE entries"]
    )
    world.converge()
    out, _ = session.communicate(
        "CREATE TEMPORARY TABLE mine (a int); CREATE TABLE later (a int); COMMIT; SELECT 'on';\n", timeout=30
    )
    assert out.strip().endswith("on")


def test_converging_again_changes_nothing(world: World) -> None:
    world.converge()
    asked = (
        "SELECT datacl, datdba FROM pg_database ORDER BY oid; SELECT nspacl, nspowner FROM pg_namespace ORDER BY oid; "
        "SELECT rolname, rolconnlimit, rolbypassrls, rolsuper FROM pg_roles ORDER BY 1"
    )
    before = world.root_sql(asked)
    world.converge()
    assert world.root_sql(asked) == before
    assert f"{READER}|-1|t|f" in before
    assert f"{MONITOR}|-1|f|f" in before


# ---------------------------------------------------------------------------------------------- checks of the app's


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT set_config('role', 'postgres', false) IS NOT NULL",
        "SELECT set_config('session_authorization', 'postgres', false) IS NOT NULL",
        f"SELECT set_config('role', '{READER}', false) IS NOT NULL",
        "SELECT pg_read_file('/etc/passwd') IS NOT NULL",
        "COPY (SELECT 1) TO PROGRAM 'id'",
    ],
)
def test_a_check_of_a_backup_has_no_way_back_to_another_role(world: World, statement: str) -> None:
    """[68]"""
    world.converge()
    (found,) = drill.verify(world.server, world.config, [statement])
    assert "permission denied" in found or "must be superuser" in found


def test_who_reads_the_apps_data_sees_all_of_it_and_can_do_nothing_else(world: World) -> None:
    """[69]"""
    world.app("ALTER TABLE entries ENABLE ROW LEVEL SECURITY; ALTER TABLE entries FORCE ROW LEVEL SECURITY")
    world.root_sql("CREATE TABLE public.of_the_operator AS SELECT 1 AS a")
    world.everything()
    assert row_counts.rows(world.server, "hostile") == {"entries": 2, "of_the_operator": 1}
    assert world.look().tables["public.entries"].rows == 2
    for statement in (
        "COPY public.entries FROM PROGRAM 'id'",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE postgres",
    ):
        with pytest.raises(HostError, match=r"permission denied|must be superuser"):
            cluster.query(world.server, statement, "hostile", READER)


# ---------------------------------------------------------------------------------------------- connections


def test_the_app_cannot_take_the_connections_of_hostctl_and_of_the_administrator(world: World) -> None:
    """[70]"""
    world.app("ALTER DATABASE hostile WITH CONNECTION LIMIT 0 IS_TEMPLATE true")
    world.converge()
    limit = int(world.root_sql(f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{NAME}'"))
    assert limit == 60 - 3 - roles.OWN_CONNECTIONS
    world.root_sql(f"ALTER ROLE {NAME} CONNECTION LIMIT 2")
    argv: list[str | Path] = [world.server.bin / "psql", "-Xq", "-h", world.server.socket, "-U", NAME, "-d", "hostile"]
    held = [subprocess.Popen(argv, stdin=subprocess.PIPE) for _ in range(2)]
    try:
        deadline = time.monotonic() + 30
        count = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{NAME}'"
        while cluster.query(world.server, count) != [["2"]]:
            assert time.monotonic() < deadline
        assert "too many connections for role" in world.refused("SELECT 1")
        world.look()
        inspect.write_canary(world.server, world.config)
    finally:
        for session in held:
            session.kill()
            session.wait()
            assert session.stdin
            session.stdin.close()


def test_a_database_that_lets_nobody_in_any_more_is_opened_again(world: World) -> None:
    world.root_sql("ALTER DATABASE hostile WITH ALLOW_CONNECTIONS false", SUPERUSER)
    world.everything()


# ---------------------------------------------------------------------------------------------- files and sockets


@pytest.mark.skipif(os.geteuid() != 0, reason="another user owns what root writes to")
def test_nothing_is_written_or_read_through_a_link_in_a_directory_of_the_server() -> None:
    """[71] [72]"""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as roots:
        copy, secret = Path(name) / "copy", Path(roots) / "secret"
        Path(name).chmod(0o755)
        secret.write_text("42")
        cluster.make_postgres_directory(copy)
        owner = users.find(SUPERUSER)
        users.run_as(owner, lambda: (copy / "pg_wal").symlink_to(roots))
        users.run_as(owner, lambda: (copy / "PG_VERSION").symlink_to(secret))
        with pytest.raises(PermissionError):
            cluster.write_file(copy / "pg_wal" / "recovery.signal", b"")
        with pytest.raises(HostError, match=r"^no PostgreSQL data: PermissionError$"):
            cluster.data_major(copy)
        cluster.write_file(copy / "PG_VERSION", b"15")
        assert (secret.read_text(), secret.stat().st_uid, (copy / "PG_VERSION").stat().st_uid) == ("42", 0, owner.uid)
        assert list(Path(roots).iterdir()) == [secret]


@pytest.mark.skipif(os.geteuid() != 0, reason="another user listens")
def test_a_socket_on_which_another_user_listens_is_no_server() -> None:
    """[73]"""
    program = (
        "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); time.sleep(60)"
    )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o777)
        argv = ["/usr/bin/python3", "-c", program, str(place / ".s.PGSQL.5432")]
        listening = subprocess.Popen(["setpriv", f"--reuid={OTHER_USER}", "--clear-groups", "--", *argv], cwd="/")
        try:
            deadline = time.monotonic() + 10
            while not (place / ".s.PGSQL.5432").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            (place / ".s.PGSQL.5432").chmod(0o777)
            version = cluster.VERSIONS / str(cluster.installed_majors()[-1]) / "bin"
            server = Server(version, place, place)
            with pytest.raises(HostError, match="requirepeer"):
                cluster.query(server, "SELECT 1")
            assert not cluster.accepts_sessions(server)
        finally:
            listening.kill()
            listening.wait()
