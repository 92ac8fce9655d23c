"""Whether a migration only adds, so that the older code goes on working on the database after it.

Read from the source, in Ecto's own words and in SQL. What is not recognised is not taken for harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from hostctl.elixir import Statement, Token, shown, statements

NEUTRAL = {"use", "import", "alias", "require", "flush"}
CREATE = {"create", "create_if_not_exists"}
ADD = {"add", "add_if_not_exists"}
TAKES = {"drop", "drop_if_exists", "rename", "remove", "remove_if_exists", "modify"}
ADDING_SQL = re.compile(
    r"CREATE\s+((TEMP|TEMPORARY|VIRTUAL)\s+)?(TABLE|VIEW|INDEX)\b|ANALYZE\b|REINDEX\b|SELECT\b", re.I
)
UNIQUE_SQL = re.compile(r"CREATE\s+UNIQUE\s+INDEX\b.*?\bON\s+[\"`\[]?(\w+)", re.I | re.S)
NEW_TABLE_SQL = re.compile(r"CREATE\s+TABLE\s+(?!IF\s)[\"`\[]?(\w+)", re.I)
INSERT_SQL = re.compile(r"INSERT\s+(?:OR\s+IGNORE\s+)?INTO\b(?!.*\bON\s+CONFLICT\b)", re.I | re.S)
NO_COLUMN = r"(?!\s+(?:CONSTRAINT|CHECK|FOREIGN|PRIMARY|UNIQUE)\b)"
COLUMN_SQL = re.compile(rf"ALTER\s+TABLE\s+\S+\s+ADD\b{NO_COLUMN}(?P<column>.*)", re.I | re.S)
TAKING_SQL = re.compile(r"(DROP|DELETE|UPDATE|REPLACE|ALTER|TRUNCATE)\b", re.I)
COMMENT_SQL = re.compile(r"--[^\n]*|/\*.*?\*/", re.S)


def additive(source: str) -> list[str]:
    """Why a migration (the text of its file) is not additive, in the order of the file; empty when it is."""
    try:
        bodies = list(_forward(statements(source)))
    except RecursionError:
        return ["not recognised: it is nested too deeply"]
    if not bodies:
        return ["not recognised: it has neither change nor up"]
    lines = [line for body in bodies for line in body]
    judge = _Judge(source, set(_new_tables(lines)))
    return [why for line in lines for why in judge.statement(line)]


def _forward(found: Iterable[Statement]) -> Iterator[Sequence[Statement]]:
    """The bodies of `up`, or else of `change`, of the file's modules."""
    for module in (statement for statement in found if statement.name == "defmodule"):
        defined = [(_defines(line), _body(line)) for line in module.block or () if line.name == "def"]
        ups = [body for name, body in defined if name == "up"]
        yield from ups or [body for name, body in defined if name == "change"]


def _defines(line: Statement) -> str:
    return line.head[1].text if len(line.head) > 1 else ""


def _body(line: Statement) -> Sequence[Statement]:
    """What a definition does, with `do … end` or with `do:`."""
    if line.block is not None:
        return line.block
    for number, token in enumerate(line.head):
        if token.kind == "key" and token.text == "do:":
            return [Statement(line.head[number + 1 :], None)]
    return []


def _new_tables(lines: Iterable[Statement]) -> Iterator[str]:
    """The tables that the migration itself makes: whatever it does to them, no older code knows them."""
    for line in lines:
        if line.name == "create" and _first(line) == "table":
            yield _table(line)
        elif line.name == "execute" and line.arguments()[:1]:
            yield from NEW_TABLE_SQL.findall(COMMENT_SQL.sub(" ", line.arguments()[0].text))


def _first(line: Statement) -> str:
    """What the statement works on: `table`, `index`, `unique_index`, …"""
    given = line.arguments()
    return given[0].text if given else ""


def _table(line: Statement) -> str:
    """The name of its table: the first atom or string."""
    return next((token.text.lstrip(":") for token in line.arguments() if token.kind in ("atom", "string")), "")


class _Judge:
    """Judges one statement after the other. `new` are the tables that the migration itself makes."""

    def __init__(self, source: str, new: set[str]) -> None:
        self.source, self.new = source, new

    def statement(self, line: Statement) -> list[str]:
        if line.name in NEUTRAL or line.name.startswith("@"):
            return []
        if line.name in CREATE:
            return self.create(line)
        if line.name == "alter":
            return self.alter(line)
        if line.name == "execute":
            return self.execute(line.arguments())
        return [self.other(line)]

    def create(self, line: Statement) -> list[str]:
        what = _first(line)
        unique = what == "unique_index" or any(token.text == "unique:" for token in line.head)
        if unique and _table(line) not in self.new:
            return [f"makes unique what older code may write twice: {self.show(line)}"]
        return [] if what in ("table", "index", "unique_index") else [self.other(line)]

    def alter(self, line: Statement) -> list[str]:
        if _table(line) in self.new:
            return []
        return [why for column in line.block or () for why in self.column(column)]

    def column(self, line: Statement) -> list[str]:
        keys = {token.text: line.head[number + 1].text for number, token in enumerate(line.head[:-1]) if _is_key(token)}
        if line.name in ADD and keys.get("null:") == "false" and keys.get("default:", "nil") == "nil":
            return [f"older code cannot write without it: {self.show(line)}"]
        if line.name == "timestamps" and keys.get("null:") != "true" and "default:" not in keys:
            return [f"older code cannot write without them: {self.show(line)}"]
        return [] if line.name in (*ADD, "timestamps") else [self.other(line)]

    def execute(self, given: Sequence[Token]) -> list[str]:
        """Of `execute up, down` only the first goes forward."""
        if not given or given[0].kind != "string" or "#{" in given[0].text or _goes_on(given):
            return [f"not recognised: execute {shown(self.source, given)}"]
        text = COMMENT_SQL.sub(" ", given[0].text)
        if re.match(r"\s*CREATE\s+(TEMP\w*\s+)?TRIGGER\b", text, re.I):
            return ["a trigger acts on what older code writes: " + _short(text)]
        return [why for part in text.split(";") if part.strip() for why in self.sql(part.strip())]

    def sql(self, text: str) -> list[str]:
        unique, column = UNIQUE_SQL.match(text), COLUMN_SQL.match(text)
        if unique:
            return [] if unique[1] in self.new else [f"makes unique what older code may write twice: {_short(text)}"]
        if column:
            return [f"older code cannot write without it: {_short(text)}"] if _required(column["column"]) else []
        if ADDING_SQL.match(text) or INSERT_SQL.match(text):
            return []
        return [f"{'takes away or changes' if TAKING_SQL.match(text) else 'not recognised'}: {_short(text)}"]

    def other(self, line: Statement) -> str:
        changes = line.name in TAKES or re.search(r"\b(delete|update)(_all)?!?\b", self.show(line))
        return f"{'takes away or changes' if changes else 'not recognised'}: {self.show(line)}"

    def show(self, line: Statement) -> str:
        return shown(self.source, line.head)


def _goes_on(given: Sequence[Token]) -> bool:
    """Whether the first argument is more than its first token."""
    return len(given) > 1 and given[1].text != ","


def _is_key(token: Token) -> bool:
    return token.kind == "key"


def _required(column: str) -> bool:
    return bool(re.search(r"\bNOT\s+NULL\b", column, re.I)) and not re.search(r"\bDEFAULT\b", column, re.I)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
