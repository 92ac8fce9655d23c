"""Decides whether a migration is additive, so that older code still works after it.

Reads the source of the migration: Ecto's functions and SQL. A statement that is not recognised counts as breaking.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from hostctl.common.release.elixir import Statement, Token, excerpt, statements

NEUTRAL = {"use", "import", "alias", "require", "flush"}
CREATE = {"create", "create_if_not_exists"}
ADD = {"add", "add_if_not_exists"}
TAKES = {"drop", "drop_if_exists", "rename", "remove", "remove_if_exists", "modify"}
# settings hold for the migration's own session
ADDING_SQL = re.compile(
    r"CREATE\s+((TEMP|TEMPORARY|VIRTUAL|UNLOGGED|MATERIALIZED|RECURSIVE)\s+)*"
    r"(TABLE|VIEW|INDEX|TYPE|SEQUENCE|SCHEMA|EXTENSION|STATISTICS)\b"
    r"|(ANALYZE|REINDEX|VACUUM|COMMENT\s+ON|SET)\b",
    re.I,
)
# a function may do anything; these change nothing
SELECT_SQL = re.compile(r"SELECT\b", re.I)
CALLED = re.compile(r"(\w+)\s*\(")
HARMLESS = {"count", "max", "min", "sum", "coalesce", "now", "setval", "pg_sleep", "in", "values", "exists", "select"}
NAMED = r"(?:ONLY\s+)?(?P<table>[\w.\"`\[\]]+)"
UNIQUE_SQL = re.compile(rf"CREATE\s+UNIQUE\s+INDEX\b.*?\bON\s+{NAMED}", re.I | re.S)
NEW_TABLE_SQL = re.compile(rf"CREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?!IF\s){NAMED}", re.I)
INSERT_SQL = re.compile(r"INSERT\s+(?:OR\s+IGNORE\s+)?INTO\b(?!.*\bON\s+CONFLICT\b)", re.I | re.S)
NO_COLUMN = r"(?!\s+(?:CONSTRAINT|CHECK|FOREIGN|PRIMARY|UNIQUE)\b)"
ALTER_SQL = re.compile(rf"ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?{NAMED}\s+(?P<actions>.*)", re.I | re.S)
COLUMN_SQL = re.compile(rf"ADD\b{NO_COLUMN}(?P<column>.*)", re.I | re.S)
TAKING_SQL = re.compile(r"(DROP|DELETE|UPDATE|REPLACE|ALTER|TRUNCATE)\b", re.I)
COMMENT_SQL = re.compile(r"--[^\n]*|/\*.*?\*/", re.S)


def breaking_changes(source: str) -> list[str]:
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
    """The statements of a definition, whether written with `do … end` or `do:`."""
    if line.block is not None:
        return line.block
    for number, token in enumerate(line.head):
        if token.kind == "key" and token.text == "do:":
            return [Statement(line.head[number + 1 :], None)]
    return []


def _new_tables(lines: Iterable[Statement]) -> Iterator[str]:
    """The tables that the migration creates: older code does not use them, so any change to them is safe."""
    for line in lines:
        if line.name == "create" and _first(line) == "table":
            yield _table(line)
        elif line.name == "execute" and line.arguments()[:1]:
            yield from map(_plain, NEW_TABLE_SQL.findall(COMMENT_SQL.sub(" ", line.arguments()[0].text)))


def _first(line: Statement) -> str:
    """The kind of object that the statement creates: `table`, `index`, `unique_index`, …"""
    given = line.arguments()
    return given[0].text if given else ""


def _table(line: Statement) -> str:
    """The name of the statement's table: its first atom or string."""
    return next((token.text.lstrip(":") for token in line.arguments() if token.kind in ("atom", "string")), "")


class _Judge:
    """Lists why statements are not additive. `new` are the tables that the migration creates."""

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
        """Reasons against `execute up, down`, of which only `up` is looked at."""
        if not given or given[0].kind != "string" or "#{" in given[0].text or _goes_on(given):
            return [f"not recognised: execute {excerpt(self.source, given)}"]
        text = COMMENT_SQL.sub(" ", given[0].text)
        if re.match(r"\s*CREATE\s+(TEMP\w*\s+)?TRIGGER\b", text, re.I):
            return ["a trigger acts on what older code writes: " + _short(text)]
        return [why for part in text.split(";") if part.strip() for why in self.sql(part.strip())]

    def sql(self, text: str) -> list[str]:
        if unique := UNIQUE_SQL.match(text):
            known = _plain(unique["table"]) in self.new
            return [] if known else [f"makes unique what older code may write twice: {_short(text)}"]
        if (altered := ALTER_SQL.match(text)) and (columns := _new_columns(altered["actions"])):
            required = any(map(_required, columns)) and _plain(altered["table"]) not in self.new
            return [f"older code cannot write without it: {_short(text)}"] if required else []
        if ADDING_SQL.match(text) or INSERT_SQL.match(text) or _only_reads(text):
            return []
        return [f"{'takes away or changes' if TAKING_SQL.match(text) else 'not recognised'}: {_short(text)}"]

    def other(self, line: Statement) -> str:
        changes = line.name in TAKES or re.search(r"\b(delete|update)(_all)?!?\b", self.show(line))
        return f"{'takes away or changes' if changes else 'not recognised'}: {self.show(line)}"

    def show(self, line: Statement) -> str:
        return excerpt(self.source, line.head)


def _goes_on(given: Sequence[Token]) -> bool:
    """Whether the first argument has more than one token."""
    return len(given) > 1 and given[1].text != ","


def _is_key(token: Token) -> bool:
    return token.kind == "key"


def _plain(name: str) -> str:
    """A table's name without quotes, as Ecto writes it."""
    return re.sub(r"[\"`\[\]]", "", name)


def _only_reads(text: str) -> bool:
    """Whether a statement is a SELECT that calls only functions known to change nothing of the schema."""
    return bool(SELECT_SQL.match(text)) and {called.lower() for called in CALLED.findall(text)} <= HARMLESS


def _new_columns(actions: str) -> list[str]:
    """The columns that one ALTER TABLE adds; empty if one of its actions does something else."""
    found = [COLUMN_SQL.match(action.strip()) for action in _at_commas(actions)]
    return [one["column"] for one in found if one] if all(found) else []


def _at_commas(text: str) -> list[str]:
    """The text, split at the commas that are outside of parentheses and quotes."""
    marks = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"", lambda found: "x" * len(found[0]), text)
    depths = itertools.accumulate((mark == "(") - (mark == ")") for mark in marks)
    ends = [at for at, (mark, depth) in enumerate(zip(marks, depths, strict=True)) if mark == "," and depth == 0]
    return [text[begin:end] for begin, end in itertools.pairwise([0, *(at + 1 for at in ends), len(text) + 1])]


def _required(column: str) -> bool:
    """Whether rows cannot be written without the column: it is NOT NULL or a key, and has no default."""
    needed = re.search(r"\b(NOT\s+NULL|PRIMARY\s+KEY)\b", column, re.I)
    return bool(needed) and not re.search(r"\b(DEFAULT|GENERATED|(BIG|SMALL)?SERIAL\d?)\b", column, re.I)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
