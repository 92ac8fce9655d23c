"""The steps of a push that come before the switch: unpack, wait, settings, point, migrate, stop. See tables."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from hostctl import engines
from hostctl.common import files
from hostctl.common.errors import HostError
from hostctl.common.release import artifact, migrations
from hostctl.cron import jobs
from hostctl.instance import health, release_command
from hostctl.instance import start as instance_start
from hostctl.journal.engine import Work
from hostctl.release import assets, records
from hostctl.release.app_config import domains
from hostctl.release.redact import redact
from hostctl.sqlite.database import file_swap
from hostctl.transitions.steps import drain, restore_point

SHOWN_LINES = 20

# ---------------------------------------------------------------------------------------------- unpack


def unpack(work: Work) -> str:
    """The step `unpack`: unpack the release beside the live one. Files that both have become hard links.

    Returns a line to show. Raises HostError for a job whose program the release lacks.
    """
    app = work.app
    tar = app.artifact(records.load(app, work.release)["digest"])
    manifest = artifact.unpack(tar, app.tree(work.release), _live_files(work))
    files.write_atomic(app.record(work.release) / "manifest.json", artifact.to_json(manifest).encode())
    size = sum(entry.size for entry in manifest.values())
    own = migrations.read_tree(app.tree(work.release))
    records.save(app, {**records.load(app, work.release), "size": size, "migrations": own})
    jobs.refuse_programs(app, work.release, work.settings)
    linked = assets.link(app, work.release)
    return f"{len(manifest)} files, {size} bytes, {linked} static files at the edge"


def _live_files(work: Work) -> dict[tuple[str, int], Path] | None:
    """The files of the live release by digest; None without one. They stay: prune takes the lock of this transition."""
    previous = work.journal.previous
    if previous is None:
        return None
    with suppress(OSError, ValueError):
        manifest = artifact.from_json((work.app.record(previous) / "manifest.json").read_text())
        return dict(artifact.known_files(work.app.tree(previous), manifest))
    return None


def remove_tree(work: Work) -> None:
    """The undo of unpack. Raises HostError for the live release."""
    if work.app.live() == work.release:
        raise HostError(f"{work.release} is still live", str(work.app.live_link))
    files.remove_tree(work.app.tree(work.release))
    files.remove_tree(work.app.trees / f".{work.release}.part")
    assets.prune(work.app, [r for r in records.releases(work.app) if r != work.release])


# ---------------------------------------------------------------------------------------------- wait


def wait_for_drains(work: Work) -> str | None:
    """The step `wait`: wait until older instances have drained, so that at most two run. Returns a line to show."""
    return drain.wait(work)


def end_drains(work: Work) -> str | None:
    """The step `cut` of a rollback: end older drains at once. The instance of its own release runs on.

    Returns a line to show.
    """
    return drain.cut_all(work, keep=work.release)


# ------------------------------------------------------------------------------------- settings, restore point


def check_database(work: Work) -> str | None:
    """The step `settings`: check that the new release's database settings are safe. Returns a line to show.

    Raises HostError before anything is changed.
    """
    engine = engines.of(work.app)
    return engine.pushes.check_release(work) if engine and work.settings.get("database") is not None else None


def stop_check(work: Work) -> None:
    """The undo of `settings`."""
    if engine := engines.of(work.app):
        engine.pushes.cancel_check(work)


def take_restore_point(work: Work) -> str | None:
    """The step `point`: take a restore point of the data before the migrations. Returns a line to show."""
    return restore_point.take(work) if engines.of(work.app) else None


# ---------------------------------------------------------------------------------------------- migrate


def migrate(work: Work) -> str:
    """The step `migrate`: run the release's migrations as the app's user, confined as its instance is.

    Returns the command. Raises HostError with its last lines when it fails.
    """
    command = work.settings["commands"]["migrate"]
    program = work.app.tree(work.release) / command if command else None
    if program is None or not program.is_file():
        return "nothing to run"
    instance_start.assign_port(work)  # an app's runtime.exs may require PORT for every command
    with _around(work):
        begun = work.host.clock()
        status, last_lines = _run_migrations(work, program)
        if status != 0:
            raise _failed_migration(work, status, work.host.clock() - begun, last_lines)
    return str(command)


def _run_migrations(work: Work, program: Path) -> tuple[int, str]:
    """Run them, with their output in migrate.log, secrets taken out. Returns the exit status and the last lines."""
    log = work.app.record(work.release) / "migrate.log"
    status = release_command.run(work, "migrate", [str(program)], log, work.settings["migrate_timeout"])
    text = redact(log.read_text(errors="replace"), work.app, work.release)
    files.write_atomic(log, text.encode(errors="replace"), durable=False)
    last_lines = "\n".join(text.splitlines()[-SHOWN_LINES:])
    if last_lines:
        work.note(last_lines)
    return status, last_lines


def _around(work: Work) -> AbstractContextManager[None]:
    """The context of the database's engine in which migrations run."""
    engine = engines.of(work.app)
    return engine.pushes.around_migrations(work) if engine else nullcontext()


def _failed_migration(work: Work, status: int, took: float, last_lines: str) -> HostError:
    command, limit = work.settings["commands"]["migrate"], work.settings["migrate_timeout"]
    how = f"took longer than {limit:g} s" if took >= limit else f"failed with status {status}"
    where = str(work.app.record(work.release) / "migrate.log")
    what = f"the migration ({command}) {how}; its last lines:\n{last_lines}"
    return HostError(what, where, "correct the migration and push again")


def stop_migration(work: Work) -> None:
    """The undo of migrate: end a migration that still runs. What it did to the database stays."""
    release_command.stop(work, "migrate")


# --------------------------------------------------------------------------------------------- stop (restart)


def stop_previous(work: Work) -> str | None:
    """The step `stop` of strategy restart: stop the live instance before the new one starts. Returns a line to show.

    The edge holds requests meanwhile.
    """
    previous = work.journal.previous
    if previous is None:
        return None
    work.host.systemd.stop(work.app.unit(previous))
    return f"{work.app.unit(previous)} stopped; the edge holds requests"


def start_previous(work: Work) -> None:
    """The undo of `stop`: start the instance that was live. Raises HostError when it does not become healthy."""
    previous = work.journal.previous
    if previous is None:
        return
    if file_swap.is_swapped(aside := work.app.aside / work.journal.id):
        raise HostError(f"{previous} is not started: the database files are another release's", str(aside))
    unit = work.app.unit(previous)
    instance_start.start(work.app, previous, work.host)
    if not work.booting:
        check = records.load(work.app, previous)["settings"]["health"]
        port, domain = records.port(work.app, previous) or 0, domains(work.app, work.settings)[0]
        health.wait_until_healthy(work.host, unit, port, domain, check)
