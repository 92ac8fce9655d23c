"""The playbooks run without `deploy`, by ansible-playbook from the repository's root."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from homeport.sandbox import Sandbox
from tests.host.support import Project, another, version

ROOT = Path(__file__).parents[3]


def test_ansible_alone_pushes_a_release_and_loses_no_request(
    live: Sandbox, project: Project, artifacts: dict[int, Path]
) -> None:
    release, before = another(project, artifacts), version(project)

    with project.load() as load:
        told = playbook(project, "push", f"homeport_artifact={release}")

    assert "failed=0" in told
    assert version(project)["version"] != before["version"]
    assert project.status()["live"]["release"] == version(project)["release"]
    assert load.report.failed == 0


def test_ansible_alone_provisions_again_and_changes_nothing(live: Sandbox, project: Project) -> None:
    playbook(project, "provision")

    assert "changed=0" in playbook(project, "provision")


def playbook(project: Project, name: str, *extra: str) -> str:
    """What a playbook prints. Fails the test when the playbook fails."""
    ran = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", "inventory", f"playbooks/{name}.yml"),
            *(word for each in extra for word in ("-e", each)),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "HOMEPORT_CONFIG": str(project.root / "deploy.yml"),
            "HOMEPORT_DESTINATION": f"sandbox:{project.box.name}",
        },
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    return ran.stdout
