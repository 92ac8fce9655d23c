"""Reads this machine's apt sources in both formats (sources.list(5)), to get Debian from the same archives."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from homeport.core.errors import HomeportError

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_COMPONENTS = ("main", "contrib", "non-free", "non-free-firmware")
_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)")
_SUITE = re.compile(r"(?:stable|oldstable|bookworm|trixie|forky)(?P<pocket>|-updates|-security)/?$")


@dataclass(frozen=True)
class Source:
    """One archive: its URI, suite and components, and the keyring file that verifies it, "" if none is named."""

    uri: str
    suite: str
    components: tuple[str, ...]
    keyring: str = ""

    def line(self) -> str:
        """The archive in the one-line form."""
        components = " ".join(self.components)
        return f"deb [signed-by={self.keyring or KEYRING}] {self.uri} {self.suite} {components}"


def parse_list(text: str) -> list[Source]:
    """The binary archives of a file in the one-line form."""
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return [source for line in lines if (source := _parse_line(line)) is not None]


def _parse_line(line: str) -> Source | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    options = dict(option.split("=", 1) for option in (match["options"] or "").split() if "=" in option)
    components = tuple(match["components"].split())
    return Source(match["uri"], match["suite"], components, options.get("signed-by", ""))


def parse_deb822(text: str) -> list[Source]:
    """The enabled binary archives of a file in the deb822 form."""
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    stanzas = re.split(r"\n[ \t]*\n", uncommented)
    return [source for stanza in stanzas for source in _sources_of(_fields(stanza))]


def _fields(stanza: str) -> dict[str, str]:
    folded = re.sub(r"\n[ \t]+", " ", stanza)
    pairs = (line.split(":", 1) for line in folded.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs}


def _sources_of(fields: dict[str, str]) -> list[Source]:
    if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
        return []
    components = tuple(fields.get("components", "").split())
    keyring = fields.get("signed-by", "")
    file = keyring if keyring.startswith("/") else ""  # the value may be the key itself instead of a file
    uris, suites = fields.get("uris", "").split(), fields.get("suites", "").split()
    return [Source(uri, suite, components, file) for uri in uris for suite in suites]


def for_suite(sources: Iterable[Source], suite: str) -> list[Source]:
    """Debian's own archives among `sources`, for this suite; without third parties and backports."""
    archives: dict[tuple[str, str], Source] = {}
    for source in sources:
        pocket = _SUITE.fullmatch(source.suite)
        if pocket and "main" in source.components:
            components = tuple(name for name in source.components if name in _COMPONENTS)
            mapped = replace(source, suite=suite + pocket["pocket"], components=components)
            archives.setdefault((mapped.uri, mapped.suite), mapped)
    return list(archives.values())


def of_machine(suite: str, apt: Path = Path("/etc/apt")) -> list[Source]:
    """The archives from which this machine can get `suite`. Raises HomeportError if apt has none."""
    lists = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*.list"))]
    sources = [source for path in lists if path.is_file() for source in parse_list(path.read_text())]
    for path in sorted((apt / "sources.list.d").glob("*.sources")):
        sources += parse_deb822(path.read_text())
    archives = for_suite(sources, suite)
    if not any(source.suite == suite for source in archives):
        fix = "use a Debian 12 or 13 machine whose apt sources name a Debian archive"
        raise HomeportError("the apt sources of this machine name no Debian archive", str(apt), fix)
    return archives
