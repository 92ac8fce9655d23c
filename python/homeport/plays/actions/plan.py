"""The action plan: compares a built release with the live one, without an upload."""

from __future__ import annotations

import tarfile
from datetime import UTC, datetime
from pathlib import Path

from homeport.plays.action import Action
from homeport.plays.actions.switch import push_spec, read_secrets
from homeport.release import delta
from homeport.release.cache import Cache
from hostctl.common.documents import Json
from hostctl.common.release import migrations

DOCUMENTATION = """
module: plan
short_description: Compare a built release with the live one
description:
  - Returns what a push of the release would do. Nothing is uploaded and nothing changes.
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.deploy_user
  - homeport.deploy.action.inventory
  - homeport.deploy.action.host
  - homeport.deploy.action.tar
  - homeport.deploy.action.digest
  - homeport.deploy.action.git
"""

EXAMPLES = """
- name: Compare with the live release
  homeport.deploy.plan:
    tar: "{{ homeport_built.tar }}"
    digest: "{{ homeport_built.digest }}"
    git: "{{ homeport_built.git }}"
    host: "{{ homeport_host.facts }}"
"""

RETURN = """
plan:
  description: Both releases, the bytes to send, pending migrations, changed settings, and whether the app restarts.
  returned: success
  type: dict
"""


class ActionModule(Action):
    """Returns {"plan": {release, previous, bytes, pending, changed_keys, restart, unchanged}}."""

    def act(self, args: Json, task_vars: Json) -> Json:
        spec = push_spec(task_vars, args["digest"], args["git"] or None, datetime.now(UTC))
        planned = self.hostctl(task_vars).send("plan", {**spec, "secrets": read_secrets(task_vars)})
        sent = _bytes(task_vars["homeport_app"], args["digest"], Path(args["tar"]), args["host"]["artifacts"])
        pending = _pending_migrations(Path(args["tar"]), planned["migrations"])
        return {"plan": {**planned, "release": spec["release"], "bytes": sent, "pending": pending}}


def _pending_migrations(tar: Path, applied: list[str]) -> list[str] | None:
    """The Ecto migrations that the live release does not have; None if the release's tar has no migrations."""
    if not tar.name:
        return None
    with tarfile.open(tar, "r:") as reader:
        paths = migrations.paths(reader.getnames())
    return sorted(paths - set(applied)) if paths else None


def _bytes(app: str, digest: str, tar: Path, artifacts: list[str]) -> int:
    """How many bytes an upload sends; `artifacts` are the digests that the host holds."""
    return 0 if digest in artifacts or not tar.name else len(delta.make(tar, Cache(app).nearest(artifacts)).data)
