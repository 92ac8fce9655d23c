"""Nothing is lost while releases change: 20 keep-alive clients, half of their requests POST, on a real host."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import (
    DOMAIN,
    FULL_RATE,
    OLD_NAME,
    SETTINGS,
    Project,
    another,
    get,
    on_host,
    settled,
    unchanged,
    until,
    version,
)

Artifacts = dict[int, Path]
Measured = Callable[..., None]
QUIET_SECONDS = 1.0  # of load before and after what happens, so that its edges are counted too


@pytest.fixture
def app(live: Sandbox, project: Project) -> Project:
    """The app with one instance, of whatever version."""
    settled(project)
    return project


@pytest.mark.parametrize("rounds", [2, pytest.param(10, marks=pytest.mark.full)])
def test_pushes_and_rollbacks_in_turn_lose_no_request(
    app: Project, artifacts: Artifacts, measured: Measured, rounds: int
) -> None:
    app.push(artifacts[1])
    first = app.live()
    with app.load(rate=FULL_RATE) as load:
        for number in range(rounds):
            load.mark("push")
            assert app.push(artifacts[2 + number % 2])["result"] == "live"
            load.mark("rollback")
            assert app.deploy("rollback", "--json").json["release"] == first
    measured(f"{rounds} pushes and {rounds} rollbacks in turn", load.report.total)
    assert load.report.failures == []
    assert load.report.versions.keys() == {"1", "2", "3"}


def test_a_killed_app_comes_back_and_only_posts_in_flight_are_lost(app: Project, measured: Measured) -> None:
    before = version(app)
    with app.load(rate=0) as load:  # no pauses: each client has a request in flight when the app is killed
        time.sleep(QUIET_SECONDS)
        kill = f"date +%s.%N; kill -9 {before['pid']}; while kill -0 {before['pid']}; do :; done 2>&-; date +%s.%N"
        began, ended = map(float, on_host(app.box, kill).split())
        until(lambda: version(app)["pid"] != before["pid"], "another process answers")
        time.sleep(QUIET_SECONDS)
    excused = load.report.posts_in_flight(began, ended)
    measured("kill -9 of the app", load.report.total, len(excused))
    assert load.report.unexcused((began, ended)) == []
    assert len(excused) <= load.settings.clients


def test_restarting_the_unit_loses_no_request(app: Project, measured: Measured) -> None:
    before = version(app)
    with app.load(rate=FULL_RATE) as load:
        time.sleep(QUIET_SECONDS)
        on_host(app.box, f"systemctl restart 'hello@{before['release']}'")
        until(lambda: version(app)["pid"] != before["pid"], "another process answers")
        time.sleep(QUIET_SECONDS)
    measured("systemctl restart of the app", load.report.total)
    assert load.report.failures == []


def test_provisioning_again_changes_nothing_and_loses_no_request(app: Project, measured: Measured) -> None:
    before = version(app)
    with app.load(rate=FULL_RATE) as load:
        assert unchanged(app)
    measured("provision again", load.report.total)
    assert load.report.failures == []
    assert version(app) == before


def test_what_is_live_already_is_not_pushed_again(app: Project, artifacts: Artifacts) -> None:
    app.push(artifacts[1])
    before = version(app)
    again = app.push(artifacts[1])
    assert (again["result"], again["release"], again["bytes_sent"]) == ("unchanged", before["release"], 0)
    assert version(app) == before


@pytest.fixture
def patient(app: Project) -> Iterator[Project]:
    """The app whose old instance drains until nobody is connected any more, however busy this machine is."""
    app.configure(drain_timeout="5m")
    app.deploy("provision")
    yield app
    app.configure(**SETTINGS)
    app.deploy("provision")


def test_a_rollback_takes_back_the_instance_that_still_drains(
    patient: Project, artifacts: Artifacts, measured: Measured
) -> None:
    app, before = patient, version(patient)
    with app.load(rate=FULL_RATE) as load, app.websocket() as socket:
        push = app.start("push", "--artifact", another(app, artifacts))
        until(lambda: app.status()["lock"] is not None, "the push is at work", 120)
        back = app.deploy("rollback", "--lock-wait", "120", "--json").json
        said, _ = push.communicate(timeout=120)
        assert socket.echo("never closed")
        assert version(app) == before
    assert push.returncode == 0, said
    measured("rollback while the old one drains", load.report.total)
    assert back["release"] == before["release"]
    assert load.report.failures == []
    assert len(load.report.versions) == 2
    assert on_host(app.box, f"systemctl show -P NRestarts 'hello@{before['release']}'") == "0"


def test_a_websocket_outlives_the_flip_and_is_closed_by_the_drain(app: Project, artifacts: Artifacts) -> None:
    with app.websocket() as socket:
        pushed = app.push(another(app, artifacts))
        assert version(app)["release"] == pushed["release"]
        assert socket.echo("still here")
        closed = socket.wait_closed(60)
    record = on_host(app.box, f"cat /var/lib/homeport/hello/releases/{pushed['release']}/record.json")
    went_live = json.loads(record)["history"][-1]["at"]
    assert closed.at >= went_live + float(app.settings["drain_timeout"].removesuffix("s"))
    assert closed.code == 1001  # going away (RFC 6455, section 7.4.1): the instance ended, not the connection
    settled(app)
    assert on_host(app.box, f"systemctl is-active 'hello@{pushed['previous']}' || true") == "inactive"


def test_an_open_tab_still_gets_the_static_files_of_the_release_before(app: Project, artifacts: Artifacts) -> None:
    old_style = style_sheet(app)
    old = get(app, old_style)
    app.push(another(app, artifacts))
    settled(app)
    assert style_sheet(app) != old_style
    for path in (old_style, style_sheet(app)):
        answer = get(app, path)
        assert (answer.status, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert answer.headers["content-type"].startswith("text/css")
    assert get(app, old_style).body == old.body


def style_sheet(project: Project) -> str:
    """The style sheet that the page links to."""
    found = re.search(r'href="(/assets/css/app-[0-9a-f]{32}\.css)"', get(project, "/").body)
    assert found
    return found[1]


def test_the_certificate_leads_to_the_acme_root_and_to_no_other(app: Project) -> None:
    assert get(app, "/health").status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        get(app, "/health", root=app.box.ca)  # signs the services' own certificates, no app's


def test_http_2_is_spoken(app: Project) -> None:
    argv = ["curl", "-sS", "--http2", "--cacert", str(app.box.root), "--resolve", f"{DOMAIN}:443:{app.box.address}"]
    wanted = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}", f"https://{DOMAIN}/version"]
    assert subprocess.run([*argv, *wanted], capture_output=True, text=True, check=True).stdout == "2 200"


def test_plain_http_leads_to_https(app: Project) -> None:
    answer = get(app, "/slow?ms=1", plain=True)
    assert (answer.status, answer.headers["location"]) == (308, f"https://{DOMAIN}/slow?ms=1")


def test_a_name_that_redirects_has_its_own_certificate_and_keeps_the_path(app: Project) -> None:
    answer = get(app, "/version?of=old", OLD_NAME)
    assert (answer.status, answer.headers["location"]) == (308, f"https://{DOMAIN}/version?of=old")
