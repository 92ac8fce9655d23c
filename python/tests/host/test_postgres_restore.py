"""PostgreSQL's data of another time on a real host: exactly what it was, no request lost, undone if it fails."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.writer import Writer
from homeport.sandbox import Sandbox, reboot
from tests.apps.support import build_guestbook
from tests.host.support import SETTINGS, Json, Project, bring_up, check_told, get, new_project, on_host, until
from tests.host.test_restore import iso, quiet_second

APP = "guestbook"
DOMAIN = f"{APP}.sandbox.test"
CLUSTER, STATE = f"/var/lib/postgresql/homeport/{APP}", f"/var/lib/homeport/{APP}"
SOCKET = f"/run/homeport-{APP}-postgres"
PSQL = f"psql -XAtq -h {SOCKET} -U postgres"
ADDS, FORGETS = "add_author_to_entries", "forget_half_of_the_entries"

Releases = dict[str, Path]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    directory = tmp_path_factory.mktemp("guestbooks")
    return {"good": build_guestbook(directory, 1), "forgets": build_guestbook(directory, 2, [ADDS, FORGETS])}


@pytest.fixture(scope="module")
def set_up(box: Sandbox, releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app on PostgreSQL, provisioned and pushed once, archived."""
    settings = {**SETTINGS, "domains": [DOMAIN]}
    project = new_project(tmp_path_factory.mktemp("restored") / "project", box, settings, DOMAIN, APP)
    bring_up(project, releases["good"])
    until(lambda: backed_up(project), "a base backup is taken", 240)
    return project


@pytest.fixture
def app(set_up: Project, releases: Releases) -> Project:
    """The app with the good release live."""
    set_up.push(releases["good"])
    return set_up


def backed_up(app: Project) -> bool:
    """Whether there is a base backup; the watch of every minute, which takes it, is run now."""
    app.box.run(f"hostctl {APP} stream watch")
    told = app.deploy("backup", "status", "--json", check=False).json
    return bool(told["database"]["backup"]["full"])


def rows(app: Project, database: str = APP) -> set[str]:
    """Every body in a database."""
    return set(on_host(app.box, f"{PSQL} -d {database} -c 'SELECT body FROM entries'").splitlines())


def content(app: Project) -> str:
    """A digest of all that pg_dump sees of the app's own tables.

    The word that guards its text is another one each time, and a sequence goes on up to 32 numbers later after any
    recovery: PostgreSQL writes them to its log ahead.
    """
    dump = f"pg_dump -h {SOCKET} -U postgres --exclude-schema=homeport {APP}"
    return on_host(app.box, f"{dump} | grep -v -e restrict -e setval | sha256sum")


def writing(app: Project) -> Writer:
    return Writer(app.box.address, DOMAIN, app.box.root)


def write(app: Project, count: int) -> set[str]:
    """So many rows, and what they are."""
    with writing(app) as writer:
        writer.wait(count)
    assert writer.failed == {}
    return set(writer.acknowledged)


