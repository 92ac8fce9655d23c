"""An app on PostgreSQL on a real host: pushes, kills, locks and updates under load; and a database elsewhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.writer import Writer
from homeport.sandbox import Sandbox
from tests.apps.support import build_guestbook, with_migrations
from tests.host.support import (
    SETTINGS,
    Done,
    Json,
    Project,
    bring_up,
    check_told,
    get,
    new_project,
    on_host,
    open_ports,
    public_ports,
    settled,
    unchanged,
    until,
    version,
)

APP = "guestbook"
DOMAIN = f"{APP}.sandbox.test"
SERVER = f"homeport-{APP}-postgres.service"
ADDS, WAITS, UNIQUE = "add_author_to_entries", "add_mood_to_entries", "make_checksums_unique"
LOCK_TIMEOUT = 1.0  # seconds
ELSEWHERE, PASSWORD = "visitors", "p@ss/w:rd-of-visitors"

Measured = Callable[..., None]
Releases = dict[str, Path]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """By what their migrations do beyond the first; `adds` is version 2."""
    directory = tmp_path_factory.mktemp("guestbooks")
    adds = build_guestbook(directory, 2, [ADDS])
    return {
        "first": build_guestbook(directory, 1),
        "adds": adds,
        "waits": with_migrations(adds, directory / "waits" / APP, WAITS),
        "unique": with_migrations(adds, directory / "unique" / APP, WAITS, UNIQUE),
    }


@pytest.fixture(scope="module")
def set_up(box: Sandbox, releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app on PostgreSQL, provisioned and pushed once."""
    database = {"engine": "postgres", "lock_timeout": f"{LOCK_TIMEOUT:g}s"}
    settings = {**SETTINGS, "domains": [DOMAIN], "database": database}
    project = new_project(tmp_path_factory.mktemp("guestbook") / "project", box, settings, DOMAIN, APP)
    bring_up(project, releases["first"])
    return project


@pytest.fixture
def app(set_up: Project) -> Project:
    """The app with one instance, of whatever version."""
    settled(set_up)
    return set_up


def sql(app: Project, statement: str) -> list[str]:
    """The lines that a statement of the app's own user prints."""
    psql = f"psql -XAtq -v ON_ERROR_STOP=1 -h /run/homeport-{APP}-postgres -d {APP} -c {shlex.quote(statement)}"
    return on_host(app.box, f"runuser -u {APP} -- {psql}").splitlines()


def rows(app: Project) -> set[str]:
    """Every body in the database."""
    return set(sql(app, "SELECT body FROM entries"))


def writing(app: Project) -> Writer:
    return Writer(app.box.address, DOMAIN, app.box.root)


def postmaster(app: Project) -> str:
    return on_host(app.box, f"systemctl show --value -p MainPID {SERVER}")


def trouble(app: Project) -> str:
    return "\n".join(app.status()["trouble"])


# ---------------------------------------------------------------------------------------------- pushes


@pytest.mark.parametrize("rounds", [1, pytest.param(2, marks=pytest.mark.full)])
def test_pushes_migrations_and_rollbacks_lose_no_request_and_no_acknowledged_row(
    app: Project, releases: Releases, measured: Measured, rounds: int
) -> None:
    first = app.live()
    with writing(app) as writer, app.load(rate=100) as load:
        for _ in range(rounds):
            load.mark("push")
            assert app.push(releases["adds"])["result"] == "live"
            load.mark("rollback")
            assert app.deploy("rollback", "--json").json["release"] == first
        writer.wait(max(100, 1001 - len(writer.acknowledged)))
    measured(f"{rounds} pushes and {rounds} rollbacks on PostgreSQL", load.report.total)
    assert load.report.failures == []
    assert writer.failed == {}
    assert len(writer.acknowledged) > 1000
    assert writer.missing(rows(app)) == []


def test_what_is_live_and_provisioned_needs_nothing_the_second_time(app: Project, releases: Releases) -> None:
    before = version(app), postmaster(app)
    assert unchanged(app)
    assert app.push(releases["first"])["result"] == "unchanged"
    assert (version(app), postmaster(app)) == before


# ---------------------------------------------------------------------------------------------- the server


