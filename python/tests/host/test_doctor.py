"""What `deploy doctor`, `deploy certs` and `deploy apps` find on a real host."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import Json, Project, on_host

WELL = ("host key", "login", "shell", "system", "disk", "memory", "app", "edge", "authority", "ports", "certificate")


def examined(project: Project) -> tuple[int, dict[str, list[Json]]]:
    """Exit status, and the findings by check."""
    done = project.deploy("doctor", "--json", check=False)
    by_check: dict[str, list[Json]] = {}
    for one in done.json["checks"]:
        by_check.setdefault(one["check"], []).append(one)
    return done.code, by_check


def test_a_host_that_is_well_is_told_so(live: Sandbox, project: Project) -> None:
    code, found = examined(project)
    assert code in (0, 1), found  # what other tests have left on the host may deserve a look
    assert {one["state"] for check in WELL for one in found[check]} == {"ok"}, found


@pytest.fixture
def sick(live: Sandbox) -> Iterator[Sandbox]:
    """The host with a login shell that takes its time, a failed unit, and an upgrade that asks for a reboot."""
    broken, shell = "homeport-hello-broken", "/usr/local/bin/slow-shell"
    # a session that is open keeps the shell that it has begun with
    again = "loginctl terminate-user deploy || true"
    on_host(live, f"printf '#!/bin/sh\\nsleep 1.2; exec /bin/sh \"$@\"\\n' > {shell}; chmod 755 {shell}")
    on_host(live, f"chsh -s {shell} deploy; {again}")
    on_host(live, f"touch /run/reboot-required; systemd-run --quiet --wait --unit={broken} false || true")
    yield live
    on_host(live, f"chsh -s /bin/sh deploy; {again}; rm {shell} /run/reboot-required; systemctl reset-failed {broken}")


def test_everything_that_is_wrong_is_found_in_one_run_with_its_fix(sick: Sandbox, project: Project) -> None:
    project.deploy("lock", "acquire", "-m", "until noon")
    try:
        code, found = examined(project)
    finally:
        project.deploy("lock", "release")
    assert code == 5
    assert "takes" in found["shell"][0]["says"]
    assert [one["says"] for one in found["units"] if one["state"] == "error"] == [
        "homeport-hello-broken.service has failed"
    ]
    assert (found["reboot"][0]["state"], found["lock"][0]["state"]) == ("warning", "warning")
    assert "until noon" in found["lock"][0]["says"]
    wrong = [one for many in found.values() for one in many if one["state"] in ("warning", "error")]
    assert [one for one in wrong if not one["fix"]] == []


def test_a_host_that_nobody_can_log_in_to_hides_nothing_of_what_is_seen_from_outside(
    live: Sandbox, project: Project
) -> None:
    project.configure(ssh={"user": "nobody-here"})
    code, found = examined(project)
    assert code == 5
    assert (found["login"][0]["state"], found["host"][0]["state"]) == ("error", "skipped")
    assert {one["state"] for check in ("ports", "certificate") for one in found[check]} == {"ok"}


@contextmanager
def visitors(project: Project) -> Iterator[list[str]]:
    """Handshake after handshake, each checked against the authority's root; gives those that failed."""
    trust = ssl.create_default_context(cafile=str(project.box.root))
    failed: list[str] = []
    ended = threading.Event()

    def visit() -> None:
        while not ended.is_set():
            try:
                with socket.create_connection((project.box.address, 443), timeout=10) as raw:
                    trust.wrap_socket(raw, server_hostname=project.domain).close()
            except OSError as error:
                failed.append(str(error))

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    try:
        yield failed
    finally:
        ended.set()
        thread.join()


def test_certificates_are_renewed_while_every_visitor_is_shown_a_valid_one(live: Sandbox, project: Project) -> None:
    before = project.deploy("certs", "--json").json
    with visitors(project) as failed:
        after = project.deploy("certs", "renew", "--json").json
    assert failed == []
    assert [one["name"] for one in after] == ["hello.sandbox.test", "www.hello.sandbox.test"]
    assert all(new["not_before"] > old["not_before"] for new, old in zip(after, before, strict=True))
    assert "renewal_window_ratio" not in on_host(
        live, "curl -s --unix-socket /run/caddy/admin.sock http://caddy/config/apps/tls"
    )
    assert "certs renew" in project.deploy("audit").out


def test_the_apps_of_the_host_are_listed(live: Sandbox, project: Project) -> None:
    told = {one["app"]: one for one in project.deploy("apps", "--json").json}
    assert (told["hello"]["state"], told["hello"]["live"]["release"]) == ("live", project.live())
    assert told["hello"]["bytes"] > 1_000_000
