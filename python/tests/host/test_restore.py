"""The data of another time on a real host: exactly what it was, no request lost, and undone when it does not work."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo.writer import Writer
from homeport.sandbox import Sandbox, cut, reboot
from tests.apps.support import build_ledger
from tests.host.support import (
    SETTINGS,
    Json,
    Project,
    bring_up,
    check_told,
    get,
    new_project,
    on_host,
    settled,
    until,
    unwatched,
)

APP = "ledger"
DOMAIN = f"{APP}.sandbox.test"
DATABASE = f"/var/lib/{APP}/{APP}.db"
STATE = f"/var/lib/homeport/{APP}"
STREAM = f"homeport-{APP}-litestream.service"
ADDS, FORGETS = "add_author_to_entries", "forget_half_of_the_entries"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a link down")

# every table but hostctl's own, whole: how it was made, and all that is in it
CONTENT = """
import hashlib, json, sqlite3, sys
database = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
names = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB '_*'").fetchall()
rows = lambda name: database.execute(f'SELECT * FROM "{name}" ORDER BY rowid').fetchall()
print(json.dumps({name: hashlib.sha256(repr((sql, rows(name))).encode()).hexdigest() for name, sql in names}))
"""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("ledgers")
    return {"good": build_ledger(directory, 1), "forgets": build_ledger(directory, 2, [ADDS, FORGETS])}


@pytest.fixture(scope="module")
def set_up(box: Sandbox, releases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app on SQLite, provisioned and pushed once, on a database that holds something."""
    project = new_project(tmp_path_factory.mktemp("restored") / "project", box, settings(), DOMAIN, APP)
    bring_up(project, releases["good"])
    return project


@pytest.fixture
def app(set_up: Project, releases: dict[str, Path]) -> Project:
    """The app with the good release live, streaming."""
    settled(set_up)
    set_up.push(releases["good"])
    settled(set_up)
    until(lambda: streams(set_up), "the stream runs")
    return set_up


def settings() -> dict[str, object]:
    return {**SETTINGS, "domains": [DOMAIN]}


def streams(app: Project) -> bool:
    return on_host(app.box, f"systemctl show --value -p ActiveState {STREAM}") == "active"


def content(app: Project, path: str = DATABASE) -> Json:
    found: Json = json.loads(on_host(app.box, f"python3 -c {shlex.quote(CONTENT)} {path}"))
    return found


def rows(app: Project, path: str = DATABASE) -> set[str]:
    """Every body in the database."""
    code = "import json, sqlite3, sys; database = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True); "
    code += "print(json.dumps([body for body, in database.execute('SELECT body FROM entries')]))"
    return set(json.loads(on_host(app.box, f"python3 -c {shlex.quote(code)} {path}")))


def writing(app: Project) -> Writer:
    return Writer(app.box.address, DOMAIN, app.box.root)


def write(app: Project, count: int) -> set[str]:
    """So many rows, and what they are."""
    with writing(app) as writer:
        writer.wait(count)
    assert writer.failed == {}
    return set(writer.acknowledged)


def epoch(app: Project) -> Json:
    found: Json = json.loads(on_host(app.box, f"cat {STATE}/backup/epoch.json"))
    return {"epoch": found["epoch"], "published": found["published"]}


def published(app: Project) -> bool:
    """Whether the epoch is published; the watch of every minute, which does it, is run now."""
    app.box.run(f"systemctl start homeport-{APP}-watch.service")
    return bool(epoch(app)["published"])


def quiet_second() -> float:
    """A whole second, with nothing written for a while before it and after."""
    time.sleep(2.0 - time.time() % 1)
    at = int(time.time())
    time.sleep(1.5)
    return float(at)


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def on_s3(app: Project) -> None:
    """Wait until everything that is written is on S3."""
    until(lambda: app.deploy("backup", "status", "--json").json["database"]["backup"]["lag"] == 0, "all is on S3")


# ---------------------------------------------------------------------------------------------- rollback with data


