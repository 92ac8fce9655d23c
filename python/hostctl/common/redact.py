"""The spellings of a secret, and the pattern that finds them in a text. Host and laptop choose their own marks."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Collection, Iterator
from urllib.parse import quote, quote_plus

# a shorter value would take ordinary words out of every line
LEAST_CHARACTERS = 4


def with_lines(value: str, least: int) -> Iterator[str]:
    """A value, and each of its lines of at least `least` characters: logs come line by line."""
    yield value
    lines = value.splitlines()
    yield from (line for line in lines if len(line) >= least and line != value)


def spellings(value: str) -> Iterator[str]:
    """A value raw, in base64, and quoted for URLs, shells and JSON. Some spellings come twice."""
    raw = value.encode("utf-8", "surrogateescape")
    yield value
    for encoded in (b64encode(raw).decode(), urlsafe_b64encode(raw).decode()):
        yield encoded
        yield encoded.rstrip("=")
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw), quote_plus(raw, safe="/")):
        yield quoted
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)
    yield shlex.quote(value)
    yield shlex.quote(value)[1:-1] if value != shlex.quote(value) else value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]


def pattern(texts: Collection[str]) -> re.Pattern[str] | None:
    """What matches any of the texts, the longest first; None without texts."""
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
