"""Two ways to replace an app's data: swap data directories while the server is stopped, or rename databases while it
runs. Both can be undone after an interruption at any point, any number of times.
"""

from __future__ import annotations

from pathlib import Path

from hostctl.common.errors import HostError
from hostctl.common.files import make_directory, sync_directory
from hostctl.postgres.database import row_counts
from hostctl.postgres.server import cluster
from hostctl.postgres.server.cluster import Server

TRIES = 5  # of a rename that a session which has just come is in the way of
LONGEST = 63  # bytes of a name that PostgreSQL tells apart

# ---------------------------------------------------------------------------------------------- data directories


def swap(data: Path, fetched: Path, aside: Path) -> None:
    """Move `data` to `aside`/old, and `fetched` to `data`. The server must not run."""
    make_directory(aside, 0o700)
    _move(data, aside / "old")
    _move(fetched, data)


def swap_back(data: Path, aside: Path) -> None:
    """The undo of `swap`; the newer data goes to `aside`/new. The server must not run."""
    if not is_swapped(aside):
        return
    if data.exists():
        _move(data, aside / "new")
    _move(aside / "old", data)


def is_swapped(aside: Path) -> bool:
    """Whether an exchange was begun and not undone: then the old data is aside."""
    return (aside / "old").exists()


def _move(source: Path, target: Path) -> None:
    """One rename, on disk when this returns. Never over anything."""
    if target.exists():
        raise HostError("there is data already", str(target), "deploy status tells what is so; move it aside")
    source.rename(target)
    sync_directory(target.parent)
    sync_directory(source.parent)


# ---------------------------------------------------------------------------------------------- databases


def fit_name(name: str, suffix: str) -> str:
    """A name of a database with a suffix, as long as names may be."""
    return name[: LONGEST - len(suffix)] + suffix


def rename(server: Server, changes: dict[str, str]) -> None:
    """Databases take other names, all of them or none; sessions in them end. Raises HostError."""
    bound: dict[str, str] = {}
    statements = []
    for number, (old, new) in enumerate(changes.items()):
        bound |= {f"old{number}": old, f"new{number}": new}
        statements.append(f'ALTER DATABASE :"old{number}" RENAME TO :"new{number}";\n')
    ended = ", ".join(f":'old{number}'" for number in range(len(changes)))
    script = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    script += f"WHERE pid <> pg_backend_pid() AND datname IN ({ended});\n"
    script += "BEGIN;\n" + "".join(statements) + "COMMIT;\n"
    for left in reversed(range(TRIES)):
        try:
            cluster.query(server, script, bound=bound, timeout=row_counts.SHORT)
            return
        except HostError as error:
            if not left or "being accessed by other users" not in error.what:
                raise


def rename_back(server: Server, name: str, old: str, undone: str) -> None:
    """The undo of a database's having gone aside as `old`: what has its name now becomes `undone`. Raises HostError."""
    found = row_counts.database_names(server)
    if old in found:
        rename(server, ({name: undone} if name in found else {}) | {old: name})
