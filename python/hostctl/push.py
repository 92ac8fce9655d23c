"""The steps of a push that come before the gates: unpack, wait for an older drain, migrate, and stop for
`restart`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from hostctl import artifact, assets, confinement, drain, files, gates, health, records
from hostctl.config import domains
from hostctl.config import load as load_config
from hostctl.errors import HostError
from hostctl.redact import redact
from hostctl.transition import Step, Work

SHOWN_LINES = 20

# ---------------------------------------------------------------------------------------------- unpack


def unpack(work: Work) -> str:
    """The tree of the release beside the live one; files that both have become hard links."""
    app = work.app
    tar = app.artifact(records.load(app, work.release)["digest"])
    manifest = artifact.unpack(tar, app.tree(work.release), _known(work))
    files.write_atomic(app.record(work.release) / "manifest.json", artifact.to_json(manifest).encode())
    size = sum(entry.size for entry in manifest.values())
    records.save(app, {**records.load(app, work.release), "size": size})
    linked = assets.link(app, work.release)
    return f"{len(manifest)} files, {size} bytes, {linked} static files at the edge"


def _known(work: Work) -> dict[tuple[str, int], Path] | None:
    """The files of the live release, which is never pruned while this transition holds the lock."""
    previous = work.journal.previous
    if previous is None:
        return None
    with suppress(OSError, ValueError):
        manifest = artifact.from_json((work.app.record(previous) / "manifest.json").read_text())
        return dict(artifact.known_files(work.app.tree(previous), manifest))
    return None


def remove_tree(work: Work) -> None:
    """The undo of unpack. What is live is never removed."""
    if work.app.live() == work.release:
        raise HostError(f"{work.release} is still live", str(work.app.live_link))
    files.remove_tree(work.app.tree(work.release))
    files.remove_tree(work.app.trees / f".{work.release}.part")
    assets.prune(work.app, [r for r in records.releases(work.app) if r != work.release])


# ---------------------------------------------------------------------------------------------- wait


def wait(work: Work) -> str | None:
    """Let an older release finish its drain, so that never more than two instances run."""
    return drain.wait(work)


def cut(work: Work) -> str | None:
    """End older drains at once: a rollback is in a hurry. The one it goes back to is kept running."""
    return drain.cut_all(work, keep=work.release)


# ---------------------------------------------------------------------------------------------- migrate


def migrate(work: Work) -> str:
    """Run the release's migrations as the app's user, in the instance's own confinement."""
    command = work.settings["commands"]["migrate"]
    program = work.app.tree(work.release) / command if command else None
    if program is None or not program.is_file():
        return "nothing to run"
    gates.assign_port(work)  # an app's runtime.exs may insist on PORT, whatever it is asked to do
    log = work.app.record(work.release) / "migrate.log"
    begun = work.edges.clock()
    status = _run_migration(work, str(program), log)
    text = redact(log.read_text(errors="replace"), work.app, work.release)
    files.write_atomic(log, text.encode(errors="replace"), durable=False)
    shown = "\n".join(text.splitlines()[-SHOWN_LINES:])
    if shown:
        work.note(shown)
    if status != 0:
        raise _failed_migration(work, command, status, work.edges.clock() - begun, shown)
    return str(command)


def _run_migration(work: Work, program: str, log: os.PathLike[str]) -> int:
    app, unit = work.app, work.app.helper_unit(f"migrate-{work.release}")
    limits = [f"RuntimeMaxSec={work.settings['migrate_timeout']:g}", "TimeoutStopSec=5"]
    properties = confinement.properties(work.edges.systemd.text(app.unit(work.release)), work.release)
    properties = properties or confinement.minimal(load_config(app)["user"], app.record(work.release) / "env")
    with open(log, "wb", opener=_private) as output:
        return work.edges.systemd.foreground(unit, [program], [*properties, *limits], output)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _failed_migration(work: Work, command: str, status: int, took: float, shown: str) -> HostError:
    limit = work.settings["migrate_timeout"]
    how = f"took longer than {limit:g} s" if took >= limit else f"failed with status {status}"
    where = str(work.app.record(work.release) / "migrate.log")
    return HostError(
        f"the migration ({command}) {how}; its last lines:\n{shown}",
        where,
        "mend the migration and push again",
    )


def stop_migration(work: Work) -> None:
    """The undo of migrate: what it did to the database stays, a half-done one ends here."""
    work.edges.systemd.stop(work.app.helper_unit(f"migrate-{work.release}"))


# --------------------------------------------------------------------------------------------- stop (restart)


def halt(work: Work) -> str | None:
    """For apps that must never run twice: the old instance ends first, and the edge holds the requests."""
    previous = work.journal.previous
    if previous is None:
        return None
    work.edges.systemd.stop(work.app.unit(previous))
    return f"{work.app.unit(previous)} stopped; the edge holds requests"


def start_old(work: Work) -> None:
    """The undo of halt: the old instance serves again. Raises HostError when it does not."""
    previous = work.journal.previous
    if previous is None:
        return
    unit = work.app.unit(previous)
    work.edges.systemd.start(unit)
    if work.booting:
        return
    wanted, number = (
        records.load(work.app, previous)["settings"]["health"],
        records.port(work.app, previous) or 0,
    )
    host = domains(work.app, work.settings)[0]
    deadline = time.monotonic() + wanted["deploy_timeout"]
    while not (answer := work.edges.get(number, host, wanted["path"], wanted["timeout"])).good:
        if time.monotonic() >= deadline:
            raise HostError(f"{unit} is not healthy again: {health.explain(answer, host, wanted['path'])}", unit)
        work.edges.sleep(gates.POLL)


ALL = {
    step.name: step
    for step in (
        Step("unpack", unpack, remove_tree),
        Step("cut", cut, gates.nothing),
        Step("wait", wait, gates.nothing),
        Step("migrate", migrate, stop_migration),
        Step("stop", halt, start_old),
        *gates.GATES,
    )
}

GATE_NAMES = [step.name for step in gates.GATES]


def plan(verb: str, strategy: str, drains: bool) -> list[str]:
    """The names of the steps, in order."""
    before = (["cut"] if drains else []) if verb == "rollback" else ["unpack", *(["wait"] if drains else []), "migrate"]
    return before + (["stop"] if strategy == "restart" else []) + GATE_NAMES
