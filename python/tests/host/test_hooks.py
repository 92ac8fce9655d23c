"""pre-migrate stands between the upload and the switch: what it forbids has not happened."""

from __future__ import annotations

import shutil
from pathlib import Path

from homeport.sandbox import Sandbox
from tests.host.support import APP, Project, another, check_told, footprint

NAME = "20261121120000_drop_the_baskets"
HOOK = """#!/bin/sh
env | grep '^HOMEPORT_' | sort > told
echo "not on a Friday"
exit 7
"""


def test_a_failing_pre_migrate_stops_a_push_with_new_migrations_before_anything_changes(
    live: Sandbox, project: Project, artifacts: dict[int, Path], tmp_path: Path
) -> None:
    release = tmp_path / APP
    shutil.copytree(another(project, artifacts), release, symlinks=True)
    (library,) = (release / "lib").glob(f"{APP}-*")
    (library / "priv/repo/migrations").mkdir(parents=True)
    (library / f"priv/repo/migrations/{NAME}.exs").write_text("drop table(:baskets)\n")
    hook = project.root / "hooks" / "pre-migrate"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(HOOK)
    hook.chmod(0o755)
    before = footprint(project)

    done = project.deploy("push", "--artifact", release, "--json", check=False)

    check_told(done, 1, "the hook pre-migrate ended with status 7; its last lines:\nnot on a Friday")
    assert footprint(project) == before
    told = dict(line.split("=", 1) for line in (project.root / "told").read_text().splitlines())
    assert told.pop("HOMEPORT_PERFORMER")
    assert told == {
        "HOMEPORT_APP": APP,
        "HOMEPORT_DESTINATION": f"sandbox:{live.name}",
        "HOMEPORT_DOMAIN": project.domain,
        "HOMEPORT_HOST": live.address,
        "HOMEPORT_MIGRATIONS": NAME,
        "HOMEPORT_VERB": "push",
    }
