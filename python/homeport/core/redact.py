"""The laptop's redactor: replaces a secret's value, or a usual spelling of it, by `[NAME]` in a text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr

from homeport.core.errors import HomeportError
from hostctl.common import redact
from hostctl.common.redact import LEAST_CHARACTERS as LEAST_CHARACTERS

# a line of a multi-line value (a key file) is redacted by itself if it has at least so many characters
LEAST_LINE = 8


class Redactor:
    """A callable that redacts a text. Hides each value raw, in base64, and quoted for URLs, shells and JSON."""

    def __init__(
        self, secrets: Mapping[str, SecretStr | None], also: Iterable[tuple[str, SecretStr | None]] = ()
    ) -> None:
        self._names = _spellings([*secrets.items(), *also])
        self._pattern = redact.pattern(self._names)

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


# every value that this process has read
_learnt: list[tuple[str, SecretStr]] = []


def learn(secrets: Mapping[str, SecretStr | None]) -> None:
    """Add values to those that `redactor` hides. Earlier values of the same names stay hidden."""
    for name, secret in secrets.items():
        if secret and len(secret.get_secret_value()) >= LEAST_CHARACTERS and (name, secret) not in _learnt:
            _learnt.append((name, secret))


def redactor() -> Redactor:
    """The redactor of every value that this process has read."""
    return Redactor({}, _learnt)


def _spellings(secrets: Iterable[tuple[str, SecretStr | None]]) -> dict[str, str]:
    """The name of the secret by each spelling of its value, and of its longer lines."""
    return {
        spelling: name
        for name, secret in secrets
        if secret
        for value in redact.with_lines(secret.get_secret_value(), LEAST_LINE)
        for spelling in redact.spellings(value)
        if spelling
    }
