"""A project directory with a deploy.yml, and what its mistakes read like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from homeport.config.layers import load
from homeport.config.problems import ConfigError

GOOD = "app: shop\nhost: 198.51.100.7\ndomains: [shop.test]\n"


class Project:
    """Writes files and loads them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, text: str | bytes, name: str = "deploy.yml") -> Project:
        data = text.encode() if isinstance(text, str) else text
        (self.root / name).write_bytes(data)
        return self

    def load(self, destination: str | None = None, **rest: object):  # type: ignore[no-untyped-def]
        return load(None, destination, self.root, **rest)  # type: ignore[arg-type]

    def mistakes(self, text: str | bytes, destination: str | None = None) -> list[str]:
        """Every mistake of a deploy.yml, as printed; empty if there is none."""
        self.write(text)
        try:
            self.load(destination)
        except ConfigError as error:
            return [str(problem) for problem in error.problems]
        return []


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def good() -> Callable[[str], str]:
    """A deploy.yml with the three required keys (lines 1 to 3), and more below."""
    return lambda more: GOOD + more
