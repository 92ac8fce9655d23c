"""Compares the variables that config/runtime.exs reads with those of env, the secrets and Homeport's own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from homeport.app_source.elixir import Source
from homeport.app_source.runtime_env import Read, reads
from homeport.config import accessories
from homeport.config.hostvars import settings
from homeport.config.layers import FILE, Loaded
from homeport.config.names import RESERVED_ENV
from homeport.config.problems import ConfigError, Origin, Problem
from homeport.config.secret_names import names
from homeport.release import git, source
from homeport.secrets import files

Level = Literal["error", "warning", "note"]
RUNTIME = Path("config", "runtime.exs")
# other files that may name a variable: code, templates, and scripts of the release
_SOURCES = (".ex", ".exs", ".eex", ".heex", ".erl", ".sh", ".args")
MOST_BYTES = 1 << 20
# set by the release's own script, the shell and systemd
_RUNTIME_PREFIXES = ("HOMEPORT_", "RELEASE_")
_SET_BY_RUNTIME = {"PATH", "PWD", "BINDIR", "ROOTDIR", "EMU", "PROGNAME", "ERL_CRASH_DUMP_SECONDS"}


@dataclass(frozen=True)
class Finding:
    """A finding about one variable. An error stops a push."""

    level: Level
    name: str
    what: str
    where: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.level}: {self.name} {self.what} ({self.where}); {self.fix}"


def unset_variables(loaded: Loaded) -> list[Finding]:
    """Findings for the variables that config/runtime.exs reads and that are not set."""
    path = loaded.path(loaded.config.release.path) / RUNTIME
    names_set = _variables_set(loaded)
    missing = [
        read for read in _read(path) if read.name not in names_set and not read.name.startswith(_RUNTIME_PREFIXES)
    ]
    worst: dict[str, Read] = {}
    for read in missing:
        if read.name not in worst or _level(read) < _level(worst[read.name]):
            worst[read.name] = read
    return [_finding(read, files.display_path(path)) for read in worst.values()]


def refuse(findings: list[Finding]) -> None:
    """Raise ConfigError with the findings that are errors, if there are any."""
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        problems = [Problem(_origin(each.where), each.name, each.what) for each in errors]
        fixes = list(dict.fromkeys(each.fix for each in errors))
        raise ConfigError(problems, "; ".join(fixes))


def all_findings(loaded: Loaded, environ: Mapping[str, str]) -> list[Finding]:
    """All findings: variables that are not set or not read, and a vault password in the repository.

    Raises HomeportError for a file of secrets that cannot be opened. Runs no command of `secrets.commands`.
    """
    stored = files.stored_values(loaded, environ)
    supplied = {*stored, *loaded.config.secrets.commands, *environ}
    return [
        *unset_variables(loaded),
        *_secrets_without_value(loaded, supplied),
        *_unread_variables(loaded),
        *_unnamed_secrets(loaded, stored),
        *password_in_git(loaded),
    ]


def _variables_set(loaded: Loaded) -> set[str]:
    config = loaded.config
    of_accessories = accessories.variables_set(config.accessories)
    return {*RESERVED_ENV, *_SET_BY_RUNTIME, *settings(config).env, *config.env.secret, *of_accessories}


def _read(path: Path) -> list[Read]:
    text = _text(path)
    return reads(Source(text)) if text else []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace") if path.stat().st_size <= MOST_BYTES else ""
    except OSError:
        return ""


def _level(read: Read) -> int:
    return 2 if not read.required else 1 if read.need == "perhaps" else 0


def _finding(read: Read, file: str) -> Finding:
    levels: tuple[Level, ...] = ("error", "warning", "note")
    says = ("is needed to start", "is needed under some condition", "is read if it is set")
    level = _level(read)
    fix = f"a secret: name it in env.secret, then deploy secrets set {read.name}; anything else: put it in env.clear"
    return Finding(levels[level], read.name, f"{says[level]}, and nothing sets it", f"{file}:{read.line}", fix)


def _secrets_without_value(loaded: Loaded, supplied: set[str]) -> Iterator[Finding]:
    for name in names(loaded.config):
        if name not in supplied:
            what = "has no value here: the host must have one already"
            yield Finding("warning", name, what, loaded.file, f"deploy secrets set {name}")


def _unread_variables(loaded: Loaded) -> Iterator[Finding]:
    """Warnings for names of env that are not in the project's source. A dependency may read one all the same."""
    root = loaded.path(loaded.config.release.path)
    env = loaded.config.env
    keys = dict.fromkeys(env.clear, "env.clear") | dict.fromkeys(env.secret, "env.secret")
    names = set(keys)
    read = _names_in_source(root, names - {*RESERVED_ENV, *_SET_BY_RUNTIME}) if (root / RUNTIME).is_file() else names
    for name, key in keys.items():
        if name not in read and name not in RESERVED_ENV:
            where = str(loaded.origin.get(f"{key}.{name}") or loaded.origin.get(key) or loaded.file)
            fix = f"remove it from {key}, unless a dependency reads it"
            yield Finding("warning", name, "is not in the project's source", where, fix)


def _names_in_source(root: Path, names: set[str]) -> set[str]:
    """Those of the names that occur in the project's source."""
    found: set[str] = set()
    for name in source.names(root):
        if name.endswith(_SOURCES) and not found >= names:
            found |= names & set(re.findall(r"[A-Z_][A-Z0-9_]*", _text(root / name)))
    return found


def _unnamed_secrets(loaded: Loaded, stored: Mapping[str, files.StoredValue]) -> Iterator[Finding]:
    for name, each in stored.items():
        if name not in names(loaded.config):
            fix = f"name it in env.secret, or: deploy secrets unset {name}"
            what = f"has a value, but {FILE} does not name it: the app does not get it"
            yield Finding("warning", name, what, files.display_path(each.file), fix)


def password_in_git(loaded: Loaded) -> Iterator[Finding]:
    """An error if the file of the vault's password is in the repository and git does not ignore it."""
    if not loaded.config.secrets.password_file:
        return
    path = loaded.path(loaded.config.secrets.password_file)
    listed = git.files(loaded.root)
    if listed is not None and path.is_relative_to(loaded.root) and path.relative_to(loaded.root).as_posix() in listed:
        what = "is in the repository, beside the files that it opens, and git does not ignore it"
        fix = f"echo {path.name} >> .gitignore; if it was committed: deploy secrets rotate --vault"
        yield Finding("error", "secrets.password_file", what, files.display_path(path), fix)


def _origin(where: str) -> Origin:
    file, _, line = where.rpartition(":")
    return Origin(file, file, int(line)) if line.isdigit() else Origin(where)
