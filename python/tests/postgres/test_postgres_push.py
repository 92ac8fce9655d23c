"""What a push asks of PostgreSQL, and what stands around its migrations, against a real server."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from hostctl.common.errors import HostError
from hostctl.common.files import write_json
from hostctl.core.paths import App, Layout
from hostctl.host import credentials
from hostctl.host.systemd import Unit
from hostctl.postgres import connections_check, migrate
from hostctl.postgres.connections_check import Capacity
from hostctl.postgres.external import connection
from hostctl.postgres.external import console as external_console
from hostctl.postgres.external import push as external
from hostctl.postgres.server import cluster, roles, url
from hostctl.postgres.server.cluster import Cluster, Server
from hostctl.release import envfile, environment
from tests.apps.postgres import NAME, Postgres, postgres

RELEASE, OLDER = "20261121T070000Z-abc1234", "20261120T070000Z-def5678"
SECRET = "p@ss/w:rd"


class Runs:
    """systemd that runs a transient unit's command here, with the variables that its files hold."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def show(self, *_: str) -> list[Unit]:
        return [Unit({"ActiveState": "active"})]

    def text(self, unit: str) -> str:
        return f"[Service]\nUser={NAME}\n"

    def stop(self, unit: str) -> None:
        self.asked.append(["stop", unit])

    def foreground(self, unit: str, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]) -> int:
        self.asked.append(list(argv[4:]))
        (path,) = [line.rpartition(":")[2] for line in properties if line.startswith("LoadCredentialEncrypted=")]
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / "environment").write_bytes(credentials.read(Path(path), "environment"))
            env = {"PATH": os.environ["PATH"], "CREDENTIALS_DIRECTORY": directory}
            # as systemd does: of two dollars one
            command = [word.replace("$$", "$") for word in argv]
            return subprocess.run(command, env=env, stdout=output, stderr=output, check=False, cwd="/").returncode


class Push:
    """A push that is under way, as far as these steps see it."""

    def __init__(self, app: App) -> None:
        self.app, self.release, self.notes = app, RELEASE, list[str]()
        self.journal = SimpleNamespace(previous=OLDER, id="t1")
        self.systemd = Runs()
        self.host = SimpleNamespace(systemd=self.systemd)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def give(self, release: str = RELEASE, **variables: str) -> None:
        self.app.record(release).mkdir(parents=True, exist_ok=True)
        environment.save(self.app, release, variables, [])


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        roles.converge(Server(server.bin, server.data, server.root), Cluster(NAME, NAME, 5, 0.2, None))
        yield server


@pytest.fixture
def app(server: Postgres, tmp_path: Path) -> App:
    """The app whose cluster that server is."""
    app = Layout(tmp_path).app("shop")
    app.cluster_socket, app.cluster_data, app.cluster_bin = server.root, server.data, server.bin
    app.database.parent.mkdir(parents=True)
    told = {"engine": "postgres", "user": NAME, "name": NAME, "pool": 5, "lock_timeout": 0.2, "backup": None}
    write_json(app.database, told)
    write_json(app.config, {"app": "shop", "user": NAME})
    return app


@pytest.fixture
def push(app: App, server: Postgres) -> Push:
    push = Push(app)
    push.give(RELEASE, DATABASE_URL=server.url, POOL_SIZE="5")
    push.give(OLDER, DATABASE_URL=server.url, POOL_SIZE="5")
    return push


def work(push: Push) -> Any:
    return push


# ---------------------------------------------------------------------------------------------- guard


def test_a_server_that_answers_and_has_room_lets_the_push_go_on(push: Push) -> None:
    told = connections_check.check_release(work(push))
    assert told.startswith("PostgreSQL 1")
    assert told.endswith(" of 57 connections in use")
    (asked,) = push.systemd.asked
    assert asked[0].startswith("/usr/lib/postgresql/")
    assert asked[-1] == "SELECT 1"


def test_pools_that_do_not_fit_beside_each_other_are_refused(push: Push) -> None:
    push.give(RELEASE, POOL_SIZE="53")
    with pytest.raises(HostError, match=r"may open 58 together \(5 and 53\), and 52 are left of 57") as caught:
        connections_check.check_release(work(push))
    assert "database.pool" in caught.value.where + caught.value.fix


