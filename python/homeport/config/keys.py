"""Messages for unknown keys of deploy.yml: the key that was probably meant, and its section."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache

from homeport.config.accessories import Accessory
from homeport.config.cron import Job
from homeport.config.document import Node
from homeport.config.fields import Section
from homeport.config.model import Config
from homeport.config.notify import Notify
from homeport.config.problems import Path, key_text

_NO_IMAGE = "is not needed: a release is sent to the host as it is, without an image"

# keys of Kamal's deploy.yml (kamal-deploy.org/docs/configuration) that have another name expected
KAMAL = {
    "service": "in Homeport this is app",
    "image": _NO_IMAGE,
    "registry": _NO_IMAGE,
    "servers": "in Homeport this is host, and there is one",
    "servers.web": "in Homeport this is host, and there is one",
    "proxy": "in Homeport this is domains and health",
    "proxy.host": "in Homeport this is domains",
    "proxy.hosts": "in Homeport this is domains",
    "proxy.ssl": "is not needed: HTTPS is always on",
    "proxy.app_port": "is not needed: every instance gets its PORT from Homeport",
    "proxy.healthcheck": "in Homeport this is health",
    "proxy.response_timeout": "is not needed: requests may take as long as they do",
    "healthcheck": "in Homeport this is health",
    "health_check": "in Homeport this is health",
    "deploy_timeout": "in Homeport this is health.deploy_timeout",
    "readiness_delay": "in Homeport this is health.interval",
    "builder": "in Homeport this is release.build",
    "builder.dockerfile": "in Homeport this is release.containerfile",
    "builder.args": "in Homeport this is release.env",
    "retain_containers": "in Homeport this is retain_releases",
    "stop_wait_time": "in Homeport this is drain_timeout",
    "asset_path": "is not needed: the digested files of kept releases stay reachable",
    "volumes": "is not needed: the app's own data is in /var/lib/<app>",
    "aliases": "is not there in Homeport",
    "ssh.keys": "in Homeport this is ssh.key",
    "ssh.proxy": "belongs in ~/.ssh/config (ProxyJump)",
    "ssh.proxy_command": "belongs in ~/.ssh/config (ProxyCommand)",
    "env.secrets": "in Homeport this is env.secret",
    "domain": "in Homeport this is domains, a list",
    "release.containerfile_path": "in Homeport this is release.containerfile",
}


@cache
def levels() -> dict[Path, tuple[str, ...]]:
    """The keys of every section, by the section's path."""
    return dict(_levels(Config, ()))


def _levels(section: type[Section], path: Path) -> list[tuple[Path, tuple[str, ...]]]:
    found = [(path, tuple(section.model_fields))]
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            found += _levels(field.annotation, (*path, name))
    return found


def unknown_key(path: Path, node: Node | None = None) -> list[tuple[Path, str]]:
    """The mistakes for an unknown key; for keys of Kamal below it, one for each of these."""
    below = node.value if node and isinstance(node.value, dict) else {}
    of_kamal = [(*path, name) for name in below if key_text((*path, name)) in KAMAL]
    if of_kamal:
        return [(key, KAMAL[key_text(key)]) for key in of_kamal]
    return [(path, _message(path))]


def _message(path: Path) -> str:
    text = key_text(path)
    if text in KAMAL:
        return KAMAL[text]
    name, expected = str(path[-1]), _expected_keys(path[:-1])
    hint = _variable_hint(path) or _similar_key_hint(name, expected) or _section_hint(name)
    return f"unknown key{hint} (expected one of: {', '.join(expected)})"


def _expected_keys(parent: Path) -> tuple[str, ...]:
    if parent[:1] == ("accessories",):
        return tuple(Accessory.model_fields)
    if parent[:1] == ("cron",):
        return tuple(Job.model_fields)
    if parent[:1] == ("notify",):
        return tuple(Notify.model_fields)
    return ("name", "redirect_to", "certificate", "key") if parent[:1] == ("domains",) else levels().get(parent, ())


def _variable_hint(path: Path) -> str:
    if path[:-1] == ("env",) and re.fullmatch(r"[A-Z][A-Z0-9_]*", str(path[-1])):
        return "; a variable belongs in env.clear, or its name alone in env.secret"
    return ""


def _similar_key_hint(name: str, expected: tuple[str, ...]) -> str:
    if any(name in keys for keys in levels().values()):
        return ""
    close = get_close_matches(name.lower().replace("-", "_")[:40], expected, 1, 0.7)
    return f'; did you mean "{close[0]}"?' if close else ""


def _section_hint(name: str) -> str:
    places = [key_text((*path, name)) for path, keys in levels().items() if name in keys]
    return f"; it belongs in {' or '.join(places)}" if places else ""
