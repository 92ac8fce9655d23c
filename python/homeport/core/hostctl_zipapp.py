"""Packs hostctl into one file: a zip that Python runs, with the same bytes for the same source.

Provisioning copies that file to the host. There
the zip unpacks itself when root first runs it: Python keeps compiled bytecode for a directory but not for a zip, and
compiling takes longer than most verbs.
"""

from __future__ import annotations

import hashlib
import zipfile
from io import BytesIO
from pathlib import Path

from platformdirs import user_cache_path

import hostctl

SHEBANG = b"#!/usr/bin/python3 -IS\n"
FIXED_TIME = (1980, 1, 1, 0, 0, 0)

# Runs on the host before anything of hostctl is imported; HASH is replaced by the hash of the source.
ENTRY = '''\
"""Run hostctl from its unpacked copy; make that copy when root finds none."""

import os
import sys

LIBRARY = "/usr/local/lib/homeport"
COPY = LIBRARY + "/hostctl-HASH"


def unpack() -> None:
    import tempfile
    import zipfile

    os.makedirs(LIBRARY, exist_ok=True)
    fresh = tempfile.mkdtemp(dir=LIBRARY, prefix=".hostctl-")
    zipfile.ZipFile(sys.path[0]).extractall(fresh)
    os.chmod(fresh, 0o755)
    for directory, names, files in os.walk(fresh):
        for name in names + files:
            os.chmod(os.path.join(directory, name), 0o755 if name in names else 0o644)
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
if not os.path.isdir(COPY) and os.geteuid() == 0:
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
    entry = ENTRY.replace("HASH", digest[:12]).encode()
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


def packed() -> Path:
    """The zipapp in the user's cache, packed if need be. Its name has the digest of its source."""
    # two versions of Homeport may provision at the same time
    target = user_cache_path("homeport") / f"hostctl-{_digest(_sources())[:12]}.pyz"
    if not target.exists():
        build(target)
    return target
