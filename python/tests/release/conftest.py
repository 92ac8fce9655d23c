"""A small real mix project, and a directory that only looks like a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from .samples import mix_project, write


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return mix_project(tmp_path / "small")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Shaped like a release, without the megabytes."""
    root = tmp_path / "release"
    write(root / "bin" / "shop", "#!/bin/sh\n").chmod(0o755)
    write(root / "erts-13.1.5" / "bin" / "beam.smp", "")
    write(root / "releases" / "start_erl.data", "13.1.5 0.1.0")
    return root
