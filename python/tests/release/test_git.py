"""release.git against real repositories."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from homeport.release import git

NOW = datetime(2026, 11, 21, 6, 39, 53, tzinfo=UTC)


def run(root: Path, *args: str) -> str:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.test", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(root), *author, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / "app").mkdir(parents=True)
    run(root, "init", "-q")
    (root / "app" / "mix.exs").write_text("1")
    (root / "other").write_text("1")
    run(root, "add", ".")
    run(root, "commit", "-qm", "first: it works\n\nbody")
    return root


def test_a_clean_commit_is_described(repository: Path) -> None:
    described = git.describe(repository / "app")
    assert described == {
        "sha": run(repository, "rev-parse", "HEAD").strip(),
        "ref": "main",
        "dirty": False,
        "subject": "first: it works",
    }


def test_only_changes_below_the_app_make_it_dirty(repository: Path) -> None:
    (repository / "other").write_text("2")
    assert not (git.describe(repository / "app") or {})["dirty"]
    (repository / "app" / "new").write_text("2")
    assert (git.describe(repository / "app") or {})["dirty"]


def test_a_detached_head_has_no_ref(repository: Path) -> None:
    run(repository, "checkout", "-q", "--detach")
    assert (git.describe(repository) or {})["ref"] == ""


def test_without_a_repository_or_a_commit_there_is_nothing_to_describe(tmp_path: Path) -> None:
    assert git.describe(tmp_path) is None
    run(tmp_path, "init", "-q")
    assert git.describe(tmp_path) is None


def test_without_git_there_is_nothing_to_describe(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert git.describe(repository) is None
    assert git.files(repository) is None


def test_the_release_id_is_the_time_and_the_commit_or_else_the_content() -> None:
    digest = "0123456789" * 6
    assert git.release_id(NOW, {"sha": "abcdef0123456"}, digest) == "20261121T063953Z-abcdef0"
    assert git.release_id(NOW, None, digest) == "20261121T063953Z-0123456"
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-z]{7,12}", git.release_id(NOW, None, digest))


def test_files_are_the_tracked_and_the_untracked_but_not_the_ignored(repository: Path) -> None:
    (repository / "app" / ".gitignore").write_text("_build\n")
    (repository / "app" / "_build").mkdir()
    (repository / "app" / "_build" / "x").write_text("")
    (repository / "app" / "ünt räcked\n").write_text("")
    assert git.files(repository / "app") == [".gitignore", "mix.exs", "ünt räcked\n"]
