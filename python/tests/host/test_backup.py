"""What a person, cron and a monitor ask of the backup of a real host: proven by drills, and loud when it is damaged."""

from __future__ import annotations

import configparser
import json
import os
import pty
import re
import select
import shlex
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.writer import Writer
from homeport.sandbox import Sandbox
from hostctl.backup.s3 import Bucket
from hostctl.backup.settings import Backup, Credentials
from tests.apps.support import build_ledger
from tests.host.support import SETTINGS, Done, Project, bring_up, check_told, new_project, on_host, until, unwatched

APP = "ledger"
DOMAIN = f"{APP}.sandbox.test"
DATABASE = f"/var/lib/{APP}/{APP}.db"
STATE = f"/var/lib/homeport/{APP}/backup"
STREAM, DRILL = f"homeport-{APP}-litestream.service", f"homeport-{APP}-drill.service"

# An app with SQLite's default settings, while Litestream is away: what Litestream had not seen is checkpointed, and the
# log begins anew. Litestream notices that where the place up to which it had read is written over, and where the log
# still holds frames of a time that it does not know. So the reader keeps the log from beginning anew until what follows
# that place has filled the whole file, and then it begins anew once.
UNSAFE = f"""
import os, sqlite3, subprocess
log = "{DATABASE}-wal"
connection, reader = (sqlite3.connect("{DATABASE}", isolation_level=None) for _ in range(2))
def write(rows):
    for _ in range(rows):
        connection.execute("INSERT INTO entries(body, checksum) VALUES (hex(randomblob(100)), '')")
def salt():
    with open(log, "rb") as file:
        return file.read(24)[16:]
write(10)
reader.execute("BEGIN").execute("SELECT count(*) FROM entries").fetchall()
subprocess.run(["systemctl", "stop", "{STREAM}"], check=True)
size = os.stat(log).st_size
while os.stat(log).st_size <= size:
    write(100)
reader.execute("COMMIT")
before = salt()
while salt() == before:
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    write(1)
subprocess.run(["/usr/local/sbin/hostctl", "{APP}", "stream", "start"], check=True)
"""


