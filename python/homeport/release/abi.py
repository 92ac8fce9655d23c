"""ABI preflight: checks before the upload whether the host can run a release.

Every ELF file of a release (the emulator, NIFs, port programs) has its machine type, the highest GLIBC symbol version
that it needs, the libraries that it loads and its loader; `hostctl inspect` returns what the host has.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from homeport.core.errors import HomeportError
from homeport.release import cache

# More libraries, or versions of one, than any real file has: a damaged count must not loop for ever.
MOST = 1000
# The format of the cache; a change discards the cache of an older Homeport.
FORMAT = 1
DIGEST = re.compile(r"[0-9a-f]{64}")
ELF = b"\x7fELF"
MACHO = (b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xcf")
# The names that `uname -m` prints.
MACHINES = {
    "EM_X86_64": "x86_64",
    "EM_AARCH64": "aarch64",
    "EM_386": "i686",
    "EM_ARM": "armv7l",
    "EM_RISCV": "riscv64",
    "EM_PPC64": "ppc64le",
    "EM_S390": "s390x",
}
# The package of each library, by Debian release: (bookworm, trixie). Trixie renamed those with a 64-bit time_t
# (https://wiki.debian.org/ReleaseGoals/64bit-time).
PACKAGES = {
    "libcrypto.so.3": ("libssl3", "libssl3t64"),
    "libssl.so.3": ("libssl3", "libssl3t64"),
    "libtinfo.so.6": ("libtinfo6", "libtinfo6"),
    "libncurses.so.6": ("libncurses6", "libncurses6"),
    "libncursesw.so.6": ("libncursesw6", "libncursesw6"),
    "libstdc++.so.6": ("libstdc++6", "libstdc++6"),
    "libgcc_s.so.1": ("libgcc-s1", "libgcc-s1"),
    "libatomic.so.1": ("libatomic1", "libatomic1"),
    "libgomp.so.1": ("libgomp1", "libgomp1"),
    "libz.so.1": ("zlib1g", "zlib1g"),
    "libzstd.so.1": ("libzstd1", "libzstd1"),
    "liblzma.so.5": ("liblzma5", "liblzma5"),
    "libsnappy.so.1": ("libsnappy1v5", "libsnappy1v5"),
    "libsctp.so.1": ("libsctp1", "libsctp1"),
    "libodbc.so.2": ("libodbc2", "libodbc2"),
    "libsqlite3.so.0": ("libsqlite3-0", "libsqlite3-0"),
    "libpq.so.5": ("libpq5", "libpq5"),
    "libvips.so.42": ("libvips42", "libvips42t64"),
    "libglib-2.0.so.0": ("libglib2.0-0", "libglib2.0-0t64"),
    "libgobject-2.0.so.0": ("libglib2.0-0", "libglib2.0-0t64"),
    "libmagic.so.1": ("libmagic1", "libmagic1t64"),
    "libcurl.so.4": ("libcurl4", "libcurl4t64"),
    "libpng16.so.16": ("libpng16-16", "libpng16-16t64"),
    "libjpeg.so.62": ("libjpeg62-turbo", "libjpeg62-turbo"),
    "libwebp.so.7": ("libwebp7", "libwebp7"),
    "libsodium.so.23": ("libsodium23", "libsodium23"),
    "libargon2.so.1": ("libargon2-1", "libargon2-1"),
    "libexpat.so.1": ("libexpat1", "libexpat1"),
    "libgmp.so.10": ("libgmp10", "libgmp10"),
    "libffi.so.8": ("libffi8", "libffi8"),
    "libsystemd.so.0": ("libsystemd0", "libsystemd0"),
    "librdkafka.so.1": ("librdkafka1", "librdkafka1"),
}
CODENAMES = ("bookworm", "trixie")
BUILD_THERE = (
    "build for the host: set `release.build: container` in deploy.yml (a container of the host's Debian), "
    "or `release.build: host`"
)


class Need(NamedTuple):
    """The requirements of one ELF file. `glibc` is a version such as "2.34", or ""; `libraries` are sonames."""

    file: str
    machine: str
    glibc: str = ""
    loader: str = ""
    libraries: tuple[str, ...] = ()
    soname: str = ""
    damage: str = ""


class Problem(NamedTuple):
    """One reason why the release cannot run: the file, what it needs, what the host has, and the fix."""

    file: str
    needs: str
    has: str
    fix: str


# ---------------------------------------------------------------------------------------------- what it needs


def requirements(release: Path, known: Path | None = None) -> list[Need]:
    """The requirements of every ELF file of the release (a directory or a tar), sorted by file. Raises OSError.

    They are cached by each file's SHA-256 in `known` (a JSON file in the user's cache), because most files are the same
    in the next release; for a tar named by its digest the whole result is cached.
    """
    store = _Store(known or cache.directory() / "elf.json")
    needs = store.release(release.stem)
    if needs is None:
        needs = _scan(_tar_files(release) if release.is_file() else _files(release), store)
        store.keep(release.stem, needs)
    store.save()
    return needs


def _scan(files: Iterable[tuple[str, bytes]], store: _Store) -> list[Need]:
    shipped: set[str] = set()
    needs = []
    for name, data in files:
        shipped.add(name.rpartition("/")[2])
        if data:
            needs.append(_need(name, data, store))
    shipped |= {need.soname for need in needs}
    return sorted(need._replace(libraries=tuple(lib for lib in need.libraries if lib not in shipped)) for need in needs)


def _files(release_dir: Path, prefix: str = "") -> Iterator[tuple[str, bytes]]:
    """Every regular file, with its bytes if it is a program or library, otherwise with none.

    Symlinks are skipped, because their targets are listed by their own names.
    """
    with os.scandir(f"{release_dir}/{prefix}") as listing:
        for item in listing:
            name = prefix + item.name
            if item.is_dir(follow_symlinks=False):
                yield from _files(release_dir, f"{name}/")
            elif item.is_file(follow_symlinks=False):
                with open(item.path, "rb", buffering=0) as file:  # noqa: PTH123 - once per file of a release
                    yield name, _binary(file.read(4), file.readall)


def _tar_files(tar: Path) -> Iterator[tuple[str, bytes]]:
    """As `_files`, of a normalised tar."""
    with tarfile.open(tar, "r:") as members, tar.open("rb") as file:
        for member in members:
            if member.isreg():
                file.seek(member.offset_data)
                magic = file.read(min(4, member.size))
                yield member.name, _binary(magic, partial(file.read, member.size - len(magic)))


def _binary(magic: bytes, rest: Callable[[], bytes]) -> bytes:
    """The file's bytes if its first four are those of a program or library, otherwise none."""
    return magic + rest() if magic == ELF or magic in MACHO else b""


