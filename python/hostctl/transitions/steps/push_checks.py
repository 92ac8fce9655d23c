"""What is checked before a push begins: its variables, whether it changes anything, and what refuses it."""

from __future__ import annotations

from hostctl.accessories import services
from hostctl.common.documents import PushSpec
from hostctl.common.errors import FAILED, USAGE, HostError
from hostctl.common.files import read_json
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.release import envfile, records
from hostctl.release import environment as at_rest
from hostctl.release.app_key import app_key
from hostctl.transitions.steps.new_release import recorded_settings


def environment(app: App, spec: PushSpec) -> dict[str, str]:
    """The app's variables: those of the spec, for a secret without a value that of the live release, and those of the
    app's accessories.

    Raises HostError (usage) when the live release has no value either, and for a variable that Homeport sets.
    """
    secrets = _secrets(app, spec["secrets"])
    variables = {**services.environment(app), **(spec.get("env") or {}), **secrets}
    reserved = sorted(variables.keys() & envfile.RESERVED)
    if reserved:
        raise HostError(f"Homeport itself sets {', '.join(reserved)}", "env in deploy.yml", "remove it there", USAGE)
    at_rest.check_size(variables, spec["secrets"])
    return variables


def _secrets(app: App, sent: dict[str, str | None]) -> dict[str, str]:
    """The secrets with their values; None stands for the value of the live release. Raises HostError (usage)."""
    live = app.live()
    without_value = {name for name, value in sent.items() if value is None}
    of_live = records.environment(app, live) if live and without_value else {}
    missing = sorted(without_value - of_live.keys())
    if missing:
        what = f"the host holds no value yet for {', '.join(missing)}"
        raise HostError(what, "env.secret in deploy.yml", "set it in the environment and push again", USAGE)
    return {name: of_live[name] if value is None else value for name, value in sent.items()}


def unchanged(app: App, spec: PushSpec, variables: dict[str, str]) -> bool:
    """Whether the live release has the same artifact, settings and variables."""
    live = app.live()
    record = read_json(app.record(live) / "record.json") if live else None
    if record is None or record["digest"] != spec["digest"]:
        return False
    same = recorded_settings(record["settings"]) == recorded_settings(spec["settings"])
    return bool(same and record["env_digest"] == envfile.digest(app_key(app), variables))


def refuse_other_artifact(app: App, digest: str) -> None:
    """Raises HostError unless the artifact is that of the live release: `env push` changes the environment alone."""
    live = app.live()
    if live is None:
        what = "no release is live, so there is no environment to change"
        raise HostError(what, str(app.live_link), "deploy push")
    if records.load(app, live)["digest"] != digest:
        raise HostError(f"{live} went live meanwhile", str(app.live_link), "deploy env push", FAILED)


def refuse(app: App, spec: PushSpec) -> None:
    """Raises HostError when the release exists already, the artifact is missing, or the disk is too full for it."""
    release = spec["release"]
    if app.record(release).exists() or app.tree(release).exists():
        what = f"there is a release {release} already"
        raise HostError(what, str(app.record(release)), "push again for a new id", FAILED)
    tar = app.artifact(spec["digest"])
    if not tar.is_file():
        raise HostError("the artifact is not on the host", str(tar), "deploy push uploads it again", FAILED)
    place = app.trees if app.trees.is_dir() else app.state
    fix = "free some space on the host (df -h), or lower retain_releases"
    disk.require_space(place, tar.stat().st_size, "unpacking", fix)
