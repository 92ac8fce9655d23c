"""Parsers of the values in deploy.yml: durations, sizes, names, addresses. Their ValueError says what is expected."""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

from homeport.config.names import RESERVED_LOGINS, app_reason, app_stem, env_reason
from homeport.config.problems import Path

# Decimal, so that a shown duration is read as the same number of seconds: 1001 * 0.001 is not 1.001
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_BYTES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)", re.ASCII)
_DAYS = re.compile(r"(\d{1,6})d", re.ASCII)
_SIZE = re.compile(r"(\d{1,15})([KMGT]?)(?:i?B)?", re.ASCII)
DAY_SECONDS = LONGEST_SECONDS = 24 * 3600.0
LEAST_MEMORY = 16 * 2**20
LEAST_LOG = 64 * 2**20  # PostgreSQL's log has files of 16 MiB

# what `deploy init` writes for an unknown value; reserved by RFC 5737 and RFC 2606
PLACEHOLDER_HOST, PLACEHOLDER_DOMAIN = "203.0.113.10", "example.com"
PLACEHOLDER_BUCKET = "example-backups"
_PLACEHOLDER_NETWORK = ipaddress.ip_network("203.0.113.0/24")


class MistakesError(ValueError):
    """Several mistakes in one value, each with its path below the value."""

    def __init__(self, mistakes: Iterable[tuple[Path, str]]) -> None:
        self.mistakes = list(mistakes)
        super().__init__("; ".join(what for _, what in self.mistakes))


def refuse(mistakes: list[tuple[Path, str]]) -> None:
    """Raise MistakesError with the mistakes, if there are any."""
    if mistakes:
        raise MistakesError(mistakes)


def open_port(value: object) -> str:
    """A port with its protocol, such as 8443/tcp, from "8443/tcp", "8443" or 8443."""
    number, slash, protocol = str(value).partition("/")
    if (
        not isinstance(value, (int, str))
        or isinstance(value, bool)
        or not number.isascii()
        or not number.isdigit()
        or not 1 <= int(number) <= 65_535
    ):
        raise ValueError("must be a port such as 8443, 8443/tcp or 51820/udp, from 1 to 65535")
    if protocol not in ("tcp", "udp") and slash:
        raise ValueError("must end with /tcp or /udp, or with the number")
    return f"{int(number)}/{protocol or 'tcp'}"


def duration(least: float = 0.0, most: float = LONGEST_SECONDS) -> Callable[[object], float]:
    """A parser of "500ms", "30s", "5m", "1h" or a number of seconds, between two limits; returns seconds."""
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
    return float(Decimal(match[1]) * _SECONDS[match[2]]) if match else None


def show_duration(seconds: float) -> str:
    """The shortest text that `duration` reads as these seconds; the nearest one if none is exact."""
    exact = Decimal(repr(seconds))
    counts = {unit: (exact / one).normalize() for unit, one in _SECONDS.items()}
    whole = (f"{counts[unit]:f}{unit}" for unit in ("h", "m", "s", "ms") if 1 <= counts[unit] == int(counts[unit]))
    texts = (*whole, f"{counts['s']:f}s", f"{counts['ms']:f}ms")
    return next((text for text in texts if _seconds(text) == seconds), f"{seconds:.9f}s")


def span(least: float, most: float) -> Callable[[object], float]:
    """A parser of a longer time, "6h" or "7d", between two limits; returns seconds."""
    expected = f'must be a time such as "6h" or "7d", from {show_span(least)} to {show_span(most)}'

    def parse(value: object) -> float:
        match = _DAYS.fullmatch(value) if isinstance(value, str) else None
        seconds = int(match[1]) * DAY_SECONDS if match else _seconds(value)
        if seconds is None or not least <= seconds <= most:
            raise ValueError(expected)
        return seconds

    return parse


def show_span(seconds: float) -> str:
    """The shortest text that `span` reads as these seconds; a single day is 24h."""
    days = seconds / DAY_SECONDS
    return f"{int(days)}d" if days >= 2 and days == int(days) else show_duration(seconds)


