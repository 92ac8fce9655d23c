"""Provisioning that was killed half-way is finished by the next run."""

from __future__ import annotations

from homeport.sandbox import Sandbox
from tests.host.support import Project, on_host, unchanged


def test_a_run_killed_before_it_restarted_caddy_is_finished_by_the_next(live: Sandbox, project: Project) -> None:
    project.deploy("provision")
    for path in ("/usr/local/bin/caddy", "/etc/systemd/system/caddy.service"):
        before = caddy(live)
        # what the killed run has put in place: the next one finds the same content, and changes nothing
        on_host(live, f"cp -p {path} {path}.new && mv {path}.new {path}")

        project.deploy("provision")

        assert caddy(live) != before, path
    assert unchanged(project)


def caddy(box: Sandbox) -> str:
    return on_host(box, "systemctl show --value -p MainPID caddy.service")
