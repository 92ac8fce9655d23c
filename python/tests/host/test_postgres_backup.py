"""The backup of a PostgreSQL app on a real host: proven by drills, loud when damaged, all that a lost host leaves."""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from demo.writer import Writer
from homeport import sandbox
from homeport.sandbox import Sandbox
from hostctl.backup.s3 import Bucket
from hostctl.backup.settings import Backup, Credentials
from tests.apps.support import build_guestbook
from tests.host.support import SETTINGS, Done, Project, bring_up, check_told, new_project, on_host, until

APP = "guestbook"
DOMAIN = f"{APP}.sandbox.test"
CLUSTER, STATE = f"/var/lib/postgresql/homeport/{APP}", f"/var/lib/homeport/{APP}/backup"
SERVER, TAIL, WATCH = (f"homeport-{APP}-{what}" for what in ("postgres.service", "tail.service", "watch"))
PSQL = f"psql -XAtq -h /run/homeport-{APP}-postgres -U postgres -d {APP}"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a link down")


@pytest.fixture(scope="module")
def app(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app on PostgreSQL, live, with its backup streaming."""
    directory = tmp_path_factory.mktemp(APP)
    settings = {**SETTINGS, "domains": [DOMAIN]}
    project = new_project(directory / "project", box, settings, DOMAIN, APP)
    bring_up(project, build_guestbook(directory, 1))
    steady(project)
    return project


@pytest.fixture
def writer(app: Project) -> Iterator[Writer]:
    with Writer(app.box.address, DOMAIN, app.box.root, rate=100) as found:
        found.wait(50)
        yield found


def backup(app: Project, *args: str, check: bool = True) -> Done:
    return app.deploy("backup", *args, check=check)


def status(app: Project) -> dict[str, Any]:
    found: dict[str, Any] = backup(app, "status", "--json").json["database"]["backup"]
    return found


def steady(app: Project) -> None:
    """Wait until a base backup is there, and everything that was written is on S3."""

    def holds() -> bool:
        app.box.run(f"hostctl {APP} stream watch")
        told = status(app)
        return told["owed"] is None and told["lag"] == 0

    until(holds, "a base backup is taken, and all is on S3", 240)


def bodies(app: Project) -> set[str]:
    return set(on_host(app.box, f"{PSQL} -c 'SELECT body FROM entries'").splitlines())


def bucket(app: Project) -> Bucket:
    """The sandbox's bucket, from here."""
    told = app.box.as_dict()["s3"]
    assert isinstance(told, dict)
    keys = configparser.ConfigParser()
    keys.read(told["credentials"])
    where = Backup(told["bucket"], APP, told["region"], told["endpoint"], path_style=True)
    return Bucket(where, Credentials(keys["default"]["aws_access_key_id"], keys["default"]["aws_secret_access_key"]))


def forget(app: Project) -> None:
    """The host has lost its cluster, and all that it knew of its backup."""
    units = f"{WATCH}.timer {WATCH}.service homeport-{APP}-backup.service '{APP}@*' {SERVER} {TAIL}"
    on_host(app.box, f"systemctl stop {units}; rm -rf {CLUSTER}/data {STATE}/*")


def revive(app: Project) -> None:
    """What provisioning does last, then the app."""
    on_host(app.box, f"hostctl {APP} stream start && systemctl start {WATCH}.timer")
    on_host(app.box, f"systemctl start {APP}@{app.live()}.service")


def test_a_drill_proves_the_backup_while_the_app_writes_and_everybody_is_told(app: Project, writer: Writer) -> None:
    backup(app, "run")
    result = backup(app, "drill", "--json").json
    assert (result["ok"], result["found"]) == (True, [])
    assert result["rows"] > 50
    assert re.search(r"^drill +restored 20", backup(app, "status").out, re.MULTILINE)
    told = backup(app, "list", "--json").json
    (ranges,) = told["epochs"][0]["databases"].values()
    assert ranges["to"] > ranges["from"]
    assert told["last_good"]["ok"]
    assert "exists and is writable" in backup(app, "check").out
    assert app.deploy("status", "--check", "--quiet").out == ""
    assert on_host(app.box, f"ls {CLUSTER}/drill 2>/dev/null || true") == ""


def newest_base(app: Project) -> str:
    """The key of the largest object of the newest base backup."""
    objects = bucket(app).list(f"{APP}/{status(app)['epoch']}/pg/backup/{APP}/")
    files = [one for one in objects if "/bundle/" in one.key]
    newest = max(one.key.split("/")[5] for one in files)
    return max((one for one in files if f"/{newest}/" in one.key), key=lambda one: one.size).key


@pytest.mark.full
def test_a_damaged_backup_is_loud_and_a_full_one_is_taken_by_itself(app: Project) -> None:
    good = backup(app, "drill", "--json").json
    store, key = bucket(app), newest_base(app)
    found = store.get(key)
    assert found is not None
    store.put(key, found[0][: len(found[0]) // 2])
    failed = backup(app, "drill", "--json", "--quiet", check=False)
    check_told(failed, 1, f"the drill of {APP}'s backup failed: {APP}: ")
    assert status(app)["last_good"]["at"] == good["at"]
    checked = app.deploy("status", "--check", "--quiet", check=False)
    assert checked.code == 1
    assert "error: the last drill failed" in checked.err
    steady(app)
    assert newest_base(app) != key
    assert backup(app, "drill", "--json").json["ok"]


@pytest.mark.full
@needs_root
def test_s3_away_fails_no_request_and_a_host_stopped_clean_after_it_has_lost_nothing(
    app: Project, writer: Writer
) -> None:
    with sandbox.cut(app.box, "services"):
        for _ in range(4):
            on_host(app.box, f"{PSQL} -c 'SELECT pg_switch_wal()'")
            writer.wait(100)
        assert len(on_host(app.box, f"ls {CLUSTER}/data/pg_wal/archive_status/*.ready").splitlines()) >= 3
        assert status(app)["lag"] > 1
    writer.wait(100)
    steady(app)
    before = json.loads(on_host(app.box, f"cat {STATE}/epoch.json"))["epoch"]
    writer.stop()
    assert writer.failed == {}
    forget(app)
    revive(app)
    assert writer.missing(bodies(app)) == []
    assert json.loads(on_host(app.box, f"cat {STATE}/epoch.json"))["parent"] == before
    steady(app)
    assert backup(app, "drill", "--json").json["ok"]


@needs_root
def test_a_host_that_is_lost_under_load_is_restored_by_itself_and_only_the_last_writes_are_missing(
    app: Project, writer: Writer
) -> None:
    writer.wait(300)
    with sandbox.cut(app.box, "services"):
        sandbox.reboot(app.box.name, hard=True)
        writer.stop()
        # at once: a server that stops clean waits for an archive that nobody answers for
        on_host(app.box, f"systemctl stop --no-block {SERVER}; systemctl kill -s KILL {SERVER} {TAIL}")
        forget(app)
    revive(app)
    found = bodies(app)
    kept = [at for body, at in writer.acknowledged.items() if body in found]
    # eight clients: an answer may overtake another, a commit may not
    assert [at for at in writer.missing(found) if at < max(kept) - 0.25] == []
    assert len(kept) > 300