def size(least: int) -> Callable[[object], int]:
    """A parser of "512M", "2G", "10GiB" or a whole number of bytes, at least `least`; returns bytes."""
    expected = f'must be a size such as "512M" or "2G", at least {show_size(least)}'

    def parse(value: object) -> int:
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        count = int(match[1]) * _BYTES[match[2]] if match else value
        if not isinstance(count, int) or isinstance(count, bool) or count < least:
            raise ValueError(expected)
        return count

    return parse


def show_size(count: int) -> str:
    """The shortest text that `size` reads as these bytes."""
    for unit in ("T", "G", "M", "K"):
        if count % _BYTES[unit] == 0:
            return f"{count // _BYTES[unit]}{unit}"
    return str(count)


def whole_number(least: int, most: int) -> Callable[[object], int]:
    """A parser of a whole number between two limits."""

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return parse


def boolean(value: object) -> bool:
    """A boolean. Raises ValueError for any other value, such as 1 or "yes"."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def cores(value: object) -> float:
    """A number of processors, which may be a fraction."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.01 <= value <= 1024:
        raise ValueError("must be a number of processors such as 2 or 0.5")
    return float(value)


def matching(pattern: str, expected: str) -> Callable[[object], str]:
    """A parser of text that matches a pattern."""
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
sql = matching(r"(?s)[^\x00]{1,10000}", "one statement of SQL whose first column is true while all is well")
region = matching(r"[a-z0-9][a-z0-9-]{0,62}", "the name of a region, such as eu-central-1")
_app = matching(r"[a-z][a-z0-9-]{0,30}", "lower-case letters, digits and -, a letter first, at most 31")
_login = matching(r"[a-z_][a-z0-9_-]{0,31}", "the name of a user, such as deploy")


def app_name(value: object) -> str:
    """A name that can be a user, a unit and a directory on a Debian host, and is not in use there."""
    name = _app(value)
    if reason := app_reason(name):
        raise ValueError(f"{name} {reason}: choose another, such as my-{app_stem(name)}")
    return name


def login(value: object) -> str:
    """A user on the host, root included."""
    return _login(value)


def deploy_login(value: object) -> str:
    """A user on the host whom Homeport may create and restrict to hostctl."""
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
    if reason := _domain_mistake(name):
        raise ValueError(reason)
    return name


def _domain_mistake(name: str) -> str:
    if "/" in name or ":" in name:
        return "must be a name alone, without https://, port or path"
    if name.startswith("*."):
        return "must be a name without *: such a certificate needs another proof than Homeport gives"
    if not name.isascii():
        return "must be in its ASCII form (xn--…)"
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or labels[-1].isdigit() or not all(map(_is_label, labels)):
        return "must be a name such as shop.example.org"
    return _placeholder_mistake(_is_placeholder_name(name), "a name of yours")


def _is_placeholder_name(name: str) -> bool:
    return name == PLACEHOLDER_DOMAIN or name.endswith("." + PLACEHOLDER_DOMAIN)


def _is_label(label: str) -> bool:
    return bool(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label))


def _placeholder_mistake(is_placeholder: bool, expected: str) -> str:
    return f"is still the placeholder: write {expected}" if is_placeholder else ""


_file = matching(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", "the name of a file in /var/lib/<app>/, without a directory")


def database_file(value: object) -> str:
    """The name of an SQLite file in the app's data directory, which is its name in the bucket as well."""
    name = _file(value)
    if name.endswith(("-wal", "-shm", "-journal")):
        raise ValueError("is a name that SQLite gives to the files beside a database")
    if name == "EPOCH":
        raise ValueError("is the name of Homeport's own object in the bucket: choose another")
    return name


_bucket = matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "3 to 63 lower-case letters, digits, - and .")
# docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_BUCKET_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def bucket(value: object) -> str:
    """A bucket's name, by the rules of AWS; other stores have the same rules or fewer."""
    name = _bucket(value)
    if ".." in name or ".-" in name or "-." in name or re.fullmatch(r"[\d.]+\.[\d.]+", name):
        raise ValueError("must be no IP address, and have a letter or digit on both sides of each dot")
    if name.startswith(_BUCKET_PREFIXES) or name.endswith(_BUCKET_SUFFIXES):
        raise ValueError("has a prefix or suffix that S3 reserves")
    if name == PLACEHOLDER_BUCKET:
        raise ValueError("is still the placeholder: write the name of your bucket")
    return name


