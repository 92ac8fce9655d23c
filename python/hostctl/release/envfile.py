"""The environment of an instance, in the syntax of systemd's EnvironmentFile=, which is a shell's as well.

Between double quotes systemd takes every character as it is, newlines too, but for a backslash before one of
" \\ ` $ (systemd, src/basic/env-file.c, SHELL_NEED_ESCAPE). So every value is written that way, and read back
the same. A POSIX shell knows the same four (Shell Command Language, 2.2.3).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from hostctl.common.errors import USAGE, HostError
from hostctl.common.names import matches

LONGEST = 100_000  # bytes; the kernel refuses a single variable of 128 KiB
_ASSIGNMENT = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\["\\`$])*)"\n')

AGENT = "agent.erl"  # beside the record of a release
DIST_PORT = 4370  # of every console's node, each at a loopback address of its own; an instance only connects to it

# What hostctl alone decides; an app's settings never override these.
RESERVED = frozenset(
    {"CREDENTIALS_DIRECTORY", "HOMEPORT_APP", "HOMEPORT_RELEASE", "PORT", "RELEASE_COOKIE", "RELEASE_TMP"}
)


def render(values: Mapping[str, str]) -> str:
    """The file's text, in the order of the mapping.

    Raises HostError (usage) for what no environment can hold.
    """
    return "".join(f'{name}="{_quoted(name, value)}"\n' for name, value in values.items())


def _quoted(name: str, value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise _bad(name, "is not valid Unicode") from None
    if not matches("variable", name):
        raise _bad(name, "is not a name for a variable")
    if "\0" in value or size > LONGEST:
        raise _bad(name, f"holds a NUL or is longer than {LONGEST} bytes")
    return re.sub(r'(["\\`$])', r"\\\1", value)


def _bad(name: str, why: str) -> HostError:
    return HostError(f"the variable {name[:80]} {why}", "env in deploy.yml", "correct its name or value", USAGE)


def parse(text: str) -> dict[str, str]:
    """What `render` wrote. Raises ValueError for anything else."""
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        found = _ASSIGNMENT.match(text, at)
        if found is None:
            raise ValueError(f"not an environment file of hostctl, at character {at}")
        values[found[1]] = re.sub(r'\\(["\\`$])', r"\1", found[2])
        at = found.end()
    return values


def complete(app: str, release: str, cookie: str, domain: str, given: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of an instance but its port: defaults, the app's own, and what only hostctl
    decides.
    """
    defaults = {
        # a dump holds the app's secrets, and writing it keeps visitors waiting for the restart
        "ERL_CRASH_DUMP_SECONDS": "0",
        "LANG": "C.UTF-8",
        "MIX_ENV": "prod",
        "PHX_HOST": domain,
        "PHX_SERVER": "true",
        # a node that listens nowhere: agent.py says how a console finds it
        "RELEASE_DISTRIBUTION": "name",
        "RELEASE_NODE": f"{app}@127.0.0.1",
    }
    decided = {
        "RELEASE_COOKIE": cookie,
        "RELEASE_TMP": f"/run/homeport-{app}/{release}",
        "ERL_ZFLAGS": f"{given.get('ERL_ZFLAGS', '')} {_flags(app, release)}".strip(),
        "HOMEPORT_APP": app,
        "HOMEPORT_RELEASE": release,
    }
    return {**defaults, **given, **decided}


def _flags(app: str, release: str) -> str:
    """What the runtime of an instance is told: listen nowhere, need no epmd, evaluate the agent, by which it is met."""
    path = f"/var/lib/homeport/{app}/releases/{release}/{AGENT}"
    return f'-start_epmd false -dist_listen false -erl_epmd_port {DIST_PORT} -eval file:eval(\\"{path}\\")'


def digest(key: str, values: Mapping[str, str]) -> str:
    """A keyed hash of the environment, so that a record that is shown tells nobody whether a guessed secret
    is right.
    """
    text = render(dict(sorted(values.items())))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def digests(key: str, values: Mapping[str, str]) -> dict[str, str]:
    """For each variable what tells whether it is another one than before, and without the key nothing else."""
    return {name: named_digest(key, name, sha256(value)) for name, value in values.items()}


def named_digest(key: str, name: str, fingerprint: str) -> str:
    """The digest of a variable whose value has that SHA-256: a plan knows no more of a secret."""
    return hmac.new(key.encode(), f"{name} {fingerprint}".encode(), hashlib.sha256).hexdigest()[:16]


def sha256(value: str) -> str:
    """The SHA-256 of a value."""
    return hashlib.sha256(value.encode()).hexdigest()
