"""The small languages of deploy.yml: durations, sizes, names, addresses. ValueError says what is expected."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

from homeport.config.names import RESERVED_LOGINS, app_reason
from homeport.config.problems import Path

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", re.ASCII)
_SIZE = re.compile(r"(\d{1,15})([KMGT]?)(?:i?B)?", re.ASCII)
LONGEST_SECONDS = 24 * 3600.0
LEAST_MEMORY = 16 * 2**20

# what `deploy init` writes where it knows nothing; nobody's: reserved by RFC 5737 and RFC 2606
PLACEHOLDER_HOST, PLACEHOLDER_DOMAIN = "203.0.113.10", "example.com"
_PLACEHOLDER_NETWORK = ipaddress.ip_network("203.0.113.0/24")


class MistakesError(ValueError):
    """Several mistakes of one value, each at a path below it."""

    def __init__(self, found: Iterable[tuple[Path, str]]) -> None:
        self.found = list(found)
        super().__init__("; ".join(what for _, what in self.found))


def refuse(found: list[tuple[Path, str]]) -> None:
    """Raise the mistakes, if there are any."""
    if found:
        raise MistakesError(found)


def duration(least: float = 0.0, most: float = LONGEST_SECONDS) -> Callable[[object], float]:
    """A parser of "500ms", "30s", "5m", "1h" or a number of seconds, between two limits; gives seconds."""
    bounds = f"from {show_duration(least)} to {show_duration(most)}"
    expected = f'must be a duration such as "500ms", "30s", "5m" or "1h", {bounds}'

    def parse(value: object) -> float:
        seconds = _seconds(value)
        if seconds is None or not least <= seconds <= most:
            raise ValueError(expected)
        return seconds

    return parse


def _seconds(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(match[1]) * _SECONDS[match[2]] if match else None


def show_duration(seconds: float) -> str:
    """The shortest text that `duration` reads as these seconds."""
    for unit in ("h", "m", "s", "ms"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count) and int(count) * _SECONDS[unit] == seconds:
            return f"{int(count)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def size(value: object) -> int:
    """Bytes from "512M", "2G" or a whole number of bytes."""
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    count = int(match[1]) * _BYTES[match[2]] if match else value
    if not isinstance(count, int) or isinstance(count, bool) or count < LEAST_MEMORY:
        raise ValueError('must be a size such as "512M" or "2G", at least 16M')
    return count


def show_size(count: int) -> str:
    """The shortest text that `size` reads as these bytes."""
    for unit in ("T", "G", "M", "K"):
        if count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return str(count)


def whole(least: int, most: int) -> Callable[[object], int]:
    """A parser of a whole number between two limits."""

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return parse


def cores(value: object) -> float:
    """A number of processors, parts of one allowed."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 1024:
        raise ValueError("must be a number of processors such as 2 or 0.5")
    return float(value)


def matching(pattern: str, expected: str) -> Callable[[object], str]:
    """A parser of text of one shape."""
    compiled = re.compile(pattern, re.ASCII)

    def parse(value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"must be {expected}")
        return value

    return parse


# Mix.Release refuses any other name
release_name = matching(r"[a-z][a-z0-9_]{0,62}", "lower-case letters, digits and _, a letter first")
url_path = matching(r"/[!-\"$-~]{0,1000}", "a path that begins with /, such as /health")
command = matching(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}", "a program in the release, such as bin/migrate")
https_url = matching(r"https://[!-~]+", "a URL that begins with https://")
email = matching(r"[!-?A-~]+@[A-Za-z0-9.-]+\.[A-Za-z]+", "an e-mail address")
path = matching(r"[^\x00-\x1f\x7f]{1,4096}", "a path")
_app = matching(r"[a-z][a-z0-9-]{0,30}", "lower-case letters, digits and -, a letter first, at most 31")
_login = matching(r"[a-z_][a-z0-9_-]{0,31}", "the name of a user, such as deploy")


def app_name(value: object) -> str:
    """A name that can be a user, a unit and a directory of a Debian host without taking anybody's place."""
    name = _app(value)
    if reason := app_reason(name):
        raise ValueError(f"{name} {reason}: choose another, such as my-{name.removesuffix('-build')}")
    return name


def login(value: object) -> str:
    """A user on the host, root included."""
    return _login(value)


def deploy_login(value: object) -> str:
    """A user on the host that may be made, and may be given nothing but hostctl."""
    name = _login(value)
    if name in RESERVED_LOGINS:
        raise ValueError(f"{name} is a user of the system: choose another, such as deploy")
    return name


def address(value: object) -> str:
    """An IP address, without brackets."""
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise ValueError("must be an IP address") from None


def domain_name(value: object) -> str:
    """A public DNS name in lower case."""
    if not isinstance(value, str):
        raise ValueError("must be a name such as shop.example.org, or {name: …, redirect_to: …}")
    name = value.lower()
    if reason := _no_domain(name):
        raise ValueError(reason)
    return name


def _no_domain(name: str) -> str:
    if "/" in name or ":" in name:
        return "must be a name alone, without https://, port or path"
    if name.startswith("*."):
        return "must be a name without *: such a certificate needs another proof than Homeport gives"
    if not name.isascii():
        return "must be in its ASCII form (xn--…)"
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or labels[-1].isdigit() or not all(map(_is_label, labels)):
        return "must be a name such as shop.example.org"
    return _placeholder(_is_placeholder_name(name), "a name of yours")


def _is_placeholder_name(name: str) -> bool:
    return name == PLACEHOLDER_DOMAIN or name.endswith("." + PLACEHOLDER_DOMAIN)


def _is_label(label: str) -> bool:
    return bool(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label))


def _placeholder(is_one: bool, wanted: str) -> str:
    return f"is still the placeholder: write {wanted}" if is_one else ""


@dataclass(frozen=True)
class Host:
    """Where the host is: an address or a name ssh knows; user and port where they were given."""

    address: str
    user: str | None = None
    port: int | None = None


_HOST = re.compile(
    r"(?:(?P<user>[A-Za-z_][A-Za-z0-9_.-]{0,31})@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}))"
    r"(?::(?P<port>\d{1,5}))?",
    re.ASCII,
)


def parse_host(value: object) -> Host:
    """An address, `user@host:port`, or an alias of ~/.ssh/config."""
    match = _HOST.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        _refuse_host(value)
    if match["v6"]:
        _check_v6(match["v6"])
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("has a port that is not between 1 and 65535")
    return Host(match["v6"] or match["name"], match["user"], port)


def _refuse_host(value: object) -> NoReturn:
    if isinstance(value, str) and value.count(":") > 1 and "[" not in value:
        raise ValueError("must have an IPv6 address in brackets, such as [2001:db8::1]")
    raise ValueError("must be an address, user@host:port, or an alias of ~/.ssh/config")


def _check_v6(text: str) -> None:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("has no IPv6 address in its brackets") from None


def host(value: object) -> str:
    """The text of a host, checked."""
    parsed = parse_host(value)
    if reason := _placeholder(_is_placeholder_host(parsed.address), "the address of your host"):
        raise ValueError(reason)
    return str(value)


def _is_placeholder_host(name: str) -> bool:
    try:
        return ipaddress.ip_address(name) in _PLACEHOLDER_NETWORK
    except ValueError:
        return _is_placeholder_name(name)
