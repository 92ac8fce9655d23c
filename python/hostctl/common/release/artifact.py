"""The artifact format: packs a release into a normalised tar, and unpacks a tar into a tree.

Laptop and host use the same code, so they agree on every byte. The digest (sha256 of the normalised tar) is the
identity of a release: the same source, built twice, has the same digest, and nothing needs to be uploaded.
"""
# Plain strings below, since Path objects cost a third of a walk over 1700 files.
# ruff: noqa: PTH101, PTH102, PTH115, PTH117, PTH123, PTH211

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, NamedTuple

from hostctl.common.errors import HostError

# Never change these: another value would change every digest.
FORMAT: Final = tarfile.GNU_FORMAT
PLAIN, EXECUTABLE = 0o644, 0o755
# mix writes a random cookie at every build; the host sets its own through RELEASE_COOKIE.
CONSTANT = {"releases/COOKIE": b"homeport"}
# A release that was started where it was built keeps its runtime configuration there, secrets included.
LEFT_OUT = frozenset({"tmp"})


class ArtifactError(HostError):
    """A tree that cannot become an artifact, or a tar that must not become a tree."""


class Entry(NamedTuple):
    """One member: a file has a sha256, a symlink has a link, a directory has neither. Size in bytes."""

    sha256: str
    mode: int
    size: int
    link: str = ""

    @property
    def is_file(self) -> bool:
        return bool(self.sha256)

    @property
    def is_directory(self) -> bool:
        return not self.sha256 and not self.link


Manifest = dict[str, Entry]
Known = Mapping[tuple[str, int], Path]


def to_json(manifest: Manifest) -> str:
    """The manifest as JSON, as the host stores it beside the release."""
    return json.dumps({name: list(entry) for name, entry in manifest.items()}, separators=(",", ":"))


def from_json(text: str) -> Manifest:
    """The manifest that `to_json` wrote. Raises ValueError for anything else."""
    try:
        return {name: Entry(*fields) for name, fields in json.loads(text).items()}
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not a manifest: {error}") from None


def known_files(root: Path, manifest: Manifest) -> dict[tuple[str, int], Path]:
    """The files of the tree `root` by sha256 and size, for the hard links of `unpack`."""
    base = str(root)
    return {(e.sha256, e.size): Path(f"{base}/{name}") for name, e in manifest.items() if e.is_file}


# ---------------------------------------------------------------------------------------------- tree -> tar


def normalise(release_dir: Path, tar: Path) -> str:
    """Write the normalised tar of the release directory to `tar`, whole or not at all; return its digest.

    Raises ArtifactError for a device, a symlink that leaves the tree, or a file that changes meanwhile.
    """
    return pack(release_dir, _walk(str(release_dir)), tar)


def pack(root: Path, names: Iterable[str], tar: Path) -> str:
    """As `normalise`, but only the named members (POSIX paths relative to `root`) and their parents."""
    members = sorted({parent for name in names for parent in _with_parents(name)}, key=os.fsencode)
    part = tar.with_name(f".{tar.name}.part")
    try:
        with part.open("wb", buffering=1 << 20) as out:
            hexdigest = _write(str(root), members, out)
        part.replace(tar)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return hexdigest


