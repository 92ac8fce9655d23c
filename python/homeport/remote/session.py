"""The session of a verb with its host: the configuration, the login, and hostctl."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from homeport.config.hostvars import host_vars, target
from homeport.config.layers import Loaded, load
from homeport.config.secret_names import scrub
from homeport.core.provision_stamp import stamp
from homeport.options.options import Options
from homeport.remote import hostctl as remote_hostctl
from homeport.secrets.resolve import Secrets, collect
from homeport.ssh import connection


@dataclass(frozen=True)
class Session:
    """One app on one host, as the options name it."""

    loaded: Loaded
    options: Options

    @cached_property
    def host_vars(self) -> dict[str, Any]:
        """The variables that every playbook gets, with the provision stamp."""
        variables = host_vars(self.loaded)
        return {**variables, "homeport_stamp": stamp(variables)}

    @cached_property
    def secrets(self) -> Secrets:
        """The values of all secrets. They are removed from the environment, so that no child process inherits one.

        Raises HomeportError for a value that cannot be kept secret.
        """
        values = collect(self.loaded, os.environ)
        scrub(self.loaded.config, os.environ)
        return values

    @property
    def app(self) -> str:
        return self.loaded.config.app

    @property
    def target(self) -> connection.Target:
        """Where the deploy user logs in."""
        return target(self.loaded)

    @property
    def provision_target(self) -> connection.Target:
        """Where the user who provisions logs in."""
        return target(self.loaded, provision=True)

    @property
    def hostctl(self) -> remote_hostctl.Hostctl:
        return remote_hostctl.over_ssh(self.app, self.target)


def begin(options: Options) -> Session:
    """Load the configuration that the options name. Raises ConfigError with every mistake in it."""
    loaded = load(options.config, options.destination)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return Session(loaded, options)