def test_a_killed_postmaster_comes_back_by_itself_and_no_acknowledged_row_is_lost(
    app: Project, measured: Measured
) -> None:
    before = postmaster(app)
    with writing(app) as writer, app.load(rate=0) as load:
        writer.wait(200)
        load.mark("kill -9")
        # the sessions outlive the postmaster for a moment, and one may still take a statement
        gone = f"for each in {before} $sessions; do while kill -0 $each; do :; done; done 2>&-"
        kill = f"sessions=$(cat /proc/{before}/task/*/children); date +%s.%N; kill -9 {before}; {gone}; date +%s.%N"
        began, ended = map(float, on_host(app.box, kill).split())
        writer.wait(400)
        load.mark("afterwards")
        writer.wait(200)
    assert postmaster(app) not in (before, "0")
    phase = load.report.phase("kill -9")
    failed = [item for item in load.report.failures if item.phase == "kill -9"]
    measured(
        f"kill -9 of the postmaster ({len(failed)} failed, {sum(writer.failed.values())} writes)", phase, len(failed)
    )
    # what was sent and not answered nobody may send again; everything else was held
    assert len(failed) <= load.settings.clients
    assert [item for item in failed if item.at < began or item.started > ended] == []
    assert sum(writer.failed.values()) <= writer.clients
    assert writer.missing(rows(app)) == []
    assert load.report.phase("afterwards").failed == {}


def test_a_minor_update_restarts_the_server_once_and_the_app_holds_the_requests(
    app: Project, measured: Measured
) -> None:
    before = postmaster(app)
    program = on_host(app.box, f"readlink /proc/{before}/exe")
    on_host(app.box, f"cp -p {program} {program}.new && mv {program}.new {program}")
    with writing(app) as writer, app.load(rate=100) as load:
        writer.wait(100)
        on_host(app.box, f"systemctl start homeport-{APP}-watch.service")
        writer.wait(200)
    after = postmaster(app)
    measured("a minor update of PostgreSQL", load.report.total)
    assert after not in (before, "0")
    assert on_host(app.box, f"readlink /proc/{after}/exe") == program
    assert load.report.failures == []
    assert writer.failed == {}
    assert writer.missing(rows(app)) == []
    assert "an update replaced" in app.deploy("audit", "--json").out
    on_host(app.box, f"systemctl start homeport-{APP}-watch.service")
    assert postmaster(app) == after


def test_from_outside_three_ports_are_open_and_no_other(app: Project) -> None:
    assert open_ports(app.box.address) == [22, 80, 443]
    assert public_ports(app.box) == [22, 80, 443]


# ---------------------------------------------------------------------------------------------- migrations


@contextmanager
def holding(app: Project, statement: str) -> Iterator[None]:
    """A session that has run a statement in a transaction, and does not end it."""
    named, psql = (
        "application_name = 'nightly report'",
        f"psql -Xtq -h /run/homeport-{APP}-postgres -U postgres -d {APP}",
    )
    script = f"SET {named}; BEGIN; {statement}; SELECT pg_sleep(600)"
    on_host(app.box, f"systemd-run -q --collect --unit=holder {psql} -c {shlex.quote(script)}")
    held = f"SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {named} AND granted"
    until(lambda: sql(app, f"{held} AND relation = 'entries'::regclass") != [], "the lock is held")
    try:
        yield
    finally:
        end = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {named}"
        on_host(app.box, f"{psql} -c {shlex.quote(end)}")