def _need(name: str, data: bytes, store: _Store) -> Need:
    if data[:4] in MACHO:
        return Need(name, "macOS")
    sha256 = hashlib.sha256(data).hexdigest()
    need = store.get(sha256)
    if need is None:
        need = _read(data)
        store.put(sha256, need)
    return need._replace(file=name)


def _read(data: bytes) -> Need:
    """The requirements of one ELF file. Damage is not raised but returned, so that the check reports it by file."""
    # Imported here: it takes 70 ms, and a push with only cached files does not need it.
    from elftools.elf.elffile import ELFFile

    try:
        return _parse(ELFFile(io.BytesIO(data)))
    except Exception as error:  # any exception of the parser means a damaged file
        return Need("", "", damage=str(error) or type(error).__name__)


def _parse(elf: Any) -> Need:
    if elf["e_type"] == "ET_REL":  # an object file is never loaded
        return Need("", "")
    machine = MACHINES.get(elf["e_machine"], str(elf["e_machine"]))
    dynamic = [tag for part in elf.iter_segments("PT_DYNAMIC") for tag in islice(part.iter_tags(), MOST)]
    loader = next((part.get_interp_name() for part in elf.iter_segments("PT_INTERP")), "")
    libraries = tuple(tag.needed for tag in dynamic if tag.entry.d_tag == "DT_NEEDED")
    soname = next((tag.soname for tag in dynamic if tag.entry.d_tag == "DT_SONAME"), "")
    return Need("", machine, _newest(_glibc_versions(elf)), loader, libraries, soname)


def _glibc_versions(elf: Any) -> Iterator[str]:
    section = elf.get_section_by_name(".gnu.version_r")
    for _, versions in islice(section.iter_versions(), MOST) if section else ():
        for version in islice(versions, MOST):
            family, _, number = version.name.partition("_")
            if family == "GLIBC" and number[:1].isdigit():
                yield number


