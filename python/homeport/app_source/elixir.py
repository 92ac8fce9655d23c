"""Finds values, keys, repositories and routes in Elixir source. The source is never run.

A Source has two texts with the same positions: in `code` comments are blanked, in `skeleton` the content of strings as
well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hostctl.common.release.elixir import blanked

_OPEN, _CLOSE = "([{", ")]}"
_WORD = re.compile(r"[A-Za-z0-9_@!?]")


class Source:
    """One file of Elixir."""

    def __init__(self, text: str) -> None:
        self.code, self.skeleton = blanked(text)

    def keyword(self, function: str, key: str) -> str:
        """The value of a key in the list that a function returns: an atom's name or a string; "" if none."""
        at = self._value(function, key)
        return self._literal(at) if at is not None else ""

    def keys(self, function: str, key: str) -> list[str]:
        """The keys of the list that is the value of a key, literally or by a call of a function of the file."""
        at = self._value(function, key)
        inner = self._list_at(at) if at is not None else None
        return [name for name, _ in self._entries(*inner)] if inner else []

    def tuples(self) -> set[str]:
        """The first atoms of all tuples: the dependencies, among others."""
        return set(re.findall(r"\{\s*:([a-z_]\w*)", self.skeleton))

    def has_key(self, name: str) -> bool:
        """Whether a key of that name, in quotes, is anywhere in the file."""
        return bool(re.search(rf'"{re.escape(name)}"(:|\s*=>)', self.code))

    def repos(self) -> list[tuple[str, str]]:
        """The modules that use Ecto.Repo, each after the application that configures it."""
        found = []
        for use in _REPO.finditer(self.skeleton):
            named = list(_MODULE.finditer(self.skeleton, 0, use.start()))
            if named and (app := _OTP_APP.search(self.skeleton, use.end())):
                found.append((app[1], named[-1][1]))
        return found

    def routes(self) -> list[str]:
        """The paths of `get` routes, with those of the scopes around them, and the paths in the options of plugs."""
        scopes, pending = [""], ""
        found: list[str] = []
        for match in _ROUTING.finditer(self.skeleton):
            path = self._string(match.end()) if match["verb"] else ""
            if match["verb"] == "scope":
                pending = path.rstrip("/")  # for the `do` that follows
            elif match["verb"] and path:
                found.append("".join(scopes) + path)
            elif match["open"]:
                scopes, pending = [*scopes, pending], ""
            elif match["close"]:
                scopes = scopes[:-1]
        return found

    def _string(self, at: int) -> str:
        match = re.compile(r'\s*\(?\s*"([^"\\\n]*)"').match(self.code, at)
        return match[1] if match else ""

    def _value(self, function: str, key: str) -> int | None:
        inner = self._body_list(function)
        return dict(self._entries(*inner)).get(key) if inner else None

    def _body_list(self, function: str) -> tuple[int, int] | None:
        match = re.search(rf"\bdefp?\s+{re.escape(function)}\b(\s*\(\s*\))?\s*,?\s*do\b:?", self.skeleton)
        start = self.skeleton.find("[", match.end()) if match else -1
        return (start, self._closing(start)) if start >= 0 else None

    def _closing(self, start: int) -> int:
        depth = 0
        for at in range(start, len(self.skeleton)):
            depth += (self.skeleton[at] in _OPEN) - (self.skeleton[at] in _CLOSE)
            if depth == 0:
                return at
        return len(self.skeleton)

    def _entries(self, start: int, end: int) -> Iterator[tuple[str, int]]:
        """The keys of the list between two brackets, each with the position of its value."""
        at = start + 1
        while at < end:
            if self.skeleton[at] in _OPEN:
                at = self._closing(at)
            elif self._is_code(at) and (match := _KEY.match(self.code, at)):
                yield match["plain"] or match["quoted"], match.end()
                at = match.end() - 1
            at += 1

    def _is_code(self, at: int) -> bool:
        """Whether a word or a string may begin here."""
        return self.skeleton[at] == self.code[at] and not _WORD.match(self.skeleton[at - 1])

    def _literal(self, at: int) -> str:
        match = _LITERAL.match(self.code, at)
        if match and match["attribute"]:
            assignment = re.search(rf"^\s*@{match['attribute']}\s", self.skeleton, re.MULTILINE)
            return self._literal(assignment.end() - 1) if assignment else ""
        return next((part for part in match.groups() if part), "") if match else ""

    def _list_at(self, at: int) -> tuple[int, int] | None:
        match = re.compile(r"\s*(?P<list>\[)|\s*(?P<function>[a-z_]\w*)").match(self.skeleton, at)
        if match and match["list"]:
            return match.start("list"), self._closing(match.start("list"))
        return self._body_list(match["function"]) if match else None


_KEY = re.compile(r'(?:(?P<plain>[A-Za-z_]\w*[?!]?)|"(?P<quoted>[^"\\\n]+)"):(?=\s)')
_LITERAL = re.compile(r'\s*(?::"?(?P<atom>[A-Za-z_]\w*)|"(?P<text>[^"\\\n]*)"|@(?P<attribute>[a-z_]\w*))')
_REPO = re.compile(r"\buse[\s(]+Ecto\.Repo\b")
_MODULE = re.compile(r"\bdefmodule\s+([A-Z][\w.]*)\s+do\b")
_OTP_APP = re.compile(r"\botp_app:\s*:([a-z_]\w*)")
_ROUTING = re.compile(
    r"""
    (?<![\w.:@])
    (?: (?P<verb>scope|get|request_path:|path:)(?=[\s(])
      | (?P<open>do|fn)(?![\w:?!])
      | (?P<close>end)(?![\w:?!])
    )
    """,
    re.VERBOSE,
)
