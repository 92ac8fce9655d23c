"""release.cache: the laptop's artifacts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homeport.core.errors import HomeportError
from homeport.release.cache import MAX_ARTIFACTS, Cache
from hostctl.common.files import file_digest
from hostctl.common.release import artifact


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache("shop", tmp_path / "cache")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / "release").mkdir()
    return tmp_path / "release"


def version(cache: Cache, release: Path, text: str) -> str:
    (release / "version").write_text(text)
    return cache.add(release).digest


def test_an_artifact_is_kept_under_its_digest(cache: Cache, release: Path) -> None:
    made = cache.add(release)
    assert made.tar == cache.directory / f"{made.digest}.tar"
    assert file_digest(made.tar) == made.digest


def test_the_nearest_is_the_newest_held_by_the_host_that_is_here(cache: Cache, release: Path) -> None:
    one, two = version(cache, release, "1"), version(cache, release, "2")
    assert cache.nearest(["f" * 64, two, one]) == cache.directory / f"{two}.tar"
    assert cache.nearest(["f" * 64]) is None


def test_a_damaged_artifact_is_no_base_and_is_dropped(cache: Cache, release: Path) -> None:
    digest = version(cache, release, "1")
    (cache.directory / f"{digest}.tar").write_bytes(b"torn")
    assert cache.nearest([digest]) is None
    assert list(cache.directory.iterdir()) == []


def test_the_newest_few_are_kept_and_using_one_again_makes_it_new(cache: Cache, release: Path) -> None:
    digests = []
    for number in range(MAX_ARTIFACTS):
        digests.append(version(cache, release, str(number)))
        os.utime(cache.directory / f"{digests[-1]}.tar", (1000 + number, 1000 + number))
    version(cache, release, "0")
    version(cache, release, "another")
    left = {path.stem for path in cache.directory.iterdir()}
    assert len(left) == MAX_ARTIFACTS
    assert digests[0] in left
    assert digests[1] not in left


def test_what_a_killed_run_left_is_cleared(cache: Cache, release: Path) -> None:
    cache.directory.mkdir(parents=True)
    (cache.directory / ".new-1.tar").write_bytes(b"half")
    os.utime(cache.directory / ".new-1.tar", (1, 1))
    cache.add(release)
    assert not (cache.directory / ".new-1.tar").exists()


def test_a_refused_tree_is_an_error_of_three_parts_and_leaves_nothing(cache: Cache, release: Path) -> None:
    (release / "out").symlink_to("/etc")
    with pytest.raises(HomeportError) as caught:
        cache.add(release)
    assert caught.value.where.endswith("/out")
    assert caught.value.fix
    assert list(cache.directory.iterdir()) == []


def test_only_the_named_files_of_a_source_tree_are_packed(cache: Cache, release: Path, tmp_path: Path) -> None:
    (release / "lib").mkdir()
    (release / "lib" / "a.ex").write_text("a")
    (release / "secret").write_text("no")
    made = cache.add_source(release, ["lib/a.ex"])
    artifact.unpack(made.tar, tmp_path / "back")
    assert sorted(p.name for p in (tmp_path / "back").rglob("*")) == ["a.ex", "lib"]
