from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from homeport.core import pinned_programs
from homeport.core.errors import HomeportError
from homeport.core.pinned_programs import Program

CONTENT = b"#!/bin/sh\necho pinned\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index of one wheel for one architecture, as the user's pip configuration would name it."""
    directory = tmp_path / "index"
    directory.mkdir()
    wheel = directory / "tool_bin-1.2-py3-none-manylinux2014_x86_64.musllinux_1_1_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tool_bin-1.2.data/scripts/tool", CONTENT)
        archive.writestr("tool_bin-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: tool-bin\nVersion: 1.2\n")
        archive.writestr("tool_bin-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-manylinux2014_x86_64\n")
        archive.writestr("tool_bin-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return directory


def pin(monkeypatch: pytest.MonkeyPatch, content: bytes, executable: str = "tool") -> None:
    sums = dict.fromkeys(("x86_64", "aarch64"), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(
        pinned_programs, "programs", lambda: {"tool": Program("tool", "tool-bin", "1.2", executable, sums)}
    )


def kept(tmp_path: Path) -> list[str]:
    return [path.name for path in tmp_path.glob("cache/homeport/programs/*")]


def test_every_pinned_program_has_a_sum_for_both_architectures() -> None:
    for program in pinned_programs.programs().values():
        assert set(program.sha256) == {"x86_64", "aarch64"}
        assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in program.sha256.values())


def test_what_is_fetched_is_the_executable_of_the_wheel(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, CONTENT)
    fetched = pinned_programs.fetch("tool", "x86_64")
    assert fetched.read_bytes() == CONTENT
    assert fetched.stat().st_mode & 0o777 == 0o755
    assert kept(tmp_path) == ["tool-1.2-x86_64"]


def test_a_second_fetch_needs_no_index(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, CONTENT)
    first = pinned_programs.fetch("tool", "x86_64")
    next(index.iterdir()).unlink()
    assert pinned_programs.fetch("tool", "x86_64") == first


def test_a_cached_program_that_was_changed_is_fetched_again(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, CONTENT)
    pinned_programs.fetch("tool", "x86_64").write_bytes(b"changed")
    assert pinned_programs.fetch("tool", "x86_64").read_bytes() == CONTENT


def test_another_executable_than_the_pinned_one_is_refused_and_not_kept(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, b"what was pinned")
    with pytest.raises(HomeportError, match="another executable"):
        pinned_programs.fetch("tool", "x86_64")
    assert kept(tmp_path) == []


def test_a_failed_download_shows_what_pip_said(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, CONTENT)
    with pytest.raises(HomeportError, match=r"No matching distribution found for tool-bin==1\.2"):
        pinned_programs.fetch("tool", "aarch64")


def test_a_wheel_without_the_executable_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin(monkeypatch, CONTENT, executable="other")
    with pytest.raises(HomeportError, match="holds no executable 'other'"):
        pinned_programs.fetch("tool", "x86_64")


@pytest.mark.parametrize(("name", "machine"), [("nothing", "x86_64"), ("caddy", "sparc")])
def test_an_unknown_program_or_architecture_is_refused_with_those_known(name: str, machine: str) -> None:
    with pytest.raises(HomeportError) as caught:
        pinned_programs.fetch(name, machine)
    assert re.search("litestream|aarch64", caught.value.fix)
