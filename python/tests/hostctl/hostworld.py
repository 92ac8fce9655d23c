"""A host in a directory: the real code, journals, locks and files; only systemd, sockets and time are made
up.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from hostctl.common.errors import HostError
from hostctl.common.net.http import Answer
from hostctl.common.release import artifact
from hostctl.core.paths import App, Layout
from hostctl.host import listeners
from hostctl.host.systemd import Unit
from hostctl.journal import journal
from hostctl.journal.engine import Work
from hostctl.release import environment, records
from hostctl.transitions import begin, run
from hostctl.transitions.steps import drain

SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # thousands of fsyncs


class Killed(BaseException):
    """kill -9: nothing of the process runs after it, which is why no handler of Exception sees it."""


class Killer:
    """Ends the process under test at a chosen act: the n-th change of a file or of a unit."""

    def __init__(self) -> None:
        self.root = "\0"
        self.left: int | None = None
        self.acts = 0

    def arm(self, root: Path, after: int | None) -> None:
        self.root, self.left, self.acts = str(root), after, 0

    def disarm(self) -> None:
        self.root, self.left = "\0", None

    def act(self) -> None:
        self.acts += 1
        if self.left is not None and self.acts > self.left:
            raise Killed

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        if self.root != "\0" and event in CHANGES and (any(self.root in str(arg) for arg in args[:2]) or beneath(args)):
            if event == "open" and not (isinstance(args[2], int) and args[2] & 0o3):
                return
            self.act()


def beneath(args: tuple[Any, ...]) -> bool:
    """Whether an act names something beneath a handle, as only that on a host does: its path is relative."""
    return isinstance(args[0], str) and not args[0].startswith("/")


CHANGES = {"open", "os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.chmod"}
KILLER = Killer()
sys.addaudithook(KILLER.audit)  # never to be removed, so it is there once and mostly looks away


def killed(root: Path, after: int | None, work: Callable[[], object], may_fail: bool = False) -> bool:
    """Run `work` on the host at `root` and kill it after so many acts; returns whether it was killed.

    With `may_fail` a HostError ends it as well.
    """
    KILLER.arm(root, after)
    try:
        work()
    except Killed:
        return True
    except HostError:
        if not may_fail:
            raise
    finally:
        KILLER.disarm()
    return False


def unlaunched(argv: Sequence[str]) -> list[str]:
    """The program that a command becomes, once a shell has read its variables."""
    head = environment.launch_command(["program"])[:-2]
    assert list(argv[: len(head)]) == head
    return list(argv[len(head) + 1 :])


class FakeSystemd:
    def __init__(self, world: World) -> None:
        self.world = world

    def show(self, *units: str) -> list[Unit]:
        return [Unit({"ActiveState": self.world.state(unit), "NRestarts": "0"}) for unit in units]

    def start(self, unit: str) -> None:
        KILLER.act()
        self.world.running.add(unit)

    def restrict_ports(self, unit: str, denied: Sequence[str], allowed: int) -> None:
        self.world.allowed[unit] = allowed

    def stop(self, unit: str) -> None:
        KILLER.act()
        self.world.running.discard(unit)
        self.world.drains.pop(unit, None)
        if unit in self.world.unstoppable:
            self.world.running.add(unit)
            raise HostError(f"systemd does not stop {unit}")

    def control_group(self, unit: str) -> str:
        return f"/system.slice/{unit}" if unit in self.world.running else ""

    def text(self, unit: str) -> str:
        return "[Service]\nUser=shop\n"

    def journal(self, unit: str, lines: int) -> str:
        return f"the last words of {unit}; the key is {self.world.secret}\n"

    def background(self, unit: str, argv: Sequence[str], properties: Sequence[str]) -> None:
        KILLER.act()
        if argv[2] == "drain":
            self.world.drains[unit] = argv[3]
        elif argv[2] == "transition":
            self.world.result = run.run(self.world.app, argv[3], self.world)  # type: ignore[arg-type]

    def foreground(self, unit: str, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]) -> int:
        KILLER.act()
        self.world.migrated.append((unlaunched(argv)[0], list(properties)))
        output.write(b"migrating with " + self.world.secret.encode() + b"\n")
        output.flush()
        return self.world.migration_status


class World:
    """What is outside of hostctl: which units run, how each release behaves, and the time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.app: App = Layout(root).app("shop")
        self.systemd = FakeSystemd(self)
        self.running: set[str] = set()
        self.drains: dict[str, str] = {}
        self.unstoppable: set[str] = set()
        self.sick: dict[str, str] = {}
        self.migrated: list[tuple[str, list[str]]] = []
        self.migration_status = 0
        self.connected: dict[int, int] = {}
        self.allowed: dict[str, int] = {}
        self.foreign: set[int] = set()
        self.edge_answers: list[Answer] = []
        self.secret = "correct-horse-battery"
        self.result: dict[str, Any] | None = None
        self.now = 0.0
        self.count = 0

    # ------------------------------------------------------------------------------- what hostctl.host.host.Host has

    def get(self, port: int, host: str, path: str, timeout: float, tls: bool = False) -> Answer:
        if not tls:
            return self._instance(port)
        if self.edge_answers:
            return self.edge_answers.pop(0)
        live = self.app.live()
        return self._instance(records.port(self.app, live) or 0) if live else Answer(503)

    def listener(self, unit: str, port: int) -> str:
        """Whose a port is: `foreign` ones are another app's, which answers as an instance does."""
        if port in self.foreign:
            return listeners.FOREIGN
        return listeners.OWN if unit in self.running else listeners.NOBODY

    def connections(self, port: int) -> int:
        return self.connected.get(port, 0)

    def usable(self, port: int) -> bool:
        return True

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now

    # ------------------------------------------------------------------------------- the host

    def state(self, unit: str) -> str:
        if unit in self.drains:
            return "active"
        release = unit.partition("@")[2].removesuffix(".service")
        if unit in self.running:
            return "failed" if self.sick.get(release) == "crashes" else "active"
        return "inactive"

    def _instance(self, port: int) -> Answer:
        if port in self.foreign:
            return Answer(200)
        for unit in self.running:
            release = unit.partition("@")[2].removesuffix(".service")
            if records.port(self.app, release) == port:
                how = self.sick.get(release)
                return {None: Answer(200), "500": Answer(500)}.get(how, Answer(0, why="refused", detail="nothing"))
        return Answer(0, why="refused", detail="nothing listens there yet")

    def reboot(self) -> None:
        self.running.clear()
        self.drains.clear()

    def drain_all(self) -> None:
        """Let every drain unit do its work."""
        for unit, transition in list(self.drains.items()):
            entry = journal.load(self.app, transition)
            assert entry is not None
            drain.run(Work(self.app, entry, self))  # type: ignore[arg-type]
            self.drains.pop(unit, None)

    # ------------------------------------------------------------------------------- what a person does

    def provision(self, **more: object) -> None:
        for path in (self.app.config.parent, self.app.state, self.app.trees, self.app.assets):
            path.mkdir(parents=True, exist_ok=True)
        told = {
            "app": "shop",
            "user": "shop",
            "deployers": ["deploy"],
            "domains": ["shop.test"],
            "stamp": "x",
        }
        self.app.config.write_text(json.dumps({**told, **more}))

    def artifact(self, version: str) -> str:
        """A release with one file that is its own and one that all share; returns the digest."""
        source = self.root / "source"
        shutil.rmtree(source, ignore_errors=True)
        static = source / "lib/shop-1/priv/static"
        for directory in (source / "bin", static / "assets"):
            directory.mkdir(parents=True)
        (source / "bin/shop").write_text(f"#!/bin/sh\necho {version}\n")
        (source / "bin/migrate").write_text("#!/bin/sh\n")
        (source / "shared").write_text("the same in every release")
        (static / f"assets/app-{version}.js").write_text(version)
        (static / "cache_manifest.json").write_text(
            json.dumps({"latest": {"assets/app.js": f"assets/app-{version}.js"}})
        )
        self.release_files(source, version)
        self.app.artifacts.mkdir(parents=True, exist_ok=True)
        tar = self.app.artifacts / "new.tar"
        digest = artifact.normalise(source, tar)
        tar.rename(self.app.artifact(digest))
        return digest

    def release_files(self, source: Path, version: str) -> None:
        """What another world's releases hold besides."""

    def spec(self, version: str, **more: object) -> dict[str, Any]:
        """A push spec; settings are taken from `more` by name."""
        self.count += 1
        digest = self.artifact(version)
        settings: dict[str, Any] = {
            "release_name": "shop",
            "health": {"path": "/health", "interval": 0.5, "timeout": 1, "deploy_timeout": 5},
            "drain_timeout": 3,
            "retain_releases": 3,
            "strategy": "overlap",
            "commands": {"migrate": "bin/migrate"},
            "migrate_timeout": 10,
            "domains": ["shop.test"],
        }
        told: dict[str, Any] = {
            "release": f"20260101T0000{self.count:02d}Z-{digest[:7]}",
            "digest": digest,
            "git": {"sha": f"{self.count:040x}", "ref": "main", "dirty": False, "subject": version},
            "who": "ann",
            "from": "198.51.100.9",
            "settings": settings,
            "env": {"COLOUR": "blue"},
            "secrets": {"KEY": self.secret},
            "lock_wait": 0,
        }
        for key, value in more.items():
            (settings if key in settings else told)[key] = value
        return told

    def push(self, version: str, how: str | None = None, **more: object) -> dict[str, Any]:
        """Push a release that behaves as told (None: well); returns the transition's result."""
        spec = self.spec(version, **more)
        if how is not None:
            self.sick[spec["release"]] = how
        self.result = None
        begin.push(self.app, spec, self)  # type: ignore[arg-type]
        assert self.result is not None
        return self.result

    def rollback(self, to: str | None = None) -> dict[str, Any]:
        self.result = None
        begin.rollback(self.app, to, "ann", "198.51.100.9", 0, self)  # type: ignore[arg-type]
        assert self.result is not None
        return self.result

    def states(self) -> dict[str, str]:
        return {record["release"]: record["state"] for record in records.every(self.app)}

    def events(self) -> list[tuple[str, str]]:
        """Step and state of each event of the last transition."""
        entry = journal.every(self.app)[-1]
        text = (entry.directory / "events.jsonl").read_text()
        return [(event["step"], event["state"]) for event in map(json.loads, text.splitlines())]
