"""Reads from mix.exs, without mix, which commands build a release of the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from homeport.core.errors import ExitCode, HomeportError

COMMENT = re.compile(r"(^|\s)#(?!\{).*$", re.MULTILINE)
APPS_PATH = re.compile(r'\bapps_path:\s*"([^"]+)"')
ASSETS = re.compile(r'"assets\.deploy"\s*:|:"assets\.deploy"')
RELEASES = re.compile(r"\breleases:")
# {:name, "~> 1.0"} and {:name, git: …}: a mistake here costs half a second of `mix deps.get`, no more
DEPENDENCY = re.compile(r"\{\s*:[a-z]\w*\s*,\s*(\"|\w+:\s)")
FROM_HEX = re.compile(r"\{\s*:[a-z]\w*\s*,\s*\"")


class Project(NamedTuple):
    """`assets`: the directories, relative to the root, whose mix.exs has an assets.deploy alias."""

    root: Path
    has_dependencies: bool
    from_hex: bool
    has_releases: bool
    assets: tuple[str, ...]


def read(root: Path) -> Project:
    """The project at `root`, umbrella or not. Raises HomeportError if there is none."""
    try:
        text = _read_uncommented(root / "mix.exs")
    except FileNotFoundError:
        fix = "run deploy in the directory of the app's mix.exs, or push a built release with --artifact"
        raise HomeportError("there is no mix project here", str(root), fix, ExitCode.USAGE) from None
    texts = {"": text} | {_relative(root, path): _read_uncommented(path) for path in _children(root, text)}
    return Project(
        root,
        any(DEPENDENCY.search(text) for text in texts.values()),
        any(FROM_HEX.search(text) for text in texts.values()),
        bool(RELEASES.search(text)),
        tuple(where for where, text in texts.items() if ASSETS.search(text)),
    )


def commands(project: Project, release: str, target: str) -> list[list[str]]:
    """The commands that build `release` into the directory `target`; they run at the root of the project."""
    hex_tools = [["mix", f"local.{tool}", "--force", "--if-missing"] for tool in ("hex", "rebar")]
    dependencies = [["mix", "deps.get", "--only", "prod"]]
    # `mix release` compiles by itself; only the assets need the compiled code before
    compiled = [["mix", "compile"]]
    assets = [[*_at(where), "mix", "assets.deploy"] for where in project.assets]
    name = [release] if project.has_releases else []
    return [
        *(hex_tools if project.from_hex else []),
        *(dependencies if project.has_dependencies else []),
        *(compiled + assets if assets else []),
        ["mix", "release", *name, "--overwrite", "--quiet", "--path", target],
    ]


def environment(env: dict[str, str]) -> dict[str, str]:
    """The variables of a build: release.env and those of every build."""
    return {"LANG": "C.UTF-8", **env, "MIX_ENV": "prod"}


def _at(where: str) -> list[str]:
    return ["env", f"--chdir={where}"] if where else []


def _children(root: Path, text: str) -> list[Path]:
    found = APPS_PATH.search(text)
    return sorted((root / found[1]).glob("*/mix.exs")) if found else []


def _relative(root: Path, mix_exs: Path) -> str:
    return mix_exs.parent.relative_to(root).as_posix()


def _read_uncommented(path: Path) -> str:
    return COMMENT.sub("", path.read_text(encoding="utf-8", errors="replace"))