@pytest.mark.parametrize(
    ("room", "pools", "fits"),
    [
        (Capacity(40, None, 10, 0, "17"), (10, 10), True),
        (Capacity(40, None, 30, 0, "17"), (10, 10), True),
        (Capacity(40, None, 31, 0, "17"), (10, 10), False),
        (Capacity(40, None, 10, 21, "17"), (10, 10), False),
        (Capacity(40, 19, 10, 0, "17"), (10, 10), False),
        (Capacity(3, None, 0, 0, "17"), (0, 1), True),
        (Capacity(1, None, 0, 0, "17"), (0, 1), False),
    ],
)
def test_room_is_what_the_server_has_less_what_others_hold(room: Capacity, pools: tuple[int, int], fits: bool) -> None:
    if fits:
        connections_check.require_connections(room, *pools, where="here")
    else:
        with pytest.raises(HostError, match="not enough connections"):
            connections_check.require_connections(room, *pools, where="here")


def test_a_role_that_may_not_connect_is_told_with_the_servers_words(push: Push, server: Postgres) -> None:
    server.sql(f"ALTER ROLE {NAME} NOLOGIN")
    try:
        with pytest.raises(HostError, match=r'guestbook cannot connect .* role "guestbook" is not permitted to log in'):
            connections_check.check_release(work(push))
    finally:
        server.sql(f"ALTER ROLE {NAME} LOGIN")


def test_a_server_that_does_not_answer_is_told(push: Push) -> None:
    push.app.cluster_socket = push.app.data
    with pytest.raises(HostError, match="PostgreSQL does not answer"):
        connections_check.check_release(work(push))


def test_while_the_log_is_dropped_no_migration_goes_live(push: Push, monkeypatch: pytest.MonkeyPatch) -> None:
    push.app.cluster.mkdir(parents=True)
    (push.app.cluster / "dropping").touch()
    monkeypatch.setattr(
        "hostctl.backup.restore_points.new_migrations", lambda *_: {"lib/shop/priv/repo/migrations/1_a.exs"}
    )
    with pytest.raises(HostError, match="could not be undone"):
        connections_check.check_release(work(push))
    monkeypatch.setattr("hostctl.backup.restore_points.new_migrations", lambda *_: set())
    connections_check.check_release(work(push))
    push.journal.previous = None
    connections_check.check_release(work(push))
    assert len([note for note in push.notes if "WAL is dropped" in note]) == 2


# ---------------------------------------------------------------------------------------------- migrations


@pytest.fixture
def table(server: Postgres) -> str:
    server.sql("DROP TABLE IF EXISTS things; CREATE TABLE things (a int); ALTER TABLE things OWNER TO guestbook")
    server.sql("INSERT INTO things VALUES (1), (1)")
    return "things"


def migrating(push: Push, *statements: str) -> Callable[[], None]:
    """What a migration does: a session of psql with the variables that it is given."""

    def run() -> None:
        own = envfile.parse(credentials.read(push.app.record(RELEASE) / "migrate.cred", "environment").decode())
        env = {**cluster.environment(), **url.variables(own["DATABASE_URL"], "DATABASE_URL")}
        argv = [str(push.app.cluster_bin / "psql"), "-Xtq", "--csv", "-v", "ON_ERROR_STOP=1"]
        argv += ["-v", "VERBOSITY=verbose"]  # with the SQLSTATE, as Ecto prints it
        argv += [option for one in statements for option in ("-c", one)]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        (push.app.record(RELEASE) / "migrate.log").write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            raise HostError("the migration failed", "migrate.log", "mend it")

    return run


def log(push: Push) -> list[str]:
    return (push.app.record(RELEASE) / "migrate.log").read_text().splitlines()


def test_migrations_run_as_the_apps_role_with_the_timeout_and_nobody_else_has_it(push: Push, server: Postgres) -> None:
    for _ in range(2):
        with migrate.around_migrations(work(push)):
            migrating(push, "SELECT current_user, session_user, current_setting('lock_timeout')")()
        assert log(push) == ["guestbook,guestbook_migrate,200ms"]
    assert not (push.app.record(RELEASE) / "migrate.cred").exists()
    assert push.notes == []
    assert server.sql("SELECT setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = setrole") == [
        ["{role=guestbook,lock_timeout=200ms}"]
    ]


def test_what_a_migration_makes_belongs_to_the_app(push: Push, server: Postgres) -> None:
    server.sql("CREATE SCHEMA IF NOT EXISTS made AUTHORIZATION guestbook")
    with migrate.around_migrations(work(push)):
        migrating(push, "CREATE TABLE made.one (a int)", "RESET ROLE", "CREATE TABLE made.two (a int)")()
    assert server.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'made'") == [["guestbook"]]


