"""release.build: host. The source becomes a release here, by an unprivileged user, in a unit that spares the
live app.

Root only starts units and moves the finished tar: what reads or writes the build user's files runs as that
user.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from hostctl.common import files
from hostctl.common.documents import Result
from hostctl.common.errors import DONE, FAILED, LOCKED, HostError
from hostctl.common.files import Json, file_digest
from hostctl.common.names import transition_id
from hostctl.common.release import artifact
from hostctl.core import audit
from hostctl.core.lock import Flock
from hostctl.core.paths import PROGRAM, App
from hostctl.host.boundary import users
from hostctl.host.boundary.handles import Directory
from hostctl.host.host import Host
from hostctl.host.systemd import self_command
from hostctl.journal import journal
from hostctl.notify import events
from hostctl.release import confinement, envfile

DEFAULTS = {"memory": 0, "tasks": 4096, "seconds": 1800}
KEPT = ("_build", "deps", "node_modules")  # what makes the next build fast
SHOWN_LINES = 40
PART = 256 << 10  # bytes of a log that are read for its last lines


def begin(app: App, spec: Json, host: Host) -> Json:
    """Begin a build in its own unit. Returns the transition to follow. Raises HostError."""
    if not app.artifact(spec["source"]).is_file():
        raise HostError("the source is not on the host", str(app.artifact(spec["source"])), "push again", FAILED)
    who, origin = spec.get("who") or "", spec.get("from") or ""
    files.make_directory(app.state, 0o755)
    entry = journal.create(app, transition_id(), "build", None, who, origin, spec=spec)
    argv = self_command(PROGRAM, app.name, "building", entry.id)
    try:
        host.systemd.background(app.helper_unit("build"), argv, ["Type=exec", "KillMode=mixed", "TimeoutStopSec=10"])
    except HostError:
        files.remove_tree(entry.directory)
        raise HostError(
            "another build of this app is going on", app.helper_unit("build"), "try again later", LOCKED
        ) from None
    return {"transition": entry.id}


def run(app: App, transition: str, host: Host) -> Result:
    """Build as `begin` wrote it down. The result, with the artifact's digest, is in the journal."""
    entry = journal.load(app, transition)
    if entry is None or entry.result is not None:
        raise HostError(f"there is no build {transition}", str(app.transitions), "deploy push", FAILED)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    digest, error = None, None
    try:
        with Flock(app.state / "build.lock", wait=10):
            digest = _build(app, entry, host)
    except (HostError, OSError, KeyboardInterrupt) as failure:
        error = (
            failure
            if isinstance(failure, HostError)
            else HostError(f"the build was cut short: {failure}", str(app.build))
        )
        entry.event((entry.begun or ["lock"])[-1], "failed", error.what)
    result: Result = {
        "result": "built" if error is None else "failed",
        "artifact": digest,
        "release": None,
        "previous": None,
        "code": error.code if error else DONE,
        "error": error.as_dict() if error else None,
        "steps": entry.steps(),
    }
    audit.append(app, entry.content, result)
    events.transition_ended(app, entry.content, result)
    entry.set(result=result, ended=time.time(), closed=True)
    return result


def _build(app: App, entry: journal.Journal, host: Host) -> str:
    spec = entry.content["spec"]
    source, output = app.build / "src", app.build / "release.tar"
    log = entry.directory / "build.log"
    _prepare(app, spec)
    release = source / "_build/prod/rel" / spec["release_name"]
    tar = app.build / "source.tar"
    steps = [("unpack", [PROGRAM, app.name, "spread", str(tar), str(source)])]
    steps += [("build", list(command)) for command in spec["commands"]]
    steps += [("pack", [PROGRAM, app.name, "collect", str(release), str(output)])]
    for number, (name, command) in enumerate(steps):
        _step(app, entry, host, f"{name}-{number}", command, log)
    return _take(app, output)


def _prepare(app: App, spec: Json) -> None:
    """The directory, the source and the environment, all readable by the build user alone."""
    user = users.find(f"{app.name}-build")
    app.build.mkdir(parents=True, exist_ok=True)
    with Directory(app.build.parent) as parent:
        parent.give(app.build.name, user)
    values = {"MIX_ENV": "prod", "LANG": "C.UTF-8", "HOME": str(app.build), **(spec.get("env") or {})}
    files.write_atomic(app.state / "build.env", envfile.render(values).encode())
    source = f"{app.build.name}/source.tar"
    with Directory(app.build.parent) as parent, app.artifact(spec["source"]).open("rb") as tar:
        # the directory is the build user's: a link it may have left there is replaced, never written through
        parent.unlink(source)
        with os.fdopen(parent.open(source, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as out:
            shutil.copyfileobj(tar, out, 1 << 20)


def _step(app: App, entry: journal.Journal, host: Host, name: str, command: Sequence[str], log: Path) -> None:
    """One command as the build user. Raises HostError with its last lines."""
    entry.begin(name)
    entry.event(name, "begin", " ".join(command[:6]))
    before = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        unit = app.helper_unit(f"build-{name}")
        status = host.systemd.foreground(unit, command, properties(app, entry.content["spec"]), output)
    shown = _last_lines(log, before)
    if status != 0:
        own = refusal(shown) if command[0] == PROGRAM else None
        raise own or _failed(command, status, shown, log)
    entry.event(name, "ok", shown, entry.done())


def refusal(output: str) -> HostError | None:
    """The error that hostctl itself printed as its last line, where the command was hostctl; else None."""
    try:
        told = json.loads(output.splitlines()[-1])["error"]
        return HostError(str(told["what"]), str(told["where"]), str(told["fix"]), int(told["code"]))
    except (ValueError, LookupError, TypeError):
        return None


def _failed(command: Sequence[str], status: int, shown: str, log: Path) -> HostError:
    what = f"{' '.join(command[:6])} failed with status {status}; its last lines:\n{shown}"
    return HostError(what, str(log), "mend it and push again", FAILED)


def _last_lines(log: Path, before: int) -> str:
    size = log.stat().st_size
    with log.open("rb") as file:
        file.seek(max(before, size - PART))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-SHOWN_LINES:])