@pytest.fixture(scope="module")
def app(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app on SQLite, live, with its backup streaming."""
    directory = tmp_path_factory.mktemp("ledger")
    settings = {**SETTINGS, "domains": [DOMAIN]}
    project = new_project(directory / "project", box, settings, DOMAIN, APP)
    bring_up(project, build_ledger(directory, 1))
    return project


@pytest.fixture
def writer(app: Project) -> Iterator[Writer]:
    with Writer(app.box.address, DOMAIN, app.box.root) as found:
        found.wait(50)
        yield found


def backup(app: Project, *args: str, check: bool = True) -> Done:
    return app.deploy("backup", *args, check=check)


def status(app: Project) -> dict[str, Any]:
    found: dict[str, Any] = backup(app, "status", "--json").json["database"]["backup"]
    return found


def told_on_host(app: Project, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(on_host(app.box, f"cat {STATE}/{name}"))
    return found


def bucket(app: Project) -> Bucket:
    """The sandbox's bucket, from here."""
    told = app.box.as_dict()["s3"]
    assert isinstance(told, dict)
    keys = configparser.ConfigParser()
    keys.read(told["credentials"])
    where = Backup(told["bucket"], APP, told["region"], told["endpoint"], path_style=True)
    return Bucket(where, Credentials(keys["default"]["aws_access_key_id"], keys["default"]["aws_secret_access_key"]))


def well(app: Project) -> bool:
    """Whether nothing is wrong; the watch of every minute is run now."""
    on_host(app.box, f"systemctl start homeport-{APP}-watch.service")
    return app.deploy("status", "--check", "--quiet", check=False).code == 0


def rows(app: Project) -> int:
    done = subprocess.run(
        app.command("db", "console"),
        cwd=app.root,
        input="SELECT count(*) FROM entries;",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_a_drill_proves_the_backup_while_the_app_writes(app: Project, writer: Writer) -> None:
    result = backup(app, "drill", "--json").json
    assert (result["ok"], result["found"]) == (True, [])
    assert result["rows"] > 50
    shown = backup(app, "status").out
    assert re.search(r"^stream +\d+\.\d s behind", shown, re.MULTILINE)
    assert re.search(r"^drill +restored 20", shown, re.MULTILINE)
    assert re.search(r"^next drill +20", shown, re.MULTILINE)
    assert re.search(r"^backup +\d+\.\d s behind; restored 20", app.deploy("status").out, re.MULTILINE)


@pytest.mark.parametrize(
    "args", [("backup", "status", "--check"), ("backup", "drill"), ("backup", "run"), ("status", "--check")]
)
def test_what_cron_runs_is_silent_when_all_is_well(app: Project, args: tuple[str, ...]) -> None:
    until(lambda: on_host(app.box, f"ls {STATE}").find("watch.json") >= 0, "the watch has run by its timer", 90)
    done = app.deploy(*args, "--quiet")
    assert (done.out, done.err) == ("", "")


def test_a_drill_goes_on_without_the_laptop(app: Project) -> None:
    before = told_on_host(app, "drill.json")["at"]
    running = app.start("backup", "drill")
    until(
        lambda: on_host(app.box, f"systemctl show -p ActiveState --value {DRILL}") == "activating", "it has begun", 20
    )
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    until(lambda: told_on_host(app, "drill.json")["at"] > before, "it has ended")
    assert told_on_host(app, "drill.json")["ok"]


def test_nobody_but_the_host_runs_the_verbs_of_its_units(app: Project) -> None:
    refused = app.box.run(f"sudo -u deploy sudo -n /usr/local/sbin/hostctl {APP} stream watch")
    assert refused.returncode != 0
    assert on_host(app.box, f"systemctl is-enabled homeport-{APP}-drill.timer") == "enabled"


def test_the_list_and_the_check_tell_what_is_there(app: Project) -> None:
    told = backup(app, "list", "--json").json
    assert told["epochs"][0]["databases"][f"{APP}.db"]["to"]
    assert told["last_good"]["ok"]
    assert "exists and is writable" in backup(app, "check").out


def damage_an_object(app: Project) -> None:
    """The newest snapshot is cut short."""
    backup(app, "run")
    store, epoch = bucket(app), status(app)["epoch"]
    newest = store.list(f"{APP}/{epoch}/{APP}.db/0009/")[-1].key
    found = store.get(newest)
    assert found is not None
    store.put(newest, found[0][: len(found[0]) // 2])


def tear(app: Project) -> None:
    on_host(app.box, f"python3 -c {shlex.quote(UNSAFE)}")


@pytest.mark.parametrize("damage", [damage_an_object, tear])
def test_a_damaged_backup_is_loud_and_the_last_good_one_is_offered(
    app: Project, damage: Callable[[Project], None]
) -> None:
    backup(app, "drill")
    good = status(app)["last_good"]
    with unwatched(app.box, APP):  # it would mend what is found
        damage(app)
        failed = backup(app, "drill", "--json", "--quiet", check=False)
    check_told(failed, 1, "the drill of ledger's backup failed: ledger.db: ")
    assert "deploy restore --at" in failed.json["error"]["fix"]
    assert status(app)["last_good"]["at"] == good["at"]
    assert "failed its drill" in on_host(app.box, f"journalctl -p err -q --no-pager -o cat -u {DRILL} --since -2min")
    for verb in (("status", "--check"), ("backup", "status", "--check")):
        checked = app.deploy(*verb, "--quiet", check=False)
        assert checked.code == 1
        assert "error: the last drill failed: ledger.db: " in checked.err
    backup(app, "run")
    assert status(app)["owed"] is None
    assert backup(app, "drill", "--json").json["ok"]
    until(lambda: well(app), "all is well again, once the watch has looked", 120)


def test_a_copy_taken_under_load_is_whole_and_can_be_put_back(app: Project, writer: Writer, tmp_path: Path) -> None:
    file = tmp_path / "copy.db"
    app.deploy("db", "dump", file)
    with sqlite3.connect(file) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (count,) = copy.execute("SELECT count(*) FROM entries").fetchone()
    copy.close()
    assert count >= 50
    writer.stop()
    check_told(app.deploy("db", "dump", file, "--json", check=False), 2, "exists already")
    assert rows(app) > count
    app.deploy("db", "load", "--yes", file)
    assert rows(app) == count
    assert f"{APP}.db" in on_host(app.box, f"find /var/lib/homeport/{APP}/aside -name '{APP}.db*'")
    assert on_host(app.box, f"find /var/lib/homeport/{APP} -maxdepth 1 -name 'load*.db'") == ""
    assert backup(app, "drill", "--json").json["ok"]
    left = backup(app, "list", "--json").json["aside"][-1]
    assert "before the load" in left["why"]
    assert left["bytes"] >= file.stat().st_size
    backup(app, "forget", left["id"], "--yes")
    assert on_host(app.box, f"find /var/lib/homeport/{APP}/aside -name '{left['id']}'") == ""
    check_told(backup(app, "forget", left["id"], "--yes", "--json", check=False), 2, "no kept data with id")


def test_sql_text_makes_the_same_database(app: Project, tmp_path: Path) -> None:
    file = tmp_path / "copy.sql"
    app.deploy("db", "dump", "--sql", file)
    made = sqlite3.connect(":memory:")
    made.executescript(file.read_text())
    assert made.execute("SELECT count(*) FROM entries").fetchone() == (rows(app),)
    made.close()


def test_a_file_that_is_no_database_is_not_loaded(app: Project, tmp_path: Path) -> None:
    file = tmp_path / "broken.db"
    app.deploy("db", "dump", file)
    file.write_bytes(file.read_bytes()[:8192])
    before = rows(app)
    check_told(app.deploy("db", "load", "--yes", "--json", file, check=False), 2, "no sound SQLite database")
    assert rows(app) == before


@pytest.fixture
def terminal(app: Project) -> Iterator[Callable[[str, str], str]]:
    """Types into `deploy db console` on a terminal, and returns what is shown until something is."""
    person, other = pty.openpty()
    running = subprocess.Popen(app.command("db", "console"), cwd=app.root, stdin=other, stdout=other, stderr=other)
    os.close(other)

    def typed(text: str, until: str) -> str:
        os.write(person, text.encode())
        shown, deadline = "", time.monotonic() + 20
        while until not in shown:
            assert select.select([person], [], [], max(0.0, deadline - time.monotonic()))[0], shown
            shown += os.read(person, 4096).decode()
        return shown

    yield typed
    os.close(person)
    running.kill()
    running.wait()


def test_the_console_is_a_real_one_on_a_terminal(terminal: Callable[[str, str], str]) -> None:
    assert "read only" in terminal("", "sql> ")
    terminal("select count(*)\n", "...> ")
    assert "1 row\r\n" in terminal("from schema_migrations;\n", "sql> ")
    assert "readonly" in terminal("delete from entries;\n", "sql> ")
    terminal("with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n;\n", "from n;\r\n")
    terminal("\x03", "sql> ")
    assert "still here" in terminal("select 'still ' || 'here';\n", "sql> ")
    terminal("\x04", "closed")


def test_the_console_is_the_apps_user_and_reaches_no_further(app: Project) -> None:
    for statement in ("ATTACH '/etc/shadow' AS x;", "VACUUM INTO '/etc/cron.d/x';", "PRAGMA wal_checkpoint(TRUNCATE);"):
        done = subprocess.run(
            app.command("db", "console", "--write"), cwd=app.root, input=statement, capture_output=True, text=True
        )
        assert done.returncode == 1, statement
        assert "error: SQLite:" in done.stderr
