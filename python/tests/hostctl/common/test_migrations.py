from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hostworld import World
from hypothesis import given, settings
from hypothesis import strategies as st

from hostctl.common.files import Json
from hostctl.common.release import migrations
from hostctl.common.release.migration_safety import breaking_changes
from hostctl.release import records
from hostctl.transitions import rollback_risk

APPS = Path(__file__).parents[4] / "molecule" / "apps"


def migration(body: str, name: str = "change") -> str:
    return f"defmodule Shop.Repo.Migrations.It do\n  use Ecto.Migration\n\n  def {name} do\n{body}\n  end\nend\n"


# ---------------------------------------------------------------------------------------------- additive

ADDS = [
    "create table(:users) do\n  add :email, :string, null: false\n  timestamps()\nend",
    "create_if_not_exists table(:users, primary_key: false), do: add(:id, :uuid, primary_key: true)",
    "create table(:users)\ncreate unique_index(:users, [:email])",
    "create index(:users, [:email],\n  name: :by_email,\n  where: \"email <> ''\"\n)",
    "create index(:users, [:team_id])  # drop table(:users)",
    "alter table(:users) do\n  add :age, :integer\nend",
    'alter table("users") do\n  add(:role, :string, default: "x", null: false)\nend',
    "alter table(:users) do\n  add_if_not_exists :team, references(:teams)\nend",
    "alter table(:users) do\n  timestamps(null: true)\nend",
    "create table(:teams)\nalter table(:teams) do\n  add :name, :string, null: false\nend",
    "@disable_ddl_transaction true\nflush()\ncreate index(:users, [:email], concurrently: true)",
    'execute "CREATE TABLE t (a INTEGER NOT NULL)"',
    'execute("CREATE INDEX i ON t (a)", "DROP INDEX i")',
    'execute """\n-- DROP TABLE t\nCREATE VIRTUAL TABLE f USING fts5(a); /* UPDATE */ ANALYZE;\n"""',
    'execute "ALTER TABLE t ADD COLUMN b TEXT"',
    "execute ~s(ALTER TABLE t ADD b TEXT NOT NULL DEFAULT 'x')",
    'execute "CREATE TABLE n (a)"\nexecute "CREATE UNIQUE INDEX u ON n (a)"',
    "execute \"INSERT INTO t (a) VALUES ('#1')\"",
    'create table(:a, comment: "with \\"quotes\\" and #{1 + length(["}"])}")',
    # PostgreSQL's own
    'execute "ALTER TABLE ONLY public.t ADD COLUMN a int, ADD COLUMN b numeric(4, 2) NOT NULL DEFAULT 1"',
    "execute \"ALTER TABLE IF EXISTS t ADD a text DEFAULT ',DROP ('\"",
    'execute "ALTER TABLE t ADD COLUMN a bigserial NOT NULL"',
    'execute "ALTER TABLE t ADD COLUMN a bigint GENERATED ALWAYS AS IDENTITY NOT NULL"',
    'execute "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON t USING gin (a)"',
    'execute "CREATE UNLOGGED TABLE public.n (a int)"\nexecute "CREATE UNIQUE INDEX ON public.n (a)"',
    "execute \"CREATE TYPE mood AS ENUM ('good'); CREATE EXTENSION IF NOT EXISTS citext; COMMENT ON TABLE t IS 'x'\"",
    "execute \"SET lock_timeout TO '5s'\"\nexecute \"SELECT setval('s', (SELECT max(id) FROM t))\"",
    'execute "CREATE TABLE n (a int)"\nexecute "ALTER TABLE n ADD COLUMN b int NOT NULL"',
    "",
]

