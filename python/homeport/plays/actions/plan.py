"""Compare a built release with what is live, without sending it."""

from __future__ import annotations

import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from homeport.plays.actions.action import Action
from homeport.plays.actions.switch import push_spec, read_secrets
from homeport.release import delta
from homeport.release.cache import Cache
from hostctl.release import migrations

Json = dict[str, Any]


class ActionModule(Action):
    """Returns {"plan": {release, previous, bytes, pending, changed_keys, restart, unchanged}}."""

    def act(self, args: Json, task_vars: Json) -> Json:
        spec = push_spec(task_vars, args["digest"], args["git"] or None, datetime.now(UTC))
        planned = self.hostctl(task_vars).send("plan", {**spec, "secrets": read_secrets(task_vars)})
        sent = _bytes(task_vars["homeport_app"], args["digest"], Path(args["tar"]), args["host"]["artifacts"])
        pending = _pending(Path(args["tar"]), planned["migrations"])
        return {"plan": {**planned, "release": spec["release"], "bytes": sent, "pending": pending}}


def _pending(tar: Path, applied: list[str]) -> list[str] | None:
    """Ecto migrations that the live release does not have; None for a release that has none at all to tell by."""
    if not tar.name:
        return None
    with tarfile.open(tar, "r:") as reader:
        found = migrations.of(reader.getnames())
    return sorted(found - set(applied)) if found else None


def _bytes(app: str, digest: str, tar: Path, held: list[str]) -> int:
    return 0 if digest in held or not tar.name else len(delta.make(tar, Cache(app).nearest(held)).data)
