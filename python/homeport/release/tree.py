"""Finds and checks the directory of a mix release, also of one that was built elsewhere."""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homeport.core.errors import ExitCode, HomeportError
from hostctl.common.release import artifact

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MARK = "start_erl.data"
FIX = "use the output of `mix release`: its directory, or a .tar, .tar.gz or .tar.zst of it"


def find(root: Path, name: str) -> Path:
    """The release `name` at or below `root`, checked. Raises HomeportError if there is none."""
    for directory, below, _ in os.walk(root):
        if "releases" in below and (Path(directory) / "releases" / MARK).is_file():
            return check(Path(directory), name)
        below[:] = sorted(below)
    raise HomeportError("there is no mix release in it", str(root), FIX)


def check(release_dir: Path, name: str) -> Path:
    """The directory, if it is the complete mix release `name`. Raises HomeportError if it is not."""
    missing = [part for part in (f"bin/{name}", f"releases/{MARK}") if not (release_dir / part).is_file()]
    if missing:
        what = f"this is not the mix release {name}: {missing[0]} is missing"
        raise HomeportError(what, str(release_dir), f"set `release.name` in deploy.yml, or {FIX}")
    if not list(release_dir.glob("erts-*/bin/beam.smp")):
        what = "the release has no Erlang of its own (erts-*/bin/beam.smp), and the host has none"
        raise HomeportError(what, str(release_dir), "remove `include_erts: false` from mix.exs")
    return release_dir


@contextmanager
def from_artifact(path: Path, name: str) -> Iterator[Path]:
    """The directory of a release that was built elsewhere; a tar is unpacked for the time of the block.

    Raises HomeportError if the path does not exist, is not the release `name`, or is an unsafe or damaged tar.
    """
    if path.is_dir():
        yield find(path, name)
        return
    if not path.is_file():
        raise HomeportError("there is no such artifact", str(path), FIX, ExitCode.USAGE)
    with tempfile.TemporaryDirectory(prefix="homeport-") as work:
        yield find(_unpack(path, Path(work)), name)


def _unpack(path: Path, work: Path) -> Path:
    try:
        artifact.unpack(_uncompress(path, work), work / "release")
    except artifact.ArtifactError as error:
        raise HomeportError(error.what, str(path), FIX) from None
    except (OSError, EOFError, zstd.ZstdError) as error:
        raise HomeportError(f"the artifact cannot be unpacked: {error}", str(path), FIX) from None
    return work / "release"


def _uncompress(path: Path, work: Path) -> Path:
    """The uncompressed tar; compression is recognised by the first bytes, not by the name."""
    with path.open("rb") as file:
        magic = file.read(4)
    opened = gzip.open if magic[:2] == b"\x1f\x8b" else zstd.open if magic == b"\x28\xb5\x2f\xfd" else None
    if opened is None:
        return path
    with opened(path, "rb") as packed, (work / "plain.tar").open("wb") as plain:
        shutil.copyfileobj(packed, plain, 1 << 20)
    return work / "plain.tar"
