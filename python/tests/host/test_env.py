"""`deploy env push` on a real host, and what the app's variables are there at rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from homeport.sandbox import Sandbox, reboot
from tests.host.support import APP, Project, on_host, settled, until, version

STATE = f"/var/lib/homeport/{APP}/releases"
MARKER = "mark-of-the-rotated-secret"
# what an unprivileged user sees of an instance
STRANGER = "runuser -u nobody --"


@pytest.fixture
def app(live: Sandbox, project: Project) -> Project:
    """The app with one instance, and no secret yet."""
    settled(project)
    project.deploy("env", "push")
    settled(project)
    return project


def variables(app: Project) -> dict[str, str]:
    """What the live instance's process has."""
    found = on_host(app.box, f"tr '\\0' '\\n' </proc/{version(app)['pid']}/environ")
    return dict(line.split("=", 1) for line in found.splitlines() if "=" in line)


def test_a_secret_is_rotated_under_load_and_taken_back_and_no_request_is_lost(
    app: Project, measured: Callable[..., None]
) -> None:
    app.configure(env={"secret": ["API_TOKEN"], "clear": {"GREETING": "one"}})
    app.deploy("env", "push", env={"API_TOKEN": "the first"})
    before = version(app)
    assert variables(app)["API_TOKEN"] == "the first"
    settled(app)
    app.configure(env={"secret": ["API_TOKEN"], "clear": {"GREETING": "two"}})

    planned = app.deploy("env", "push", "--plan", env={"API_TOKEN": MARKER})
    with app.load() as load:
        pushed = app.deploy("env", "push", "--json", env={"API_TOKEN": MARKER})
        after = version(app)
        rotated = variables(app)
        back = app.deploy("rollback", "--json").json
        listed, audited = app.deploy("releases"), app.deploy("audit", "-n", "2")
    measured("a secret rotated and taken back", load.report.total)

    assert load.report.failures == []
    assert load.report.versions.keys() == {before["version"]}  # the same code all the while
    assert re.search(r"settings  .*env\.clear\.GREETING, env\.secret\.API_TOKEN", planned.out)
    assert (pushed.json["result"], pushed.json["bytes_sent"]) == ("live", 0)
    assert pushed.json["env_changes"] == {"added": [], "changed": ["API_TOKEN", "GREETING"], "removed": []}
    assert not {"migrate", "point", "build"} & {step["name"] for step in pushed.json["steps"]}
    assert after["release"] == pushed.json["release"] != before["release"]
    assert (rotated["API_TOKEN"], rotated["GREETING"]) == (MARKER, "two")
    assert back["release"] == before["release"]
    assert variables(app)["API_TOKEN"] == "the first"
    assert "API_TOKEN changed, GREETING changed" in listed.out
    assert audited.out.count("env: API_TOKEN changed, GREETING changed") == 2
    assert MARKER not in "".join(done.out + done.err for done in (planned, pushed, listed, audited))


def test_where_nothing_differs_env_push_says_so_and_does_nothing(app: Project) -> None:
    before = version(app)
    for done in (app.deploy("env", "push"), app.deploy("env", "push", "--plan")):
        assert "is live already, with the same settings" in done.out + done.err
    assert version(app) == before


def test_a_secret_without_any_value_is_refused_and_one_that_kills_the_app_is_taken_back(app: Project) -> None:
    before = version(app)
    app.configure(env={"secret": ["NEVER_GIVEN"]})
    refused = app.deploy("env", "push", "--json", check=False)
    assert (refused.code, "NEVER_GIVEN" in refused.json["error"]["what"]) == (2, True)
    app.configure(env={"clear": {"HELLO_CRASH_AT_BOOT": "1"}})
    failed = app.deploy("env", "push", "--json", check=False)
    assert failed.code == 3
    assert version(app) == before


def test_at_rest_the_secrets_are_sealed_and_only_the_app_is_given_them(app: Project) -> None:
    app.configure(env={"secret": ["API_TOKEN"]})
    app.deploy("env", "push", env={"API_TOKEN": MARKER})
    unit = f"{APP}@{app.live()}.service"
    mine, pid = f"/run/credentials/{unit}", version(app)["pid"]

    assert on_host(app.box, f"cat {mine}/secret_API_TOKEN") == MARKER
    assert variables(app)["CREDENTIALS_DIRECTORY"] == mine
    shown = f"systemctl show {unit}; systemctl cat {unit}; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    assert MARKER not in on_host(app.box, f"{shown}; journalctl --no-pager -o export")
    on_disk = "/etc /home /root /srv /tmp /usr/local /var"
    assert on_host(app.box, f"grep -rlF {MARKER} {on_disk} || true") == ""
    for path in (f"{mine}/environment", f"{mine}/secret_API_TOKEN", f"/proc/{pid}/environ"):
        denied = f"{STRANGER} cat {path} 2>&1 >/dev/null || true"
        assert "Permission denied" in on_host(app.box, denied)
    # what an eval beside it has, and where that is while it runs
    asked = 'IO.puts(System.get_env("API_TOKEN") <> inspect(System.get_env("PHX_SERVER")))'
    assert app.deploy("eval", asked).out.split() == [f"{MARKER}nil"]
    on_host(app.box, f"kill -9 {pid}")
    until(lambda: version(app)["pid"] != pid, "another process answers")
    assert variables(app)["API_TOKEN"] == MARKER


@pytest.mark.full
def test_what_an_older_homeport_kept_as_plain_text_is_sealed_by_provisioning_and_serves_after_a_reboot(
    app: Project,
) -> None:
    app.configure(env={"secret": ["API_TOKEN"]})
    app.deploy("env", "push", env={"API_TOKEN": MARKER})
    settled(app)
    live, before = app.live(), version(app)["pid"]
    at, unit = f"{STATE}/{live}", f"/etc/systemd/system/{APP}@.service"
    now = on_host(app.box, f"cat {unit}")
    on_host(app.box, as_before(at, live, unit))
    assert MARKER in on_host(app.box, f"cat {at}/env; systemctl restart {APP}@{live}")
    until(lambda: version(app)["pid"] != before, "the instance of the older unit answers")
    assert variables(app)["API_TOKEN"] == MARKER

    changed = app.deploy("provision", "--json").json["changed"]

    assert changed >= 3  # sealed, the unit, the plain text
    assert on_host(app.box, f"cat {unit}") == now
    assert on_host(app.box, f"ls {at}/env 2>&1 || true").endswith("No such file or directory")
    assert on_host(app.box, f"grep -rlF {MARKER} /var /etc || true") == ""
    reboot(app.box.name)
    until(lambda: serves(app), "the app serves after the reboot", 60)
    assert variables(app)["API_TOKEN"] == MARKER


def as_before(at: str, live: str, unit: str) -> str:
    """The commands that make of a sealed release, and its unit, what an older Homeport had."""
    opened = f"systemd-creds decrypt --name=environment {at}/environment.cred -"
    plain = f"EnvironmentFile={STATE}/%i/env"
    start = f"ExecStart=/srv/{APP}/releases/%i/bin/{APP} start"
    edit = f"-e '/^LoadCredentialEncrypted/d' -e 's|^EnvironmentFile=.*|{plain}|' -e 's|^ExecStart=.*|{start}|'"
    return f"""set -e; umask 077
(cat {at}/instance.env; {opened}) >{at}/env
rm -r {at}/environment.cred {at}/secrets {at}/instance.env
sed -i {edit} {unit}
systemctl daemon-reload"""


def serves(app: Project) -> bool:
    try:
        found: dict[str, Any] = version(app)
    except OSError:
        return False
    return bool(found)