def test_a_rollback_with_data_after_a_destructive_migration_gives_back_byte_identical_tables(
    app: Project, releases: dict[str, Path]
) -> None:
    write(app, 300)
    before, good, streamed = content(app), app.live(), epoch(app)
    assert app.push(releases["forgets"])["result"] == "live"
    after = write(app, 50)
    assert content(app)["entries"] != before["entries"]

    asked = app.deploy("rollback", "--with-data", check=False)
    assert asked.code == 2
    assert "loses all writes of the last" in asked.err
    assert "--yes" in asked.err

    done = app.deploy("rollback", "--with-data", "--yes", "--json").json
    assert done["release"] == app.live() == good
    assert content(app) == before
    assert after <= rows(app, f"{done['kept']['aside']}/old/{APP}.db")
    assert streams(app)
    assert epoch(app)["epoch"] != streamed["epoch"]
    assert on_host(app.box, f"stat -c '%U %a' {DATABASE}") == f"{APP} 600"


def test_a_rollback_with_data_under_load_fails_no_request_and_gives_up_only_what_it_says(
    app: Project, releases: dict[str, Path]
) -> None:
    with writing(app) as writer:
        writer.wait(300)
        app.push(releases["forgets"])
        writer.wait(300)
        point = json.loads(on_host(app.box, f"hostctl {APP} points"))["points"][-1]
        done = app.deploy("rollback", "--with-data", "--yes", "--json").json
        back = time.time()
        writer.wait(300)
    assert writer.failed == {}
    found = rows(app)
    assert writer.missing(found, before=point["at"]) == []
    assert [at for body, at in writer.acknowledged.items() if at > back and body not in found] == []
    assert not any(
        point["at"] + 2 < at < back - done["seconds"] and body in found for body, at in writer.acknowledged.items()
    )


def test_a_plain_rollback_over_the_same_migration_is_refused_and_names_the_way_with_data(
    app: Project, releases: dict[str, Path]
) -> None:
    app.push(releases["forgets"])
    refused = app.deploy("rollback", "--json", check=False)
    check_told(refused, 1, FORGETS)
    assert "deploy rollback --with-data" in refused.json["error"]["fix"]
    app.deploy("rollback", "--with-data", "--yes")


@pytest.mark.full
@needs_root
def test_with_s3_away_the_data_goes_back_all_the_same_and_its_epoch_is_published_later(
    app: Project, releases: dict[str, Path]
) -> None:
    write(app, 100)
    before = content(app)
    app.push(releases["forgets"])
    with cut(app.box, "services"):
        app.deploy("rollback", "--with-data", "--yes")
        assert content(app) == before
        assert not epoch(app)["published"]
    until(lambda: published(app), "the epoch is published", 150)
    until(lambda: streams(app), "it streams again", 150)


# ---------------------------------------------------------------------------------------------- another time


@pytest.mark.full
def test_a_job_that_runs_has_ended_before_the_data_changes_places(app: Project, releases: dict[str, Path]) -> None:
    app.configure(cron=[{"name": "holds", "schedule": "@yearly", "eval": "Process.sleep(:infinity)"}])
    app.push(releases["good"])
    app.configure(cron=[])
    settled(app)
    app.deploy("cron", "run", "holds", "--detach")
    until(lambda: job_state(app) == "active", "the job runs")
    before = content(app)

    app.deploy("restore", "--yes")

    assert content(app) == before
    assert job_state(app) != "active"
    told = json.loads(app.deploy("cron", "--json").out)[0]
    assert (told["last"]["result"], told["failures"]) == ("interrupted", 0)


def job_state(app: Project) -> str:
    return on_host(app.box, f"systemctl show --value -p ActiveState homeport-{APP}-job@holds")


