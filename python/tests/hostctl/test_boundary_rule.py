"""The rule of hostctl.host.boundary: nothing else changes users and owners, or connects to Unix sockets, by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hostctl

PACKAGE = Path(hostctl.__file__).parent
# changes of owner by path, changes of this process's user, and Unix sockets
FORBIDDEN = {"chown", "lchown", "fchown", "setuid", "setgid", "setresuid", "setgroups", "initgroups", "AF_UNIX"}
# by the first folder and the name of the file: who still does it, and why; it may become shorter, not longer
ALLOWED = {
    "accessories/services.py": {"chown": "a directory in one of root's"},
    "common/http.py": {"AF_UNIX": "Litestream's socket, in a directory of root's"},
    "core/moving.py": {"fchown": "on the handle of a new file"},
    "edge/custom_certificates.py": {"chown": "a file in a directory of root's"},
    "postgres/cluster.py": {"chown": "the directories of a server"},
    "postgres/dumps.py": {"chown": "a dump in a directory of root's"},
    "postgres/pgbackrest.py": {"chown": "the archive's files"},
    "postgres/scratch_server.py": {"chown": "the directories of a trial server"},
    "postgres/wal_stream.py": {"chown": "files of the write-ahead log"},
    "sqlite/file_swap.py": {"chown": "a file that takes the place of the database"},
    "sqlite/files.py": {"fchown": "on the handle of a new file"},
}


def used(path: Path) -> Iterator[str]:
    """The forbidden names that a module uses, as an attribute or by importing them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN:
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (name.name for name in node.names if name.name in FORBIDDEN)


def modules() -> list[str]:
    found = (path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
    return sorted(name for name in found if not name.startswith("host/boundary/"))


@pytest.mark.parametrize("module", modules())
def test_only_the_boundary_changes_users_and_owners_and_connects_to_unix_sockets(module: str) -> None:
    assert set(used(PACKAGE / module)) - ALLOWED.get(f"{module.split('/')[0]}/{Path(module).name}", {}).keys() == set()
