"""release.source: what of a checkout goes to a build elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from homeport.core.errors import HomeportError
from homeport.release import source
from homeport.release.cache import Cache
from hostctl.common.release import artifact

from .samples import write


def filled(root: Path) -> Path:
    for name in ("mix.exs", "lib/a.ex", ".formatter.exs", ".env", "apps/web/.env.prod"):
        write(root / name, name)
    for name in ("_build/x", "deps/x", "assets/node_modules/x", "apps/web/_build/x"):
        write(root / name, "made")
    return root


def git(root: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(root), *args], check=True, capture_output=True)


def test_without_git_everything_but_what_is_made_and_secret_goes(tmp_path: Path) -> None:
    assert sorted(source.names(filled(tmp_path))) == [".formatter.exs", "lib/a.ex", "mix.exs"]


def test_with_git_untracked_files_go_ignored_and_deleted_ones_do_not(tmp_path: Path) -> None:
    root = filled(tmp_path)
    git(root, "init", "-q")
    write(root / ".gitignore", "_build\ndeps\nnode_modules\n")
    git(root, "add", ".formatter.exs", ".env")
    (root / ".formatter.exs").unlink()
    assert source.names(root) == [".env", ".gitignore", "lib/a.ex", "mix.exs"]


def test_the_same_source_has_the_same_digest_wherever_it_lies(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "one"), filled(tmp_path / "two")
    write(two / "_build" / "y", "more")
    cache = Cache("shop", tmp_path / "cache")
    made = source.pack(one, cache)
    assert made.digest == source.pack(two, cache).digest
    artifact.unpack(made.tar, tmp_path / "back")
    assert (tmp_path / "back" / "lib" / "a.ex").read_text() == "lib/a.ex"


def test_a_symlink_within_the_source_goes_and_one_out_of_it_is_refused(tmp_path: Path) -> None:
    root = filled(tmp_path / "root")
    (root / "current").symlink_to("lib")
    assert "current" in source.names(root)
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(HomeportError, match="points out of the tree"):
        source.pack(root, Cache("shop", tmp_path / "cache"))
