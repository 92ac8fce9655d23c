"""Builds a release with the mix of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from homeport.release import mix, tree
from homeport.release.command import Report, run

NO_HEX = (
    "let this machine reach https://builds.hex.pm once, or install them from a file: "
    "mix archive.install, mix local.rebar rebar3 PATH"
)


def build(root: Path, release: str, env: dict[str, str], report: Report) -> Path:
    """Build the release and return its directory, below the project's `_build`.

    The directory is emptied first: mix only adds files, and those of an earlier build would change the digest. Raises
    HomeportError with the command's last lines.
    """
    project = mix.read(root)
    target = root / "_build" / "homeport" / release
    shutil.rmtree(target, ignore_errors=True)
    for argv in mix.commands(project, release, str(target)):
        run(argv, root, mix.environment(env), report, _fix(argv))
    return tree.check(target, release)


def _fix(argv: list[str]) -> str:
    return NO_HEX if argv[1].startswith("local.") else ""
