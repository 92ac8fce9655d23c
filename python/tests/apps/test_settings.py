"""The question about SQLite's settings, put to releases as the host puts it to them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hostctl.backup.settings import Backup, Database, Databases
from hostctl.sqlite import pragmas, settings_check
from hostctl.sqlite.pragmas import Settings
from tests.apps.support import build_ledger, environment, mix

STAND_IN = Path(__file__).parent / "ecto_stand_in"
SAFE = {"REPO_CHECKPOINT": "0", "REPO_BUSY": "5000"}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with Ecto's names in it, and repos on SQLite, in memory and on another database."""
    directory = tmp_path_factory.mktemp("shop")
    app = shutil.copytree(STAND_IN, directory / "app")
    mix(app, "format", "--check-formatted")
    mix(app, "release", "--quiet", "--path", str(directory / "shop"))
    return directory / "shop"


def told(command: list[str | Path], scratch: Path, **env: str) -> list[Settings]:
    given = environment(1, scratch, {"DATABASE_PATH": str(scratch / "shop.db"), **env})
    done = subprocess.run(command, env=given, capture_output=True, text=True, cwd=scratch)
    assert done.returncode == 0, done.stderr
    return pragmas.parse(done.stderr + done.stdout)


def ask(release: Path, scratch: Path, **env: str) -> list[Settings]:
    return told([release / "bin" / "shop", "eval", settings_check.ECTO], scratch, **env)


def databases(path: Path, *extra: Path) -> Databases:
    files = tuple(Database(each.name, each) for each in (path, *extra))
    return Databases("shop", Path("litestream"), False, files, Backup("bucket", "shop", "us-east-1"))


def test_each_sqlite_repo_tells_what_its_connections_really_have(release: Path, tmp_path: Path) -> None:
    repo, cache = ask(release, tmp_path, **SAFE)
    assert (repo.app, repo.repo, repo.path) == ("shop", "Shop.Repo", str(tmp_path / "shop.db"))
    assert (repo.wal_autocheckpoint, repo.busy_timeout, repo.journal_mode) == (0, 5000, "wal")
    assert repo.sqlite_version.startswith("3.")
    assert (cache.repo, cache.path, cache.journal_mode) == ("Shop.Cache", "", "memory")
    assert pragmas.judge([repo, cache], databases(tmp_path / "shop.db")).refusal is None


def test_ectos_defaults_are_refused_with_the_lines_that_mend_them(release: Path, tmp_path: Path) -> None:
    refusal = pragmas.judge(ask(release, tmp_path), databases(tmp_path / "shop.db")).refusal
    assert refusal is not None
    assert "Shop.Repo: wal_autocheckpoint is 1000, and must be 0" in refusal.what
    assert "config :shop, Shop.Repo, wal_auto_check_point: 0\n" in refusal.fix
    assert "config :shop, Shop.Repo, busy_timeout: 5000\n" in refusal.fix


def test_a_repo_that_opens_another_file_is_refused_by_the_file_it_really_opened(release: Path, tmp_path: Path) -> None:
    found = ask(release, tmp_path, **SAFE, DATABASE_PATH="other.db")
    refusal = pragmas.judge(found, databases(tmp_path / "shop.db")).refusal
    assert refusal is not None
    assert f"writes to {tmp_path}/other.db" in refusal.what


def test_a_path_with_quotes_and_spaces_is_read_right(release: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" \\ ü'
    odd.mkdir()
    assert ask(release, tmp_path, **SAFE, DATABASE_PATH=str(odd / "x.db"))[0].path == str(odd / "x.db")


def test_the_ledger_tells_by_its_program(tmp_path: Path) -> None:
    program = build_ledger(tmp_path) / "bin" / "settings"
    (safe,) = told([program], tmp_path, LEDGER_AUTOCHECKPOINT="0")
    assert pragmas.judge([safe], databases(tmp_path / "shop.db")).refusal is None
    (unsafe,) = told([program], tmp_path, LEDGER_AUTOCHECKPOINT="1000")
    refusal = pragmas.judge([unsafe], databases(tmp_path / "shop.db")).refusal
    assert refusal is not None
    assert "PRAGMA wal_autocheckpoint = 0" in refusal.fix
