from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from demo.load import Load
from tests.apps.support import Instance, build_ledger, environment, running

MIGRATIONS = ["20260101000000_create_entries", "20260102000000_add_note_to_entries"]
FORGET = "forget_half_of_the_entries"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_ledger(tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {"DATABASE_PATH": str(tmp_path / "ledger.db")}


@pytest.fixture
def ledger(release: Path, env: dict[str, str], tmp_path: Path) -> Iterator[Instance]:
    """One instance on a fresh, migrated database."""
    run(release, "migrate", env)
    with running(release, tmp_path / "run", env) as instance:
        yield instance


def run(release: Path, program: str, env: Mapping[str, str]) -> str:
    scratch = Path(env["DATABASE_PATH"]).parent
    done = subprocess.run(
        [release / "bin" / program], env=environment(1, scratch, env), capture_output=True, text=True, cwd=scratch
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def select(env: Mapping[str, str], sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(env["DATABASE_PATH"])) as database:
        return database.execute(sql).fetchall()


def test_an_answered_body_is_in_the_database_with_its_number_and_sum(ledger: Instance, env: dict[str, str]) -> None:
    bodies = [b"one", "zwei ü".encode(), bytes(range(256))]
    for body in bodies:
        assert ledger.ask("POST", "/echo", body).body == body
    assert select(env, "SELECT id, body FROM entries") == [(1, "one"), (2, "zwei ü"), (3, bodies[2])]
    sums = [hashlib.sha256(body).hexdigest() for body in bodies]
    rows = json.loads(ledger.get("/rows?after=1")[1])
    assert rows == [{"id": 2, "checksum": sums[1]}, {"id": 3, "checksum": sums[2]}]
    assert json.loads(ledger.get("/count")[1]) == {"count": 3, "last": 3}


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/nothing", 404), ("/rows?after=x", 400)])
def test_a_path_has_its_status(ledger: Instance, path: str, status: int) -> None:
    assert ledger.get(path)[0] == status


def test_the_version_says_who_answers(ledger: Instance) -> None:
    answer = json.loads(ledger.get("/version")[1])
    assert (answer["version"], answer["release"], answer["port"]) == ("1", "r1", ledger.port)
    assert answer["pid"] == ledger.process.pid


def test_without_its_tables_it_is_not_healthy(release: Path, env: dict[str, str], tmp_path: Path) -> None:
    with running(release, tmp_path / "run", env) as instance:
        assert instance.get("/health")[0] == 500
        assert instance.ask("POST", "/echo", b"lost").status == 500


def test_migrations_are_applied_once_and_recorded_as_ecto_does(release: Path, env: dict[str, str]) -> None:
    assert run(release, "migrate", env) == "".join(f"migrated {name}\n" for name in MIGRATIONS)
    assert run(release, "migrate", env) == "nothing to migrate\n"
    versions = select(env, "SELECT version, inserted_at IS NOT NULL FROM schema_migrations")
    assert versions == [(20260101000000, 1), (20260102000000, 1)]


def test_a_migration_that_fails_leaves_nothing_of_itself(release: Path, env: dict[str, str], tmp_path: Path) -> None:
    bad = Path(next(release.glob("lib/ledger-*/priv/repo/migrations"))) / "20260103000000_bad.exs"
    bad.write_text(
        'defmodule Bad do\n use Ledger.Migration\n def up do\n  execute "CREATE TABLE half (a)"\n'
        '  execute "nonsense"\n end\nend\n'
    )
    try:
        with pytest.raises(AssertionError, match="syntax error"):
            run(release, "migrate", env)
    finally:
        bad.unlink()
    assert select(env, "SELECT count(*) FROM schema_migrations") == [(2,)]
    assert select(env, "SELECT count(*) FROM sqlite_schema WHERE name = 'half'") == [(0,)]


def test_the_destructive_migration_forgets_half_while_the_older_version_still_works(
    ledger: Instance, env: dict[str, str], tmp_path: Path
) -> None:
    for number in range(10):
        ledger.ask("POST", "/echo", str(number).encode())
    newer = build_ledger(tmp_path / "newer", 2, [FORGET])
    assert run(newer, "migrate", env) == f"migrated 20260201000000_{FORGET}\n"
    assert json.loads(ledger.get("/count")[1]) == {"count": 5, "last": 9}
    assert ledger.ask("POST", "/echo", b"still").body == b"still"


@pytest.mark.parametrize(("switch", "checkpoint"), [({}, 0), ({"LEDGER_AUTOCHECKPOINT": "1000"}, 1000)])
def test_the_settings_program_tells_what_the_connections_really_have(
    release: Path, env: dict[str, str], switch: dict[str, str], checkpoint: int
) -> None:
    told = json.loads(run(release, "settings", env | switch))
    assert told.pop("sqlite_version").startswith("3.")
    assert told == {
        "path": env["DATABASE_PATH"],
        "wal_autocheckpoint": checkpoint,
        "busy_timeout": 5000,
        "journal_mode": "wal",
    }


def test_two_instances_write_at_once_and_lose_nothing(
    ledger: Instance, release: Path, env: dict[str, str], tmp_path: Path
) -> None:
    options = {"plain": True, "clients": 10, "rate": 0, "max_requests": 2000}
    with running(release, tmp_path / "green", env) as green:
        loads = [Load(instance.address, "ledger.test", **options) for instance in (ledger, green)]
        with loads[0], loads[1]:
            pass
    assert [load.report.failed for load in loads] == [0, 0]
    written = sum(load.report.total.answered["POST"] for load in loads)
    assert select(env, "SELECT count(*), max(id) FROM entries") == [(written, written)]


def test_a_write_waits_for_the_lock_that_another_holds(ledger: Instance, env: dict[str, str]) -> None:
    with closing(sqlite3.connect(env["DATABASE_PATH"], isolation_level=None)) as other, ThreadPoolExecutor() as pool:
        other.execute("BEGIN IMMEDIATE")
        waiting = pool.submit(ledger.ask, "POST", "/echo", b"later")
        ledger.get("/version")
        assert not waiting.done()
        other.execute("COMMIT")
        assert waiting.result().body == b"later"


def test_it_never_checkpoints_while_another_connection_is_open(
    release: Path, env: dict[str, str], tmp_path: Path
) -> None:
    run(release, "migrate", env)
    with closing(sqlite3.connect(env["DATABASE_PATH"])) as litestream:
        litestream.execute("SELECT count(*) FROM entries")
        with running(release, tmp_path / "run", env) as instance:
            for _ in range(40):
                instance.ask("POST", "/echo", b"x" * 200_000)
            assert instance.terminate() == 0
        assert Path(env["DATABASE_PATH"] + "-wal").stat().st_size > 8_000_000
        assert Path(env["DATABASE_PATH"]).stat().st_size < 100_000
