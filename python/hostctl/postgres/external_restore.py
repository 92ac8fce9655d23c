"""Data of another instant of a database on somebody else's server: only its provider has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hostctl.common.documents import DataSource
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal.steps import Work


def reach(app: App, _: Host) -> tuple[float, float]:
    """Raises HostError (usage), as everything here."""
    raise _refused(app)


def counted(app: App, data: DataSource) -> Json:
    raise _refused(app)


def now(app: App) -> dict[str, dict[str, int]]:
    raise _refused(app)


def fetch(work: Work) -> str:
    raise _refused(work.app)


def forget(_: Work) -> None:
    """Nothing was fetched."""


def replace(work: Work) -> str:
    raise _refused(work.app)


def counts(_: Work) -> None:
    """Nothing was replaced."""


def put_back(_: Work) -> None:
    """Nothing was replaced."""


def kept(_: App) -> Mapping[str, int]:
    """Nothing was replaced."""
    return {}


def drop(_: App, name: str) -> None:
    """There is none of that name: see `kept`."""


def beside(app: App) -> Path:
    raise _refused(app)


def bring(app: App, data: DataSource, into: Path, host: Host) -> Json:
    raise _refused(app)


def extract(app: App, data: DataSource, name: str | None, into: Path, host: Host) -> tuple[Path, Json]:
    raise _refused(app)


def _refused(app: App) -> HostError:
    what = f"the database of {app.name} is on a server of its provider's, and so are its backups"
    return HostError(what, "database.engine: external", "restore it with the provider's own tools", USAGE)
