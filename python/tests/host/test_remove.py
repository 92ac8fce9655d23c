"""Two destinations of one app beside another app: they come, are listed, and leave one by one, and no other notices."""

from __future__ import annotations

import configparser
import copy
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from homeport.sandbox import Sandbox, faults
from homeport.sandbox.model import BUCKET
from tests.apps.support import build_ledger
from tests.host.support import (
    DEPLOY,
    SETTINGS,
    Done,
    Json,
    Project,
    get,
    new_project,
    on_host,
    until,
    version,
)
from tests.host.test_apps import lost

APP, STAGING = "books", "books-staging"
DOMAIN, STAGING_DOMAIN = f"{APP}.sandbox.test", f"{STAGING}.sandbox.test"
REMOVED = "/var/lib/homeport-removed"
WHERE = "/etc /home /opt /root /run /srv /tmp /usr /var"


@dataclass
class Destination(Project):
    """A real destination, as on a rented server: no sandbox is named, its files are deploy.yml and deploy.NAME.yml."""

    destination: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    rows: int = 0  # that it is known to have

    def configure(self, **sections: object) -> None:
        """Its files are written by the test."""

    def command(self, *args: str) -> list[str]:
        return [str(DEPLOY), *(["-d", self.destination] if self.destination else []), *args]

    def deploy(self, *args: str | Path, **more: object) -> Done:
        return super().deploy(*args, **{"env": self.keys, **more})  # type: ignore[arg-type]

    def count(self) -> int:
        """The rows in the database, as the file on the host has them."""
        code = f"import sqlite3; file = 'file:/var/lib/{self.app}/{self.app}.db?mode=ro'; "
        code += "print(sqlite3.connect(file, uri=True).execute('SELECT count(*) FROM entries').fetchone()[0])"
        return int(on_host(self.box, f"python3 -c {shlex.quote(code)}"))


def described(box: Sandbox) -> Json:
    """deploy.yml for a host that is no sandbox as far as `deploy` knows."""
    return {
        **SETTINGS,
        "app": APP,
        "host": f"root@{box.address}",
        "domains": [DOMAIN],
        "release": {"name": "ledger"},
        "database": {"engine": "sqlite", "settings": "bin/settings"},
        "backup": {"bucket": BUCKET, "endpoint": box.endpoint, "path_style": True},
        "ssh": {"key": str(box.key), "known_hosts": str(box.known_hosts)},
        "acme": {"directory": box.acme_directory, "ca": str(box.ca), "root": str(box.root)},
        "verify": {"address": box.address},
    }


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_ledger(tmp_path_factory.mktemp("books"), 1)


@pytest.fixture(scope="module")
def both(live: Sandbox, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Destination, ...]]:
    """The app and its other destination, both live; whatever is left of them goes in the end."""
    root = new_project(tmp_path_factory.mktemp("books") / "project", live).root
    (root / "deploy.yml").write_text(yaml.safe_dump(described(live)))
    (root / "deploy.staging.yml").write_text(yaml.safe_dump({"app": STAGING, "domains": [STAGING_DOMAIN]}))
    found = configparser.ConfigParser()
    found.read(live.credentials)
    keys = {
        f"BACKUP_{name.upper()}": found["default"][f"aws_{name}"] for name in ("access_key_id", "secret_access_key")
    }
    one = Destination(root, live, {}, DOMAIN, keys=keys)
    other = copy.copy(one)
    other.domain, other.destination = STAGING_DOMAIN, "staging"
    try:
        for each in (one, other):
            each.deploy("setup", "--artifact", release)
            each.rows = each.count()
        yield one, other
    finally:
        for each in (one, other):
            each.deploy("remove", "--yes", "--force", check=False)
        on_host(live, f"rm -rf {REMOVED}")


def wrote(app: Destination, rows: int) -> None:
    for number in range(rows):
        on_host(app.box, f"curl -sf --resolve {app.domain}:443:127.0.0.1 -k -d {number} https://{app.domain}/echo")
    app.rows += rows
    assert app.count() == app.rows


def traces(box: Sandbox, app: str) -> list[str]:
    """Every path that is named after an app and no longer name, every unit and every user, but what was moved."""
    kinds = r"-\(litestream\|watch\|drill\|remove\|drain\|run\|job\|build\)"
    named = rf".*/\(stamp-\)?\(homeport-\)?{app}\([@.:].*\|{kinds}.*\)?"
    found = on_host(box, f"find {WHERE} -xdev -regex '{named}' -not -path '{REMOVED}/*' 2>/dev/null || true")
    units = (
        f"systemctl list-units --all --plain --no-legend '{app}@*' 'homeport-{app}-litestream*' 'homeport-{app}-watch*'"
    )
    users = on_host(box, f"getent passwd {app} {app}-build; getent group {app} {app}-build; true")
    return [*found.split(), *on_host(box, units).splitlines(), *users.splitlines()]


def listed(app: Project) -> dict[str, Json]:
    return {one["app"]: one for one in json.loads(app.deploy("apps", "--json").out)}


def test_two_destinations_of_an_app_are_two_apps_of_the_host(live: Sandbox, both: tuple[Destination, ...]) -> None:
    one, other = both
    found = listed(one)
    assert {APP, STAGING} <= found.keys()
    assert (found[APP]["destination"], found[STAGING]["destination"]) == (None, "staging")
    assert {found[name]["state"] for name in (APP, STAGING)} == {"live"}
    wrote(one, 3)
    wrote(other, 2)
    told = [each.deploy("backup", "status", "--json").json["database"]["backup"]["prefix"] for each in both]
    assert told == [APP, STAGING]


