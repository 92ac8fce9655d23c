"""What a push writes to the disk before its transition begins: the record and the environment of the new release."""

from __future__ import annotations

import time
from typing import cast

from hostctl.accessories import services
from hostctl.common.documents import PushSpec, Record, Settings
from hostctl.common.files import make_directory, write_atomic
from hostctl.core.paths import App
from hostctl.instance import agent
from hostctl.release import app_config, envfile, records
from hostctl.release import environment as at_rest
from hostctl.release.app_key import app_key, node_cookie

RECORDED = (
    "release_name",
    "health",
    "drain_timeout",
    "retain_releases",
    "strategy",
    "commands",
    "migrate_timeout",
    "domains",
    "database",
    "cron",
)


def recorded_settings(settings: Settings) -> Settings:
    """The settings that a record keeps. A setting that an older record lacks is None, as if it were not set."""
    return cast("Settings", {key: settings.get(key) for key in RECORDED})


def write(app: App, spec: PushSpec, variables: dict[str, str]) -> None:
    """Write the record and the environment of a new release.

    The journal exists already: an interrupted push removes both.
    """
    release = spec["release"]
    make_directory(app.trees, 0o755)
    make_directory(app.assets, 0o755)
    make_directory(app.record(release), 0o755)
    secrets = sorted({*spec["secrets"], *(services.variables(app) - (spec.get("env") or {}).keys())})
    record = _record(app, spec, variables, secrets)
    domain = app_config.domains(app, spec["settings"])[0]
    write_atomic(app.record(release) / envfile.AGENT, agent.source().encode(), 0o644)
    at_rest.save(app, release, envfile.complete(app.name, release, node_cookie(app), domain, variables), secrets)
    records.save(app, record)
    records.save(app, {**record, "env_changes": records.env_changes(app, app.live(), release)})


def _record(app: App, spec: PushSpec, variables: dict[str, str], secrets: list[str]) -> Record:
    now, key = time.time(), app_key(app)
    return {
        "release": spec["release"],
        "digest": spec["digest"],
        "git": spec.get("git"),
        "who": spec.get("who"),
        "from": spec.get("from"),
        "created": now,
        "state": records.STAGED,
        "history": [{"state": records.STAGED, "at": now}],
        "size": app.artifact(spec["digest"]).stat().st_size,
        "secrets": secrets,
        "settings": recorded_settings(spec["settings"]),
        "env_digest": envfile.digest(key, variables),
        "env_digests": envfile.digests(key, variables),
    }
