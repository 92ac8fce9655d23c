"""`deploy maintenance` on a real host: who sees the page, who passes, and what goes on behind it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.sandbox import Sandbox, reboot
from tests.host.support import Answer, Json, Project, another, get, on_host, settled, until, version

Artifacts = dict[int, Path]
MESSAGE = 'moving <script>alert("x")</script> & back at "14:00"'


@pytest.fixture
def app(live: Sandbox, project: Project) -> Iterator[Project]:
    """The app with visitors. Whatever a test does, they see it again after it."""
    settled(project)
    yield project
    project.deploy("maintenance", "off")


def on(app: Project, *args: str) -> Json:
    return app.deploy("maintenance", "on", "--json", *args).json


def seen(app: Project) -> Answer:
    return get(app, "/version")


def own_address(app: Project) -> str:
    """The address that the host sees this machine at."""
    route = subprocess.run(["ip", "-o", "route", "get", app.box.address], check=True, capture_output=True, text=True)
    found = re.search(r"src (\S+)", route.stdout)
    assert found, route.stdout
    return found[1]


def test_visitors_see_the_page_with_the_message_as_text_and_when_to_come_again(app: Project) -> None:
    style = re.search(r'href="(/assets/[^"]+\.css)', get(app, "/").body)
    assert style
    on(app, "-m", MESSAGE, "--retry-after", "90")

    page = seen(app)

    assert (page.status, page.headers["retry-after"], page.headers["cache-control"]) == (503, "90", "no-store")
    assert "moving &lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; back at &quot;14:00&quot;" in page.body
    assert "etag" not in page.headers
    # what is no work of the app's still comes: a team's page may be in its own style
    assert (get(app, "/health").status, get(app, style[1]).status) == (200, 200)

    told = app.deploy("status", "--check")
    assert told.out.startswith("MAINTENANCE  ON since ")
    assert app.status()["maintenance"]["message"] == MESSAGE

    assert app.deploy("maintenance", "off", "--json").json["was"]["message"] == MESSAGE
    assert (seen(app).status, app.status()["maintenance"]) == (200, None)


def test_who_is_named_sees_the_app_and_nobody_any_more_when_others_are(app: Project) -> None:
    on(app, "--allow", own_address(app), "--allow", "2001:db8::7")
    assert seen(app).status == 200
    on(app, "--allow", "203.0.113.9")
    assert seen(app).status == 503


def test_the_teams_own_page_is_shown(app: Project) -> None:
    (app.root / "deploy").mkdir()
    (app.root / "deploy" / "maintenance.html").write_text("<h1>Zurück um 14 Uhr</h1>\n")
    on(app)
    assert seen(app).body == "<h1>Zurück um 14 Uhr</h1>\n"
    refused = app.deploy("maintenance", "on", "-m", "soon", check=False)
    assert (refused.code, seen(app).body) == (2, "<h1>Zurück um 14 Uhr</h1>\n"), refused.err


def test_no_connection_of_a_visitor_outlives_it(app: Project) -> None:
    socket = app.websocket()
    assert socket.echo("before")
    assert on(app)["closed"] >= 1
    assert socket.wait_closed(5)


def test_a_push_and_a_rollback_go_on_behind_the_page_and_nobody_meets_anything_else(
    app: Project, artifacts: Artifacts
) -> None:
    before, other = version(app)["release"], another(app, artifacts)
    on(app)
    pid = on_host(app.box, "systemctl show -p MainPID --value caddy.service")
    with app.load(clients=4, rate=50) as load:
        pushed = app.push(other)
        assert pushed["result"] == "live"
        assert app.deploy("rollback", "--json").json["release"] == before
    assert load.report.answered == 0
    assert {(failure.kind, "503" in failure.detail) for failure in load.report.failures} == {("status", True)}
    # nothing was restarted for any of it
    assert on_host(app.box, "systemctl show -p MainPID --value caddy.service") == pid
    assert app.status()["live"]["release"] == before


def test_it_survives_a_reboot(app: Project) -> None:
    since = on(app, "-m", "moving")["maintenance"]["since"]
    reboot(app.box.name)
    until(lambda: healthy(app), "the app is healthy after the reboot", 30)
    assert seen(app).status == 503
    assert app.status()["maintenance"]["since"] == since


def healthy(app: Project) -> bool:
    """Whether the health check passes, page or no page."""
    try:
        return get(app, "/health").status == 200
    except OSError:
        return False