def test_restored_to_a_second_the_rows_are_exactly_those_of_that_second(app: Project) -> None:
    first = write(app, 200) | rows(app)
    at = quiet_second()
    second = write(app, 200)
    on_s3(app)
    told = app.deploy("restore", "--at", iso(at), "--dry-run", "--json").json
    assert told["databases"][f"{APP}.db"]["tables"]["entries"] == len(first)
    assert rows(app) == first | second

    done = app.deploy("restore", "--at", iso(at), "--yes", "--json").json
    assert rows(app) == first
    assert rows(app, f"{done['kept']['aside']}/old/{APP}.db") == first | second
    third = write(app, 50)
    assert rows(app) == first | third


@pytest.mark.full
def test_a_restore_under_load_fails_no_request(app: Project, measured: Callable[..., None]) -> None:
    write(app, 100)
    at = quiet_second()
    with app.load(rate=100) as load:
        load.mark("restore")
        app.deploy("restore", "--at", iso(at), "--yes")
    measured("a restore in place", load.report.total)
    assert load.report.failures == []


def test_a_restore_into_a_file_here_leaves_the_app_alone_and_overwrites_nothing(app: Project, tmp_path: Path) -> None:
    first = write(app, 100) | rows(app)
    at = quiet_second()
    second = write(app, 100)
    on_s3(app)
    file = tmp_path / "then.db"
    told = app.deploy("restore", "--at", iso(at), "--to", file, "--json").json
    assert told["bytes"] == file.stat().st_size
    with closing(sqlite3.connect(file)) as connection:
        assert {body for (body,) in connection.execute("SELECT body FROM entries")} == first
    assert rows(app) == first | second
    again = app.deploy("restore", "--at", iso(at), "--to", file, "--json", check=False)
    check_told(again, 2, "exists already")
    assert sorted(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("at", ["2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
def test_a_time_that_cannot_be_restored_is_refused_with_the_range(app: Project, at: str) -> None:
    refused = app.deploy("restore", "--at", at, "--yes", "--json", check=False)
    check_told(refused, 2, r"outside what can be restored: \d{4}-\d\d-\d\d .* UTC to .* UTC")


# ---------------------------------------------------------------------------------------------- undone


@pytest.fixture
def useless(tmp_path: Path) -> Path:
    """A sound database with which the app is not healthy."""
    file = tmp_path / "useless.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE unknown(n)")
    return file


def test_data_with_which_the_app_is_not_healthy_is_undone(app: Project, useless: Path) -> None:
    write(app, 100)
    before, streamed = content(app), epoch(app)
    with writing(app) as writer:
        writer.wait(20)
        written = set(writer.acknowledged)
    told = app.deploy("db", "load", useless, "--yes", check=False)
    assert told.code == 3, told.err
    assert "not healthy" in told.err
    assert written <= rows(app)
    assert content(app).keys() == before.keys()
    assert epoch(app) == streamed
    until(lambda: streams(app), "it streams again")
    assert write(app, 20) <= rows(app)


@pytest.mark.parametrize("how", [pytest.param("kill -9", marks=pytest.mark.full), "power cut"])
def test_killed_with_the_new_data_in_place_the_old_data_serves_again(app: Project, useless: Path, how: str) -> None:
    write(app, 100)
    before, streamed, release = content(app), epoch(app), app.live()
    with unwatched(app.box, APP):  # which begins another epoch within a minute of a power cut
        running = app.start("db", "load", useless, "--yes")
        try:
            until(lambda: phase(app) == "health", "the load comes to its health check", 60)
            if how == "kill -9":
                on_host(app.box, f"systemctl kill --signal=KILL homeport-{APP}-transition.service")
            else:
                reboot(app.box.name, hard=True)
            running.communicate(timeout=120)
        finally:
            running.kill()
        until(lambda: serves(app), "the app serves again", 60)
        assert app.live() == release
        assert content(app) == before
        assert epoch(app) == streamed
    until(lambda: streams(app), "it streams again")
    assert write(app, 20) <= rows(app)


def phase(app: Project) -> str:
    told = json.loads(app.box.run(f"cat {STATE}/lock.json").stdout or "{}")
    return str(told.get("phase"))


def serves(app: Project) -> bool:
    try:
        return get(app, "/health").status == 200
    except (OSError, ValueError):
        return False