TAKES = [
    'execute "ALTER TABLE users ADD CONSTRAINT positive CHECK (age > 0)"',
    "drop table(:users)",
    "drop_if_exists index(:users, [:email])",
    "rename table(:users), to: table(:people)",
    "rename table(:users), :name, to: :title",
    "alter table(:users) do\n  remove :age\nend",
    "alter table(:users) do\n  add :a, :string\n  modify :age, :string, from: :integer\nend",
    'execute "DELETE FROM users"',
    'execute "ALTER TABLE users DROP COLUMN age"',
    'execute "ALTER TABLE users RENAME TO people"',
    "execute \"UPDATE users SET name = ''\"",
    'execute "CREATE TABLE a (b); DROP TABLE users"',
    "repo().delete_all(User)",
    "Shop.Repo.update_all(User, set: [age: 1])",
    'create index(:a, [:b])\ncreate index(:a, [:c], name: "#{"}"}end")\ndrop table(:a)',
]

TAKES += [
    'execute "ALTER TABLE t ADD COLUMN a int, DROP COLUMN b"',
    'execute "ALTER TABLE t ADD COLUMN a int, ADD CONSTRAINT c CHECK (a > 0)"',
    'execute "ALTER TABLE t VALIDATE CONSTRAINT c"',
    "execute \"ALTER TYPE mood ADD VALUE 'bad'\"",
    'execute "DROP INDEX CONCURRENTLY i"',
]

BREAKS = [
    'execute "ALTER TABLE t ADD COLUMN a int, ADD COLUMN b int NOT NULL"',
    'execute "ALTER TABLE t ADD COLUMN a uuid PRIMARY KEY"',
    'execute "CREATE TABLE public.n (a int); CREATE UNIQUE INDEX CONCURRENTLY ON public.t (a)"',
    "create index(:users, [:email], unique: true, concurrently: true)",
    "create_if_not_exists table(:users)\nalter table(:users) do\n  add :age, :integer, null: false\nend",
    "alter table(:users) do\n  add :age, :integer, null: false\nend",
    "alter table(:users) do\n  add :team_id, references(:teams), null: false, default: nil\nend",
    "alter table(:users) do\n  timestamps()\nend",
    'execute "ALTER TABLE users ADD COLUMN age INTEGER NOT NULL"',
    "create unique_index(:users, [:email])",
    "create index(:users, [:email], unique: true)",
    'execute "CREATE UNIQUE INDEX IF NOT EXISTS u ON users (email)"',
    'execute "CREATE TRIGGER t AFTER INSERT ON users BEGIN DELETE FROM x; END"',
]

UNKNOWN = [
    'execute "SELECT drop_it_all()"',
    'execute "SELECT add_column FROM t WHERE  remove (a)"',
    'execute "DO $$ BEGIN DELETE FROM t END $$"',
    'execute "CREATE OR REPLACE VIEW v AS SELECT 1"',
    'execute "WITH gone AS (DELETE FROM t RETURNING *) SELECT 1"',
    "create constraint(:users, :no_overlap, exclude: ~s|gist (a WITH &&)|)",
    'execute fn -> repo().query!("CREATE TABLE a (b)") end',
    "execute(&create_it/0)",
    'execute "CREATE TABLE a" <> suffix()',
    'execute "CREATE TABLE #{name()} (b)"',
    'execute "PRAGMA writable_schema = 1"',
    'execute "INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1"',
    "Oban.Migration.up(version: 12)",
    "if direction() == :up do\n  create index(:a, [:b])\nelse\n  flush()\nend",
    "for name <- [:a, :b] do\n  create index(name, [:c])\nend",
    "table(:users) |> create()",
    'create constraint(:users, :positive, check: "age > 0")',
    "helper()",
]


@pytest.mark.parametrize("body", ADDS)
def test_what_only_adds_is_additive(body: str) -> None:
    assert breaking_changes(migration(body)) == []


@pytest.mark.parametrize(
    ("body", "why"),
    [(body, "takes away or changes") for body in TAKES]
    + [(body, "older code") for body in BREAKS]
    + [(body, "not recognised") for body in UNKNOWN],
)
def test_what_may_break_older_code_is_named(body: str, why: str) -> None:
    (found,) = breaking_changes(migration(body))
    assert why in found


