"""What a look into a database sees, and what its numbered rows tell: on a real server."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostctl.backup.compare import DatabaseState, compare
from hostctl.backup.drill import DamagedCopyError
from hostctl.common.errors import HostError
from hostctl.postgres.archive import drill
from hostctl.postgres.archive.timelines import Base
from hostctl.postgres.database import inspect
from hostctl.postgres.server import roles
from hostctl.postgres.server.cluster import Cluster, Server
from tests.apps.postgres import NAME, Postgres, postgres

numbers = itertools.count()


class World:
    """One database of the app's, and what a test does with it."""

    def __init__(self, server: Postgres) -> None:
        self.postgres, self.name = server, f"shop_{next(numbers)}"
        self.server = Server(server.bin, server.data, server.root)
        self.wanted = Cluster(NAME, self.name, 10, 5.0, None)
        server.sql(f"CREATE DATABASE {self.name} OWNER {NAME}", "postgres")
        roles.converge(self.server, self.wanted)
        self.sql("CREATE TABLE entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)")
        self.sql("CREATE TABLE schema_migrations (version bigint PRIMARY KEY)")
        self.sql("INSERT INTO entries (body) SELECT n::text FROM generate_series(1, 10) AS n")
        self.sql("INSERT INTO schema_migrations VALUES (20260101000000)")

    def sql(self, statement: str) -> list[list[str]]:
        return self.postgres.sql(statement, self.name)

    def look(self, before: DatabaseState | None = None) -> DatabaseState:
        return inspect.read_state(self.server, self.name, before)

    def canary(self) -> int:
        return inspect.write_canary(self.server, self.wanted)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture(scope="module")
def shared(server: Postgres) -> World:
    """A database for tests that do not mind what others have done to it."""
    return World(server)


@pytest.fixture
def world(server: Postgres) -> Iterator[World]:
    found = World(server)
    yield found
    server.sql(f"DROP DATABASE {found.name} WITH (FORCE)", "postgres")


def test_every_table_of_the_app_is_seen_and_only_those_that_a_restore_brings_back(world: World) -> None:
    world.sql("CREATE SCHEMA other")
    world.sql("""CREATE TABLE other."we|ird ' $$ \\ name" (t text)""")
    world.sql("""INSERT INTO other."we|ird ' $$ \\ name" VALUES (E'a\\nb'), (NULL)""")
    world.sql("CREATE UNLOGGED TABLE forgotten (a int)")
    world.sql("CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM entries")
    world.sql("CREATE TABLE parted (a int) PARTITION BY RANGE (a)")
    world.sql("CREATE TABLE part_one PARTITION OF parted FOR VALUES FROM (1) TO (9)")
    world.sql("INSERT INTO parted VALUES (3), (4)")
    world.canary()
    seen = {name: table.rows for name, table in world.look().tables.items()}
    assert seen == {
        "pg_catalog.pg_largeobject": 0,
        "public.entries": 10,
        "public.schema_migrations": 1,
        "other.we|ird ' $$ \\ name": 2,
        "public.sums": 1,
        "public.part_one": 2,
    }


def test_rows_that_came_later_do_not_count_and_those_that_changed_become_fewer(world: World) -> None:
    before = world.look()
    world.sql("INSERT INTO entries (body) VALUES ('new')")
    assert world.look(before).tables == before.tables
    world.sql("UPDATE entries SET body = body WHERE id = 1")
    world.sql("DELETE FROM entries WHERE id = 2")
    assert world.look(before).tables["public.entries"].rows == 8
    assert world.look().tables["public.entries"].rows == 10


def test_a_transaction_that_ran_when_the_look_began_counts_as_later(world: World) -> None:
    session = world.postgres.session([f"\\c {world.name}", "BEGIN", "INSERT INTO entries (body) VALUES ('open')"])
    before = world.look()
    session.communicate("COMMIT;\n")
    assert world.sql("SELECT count(*) FROM entries") == [["11"]]
    assert world.look(before).tables == before.tables


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET body = 'x' WHERE id = 3",
        "DELETE FROM entries WHERE id = 3",
        "UPDATE entries SET body = NULL",
    ],
)
def test_other_content_has_another_digest(world: World, change: str) -> None:
    before = world.look()
    world.sql(change)
    assert world.look().tables["public.entries"].digest != before.tables["public.entries"].digest


def test_the_same_content_has_the_same_digest_whatever_the_order_and_the_settings(world: World) -> None:
    world.sql("CREATE TABLE values_of (at timestamptz, x float8, b bytea, i interval)")
    world.sql("INSERT INTO values_of VALUES (now(), 0.1, '\\x00ff', '1 day 2 hours'), (now(), 1e300, '', '3 months')")
    before = world.look()
    for name, value in {"timezone": "Asia/Tokyo", "datestyle": "German", "extra_float_digits": "-5"}.items():
        world.sql(f"ALTER DATABASE {world.name} SET {name} = '{value}'")
    world.sql("CLUSTER entries USING entries_pkey")
    world.sql("VACUUM (FREEZE, FULL)")
    assert world.look(before).tables == before.tables


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE entries ALTER COLUMN body TYPE varchar(99)",
        "ALTER TABLE entries ALTER COLUMN body SET DEFAULT 'x'",
        "ALTER TABLE entries ADD CHECK (body <> 'x')",
        "CREATE INDEX ON entries (body)",
        "CREATE VIEW few AS SELECT 1",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TYPE mood AS ENUM ('glad')",
        "CREATE SCHEMA other",
        "CREATE EXTENSION amcheck",
        "ALTER TABLE entries ENABLE ROW LEVEL SECURITY",
        "GRANT SELECT ON entries TO PUBLIC",
        "ALTER SEQUENCE entries_id_seq INCREMENT 2",
    ],
)
def test_a_change_of_the_schema_is_seen(shared: World, change: str) -> None:
    before = shared.look()
    shared.sql(change)
    assert shared.look().schema != before.schema


