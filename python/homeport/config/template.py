"""The deploy.yml that `deploy init` writes: the commented example, filled in from the project's source."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml

from homeport.app_source.mix_project import Project, detect
from homeport.config import values
from homeport.config.database import BACKED_UP
from homeport.config.layers import FILE
from homeport.config.names import app_reason
from homeport.core.errors import ExitCode, HomeportError
from homeport.core.packaged_files import content

SCHEMA = ".deploy.schema.json"
NO_NAME = "CHANGE-ME"  # an invalid name, so that `deploy config` asks for another
LONGEST_NAME = 31
_OPTIONS: dict[str, Callable[[object], str]] = {
    "app": values.app_name,
    "host": values.host,
    "domain": values.domain_name,
    "bucket": values.bucket,
}
_DATABASE_NAMES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
_BACKUP_TEXTS = {
    "sqlite": "streamed to backup.bucket; see the settings below",
    "postgres": "on the host itself, archived to backup.bucket",
}


@dataclass(frozen=True)
class Answers:
    """The options of `deploy init`."""

    app: str | None = None
    host: str | None = None
    domain: str | None = None
    bucket: str | None = None


def find_project(directory: Path) -> Project | None:
    """The mix project in the directory, or the only one directly below it."""
    project = detect(directory)
    if project:
        return project
    below = [found for path in sorted(directory.glob("*/mix.exs")) if (found := detect(path.parent))]
    return below[0] if len(below) == 1 else None


def write(directory: Path, text: str) -> Path:
    """Write deploy.yml. Raises HomeportError (usage) if it exists."""
    path = directory / FILE
    try:
        _create(path, text)
    except FileExistsError:
        fix = "edit it, or move it away first; deploy config shows its values"
        raise HomeportError(
            f"there is a {FILE} already, and it stays as it is", str(path), fix, ExitCode.USAGE
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fix = "name a directory that you may write to: deploy init DIR"
        raise HomeportError(f"it cannot be written: {reason}", str(path), fix, ExitCode.USAGE) from None
    return path


def write_schema(directory: Path) -> Path:
    """Write the JSON Schema that the first line of deploy.yml names, unless it exists. Raises OSError."""
    path = directory / SCHEMA
    with suppress(FileExistsError):
        _create(path, (content() / "docs" / "reference" / "deploy.schema.json").read_text(encoding="utf-8"))
    return path


def _create(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def check(answers: Answers) -> Answers:
    """The answers, if each is valid in deploy.yml. Raises HomeportError (usage) for one that is not."""
    for option, parse in _OPTIONS.items():
        value = getattr(answers, option)
        try:
            _ = None if value is None else parse(value)
        except ValueError as error:
            what, fix = f"{option} {error}", f"deploy init --{option} …"
            raise HomeportError(what, f"--{option} {value}", fix, ExitCode.USAGE) from None
    return answers


def render(directory: Path, project: Project | None, answers: Answers) -> str:
    """The text of deploy.yml for the project and the answers."""
    app = answers.app or _app_name(directory, project)
    lines = {
        "app: shop": f"app: {app}",
        f"host: {values.PLACEHOLDER_HOST}": f"host: {_scalar(answers.host or values.PLACEHOLDER_HOST)}",
        "  name: shop": _release(project),
        '  #path: "."': _path(directory, project),
        "    migrate: bin/migrate": _migrate(project),
        "    - SECRET_KEY_BASE": _secret(project),
        "  engine: none": _engine(project),
        "  #path: shop.db": f"  #path: {app}.db",
        "  #bucket: null": _bucket(project, answers),
        "  #prefix: shop": f"  #prefix: {app}",
        "  path: /health": _health(project),
    }
    text = files("homeport").joinpath("docs", FILE).read_text(encoding="utf-8")
    for line, replacement in lines.items():
        text = _replace(text, line, replacement)
    text = text.replace(f"shop.{values.PLACEHOLDER_DOMAIN}", _domain(answers, app))
    head, rest = text.split("\n\n", 1)
    return "\n\n".join([head, "\n".join(["# Found here:", *_findings(directory, project)]), rest])


def _replace(text: str, line: str, replacement: str) -> str:
    """The text with this line replaced, which must occur once."""
    replaced, count = re.subn(rf"^{re.escape(line)}$", lambda _: replacement, text, flags=re.MULTILINE)
    if count != 1:
        raise AssertionError(f"docs/{FILE} has {count} lines {line!r}")
    return replaced


def _scalar(text: str) -> str:
    return yaml.safe_dump(text, width=10**6).removesuffix("\n").removesuffix("\n...")


def _app_name(directory: Path, project: Project | None) -> str:
    name = (project.release if project else None) or directory.resolve().name
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_NAME].rstrip("-")
    name = f"{name[: LONGEST_NAME - 4].removesuffix('-build')}-app" if app_reason(name) else name
    return name if re.fullmatch(r"[a-z][a-z0-9-]*", name) else NO_NAME


def _domain(answers: Answers, app: str) -> str:
    label = "shop" if app == NO_NAME else app
    return answers.domain.lower() if answers.domain else f"{label}.{values.PLACEHOLDER_DOMAIN}"


def _release(project: Project | None) -> str:
    name = project.release if project else None
    return f"  name: {name}" if name else "  #name: shop"


def _path(directory: Path, project: Project | None) -> str:
    if project is None or project.root == directory:
        return '  #path: "."'
    return f"  path: {_scalar(project.root.relative_to(directory).as_posix())}"


def _migrate(project: Project | None) -> str:
    has_none = project is not None and not project.migrate
    return "    migrate: null" if has_none else "    migrate: bin/migrate"


def needs_bucket(project: Project | None) -> bool:
    """Whether the app's data will be backed up to a bucket."""
    return project is not None and project.database in BACKED_UP


