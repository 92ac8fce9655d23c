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

TRIES = 5  # of a rename that a new session blocks
NAME_LIMIT = 63  # bytes of a name in PostgreSQL

# ---------------------------------------------------------------------------------------------- data directories


def swap(data: Path, fetched: Path, kept: Path) -> None:
    """Move `data` to `kept`/old, and `fetched` to `data`. The server must not run."""
    make_directory(kept, 0o700)
    _move(data, kept / "old")
    _move(fetched, data)


def swap_back(data: Path, kept: Path) -> None:
    """The undo of `swap`; the newer data goes to `kept`/new. The server must not run."""
    if not is_swapped(kept):
        return
    if data.exists():
        _move(data, kept / "new")
    _move(kept / "old", data)


def is_swapped(kept: Path) -> bool:
    """Whether a swap was begun and not undone: the old data is then in `kept`."""
    return (kept / "old").exists()


def _move(source: Path, target: Path) -> None:
    """Rename, durable when this returns. Raises HostError when the target exists."""
    if target.exists():
        raise HostError("there is data already", str(target), "move it to another directory")
    source.rename(target)
    sync_directory(target.parent)
    sync_directory(source.parent)


# ---------------------------------------------------------------------------------------------- databases


def fit_name(name: str, suffix: str) -> str:
    """The name of a database with a suffix, shortened to what PostgreSQL allows."""
    return name[: NAME_LIMIT - len(suffix)] + suffix


def rename(server: Server, changes: dict[str, str]) -> None:
    """Rename databases, all or none, from each key to its value; their sessions are ended. Raises HostError."""
    values: dict[str, str] = {}
    statements = []
    for number, (old, new) in enumerate(changes.items()):
        values |= {f"old{number}": old, f"new{number}": new}
        statements.append(f'ALTER DATABASE :"old{number}" RENAME TO :"new{number}";\n')
    databases = ", ".join(f":'old{number}'" for number in range(len(changes)))
    script = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    script += f"WHERE pid <> pg_backend_pid() AND datname IN ({databases});\n"
    script += "BEGIN;\n" + "".join(statements) + "COMMIT;\n"
    for tries_left in reversed(range(TRIES)):
        try:
            cluster.administer(server, script, bound=values, timeout=row_counts.SHORT)
            return
        except HostError as error:
            if not tries_left or error.reason != cluster.OBJECT_IN_USE:
                raise


def rename_back(server: Server, name: str, old: str, undone: str) -> None:
    """The undo of renaming `name` to `old`: the database that has the name now becomes `undone`. Raises HostError."""
    names = row_counts.database_names(server)
    if old in names:
        rename(server, ({name: undone} if name in names else {}) | {old: name})
