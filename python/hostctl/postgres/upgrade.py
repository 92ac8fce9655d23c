"""`hostctl APP db upgrade`: the app's cluster goes on by the programs of a newer major version of PostgreSQL.

pg_upgrade copies: the old data stays as it is, aside, and one rename brings it back. What it makes is another system,
whose log does not continue the old one's: it is archived into an epoch of its own, published once the app has been
found well on it. Until then the old epoch counts, with everything that was written before.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from hostctl.backup import epochs, settings, state
from hostctl.common import files
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.core.paths import App
from hostctl.host import disk
from hostctl.journal.engine import Work
from hostctl.postgres.archive import drill, epoch_branch, pgbackrest, replication
from hostctl.postgres.database import data_swap
from hostctl.postgres.server import cluster, scratch_server

LONGEST = 24 * 3600.0  # seconds
SHOWN = 6  # lines of a log
SPARE = 256 << 20  # bytes left free beside the copy
AGAIN = "mend what it says, and deploy db upgrade again"

# ---------------------------------------------------------------------------------------------- begin


def plan(app: App) -> Json:
    """What an upgrade would do: major versions `from` and `to`, `bytes` that are copied. Changes nothing.

    Raises HostError (usage) when no newer version is installed.
    """
    cluster.require(app)
    old, new = cluster.data_major(app.cluster_data), max(cluster.installed_majors(), default=0)
    if new <= old:
        what = f"PostgreSQL {old} is the newest that is installed, and the app's runs on it"
        raise HostError(what, str(cluster.VERSIONS), "install a newer one: apt-get install postgresql-VERSION", USAGE)
    return {"from": str(old), "to": str(new), "bytes": _size(app.cluster_data)}


def _versions(work: Work) -> tuple[int, int]:
    assert work.data is not None  # noqa: S101 - only such transitions have these steps
    told = work.data["upgrade"]
    return told["from"], told["to"]


def _size(directory: Path) -> int:
    """Bytes on disk of what is below a directory."""
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))


# ---------------------------------------------------------------------------------------------- prepare


def prepare(work: Work) -> str:
    """The step: a backup that was proven, an empty cluster of the new version, and pg_upgrade's own word that the data
    will pass. The app serves meanwhile.
    """
    app, (_, new) = work.app, _versions(work)
    disk.require_space(app.cluster, _size(app.cluster_data) + SPARE, "the upgraded data")
    proven = _proven(work)
    data, programs = _made(app), _programs(new)
    _empty(app, new)
    cluster.check_configuration(app, programs, data)
    _pg_upgrade(work, "--check")
    return f"{proven}; PostgreSQL {new} can take the data"


def _proven(work: Work) -> str:
    """A backup of now that was restored. Raises HostError when it cannot be."""
    app = work.app
    if settings.configured(app) is None:
        return "there is no backup, the old data is kept aside"
    work.note("backing up")
    pgbackrest.backup(app, "incr")
    work.note("proving the backup by restoring it")
    drill.run(app, work.host)
    return "the backup was restored and is sound"


def _made(app: App) -> Path:
    return app.cluster / "fetched"


def _programs(version: int) -> Path:
    return cluster.VERSIONS / str(version) / "bin"


def _empty(app: App, version: int) -> None:
    """A cluster of that version with nothing in it, of the kind that the live one is."""
    discard(app)
    cluster.make_postgres_directory(_made(app))
    checksums = cluster.control_data(cluster.live_server(app))["Data page checksum version"] != "0"
    cluster.initdb(_programs(version), _made(app), checksums)


def discard(app: App) -> None:
    """The undo of `prepare`, as far as it is on this disk."""
    scratch_server.remove_leftovers(_made(app))
    files.remove_tree(_made(app))


def forget(work: Work) -> None:
    """The undo of the step."""
    discard(work.app)


def _pg_upgrade(work: Work, *more: str) -> None:
    """Run it; its own files go into a directory of its own. Raises HostError with what it complained of."""
    app, (old, new) = work.app, _versions(work)
    place = app.cluster / "upgrade"
    cluster.make_postgres_directory(place)
    argv: list[str | Path] = [_programs(new) / "pg_upgrade", "-b", _programs(old), "-B", _programs(new)]
    argv += ["-d", app.cluster_data, "-D", _made(app), "-s", place, "-U", cluster.SUPERUSER]
    argv += ["-j", str(os.cpu_count() or 1), *more]
    try:
        done = cluster.run_as_postgres(argv, timeout=LONGEST, cwd=place)
    except subprocess.TimeoutExpired:
        raise HostError(f"pg_upgrade has not ended after {LONGEST:g} s", str(app.cluster_data), AGAIN) from None
    if done.returncode != 0:
        raise HostError(f"pg_upgrade: {_complaint(done.stdout)}", str(app.cluster_data), AGAIN)
    files.remove_tree(place)


def _complaint(printed: str) -> str:
    """What it printed from the first thing that was wrong on, or the end of the log that it points to."""
    for name in re.findall(r'"(/[^"]+\.log)"', printed):
        with contextlib.suppress(OSError):
            return "\n".join(Path(name).read_text(errors="replace").strip().splitlines()[-SHOWN:])[:1500]
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    first = next((at for at, line in enumerate(lines) if re.search("fatal|fail|error|could not", line, re.I)), 0)
    return "\n".join(lines[first:])[:1500] or "it gives no reason"


# ---------------------------------------------------------------------------------------------- exchange


def replace(work: Work) -> str:
    """The step: the data is copied into the new cluster, which takes the old one's place. No instance runs."""
    app, (old, new) = work.app, _versions(work)
    state.pause(app, "hostctl upgrades PostgreSQL")
    if epochs.local(app) is not None:
        replication.archive_all(app, work.host)
    cluster.stop(app, work.host)
    begun = work.host.clock()
    _pg_upgrade(work)
    data_swap.swap(app.cluster_data, _made(app), _aside(work))
    cluster.use_version(app, new)
    epoch_branch.begin(work, f"upgraded to PostgreSQL {new}")
    cluster.start(app, work.host)
    _analyze(app)
    epoch_branch.switch(work)
    seconds = work.host.clock() - begun
    return f"PostgreSQL {old} is {new} after {seconds:.1f} s; the data of before is kept in {_aside(work) / 'old'}"


def _aside(work: Work) -> Path:
    """Where data directories that were given up lie."""
    return work.app.cluster / "aside" / work.journal.id


def _analyze(app: App) -> None:
    """Statistics, which pg_upgrade does not bring along: without them every plan is a guess. A sample of each table."""
    server = cluster.live_server(app)
    argv: list[str | Path] = [server.bin / "vacuumdb", "--all", "--analyze-only", "-h", server.socket]
    done = cluster.run_as_postgres([*argv, "-U", cluster.SUPERUSER, "-j", str(os.cpu_count() or 1)], timeout=LONGEST)
    if done.returncode != 0:
        raise HostError(f"vacuumdb: {cluster.error_line(done.stderr)}", str(app.cluster_data), AGAIN)


# ---------------------------------------------------------------------------------------------- back


def put_back(work: Work) -> None:
    """The undo of `replace`: the old data where it was, served by its own version, archived into its own epoch. What
    the new had taken in since the flip is kept aside.
    """
    app, aside, (old, _) = work.app, _aside(work), _versions(work)
    if data_swap.is_swapped(aside):
        state.pause(app, "hostctl puts the data back")
        work.host.systemd.stop(app.cluster_unit)
        data_swap.swap_back(app.cluster_data, aside)
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
        files.remove_tree(aside)
