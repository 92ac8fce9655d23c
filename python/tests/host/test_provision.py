"""Provisioning that was killed half-way is finished by the next run."""

from __future__ import annotations

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import Project, on_host


@pytest.mark.parametrize("path", ["/usr/local/bin/caddy", "/etc/systemd/system/caddy.service"])
def test_a_run_killed_before_it_restarted_caddy_is_finished_by_the_next(
    live: Sandbox, project: Project, path: str
) -> None:
    project.deploy("provision")
    before = caddy(live)
    # what the killed run has put in place: the next one finds the same content, and changes nothing
    on_host(live, f"cp -p {path} {path}.new && mv {path}.new {path}")

    project.deploy("provision")

    assert caddy(live) != before
    assert project.deploy("provision", "--json").json["changed"] == 0


def caddy(box: Sandbox) -> str:
    return on_host(box, "systemctl show --value -p MainPID caddy.service")
