"""A small SQL console in Python. It never checkpoints the database: only Litestream may."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from hostctl.common.errors import FAILED, HostError
from hostctl.common.table import columns
from hostctl.sqlite.database import files

MOST = 1000  # rows shown on a terminal; a pipe gets all of them
WIDEST = 60  # characters of a column on a terminal
IDLE = 30 * 60  # seconds without input, after which the console ends: an open one prevents a restore
STEPS = 10_000  # instructions of SQLite's virtual machine between two checks for Ctrl-C
HELP = """.tables          the tables and views
.schema [NAME]   the statements that created them
.quit            end, as Ctrl-D does
A statement may have several lines and ends with a semicolon. Ctrl-C drops it, or stops the one that runs."""


@contextlib.contextmanager
def open_live(path: Path, write: bool) -> Iterator[sqlite3.Connection]:
    """A connection to the live database for a person. A statement that checkpoints is refused. Raises HostError."""
    # a connection that writes must not be the last one to close: files.py says why
    with files.reading(path) as reader:
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        with contextlib.closing(files.connect(path, write)) as connection:
            connection.execute("PRAGMA foreign_keys = 1")
            connection.set_authorizer(_authorize)
            # the handler runs during a long statement, so that Python can handle Ctrl-C
            connection.set_progress_handler(lambda: 0, STEPS)
            connection.text_factory = lambda raw: raw.decode(errors="replace")
            yield connection


def _authorize(action: int, name: str | None, value: str | None, *_: object) -> int:
    pragma = (name or "").lower() if action == sqlite3.SQLITE_PRAGMA else ""
    refused = pragma == "wal_checkpoint" or (pragma in ("journal_mode", "wal_autocheckpoint") and value is not None)
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK


class Console:
    """Reads statements and prints their rows: a table on a terminal, else tab-separated. The first error ends it off a
    terminal.
    """

    def __init__(self, connection: sqlite3.Connection, source: TextIO, out: TextIO) -> None:
        self.connection, self.source, self.out = connection, source, out
        self.terminal = source.isatty() and out.isatty()

    def run(self, greeting: str = "") -> None:
        """Read and execute until the input ends or `.quit`. Raises HostError for a failed statement off a terminal."""
        if self.terminal:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - gives input() editing and a history
            self._say(greeting)
        pending = ""
        while True:
            try:
                line = self._line("...> " if pending else "sql> ")
                if line is None or (not pending and line.strip() in (".quit", ".exit")):
                    break
                pending = self._take(pending, line)
            except KeyboardInterrupt:
                self._say("")
                pending = ""
        if pending.strip():
            self._execute(f"{pending};")
        self._roll_back()

    def _line(self, prompt: str) -> str | None:
        """The next line; None when there is none."""
        if not self.terminal:
            line = self.source.readline()
            return line.removesuffix("\n") if line else None
        signal.signal(signal.SIGALRM, _time_out)
        signal.alarm(IDLE)
        try:
            return input(prompt)
        except EOFError:
            self._say("")
        except TimeoutError:
            self._say(f"closed: nothing was typed for {IDLE // 60} minutes")
        finally:
            signal.alarm(0)
        return None

    def _take(self, pending: str, line: str) -> str:
        """Add a line to the pending text, and execute the text once it is complete; returns the text still pending."""
        if not pending and line.strip().startswith("."):
            self._command(line.split())
            return ""
        text = f"{pending}{line}\n"
        if not text.strip():
            return ""
        if not sqlite3.complete_statement(text):
            return text
        self._execute(text)
        return ""

    def _command(self, words: Sequence[str]) -> None:
        if words[0] == ".tables":
            self._execute("SELECT name, type FROM sqlite_schema WHERE type IN ('table', 'view') ORDER BY name")
        elif words[0] == ".schema":
            named, value = (" AND tbl_name = ?", (words[1],)) if len(words) > 1 else ("", ())
            rows = self.connection.execute(f"SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL{named}", value)  # noqa: S608
            for (sql,) in rows:
                self._say(f"{sql};")
        else:
            self._say(HELP)

    def _execute(self, text: str) -> None:
        """Execute every statement of the text and print its result."""
        try:
            for statement in split_statements(text):
                self._print_result(self.connection.execute(statement))
        except (sqlite3.Error, sqlite3.Warning) as error:
            if not self.terminal:
                raise HostError(f"SQLite: {error}", text.strip()[:200], "correct the statement", FAILED) from None
            self._say(f"error: {error}")

    def _print_result(self, cursor: sqlite3.Cursor) -> None:
        if cursor.description is None:
            if self.terminal and cursor.rowcount >= 0:
                self._say(f"{_rows(cursor.rowcount)} changed")
            return
        if not self.terminal:
            for row in cursor:
                self._say("\t".join(printable(cell) for cell in row))
            return
        rows = cursor.fetchmany(MOST + 1)
        self._say("\n".join(format_table([column[0] for column in cursor.description], rows[:MOST])))
        self._say(f"the first {MOST} rows; LIMIT and OFFSET show others" if len(rows) > MOST else _rows(len(rows)))

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            self.connection.rollback()
            self._say("the open transaction was rolled back: it was not committed")

    def _say(self, text: str) -> None:
        self.out.write(f"{text}\n")
        self.out.flush()


def _time_out(*_: object) -> NoReturn:
    raise TimeoutError


def split_statements(text: str) -> Iterator[str]:
    """The statements of a text. A semicolon in a string, a comment or the body of a trigger does not end one."""
    begun = 0
    for at, character in enumerate(text):
        if character == ";" and sqlite3.complete_statement(text[begun : at + 1]):
            yield text[begun : at + 1]
            begun = at + 1
    if text[begun:].strip():
        yield text[begun:]


def printable(cell: object) -> str:
    """A value as one line of printable text; bytes as a blob literal of SQL."""
    if cell is None:
        return ""
    if isinstance(cell, bytes):
        return f"X'{cell.hex()}'"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(cell))


def format_table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A table of the rows with a header; wide cells are cut."""
    return columns(
        [[_cut(name) for name in names], *([_cut(printable(cell)) for cell in row] for row in rows)], rule=True
    )


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
