"""What a push would do, without doing it."""

from __future__ import annotations

import hashlib

from hostctl import artifact, begin, choose, envfile, migrations, records
from hostctl.files import Json
from hostctl.layout import App


def plan(app: App, spec: Json) -> Json:
    """Compare a spec (secrets as sha256 of their values, or null to keep) with what is live."""
    live = app.live()
    record = records.load(app, live) if live else None
    held = records.environment(app, live) if live else {}
    env_changed = changed_environment(spec, held, set(record["secrets"]) if record else set(), record is not None)
    settings, was = begin.compared(spec["settings"]), begin.compared(record["settings"]) if record else None
    changed = (choose.changed_keys(was, settings) if was is not None else sorted(settings)) + env_changed
    same = record is not None and record["digest"] == spec["digest"] and not changed
    told = {"unchanged": same, "changed_keys": changed, "previous": live, "release": spec["release"]}
    told |= {
        "restart": spec["settings"]["strategy"] == "restart",
        "held": app.artifact(spec["digest"]).is_file(),
    }
    return told | {"migrations": sorted(_migrations_of(app, live))}


def changed_environment(spec: Json, held: dict[str, str], secrets: set[str], any_live: bool) -> list[str]:
    """The names of variables that would change, as env.clear.NAME and env.secret.NAME."""
    clear = spec.get("env") or {}
    changed = [f"env.clear.{n}" for n, v in sorted(clear.items()) if held.get(n) != v]
    for name, wanted in sorted(spec["secrets"].items()):
        have = hashlib.sha256(held[name].encode()).hexdigest() if name in held else None
        if (wanted is not None and wanted != have) or (wanted is None and have is None):
            changed.append(f"env.secret.{name}")
    if any_live:
        changed += [f"env.secret.{name}" for name in sorted(secrets - spec["secrets"].keys())]
        defaults = envfile.complete("", "", "", "", {}).keys() | {"PORT"}
        gone = held.keys() - clear.keys() - spec["secrets"].keys() - secrets - defaults
        changed += [f"env.clear.{name}" for name in sorted(gone)]
    return changed


def _migrations_of(app: App, release: str | None) -> set[str]:
    try:
        manifest = artifact.from_json((app.record(release or "") / "manifest.json").read_text())
    except (OSError, ValueError):
        return set()
    return migrations.of(manifest)
