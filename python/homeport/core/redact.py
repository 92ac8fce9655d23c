"""The one redactor: puts `[NAME]` where a secret's value, or a usual spelling of it, stands in a text."""

from __future__ import annotations

import json
import re
import shlex
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

from homeport.core.errors import HomeportError

# a shorter value would turn up in every other word
LEAST_CHARACTERS = 4
# a line of a multi-line value (a key file) is a secret of its own from this length on: logs come line by line
LEAST_LINE = 8


class Redactor:
    """Call it with a text. Knows each value raw, in base64, and quoted for URLs, shells and JSON."""

    def __init__(
        self, secrets: Mapping[str, SecretStr | None], also: Iterable[tuple[str, SecretStr | None]] = ()
    ) -> None:
        self._names = _spellings([*secrets.items(), *also])
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __repr__(self) -> str:
        return f"Redactor({', '.join(sorted(set(self._names.values())))})"

    def __call__(self, text: str) -> str:
        """The text without any value."""
        return self._pattern.sub(lambda match: f"[{self._names[match[0]]}]", text) if self._pattern else text

    def error(self, error: HomeportError) -> HomeportError:
        """The same error without any value."""
        return HomeportError(self(error.what), self(error.where), self(error.fix), error.code)

    def everywhere(self, value: Any) -> Any:
        """A JSON document with every text in it redacted, keys included."""
        if isinstance(value, dict):
            return {self(str(key)): self.everywhere(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.everywhere(item) for item in value]
        return self(value) if isinstance(value, str) else value


# every value that this process has met, whoever asked for it
_learnt: list[tuple[str, SecretStr]] = []


def learn(secrets: Mapping[str, SecretStr | None]) -> None:
    """From now on `known` hides these values too; those that it knew under the same names stay hidden."""
    for name, secret in secrets.items():
        if secret and len(secret.get_secret_value()) >= LEAST_CHARACTERS and (name, secret) not in _learnt:
            _learnt.append((name, secret))


def known() -> Redactor:
    """The redactor of everything that this process has met."""
    return Redactor({}, _learnt)


def _spellings(secrets: Iterable[tuple[str, SecretStr | None]]) -> dict[str, str]:
    return {
        spelling: name
        for name, secret in secrets
        if secret
        for value in _parts(secret.get_secret_value())
        for spelling in _forms(value)
        if spelling
    }


def _parts(value: str) -> Iterator[str]:
    yield value
    if "\n" in value:
        yield from (line for line in value.splitlines() if len(line) >= LEAST_LINE)


def _forms(value: str) -> Iterator[str]:
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
