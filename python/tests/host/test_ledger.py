"""An app on SQLite that writes all the time: pushed, migrated and rolled back, it loses neither a request nor a row."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from demo.writer import Writer
from homeport.sandbox import Sandbox
from tests.apps.support import build_ledger
from tests.host.support import (
    LONGEST_SECONDS,
    SETTINGS,
    Project,
    bring_up,
    check_told,
    footprint,
    new_project,
    on_host,
    settled,
    until,
    version,
)

APP = "ledger"
DOMAIN = f"{APP}.sandbox.test"
DATABASE = f"/var/lib/{APP}/{APP}.db"
ADDS, FORGETS = "add_author_to_entries", "forget_half_of_the_entries"

# Posts to the instance that is live, goes on with the same connection after a push, and beside it to the new one.
BOTH_AT_ONCE = """
import http.client, json, os, threading, time
state = "/var/lib/homeport/ledger"
live = lambda: os.path.basename(os.readlink(state + "/live"))
open_to = lambda release: http.client.HTTPConnection("127.0.0.1", int(open(f"{state}/releases/{release}/port").read()))
def post(connection, body):
    connection.request("POST", "/echo", body)
    answer = connection.getresponse()
    return answer.status == 200 and answer.read().decode() == body
blue = live()
old, written = open_to(blue), {blue: 0}
while live() == blue:
    assert post(old, f"{blue}-{written[blue]}")
    written[blue] += 1
    time.sleep(0.02)  # leaves the push its share of the machine
green = live()
new, written[green] = open_to(green), 0
def many(connection, release):
    for _ in range(100):
        assert post(connection, f"{release}-{written[release]}")
        written[release] += 1
threads = [threading.Thread(target=many, args=pair) for pair in ((old, blue), (new, green))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(written))
"""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By what they are: the second migrates the database additively, the third does not."""
    directory = tmp_path_factory.mktemp("ledgers")
    return {
        "first": build_ledger(directory, 1),
        "adds": build_ledger(directory, 2, [ADDS]),
        "forgets": build_ledger(directory, 3, [ADDS, FORGETS]),
    }


