"""An older Homeport from the history of this repository: what an upgrade begins with."""

from __future__ import annotations

import io
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[2]
COMMIT = "8376ebe"  # the Homeport that hosts were provisioned by before its modules were moved into packages


@dataclass(frozen=True)
class Older:
    """The files of one commit; a process with `env` imports the Homeport, hostctl and tests of that commit."""

    root: Path

    @property
    def env(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.root / "python")}


def unpack(to: Path, commit: str = COMMIT) -> Older:
    """The files of the commit, in a new directory. Fails the test when the clone does not have the commit."""
    words = ["git", "-C", str(CLONE), "archive", "--format=tar", commit]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        pytest.fail(
            f"error: the commit {commit}, from which the upgrade is tested, is not in this clone\n"
            f"where: {CLONE}: {done.stderr.decode(errors='replace').strip()}\n"
            "fix: git fetch --unshallow, then run the test again",
            pytrace=False,
        )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(to, filter="data")
    return Older(to)
