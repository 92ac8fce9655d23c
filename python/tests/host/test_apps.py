"""Several apps on one host, each out of the others' way; built where deploy.yml says; set up by whoever may."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from pathlib import Path

import pytest
import yaml

from demo.report import Failure, Report
from homeport.sandbox import Sandbox
from tests.apps.support import copy_app
from tests.host.support import APP, DOMAIN, SETTINGS, Json, Project, get, on_host, version
from tests.release.test_container import image, real

__all__ = ["image"]  # a fixture: a small Debian with Elixir, for podman

ADMIN, PUSHER = "admin", "umbrella-pusher"
OTHER = "umbrella.sandbox.test"
ANOTHER_USER: Json = {"ssh": {"user": PUSHER, "provision_user": ADMIN}, "drain_timeout": "10s"}


@pytest.fixture(scope="module")
def admin(live: Sandbox) -> Sandbox:
    """The host, with a user who is not root but may become root."""
    on_host(
        live,
        f"id {ADMIN} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {ADMIN}; "
        f"echo '{ADMIN} ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/{ADMIN}; "
        f"install -d -m 700 -o {ADMIN} -g {ADMIN} /home/{ADMIN}/.ssh; "
        f"install -m 600 -o {ADMIN} -g {ADMIN} /root/.ssh/authorized_keys /home/{ADMIN}/.ssh/authorized_keys",
    )
    return live


@pytest.fixture(scope="module")
def umbrella(admin: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The umbrella, not deployed yet: provisioned by a user with sudo, pushed by a user of its own."""
    root = copy_app("umbrella", tmp_path_factory.mktemp("umbrella") / "umbrella")
    project = Project(root, admin, dict(ANOTHER_USER), OTHER)
    say(project, f'"Hello {secrets.token_hex(4)}"')
    return project


@pytest.fixture(scope="module")
def both(umbrella: Project) -> Project:
    """The umbrella, live beside the example app."""
    if umbrella.deploy("status", check=False).code != 0:
        umbrella.deploy("setup")
    return umbrella


