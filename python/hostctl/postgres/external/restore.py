"""`hostctl APP restore` with a database on a server of a provider: only the provider has its backups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hostctl.common.documents import DataSource
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host
from hostctl.journal.engine import Work


def restorable_range(app: App, _: Host) -> tuple[float, float]:
    """Raises HostError (usage), as every function without a docstring here."""
    raise _refused(app)


def row_changes(app: App, data: DataSource) -> Json:
    raise _refused(app)


def live_rows(app: App) -> dict[str, dict[str, int]]:
    raise _refused(app)


def fetch(work: Work) -> str:
    raise _refused(work.app)


def discard_fetched(_: Work) -> None:
    """Nothing was fetched."""


def replace(work: Work) -> str:
    raise _refused(work.app)


def confirm(_: Work) -> None:
    """Nothing was replaced."""


def put_back(_: Work) -> None:
    """Nothing was replaced."""


def kept_data(_: App) -> Mapping[str, int]:
    """Nothing was replaced."""
    return {}


def delete_kept_data(_: App, name: str) -> None:
    """Do nothing: there is no kept data."""


def scratch_directory(app: App) -> Path:
    raise _refused(app)


def restore_into(app: App, data: DataSource, into: Path, host: Host) -> Json:
    raise _refused(app)


def extract(app: App, data: DataSource, name: str | None, into: Path, host: Host) -> tuple[Path, Json]:
    raise _refused(app)


def _refused(app: App) -> HostError:
    what = f"the database of {app.name} and its backups are on a server of its provider"
    return HostError(what, "database.engine: external", "restore it with the provider's own tools", USAGE)
