"""`hostctl APP seal`: provisioning encrypts the environments that an older Homeport stored as plain text.

The plain text stays until the unit that reads the encrypted file is installed: the app can start at any time.
"""

from __future__ import annotations

from hostctl.common import files
from hostctl.common.documents import Record
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host import credentials
from hostctl.release import envfile, environment, records
from hostctl.release.app_key import app_key, node_cookie
from hostctl.release.environment import INSTANCE, PLAIN, SEALED


def seal(app: App) -> Json:
    """Encrypt the environment of every release that has only the plain text. Returns the releases. Raises HostError."""
    return {"sealed": [record["release"] for record in records.every(app) if _seal(app, record)]}


def finish(app: App) -> Json:
    """Remove the plain text of every release whose encrypted environment is the same. Returns the releases.

    Raises HostError when they differ.
    """
    return {"removed": [release for release in records.releases(app) if _finish(app, release)]}


def _seal(app: App, record: Record) -> bool:
    release = str(record["release"])
    directory, values = app.record(release), environment.read_plain(app.record(release) / PLAIN)
    if not values or (directory / SEALED).exists():
        return False
    if port := values.pop("PORT", None):
        files.write_atomic(directory / INSTANCE, envfile.render({"PORT": port}).encode())
    records.save(app, {**record, "env_digests": envfile.digests(app_key(app), _own_variables(app, record, values))})
    environment.save(app, release, values, record["secrets"])
    return True


def _own_variables(app: App, record: Record, values: dict[str, str]) -> dict[str, str]:
    """The variables that hostctl does not set itself."""
    defaults = envfile.complete(app.name, record["release"], node_cookie(app), "", {})
    return {name: value for name, value in values.items() if defaults.get(name) != value}


def _finish(app: App, release: str) -> bool:
    directory, values = app.record(release), environment.read_plain(app.record(release) / PLAIN)
    if not values:
        return False
    values.pop("PORT", None)
    if envfile.parse(credentials.read(directory / SEALED, environment.CREDENTIAL).decode()) != values:
        what = f"the encrypted environment of {release} differs from the plain text"
        raise HostError(what, str(directory / PLAIN), f"remove {directory / SEALED}, and deploy provision")
    files.unlink(directory / PLAIN)
    return True
