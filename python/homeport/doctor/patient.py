"""What the checks look at, and the checks' one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from homeport.config.layers import Loaded
from homeport.config.model import Config
from homeport.remote.host_key import resolved
from homeport.remote.session import Session
from hostctl.common.documents import Json
from hostctl.common.finding import Finding


@dataclass(frozen=True)
class Patient:
    """One app, its host, and what hostctl told of the host; `host` is None where it could not be asked."""

    session: Session
    host: Json | None = None

    @property
    def loaded(self) -> Loaded:
        return self.session.loaded

    @property
    def config(self) -> Config:
        return self.session.loaded.config

    @property
    def address(self) -> str:
        """Where the host is looked for from outside."""
        return self.config.verify.address or resolved(self.session.target)[0]


class Check(NamedTuple):
    """`look` may raise whatever it likes: that is a finding as well. `of_host`: it needs what the host has told."""

    name: str
    look: Callable[[Patient], Iterable[Finding]]
    of_host: bool = False