def as_user(box: Sandbox, user: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the host as one of its users, logged in over SSH."""
    argv = [f"{user}@{word.partition('@')[2]}" if word == f"root@{box.address}" else word for word in box.ssh_argv()]
    return subprocess.run([*argv, "--", command], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def say(umbrella: Project, greeting: str) -> None:
    """Make the app answer with the value that this Elixir expression has when it is compiled."""
    code = f"defmodule UmbrellaCore do\n  @greeting {greeting}\n  def greeting, do: @greeting\nend\n"
    (umbrella.root / "apps" / "umbrella_core" / "lib" / "umbrella_core.ex").write_text(code)


# ---------------------------------------------------------------------------------------------- side by side


def lost(report: Report) -> list[Failure]:
    """What a client loses for good when the edge's configuration changes, and with it Caddy's listeners.

    Caddy then closes idle keep-alive connections. A request that is on its way to one at that very instant was not
    seen by anybody, and every HTTP client sends it again (RFC 9112, section 9.3.1); this load never does.
    """
    unseen = [item for item in report.failures if item.kind == "reset" and item.at - item.started < 0.1]
    assert len(unseen) <= 3, unseen
    return [item for item in report.failures if item not in unseen]


def test_a_second_app_is_set_up_by_a_user_with_sudo_while_the_first_loses_no_request(
    project: Project, umbrella: Project
) -> None:
    before = version(project)
    with project.load() as load:
        told = umbrella.deploy("setup", "--json").json
        again = umbrella.deploy("provision", "--json").json

    assert told["result"] == "live", told
    assert again == {"result": "unchanged", "changed": 0}
    assert get(umbrella, "/health").status == 200
    assert lost(load.report) == []
    assert version(project) == before
    assert umbrella.status()["live"]["release"] == told["release"]


def test_pushes_and_rollbacks_of_one_app_do_not_touch_the_other(project: Project, both: Project) -> None:
    before, first = version(project), both.live()
    files = state_of(both.box, APP)
    say(both, f'"Hello again {secrets.token_hex(4)}"')
    with project.load() as load:
        pushed = both.deploy("push", "--json").json
        back = both.deploy("rollback", "--json").json

    assert (pushed["result"], pushed["previous"]) == ("live", first)
    assert (back["result"], back["release"]) == ("live", first)
    assert load.report.failures == []
    assert version(project) == before
    assert state_of(both.box, APP) == files


def state_of(box: Sandbox, app: str) -> str:
    where = f"/srv/{app} /var/lib/homeport/{app} /var/lib/{app} /etc/homeport/{app} /etc/systemd/system/{app}@.service"
    return on_host(box, f"find {where} -printf '%p %m %u %s %T@ %l\\n' | sort")


def test_a_name_that_another_app_answers_is_refused(project: Project, both: Project) -> None:
    before, live = version(project), both.live()
    both.configure(domains=[OTHER, DOMAIN])
    try:
        refused = both.deploy("provision", "--json", check=False)
    finally:
        both.configure(domains=[OTHER])

    assert refused.code in (1, 2), refused.err
    assert f"{DOMAIN} is already answered by the app {APP}" in refused.err
    assert version(project) == before
    assert both.deploy("status", "--json").json["live"]["release"] == live
    assert get(both, "/health").status == 200


# ---------------------------------------------------------------------------------------------- who may do what


@pytest.mark.parametrize("verb", ["status", "releases", "logs", "rollback", "lock acquire", "inspect", "push", "audit"])
def test_who_pushes_one_app_cannot_act_on_another(both: Project, verb: str) -> None:
    before = state_of(both.box, APP)

    refused = as_user(both.box, PUSHER, f"sudo -n hostctl {APP} {verb}")

    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (2, 2)
    assert f"{PUSHER} may not touch this app" in refused.stdout
    assert state_of(both.box, APP) == before


def test_who_pushes_one_app_can_act_on_that_one(both: Project) -> None:
    told = as_user(both.box, PUSHER, "sudo -n hostctl umbrella status")

    assert (told.returncode, json.loads(told.stdout)["app"]) == (0, "umbrella")
    refused = as_user(both.box, "deploy", "sudo -n hostctl umbrella status")
    assert (refused.returncode, "deploy may not touch this app" in refused.stdout) == (2, True)


@pytest.mark.parametrize(
    "command",
    [
        "sudo -n id",
        "sudo -n -u umbrella id",
        f"sudo -n SUDO_USER=root hostctl {APP} status",
        f"sudo -n PYTHONPATH=/tmp hostctl {APP} status",
        "sudo -n /usr/local/lib/homeport/../../bin/caddy version",
        f"sudo -n /usr/local/lib/homeport/root-hostctl {APP} status",
        f"/usr/local/lib/homeport/root-hostctl {APP} status",
        f"cat /var/lib/homeport/{APP}/live/env",
        "cat /var/lib/homeport/umbrella/live/env",
        f"cat /var/lib/{APP}/migrations",
        "touch /srv/umbrella/x",
    ],
)
def test_who_pushes_may_run_hostctl_and_nothing_else(both: Project, command: str) -> None:
    refused = as_user(both.box, PUSHER, command)

    assert refused.returncode != 0
    assert refused.stdout == ""


@pytest.mark.parametrize(
    "words",
    ["boot", "edge apply", "umbrella transition x", "umbrella drain x", "umbrella recover", "umbrella spread a b"],
)
def test_what_the_host_does_by_itself_nobody_who_pushes_can_ask_for(both: Project, words: str) -> None:
    refused = as_user(both.box, PUSHER, f"sudo -n hostctl {words}")

    assert refused.returncode == 2, refused.stdout + refused.stderr


# ---------------------------------------------------------------------------------------------- builds


def test_a_release_is_built_on_the_host_by_a_user_who_may_do_nothing_else(project: Project, both: Project) -> None:
    before = version(project)
    say(both, '"built by #{elem(System.cmd("id", ["-un"]), 0)}"')
    both.configure(release={"build": "host"})
    try:
        with project.load() as load:
            told = both.deploy("push", "--json").json
    finally:
        both.configure(release={})

    assert told["result"] == "live"
    assert get(both, "/").body == "built by umbrella-build\n"
    assert load.report.failures == []
    assert version(project) == before


@pytest.mark.parametrize("_", [pytest.param(0, marks=real)], ids=[""])
def test_a_release_built_in_a_container_goes_live(live: Sandbox, tmp_path: Path, image: str, _: int) -> None:
    root = copy_app(APP, tmp_path / APP)
    (root / "VERSION").write_text("built in a container\n")
    project = Project(root, live, dict(SETTINGS), DOMAIN)
    project.configure(release={"build": "container", "env": {"ELIXIR_IMAGE": image}})

    done = project.deploy("push", "--json")

    assert done.json["result"] == "live"
    assert version(project)["version"] == "built in a container"
    assert "container" in done.err


# ---------------------------------------------------------------------------------------------- from nothing


def test_what_init_writes_needs_only_a_host_and_a_domain_to_be_set_up(live: Sandbox, tmp_path: Path) -> None:
    root = copy_app(APP, tmp_path / "greeter")
    (root / "deploy.yml").unlink()
    project = Project(root, live, {}, "greeter.sandbox.test")
    (root / "deploy.sandbox.yml").unlink()

    subprocess.run([project.command()[0], "init", "--app", "greeter"], cwd=root, check=True, capture_output=True)
    written = (root / "deploy.yml").read_text()
    edited = re.sub(r"(?m)^host: .*$", f"host: root@{live.address}", written)
    edited = re.sub(r"(?m)^(domains:\n  - ).*$", r"\g<1>greeter.sandbox.test", edited)
    # what a rented server needs none of: it is in ssh's own configuration, in DNS, and Let's Encrypt
    bed = {
        "ssh": {"key": str(live.key)},
        "acme": {"directory": live.acme_directory, "ca": str(live.ca), "root": str(live.root)},
        "verify": {"address": live.address},
    }
    for key, section in bed.items():
        edited, there = re.subn(rf"(?m)^{key}:\n(?:(?: .*)?\n)*", yaml.safe_dump({key: section}), edited)
        assert there, f"{key} is not in what init writes"
    (root / "deploy.yml").write_text(edited)

    unpinned = run(project, "setup")
    assert unpinned.returncode == 2
    shown = re.search(r"--accept-host-key (SHA256:\S+)", unpinned.stderr)
    assert shown, unpinned.stderr
    assert shown[1] in fingerprints(live)
    wrong = run(project, "setup", "--accept-host-key", "SHA256:" + "A" * 43)
    assert (wrong.returncode, (root / ".homeport").exists()) == (5, False), wrong.stderr
    done = run(project, "setup", "--accept-host-key", shown[1])

    assert done.returncode == 0, done.stderr
    assert get(project, "/health").status == 200
    assert run(project, "status").returncode == 0


def run(project: Project, *args: str) -> subprocess.CompletedProcess[str]:
    """`deploy` without a destination: the deploy.yml alone."""
    argv = [project.command()[0], *args]
    return subprocess.run(argv, cwd=project.root, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def fingerprints(box: Sandbox) -> str:
    argv = ["ssh-keygen", "-lf", str(box.known_hosts)]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
