"""The action build: builds the release, or takes one that is built already, and names it by its digest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homeport.core.errors import HomeportError
from homeport.core.performer import machine_name, performer_name
from homeport.plays.action import Action
from homeport.plays.actions.switch import conclude
from homeport.plays.actions.upload import transfer
from homeport.release import abi, build, git, mix, source, tree
from homeport.release.cache import Artifact, Cache
from homeport.screen import events
from hostctl.common.documents import Json

DOCUMENTATION = """
module: build
short_description: Build the release
description:
  - Builds a mix release on the controller, in a container, or on the host, as C(release.build) in deploy.yml says.
  - Takes a release that is already built where O(artifact) is given.
  - Names the release by the SHA-256 of its tar, which is reproducible.
options:
  artifact:
    description: A directory or tar with a built release; empty to build one.
    type: str
    required: true
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.deploy_user
  - homeport.deploy.action.inventory
  - homeport.deploy.action.host
"""

EXAMPLES = """
- name: Build the release, or take the one that is given
  homeport.deploy.build:
    artifact: "{{ homeport_artifact | default('') }}"
    host: "{{ homeport_host.facts }}"
  register: homeport_built
"""

RETURN = """
digest:
  description: The SHA-256 of the release's tar.
  returned: success
  type: str
tar:
  description: The tar on the controller; empty where the host has built the release.
  returned: success
  type: str
git:
  description: The commit and its state; empty outside a git repository.
  returned: success
  type: dict
needs:
  description: What each ELF file needs; empty where the host has built the release.
  returned: success
  type: list
  elements: dict
"""


class ActionModule(Action):
    """Returns {"digest", "tar", "git", "needs"}; `tar` is empty and `needs` none where the host has built it itself."""

    step = "build"

    def act(self, args: Json, task_vars: Json) -> Json:
        self.vars, self.facts = task_vars, args["host"]
        settings, root = task_vars["homeport_build"], Path(task_vars["homeport_build"]["path"])
        described = git.describe(root)
        if args["artifact"]:
            return {
                **self._take(tree.from_artifact(Path(args["artifact"]), settings["release_name"])),
                "git": described,
            }
        plan = build.plan(settings["way"], build.laptop(), self.facts)
        if plan.strategy == "host" and settings["way"] != "host":
            fix = "set release.build: host in deploy.yml; provisioning then installs the build tools on the host"
            raise HomeportError(f"the release can only be built on the host: {plan.reason}", "release.build", fix)
        events.step(self.step, "note", f"{plan.strategy}: {plan.reason}")
        built = self._on_host(root) if plan.strategy == "host" else self._take(self._build_here(plan.strategy, root))
        return {**built, "git": described, "says": f"{plan.strategy}: {plan.reason}"}

    @contextmanager
    def _build_here(self, strategy: str, root: Path) -> Iterator[Path]:
        settings = self.vars["homeport_build"]
        yield build.build(
            strategy,
            root,
            settings["release_name"],
            settings["env"],
            events.line,
            containerfile=settings["containerfile"],
            codename=self.facts["os"]["codename"],
            engine=build.laptop().engine,
        )

    def _take(self, release: Any) -> Json:
        with release as directory:
            made = Cache(self.vars["homeport_app"]).add(directory)
            needs = [need._asdict() for need in abi.requirements(directory)]
        return {"digest": made.digest, "tar": str(made.tar), "needs": needs}

    def _on_host(self, root: Path) -> Json:
        settings, host = self.vars["homeport_build"], self.hostctl(self.vars)
        packed: Artifact = source.pack(root, Cache(f"{self.vars['homeport_app']}-source"))
        transfer(host, packed.digest, packed.tar, None, self.facts)
        name = settings["release_name"]
        spec = {
            "source": packed.digest,
            # hostctl collects it from there
            "commands": mix.commands(mix.read(root), name, f"_build/prod/rel/{name}"),
            "release_name": name,
            "env": mix.environment(settings["env"]),
            "who": performer_name(),
            "from": machine_name(),
        }
        result = conclude(host, host.send("build", spec)["transition"])
        return {"digest": result["artifact"], "tar": "", "needs": [], "changed": True}