def properties(app: App, spec: Json) -> list[str]:
    """The walls and limits of a build: the live app and the system come first."""
    limits = {**DEFAULTS, **(spec.get("limits") or {})}
    user, directory = f"{app.name}-build", str(app.build)
    found = [
        f"User={user}",
        f"Group={user}",
        f"WorkingDirectory=-{directory}/src",
        f"EnvironmentFile={app.state}/build.env",
    ]
    found += ["CPUWeight=20", "Nice=10", "IOWeight=20", "OOMScoreAdjust=500", f"TasksMax={limits['tasks']}"]
    found += [f"MemoryMax={limits['memory']}"] if limits["memory"] else []
    found += [
        f"RuntimeMaxSec={limits['seconds']:g}",
        "PrivateTmp=yes",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    ]
    found += [
        "ProtectHome=yes",
        "PrivateDevices=yes",
        "CapabilityBoundingSet=",
        f"ReadWritePaths={directory}",
        "UMask=0022",
    ]
    found += [f"SocketBindDeny={ports}" for ports in confinement.DENIED_PORTS]
    return [*found, "InaccessiblePaths=-/var/lib/homeport", f"InaccessiblePaths=-/var/lib/{app.name}"]


def _take(app: App, output: Path) -> str:
    """Copy the tar to the artifacts, under the name of what it holds.

    Raises OSError if it is not a file of the build user's.
    """
    fresh, name = app.artifacts / ".built.tar.new", f"{app.build.name}/{output.name}"
    files.make_directory(app.artifacts, 0o700)
    with Directory(app.build.parent) as parent:
        handle = parent.regular(name, users.find(f"{app.name}-build"))
        with os.fdopen(handle, "rb") as tar, fresh.open("wb") as out:
            shutil.copyfileobj(tar, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        parent.unlink(name)
    digest = file_digest(fresh)
    fresh.replace(app.artifact(digest))
    files.sync_directory(app.artifacts)
    return digest


# ------------------------------------------------------------------------------- run as the build user


def spread(tar: str, directory: str) -> Json:
    """Bring the source tree to what the tar holds.

    A file that is the same is not touched: mix looks at its time.
    """
    target = Path(directory)
    fresh = target.with_name("src.new")
    files.remove_tree(fresh)
    manifest = artifact.unpack(Path(tar), fresh)
    target.mkdir(exist_ok=True)
    _remove_strangers(target, manifest)
    now = time.time()
    changed = [
        name for name, entry in manifest.items() if not entry.is_directory and _differs(fresh / name, target / name)
    ]
    for name in changed:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(target / name)
        os.utime(target / name, (now, now), follow_symlinks=False)
    files.remove_tree(fresh)
    return {"files": len(manifest), "changed": len(changed)}


def _remove_strangers(target: Path, manifest: artifact.Manifest) -> None:
    """Remove what the source no longer has, and whatever changed between file and directory."""
    for directory, names, found in os.walk(target):
        at = Path(directory)
        if at == target:
            names[:] = [name for name in names if name not in KEPT]
        for name in [*names, *found]:
            path = at / name
            entry = manifest.get(str(path.relative_to(target)))
            is_directory = path.is_dir() and not path.is_symlink()
            if entry is None or entry.is_directory != is_directory:
                files.remove_tree(path) if is_directory else path.unlink()
        names[:] = [name for name in names if (at / name).is_dir() and not (at / name).is_symlink()]


def _differs(new: Path, old: Path) -> bool:
    if new.is_symlink() or old.is_symlink() or not old.is_file():
        return True
    same_mode = new.stat().st_mode == old.stat().st_mode
    return not same_mode or new.read_bytes() != old.read_bytes()


def collect(directory: str, tar: str) -> Json:
    """The built release as a normalised tar."""
    if not Path(directory).is_dir():
        raise HostError("the build made no release", directory, "look at the name under releases: in mix.exs", FAILED)
    return {"digest": artifact.normalise(Path(directory), Path(tar))}
