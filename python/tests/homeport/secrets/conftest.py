"""Projects for the tests of secrets; no test knows what another has met."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from secretsworld import Project

from homeport.core import redact


@pytest.fixture(autouse=True)
def _nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of `deploy` has met no secret when it begins."""
    monkeypatch.setattr(redact, "_learnt", [])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


@pytest.fixture
def shop(project: Project) -> Project:
    """An app with two secrets, whose vault's password is in a file."""
    project.configure("env: {secret: [SECRET_KEY_BASE, STRIPE_KEY]}\nsecrets: {password_file: .vault}\n")
    project.password()
    return project


@pytest.fixture
def editor(project: Project) -> Callable[[str], dict[str, str]]:
    """An editor that is a script of a shell; "$1" is the file."""

    def make(script: str) -> dict[str, str]:
        path = project.write("bin/editor", f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return {"EDITOR": str(path)}

    return make