def _newest(versions: Iterable[str]) -> str:
    return max(versions, key=version_number, default="")


def version_number(version: str) -> tuple[int, ...]:
    """The version as numbers, by which 2.4 comes before 2.36."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


class _Store:
    """The cache of requirements: of files by their SHA-256, of releases by their digest."""

    def __init__(self, path: Path) -> None:
        self.path, self.changed = path, False
        self.entries: dict[str, list[Any]] = self._load()

    def _load(self) -> dict[str, list[Any]]:
        try:
            document = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) and document.pop("format", None) == FORMAT else {}

    def get(self, sha256: str) -> Need | None:
        fields = self.entries.get(sha256)
        return _need_of(fields) if fields else None

    def put(self, sha256: str, need: Need) -> None:
        self.entries[sha256] = list(need)
        self.changed = True

    def release(self, digest: str) -> list[Need] | None:
        fields = self.entries.get(digest)
        return None if fields is None else [_need_of(need) for need in fields]

    def keep(self, digest: str, needs: list[Need]) -> None:
        """Cache a release, but only by a digest: a directory's name does not identify its content."""
        if DIGEST.fullmatch(digest):
            self.entries[digest] = [list(need) for need in needs]
            self.changed = True

    def save(self) -> None:
        if not self.changed:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        newest = list(self.entries.items())[-MOST:]
        part.write_text(json.dumps({**dict(newest), "format": FORMAT}))
        part.replace(self.path)


def _need_of(fields: list[Any]) -> Need:
    file, machine, glibc, loader, libraries, soname, damage = fields
    return Need(file, machine, glibc, loader, tuple(libraries), soname, damage)


# ---------------------------------------------------------------------------------------------- and the host


def check(needs: Iterable[Need], host: Mapping[str, Any]) -> list[Problem]:
    """The reasons why the files cannot run on the host. `host` is the answer of `hostctl inspect`."""
    return [problem for need in needs for problem in _problems(need, host)]


def _problems(need: Need, host: Mapping[str, Any]) -> Iterator[Problem]:
    if need.damage:
        yield Problem(need.file, f"cannot be read as ELF: {need.damage}", "", "build the release again, from clean")
    elif need.machine and need.machine != host["machine"]:
        yield Problem(need.file, f"is for {need.machine}", f"is {host['machine']}", BUILD_THERE)
    elif _is_musl(need):
        yield Problem(need.file, "is linked against musl", f"has glibc {host['glibc']}", BUILD_THERE)
    elif version_number(need.glibc) > version_number(str(host["glibc"])):
        yield Problem(need.file, f"needs glibc {need.glibc}", f"has glibc {host['glibc']}", BUILD_THERE)
    else:
        yield from _missing(need, host)


def _is_musl(need: Need) -> bool:
    return "ld-musl" in need.loader or any(lib.startswith("libc.musl-") for lib in need.libraries)


def _missing(need: Need, host: Mapping[str, Any]) -> Iterator[Problem]:
    installed = set(host["libraries"])
    for library in need.libraries:
        if library not in installed:
            has = "does not have it"
            yield Problem(need.file, f"needs {library}", has, _package(library, host))


def _package(library: str, host: Mapping[str, Any]) -> str:
    codename = host.get("os", {}).get("codename", "")
    if library in PACKAGES and codename in CODENAMES:
        return f"on the host: apt-get install {PACKAGES[library][CODENAMES.index(codename)]}"
    return BUILD_THERE


def refusal(problems: Sequence[Problem], host: str) -> HomeportError:
    """The problems as one error; files with the same problem are listed together."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for file, needs, has, fix in problems:
        grouped.setdefault((needs, has, fix), []).append(file)
    lines = [f"{_file_list(files)} {needs}{_host_has(has, host)}" for (needs, has, _), files in grouped.items()]
    fixes = dict.fromkeys(fix for _, _, fix in grouped)
    what = "the release would not run on the host: " + "; ".join(lines)
    return HomeportError(what, where=f"{problems[0].file} (in the release)", fix="; ".join(fixes))


def _file_list(files: list[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more:"


def _host_has(has: str, host: str) -> str:
    return f", {host} {has}" if has else ""