def test_a_destination_that_names_no_app_of_its_own_is_refused(live: Sandbox, both: tuple[Destination, ...]) -> None:
    one, other = both
    told = (other.root / "deploy.staging.yml").read_text()
    (other.root / "deploy.staging.yml").write_text(yaml.safe_dump({"domains": [STAGING_DOMAIN]}))
    try:
        refused = other.deploy("setup", check=False)
    finally:
        (other.root / "deploy.staging.yml").write_text(told)
    assert (refused.code, f"add the line `app: {STAGING}`" in refused.err) == (2, True)
    assert listed(one)[APP]["state"] == "live"


def test_nothing_is_removed_without_a_word_or_a_terminal_to_ask_at(both: tuple[Destination, ...]) -> None:
    _, other = both
    refused = other.deploy("remove", check=False)
    assert (refused.code, "add --yes" in refused.err) == (2, True)
    other.deploy("lock", "acquire", "-m", "until noon")
    try:
        locked = other.deploy("remove", "--yes", check=False)
    finally:
        other.deploy("lock", "release")
    assert (locked.code, "until noon" in locked.err) == (4, True)
    assert other.count() == other.rows


def test_a_store_that_takes_nothing_is_noticed_before_the_app_is_touched(both: tuple[Destination, ...]) -> None:
    _, other = both
    before = process(other)
    with faults.full(other.box):
        failed = other.deploy("remove", "--yes", "--json", check=False)
    assert failed.code == 1, failed.out + failed.err
    assert process(other) == before
    assert get(other, "/health").status == 200
    other.deploy("backup", "run")


def process(app: Destination) -> str:
    """The process of the live instance."""
    return on_host(app.box, f"systemctl show -P MainPID {app.app}@{app.live()}")


def test_without_a_final_backup_all_is_put_back_and_the_app_serves_again(both: tuple[Destination, ...]) -> None:
    _, other = both
    live, go = other.live(), f"/run/homeport-{STAGING}-go"
    # a job of the app that ends when it is told to: the removal waits for it
    wait = f"/bin/sh -c 'until test -e {go}; do sleep 0.1; done'"
    on_host(other.box, f'systemd-run -q -u homeport-{STAGING}-job@hold -p "ExecStop={wait}" sleep infinity')
    with other.start("remove", "--yes") as removing:
        until(lambda: "stop" in begun(other.box), "the removal is at work")
        with faults.revoked(other.box):
            on_host(other.box, f"touch {go}")
            told, _ = removing.communicate(timeout=120)
    assert (removing.returncode, "there is no final backup" in told) == (3, True), told
    on_host(other.box, f"rm {go}")
    assert (other.live(), get(other, "/health").status, other.count()) == (live, 200, other.rows)
    assert other.status()["lock"] is None
    other.deploy("backup", "run")


def test_one_is_removed_under_load_of_the_others_killed_meanwhile_and_its_data_stays(
    project: Project, both: tuple[Destination, ...], measured: Callable[..., None]
) -> None:
    one, other = both
    before = version(project), process(one)
    with project.load() as load, one.load(rate=100) as near, other.start("remove", "--yes", "--keep-data") as removing:
        until(lambda: "stop" in begun(other.box), "the removal is at work", 30)
        on_host(other.box, f"systemctl kill -s KILL homeport-{STAGING}-remove.service")
        told, _ = removing.communicate(timeout=120)
        load.mark("after")
    for name, report in (("another app", load.report), ("another destination", near.report)):
        measured(f"remove, killed meanwhile, of {name}", report.total)
        assert lost(report) == []
    assert removing.returncode == 0, told
    assert before == (version(project), process(one))
    assert STAGING not in listed(one)
    assert other.count() == other.rows
    assert on_host(one.box, f"ls /srv/{STAGING} /etc/systemd/system/{STAGING}@.service 2>/dev/null || true") == ""


def begun(box: Sandbox) -> list[str]:
    """The steps that were begun of the removal that is under way."""
    told = on_host(box, f"cat $(ls -d {REMOVED}/{STAGING}-2*/remove.json 2>/dev/null | tail -n 1) /dev/null")
    entry: Json = json.loads(told) if told else {"begun": [], "result": None}
    return list(entry["begun"]) if entry["result"] is None else []


def test_a_later_setup_takes_up_what_was_kept(both: tuple[Destination, ...], release: Path) -> None:
    _, other = both
    other.deploy("setup", "--artifact", release)
    assert other.count() == other.rows
    wrote(other, 1)


def test_removed_whole_there_is_no_trace_of_it_and_all_of_the_other(both: tuple[Destination, ...]) -> None:
    one, other = both
    on_host(other.box, f"install -D -m 600 -o {STAGING} -g {STAGING} /dev/null /var/lib/{STAGING}/uploads/avatar.png")
    there = traces(one.box, APP)
    told = other.deploy("remove", "--yes", "--json").json
    assert (told["ok"], told["backup"]["prefix"]) == (True, STAGING)
    assert traces(other.box, STAGING) == []
    kept = {path.split("/")[-1] for path in on_host(other.box, f"find {told['note']} -type f").split()}
    assert kept == {"audit.jsonl", "avatar.png", "remove.json"}
    assert traces(one.box, APP) == there
    assert one.count() >= one.rows  # the load has written as well
    again = other.deploy("remove", "--yes", "--json").json
    assert again["gone"]["ok"]
