"""Reads Elixir source as tokens and statements. The source is never run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

OPENING, CLOSING = ("(", "[", "{", "fn", "do"), (")", "]", "}", "end")
CONTINUES = (",", "|>", "<>", "++", "=", "->", "&&", "||", "and", "or", "|", "+", "-", "when")
SIGIL_ENDS = {"(": ")", "[": "]", "{": "}", "<": ">"}
QUOTED = re.compile(r'(?P<kind>~[a-zA-Z]+|:)?(?P<open>"""|\'\'\'|"|\')')
SIGIL = re.compile(r"(?P<kind>~[a-zA-Z]+)(?P<open>[(\[{</|])")
SIMPLE = re.compile(
    r"""(?P<space>[ \t\r]+|\\\n)
    |(?P<comment>\#[^\n]*)
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
    """A piece of source: its kind, its text (of a string, the text between the quotes), and its position.

    `inside` is where the text begins: after the opening mark of a string, else at `start`.
    """

    kind: str
    text: str
    start: int
    inside: int
    end: int


class Statement(NamedTuple):
    """A call or definition: its tokens up to `do`, and the statements of its block, None where it has none."""

    head: Sequence[Token]
    block: Sequence[Statement] | None

    @property
    def name(self) -> str:
        """The name that the statement begins with; "" if it begins with something else."""
        return self.head[0].text if self.head and self.head[0].kind == "name" else ""

    def arguments(self) -> Sequence[Token]:
        """The tokens after the name, without the parentheses around them all."""
        rest = self.head[1:]
        if rest and rest[0].text == "(" and rest[-1].text == ")" and _closes(rest) == len(rest) - 1:
            return rest[1:-1]
        return rest


def statements(source: str) -> Sequence[Statement]:
    """The statements of a file. What cannot be parsed becomes part of a statement."""
    return _Parser([token for token in tokens(source) if token.kind not in ("space", "comment")]).block()


def tokens(source: str) -> Iterator[Token]:
    """All tokens of a file, in order; they cover the source without a gap. A newline is a token."""
    at = 0
    while at < len(source):
        token = _string(source, at) or _simple(source, at)
        at = token.end
        yield token


def blanked(source: str) -> tuple[str, str]:
    """Two texts of the length of the source, lines kept: without comments; and also without what stands in strings."""
    code, bones = list(source), list(source)
    for token in tokens(source):
        if token.kind == "comment":
            _blank(code, token.start, token.end)
            _blank(bones, token.start, token.end)
        elif token.kind == "character":
            _blank(bones, token.start, token.end)
        elif token.inside > token.start:
            _blank(bones, token.inside, token.inside + len(token.text))
    return "".join(code), "".join(bones)


def _blank(characters: list[str], start: int, end: int) -> None:
    characters[start:end] = [mark if mark == "\n" else " " for mark in characters[start:end]]


def excerpt(source: str, head: Sequence[Token]) -> str:
    """The source of some tokens on one line, cut to 80 characters for a message."""
    text = " ".join(source[head[0].start : head[-1].end].split()) if head else ""
    return text if len(text) <= 80 else f"{text[:79]}…"


def _simple(source: str, at: int) -> Token:
    found = SIMPLE.match(source, at)
    if found is None:
        return Token("mark", source[at], at, at, at + 1)
    return Token(str(found.lastgroup), found.group(), at, at, found.end())


class _Open(NamedTuple):
    """A string, or the Elixir code in an interpolation, that is open until its closing mark."""

    closing: str
    code: bool = False
    raw: bool = False  # a sigil with a capital letter: without interpolation


CODE = _Open("}", code=True)


def _opening(source: str, at: int) -> re.Match[str] | None:
    """The opening mark of a string, heredoc, sigil or quoted atom that begins here."""
    return QUOTED.match(source, at) or SIGIL.match(source, at)


def _opened(mark: re.Match[str]) -> _Open:
    closing = SIGIL_ENDS.get(mark["open"], mark["open"])
    return _Open(closing, raw=(mark["kind"] or "")[1:2].isupper())


def _string(source: str, at: int) -> Token | None:
    """The string, heredoc, sigil or quoted atom that begins here."""
    mark = _opening(source, at)
    if mark is None:
        return None
    opened = _opened(mark)
    end = _end(source, mark.end(), opened)
    kind = "atom" if mark["kind"] == ":" else "string"
    return Token(kind, source[mark.end() : end], at, mark.end(), min(end + len(opened.closing), len(source)))


def _end(source: str, at: int, opened: _Open) -> int:
    """Where the closing mark of a string stands. The strings in its interpolations are skipped."""
    stack = [opened]
    while at < len(source):
        inner = stack[-1]
        if source.startswith(inner.closing, at):
            stack.pop()
            if not stack:
                return at
            at += len(inner.closing)
        elif inner.code:
            at = _skip_code(source, at, stack)
        else:
            at = _skip_text(source, at, stack)
    return len(source)


def _skip_code(source: str, at: int, stack: list[_Open]) -> int:
    """The position after one token of an interpolation; what the token opens is pushed."""
    if mark := _opening(source, at):
        stack.append(_opened(mark))
        return mark.end()
    token = _simple(source, at)
    if token.text == "{":
        stack.append(CODE)
    return token.end


def _skip_text(source: str, at: int, stack: list[_Open]) -> int:
    """The position after one character of a string, an escape counted as one; an interpolation is pushed."""
    if source.startswith("#{", at) and not stack[-1].raw:
        stack.append(CODE)
        return at + 2
    return at + (2 if source[at] == "\\" else 1)


def _closes(head: Sequence[Token]) -> int:
    """The index of the token that closes the first one; -1 if none does."""
    depth = 0
    for number, token in enumerate(head):
        depth += _step(token)
        if depth == 0:
            return number
    return -1


def _step(token: Token) -> int:
    """By how much a token changes the depth of nesting."""
    if token.kind == "string":
        return 0
    return (token.text in OPENING) - (token.text in CLOSING)


class _Parser:
    """Groups tokens into statements."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens, self.at = tokens, 0

    def block(self) -> list[Statement]:
        """The statements up to the `end` that closes the block, or to the end of the file."""
        read: list[Statement] = []
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.kind == "name" and token.text == "end":
                self.at += 1
                break
            if token.kind == "newline":
                self.at += 1
            else:
                read.append(self.statement())
        return read

    def statement(self) -> Statement:
        """The statement that begins here, with its block."""
        head: list[Token] = []
        depth = 0
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
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
        return token.kind == "newline" and bool(head) and not self._continues(head[-1])

    def _continues(self, last: Token) -> bool:
        """Whether the statement continues in the next line."""
        if last.kind == "key" or (last.kind != "string" and last.text in CONTINUES):
            return True
        following = next((token for token in self.tokens[self.at :] if token.kind != "newline"), None)
        return following is not None and following.text == "|>" and following.kind == "mark"
