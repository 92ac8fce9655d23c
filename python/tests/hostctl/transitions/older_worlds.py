"""Run by an older Homeport, whose modules these imports name; nothing here imports it.

Hosts in directories, each left at another act of another transition by a kill -9. The argument is the directory for
them. Prints a JSON list: of each host what is in no file of it, and what the older hostctl reads there.
"""

import json
import sys
from pathlib import Path

import test_host_data_kill
import test_host_kill
from dataworld import DataWorld
from hostctl.errors import HostError
from hostworld import KILLER, World

from hostctl import cli, sealed
from tests import conftest

READ = ("releases", "audit", "points", "follow", "lock status", "cron list")
STEPS = 6  # acts at which each transition is killed
HELD = ("running", "drains", "sick", "count", "now", "versions", "listening")
SCENARIOS = {
    "push": lambda world: test_host_kill.scenario(world, "push", None, "overlap"),
    "push that fails": lambda world: test_host_kill.scenario(world, "push", "500", "overlap"),
    "push that restarts": lambda world: test_host_kill.scenario(world, "push", None, "restart"),
    "env": lambda world: test_host_kill.scenario(world, "env", None, "overlap"),
    "rollback": lambda world: test_host_kill.scenario(world, "rollback", None, "overlap"),
    "data rollback": lambda world: test_host_data_kill.scenario(world, "rollback"),
    "data restore": lambda world: test_host_data_kill.scenario(world, "restore"),
}


def made(root, name):
    """The host with its scenario ready; and the work to interrupt."""
    root.mkdir()
    world = (DataWorld if name.startswith("data") else World)(root)
    world.provision()
    return world, SCENARIOS[name](world)


def counted(root, name):
    """How many acts the transition has when nobody kills it."""
    world, work = made(root, name)
    KILLER.arm(world.root, None)
    test_host_kill.killed_after(world, None, work)
    return KILLER.acts


def told(world, name):
    held = {key: getattr(world, key) for key in HELD if hasattr(world, key)}
    held["running"] = sorted(world.running)
    kept = str(world.replica.kept) if name.startswith("data") else None
    return {"root": str(world.root), "name": name, "held": held, "kept": kept, "read": read(world)}


def read(world):
    releases = sorted(path.name for path in world.app.records.iterdir())
    verbs = [*READ, *(f"record --release {release}" for release in releases)]
    return {verb: answer(world, verb.split()) for verb in verbs}


def answer(world, words):
    """What hostctl prints, or of a refusal its code."""
    try:
        return cli.run([world.app.name, *words], world.app.layout, 0, None)
    except HostError as error:
        return {"code": error.code}


def main(directory):
    sealed._creds = conftest._creds
    found = []
    directory.mkdir()
    for number, name in enumerate(SCENARIOS):
        whole = counted(directory / f"{number}-whole", name)
        for acts in [*range(1, whole, max(1, whole // STEPS)), None]:
            world, work = made(directory / f"{number}-{acts}", name)
            before = world.app.live()
            test_host_kill.killed_after(world, acts, work)
            found.append({"acts": acts, "before": before, **told(world, name)})
    print(json.dumps(found))


main(Path(sys.argv[1]))
