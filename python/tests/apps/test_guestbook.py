from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from demo.load import Load
from tests.apps.postgres import NAME, Postgres, postgres
from tests.apps.support import (
    Instance,
    build_guestbook,
    copy_app,
    environment,
    mix,
    running,
    wait_until,
    with_migrations,
)

MIGRATIONS = ["20260101000000_create_entries", "20260102000000_add_note_to_entries"]
FORGET, MOOD, UNIQUE = "forget_half_of_the_entries", "add_mood_to_entries", "make_checksums_unique"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_guestbook(tmp_path_factory.mktemp("guestbook"))


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def env(server: Postgres) -> dict[str, str]:
    return {"DATABASE_URL": server.url, "POOL_SIZE": "5"}


@pytest.fixture(scope="module")
def instance(
    release: Path, server: Postgres, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    """One instance for all tests; `migrated` keeps the database as it is before each of them."""
    scratch = tmp_path_factory.mktemp("run")
    told = migrate(release, env, scratch)
    assert told == "".join(f"migrated {name}\n" for name in MIGRATIONS)
    server.sql(f"CREATE DATABASE migrated TEMPLATE {NAME}", "postgres")
    with running(release, scratch, env) as instance:
        yield instance


@pytest.fixture
def guestbook(instance: Instance, server: Postgres) -> Instance:
    """The instance on a fresh, migrated database; its sessions with the one before it are ended."""
    fresh(server, "migrated")
    return instance


def fresh(server: Postgres, template: str) -> None:
    server.sql(f"DROP DATABASE {NAME} WITH (FORCE)", "postgres")
    server.sql(f"CREATE DATABASE {NAME} TEMPLATE {template} OWNER {NAME}", "postgres")


def migrate(release: Path, env: Mapping[str, str], scratch: Path) -> str:
    program = [release / "bin" / "migrate"]
    done = subprocess.run(program, env=environment(1, scratch, env), capture_output=True, text=True, cwd=scratch)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass_and_it_is_formatted(env: dict[str, str], tmp_path: Path) -> None:
    app = copy_app("guestbook", tmp_path / "guestbook")
    mix(app, "format", "--check-formatted")
    mix(app, "test", "--warnings-as-errors", MIX_ENV="test", **env)


def test_an_answered_body_is_in_the_database_with_its_number_and_sum(guestbook: Instance, server: Postgres) -> None:
    bodies = [b"one", "zwei ü".encode(), bytes(range(3))]
    for body in bodies:
        assert guestbook.ask("POST", "/echo", body).body == body
    kept = [["1", "one"], ["2", "zwei ü"], ["3", "\\x000102"]]
    assert server.sql("SELECT id, body FROM entries ORDER BY id") == kept
    sums = [hashlib.sha256(body).hexdigest() for body in bodies]
    rows = json.loads(guestbook.get("/rows?after=1")[1])
    assert rows == [{"id": 2, "checksum": sums[1]}, {"id": 3, "checksum": sums[2]}]
    assert json.loads(guestbook.get("/count")[1]) == {"count": 3, "last": 3}
    assert [guestbook.get(path)[0] for path in ("/health", "/nothing", "/rows?after=x")] == [200, 404, 400]


def test_without_its_tables_it_is_not_healthy_and_migrations_are_recorded_as_ecto_does(
    guestbook: Instance, release: Path, env: dict[str, str], server: Postgres, tmp_path: Path
) -> None:
    assert migrate(release, env, tmp_path) == "nothing to migrate\n"
    assert guestbook.get("/health")[0] == 200
    versions = server.sql("SELECT version, inserted_at IS NOT NULL FROM schema_migrations ORDER BY 1")
    assert versions == [["20260101000000", "t"], ["20260102000000", "t"]]
    fresh(server, "template1")
    assert guestbook.get("/health")[0] == 500
    assert guestbook.ask("POST", "/echo", b"lost").status == 500


def test_a_migration_that_fails_leaves_nothing_of_itself_unless_it_runs_outside_of_a_transaction(
    guestbook: Instance, release: Path, env: dict[str, str], server: Postgres, tmp_path: Path
) -> None:
    for _ in range(2):
        guestbook.ask("POST", "/echo", b"twice")
    unique = with_migrations(release, tmp_path / "guestbook", MOOD, UNIQUE)
    with pytest.raises(AssertionError, match=r"could not create unique index .* \(23505\)"):
        migrate(unique, env, tmp_path)
    assert server.sql("SELECT max(version) FROM schema_migrations") == [["20260203000000"]]
    assert server.sql("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid") == [["entries_checksum_key"]]
    server.sql("DROP INDEX entries_checksum_key; DELETE FROM entries WHERE id = 2")
    assert migrate(unique, env, tmp_path) == f"migrated 20260204000000_{UNIQUE}\n"


def test_the_destructive_migration_forgets_half_while_the_older_version_still_works(
    guestbook: Instance, release: Path, env: dict[str, str], tmp_path: Path
) -> None:
    for number in range(10):
        guestbook.ask("POST", "/echo", str(number).encode())
    forgets = with_migrations(release, tmp_path / "guestbook", FORGET)
    assert migrate(forgets, env, tmp_path) == f"migrated 20260201000000_{FORGET}\n"
    assert json.loads(guestbook.get("/count")[1]) == {"count": 5, "last": 9}
    assert guestbook.ask("POST", "/echo", b"still").body == b"still"


def test_a_migration_waits_for_the_lock_that_another_holds_no_longer_than_lock_timeout(
    guestbook: Instance, release: Path, env: dict[str, str], server: Postgres, tmp_path: Path
) -> None:
    moody = with_migrations(release, tmp_path / "guestbook", MOOD)
    server.sql("ALTER ROLE guestbook SET lock_timeout = '200ms'")
    other = server.session(["BEGIN", "LOCK TABLE entries IN ROW EXCLUSIVE MODE"])
    try:
        with pytest.raises(AssertionError, match=r"canceling statement due to lock timeout \(55P03\)"):
            migrate(moody, env, tmp_path)
    finally:
        server.sql("ALTER ROLE guestbook RESET lock_timeout")
        other.communicate()
    assert migrate(moody, env, tmp_path) == f"migrated 20260203000000_{MOOD}\n"


def test_two_instances_write_at_once_and_lose_nothing(
    guestbook: Instance, release: Path, env: dict[str, str], server: Postgres, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"plain": True, "clients": 10, "rate": 0, "max_requests": 2000}
    with running(release, tmp_path / "green", env) as green:
        loads = [Load(instance.address, "guestbook.test", **options) for instance in (guestbook, green)]
        with loads[0], loads[1]:
            pass
    assert [load.report.failed for load in loads] == [0, 0]
    written = sum(load.report.total.answered["POST"] for load in loads)
    assert server.sql("SELECT count(*) FROM entries") == [[str(written)]]


def test_a_request_waits_while_the_server_is_restarted(guestbook: Instance, server: Postgres) -> None:
    guestbook.ask("POST", "/echo", b"before")
    server.stop()
    try:
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(guestbook.ask, "POST", "/echo", b"meanwhile")
            assert guestbook.get("/version")[0] == 200
            assert not waiting.done()
            server.start()
            assert waiting.result().body == b"meanwhile"
    finally:
        if not (server.data / "postmaster.pid").exists():
            server.start()
    assert server.sql("SELECT body FROM entries ORDER BY id") == [["before"], ["meanwhile"]]


def test_restarts_under_load_fail_no_request_and_a_kill_only_what_was_in_flight(
    guestbook: Instance, server: Postgres
) -> None:
    options: dict[str, Any] = {"plain": True, "clients": 10, "rate": 300, "seconds": 60}
    with Load(guestbook.address, "guestbook.test", **options) as load:

        def goes_on(answers: int) -> None:
            wanted = load.progress().answered + answers
            wait_until(lambda: load.progress().answered > wanted)

        for _ in range(3):
            load.mark("restart")
            server.stop()
            server.start()
            goes_on(50)
        load.mark("kill")
        server.kill()
        server.start()
        goes_on(50)
    failed = {phase.name: sum(phase.failed.values()) for phase in load.report.phases}
    assert failed["restart"] == 0
    assert failed["kill"] <= 10