@pytest.fixture(scope="module")
def set_up(box: Sandbox, releases: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app on SQLite, provisioned and pushed once."""
    project = new_project(tmp_path_factory.mktemp("ledger") / "project", box, settings(), DOMAIN, APP)
    bring_up(project, releases["first"])
    return project


@pytest.fixture
def app(set_up: Project, tmp_path: Path) -> Project:
    """A fresh copy of the project; one instance is live."""
    settled(set_up)
    return new_project(tmp_path / "project", set_up.box, settings(), DOMAIN, APP)


def settings() -> dict[str, object]:
    return {**SETTINGS, "domains": [DOMAIN]}


def rows(app: Project) -> set[str]:
    """Every body in the database."""
    code = f"import json, sqlite3; file = 'file:{DATABASE}?mode=ro'; database = sqlite3.connect(file, uri=True); "
    code += "print(json.dumps([body for body, in database.execute('SELECT body FROM entries')]))"
    return set(json.loads(on_host(app.box, f"python3 -c {shlex.quote(code)}")))


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.full)])
def test_pushes_migrations_and_rollbacks_lose_no_request_and_no_acknowledged_row(
    app: Project, releases: dict[str, Path], measured: Callable[..., None], rounds: int
) -> None:
    app.push(releases["first"])
    first = app.live()
    with Writer(app.box.address, DOMAIN, app.box.root) as writer, app.load(rate=100) as load:
        for _ in range(rounds):
            load.mark("push")
            assert app.push(releases["adds"])["result"] == "live"
            load.mark("rollback")
            assert app.deploy("rollback", "--json").json["release"] == first
        writer.wait(max(100, 1001 - len(writer.acknowledged)))
    measured(f"{rounds} pushes and {rounds} rollbacks of a writing app", load.report.total)
    assert load.report.failures == []
    assert writer.failed == {}
    assert len(writer.acknowledged) > 1000
    assert writer.missing(rows(app)) == []


def test_a_push_under_a_migration_that_takes_rows_away_loses_no_request(
    app: Project, releases: dict[str, Path], measured: Callable[..., None]
) -> None:
    with app.load(rate=100) as load:
        assert app.push(releases["forgets"])["result"] == "live"
    measured("a push that deletes half of the rows", load.report.total)
    assert load.report.failures == []
    record = json.loads(on_host(app.box, f"cat /var/lib/homeport/{APP}/live/record.json"))
    told = {entry["name"]: entry["additive"] for entry in record["migrations"]}
    assert told == {"create_entries": True, "add_note_to_entries": True, ADDS: True, FORGETS: False}


def test_a_rollback_over_what_does_not_only_add_is_refused_without_force(
    app: Project, releases: dict[str, Path]
) -> None:
    app.push(releases["forgets"])
    before = footprint(app)
    refused = app.deploy("rollback", "--json", check=False)
    check_told(refused, 1, f"{FORGETS}: takes away or changes: DELETE FROM entries")
    assert "--force" in refused.json["error"]["fix"]
    assert footprint(app) == before
    assert app.deploy("rollback", "--force", "--json").json["result"] == "live"


def test_the_old_and_the_new_instance_write_at_once_without_an_error(app: Project, releases: dict[str, Path]) -> None:
    app.push(releases["first"] if version(app)["version"] != "1" else releases["adds"])
    settled(app)
    before, pushed = rows(app), releases["first"] if version(app)["version"] != "1" else releases["adds"]
    with ThreadPoolExecutor() as pool:
        both = pool.submit(app.box.run, f"python3 -c {shlex.quote(BOTH_AT_ONCE)}", timeout=LONGEST_SECONDS)
        until(lambda: len(rows(app)) > len(before), "the old instance is written to")
        new = app.push(pushed)
        done = both.result()
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert written.keys() == {new["previous"], new["release"]}
    assert min(written.values()) >= 100
    expected = {f"{release}-{number}" for release, count in written.items() for number in range(count)}
    assert rows(app) - before == expected


@pytest.mark.parametrize(
    ("variable", "value", "says", "mends"),
    [
        ("LEDGER_AUTOCHECKPOINT", "1000", "wal_autocheckpoint is 1000, and must be 0", "PRAGMA wal_autocheckpoint = 0"),
        ("DATABASE_PATH", f"/var/lib/{APP}/other.db", f"writes to /var/lib/{APP}/other.db", "DATABASE_PATH"),
    ],
)
def test_a_release_whose_settings_would_spoil_the_backup_is_refused_and_the_live_one_undisturbed(
    app: Project, releases: dict[str, Path], variable: str, value: str, says: str, mends: str
) -> None:
    before = footprint(app)
    app.configure(env={"clear": {variable: value}})
    with Writer(app.box.address, DOMAIN, app.box.root) as writer:
        refused = app.deploy("push", "--artifact", releases["first"], "--json", check=False)
    check_told(refused, 3, says)
    assert mends in refused.json["error"]["fix"]
    failed = next(one["release"] for one in app.releases() if one["state"] == "failed")
    kept = on_host(app.box, f"ls /var/lib/homeport/{APP}/releases/{failed}").split()
    assert "settings.log" in kept
    assert "migrate.log" not in kept
    assert footprint(app) == before
    assert writer.failed == {}
    assert writer.missing(rows(app)) == []


@pytest.mark.full
def test_where_unsafe_checkpoints_are_allowed_the_push_goes_on_and_says_what_stays_open(
    app: Project, releases: dict[str, Path]
) -> None:
    unsafe = {"engine": "sqlite", "settings": "bin/settings", "unsafe_checkpoints": "allow"}
    app.configure(database=unsafe, env={"clear": {"LEDGER_AUTOCHECKPOINT": "1000"}})
    try:
        pushed = app.deploy("push", "--artifact", releases["adds"])
        assert "wal_autocheckpoint is 1000" in pushed.err
        assert "Until that snapshot the backup may lack rows" in pushed.err
    finally:
        app.configure(database={}, env={})
        app.push(releases["first"])
    assert version(app)["version"] == "1"
