"""Lists the secrets: the name, the user and the source of each value."""

from __future__ import annotations

from collections.abc import Mapping

from homeport.config.layers import Loaded
from homeport.config.secret_names import backup_names, names
from homeport.secrets import files
from hostctl.common.documents import Json
from hostctl.common.table import columns


def rows(loaded: Loaded, environ: Mapping[str, str]) -> list[Json]:
    """One row per name. `from` is "environment", "command", a file, or None if only the host may have a value.

    Raises HomeportError (usage) for a file that cannot be opened.
    """
    stored = {name: files.display_path(each.file) for name, each in files.stored_values(loaded, environ).items()}
    every = dict.fromkeys([*names(loaded.config), *stored])
    return [{"name": name, "for": user(loaded, name), "from": _origin(loaded, name, environ, stored)} for name in every]


def table(rows: list[Json]) -> list[str]:
    """The rows for a person, in columns."""
    nowhere = "not set here: the host keeps its value"
    return columns([(row["name"], row["for"] or "nobody", row["from"] or nowhere) for row in rows])


def user(loaded: Loaded, name: str) -> str | None:
    """The user of a secret: "app", "backup", "certificate" or "notify"; None if nothing uses it."""
    if name in loaded.config.env.secret:
        return "app"
    if name in backup_names(loaded.config).values():
        return "backup"
    if name in (domain.key for domain in loaded.config.own_certificates):
        return "certificate"
    return "notify" if name in (receiver.url for receiver in loaded.config.notify) else None


def _origin(loaded: Loaded, name: str, environ: Mapping[str, str], stored: Mapping[str, str]) -> str | None:
    if loaded.credentials and user(loaded, name) == "backup":
        return "sandbox"
    if name in environ and user(loaded, name):
        return "environment"
    return "command" if name in loaded.config.secrets.commands else stored.get(name)