def console(app: Project, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    argv = app.command("db", "console", *options)
    return subprocess.run(argv, cwd=app.root, input=text, capture_output=True, text=True, check=False)


# ---------------------------------------------------------------------------------------------- rollback with data


def test_a_rollback_with_data_after_a_destructive_migration_gives_back_what_pg_dump_saw(
    app: Project, releases: Releases
) -> None:
    write(app, 300)
    before, good, entries = content(app), app.live(), rows(app)
    assert app.push(releases["forgets"])["result"] == "live"
    write(app, 50)
    assert rows(app) & entries != entries
    refused = app.deploy("rollback", "--json", check=False)
    check_told(refused, 1, FORGETS)
    assert "deploy rollback --with-data" in refused.json["error"]["fix"]

    done = app.deploy("rollback", "--with-data", "--yes", "--json").json
    assert done["release"] == app.live() == good
    assert content(app) == before
    assert on_host(app.box, f"cat {done['kept']['aside']}/PG_VERSION")
    assert set(done["kept"]["tables"]) == {APP}


def test_a_rollback_with_data_under_load_fails_no_request_and_gives_up_only_what_it_says(
    app: Project, releases: Releases
) -> None:
    with writing(app) as writer:
        writer.wait(300)
        app.push(releases["forgets"])
        writer.wait(300)
        point = json.loads(on_host(app.box, f"hostctl {APP} points"))["points"][-1]
        app.deploy("rollback", "--with-data", "--yes")
        back = time.time()
        writer.wait(300)
    assert writer.failed == {}
    found = rows(app)
    assert writer.missing(found, before=point["at"]) == []
    assert [at for body, at in writer.acknowledged.items() if at > back and body not in found] == []


# ---------------------------------------------------------------------------------------------- another time


def test_restored_to_a_second_the_rows_are_exactly_those_of_that_second_and_a_restore_point_is_one_too(
    app: Project, releases: Releases, tmp_path: Path, measured: Callable[..., None]
) -> None:
    first = write(app, 200) | rows(app)
    at = quiet_second()
    second = write(app, 200)
    told = app.deploy("restore", "--at", iso(at), "--dry-run", "--json").json
    assert told["databases"][APP]["tables"]["entries"] == len(first)
    file = tmp_path / "then.dump"
    sent = app.deploy("restore", "--at", iso(at), "--to", file, "--json").json
    assert sent["bytes"] == file.stat().st_size
    assert file.read_bytes().startswith(b"PGDMP")
    assert rows(app) == first | second

    with app.load(rate=100) as load:
        load.mark("restore")
        app.deploy("restore", "--at", iso(at), "--yes")
    measured("PostgreSQL: a restore in place", load.report.total)
    assert load.report.failures == []
    assert first <= rows(app)
    assert not second & rows(app)

    third = write(app, 50)
    app.push(releases["forgets"])
    point = json.loads(on_host(app.box, f"hostctl {APP} points"))["points"][-1]
    app.deploy("restore", "--restore-point", point["id"], "--yes")
    assert first | third <= rows(app)
    app.deploy("rollback", "--force")


def told(app: Project) -> list[Json]:
    """What is kept aside, as `deploy backup list` says."""
    found: list[Json] = app.deploy("backup", "list", "--json").json["aside"]
    return found


@pytest.mark.parametrize("at", ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
def test_a_time_that_cannot_be_restored_is_refused_with_the_range(app: Project, at: str) -> None:
    refused = app.deploy("restore", "--at", at, "--yes", "--json", check=False)
    check_told(refused, 2, r"outside what can be restored: \d{4}-\d\d-\d\d .* UTC to .* UTC")


# ---------------------------------------------------------------------------------------------- dump, load, console


def test_a_shell_of_the_console_is_behind_the_walls_of_the_instance(app: Project) -> None:
    asked = console(app, "\\! grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; id -un\n")
    assert asked.stdout == f"NoNewPrivs:\t1\nSeccomp:\t2\n{APP}\n"
    for command in (f"ls {STATE}/releases/*/secrets", "sudo -n true", "touch /var/lib/x", "ls /root"):
        assert console(app, f"\\! {command} >/dev/null 2>&1 && echo works\n").stdout == ""


def test_a_dump_is_taken_away_and_loaded_and_the_old_database_is_kept(app: Project, tmp_path: Path) -> None:
    first = write(app, 100) | rows(app)
    file = tmp_path / "now.dump"
    app.deploy("db", "dump", file)
    second = write(app, 50)
    with writing(app) as writer:
        writer.wait(20)
        done = app.deploy("db", "load", file, "--yes", "--json").json
        back = time.time()
        writer.wait(50)
    assert writer.failed == {}
    found = rows(app)
    assert first <= found
    assert not second & found
    assert {body for body, at in writer.acknowledged.items() if at > back} <= found
    assert second <= rows(app, done["kept"]["aside"].removeprefix("the database "))
    (listed,) = (one for one in told(app) if one["path"] == done["kept"]["aside"])
    assert listed["bytes"] > 1 << 20
    app.deploy("backup", "forget", listed["id"], "--yes")
    assert listed["path"] not in {one["path"] for one in told(app)}
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert on_host(app.box, f'{PSQL} -d {APP} -c "{owners}"') == APP


def test_the_console_answers_as_the_apps_own_role_and_writes_only_when_asked_to(app: Project) -> None:
    asked = console(app, "SELECT current_user, count(*) >= 0 FROM entries;\n")
    assert (asked.returncode, asked.stdout.strip()) == (0, f"{APP}\tt")
    refused = console(app, "DELETE FROM entries WHERE body = 'nothing';\n")
    assert refused.returncode != 0
    assert "read-only transaction" in refused.stdout + refused.stderr
    written = console(app, "DELETE FROM entries WHERE body = 'nothing' RETURNING body;\n", "--write")
    assert written.returncode == 0, written.stderr
    assert "db console" in on_host(app.box, f"tail -n 3 {STATE}/audit.jsonl")


# ---------------------------------------------------------------------------------------------- undone


@pytest.fixture
def useless(app: Project, tmp_path: Path) -> Path:
    """A sound dump with which the app is not healthy."""
    file = tmp_path / "useless.dump"
    make = f"createdb -h {SOCKET} -U postgres useless && {PSQL} -d useless -c 'CREATE TABLE unknown(n int)'"
    on_host(app.box, f"{make} && pg_dump -Fc -h {SOCKET} -U postgres -f /tmp/useless useless")
    on_host(app.box, f"dropdb -h {SOCKET} -U postgres useless")
    file.write_bytes(bytes.fromhex(on_host(app.box, "xxd -p /tmp/useless || od -An -v -tx1 /tmp/useless")))
    return file


@pytest.mark.parametrize(
    "how",
    [pytest.param("left alone", marks=pytest.mark.full), pytest.param("kill -9", marks=pytest.mark.full), "power cut"],
)
def test_data_with_which_the_app_is_not_healthy_is_undone_however_that_ends(
    app: Project, useless: Path, how: str
) -> None:
    write(app, 50)
    before, release = content(app), app.live()
    running = app.start("db", "load", useless, "--yes")
    try:
        if how != "left alone":
            until(lambda: phase(app) == "health", "the load comes to its health check", 60)
        if how == "kill -9":
            on_host(app.box, f"systemctl kill --signal=KILL homeport-{APP}-transition.service")
        elif how == "power cut":
            reboot(app.box.name, hard=True)
        running.communicate(timeout=180)
    finally:
        running.kill()
    until(lambda: serves(app), "the app serves again", 90)
    assert app.live() == release
    assert content(app) == before
    assert on_host(app.box, f"{PSQL} -d {APP} -c 'SELECT count(*) FROM pg_database'") == known(app)
    write(app, 20)


def known(app: Project) -> str:
    """How many databases there are when nothing is left over: the server's own, the app's, those that went aside."""
    names = on_host(app.box, f"{PSQL} -d {APP} -c 'SELECT datname FROM pg_database'").splitlines()
    return str(len([name for name in names if not name.startswith(f"{APP}_loaded") and "_undone_" not in name]))


@pytest.mark.full
def test_with_a_power_cut_while_data_changes_places_it_is_the_old_or_the_new_and_whole(app: Project) -> None:
    then = rows(app)
    at = quiet_second()
    now = then | write(app, 50)
    running = app.start("restore", "--at", iso(at), "--yes")
    try:
        until(lambda: phase(app) in ("data", "start", "health"), "the data is exchanged", 120)
        reboot(app.box.name, hard=True)
        running.communicate(timeout=180)
    finally:
        running.kill()
    until(lambda: serves(app), "the app serves again", 90)
    assert rows(app) in (then, now)
    assert on_host(app.box, f"ls {CLUSTER}/fetched 2>/dev/null || true") == ""
    write(app, 20)


def phase(app: Project) -> str:
    told: Json = json.loads(app.box.run(f"cat {STATE}/lock.json").stdout or "{}")
    return str(told.get("phase"))


def serves(app: Project) -> bool:
    try:
        return get(app, "/health").status == 200
    except (OSError, ValueError):
        return False
