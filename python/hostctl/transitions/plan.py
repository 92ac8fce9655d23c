"""`hostctl APP plan`: what a push would change, without doing it."""

from __future__ import annotations

import tarfile

from hostctl.accessories import services
from hostctl.common.documents import Json, Plan, PushSpec, Record
from hostctl.common.release import artifact, migrations
from hostctl.core.paths import App
from hostctl.release import changes, envfile, records
from hostctl.release.app_key import app_key
from hostctl.transitions.steps.new_release import recorded_settings


def plan(app: App, spec: PushSpec) -> Plan:
    """Compare a spec with the live release. Its secrets are SHA-256 digests, or None to keep a value."""
    live = app.live()
    record = records.load(app, live) if live else None
    accessory_urls = {name: envfile.sha256(value) for name, value in services.environment(app).items()}
    secrets = {**accessory_urls, **spec["secrets"]}
    env_changed = changed_environment({**spec, "secrets": secrets}, app_key(app) if record else "", record)
    settings, before = recorded_settings(spec["settings"]), recorded_settings(record["settings"]) if record else None
    changed = (changes.changed_keys(before, settings) if before is not None else sorted(settings)) + env_changed
    same = record is not None and record["digest"] == spec["digest"] and not changed
    return {
        "unchanged": same,
        "changed_keys": changed,
        "previous": live,
        "release": spec["release"],
        "restart": spec["settings"]["strategy"] == "restart",
        "held": app.artifact(spec["digest"]).is_file(),
        "migrations": sorted(_release_migrations(app, live)),
        "brings": sorted(_artifact_migrations(app, spec["digest"])),
    }


def changed_environment(spec: PushSpec, key: str, record: Record | None) -> list[str]:
    """The names of the variables that differ from those of a release, as env.clear.NAME and env.secret.NAME."""
    digests: Json = record.get("env_digests", {}) if record else {}
    clear = {name: envfile.sha256(value) for name, value in (spec.get("env") or {}).items()}
    secrets = {name: sha for name, sha in spec["secrets"].items() if name not in clear}
    changed = [f"env.clear.{name}" for name, sha in sorted(clear.items()) if _differs(digests, key, name, sha)]
    changed += [f"env.secret.{name}" for name, sha in sorted(secrets.items()) if _differs(digests, key, name, sha)]
    secret_names = set(record["secrets"]) if record else set()
    removed = sorted(digests.keys() - clear.keys() - secrets.keys())
    return changed + [f"env.{'secret' if name in secret_names else 'clear'}.{name}" for name in removed]


def _differs(digests: Json, key: str, name: str, sha: str | None) -> bool:
    """Whether a variable would change; without a value (`sha` None) it keeps that of the live release."""
    return name not in digests or (sha is not None and digests[name] != envfile.named_digest(key, name, sha))


def _artifact_migrations(app: App, digest: str) -> set[str]:
    """The migrations of an artifact; none when it is not on the host."""
    if not app.artifact(digest).is_file():
        return set()
    with tarfile.open(app.artifact(digest), "r:") as reader:
        return migrations.paths(reader.getnames())


def _release_migrations(app: App, release: str | None) -> set[str]:
    try:
        manifest = artifact.from_json((app.record(release or "") / "manifest.json").read_text())
    except (OSError, ValueError):
        return set()
    return migrations.paths(manifest)