def test_a_migration_that_waits_too_long_for_a_lock_is_told_with_who_may_hold_it(
    push: Push, server: Postgres, table: str
) -> None:
    other = server.session(["SET application_name = 'nightly report'", "BEGIN", f"LOCK TABLE {table} IN SHARE MODE"])
    try:
        with pytest.raises(HostError) as caught, migrate.around_migrations(work(push)):
            migrating(push, f"ALTER TABLE {table} ADD COLUMN b int")()
    finally:
        other.communicate()
    assert "waited longer than 0.2 s for a lock (database.lock_timeout)" in caught.value.what
    assert "postgres nightly report (process " in caught.value.what
    assert "idle in transaction" in caught.value.what
    assert "the migration failed" in caught.value.what
    assert "lock_timeout" in caught.value.fix


def test_an_invalid_index_that_a_failed_build_leaves_is_told_with_its_repair_and_the_repair_works(
    push: Push, server: Postgres, table: str
) -> None:
    build = f'CREATE UNIQUE INDEX CONCURRENTLY "by A" ON {table} (a)'
    told = pytest.raises(HostError, match=r"the index public.by A on things is invalid")
    with told as caught, migrate.around_migrations(work(push)):
        migrating(push, build)()
    assert 'DROP INDEX CONCURRENTLY public."by A"; if its migration is to run again' in caught.value.what
    (found,) = migrate.invalid_indexes(server.sql)
    server.sql(f"DELETE FROM {table}")
    server.sql(found.repair)
    assert migrate.invalid_indexes(server.sql) == []


def test_what_reindex_leaves_behind_is_dropped_and_noted_after_a_good_migration(
    push: Push, server: Postgres, table: str
) -> None:
    with pytest.raises(AssertionError):
        server.sql(f"CREATE UNIQUE INDEX CONCURRENTLY by_a ON {table} (a)")
    with pytest.raises(AssertionError):
        server.sql("REINDEX INDEX CONCURRENTLY by_a")
    with migrate.around_migrations(work(push)):
        migrating(push, "SELECT 1")()
    assert len(push.notes) == 2
    found = {one.name: one.repair for one in migrate.invalid_indexes(server.sql)}
    assert found["public.by_a_ccnew"] == "DROP INDEX CONCURRENTLY public.by_a_ccnew"
    assert found["public.by_a"] == "REINDEX INDEX CONCURRENTLY public.by_a"


def test_a_migration_that_did_not_even_start_fails_as_it_failed(push: Push, table: str) -> None:
    with pytest.raises(HostError, match="no such program") as caught, migrate.around_migrations(work(push)):
        raise HostError("no such program", "bin/migrate", "make it")
    assert caught.value.what == "no such program"


def test_a_database_url_of_the_apps_own_is_left_alone_and_that_is_said(push: Push) -> None:
    push.give(RELEASE, DATABASE_URL="ecto://me@db.example.com/other")
    with migrate.around_migrations(work(push)):
        assert not (push.app.record(RELEASE) / "migrate.cred").exists()
    assert "lock_timeout does not apply" in push.notes[0]


# ---------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "ecto://shop@localhost/shop?socket_dir=/run/homeport-shop-postgres",
            {"PGHOST": "/run/homeport-shop-postgres", "PGPORT": "5432", "PGUSER": "shop", "PGDATABASE": "shop"},
        ),
        (
            "postgres://a%40b:p%40ss%2Fw%3Ard@db.example.com:6432/my%20shop?sslmode=verify-full&pool_size=3",
            {"PGHOST": "db.example.com", "PGPORT": "6432", "PGUSER": "a@b", "PGPASSWORD": SECRET}
            | {"PGDATABASE": "my shop", "PGSSLMODE": "verify-full"},
        ),
        (
            "postgresql://u:p@[2001:db8::1]/shop?ssl=true",
            {"PGHOST": "2001:db8::1", "PGPORT": "5432", "PGUSER": "u", "PGPASSWORD": "p", "PGDATABASE": "shop"}
            | {"PGSSLMODE": "require"},
        ),
    ],
)
def test_a_url_becomes_the_variables_of_libpq(given: str, told: dict[str, str]) -> None:
    assert url.variables(given, "DATABASE_URL") == told


