"""The subject of the checks, and the type of a check."""

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
    """One app on one host. `host` is the answer of hostctl's doctor; None if it could not be called."""

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
        """The host's address, as seen from outside."""
        return self.config.verify.address or resolved(self.session.target)[0]


class Check(NamedTuple):
    """A check. An exception of `look` becomes a finding. `of_host`: the check needs the answer of the host."""

    name: str
    look: Callable[[Patient], Iterable[Finding]]
    of_host: bool = False
