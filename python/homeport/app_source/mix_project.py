"""Reads facts from a mix project's source without Elixir: names, releases, database, health route, versions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from homeport.app_source.elixir import Source

LARGEST_BYTES = 1 << 20

# dependency -> the database that it connects to
_DATABASES = {"ecto_sqlite3": "sqlite", "exqlite": "sqlite", "postgrex": "postgres"}

# usual names of a health route, best first
_HEALTH = ("health", "healthz", "up", "_health", "livez", "readyz", "alive", "heartbeat", "status", "ping")


@dataclass(frozen=True)
class Project:
    """A mix project. A fact that was not found is None, empty or False."""

    root: Path
    app: str | None = None
    releases: tuple[str, ...] = ()
    umbrella: bool = False
    dependencies: frozenset[str] = field(default_factory=frozenset)
    assets: bool = False
    migrate: bool = False
    health: str | None = None
    # Ecto's repositories: the application that configures one, and its module
    repos: tuple[tuple[str, str], ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def release(self) -> str | None:
        """The release to deploy: the one named after the app, else the first that is defined."""
        return self.app if self.app in self.releases or not self.releases else self.releases[0]

    @property
    def database(self) -> str | None:
        """The kind of database, sqlite or postgres."""
        return next((kind for name, kind in _DATABASES.items() if name in self.dependencies), None)

    @property
    def driver(self) -> str | None:
        """The dependency by which the database was recognised."""
        return next((name for name in _DATABASES if name in self.dependencies), None)


def detect(root: Path) -> Project | None:
    """The mix project in `root`; None where there is no mix.exs."""
    mix = _read(root / "mix.exs")
    if mix is None:
        return None
    apps = _umbrella_apps(root, mix)
    sources = [mix, *(source for app in apps if (source := _read(app / "mix.exs")))]
    return Project(
        root=root,
        app=mix.keyword("project", "app") or None,
        releases=tuple(mix.keys("project", "releases")),
        umbrella=bool(mix.keyword("project", "apps_path")),
        dependencies=frozenset(name for source in sources for name in source.tuples()),
        assets=any(source.has_key("assets.deploy") for source in sources),
        migrate=(root / "rel" / "overlays" / "bin" / "migrate").is_file(),
        health=_health([root, *apps]),
        repos=tuple(repo for each in (root, *apps) for repo in _repos(each)),
        versions=_versions(root / ".tool-versions"),
    )


def _read(path: Path) -> Source | None:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            return None
        return Source(path.read_text(errors="replace"))
    except OSError:
        return None


def _umbrella_apps(root: Path, mix: Source) -> list[Path]:
    where = mix.keyword("project", "apps_path")
    if not where or ".." in where or where.startswith("/"):
        return []
    return sorted(path.parent for path in (root / where).glob("*/mix.exs"))


def _health(roots: list[Path]) -> str | None:
    found = {route for root in roots for route in _routes(root)}
    best = sorted(found, key=lambda route: (_HEALTH.index(route.rsplit("/", 1)[-1]), len(route), route))
    return best[0] if best else None


def _routes(root: Path) -> Iterator[str]:
    for file in sorted((root / "lib").rglob("*.ex")):
        if file.stem in ("router", "endpoint") or "health" in file.stem:
            source = _read(file)
            yield from (route for route in (source.routes() if source else []) if _is_health(route))


def _repos(root: Path) -> Iterator[tuple[str, str]]:
    for file in sorted((root / "lib").rglob("*repo*.ex")):
        source = _read(file)
        yield from (source.repos() if source else [])


def _is_health(route: str) -> bool:
    return bool(re.fullmatch(r"/[A-Za-z0-9_/.-]*", route)) and route.rsplit("/", 1)[-1] in _HEALTH


def _versions(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    words = (line.split("#")[0].split() for line in lines)
    return {each[0]: each[1] for each in words if len(each) > 1 and each[0] in ("elixir", "erlang")}
