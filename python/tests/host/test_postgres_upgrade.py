"""`deploy db upgrade` between two versions of PostgreSQL on a real host, and the way back over it.

A host that came from Debian 12 has 15 beside 17: here 15 comes from Debian 12's packages, and 17 is out of sight until
the app's cluster has been made.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.writer import Writer
from homeport import sandbox
from tests.apps.support import build_guestbook
from tests.host.conftest import OWN_BOX
from tests.host.support import SETTINGS, Project, check_told, new_project, on_host, until
from tests.host.test_restore import iso, quiet_second

APP = "guestbook"
DOMAIN = f"{APP}.sandbox.test"
PSQL = f"psql -XAtq -h /run/homeport-{APP}-postgres -U postgres -d {APP}"
NEWER, AWAY = "/usr/lib/postgresql/17", "/usr/lib/postgresql.17"
# the machine's own archives of trixie are bookworm's as well; no cluster is made for a package alone
OLDER = """
install -D -m 0644 /dev/stdin /etc/postgresql-common/createcluster.d/homeport.conf <<<'create_main_cluster = false'
sed 's/trixie/bookworm/g' /etc/apt/sources.list > /etc/apt/sources.list.d/bookworm.list
apt-get -q update
DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends postgresql-15 postgresql-17
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The app on 15, on a host of its own that has 17 as well."""
    name = f"{OWN_BOX}-u"
    release: Path = build_guestbook(tmp_path_factory.mktemp("upgraded"), 1)
    sandbox.down(name)
    try:
        box = sandbox.up(name)
        done = box.run(f"bash -ec {shlex.quote(OLDER)} && mv {NEWER} {AWAY}", timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        project = new_project(
            tmp_path_factory.mktemp("upgrade") / "project", box, {**SETTINGS, "domains": [DOMAIN]}, DOMAIN, APP
        )
        project.deploy("setup", "--artifact", release)
        yield project
    finally:
        sandbox.down(name)


def version(app: Project) -> str:
    return on_host(app.box, f"{PSQL} -c 'SHOW server_version_num'")[:2]


def rows(app: Project) -> set[str]:
    return set(on_host(app.box, f"{PSQL} -c 'SELECT body FROM entries'").splitlines())


def whole(app: Project) -> bool:
    """Everything is archived where it belongs, with a base backup: the watch of every minute is run now."""
    app.box.run(f"hostctl {APP} stream watch")
    told = app.deploy("backup", "status", "--json", check=False).json["database"]["backup"]
    return bool(told["full"]) and told["lag"] == 0 and not told["owed"]


@pytest.mark.full
def test_an_upgrade_keeps_every_row_and_the_way_back_over_it_brings_the_old_version_and_its_data(app: Project) -> None:
    check_told(app.deploy("db", "upgrade", "--yes", "--json", check=False), 2, "15 is the newest installed version")
    on_host(app.box, f"mv {AWAY} {NEWER}")
    until(lambda: whole(app), "the backup of 15 is whole", 240)
    with Writer(app.box.address, DOMAIN, app.box.root, rate=20) as writer:
        writer.wait(50)
        assert app.deploy("db", "upgrade", "--yes", "--json").json["result"] == "live"
        writer.wait(50)
    assert version(app) == "17"
    assert writer.missing(rows(app)) == []
    check_told(app.deploy("db", "upgrade", "--yes", "--json", check=False), 2, "17 is the newest installed version")
    until(lambda: whole(app), "the backup of 17 is whole", 240)
    assert app.deploy("backup", "drill", "--json").json["ok"]

    kept, at = rows(app), quiet_second()
    with Writer(app.box.address, DOMAIN, app.box.root, rate=20) as later:
        later.wait(20)
    before = min(writer.acknowledged.values()) + 1
    app.deploy("restore", "--at", iso(before), "--yes")
    assert version(app) == "15"
    assert writer.missing(rows(app), before - 0.5) == []
    assert not later.acknowledged.keys() & rows(app)
    until(lambda: whole(app), "the backup of 15 again is whole", 240)

    sandbox.reboot(app.box.name, hard=True)
    until(lambda: app.status()["health"]["ok"], "the app is up again")
    assert version(app) == "15"
    app.deploy("restore", "--at", iso(at), "--yes")
    assert (version(app), rows(app)) == ("17", kept)
