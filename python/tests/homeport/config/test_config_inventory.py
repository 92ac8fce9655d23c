"""The inventory plugin, run by the real ansible-inventory with the project's own ansible.cfg."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homeport.config.hostvars import host_vars
from homeport.config.layers import load
from homeport.core.packaged_files import content
from homeport.core.provision_stamp import stamp


def inventory(cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "HOMEPORT_"))}
    program = Path(sys.executable).parent / "ansible-inventory"
    return subprocess.run(
        [str(program), "--list", "--export"],
        cwd=cwd,
        env={**kept, "ANSIBLE_CONFIG": str(content() / "ansible.cfg"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def variables(done: subprocess.CompletedProcess[str], host: str) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["homeport"]["hosts"] == [host]
    plain: dict[str, Any] = _plain(found["_meta"]["hostvars"][host])
    return plain


def _plain(value: Any) -> Any:
    """Without Ansible's marks for text that must not be taken for a template."""
    if isinstance(value, dict):
        return (
            value["__ansible_unsafe"]
            if set(value) == {"__ansible_unsafe"}
            else {k: _plain(v) for k, v in value.items()}
        )
    return [_plain(item) for item in value] if isinstance(value, list) else value


def test_deploy_yml_becomes_one_host(project: Any, good: Callable[[str], str]) -> None:
    project.write(good('env: {clear: {GREETING: \'{{ lookup("pipe", "id") }}\'}}\n'))

    found = variables(inventory(project.root), "shop")

    expected = host_vars(load(start=project.root))
    assert found == json.loads(json.dumps({**expected, "homeport_stamp": stamp(expected)}))
    assert found["homeport_env"]["GREETING"] == '{{ lookup("pipe", "id") }}'


def test_file_and_destination_come_from_the_environment(
    project: Any, good: Callable[[str], str], tmp_path_factory: Any
) -> None:
    project.write(good("")).write("host: 10.0.0.2\n", "deploy.staging.yml")
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    done = inventory(elsewhere, HOMEPORT_CONFIG=str(project.root / "deploy.yml"), HOMEPORT_DESTINATION="staging")

    assert variables(done, "shop-staging")["ansible_host"] == "10.0.0.2"


def test_mistakes_are_told_with_their_lines(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("zebra: 1\n"))

    done = inventory(project.root)

    assert "zebra: unknown key" in done.stderr
    assert "deploy.yml:4" in done.stderr
    assert "homeport" not in json.loads(done.stdout or "{}")


def test_what_is_resolved_already_is_taken_as_it_is(tmp_path: Path) -> None:
    resolved = tmp_path / "resolved.json"
    resolved.write_text(json.dumps({"homeport_name": "shop", "ansible_host": "10.0.0.3", "n": 1}))

    found = variables(inventory(tmp_path, HOMEPORT_RESOLVED=str(resolved)), "shop")

    assert found == {"homeport_name": "shop", "ansible_host": "10.0.0.3", "n": 1}