def _engine(project: Project | None) -> str:
    if project is None or project.database != "sqlite":
        return f"  engine: {(project and project.database) or 'none'}"
    repos = project.repos or ((project.app or "shop", f"{_module_name(project.app or 'shop')}.Repo"),)
    lines = [line for app, module in repos for line in _settings(app, module)]
    return "\n".join([*_WHY_SETTINGS, *lines, "  engine: sqlite"])


_WHY_SETTINGS = (
    "  # Without these settings the backup would have gaps, so every push checks them. They belong in",
    "  # config/runtime.exs, below `if config_env() == :prod do`:",
)


def _settings(app: str, module: str) -> list[str]:
    return [
        f"  #   config :{app}, {module},",
        "  #     wal_auto_check_point: 0, busy_timeout: 5000, journal_mode: :wal",
    ]


def _module_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _bucket(project: Project | None, answers: Answers) -> str:
    if not needs_bucket(project):
        return "  #bucket: null"
    return f"  bucket: {_scalar(answers.bucket or values.PLACEHOLDER_BUCKET)}"


def _secret(project: Project | None) -> str:
    if project and "phoenix" not in project.dependencies:
        return "    #- SECRET_KEY_BASE"
    return "    - SECRET_KEY_BASE"


def _health(project: Project | None) -> str:
    return f"  path: {project.health or '/'}" if project else "  path: /health"


def _findings(directory: Path, project: Project | None) -> list[str]:
    if project is None:
        return ["# no mix.exs, here or in one directory below: set release.path to the directory that has it"]
    return [f"# {line}" for line in (*_project_findings(directory, project), *_app_findings(project))]


def _project_findings(directory: Path, project: Project) -> list[str]:
    path = (project.root / "mix.exs").relative_to(directory).as_posix()
    kind = "umbrella project" if project.umbrella else "project"
    found = [f"mix {kind} in {path}, release {project.release or 'without a name: set release.name'}"]
    if others := [name for name in project.releases if name != project.release]:
        found.append(f"other releases: {', '.join(others)}; release.name says which one is deployed")
    if project.versions:
        found.append(".tool-versions: " + ", ".join(f"{name} {version}" for name, version in project.versions.items()))
    return found


def _app_findings(project: Project) -> list[str]:
    found = ["assets.deploy: run in every build"] if project.assets else []
    if project.database:
        name = f"{_DATABASE_NAMES[project.database]} ({project.driver})"
        found.append(f"database: {name}, {_BACKUP_TEXTS[project.database]}")
    if project.database and not project.migrate:
        found.append("no rel/overlays/bin/migrate: mix phx.gen.release writes one, then set release.commands.migrate")
    found.append(f"health route: {project.health}" if project.health else "no health route found: health.path is /")
    return found
