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
    "core/moving.py": {"fchown": "on the handle of a new file"},
    "edge/custom_certificates.py": {"chown": "a file in a directory of root's"},
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


# what reads or changes the file system, by a path
ON_PATHS = {
    "exists", "is_file", "is_dir", "is_symlink", "stat", "lstat", "open", "read_text", "read_bytes", "write_text",
    "write_bytes", "unlink", "rename", "replace", "chmod", "mkdir", "iterdir", "glob", "rglob", "touch", "symlink_to",
    "hardlink_to", "resolve", "readlink",
}  # fmt: skip
AS_THE_USER = {"sqlite/database/files.py"}  # what `owner` has the app's user do


def by_path(path: Path) -> Iterator[str]:
    """The uses of a database's path, or of one beside it, that only the app's user may make; and of SQLite itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) == ("sqlite3", "connect"):
                yield "sqlite3.connect"
        elif isinstance(node, ast.Attribute) and node.attr in ON_PATHS and names_path(node.value):
            yield ast.unparse(node)


def names_path(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr == "path" for each in ast.walk(node))


@pytest.mark.parametrize("module", [name for name in modules() if name.startswith(("sqlite/", "backup/settings"))])
def test_no_path_of_an_apps_database_is_followed_and_no_file_opened_but_by_its_user(module: str) -> None:
    assert module in AS_THE_USER or list(by_path(PACKAGE / module)) == []


def test_only_sqlites_files_open_sqlite() -> None:
    opening = {name for name in modules() if "sqlite3.connect" in by_path(PACKAGE / name)}
    assert opening == AS_THE_USER
