"""The schemas of the documents that the laptop sends, and the check of a document against its schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, cast

from hostctl.common.documents import PushSpec
from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.common.names import matches

LARGEST = 4 << 20  # bytes
Check = Callable[[Any], bool]


def number(low: float, high: float) -> Check:
    return lambda value: type(value) in (int, float) and low <= value <= high


def whole(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def name(kind: str) -> Check:
    return lambda value: matches(kind, value)


def either(check: Check, other: object) -> Check:
    return lambda value: value == other or check(value)


def one_of(*values: str) -> Check:
    return lambda value: value in values


def list_of(check: Check, at_least: int = 0) -> Check:
    return lambda value: isinstance(value, list) and len(value) >= at_least and all(check(item) for item in value)


def mapping(check: Check) -> Check:
    """A mapping of variable names to values that pass."""
    return lambda value: (
        isinstance(value, dict) and all(matches("variable", key) and check(item) for key, item in value.items())
    )


def text(value: Any) -> bool:
    return isinstance(value, str)


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def argument(value: Any) -> bool:
    """Whether the value can be an argument of a program: the kernel accepts at most 128 KiB."""
    return isinstance(value, str) and "\0" not in value and len(value.encode("utf-8", "replace")) <= 100_000


SECONDS = number(0, 86_400)

# by engine
DATABASES: dict[str, Json] = {
    "sqlite": {
        "engine": text,
        "path": name("path"),
        "settings": either(name("command"), None),
        "unsafe_checkpoints": one_of("refuse", "allow"),
    },
    "postgres": {"engine": text, "pool": whole(1, 500), "lock_timeout": number(0.05, 3600)},
    "external": {"engine": text, "pool": whole(1, 500), "url": name("variable")},
}


def database(value: Any) -> bool:
    """Whether the value is the settings of a known engine."""
    schema = DATABASES.get(str(value.get("engine"))) if isinstance(value, dict) else None
    return schema is not None and not mistakes(schema, value)


JOB = {
    "name": name("job"),
    "schedule": name("line"),
    "calendar": list_of(name("event"), at_least=1),
    "words": list_of(argument),
    "expression": argument,
    "timeout": number(1, 86_400),
}


def jobs(value: Any) -> bool:
    """Whether the value is a list of jobs with distinct names, each with either words or an expression."""
    if not list_of(lambda job: not mistakes(JOB, job) and bool(job["words"]) != bool(job["expression"]))(value):
        return False
    return len({job["name"] for job in value}) == len(value)


SETTINGS = {
    "release_name": name("program"),
    "health": {
        "path": name("path"),
        "interval": number(0.01, 3600),
        "timeout": number(0.01, 3600),
        "deploy_timeout": number(0.1, 86_400),
    },
    "drain_timeout": SECONDS,
    "retain_releases": whole(1, 1000),
    "strategy": one_of("overlap", "restart"),
    "commands": {"migrate": either(name("command"), None)},
    "migrate_timeout": number(0.1, 86_400),
    "domains": list_of(name("domain"), at_least=1),
    "database": database,
    "cron": jobs,
}

GIT = {
    "sha": either(name("line"), None),
    "ref": either(name("line"), None),
    "dirty": flag,
    "subject": either(name("line"), None),
}

PLAN = {
    "release": name("release"),
    "digest": name("digest"),
    "git": GIT,
    "who": name("line"),
    "from": name("line"),
    "settings": SETTINGS,
    "env": mapping(text),
    "secrets": mapping(either(name("digest"), None)),
    "lock_wait": SECONDS,
}

PUSH = {**PLAN, "secrets": mapping(either(text, None))}

BUILD = {
    "source": name("digest"),
    "commands": list_of(list_of(text, at_least=1), at_least=1),
    "release_name": name("program"),
    "env": mapping(text),
    "limits": {"memory": whole(0, 1 << 50), "tasks": whole(0, 1 << 20), "seconds": number(1, 86_400)},
    "who": name("line"),
    "from": name("line"),
}

# the maintenance page
MAINTENANCE = {
    "page": lambda value: text(value) and 0 < len(value.encode("utf-8", "replace")) <= 1 << 20,
    "message": name("line"),
    "allow": list_of(name("address")),
    "retry_after": whole(1, 86_400),
}

# a command or expression that a person runs with the live release
SHELL = {
    "verb": one_of("run", "exec", "eval", "rpc", "console", "observer"),
    "words": list_of(argument),
    "expression": text,
    "detach": flag,
}

OPTIONAL = frozenset(
    {
        "encryption_key",
        "lock_wait",
        "git",
        "who",
        "from",
        "limits",
        "limits.memory",
        "limits.tasks",
        "limits.seconds",
        "env",
        "settings.database",
        "settings.cron",
    }
)


def mistakes(schema: Json, document: object, at: str = "") -> list[str]:
    """The mistakes in a document, each as a sentence with the key: unknown, missing or invalid."""
    if not isinstance(document, dict):
        return [f"{at or 'the spec'} is not a mapping"]
    found = [f"{at}{key} is unknown" for key in document if key not in schema]
    for key, check in schema.items():
        where = f"{at}{key}"
        if key not in document:
            found += [] if where in OPTIONAL else [f"{where} is missing"]
        elif document[key] is None and where in OPTIONAL:
            continue
        elif isinstance(check, dict):
            found += mistakes(check, document[key], f"{where}.")
        elif not check(document[key]):
            found.append(f"{where} is not valid")
    return found


def read(schema: Json) -> Json:
    """The document on standard input. Raises HostError (usage), which names the mistakes but no value."""
    raw = sys.stdin.buffer.read(LARGEST + 1)
    try:
        document = json.loads(raw) if len(raw) <= LARGEST else None
    except (ValueError, RecursionError):
        document = None
    found = mistakes(schema, document)
    if found:
        raise HostError(
            "the spec is not valid: " + "; ".join(found[:20]),
            "standard input",
            "use the deploy of this version",
            USAGE,
        )
    assert isinstance(document, dict)  # noqa: S101 - mistakes() has refused anything else
    return document


def read_push(schema: Json) -> PushSpec:
    """The spec of a push or plan on standard input. Raises HostError (usage) as `read`."""
    return cast(PushSpec, read(schema))