def test_every_reason_is_told_in_the_order_of_the_file_and_on_one_line() -> None:
    body = "alter table(:users) do\n  remove :age\n  remove :name,\n    :string\nend\ndrop table(:old)"
    told = ["remove :age", "remove :name, :string", "drop table(:old)"]
    assert breaking_changes(migration(body)) == [f"takes away or changes: {line}" for line in told]


def test_only_the_way_forward_counts() -> None:
    up = migration("create table(:a)", "up").removesuffix("end\n")
    assert breaking_changes(up + "\n  def down do\n    drop table(:a)\n  end\nend\n") == []
    assert breaking_changes(
        'defmodule A do\n  def up, do: execute("DROP TABLE a")\n  def change, do: flush()\nend'
    ) == ["takes away or changes: DROP TABLE a"]


@pytest.mark.parametrize(
    "source", ["", "defmodule A do\nend", "def change do\nend", "defmodule A do\n  def down do\n end\nend"]
)
def test_a_file_without_a_way_forward_is_not_recognised(source: str) -> None:
    assert breaking_changes(source) == ["not recognised: it has neither change nor up"]


def test_the_end_of_what_stands_inside_an_argument_does_not_end_the_migration() -> None:
    body = "execute(fn ->\n  if true do\n    flush()\n  end\nend)\ndrop table(:a)"
    assert [why.partition(":")[0] for why in breaking_changes(migration(body))] == [
        "not recognised",
        "takes away or changes",
    ]


WORDS = [
    "do",
    "end",
    "fn",
    "def",
    "change",
    "create",
    "table",
    "(",
    ")",
    '"',
    "'",
    '"""',
    "#{",
    "}",
    "~s(",
    "\n",
    ":a",
    "%",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=60).map(" ".join))
def test_no_text_is_too_much_for_it(text: str) -> None:
    assert all(isinstance(why, str) for why in breaking_changes(text) + breaking_changes(migration(text)))


def test_deep_nesting_is_not_recognised() -> None:
    assert breaking_changes(migration("a do\n" * 5000)) == ["not recognised: it is nested too deeply"]


@settings(max_examples=100, deadline=None)
@given(st.permutations(ADDS[:8]), st.sampled_from([*TAKES[:9], *UNKNOWN[:3]]))
def test_one_bad_statement_is_found_wherever_it_stands(around: list[str], bad: str) -> None:
    others = [body.replace("users", "others") for body in around]
    body = "\n".join([*others[:4], bad, *others[4:]])
    assert len(breaking_changes(migration(body))) == 1


# ---------------------------------------------------------------------------------------------- a release's


def test_the_ledgers_own_migrations_are_read_from_its_tree(tmp_path: Path) -> None:
    directory = tmp_path / "lib" / "ledger-0.1.0" / "priv" / "repo" / "migrations"
    directory.mkdir(parents=True)
    for file in [*(APPS / "ledger/priv/repo/migrations").iterdir(), *(APPS / "ledger/extra").iterdir()]:
        (directory / file.name).write_bytes(file.read_bytes())
    (directory / ".formatter.exs").write_text("[]")
    (directory / "notes.md").write_text("not a migration")
    found = migrations.read_tree(tmp_path)
    assert [(entry["version"], entry["name"], entry["additive"]) for entry in found] == [
        (20260101000000, "create_entries", True),
        (20260102000000, "add_note_to_entries", True),
        (20260201000000, "forget_half_of_the_entries", False),
        (20260202000000, "add_author_to_entries", True),
    ]
    assert len(found[2]["why"]) == 2


# ---------------------------------------------------------------------------------------------- going back


def entry(version: int, *why: str) -> Json:
    return {"version": version, "name": f"m{version}", "additive": not why, "why": list(why)}


OLD: Json = {"migrations": [entry(1)]}
NEW: Json = {"migrations": [entry(1), entry(2), entry(3, "drops it")]}


