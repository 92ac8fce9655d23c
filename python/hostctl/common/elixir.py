"""As much of Elixir's grammar as tells the statements of a migration apart; nothing is ever run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

OPENING, CLOSING = ("(", "[", "{", "fn", "do"), (")", "]", "}", "end")
CONTINUES = (",", "|>", "<>", "++", "=", "->", "&&", "||", "and", "or", "|", "+", "-", "when")
SIGIL_ENDS = {"(": ")", "[": "]", "{": "}", "<": ">"}
SIMPLE = re.compile(
    r"""(?P<space>[ \t\r]+|\\\n|\#[^\n]*)
    |(?P<newline>\n|;)
    |(?P<key>[a-zA-Z_]\w*[?!]?:(?=\s))
    |(?P<atom>:[a-zA-Z_]\w*[?!]?)
    |(?P<name>@?[a-zA-Z_]\w*[?!]?(?:\.[a-zA-Z_]\w*[?!]?)*)
    |(?P<number>\d[\d_.a-zA-Z]*)
    |(?P<character>\?\\?.)
    |(?P<mark>\|>|<>|\+\+|->|<-|&&|\|\||::|[^\s\w])""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of source: its kind, its text (of a string what is inside the quotes), and where it stands."""

    kind: str
    text: str
    start: int
    end: int


class Statement(NamedTuple):
    """A call or definition: its tokens up to `do`, and the statements of its block, None where it has none."""

    head: Sequence[Token]
    block: Sequence[Statement] | None

    @property
    def name(self) -> str:
        """The word it begins with."""
        return self.head[0].text if self.head and self.head[0].kind == "name" else ""

    def arguments(self) -> Sequence[Token]:
        """The tokens after the name, without the parentheses around them all."""
        rest = self.head[1:]
        if rest and rest[0].text == "(" and rest[-1].text == ")" and _closes(rest) == len(rest) - 1:
            return rest[1:-1]
        return rest


def statements(source: str) -> Sequence[Statement]:
    """The statements of a file, or as many as could be told apart."""
    return _Reader(list(tokens(source))).block()


def tokens(source: str) -> Iterator[Token]:
    """The tokens of a file; comments and spaces are left out, a newline is one."""
    at = 0
    while at < len(source):
        token = _string(source, at) or _simple(source, at)
        at = token.end
        if token.kind != "space":
            yield token


def shown(source: str, head: Sequence[Token]) -> str:
    """The source of some tokens on one line, cut to a length for a message."""
    text = " ".join(source[head[0].start : head[-1].end].split()) if head else ""
    return text if len(text) <= 80 else f"{text[:79]}…"


def _simple(source: str, at: int) -> Token:
    found = SIMPLE.match(source, at)
    if found is None:
        return Token("mark", source[at], at, at + 1)
    return Token(str(found.lastgroup), found.group(), at, found.end())


def _string(source: str, at: int) -> Token | None:
    """A string, heredoc, sigil or quoted atom that begins here."""
    quoted = re.compile(r'(?P<kind>~[a-zA-Z]+|:)?(?P<open>"""|\'\'\'|"|\')').match(source, at)
    sigil = quoted or re.compile(r"(?P<kind>~[a-zA-Z]+)(?P<open>[(\[{</|])").match(source, at)
    if sigil is None:
        return None
    closing = SIGIL_ENDS.get(sigil["open"], sigil["open"])
    end = _end(source, sigil.end(), closing)
    kind = "atom" if sigil["kind"] == ":" else "string"
    return Token(kind, source[sigil.end() : end], at, end + len(closing))


def _end(source: str, at: int, closing: str) -> int:
    """Where a string ends: escapes and what is interpolated (strings in it, too) are passed over."""
    while at < len(source) and not source.startswith(closing, at):
        if source.startswith("#{", at):
            at = _interpolated(source, at + 2)
        else:
            at += 2 if source[at] == "\\" else 1
    return min(at, len(source))


def _interpolated(source: str, at: int) -> int:
    depth = 1
    while at < len(source) and depth:
        token = _string(source, at) or _simple(source, at)
        depth += {"{": 1, "}": -1}.get(token.text, 0) if token.kind == "mark" else 0
        at = token.end
    return at


def _closes(head: Sequence[Token]) -> int:
    """Where what the first token opens is closed."""
    depth = 0
    for number, token in enumerate(head):
        depth += _step(token)
        if depth == 0:
            return number
    return -1


def _step(token: Token) -> int:
    if token.kind == "string":
        return 0
    return (token.text in OPENING) - (token.text in CLOSING)


class _Reader:
    """Reads statements from tokens."""

    def __init__(self, found: Sequence[Token]) -> None:
        self.found, self.at = found, 0

    def block(self) -> list[Statement]:
        """The statements up to the `end` that closes the block, or to the end of the file."""
        read: list[Statement] = []
        while self.at < len(self.found):
            token = self.found[self.at]
            if token.kind == "name" and token.text == "end":
                self.at += 1
                break
            if token.kind == "newline":
                self.at += 1
            else:
                read.append(self.statement())
        return read

    def statement(self) -> Statement:
        head: list[Token] = []
        depth = 0
        while self.at < len(self.found):
            token = self.found[self.at]
            if depth == 0 and token.kind == "name" and token.text == "do":
                self.at += 1
                return Statement(head, self.block())
            if depth == 0 and self._ends(head, token):
                break
            self.at += 1
            if token.kind != "newline":
                depth += _step(token)
                head.append(token)
        return Statement(head, None)

    def _ends(self, head: Sequence[Token], token: Token) -> bool:
        if token.kind == "name" and token.text == "end":
            return True
        return token.kind == "newline" and bool(head) and not self._goes_on(head[-1])

    def _goes_on(self, last: Token) -> bool:
        """Whether the statement goes on in the next line."""
        if last.kind == "key" or (last.kind != "string" and last.text in CONTINUES):
            return True
        following = next((token for token in self.found[self.at :] if token.kind != "newline"), None)
        return following is not None and following.text == "|>" and following.kind == "mark"
