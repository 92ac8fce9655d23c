"""hostctl.common.release.artifact: the normalised tar, its digest, and unpacking what may be hostile."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostctl.common.files import file_digest
from hostctl.common.release import artifact
from hostctl.common.release.artifact import ArtifactError, Entry

RELAXED = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..", "tmp") and len(os.fsencode(name)) < 60
)
FILES = st.tuples(st.binary(max_size=1500), st.sampled_from([0o600, 0o644, 0o755, 0o4711, 0o444]))
TREES = st.recursive(
    st.dictionaries(NAMES, FILES, max_size=4),
    lambda inner: st.dictionaries(NAMES, inner | FILES, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "release"
    (root / "bin").mkdir(parents=True)
    (root / "releases" / "0.1.0").mkdir(parents=True)
    (root / "bin" / "demo").write_text("#!/bin/sh\n")
    (root / "bin" / "demo").chmod(0o700)
    (root / "releases" / "COOKIE").write_text("random of this build")
    (root / "releases" / "start_erl.data").write_text("13.1.5 0.1.0")
    (root / "releases" / "latest").symlink_to("0.1.0")
    return root


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def grow(root: Path, tree: dict[str, object]) -> None:
    root.mkdir()
    for name, node in tree.items():
        path = root / name
        if isinstance(node, dict):
            grow(path, node)
        else:
            data, mode = node  # type: ignore[misc]
            path.write_bytes(data)
            path.chmod(mode)


@RELAXED
@given(tree=TREES)
def test_normalise_unpack_normalise_is_the_identity(tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as box:
        here = Path(box)
        grow(here / "tree", tree)
        first = artifact.normalise(here / "tree", here / "a.tar")
        manifest = artifact.unpack(here / "a.tar", here / "b")
        assert artifact.normalise(here / "b", here / "b.tar") == first == file_digest(here / "b.tar")
        again = artifact.unpack(here / "a.tar", here / "c", artifact.known_files(here / "b", manifest))
        assert artifact.normalise(here / "c", here / "c.tar") == first
        assert again == manifest == artifact.from_json(artifact.to_json(manifest))


def test_owner_time_mode_and_cookie_do_not_change_the_digest(release: Path, tmp_path: Path) -> None:
    first = artifact.normalise(release, tmp_path / "a.tar")
    (release / "releases" / "COOKIE").write_text("another one")
    (release / "bin" / "demo").chmod(0o4755)
    os.utime(release / "bin" / "demo", (1, 1))
    assert artifact.normalise(release, tmp_path / "b.tar") == first


def test_a_changed_byte_and_a_lost_executable_bit_change_the_digest(release: Path, tmp_path: Path) -> None:
    first = artifact.normalise(release, tmp_path / "a.tar")
    (release / "bin" / "demo").chmod(0o644)
    second = artifact.normalise(release, tmp_path / "a.tar")
    (release / "bin" / "demo").write_text("#!/bin/ash")
    assert len({first, second, artifact.normalise(release, tmp_path / "a.tar")}) == 3


def test_the_format_is_fixed_since_the_digest_is_the_identity_of_kept_releases(release: Path, tmp_path: Path) -> None:
    digest = "952dbd264f6e32e9a6de586454bf2ce371c5b646229c79bff5e3a8a61792a007"
    assert artifact.normalise(release, tmp_path / "a.tar") == digest


def test_the_tar_is_one_that_gnu_tar_reads(release: Path, tmp_path: Path) -> None:
    (release / ("d" * 120)).mkdir()
    (release / ("d" * 120) / ("f" * 120)).write_text("long")
    artifact.normalise(release, tmp_path / "a.tar")
    (tmp_path / "gnu").mkdir()
    subprocess.run(["tar", "-xf", tmp_path / "a.tar", "-C", tmp_path / "gnu"], check=True)
    assert (tmp_path / "gnu" / ("d" * 120) / ("f" * 120)).read_text() == "long"
    assert (tmp_path / "gnu" / "releases" / "COOKIE").read_text() == "homeport"


def test_runtime_configuration_that_a_started_release_left_is_not_packed(release: Path, tmp_path: Path) -> None:
    (release / "tmp").mkdir()
    (release / "tmp" / "demo-0.1.0.runtime.config").write_text("secret_key_base")
    artifact.normalise(release, tmp_path / "a.tar")
    assert b"secret_key_base" not in (tmp_path / "a.tar").read_bytes()


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "releases/../../outside", "latest-up/../.."])
def test_a_symlink_out_of_the_release_is_refused_with_its_name(release: Path, tmp_path: Path, target: str) -> None:
    (release / "latest-up").symlink_to("releases/..")
    (release / "leak").symlink_to(target)
    with pytest.raises(ArtifactError) as caught:
        artifact.normalise(release, tmp_path / "a.tar")
    assert "leak" in caught.value.where
    assert list(tmp_path.glob("*.tar")) == list(tmp_path.glob(".*.part")) == []


def test_a_fifo_in_the_release_is_refused(release: Path, tmp_path: Path) -> None:
    os.mkfifo(release / "pipe")
    with pytest.raises(ArtifactError, match="FIFO"):
        artifact.normalise(release, tmp_path / "a.tar")


def test_unchanged_files_are_hard_links_and_changed_ones_are_not(release: Path, tmp_path: Path) -> None:
    artifact.normalise(release, tmp_path / "a.tar")
    manifest = artifact.unpack(tmp_path / "a.tar", tmp_path / "one")
    (release / "releases" / "start_erl.data").write_text("13.1.5 0.2.0")
    artifact.normalise(release, tmp_path / "b.tar")
    artifact.unpack(tmp_path / "b.tar", tmp_path / "two", artifact.known_files(tmp_path / "one", manifest))
    assert (tmp_path / "one" / "bin" / "demo").samefile(tmp_path / "two" / "bin" / "demo")
    assert (tmp_path / "one" / "releases" / "start_erl.data").read_text() == "13.1.5 0.1.0"
    assert (tmp_path / "two" / "releases" / "start_erl.data").read_text() == "13.1.5 0.2.0"


def test_a_known_file_of_another_mode_or_length_or_gone_is_not_linked(release: Path, tmp_path: Path) -> None:
    artifact.normalise(release, tmp_path / "a.tar")
    manifest = artifact.unpack(tmp_path / "a.tar", tmp_path / "one")
    known = artifact.known_files(tmp_path / "one", manifest)
    (tmp_path / "one" / "bin" / "demo").chmod(0o644)
    (tmp_path / "one" / "releases" / "COOKIE").write_text("tampered with")
    (tmp_path / "one" / "releases" / "start_erl.data").unlink()
    artifact.unpack(tmp_path / "a.tar", tmp_path / "two", known)
    first = file_digest(tmp_path / "a.tar")
    assert artifact.normalise(tmp_path / "two", tmp_path / "b.tar") == first
    assert stat.S_IMODE((tmp_path / "two" / "bin" / "demo").stat().st_mode) == 0o755


def test_an_unpacked_release_is_not_writable_for_others_whatever_the_umask(release: Path, tmp_path: Path) -> None:
    artifact.normalise(release, tmp_path / "a.tar")
    before = os.umask(0)
    try:
        artifact.unpack(tmp_path / "a.tar", tmp_path / "one")
        os.umask(0o077)
        artifact.unpack(tmp_path / "a.tar", tmp_path / "two")
    finally:
        os.umask(before)
    for root in (tmp_path / "one", tmp_path / "two"):
        modes = {stat.S_IMODE(p.lstat().st_mode) for p in [root, *root.rglob("*")] if not p.is_symlink()}
        assert modes == {0o755, 0o644}


def test_unpacking_over_a_release_that_is_there_is_refused(release: Path, tmp_path: Path) -> None:
    artifact.normalise(release, tmp_path / "a.tar")
    with pytest.raises(ArtifactError, match="already"):
        artifact.unpack(tmp_path / "a.tar", release)
    assert (release / "bin" / "demo").exists()


def test_what_a_killed_unpack_left_is_cleared_by_the_next(release: Path, tmp_path: Path) -> None:
    artifact.normalise(release, tmp_path / "a.tar")
    (tmp_path / ".one.part" / "bin").mkdir(parents=True)
    artifact.unpack(tmp_path / "a.tar", tmp_path / "one")
    assert not (tmp_path / ".one.part").exists()


# ---------------------------------------------------------------------------------------------- hostile tars


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", mode: int = 0o644) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, len(data), mode
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def tar_of(path: Path, *members: bytes) -> Path:
    path.write_bytes(b"".join(members) + bytes(1024))
    return path


REFUSED = {
    "absolute path": [member("/etc/evil")],
    "parent directory": [member("a/../../evil")],
    "device": [member("null", tarfile.CHRTYPE)],
    "fifo": [member("pipe", tarfile.FIFOTYPE)],
    "absolute symlink": [member("a", tarfile.SYMTYPE, "/etc")],
    "symlink that leaves": [member("a", tarfile.SYMTYPE, "../x")],
    "symlink that leaves through another": [
        member("d", tarfile.DIRTYPE),
        member("d/up", tarfile.SYMTYPE, ".."),
        member("a", tarfile.SYMTYPE, "d/up/.."),
    ],
    "file written through a symlink": [member("a", tarfile.SYMTYPE, "."), member("a/evil", data=b"x")],
    "file below a file": [member("a"), member("a/b")],
    "duplicate": [member("a"), member("a")],
    "duplicate spelt otherwise": [member("a"), member("./a")],
    "directory over a file": [member("a"), member("a", tarfile.DIRTYPE)],
    "file over an implied directory": [member("a/b"), member("a")],
    "hard link out": [member("a", tarfile.LNKTYPE, "/etc/passwd")],
    "hard link up": [member("a", tarfile.LNKTYPE, "../../../etc/passwd")],
    "hard link to a symlink": [member("a", tarfile.SYMTYPE, "b"), member("c", tarfile.LNKTYPE, "a")],
    "hard link to nothing": [member("a", tarfile.LNKTYPE, "b")],
    "file as the root": [member("./")],
    "sparse": [member("a", tarfile.GNUTYPE_SPARSE)],
    "unknown type": [member("a", b"Z")],
}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED.keys())
def test_a_hostile_tar_is_refused_and_leaves_nothing(members: list[bytes], tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "evil.tar", *members)
    with pytest.raises(ArtifactError):
        artifact.unpack(tar, tmp_path / "dest")
    assert names(tmp_path) == ["evil.tar"]


def test_setuid_bits_are_dropped(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", member("su", data=b"x", mode=0o6755))
    manifest = artifact.unpack(tar, tmp_path / "dest")
    assert stat.S_IMODE((tmp_path / "dest" / "su").stat().st_mode) == 0o755 == manifest["su"].mode


def test_a_hard_link_within_the_tar_is_the_same_file(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", member("./x/a", data=b"same"), member("./b", tarfile.LNKTYPE, "./x/a"))
    manifest = artifact.unpack(tar, tmp_path / "dest")
    assert (tmp_path / "dest" / "b").read_bytes() == b"same"
    assert manifest["b"] == manifest["x/a"]
    assert manifest["x"] == Entry("", 0o755, 0)


@pytest.mark.parametrize("keep", [0, 100, 512, 700, 1024, 1536])
def test_a_tar_that_is_cut_short_is_refused(keep: int, tmp_path: Path) -> None:
    whole = member("a", data=b"x" * 300) + member("b", data=b"y" * 300) + bytes(1024)
    (tmp_path / "a.tar").write_bytes(whole[:keep])
    with pytest.raises(ArtifactError):
        artifact.unpack(tmp_path / "a.tar", tmp_path / "dest")
    assert names(tmp_path) == ["a.tar"]


def test_damage_between_two_members_is_no_end_of_the_tar(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", member("a", data=b"x"), b"\xff" * 512, member("b"))
    with pytest.raises(ArtifactError, match="damaged"):
        artifact.unpack(tar, tmp_path / "dest")


def test_a_negative_size_ends_in_a_refusal_and_not_in_a_loop(tmp_path: Path) -> None:
    header = bytearray(member("a")[:512])
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # base 256: -512
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ArtifactError):
        artifact.unpack(tar_of(tmp_path / "a.tar", member("z"), bytes(header)), tmp_path / "dest")


PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "up", "d\n", "é"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from(
    [tarfile.REGTYPE] * 3 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)
HOSTILE = st.lists(st.tuples(PATHS, KINDS, PATHS, st.booleans(), st.booleans()), max_size=7)


def tree_of(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(root.rglob("*")):
        yield str(path), path.read_bytes() if path.is_file() else b""


@settings(RELAXED, max_examples=300)
@given(members=HOSTILE, noise=st.none() | st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=40)))
def test_a_hostile_tar_never_writes_outside_and_never_half(
    members: list[tuple[str, bytes, str, bool, bool]], noise: tuple[int, bytes] | None
) -> None:
    with tempfile.TemporaryDirectory() as box:
        outside, work = Path(box) / "outside", Path(box) / "in" / "work"
        outside.mkdir()
        work.mkdir(parents=True)
        (outside / "a").write_bytes(b"precious")
        before = list(tree_of(outside))
        prefix = f"{outside}/"
        blob = b"".join(
            member(
                (prefix if far else "") + name,
                kind,
                (prefix if far_link else "") + link,
                b"" if kind != b"0" else b"!",
            )
            for name, kind, link, far, far_link in members
        )
        if noise:
            blob = blob[: noise[0]] + noise[1] + blob[noise[0] + len(noise[1]) :]
        tar = Path(box) / "evil.tar"
        tar.write_bytes(blob + bytes(1024))
        try:
            artifact.unpack(tar, work / "dest")
        except ArtifactError:
            assert names(work) == []
        else:
            assert names(work) == ["dest"]
            inside = os.path.realpath(work / "dest")
            links = [p for p in (work / "dest").rglob("*") if p.is_symlink()]
            assert all(os.path.realpath(link).startswith(inside) for link in links)
        assert list(tree_of(outside)) == before
        assert names(Path(box)) == ["evil.tar", "in", "outside"]
        assert names(Path(box) / "in") == ["work"]


def test_a_manifest_of_another_shape_is_a_value_error() -> None:
    for text in ("[]", "{", '{"a": 3}', '{"a": [1]}'):
        with pytest.raises(ValueError, match=r".+"):
            artifact.from_json(text)


def test_digest_is_the_sha256_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x").startswith("ba7816bf8f01cfea")


def test_unpack_raises_for_a_tar_that_is_not_there_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        artifact.unpack(tmp_path / "none.tar", tmp_path / "dest")
    assert names(tmp_path) == []


def test_the_tar_of_an_empty_tree_is_an_end_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    artifact.normalise(tmp_path / "empty", tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as reader:
        assert reader.getnames() == []
