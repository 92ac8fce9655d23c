"""deploy.yml: found, merged with its destination, validated whole, and turned into what others read."""

from __future__ import annotations

from homeport.config.hostvars import host_vars, settings, target
from homeport.config.layers import Loaded, load
from homeport.config.model import Config
from homeport.config.problems import ConfigError, Origin, Problem
from homeport.config.secret_names import scrub
from homeport.core.redact import Redactor
from homeport.secrets.resolve import backup_secrets, collect

__all__ = [
    "Config",
    "ConfigError",
    "Loaded",
    "Origin",
    "Problem",
    "Redactor",
    "backup_secrets",
    "collect",
    "host_vars",
    "load",
    "scrub",
    "settings",
    "target",
]