def test_what_the_database_has_and_the_older_code_does_not_know_is_the_risk() -> None:
    assert rollback_risk.unknown_to(OLD, [NEW], {1, 2}) == [entry(2)]
    assert rollback_risk.unknown_to(OLD, [NEW], {1, 2, 3}) == [entry(2), entry(3, "drops it")]
    assert rollback_risk.unknown_to(NEW, [OLD], {1, 2, 3}) == []
    assert rollback_risk.unknown_to({}, [], set()) == []


def test_without_the_databases_word_the_records_count() -> None:
    assert rollback_risk.unknown_to(OLD, [NEW, {"release": "without migrations"}]) == [
        entry(2),
        entry(3, "drops it"),
    ]


def test_a_version_that_no_release_knows_is_a_risk() -> None:
    (unknown,) = rollback_risk.unknown_to(OLD, [], {1, 9})
    assert (unknown["version"], unknown["additive"]) == (9, False)


def test_only_what_is_not_additive_refuses() -> None:
    assert rollback_risk.refusal([entry(2)], "r1") is None
    refusal = rollback_risk.refusal([entry(2), entry(3, "drops it", "and more")], "r1")
    assert refusal is not None
    assert "3_m3: drops it\n    3_m3: and more" in refusal.what
    assert "2_m2" not in refusal.what
    assert "--with-data" in refusal.fix
    assert "--force" in refusal.fix
    assert "only add" in rollback_risk.warning([entry(2)])
    assert "may not work" in rollback_risk.warning([entry(2), entry(3, "drops it")])


def database(world: World, *versions: int, table: bool = True) -> None:
    path = world.app.data / "shop.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        if table:
            connection.execute("CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY)")
            connection.executemany("INSERT INTO schema_migrations VALUES (?)", [(version,) for version in versions])
        connection.commit()
    told = {"engine": "sqlite", "user": "shop", "litestream": "/litestream", "backup": None}
    world.app.database.write_text(json.dumps({**told, "databases": [{"name": "shop.db", "path": str(path)}]}))


def pushed(world: World, version: str, known: Json | None, how: str | None = None) -> str:
    world.push(version, how)
    release = records.releases(world.app)[-1]
    record = {key: value for key, value in records.load(world.app, release).items() if key != "migrations"}
    records.save(world.app, record | (known or {}))
    return release


def test_a_push_records_its_migrations(world: World) -> None:
    release = world.push("one")["release"]
    assert records.load(world.app, release)["migrations"] == []


def test_the_database_is_asked_how_far_it_is(world: World) -> None:
    old = pushed(world, "one", OLD)
    pushed(world, "two", NEW)
    database(world, 1, 2)
    assert rollback_risk.unknown_migrations(world.app, old) == [entry(2)]


def test_a_push_that_failed_after_migrating_counts_by_what_the_database_says(world: World) -> None:
    old = pushed(world, "one", OLD)
    pushed(world, "two", NEW, "crashes")
    assert rollback_risk.unknown_migrations(world.app, old) == []
    database(world, 1, 2, 3)
    assert rollback_risk.unknown_migrations(world.app, old) == [entry(2), entry(3, "drops it")]


def test_a_database_without_ectos_table_leaves_it_to_the_records(world: World) -> None:
    old = pushed(world, "one", OLD)
    pushed(world, "two", NEW)
    database(world, table=False)
    assert rollback_risk.unknown_migrations(world.app, old) == [entry(2), entry(3, "drops it")]


def test_a_release_of_before_records_had_migrations_is_read_from_its_tree(world: World) -> None:
    old = pushed(world, "one", None)
    pushed(world, "two", NEW)
    directory = world.app.tree(old) / "lib/shop-1/priv/repo/migrations"
    directory.mkdir(parents=True)
    for version in (1, 2):
        (directory / f"{version}_m{version}.exs").write_text(migration("flush()"))
    database(world, 1, 2, 3)
    assert rollback_risk.unknown_migrations(world.app, old) == [entry(3, "drops it")]
