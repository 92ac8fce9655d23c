"""The SQLite file of an app and its stream to S3, on a real host: order, walls, keys, kills, reboots, restores."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.writer import Writer
from homeport import sandbox
from homeport.sandbox import Sandbox, cut, faults, reboot
from homeport.sandbox.services import read_credentials
from tests.apps.support import build_ledger
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
    settled,
    until,
)

APP = "ledger"
DOMAIN = f"{APP}.sandbox.test"
DATABASE = f"/var/lib/{APP}/{APP}.db"
STREAM = f"homeport-{APP}-litestream.service"
BACKUP = f"/var/lib/homeport/{APP}/backup"
ROOT = Path(__file__).parents[3]
MOST_EXPOSED = 1.2
AS_PROVISIONER = "env --unset=SUDO_USER hostctl"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take a link down")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_ledger(tmp_path_factory.mktemp("ledger"))


@pytest.fixture(scope="module")
def first(box: Sandbox, release: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app on SQLite, provisioned and pushed once."""
    project = new_project(tmp_path_factory.mktemp("streamed") / "project", box, settings(), DOMAIN, APP)
    bring_up(project, release)
    return project


@pytest.fixture
def app(first: Project) -> Project:
    """The app, live and streaming. What a test leaves broken, it mends itself: the next one finds it so."""
    settled(first)
    assert streams(first)
    return first


def settings() -> Json:
    return {**SETTINGS, "domains": [DOMAIN]}


def streams(app: Project) -> bool:
    return show(app, STREAM, "ActiveState") == "active"


def show(app: Project, unit: str, name: str) -> str:
    return on_host(app.box, f"systemctl show --value -p {name} '{unit}'")


def instance(app: Project) -> str:
    return f"{APP}@{app.live()}.service"


def writing(app: Project) -> Writer:
    return Writer(app.box.address, DOMAIN, app.box.root)


def rows(app: Project) -> set[str]:
    """Every body in the database, as the app's own file has them."""
    code = f"import sqlite3; print(*(b for b, in sqlite3.connect('{DATABASE}').execute('SELECT body FROM entries')))"
    return set(on_host(app.box, f'python3 -c "{code}"').split())


def serves(app: Project) -> bool:
    try:
        return get(app, "/health").status == 200
    except OSError:
        return False


def watched(app: Project) -> None:
    """The minute's watch has run once more."""
    on_host(app.box, f"systemctl start homeport-{APP}-watch.service")


def backed_up(app: Project) -> Json:
    found: Json = app.status()["database"]["backup"]
    return found


def seen(app: Project) -> str | None:
    """What the watch finds wrong."""
    watched(app)
    error = json.loads(on_host(app.box, f"cat {BACKUP}/watch.json"))["error"]
    return None if error is None else str(error)


# ---------------------------------------------------------------------------------------------- order, and power


def test_the_stream_starts_before_the_app_and_ends_after_it_and_a_reboot_loses_nothing(app: Project) -> None:
    unit = instance(app)
    with writing(app) as writer:
        writer.wait(200)
        reboot(app.box.name)
        until(lambda: serves(app), "the app serves after the reboot")
        writer.wait(50)

    assert happened(app, -1, unit)[-2:] == [("stopped", unit), ("stopped", STREAM)]
    assert happened(app, 0, unit)[:2] == [("started", STREAM), ("started", unit)]
    assert writer.missing(rows(app)) == []
    assert not owes(app)


STARTED, STOPPED = "39f53479d3a045ac8e11786248231fbf", "9d1aaa27d60140bd96365438aad20286"  # systemd.journal-fields(7)


def happened(app: Project, boot: int, unit: str) -> list[tuple[str, str]]:
    """What systemd says that it has started and stopped in a boot, in order."""
    wanted = f"journalctl -q -b {boot} -o json --output-fields=MESSAGE_ID,UNIT _PID=1 UNIT={unit} UNIT={STREAM}"
    lines = [json.loads(line) for line in on_host(app.box, wanted).splitlines()]
    names = {STARTED: "started", STOPPED: "stopped"}
    return [(names[line["MESSAGE_ID"]], line["UNIT"]) for line in lines if line.get("MESSAGE_ID") in names]


def owes(app: Project) -> bool:
    return on_host(app.box, f"test ! -e {BACKUP}/owed.json || echo owed") == "owed"


def test_after_a_power_cut_the_stream_and_the_app_are_back_and_a_snapshot_is_forced(app: Project) -> None:
    with writing(app) as writer:
        writer.wait(200)
        reboot(app.box.name, hard=True)
        until(lambda: serves(app), "the app serves after the power cut")
        writer.wait(50)

    # the monitor may have stopped Litestream for an instant, for the snapshot
    until(lambda: paid(app), "the snapshot that is owed after a power cut is made, and Litestream streams")
    assert writer.missing(rows(app)) == []


