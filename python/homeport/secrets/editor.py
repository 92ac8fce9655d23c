"""Opens a text in the user's editor, in a private file in memory that is wiped afterwards."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from homeport.core import private_directory
from homeport.core.errors import ExitCode, HomeportError

_EDITORS = ("sensible-editor", "nano", "vi")


def edit(
    text: str,
    name: str,
    environ: Mapping[str, str],
    refuse: Callable[[str], None],
    edit_again: Callable[[HomeportError], bool],
) -> str:
    """The text after editing, in a file with this name.

    `refuse` raises HomeportError for a text with mistakes; `edit_again` gets that error, and decides.
    Raises HomeportError (exit code 1) if the editor fails; nothing has changed then.
    """
    with _handle_signals(), private_directory.directory() as private:
        file = private / name
        private_directory.write(file, text)
        while True:
            _run(_editor(environ), file, environ)
            edited = _read(file)
            try:
                refuse(edited)
            except HomeportError as error:
                if not edit_again(error):
                    raise
            else:
                return edited


def _editor(environ: Mapping[str, str]) -> list[str]:
    command = environ.get("VISUAL") or environ.get("EDITOR") or next(filter(shutil.which, _EDITORS), "")
    try:
        words = shlex.split(command)
    except ValueError:
        words = []
    if not words:
        raise HomeportError("there is no editor", "environment: EDITOR", "export EDITOR=nano", ExitCode.USAGE)
    return words


def _run(editor: list[str], file: Path, environ: Mapping[str, str]) -> None:
    try:
        status = subprocess.run([*editor, str(file)], env=dict(environ), check=False).returncode
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise _failure(f"the editor cannot be run: {reason}", editor, ExitCode.USAGE) from None
    if status != 0:
        raise _failure(f"the editor ended with status {status}, and nothing has changed", editor, ExitCode.FAILED)


def _failure(what: str, editor: list[str], code: ExitCode) -> HomeportError:
    return HomeportError(what, editor[0], "run deploy secrets edit again, or set another EDITOR", code)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        what = "the editor left no readable file, and nothing has changed"
        raise HomeportError(what, file.name, "deploy secrets edit", ExitCode.FAILED) from None


@contextmanager
def _handle_signals() -> Iterator[None]:
    """Leave Ctrl-C to the editor, and end in order on SIGHUP and SIGTERM, so that the file is wiped."""
    handlers = {signal.SIGINT: _ignore, signal.SIGTERM: _exit, signal.SIGHUP: _exit}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing. A handler instead of SIG_IGN, because the editor would inherit SIG_IGN."""


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