@pytest.mark.parametrize(
    "bad", ["", "mysql://u:secret@h/d", "ecto://u:secret@h", "ecto://u:secret@h:x/d", "ecto://[u:secret@h/d", "secret"]
)
def test_what_is_no_url_is_refused_without_telling_it(bad: str) -> None:
    with pytest.raises(HostError, match="DB is not the URL") as caught:
        url.variables(bad, "DB")
    assert "secret@" not in str(caught.value.as_dict())


def test_another_user_takes_the_place_of_user_and_password() -> None:
    assert url.with_user("ecto://u:p@h:1/d?x=y", "a_b") == "ecto://a_b@h:1/d?x=y"


# ---------------------------------------------------------------------------------------------- external


@pytest.fixture
def elsewhere(push: Push, server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Push:
    """The same server, as if it were somebody else's."""
    # the role has no user of the system here
    monkeypatch.setattr(connection, "as_app", lambda _, argv: list(argv))
    server.sql("DROP TABLE IF EXISTS schema_migrations")
    write_json(push.app.database, {"engine": "external", "user": NAME, "url": "DB_URL", "pool": 5, "backup": None})
    address = f"ecto://{NAME}:p%40ss%2Fw%3Ard@localhost/{NAME}?socket_dir={server.root}"
    push.give(RELEASE, DB_URL=address)
    push.give(OLDER, DB_URL=address)
    push.app.live_link.symlink_to(f"releases/{OLDER}")
    return push


def test_a_database_elsewhere_is_reached_from_the_confinement_without_its_url_in_an_argument(elsewhere: Push) -> None:
    assert "of 57 connections in use" in external.check_release(work(elsewhere))
    (argv,) = elsewhere.systemd.asked
    assert not any(SECRET in part or "p%40" in part for part in argv)
    assert not (elsewhere.app.record(RELEASE) / "settings.cred").exists()


def test_its_connections_are_counted_too(elsewhere: Push, server: Postgres) -> None:
    server.sql(f"ALTER ROLE {NAME} CONNECTION LIMIT 9")
    try:
        with pytest.raises(HostError, match=r"and 9 are left of 57") as caught:
            external.check_release(work(elsewhere))
    finally:
        server.sql(f"ALTER ROLE {NAME} CONNECTION LIMIT -1")
    assert caught.value.where == f"{NAME} at {server.root}"


def test_a_server_that_is_not_there_is_told_without_the_password(elsewhere: Push) -> None:
    elsewhere.give(RELEASE, DB_URL="ecto://me:nosuchpassword@127.0.0.1:1/shop")
    with pytest.raises(HostError, match=r"the database does not answer: .*Connection refused") as caught:
        external.check_release(work(elsewhere))
    assert "nosuchpassword" not in str(caught.value.as_dict())


def test_a_release_without_the_url_is_refused(elsewhere: Push) -> None:
    elsewhere.give(RELEASE)
    with pytest.raises(HostError, match="no release has DB_URL"):
        external.check_release(work(elsewhere))


def test_its_versions_are_those_of_ectos_table(elsewhere: Push, server: Postgres) -> None:
    assert external.applied_migrations(elsewhere.app) is None
    server.sql("CREATE TABLE schema_migrations (version bigint); GRANT SELECT ON schema_migrations TO guestbook")
    server.sql("INSERT INTO schema_migrations VALUES (1), (2)")
    assert external.applied_migrations(elsewhere.app) == {1, 2}
    server.sql("DROP TABLE schema_migrations")


def test_its_invalid_indexes_are_told_after_migrations(elsewhere: Push, server: Postgres, table: str) -> None:
    with pytest.raises(AssertionError):
        server.sql(f"CREATE UNIQUE INDEX CONCURRENTLY by_a ON {table} (a)")
    with external.around_migrations(work(elsewhere)):
        pass
    assert "REINDEX INDEX CONCURRENTLY public.by_a" in elsewhere.notes[0]


def test_it_has_no_restore_points_and_is_dumped_but_not_loaded(elsewhere: Push, table: str, tmp_path: Path) -> None:
    assert "provider's" in (external.no_point_reason(elsewhere.app) or "")
    dumped = external_console.copy(elsewhere.app, external_console.database_name(elsewhere.app, None), True, tmp_path)
    assert "CREATE TABLE public.things" in dumped.read_text()
    with pytest.raises(HostError, match="does not replace it"):
        external_console.check_file(elsewhere.app, dumped)
    with pytest.raises(HostError, match="no database other"):
        external_console.database_name(elsewhere.app, "other")