def paid(app: Project) -> bool:
    watched(app)
    return not owes(app) and streams(app)


def test_a_killed_litestream_is_back_by_itself_and_the_watch_forces_the_snapshot_that_is_owed(app: Project) -> None:
    before = show(app, STREAM, "MainPID")
    with writing(app) as writer:
        writer.wait(100)
        on_host(app.box, f"systemctl stop homeport-{APP}-watch.timer; systemctl kill -s KILL {STREAM}")
        until(lambda: streams(app) and show(app, STREAM, "MainPID") not in ("0", before), "Litestream is back")
        assert owes(app)
        until(lambda: paid(app), "the watch pays")
        writer.wait(50)
    on_host(app.box, f"systemctl start homeport-{APP}-watch.timer")

    assert writer.failed == {}


# ---------------------------------------------------------------------------------------------- restarts by others


@pytest.mark.full
def test_needrestart_leaves_litestream_alone_though_its_program_was_replaced(app: Project) -> None:
    install = "DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -qq install --no-install-recommends"
    on_host(app.box, f"(apt-get -qq update; {install} needrestart) </dev/null >/dev/null 2>&1; command -v needrestart")
    program = on_host(app.box, f"readlink /proc/{show(app, STREAM, 'MainPID')}/exe")
    on_host(app.box, f"cp -p {program} {program}.new && mv {program}.new {program}")
    before = show(app, STREAM, "MainPID")

    told = on_host(app.box, "needrestart -b -r l -l </dev/null")
    on_host(app.box, "needrestart -q -r a -l </dev/null")

    assert STREAM in told  # it has seen that the program is another
    assert show(app, STREAM, "MainPID") == before


@pytest.fixture(scope="module")
def again(first: Project) -> tuple[Done, bool]:
    """How a second, talkative provision ended, and whether Litestream is the same process after it."""
    before = show(first, STREAM, "MainPID")
    done = first.deploy("--verbose", "provision", "--json")
    return done, show(first, STREAM, "MainPID") == before


def test_a_second_provision_changes_nothing_and_leaves_litestream_running(
    app: Project, again: tuple[Done, bool]
) -> None:
    done, same_process = again

    assert done.json["changed"] == 0

    assert same_process


@pytest.mark.full
def test_another_interval_restarts_litestream_without_losing_a_write(app: Project) -> None:
    before = show(app, STREAM, "MainPID")
    with writing(app) as writer:
        writer.wait(100)
        app.configure(backup={"interval": "500ms"})
        app.deploy("provision")
        assert show(app, STREAM, "MainPID") != before
        writer.wait(100)
        app.configure(backup={})
        app.deploy("provision")

    assert writer.failed == {}
    assert not owes(app)


# ---------------------------------------------------------------------------------------------- walls and keys


def test_the_stream_is_confined_and_sees_only_its_own_app(app: Project) -> None:
    rated = on_host(app.box, f"systemd-analyze security --no-pager {STREAM}")
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", rated)
    assert found
    assert float(found[1]) <= MOST_EXPOSED

    inside = f"nsenter -t {show(app, STREAM, 'MainPID')} -m"
    assert on_host(app.box, f"{inside} find /var/lib /etc/homeport -mindepth 1 -maxdepth 1").split() == [
        f"/var/lib/{APP}"
    ]
    for path in ("/etc/passwd", f"/etc/systemd/system/{STREAM}", "/var/lib/x", "/usr/local/bin/x"):
        assert app.box.run(f"{inside} touch {path}").returncode != 0


