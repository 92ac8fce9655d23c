"""release.tree: a release found, checked, or taken from CI."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from homeport.core.errors import HomeportError
from homeport.release import tree


def packed(release: Path, name: str, *options: str) -> Path:
    target = release.parent / name
    subprocess.run(["tar", *options, "-cf", str(target), "-C", str(release), "."], check=True)
    return target


def refusal(path: Path, name: str = "shop") -> HomeportError:
    with pytest.raises(HomeportError) as caught, tree.from_artifact(path, name):
        pass
    assert caught.value.where
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.tar", []), ("a.tar.gz", ["--gzip"]), ("a.tar.zst", ["--zstd"]), ("named-oddly", ["--gzip"])],
)
def test_a_tar_is_taken_however_it_is_packed_and_gone_afterwards(release: Path, name: str, options: list[str]) -> None:
    with tree.from_artifact(packed(release, name, *options), "shop") as found:
        assert (found / "bin" / "shop").read_text() == "#!/bin/sh\n"
    assert not found.exists()


def test_a_directory_is_taken_as_it_is_also_from_above(release: Path) -> None:
    for path in (release, release.parent):
        with tree.from_artifact(path, "shop") as found:
            assert found == release
    assert release.exists()


def test_what_is_no_release_is_refused(tmp_path: Path) -> None:
    assert "no mix release" in refusal(tmp_path).what
    (tmp_path / "x.tar").write_bytes(b"not a tar")
    assert "damaged" in refusal(tmp_path / "x.tar").what
    (tmp_path / "x.gz").write_bytes(b"\x1f\x8b not gzip")
    assert "cannot be unpacked" in refusal(tmp_path / "x.gz").what
    (tmp_path / "x.zst").write_bytes(b"\x28\xb5\x2f\xfd not zstd")
    assert "cannot be unpacked" in refusal(tmp_path / "x.zst").what
    assert refusal(tmp_path / "none.tar").code == 2


def test_an_unsafe_tar_is_refused(release: Path, tmp_path: Path) -> None:
    tar = packed(release, "a.tar", "--transform=s,^./bin,../bin,", "-P")
    assert "leaves the tree" in refusal(tar).what
    assert not (tmp_path.parent / "bin").exists()


def test_another_release_name_is_refused_with_the_key_to_set(release: Path) -> None:
    error = refusal(release, "other")
    assert "bin/other" in error.what
    assert "release.name" in error.fix


def test_a_release_without_erlang_is_refused(release: Path) -> None:
    (release / "erts-13.1.5" / "bin" / "beam.smp").unlink()
    assert "include_erts" in refusal(release).fix
