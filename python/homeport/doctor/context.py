"""What every check gets: the app, the host and its answer; and the type of a check."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from homeport.config.layers import Loaded
from homeport.config.model import Config
from homeport.remote.host_key import resolve
from homeport.remote.session import Session
from hostctl.common.documents import Json
from hostctl.common.finding import Finding


@dataclass(frozen=True)
class Context:
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
        return self.config.verify.address or resolve(self.session.target)[0]


class Check(NamedTuple):
    """A check. An exception of `find` becomes a finding. `needs_host`: skip it without the host's answer."""

    name: str
    find: Callable[[Context], Iterable[Finding]]
    needs_host: bool = False