def test_the_keys_of_the_bucket_are_roots_alone_and_are_told_nowhere(app: Project, again: tuple[Done, bool]) -> None:
    said = [
        again[0].err,
        plain_ansible(app, *read_credentials(app.box.credentials)),
        on_host(app.box, "journalctl -q --no-pager -o json -a"),
        on_host(app.box, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        on_host(app.box, f"systemctl show --all {STREAM}; systemctl cat {STREAM}"),
        on_host(app.box, f"cat /run/homeport-{APP}-litestream/litestream.yml /etc/homeport/{APP}/*.json"),
    ]
    for secret in read_credentials(app.box.credentials):
        assert [text for text in said if secret in text] == []
    holders = "grep -rlFe {} /etc /var/lib /run /root /home /tmp 2>/dev/null || true"
    for secret in read_credentials(app.box.credentials):
        assert on_host(app.box, holders.format(secret)) == f"/etc/homeport/{APP}/backup.env"
    assert on_host(app.box, f"stat -c '%U %a' /etc/homeport/{APP}/backup.env") == "root 600"


def plain_ansible(app: Project, *keys: str) -> str:
    """What `ansible-playbook playbooks/provision.yml` says at its most talkative, with the keys in its environment."""
    given = dict(zip(("BACKUP_ACCESS_KEY_ID", "BACKUP_SECRET_ACCESS_KEY"), keys, strict=False))
    ran = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-vvvvv", "-i", "inventory", "playbooks/provision.yml"],
        cwd=ROOT,
        env={
            **os.environ,
            **given,
            "HOMEPORT_CONFIG": str(app.root / "deploy.yml"),
            "HOMEPORT_DESTINATION": f"sandbox:{app.box.name}",
        },
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
    assert "Send the bucket's keys to the host" in ran.stdout
    return ran.stdout + ran.stderr


@pytest.mark.full
def test_without_a_value_the_host_keeps_the_keys_that_it_has(app: Project) -> None:
    before = on_host(app.box, f"sha256sum /etc/homeport/{APP}/backup.env")

    plain_ansible(app)

    assert on_host(app.box, f"sha256sum /etc/homeport/{APP}/backup.env") == before


# ---------------------------------------------------------------------------------------------- the file is gone


def lose(app: Project) -> None:
    """The app and its stream end cleanly, and all of the app's data is moved out of the way."""
    on_host(app.box, f"systemctl stop homeport-{APP}-watch.timer {instance(app)} {STREAM}")
    all_of_it = f"find /var/lib/{APP} -mindepth 1 -maxdepth 1"
    on_host(app.box, f"rm -rf /root/lost && mkdir /root/lost && {all_of_it} -exec mv -t /root/lost {{}} +")


def test_a_host_whose_file_is_gone_restores_it_before_the_app_starts_with_every_row(app: Project) -> None:
    with writing(app) as writer:
        writer.wait(300)
    lose(app)

    on_host(app.box, f"systemctl start homeport-{APP}-watch.timer && systemctl start --no-block {STREAM}")

    until(lambda: serves(app), "the file is restored, and the app started")
    assert writer.missing(rows(app)) == []
    assert on_host(app.box, f"stat -c '%U %a' {DATABASE}") == f"{APP} 600"
    assert "restore" in on_host(app.box, f"journalctl -q -b -u {STREAM} -o cat").lower()


@needs_root
def test_a_host_that_cannot_ask_s3_starts_no_app_on_an_empty_file_and_restores_when_it_can(app: Project) -> None:
    with writing(app) as writer:
        writer.wait(100)
    unit = instance(app)
    lose(app)

    with cut(app.box, "services"):
        on_host(app.box, f"systemctl start --no-block {STREAM} {unit}")
        until(lambda: int(show(app, STREAM, "NRestarts")) > 0, "the stream has tried once", 180)
        assert show(app, unit, "ActiveState") != "active"
        assert on_host(app.box, f"ls -A /var/lib/{APP}") == ""

    until(lambda: serves(app), "the file is restored, and the app started", 180)
    on_host(app.box, f"systemctl start homeport-{APP}-watch.timer")
    assert writer.missing(rows(app)) == []


# ---------------------------------------------------------------------------------------------- off and on again


@pytest.mark.full
def test_an_app_that_lets_go_of_its_database_keeps_it_and_what_it_writes_meanwhile_is_on_s3_later(app: Project) -> None:
    before = on_host(app.box, f"stat -c %i {DATABASE}")
    described = (app.root / "deploy.yml").read_text()
    with writing(app) as writer:
        writer.wait(100)
        (app.root / "deploy.yml").write_text(described.partition("\ndatabase:")[0])
        app.deploy("provision")
        check_left(app)
        on_host(app.box, f"systemctl restart {instance(app)}")
        writer.wait(100)
        (app.root / "deploy.yml").write_text(described)
        app.deploy("provision")
        writer.wait(100)

    assert streams(app)
    assert on_host(app.box, f"stat -c %i {DATABASE}") == before
    lose(app)
    on_host(app.box, f"systemctl start homeport-{APP}-watch.timer && systemctl start --no-block {STREAM}")
    until(lambda: serves(app), "the file is restored, and the app started")
    assert writer.missing(rows(app)) == []


def check_left(app: Project) -> None:
    assert on_host(app.box, f"find /etc/systemd/system -name 'homeport-{APP}-*'") == ""
    assert on_host(app.box, f"systemctl is-active {STREAM} || true") == "inactive"
    assert on_host(app.box, f"ls /etc/homeport/{APP}").split() == ["app.json", "backup.env"]
    assert on_host(app.box, f"stat -c %U {DATABASE}") == APP
    assert app.deploy("provision", "--json").json["changed"] == 0


# ---------------------------------------------------------------------------------------------- S3 refuses


@needs_root
def test_while_s3_is_full_or_knows_the_keys_no_more_the_app_writes_on_and_status_tells(app: Project) -> None:
    with writing(app) as writer:
        writer.wait(50)
        for refuses in (faults.full, faults.revoked):
            assert seen(app) is None
            began = time.time()
            with refuses(app.box):
                writer.wait(50)
                assert seen(app)
                told = backed_up(app)
                assert 0 < told["lag"] <= time.time() - began + 1
                checked = app.deploy("backup", "status", "--check", "--quiet", check=False)
                assert checked.code == 1
                assert "error: the monitor reports: " in checked.err
            until(lambda: seen(app) is None, "S3 has everything again")
    assert writer.failed == {}
    assert app.deploy("backup", "drill", "--json").json["ok"]
    assert writer.missing(rows(app)) == []


# ---------------------------------------------------------------------------------------------- two hosts, one bucket


@pytest.fixture(scope="module")
def second(first: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A bare host whose backup is the first one's: the same bucket and prefix."""
    name = f"{first.box.name}-b"
    told = first.box.as_dict()["s3"]
    place = {key: told[key] for key in ("endpoint", "region", "bucket")}
    sandbox.down(name)
    try:
        box = sandbox.up(name)
        given = {**settings(), "backup": place}
        yield new_project(tmp_path_factory.mktemp("second") / "project", box, given, DOMAIN, APP)
    finally:
        sandbox.down(name)


def keys(app: Project) -> dict[str, str]:
    """The keys of a sandbox's bucket, as another host's deploy takes them."""
    names = ("BACKUP_ACCESS_KEY_ID", "BACKUP_SECRET_ACCESS_KEY")
    return dict(zip(names, read_credentials(app.box.credentials), strict=True))


@needs_root
def test_a_second_host_goes_on_from_where_the_first_was_lost_and_the_first_one_notices_when_it_is_back(
    app: Project, second: Project, release: Path
) -> None:
    before = backed_up(app)["epoch"]
    with writing(app) as writer:
        writer.wait(200)
        marked = time.time()
        assert seen(app) is None  # all of it is on S3
        writer.wait(20)
        with cut(app.box, "host"):
            writer.stop()
            second.deploy("setup", "--artifact", release, env=keys(app))
            found = rows(second)
            assert writer.missing(found, before=marked) == []
            said = on_host(second.box, f"journalctl -q -b -u {STREAM} -o cat")
            assert '"decision":"restore"' in said
            assert second.deploy("backup", "list", "--json").json["epochs"][0]["parent"] == before
    with writing(second) as later:
        later.wait(50)

    # the first one is back: until its watch looks, it writes on, into its own epoch
    until(lambda: serves(app), "the first host is back")
    with writing(app) as late:
        late.wait(50)
        assert "took over" in str(seen(app))
        late.wait(20)
    assert late.failed == {}
    assert not streams(app)
    assert re.search("^backup +SUPERSEDED", app.deploy("status").out, re.MULTILINE)
    checked = app.deploy("status", "--check", "--quiet", check=False)
    assert checked.code == 1
    assert "nothing streams from here" in checked.err

    # and nothing of that is in what counts
    assert second.deploy("backup", "drill", "--json").json["ok"]
    assert later.missing(rows(second)) == []
    assert late.missing(rows(second)) == sorted(late.acknowledged.values())

    app.deploy("backup", "takeover", "--yes")
    until(lambda: streams(app), "the first host streams again")
    assert "took over" in str(seen(second))
    assert second.deploy("backup", "status", "--check", "--quiet", check=False).code == 1
    assert backed_up(app)["superseded"] is None
    until(lambda: seen(app) is None, "what the first host wrote by itself is on S3")
    assert late.missing(rows(app)) == []


@pytest.mark.full
@needs_root
def test_where_s3_cannot_be_asked_a_new_host_begins_only_by_a_persons_word(app: Project, second: Project) -> None:
    lose(second)
    second.configure(backup={**second.settings["backup"], "prefix": "elsewhere"})
    with cut(app.box, "services"):
        refused = second.deploy("provision", "--json", env=keys(app), check=False)
        check_told(refused, 1, "cannot be")
        assert "--allow-empty" in refused.json["error"]["fix"]
        second.deploy("provision", "--allow-empty", env=keys(app))
        assert on_host(second.box, f"stat -c %U {DATABASE}") == APP
        assert seen(second)
    until(lambda: seen(second) is None, "the epoch is published, and streams", 120)
    assert len(second.deploy("backup", "list", "--json").json["epochs"]) == 1
