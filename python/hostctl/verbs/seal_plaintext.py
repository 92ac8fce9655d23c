"""What an older Homeport kept as plain text is sealed when the host is provisioned again.

The plain text stays until the unit is installed that reads what is sealed: at no instant can the app not start.
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
    """Seal the environment of every release that has it as plain text alone; returns which. Raises HostError."""
    return {"sealed": [record["release"] for record in records.every(app) if _seal(app, record)]}


def finish(app: App) -> Json:
    """Remove the plain text of every release whose sealed environment is the same; returns which. Raises HostError."""
    return {"removed": [release for release in records.releases(app) if _finish(app, release)]}


def _seal(app: App, record: Record) -> bool:
    release = str(record["release"])
    at, values = app.record(release), environment.read_plain(app.record(release) / PLAIN)
    if not values or (at / SEALED).exists():
        return False
    if port := values.pop("PORT", None):
        files.write_atomic(at / INSTANCE, envfile.render({"PORT": port}).encode())
    records.save(app, {**record, "env_digests": envfile.digests(app_key(app), _given(app, record, values))})
    environment.save(app, release, values, record["secrets"])
    return True


def _given(app: App, record: Record, values: dict[str, str]) -> dict[str, str]:
    """The app's own variables: those that are not what hostctl sets by itself. PHX_HOST comes with every push."""
    defaults = envfile.complete(app.name, record["release"], node_cookie(app), "", {})
    return {name: value for name, value in values.items() if defaults.get(name) != value}


def _finish(app: App, release: str) -> bool:
    at, values = app.record(release), environment.read_plain(app.record(release) / PLAIN)
    if not values:
        return False
    values.pop("PORT", None)
    if envfile.parse(credentials.read(at / SEALED, environment.CREDENTIAL).decode()) != values:
        what = f"what is sealed of {release} is not what is kept as plain text"
        raise HostError(what, str(at / PLAIN), f"remove {at / SEALED}, and deploy provision")
    files.unlink(at / PLAIN)
    return True