def _walk(root: str) -> Iterator[str]:
    """Every path below `root`, relative to it."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(f"{root}/{prefix}") as listing:
            for item in listing:
                name = prefix + item.name
                if name in LEFT_OUT:
                    continue
                yield name
                if item.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")


def _with_parents(name: str) -> Iterator[str]:
    yield name
    while (name := name.rpartition("/")[0]) != "":
        yield name


def _write(root: str, members: list[str], out: IO[bytes]) -> str:
    """Header, data, padding for each member, then the end of the tar."""
    hashed = hashlib.sha256()
    for name in members:
        header, data = _member(root, name)
        block = header + data + bytes(-len(data) % tarfile.BLOCKSIZE)
        hashed.update(block)
        out.write(block)
    end = bytes(2 * tarfile.BLOCKSIZE)
    hashed.update(end)
    out.write(end)
    return hashed.hexdigest()


def _member(root: str, name: str) -> tuple[bytes, bytes]:
    path = f"{root}/{name}"
    found = os.lstat(path)
    info = tarfile.TarInfo(name)
    data = b""
    if stat.S_ISREG(found.st_mode):
        data = CONSTANT[name] if name in CONSTANT else _read(path, found.st_size)
        info.size, info.mode = len(data), _mode(found.st_mode)
    elif stat.S_ISDIR(found.st_mode):
        info.type, info.mode = tarfile.DIRTYPE, EXECUTABLE
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, _kept_link(root, name)
    else:
        raise ArtifactError("a release cannot contain a device, socket or FIFO", path, f"rm {path}")
    return info.tobuf(FORMAT, "utf-8", "surrogateescape"), data


def _read(path: str, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        data = file.readall()
    if len(data) != size:
        raise ArtifactError("the file changed while it was read", path, "run the command again")
    return data


def _kept_link(root: str, name: str) -> str:
    target = os.readlink(f"{root}/{name}")
    if os.path.isabs(target) or not _inside(root, f"{root}/{name}"):
        raise ArtifactError(
            f"the symlink points out of the tree, to {target}",
            f"{root}/{name}",
            "replace it by the file it points to, or remove it",
        )
    return target


def _mode(mode: int) -> int:
    """The two modes a release knows; setuid and setgid are dropped."""
    return EXECUTABLE if mode & 0o111 else PLAIN


def _inside(root: str, path: str) -> bool:
    """Whether `path`, with every symlink resolved, is `root` or below it."""
    real_root = os.path.realpath(root)
    return os.path.commonpath([real_root, os.path.realpath(path)]) == real_root


# ---------------------------------------------------------------------------------------------- tar -> tree


def unpack(tar: Path, dest: Path, known: Known | None = None) -> Manifest:
    """Make the tree `dest` of a tar; files that `known` has (by sha256 and size) become hard links to it.

    `dest` appears whole and on disk, or not at all. The tar may come from anywhere: raises ArtifactError for
    a name or link that leaves the tree, a device, a name that comes twice, or damage; and when `dest` is
    there already.
    """
    if os.path.lexists(dest):
        raise ArtifactError("the release is unpacked already", str(dest), f"rm -r {dest}")
    part = dest.with_name(f".{dest.name}.part")
    _remove(part)
    try:
        part.mkdir(mode=EXECUTABLE)
        part.chmod(EXECUTABLE)
        manifest = _unpack(tar, str(part), known or {})
        _sync(part)
        part.rename(dest)
    except BaseException:
        _remove(part)
        raise
    _fsync(dest.parent)
    return manifest


def _unpack(tar: Path, root: str, known: Known) -> Manifest:
    with tar.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise ArtifactError("the tar is empty", str(tar)) from None
        with data, memoryview(data) as view, _Tree(str(tar), root, view, known) as tree:
            for member in _members(file, tar, view):
                tree.add(member)
            return tree.finish()


def _members(file: IO[bytes], tar: Path, view: memoryview) -> Iterator[tarfile.TarInfo]:
    """Every member. tarfile takes damage between two members for the end, so the end is checked."""
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as reader:
            while (member := reader.next()) is not None:
                yield member
            end = bytes(view[reader.offset : reader.offset + tarfile.BLOCKSIZE])
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError) as error:
        raise ArtifactError(f"the tar is damaged: {error}", str(tar)) from None
    if end != bytes(tarfile.BLOCKSIZE):
        raise ArtifactError("the tar is damaged or cut short", f"{tar} at byte {reader.offset}")


class _Tree:
    """Writes a tree from the members of a tar, and never through a symlink."""

    def __init__(self, tar: str, root: str, view: memoryview, known: Known) -> None:
        self.tar, self.root, self.view, self.known = tar, root, view, known
        self.manifest: Manifest = {}
        self.implied: set[str] = set()

    def __enter__(self) -> _Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.view = memoryview(b"")

    def add(self, member: tarfile.TarInfo) -> None:
        name = self._clean(member)
        if not name:
            return
        if name in self.manifest and not (name in self.implied and member.isdir()):
            raise self._refused(name, "comes twice")
        self._parents(name)
        self.manifest[name] = self._entry(name, member)

    def finish(self) -> Manifest:
        """The manifest. Raises ArtifactError for a symlink that leaves the tree, directly or through others."""
        for name, entry in self.manifest.items():
            if entry.link and not _inside(self.root, f"{self.root}/{name}"):
                raise self._refused(name, f"is a symlink that leaves the tree, to {entry.link}")
        return self.manifest

    def _clean(self, member: tarfile.TarInfo) -> str:
        parts = member.name.split("/")
        if member.name.startswith("/") or ".." in parts or "\0" in member.name:
            raise self._refused(member.name, "leaves the tree")
        name = "/".join(part for part in parts if part not in ("", "."))
        if not name and not member.isdir():
            raise self._refused(member.name, "has no name")
        return name

    def _parents(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if not parent:
            return
        entry = self.manifest.get(parent)
        if entry is None:
            self._parents(parent)
            self.implied.add(parent)
            self.manifest[parent] = self._directory(parent)
        elif not entry.is_directory:
            raise self._refused(name, "is below something that is not a directory")

    def _entry(self, name: str, member: tarfile.TarInfo) -> Entry:
        if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and member.sparse is None:
            return self._file(name, member)
        if member.isdir():
            return self._directory(name)
        if member.issym():
            return self._symlink(name, member.linkname)
        if member.islnk():
            return self._hard_link(name, member.linkname)
        raise self._refused(name, "is a device, FIFO or sparse file")

    def _directory(self, name: str) -> Entry:
        if name not in self.manifest:
            os.mkdir(f"{self.root}/{name}", EXECUTABLE)
            os.chmod(f"{self.root}/{name}", EXECUTABLE)
        return Entry("", EXECUTABLE, 0)

    def _symlink(self, name: str, target: str) -> Entry:
        if not target or target.startswith("/") or "\0" in target:
            raise self._refused(name, "is an absolute or empty symlink")
        os.symlink(target, f"{self.root}/{name}")
        return Entry("", 0o777, len(os.fsencode(target)), target)

    def _hard_link(self, name: str, linkname: str) -> Entry:
        target = "/".join(part for part in linkname.split("/") if part not in ("", "."))
        entry = self.manifest.get(target)
        if entry is None or not entry.is_file or linkname.startswith("/"):
            raise self._refused(name, f"is a hard link to something that is not an earlier file: {linkname}")
        os.link(f"{self.root}/{target}", f"{self.root}/{name}", follow_symlinks=False)
        return entry

    def _file(self, name: str, member: tarfile.TarInfo) -> Entry:
        start, size = member.offset_data, member.size
        if size < 0 or start + size > len(self.view):
            raise self._refused(name, "is cut short")
        with self.view[start : start + size] as data:
            entry = Entry(hashlib.sha256(data).hexdigest(), _mode(member.mode), size)
            if not self._linked(name, entry):
                self._written(name, entry, data)
        return entry

    def _linked(self, name: str, entry: Entry) -> bool:
        """Hard-link a known file of the same bytes and mode (a link shares both); whether that was possible."""
        source = self.known.get((entry.sha256, entry.size))
        if source is None:
            return False
        with suppress(OSError):  # gone, on another file system, or too many links: the caller writes a copy
            found = os.lstat(source)
            if found.st_mode == stat.S_IFREG | entry.mode and found.st_size == entry.size:
                os.link(source, f"{self.root}/{name}", follow_symlinks=False)
                return True
        return False

    def _written(self, name: str, entry: Entry, data: memoryview) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        handle = os.open(f"{self.root}/{name}", flags, entry.mode)
        try:
            os.fchmod(handle, entry.mode)
            done = 0
            while done < entry.size:
                done += os.write(handle, data[done:])
        finally:
            os.close(handle)

    def _refused(self, name: str, why: str) -> ArtifactError:
        return ArtifactError(f"the tar is refused: {name!r} {why}", self.tar, "build the release again")


def _remove(tree: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree(tree)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(tree: Path) -> None:
    """Flush everything below `tree` to disk by one syncfs: an fsync per file would take seconds."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.open(tree, os.O_RDONLY)
    try:
        if libc.syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", str(tree))
    finally:
        os.close(handle)
