"""Removal of an app whose database is on a server of its provider: the database stays there."""

from __future__ import annotations

from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host.host import Host


def databases(_: App, host: Host) -> list[Json]:
    """None is on this host."""
    return []


def snapshot(_: App, host: Host) -> None:
    """Do nothing: the provider makes the backups."""


def finish(_: App, host: Host) -> None:
    """Do nothing: the provider makes the backups."""


def stop(_: App, host: Host) -> None:
    """Do nothing: nothing of the database runs on this host."""


def resume(_: App, host: Host) -> None:
    """Do nothing: nothing was stopped."""


def delete(_: App) -> None:
    """Do nothing: nothing of the database is on this host."""
