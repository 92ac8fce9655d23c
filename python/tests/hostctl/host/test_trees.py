"""Trees moved, removed and given beneath directories that a lesser user can change."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostctl.host.boundary import handles, trees, users
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture
def base() -> Iterator[Path]:
    """Two directories of root's and one of a lesser user's, `data`, which every user can pass."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="trees-") as made:
        path = Path(made)
        path.chmod(0o755)
        for name in ("data", "kept", "etc"):
            (path / name).mkdir()
        (path / "etc/secret").write_text("root's")
        yield path


@contextlib.contextmanager
def both(base: Path) -> Iterator[tuple[Directory, Directory]]:
    with handles.owned(base / "data") as data, Directory(base / "kept") as kept:
        yield data, kept


def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two directories are on file systems of their own."""
    rename = os.rename

    def refuse(old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if os.fstat(src_dir_fd).st_ino != os.fstat(dst_dir_fd).st_ino:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", refuse)


@pytest.fixture(params=["one file system", "two"])
def far(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "two":
        apart(monkeypatch)


@pytest.mark.usefixtures("far")
def test_a_tree_is_moved_whole_with_modes_and_its_links_as_links(base: Path) -> None:
    tree = base / "data/tree"
    (tree / "below").mkdir(parents=True)
    (tree / "below/file").write_text("content")
    (tree / "below/file").chmod(0o640)
    (tree / "link").symlink_to(base / "etc")
    with both(base) as (data, kept):
        trees.move(data, "tree", kept, "old/tree")
        trees.move(data, "nothing", kept, "old/nothing")
    moved = base / "kept/old/tree"
    assert not tree.exists()
    assert ((moved / "below/file").read_text(), (moved / "below/file").stat().st_mode & 0o777) == ("content", 0o640)
    assert (moved / "link").readlink() == base / "etc"
    assert (base / "etc/secret").read_text() == "root's"
    assert [path.name for path in (base / "kept").iterdir()] == ["old"]


@pytest.mark.usefixtures("far")
def test_a_move_that_was_interrupted_is_done_again(base: Path) -> None:
    for place in ("data/tree", "kept/tree", "kept/.tree.part"):
        (base / place).mkdir()
        (base / place / "file").write_text(place)
    with both(base) as (data, kept):
        trees.move(data, "tree", kept, "tree")
    assert (base / "kept/tree/file").read_text() == "data/tree"
    assert not (base / "data/tree").exists()


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("name", ["sub/secret", "sub/below/secret"])
def test_nothing_is_moved_from_or_to_where_a_link_leads(base: Path, name: str) -> None:
    (base / "data/sub").symlink_to(base / "etc")
    (base / "kept/file").write_text("the app's")
    with both(base) as (data, kept):
        for act in (
            lambda: trees.move(data, name, kept, "stolen"),
            lambda: trees.move(kept, "file", data, name),
            lambda: trees.remove(data, name),
        ):
            with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
                act()
    assert (base / "etc/secret").read_text() == "root's"
    assert sorted(path.name for path in (base / "kept").iterdir()) == ["file"]


@pytest.mark.usefixtures("far")
def test_a_link_itself_is_moved_and_removed(base: Path) -> None:
    (base / "data/link").symlink_to(base / "etc/secret")
    with both(base) as (data, kept):
        trees.move(data, "link", kept, "link")
        assert (base / "kept/link").is_symlink()
        trees.remove(kept, "link")
        trees.remove(kept, "link")
    assert (base / "etc/secret").read_text() == "root's"
    assert list((base / "kept").iterdir()) == []


def test_what_is_no_data_is_not_copied_and_keeps_nobody_waiting(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "data/tree").mkdir()
    os.mkfifo(base / "data/tree/fifo")
    apart(monkeypatch)
    with both(base) as (data, kept):
        trees.move(data, "tree", kept, "tree")
    assert list((base / "kept/tree").iterdir()) == []


@needs_root
def test_only_what_is_roots_and_has_one_name_is_given(base: Path) -> None:
    nobody, state = users.find("nobody"), base / "data/state"
    (state / "ltx").mkdir(parents=True)
    for name in ("ltx/1", "twice", "another's"):
        (state / name).write_text("")
    os.link(state / "twice", base / "etc/other-name")
    os.chown(state / "another's", 1, 1)
    (state / "link").symlink_to(base / "etc/secret")
    os.mkfifo(state / "fifo")
    with handles.owned(base / "data") as data:
        trees.give_up(data, "state", nobody)
    owners = {path.name: path.lstat().st_uid for path in state.rglob("*")}
    assert owners == {"ltx": nobody.uid, "1": nobody.uid, "twice": 0, "another's": 1, "link": 0, "fifo": 0}
    assert (base / "etc/secret").stat().st_uid == 0


@needs_root
def test_a_directory_of_a_lesser_user_is_opened_where_its_name_is_roots(base: Path) -> None:
    nobody = users.find("nobody")
    (base / "data/sub").mkdir()
    for path in (base / "data", base / "data/sub"):
        os.chown(path, nobody.uid, nobody.gid)
    with handles.owned(base / "data") as data:
        assert data.names() == ["sub"]
    with pytest.raises(PermissionError, match="another user"), handles.owned(base / "data/sub"):
        pass
    (base / "moved").symlink_to(base / "data")
    with handles.owned(base / "moved") as data:
        assert data.names() == ["sub"]


@needs_root
def test_a_directory_on_the_way_is_made_for_its_owner(base: Path) -> None:
    nobody: User = users.find("nobody")
    (base / "kept/file").write_text("")
    with both(base) as (data, kept):
        trees.move(kept, "file", data, "sub/file", nobody)
    assert (base / "data/sub").stat().st_uid == nobody.uid
