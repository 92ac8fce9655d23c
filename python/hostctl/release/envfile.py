"""The environment of an instance, in the syntax of systemd's EnvironmentFile=, which a shell reads too.

Between double quotes systemd takes every character literally, newlines included, except a backslash before one of
" \\ ` $ (systemd, src/basic/env-file.c, SHELL_NEED_ESCAPE). So every value is written and read that way. A POSIX shell
escapes the same four (Shell Command Language, 2.2.3).
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

AGENT = "agent.erl"  # in the directory of a release's record
DIST_PORT = 4370  # of every console's node, each at a loopback address of its own; an instance only connects to it

# variables that hostctl sets; an app's settings cannot override them
RESERVED = frozenset(
    {"CREDENTIALS_DIRECTORY", "HOMEPORT_APP", "HOMEPORT_RELEASE", "PORT", "RELEASE_COOKIE", "RELEASE_TMP"}
)


def render(values: Mapping[str, str]) -> str:
    """The text of the file, in the order of the mapping. Raises HostError (usage) for an invalid name or value."""
    return "".join(f'{name}="{_quoted(name, value)}"\n' for name, value in values.items())


def _quoted(name: str, value: str) -> str:
    """A value with its special characters escaped. Raises HostError (usage)."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise _invalid(name, "is not valid Unicode") from None
    if not matches("variable", name):
        raise _invalid(name, "is not a valid name")
    if "\0" in value or size > LONGEST:
        raise _invalid(name, f"holds a NUL or is longer than {LONGEST} bytes")
    return re.sub(r'(["\\`$])', r"\\\1", value)


def _invalid(name: str, why: str) -> HostError:
    return HostError(f"the variable {name[:80]} {why}", "env in deploy.yml", "correct its name or value", USAGE)


def parse(text: str) -> dict[str, str]:
    """The variables in the text of `render`. Raises ValueError for any other text."""
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _ASSIGNMENT.match(text, at)
        if match is None:
            raise ValueError(f"not an environment file of hostctl, at character {at}")
        values[match[1]] = re.sub(r'\\(["\\`$])', r"\1", match[2])
        at = match.end()
    return values


def complete(app: str, release: str, cookie: str, domain: str, configured: Mapping[str, str]) -> dict[str, str]:
    """The environment of an instance without its port: defaults, the `configured` variables, and those of hostctl."""
    defaults = {
        # a dump contains the app's secrets, and writing it delays the restart
        "ERL_CRASH_DUMP_SECONDS": "0",
        "LANG": "C.UTF-8",
        "MIX_ENV": "prod",
        "PHX_HOST": domain,
        "PHX_SERVER": "true",
        # a node that does not listen: instance/agent.py describes how a console reaches it
        "RELEASE_DISTRIBUTION": "name",
        "RELEASE_NODE": f"{app}@127.0.0.1",
    }
    decided = {
        "RELEASE_COOKIE": cookie,
        "RELEASE_TMP": f"/run/homeport-{app}/{release}",
        "ERL_ZFLAGS": f"{configured.get('ERL_ZFLAGS', '')} {_flags(app, release)}".strip(),
        "HOMEPORT_APP": app,
        "HOMEPORT_RELEASE": release,
    }
    return {**defaults, **configured, **decided}


def _flags(app: str, release: str) -> str:
    """The flags of the Erlang runtime: do not listen, do not start epmd, evaluate the agent of the consoles."""
    path = f"/var/lib/homeport/{app}/releases/{release}/{AGENT}"
    return f'-start_epmd false -dist_listen false -erl_epmd_port {DIST_PORT} -eval file:eval(\\"{path}\\")'


def digest(key: str, values: Mapping[str, str]) -> str:
    """A keyed hash of the environment. Without the key a person who sees it cannot test a guessed secret."""
    text = render(dict(sorted(values.items())))
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def digests(key: str, values: Mapping[str, str]) -> dict[str, str]:
    """A keyed hash of each variable, by name: it shows a change, and without the key nothing else."""
    return {name: named_digest(key, name, sha256(value)) for name, value in values.items()}


def named_digest(key: str, name: str, fingerprint: str) -> str:
    """The keyed hash of a variable whose value has that SHA-256. A plan has only this of a secret."""
    return hmac.new(key.encode(), f"{name} {fingerprint}".encode(), hashlib.sha256).hexdigest()[:16]


def sha256(value: str) -> str:
    """The SHA-256 of a value."""
    return hashlib.sha256(value.encode()).hexdigest()