def test_what_the_server_does_by_itself_is_no_change_of_the_schema(world: World) -> None:
    world.canary()
    before = world.look()
    session = world.postgres.session([f"\\c {world.name}", "CREATE TEMPORARY TABLE mine AS SELECT 1 AS a"])
    world.sql("VACUUM ANALYZE")
    world.sql("INSERT INTO entries (body) SELECT repeat('x', 9999) FROM generate_series(1, 99)")
    world.canary()
    assert world.look().schema == before.schema
    session.communicate()


def test_the_migrations_are_those_of_every_schema(world: World) -> None:
    world.sql("CREATE SCHEMA tenant")
    world.sql("CREATE TABLE tenant.schema_migrations (version bigint)")
    world.sql("INSERT INTO tenant.schema_migrations VALUES (20260102000000), (20260101000000)")
    assert world.look().versions == inspect.migrations(world.server, world.name) == (20260101000000, 20260102000000)


def test_numbered_rows_follow_each_other_and_only_the_newest_are_kept(world: World) -> None:
    assert [world.canary() for _ in range(3)] == [1, 2, 3]
    world.sql("INSERT INTO homeport.canary SELECT n, now() FROM generate_series(4, 10050) AS n")
    assert world.canary() == 10051
    seen = world.look()
    assert (seen.canary.first, seen.canary.last, seen.canary.missing) == (52, 10051, 0)
    assert abs(seen.at - time.time()) < 3600
    assert world.sql(f"SELECT has_table_privilege('{NAME}', 'homeport.canary', 'SELECT')") == [["t"]]


def test_two_who_write_numbered_rows_leave_no_number_out(world: World) -> None:
    world.canary()
    writers = [threading.Thread(target=lambda: [world.canary() for _ in range(10)]) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    seen = world.look().canary
    assert (seen.last, seen.missing) == (31, 0)


def test_a_database_without_numbered_rows_has_none(world: World) -> None:
    seen = world.look()
    assert (seen.canary.rows, seen.at) == (0, 0.0)
    assert compare(seen, seen, seen) == ["hostctl's numbered rows are missing"]


def test_a_table_that_stays_locked_is_an_error_with_the_servers_words(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect, "SESSION", inspect.SESSION.replace(f"{inspect.LOCK_PATIENCE:g}s", "100ms"))
    session = world.postgres.session([f"\\c {world.name}", "BEGIN", "LOCK TABLE entries"])
    with pytest.raises(HostError, match="lock timeout"):
        world.look()
    session.communicate()


# ---------------------------------------------------------------------------------------------- what a drill asks too


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        ("SELECT true", ""),
        ("SELECT count(*) FROM entries", ""),
        ("SELECT body = '1' FROM entries ORDER BY id", ""),
        ("SELECT false", "not true but 'f'"),
        ("SELECT 0.00", "not true but '0.00'"),
        ("SELECT NULL", "not true but ''"),
        ("SELECT 1 WHERE false", "no row"),
        ("SELECT 1 FROM nowhere", 'relation "nowhere" does not exist'),
        ("DELETE FROM entries", "read-only transaction"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
        ("\\! touch {file}", "syntax error"),
    ],
)
def test_a_check_of_the_app_holds_when_its_first_value_is_true(
    shared: World, tmp_path: Path, statement: str, wrong: str
) -> None:
    shared.sql(f"ALTER TABLE entries OWNER TO {NAME}")
    text = statement.format(file=tmp_path / "touched")
    (found,) = drill.verify(shared.server, shared.wanted, [text]) or [""]
    assert wrong in found
    assert bool(found) == bool(wrong)
    assert not found or found.endswith(f": {text}")
    assert not (tmp_path / "touched").exists()


def test_an_index_that_lacks_a_row_is_found(world: World) -> None:
    drill.amcheck(world.server)
    world.sql("CREATE INDEX by_body ON entries (body)")
    world.sql("UPDATE pg_index SET indisready = false WHERE indexrelid = 'by_body'::regclass")
    world.sql("INSERT INTO entries (body) VALUES ('not in the index')")
    world.sql("UPDATE pg_index SET indisready = true WHERE indexrelid = 'by_body'::regclass")
    with pytest.raises(DamagedCopyError, match=r"pg_amcheck finds the copy damaged: .*by_body"):
        drill.amcheck(world.server)
    world.sql("REINDEX INDEX by_body")
    drill.amcheck(world.server)


def test_what_can_be_restored_is_looked_for_after_and_before_each_base_backup() -> None:
    def base(ended: float) -> Base:
        return Base("", "full", ended - 5, ended, 1, 0, 0)

    assert drill.restore_times([]) == []
    assert drill.restore_times([base(100.0)]) == [101.0]
    assert drill.restore_times([base(100.0), base(200.0), base(300.0)]) == [301.0, 299.0, 201.0, 199.0, 101.0]
