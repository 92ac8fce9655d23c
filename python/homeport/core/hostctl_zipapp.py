"""Packs hostctl into one file: a zip that Python runs, with the same bytes for the same source.

Provisioning copies that file to the host. There
the zip unpacks and compiles itself when root first runs it: Python reads compiled bytecode from a directory but not
from a zip, and compiling takes longer than most verbs. No later run writes anything there (-B): whoever comes through
sudo could limit what it writes (ulimit -f), and so leave broken bytecode to everybody.
"""

from __future__ import annotations

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path

from platformdirs import user_cache_path

import hostctl

SHEBANG = b"#!/usr/bin/python3 -ISB\n"
FIXED_TIME = (1980, 1, 1, 0, 0, 0)

# Runs on the host before anything of hostctl is imported; DIGEST is replaced by the hash of the source.
ENTRY = '''\
"""Run hostctl from its unpacked copy; make that copy when root finds none."""

import os
import sys

LIBRARY = "/usr/local/lib/homeport"
COPY = LIBRARY + "/hostctl-DIGEST-" + str(sys.implementation.cache_tag)


def lift_limits() -> None:
    """Take back the limits of a caller, which come through sudo: they must not cut short what root does."""
    import resource

    endless = resource.RLIM_INFINITY
    wanted = dict.fromkeys(("AS", "CPU", "DATA", "FSIZE", "NPROC", "RSS"), (endless, endless))
    # what systemd gives to a service
    wanted.update({"NOFILE": (1024, 524288), "STACK": (8 << 20, endless), "CORE": (0, endless)})
    for name, limits in wanted.items():
        try:
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), limits)
        except (ValueError, OSError):
            pass  # a root without CAP_SYS_RESOURCE: may_unpack looks at what is left


def may_unpack() -> bool:
    """Whether what this process writes is whole, or an error."""
    import resource

    return resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def compile_all(directory: str) -> None:
    """Compile every module, so that no run has to."""
    import py_compile

    for parent, _, files in list(os.walk(directory)):
        for name in files:
            path = os.path.join(parent, name)
            if name.endswith(".py"):
                shown = COPY + path[len(directory) :]
                mode = py_compile.PycInvalidationMode.UNCHECKED_HASH  # the copy's name has the hash of all of it
                py_compile.compile(path, dfile=shown, doraise=True, invalidation_mode=mode)


def unpack() -> None:
    import tempfile
    import zipfile

    os.makedirs(LIBRARY, exist_ok=True)
    fresh = tempfile.mkdtemp(dir=LIBRARY, prefix=".hostctl-")
    zipfile.ZipFile(sys.path[0]).extractall(fresh)
    compile_all(fresh)
    os.chmod(fresh, 0o755)
    for directory, names, files in os.walk(fresh):
        for name in names + files:
            os.chmod(os.path.join(directory, name), 0o755 if name in names else 0o644)
    os.sync()  # a copy with empty files after a power cut would never be made again
    try:
        os.rename(fresh, COPY)
    except OSError:
        import shutil

        shutil.rmtree(fresh)  # another hostctl was faster
    forget_old()


def forget_old() -> None:
    """Remove copies that have been replaced for a day; a transition may still run from a younger one."""
    import shutil
    import time

    for name in os.listdir(LIBRARY):
        path = os.path.join(LIBRARY, name)
        old = os.stat(path).st_mtime < time.time() - 86400
        if old and name.startswith(("hostctl-", ".hostctl-")) and path != COPY:
            shutil.rmtree(path, ignore_errors=True)


os.umask(0o022)
if os.geteuid() == 0 and "SUDO_USER" in os.environ:
    lift_limits()
if not os.path.isdir(COPY) and os.geteuid() == 0 and may_unpack():
    try:
        unpack()
    except OSError:
        pass  # a full disk: run from the zip
if os.path.isdir(COPY):
    sys.path[0] = COPY

from hostctl.cli import main

sys.exit(main(sys.argv[1:]))
'''


def build(target: Path) -> str:
    """Write the zipapp to `target` (mode 0755); returns the sha256 of the source it was made from."""
    sources = _sources()
    digest = _digest(sources)
    entry = ENTRY.replace("DIGEST", digest[:12]).encode()
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in [(b"__main__.py", entry), *sources]:
            info = zipfile.ZipInfo(name.decode(), FIXED_TIME)
            info.external_attr = 0o100644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            archive.writestr(info, data)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(SHEBANG + packed.getvalue())
    part.chmod(0o755)
    part.replace(target)
    return digest


def _digest(sources: list[tuple[bytes, bytes]]) -> str:
    return hashlib.sha256(b"\0".join(part for item in sources for part in item)).hexdigest()


def _sources() -> list[tuple[bytes, bytes]]:
    """The name in the zip and the content of each Python and Erlang file, sorted."""
    package = Path(hostctl.__file__).parent
    files = [path for path in sorted(package.rglob("*")) if path.suffix in (".py", ".erl")]
    files = [path for path in files if path.name != "__main__.py"]
    return [(path.relative_to(package.parent).as_posix().encode(), path.read_bytes()) for path in files]


def pack() -> Path:
    """The zipapp in the user's cache, packed if need be. Its name has the digest of its source."""
    # two versions of Homeport may provision at the same time
    target = user_cache_path("homeport") / f"hostctl-{_digest(_sources())[:12]}.pyz"
    if not target.exists():
        build(target)
    return target