_prefix = matching(r"[A-Za-z0-9!_.*'()/-]{1,200}", "a path in the bucket, such as shop or backups/shop")


def prefix(value: object) -> str:
    """A path in a bucket."""
    text = _prefix(value)
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError("must have no /, . or .. at its ends or between two /")
    return text


_ENDPOINT = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?/?", re.ASCII)


def endpoint(value: object) -> str:
    """The URL of an S3 store; without TLS only at a private address."""
    expected = "must be a URL such as https://s3.eu-central-003.example.net, without a path"
    match = re.fullmatch(
        r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?/?", value if isinstance(value, str) else ""
    )
    if match is None or not _is_port(match[3]):
        raise ValueError(expected)
    if match[1] == "http" and not _is_private(match[2].strip("[]")):
        raise ValueError("must begin with https://; only a private address may do without")
    return match[0].rstrip("/")


def _is_port(text: str | None) -> bool:
    return text is None or 1 <= int(text[1:]) <= 65535


def _is_private(name: str) -> bool:
    try:
        return not ipaddress.ip_address(name).is_global
    except ValueError:
        return name == "localhost"


# keys of AWS begin with AKIA or ASIA; others are long, have digits and no _
_KEY_ITSELF = re.compile(r"(AKIA|ASIA)[A-Z0-9]{12,}|(?=\w*\d)[A-Z0-9]{16,}")


def secret_name(example: str) -> Callable[[object], str]:
    """A parser of the name of a secret. Its errors do not repeat the value, which may be the secret itself."""
    expected = (
        f"must be a name alone, such as {example}; values come from deploy.secrets.yml or the environment of `deploy`"
    )

    def parse(value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,127}", value, re.ASCII):
            raise ValueError(expected)
        if _KEY_ITSELF.fullmatch(value):
            raise ValueError(f"looks like a key itself, and here anybody may read it: it {expected}")
        if reason := env_reason(value):
            raise ValueError(f"{value} is refused: {reason}")
        return value

    return parse


password_variable = matching(
    r"[A-Z_][A-Z0-9_]{0,127}",
    "the name of a variable, such as HOMEPORT_VAULT_PASSWORD; the password itself is never written here",
)
keyring_entry = matching(r"[A-Za-z0-9_][A-Za-z0-9_.@/-]{0,99}", "the name of an entry in the keyring, such as shop")


def program(value: object) -> str:
    """A command on the laptop, with arguments split as by a shell; it runs without a shell."""
    expected = "must be a command such as op read op://shop/production/token"
    if not isinstance(value, str) or not re.fullmatch(r"[^\x00-\x1f\x7f]{1,4096}", value):
        raise ValueError(expected)
    try:
        words = shlex.split(value)
    except ValueError:
        raise ValueError("has a quotation that does not end") from None
    if not words:
        raise ValueError(expected)
    return value


@dataclass(frozen=True)
class Host:
    """The host: an address or a name known to ssh, and the user and port if they are part of the text."""

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
    """The parts of an address, of `user@host:port`, or of an alias of ~/.ssh/config. Raises ValueError."""
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
    if reason := _placeholder_mistake(_is_placeholder_host(parsed.address), "the address of your host"):
        raise ValueError(reason)
    return str(value)


def _is_placeholder_host(name: str) -> bool:
    try:
        return ipaddress.ip_address(name) in _PLACEHOLDER_NETWORK
    except ValueError:
        return _is_placeholder_name(name)
