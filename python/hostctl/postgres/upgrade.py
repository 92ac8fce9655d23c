"""`hostctl APP db upgrade`: upgrades the app's cluster to a newer major version of PostgreSQL.

pg_upgrade copies the data: the old data is kept unchanged, and one rename puts it back. The new cluster is another
system, whose WAL does not continue the old one's. So it is archived into a new epoch, which is published once the app
is healthy on it. Until then the old epoch is current, with everything that was written before.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TypedDict

from hostctl.backup import epochs, settings, state
from hostctl.common import files
from hostctl.common.errors import USAGE, HostError
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.host.host import Host
from hostctl.journal.engine import Work
from hostctl.postgres.archive import drill, epoch_branch, pgbackrest, replication
from hostctl.postgres.database import data_swap
from hostctl.postgres.server import cluster, scratch_server, walls

LONGEST = 24 * 3600.0  # seconds
SHOWN = 6  # lines of a log in an error
SPARE = 256 << 20  # bytes left free beside the copy
RETRY = "correct the cause, and run deploy db upgrade again"

# ---------------------------------------------------------------------------------------------- plan


# the key `from` is no name in Python
UpgradePlan = TypedDict("UpgradePlan", {"from": str, "to": str, "bytes": int})


def plan(app: App) -> UpgradePlan:
    """What an upgrade would do: the major versions `from` and `to`, and the bytes to copy. Changes nothing.

    Raises HostError (usage) when no newer version is installed.
    """
    cluster.require(app)
    old, new = cluster.data_major(app.cluster_data), max(cluster.installed_majors(), default=0)
    if new <= old:
        what = f"the app's PostgreSQL {old} is the newest installed version"
        raise HostError(what, str(cluster.VERSIONS), "install a newer one: apt-get install postgresql-VERSION", USAGE)
    return {"from": str(old), "to": str(new), "bytes": disk.used_space(app.cluster_data)}


def _versions(work: Work) -> tuple[int, int]:
    """The old and the new major version."""
    assert work.data is not None  # noqa: S101 - a transition with these steps has it
    upgrade = work.data["upgrade"]
    return upgrade["from"], upgrade["to"]


# ---------------------------------------------------------------------------------------------- prepare


def prepare(work: Work) -> str:
    """The step: take and verify a backup, create a cluster of the new version, and run pg_upgrade's check.

    The app serves meanwhile.
    """
    app, (_, new) = work.app, _versions(work)
    disk.require_space(app.cluster, disk.used_space(app.cluster_data) + SPARE, "the upgraded data")
    backup = _verify_backup(work)
    data, programs = _new_data(app), _programs(new)
    _create_cluster(work, new)
    cluster.check_configuration(app, programs, data)
    _pg_upgrade(work, "--check")
    return f"{backup}; PostgreSQL {new} accepts the data"


def _verify_backup(work: Work) -> str:
    """Take a backup and verify it by a restore. Returns a line to show. Raises HostError."""
    app = work.app
    if settings.configured(app) is None:
        return "there is no backup; the old data is kept"
    work.note("backing up")
    pgbackrest.backup(app, "incr")
    work.note("verifying the backup by a restore")
    drill.run(app, work.host)
    return "the backup was restored and is sound"


def _new_data(app: App) -> Path:
    """The data directory of the new cluster, before it replaces the old one."""
    return app.cluster / "fetched"


def _programs(version: int) -> Path:
    return cluster.VERSIONS / str(version) / "bin"


def _create_cluster(work: Work, version: int) -> None:
    """Create an empty cluster of that version, with checksums if the live one has them."""
    app = work.app
    discard(app, work.host)
    cluster.make_postgres_directory(_new_data(app))
    checksums = cluster.control_data(cluster.live_server(app))["Data page checksum version"] != "0"
    cluster.initdb(_programs(version), _new_data(app), checksums)


def discard(app: App, host: Host) -> None:
    """Delete the new cluster, and end a server on it."""
    scratch_server.remove_leftovers(app, host, _new_data(app))
    files.remove_tree(_new_data(app))


def forget(work: Work) -> None:
    """The undo of `prepare`."""
    discard(work.app, work.host)


def _pg_upgrade(work: Work, *more: str) -> None:
    """Run pg_upgrade in a directory of its own. Raises HostError with its error."""
    app, (old, new) = work.app, _versions(work)
    directory = app.cluster / "upgrade"
    cluster.make_postgres_directory(directory)
    argv: list[str | Path] = [_programs(new) / "pg_upgrade", "-b", _programs(old), "-B", _programs(new)]
    argv += ["-d", app.cluster_data, "-D", _new_data(app), "-s", directory, "-U", cluster.SUPERUSER]
    # its servers have the data's own configuration; compiled queries need memory that the walls do not give
    argv += ["-j", str(os.cpu_count() or 1), "-o", "-c jit=off", "-O", "-c jit=off", *more]
    status, printed = _run_confined(work, [str(part) for part in argv], directory)
    if status != 0:
        raise HostError(f"pg_upgrade: {_error_text(printed)}", str(app.cluster_data), RETRY)
    files.remove_tree(directory)


def _run_confined(work: Work, argv: list[str], directory: Path) -> tuple[int, str]:
    """Run pg_upgrade behind the walls; returns its exit status and its output."""
    app = work.app
    own = [f"WorkingDirectory={directory}", f"RuntimeMaxSec={LONGEST:g}"]
    properties = walls.properties(app, work.host, [app.cluster_data, _new_data(app), directory], network=False)
    with tempfile.TemporaryFile() as output:
        unit = walls.unit(app, directory.name)
        status = work.host.systemd.foreground(unit, argv, [*properties, *own], output)
        output.seek(0)
        return status, output.read().decode(errors="replace")


def _error_text(printed: str) -> str:
    """The output from the first error on, or the end of the log that it names."""
    for name in re.findall(r'"(/[^"]+\.log)"', printed):
        with contextlib.suppress(OSError):
            return "\n".join(cluster.read_text(Path(name)).strip().splitlines()[-SHOWN:])[:1500]
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    first = next((at for at, line in enumerate(lines) if re.search("fatal|fail|error|could not", line, re.I)), 0)
    return "\n".join(lines[first:])[:1500] or "it reports no error"


# ---------------------------------------------------------------------------------------------- replacement


def replace(work: Work) -> str:
    """The step: copy the data into the new cluster, which replaces the old one. No instance runs."""
    app, (old, new) = work.app, _versions(work)
    state.pause(app, "hostctl upgrades PostgreSQL")
    if epochs.local(app) is not None:
        replication.archive_all(app, work.host)
    cluster.stop(app, work.host)
    started = work.host.clock()
    _pg_upgrade(work)
    data_swap.swap(app.cluster_data, _new_data(app), _kept_directory(work))
    cluster.use_version(app, new)
    epoch_branch.begin(work, f"upgraded to PostgreSQL {new}")
    cluster.start(app, work.host)
    _analyze(app)
    epoch_branch.switch(work)
    seconds = work.host.clock() - started
    return f"PostgreSQL {old} became {new} in {seconds:.1f} s; the old data is kept in {_kept_directory(work) / 'old'}"


def _kept_directory(work: Work) -> Path:
    """The directory of the data that the transition replaces."""
    return work.app.cluster / "aside" / work.journal.id


def _analyze(app: App) -> None:
    """Collect the planner's statistics, which pg_upgrade does not copy. Raises HostError."""
    server = cluster.live_server(app)
    argv: list[str | Path] = [server.bin / "vacuumdb", "--all", "--analyze-only", "-h", server.socket]
    # functions of an index run as its owner, and the planner's statistics need no other code of the app's
    options = cluster.session_options(server, cluster.SUPERUSER, {"statement_timeout": "0"})
    env = {**cluster.client_environment(), "PGOPTIONS": options}
    argv += ["-U", cluster.SUPERUSER, "-j", str(os.cpu_count() or 1)]
    done = cluster.run_as_postgres(argv, timeout=LONGEST, env=env)
    if done.returncode != 0:
        raise HostError(f"vacuumdb: {cluster.error_line(done.stderr)}", str(app.cluster_data), RETRY)


# ---------------------------------------------------------------------------------------------- undo


def put_back(work: Work) -> None:
    """The undo of `replace`: put the old data back, with its version and its epoch.

    The data that the new cluster received since the flip is kept.
    """
    app, kept, (old, _) = work.app, _kept_directory(work), _versions(work)
    if data_swap.is_swapped(kept):
        state.pause(app, "hostctl puts the data back")
        work.host.systemd.stop(app.cluster_unit)
        data_swap.swap_back(app.cluster_data, kept)
    cluster.use_version(app, old)
    moved = epoch_branch.revert(work)
    if work.booting:
        work.host.systemd.start(app.cluster_unit)
    else:
        cluster.start(app, work.host)
        if moved is not None:
            epoch_branch.switch(work)
    state.resume(app)
    shutil.rmtree(app.cluster / "upgrade", ignore_errors=True)
    if "flip" not in work.journal.begun:
        files.remove_tree(kept)
