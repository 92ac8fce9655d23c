"""The steps of every transition, and their order: those of a push that come before the gates are here (unpack, wait for
an older drain, settings, restore point, migrate, stop for `restart`), those that exchange the data in `restore`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from hostctl import engines
from hostctl.common import artifact, files, migrations
from hostctl.common.errors import HostError
from hostctl.common.files import Json
from hostctl.cron import jobs
from hostctl.instance import health, release_command, start
from hostctl.journal.steps import Step, Work
from hostctl.release import assets, records
from hostctl.release.app_config import domains
from hostctl.release.redact import redact
from hostctl.sqlite import file_swap
from hostctl.transitions import drain, restore_point
from hostctl.transitions import switch as transitions_switch

SHOWN_LINES = 20

# ---------------------------------------------------------------------------------------------- unpack


def unpack(work: Work) -> str:
    """The tree of the release beside the live one; files that both have become hard links."""
    app = work.app
    tar = app.artifact(records.load(app, work.release)["digest"])
    manifest = artifact.unpack(tar, app.tree(work.release), _known(work))
    files.write_atomic(app.record(work.release) / "manifest.json", artifact.to_json(manifest).encode())
    size = sum(entry.size for entry in manifest.values())
    own = migrations.listed(app.tree(work.release))
    records.save(app, {**records.load(app, work.release), "size": size, "migrations": own})
    jobs.refuse_missing(app, work.release, work.settings)
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


# ------------------------------------------------------------------------------------- settings, restore point


def settings(work: Work) -> str | None:
    """Ask what the new release will do to the database: what is unsafe stops the push before anything is touched."""
    engine = engines.of(work.app)
    return engine.pushes.check(work) if engine and work.settings.get("database") is not None else None


def stop_asking(work: Work) -> None:
    """The undo of settings."""
    if engine := engines.of(work.app):
        engine.pushes.stop_asking(work)


def point(work: Work) -> str | None:
    """A restore point, so that the data of before the migrations can be had again."""

    return restore_point.take(work) if engines.of(work.app) else None


# ---------------------------------------------------------------------------------------------- migrate


def migrate(work: Work) -> str:
    """Run the release's migrations as the app's user, in the instance's own confinement."""
    command = work.settings["commands"]["migrate"]
    program = work.app.tree(work.release) / command if command else None
    if program is None or not program.is_file():
        return "nothing to run"
    start.assign_port(work)  # an app's runtime.exs may insist on PORT, whatever it is asked to do
    log = work.app.record(work.release) / "migrate.log"
    begun = work.host.clock()
    with _around(work):
        status = release_command.run(work, "migrate", [str(program)], log, work.settings["migrate_timeout"])
        text = redact(log.read_text(errors="replace"), work.app, work.release)
        files.write_atomic(log, text.encode(errors="replace"), durable=False)
        shown = "\n".join(text.splitlines()[-SHOWN_LINES:])
        if shown:
            work.note(shown)
        if status != 0:
            raise _failed_migration(work, command, status, work.host.clock() - begun, shown)
    return str(command)


def _around(work: Work) -> AbstractContextManager[None]:
    """What the database's engine does before migrations and after them."""
    engine = engines.of(work.app)
    return engine.pushes.around_migrate(work) if engine else nullcontext()


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
    release_command.stop(work, "migrate")


# --------------------------------------------------------------------------------------------- stop (restart)


def halt(work: Work) -> str | None:
    """For apps that must never run twice: the old instance ends first, and the edge holds the requests."""
    previous = work.journal.previous
    if previous is None:
        return None
    work.host.systemd.stop(work.app.unit(previous))
    return f"{work.app.unit(previous)} stopped; the edge holds requests"


def start_old(work: Work) -> None:
    """The undo of halt: the old instance serves again. Raises HostError when it does not."""
    previous = work.journal.previous
    if previous is None:
        return
    if file_swap.under_way(aside := work.app.aside / work.journal.id):
        raise HostError(f"{previous} is not started on data that is not its own", str(aside))
    unit = work.app.unit(previous)
    work.host.systemd.start(unit)
    if work.booting:
        return
    wanted, number = (
        records.load(work.app, previous)["settings"]["health"],
        records.port(work.app, previous) or 0,
    )
    domain = domains(work.app, work.settings)[0]
    deadline = work.host.clock() + wanted["deploy_timeout"]
    while not (answer := work.host.get(number, domain, wanted["path"], wanted["timeout"])).good:
        if work.host.clock() >= deadline:
            raise HostError(f"{unit} is not healthy again: {health.explain(answer, domain, wanted['path'])}", unit)
        work.host.sleep(transitions_switch.POLL)


PUSH = [
    Step("unpack", unpack, remove_tree),
    Step("cut", cut, transitions_switch.nothing),
    Step("wait", wait, transitions_switch.nothing),
    Step("settings", settings, stop_asking),
    Step("point", point, transitions_switch.nothing),
    Step("migrate", migrate, stop_migration),
    Step("stop", halt, start_old),
    *transitions_switch.GATES,
]
# in this order, and no other: the data is exchanged while nothing runs
DATA = ["fetch", "stop", "data"]
IN_PLACE = ["start", "health", "flip", "verify"]
GATE_NAMES = [step.name for step in transitions_switch.GATES]


def steps(work: Work) -> dict[str, Step]:
    """Every step that a transition of this kind may have, by name, in the order in which they are done."""
    if work.verb == "upgrade":
        return {step.name: step for step in _upgrade()}
    found = PUSH if work.data is None else _with_data(in_place=work.verb != "rollback")
    return {step.name: step for step in found}


def _with_data(in_place: bool) -> list[Step]:
    from hostctl.transitions import restore

    exchange = [
        Step("fetch", restore.fetch, restore.forget),
        Step("stop", restore.stop_all, start_old),
        Step("data", restore.replace, restore.put_back),
    ]
    verify = Step("verify", restore.verify, transitions_switch.nothing)
    switch = [verify if step.name == "verify" else step for step in transitions_switch.GATES]
    return exchange + (restore.GATES if in_place else switch)


def _upgrade() -> list[Step]:
    """As a restore in place: the same data, in a cluster of another version."""
    from hostctl.postgres import upgrade
    from hostctl.transitions import restore

    return [
        Step("fetch", upgrade.prepare, upgrade.forget),
        Step("stop", restore.stop_all, start_old),
        Step("data", upgrade.replace, upgrade.put_back),
        *restore.GATES,
    ]


def plan(verb: str, settings: Json, drains: bool, data: bool = False) -> list[str]:
    """The names of the steps, in order. `data`: the transition exchanges the data as well."""
    if data:
        return [*DATA, *(GATE_NAMES if verb == "rollback" else IN_PLACE)]
    before = (["cut"] if drains else []) if verb == "rollback" else _before_gates(settings, drains, verb == "env")
    return before + (["stop"] if settings["strategy"] == "restart" else []) + GATE_NAMES


def _before_gates(settings: Json, drains: bool, same_code: bool) -> list[str]:
    """`same_code`: only the environment is another, so that there is nothing to migrate."""
    database = settings.get("database") is not None
    first = ["unpack", *(["wait"] if drains else []), *(["settings"] if database else [])]
    if same_code:
        return first
    return [*first, *(["point"] if database and settings["commands"]["migrate"] else []), "migrate"]