def test_a_migration_that_waits_for_a_lock_gives_up_and_the_requests_behind_it_only_wait(
    app: Project, releases: Releases, measured: Measured
) -> None:
    before = app.live()
    with holding(app, "SELECT count(*) FROM entries"), app.load(rate=100) as load:
        failed = app.deploy("push", "--artifact", releases["waits"], "--json", check=False)
    measured("a push that does not get its lock", load.report.total)
    check_told(failed, 3, rf"waited longer than {LOCK_TIMEOUT:g} s for a lock \(database.lock_timeout\)")
    assert "nightly report" in failed.json["error"]["what"]
    assert "canceling statement due to lock timeout" in failed.json["error"]["what"]
    assert app.live() == before
    assert load.report.failures == []
    assert load.report.total.slowest >= LOCK_TIMEOUT / 2
    assert sql(app, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'guestbook_migrate'") == ["0"]
    assert app.push(releases["waits"])["result"] == "live"


def test_an_invalid_index_is_told_by_the_push_and_by_status_until_it_is_repaired(
    app: Project, releases: Releases
) -> None:
    before = app.live()
    for _ in range(2):
        sql(app, "INSERT INTO entries (body, checksum) VALUES ('twice', 'twice')")
    failed = app.deploy("push", "--artifact", releases["unique"], "--json", check=False)
    check_told(failed, 3, "the index public.entries_checksum_key on entries is invalid")
    assert "DROP INDEX CONCURRENTLY public.entries_checksum_key" in failed.json["error"]["what"]
    assert app.live() == before
    assert "entries_checksum_key" in trouble(app)

    repaired = console(app, "DROP INDEX CONCURRENTLY public.entries_checksum_key;", "--write")
    assert repaired.code == 0, repaired.err
    assert "entries_checksum_key" not in trouble(app)
    sql(app, "DELETE FROM entries a USING entries b WHERE a.checksum = b.checksum AND a.id > b.id")
    assert app.push(releases["unique"])["result"] == "live"


def console(app: Project, typed: str, *options: str) -> Done:
    """What `deploy db console` says to what is typed."""
    ran = subprocess.run(
        app.command("db", "console", *options), cwd=app.root, input=typed, capture_output=True, text=True, timeout=60
    )
    return Done(ran.returncode, ran.stdout, ran.stderr)


# ---------------------------------------------------------------------------------------------- a server elsewhere

CLUSTER = "/var/lib/postgresql/elsewhere"
MAKE = f"""
cd / && install -d -o postgres {CLUSTER} && bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
as_postgres() {{ runuser -u postgres -- "$@"; }}
printf '%s' {shlex.quote(PASSWORD)} >{CLUSTER}/word && chown postgres {CLUSTER}/word
as_postgres $bin/initdb -D {CLUSTER}/data -U {ELSEWHERE} --pwfile={CLUSTER}/word -A scram-sha-256 --no-sync >/dev/null
systemd-run -q --collect --unit=elsewhere -p User=postgres $bin/postgres -D {CLUSTER}/data -p 6543 \
  -k {CLUSTER} -c listen_addresses=127.0.0.1 -c max_connections=30
until PGPASSWORD=$(cat {CLUSTER}/word) psql -h 127.0.0.1 -p 6543 -U {ELSEWHERE} -d postgres \
  -c 'CREATE DATABASE visitors'; do sleep 0.2; done 2>/dev/null
"""


@pytest.fixture(scope="module")
def elsewhere(set_up: Project, releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Another app on the host, with the same code; its database is on a server that Homeport knows by a URL alone."""
    on_host(set_up.box, MAKE)
    domain = f"{ELSEWHERE}.sandbox.test"
    settings: Json = {**SETTINGS, "app": ELSEWHERE, "domains": [domain], "env": {"secret": ["DATABASE_URL"]}}
    settings |= {"database": {"engine": "external", "pool": 5}, "backup": {"enabled": False}}
    root = tmp_path_factory.mktemp(ELSEWHERE) / "project"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", "ecto://visitors:p%40ss%2Fw%3Ard-of-visitors@127.0.0.1:6543/visitors")
        project = new_project(root, set_up.box, settings, domain, APP)
        project.deploy("setup", "--artifact", releases["first"])
        yield project
    on_host(set_up.box, "systemctl stop elsewhere")


@pytest.mark.full
def test_a_database_elsewhere_is_migrated_written_to_and_asked_and_its_password_is_told_nowhere(
    elsewhere: Project, releases: Releases
) -> None:
    with Writer(elsewhere.box.address, elsewhere.domain, elsewhere.box.root, rate=50) as writer:
        writer.wait(20)
        pushed = elsewhere.deploy("push", "--artifact", releases["adds"])
        writer.wait(20)
    assert writer.failed == {}
    assert "of 27 connections in use" in pushed.out + pushed.err
    asked = console(elsewhere, "SELECT count(*) >= 40 AS kept FROM entries;\n")
    assert (asked.code, bool(re.search(r"\bt\b", asked.out))) == (0, True), asked.out + asked.err
    refused = console(elsewhere, "DELETE FROM entries;\n")
    assert "read-only transaction" in refused.out + refused.err
    status = elsewhere.status()
    assert (status["database"]["engine"], status["trouble"]) == ("external", [])
    assert "provider" in elsewhere.deploy("backup", "status", check=False).out
    said = [pushed.out + pushed.err, json.dumps(status), on_host(elsewhere.box, "journalctl -q --no-pager -o json -a")]
    assert [text for text in said if PASSWORD in text or "p%40ss" in text] == []


@pytest.mark.full
def test_a_pool_that_a_database_elsewhere_has_no_room_for_is_refused(elsewhere: Project, releases: Releases) -> None:
    before = elsewhere.live()
    elsewhere.configure(database={"engine": "external", "pool": 25})
    refused = elsewhere.deploy("push", "--artifact", releases["waits"], "--json", check=False)
    check_told(refused, 3, r"may open 30 together \(5 and 25\), and 2\d are left of 27")
    assert elsewhere.live() == before
    assert get(elsewhere, "/health").status == 200
