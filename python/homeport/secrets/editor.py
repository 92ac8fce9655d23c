"""A text in a person's own editor: in a file in memory that only this user may read, wiped whatever happens."""

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

_USUAL = ("sensible-editor", "nano", "vi")


def edit(
    text: str,
    name: str,
    environ: Mapping[str, str],
    refuse: Callable[[str], None],
    again: Callable[[HomeportError], bool],
) -> str:
    """The text as the person leaves it, in a file of this name.

    `refuse` raises HomeportError for a text with mistakes; `again` is given it, and says whether the person goes on.
    Raises HomeportError (exit code 1) where the editor fails: then nothing has changed.
    """
    with _to_its_end(), private_directory.directory() as private:
        file = private / name
        private_directory.write(file, text)
        while True:
            _run(_editor(environ), file, environ)
            edited = _read(file)
            try:
                refuse(edited)
            except HomeportError as error:
                if not again(error):
                    raise
            else:
                return edited


def _editor(environ: Mapping[str, str]) -> list[str]:
    told = environ.get("VISUAL") or environ.get("EDITOR") or next(filter(shutil.which, _USUAL), "")
    try:
        words = shlex.split(told)
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
        raise _failed(f"the editor cannot be run: {reason}", editor, ExitCode.USAGE) from None
    if status != 0:
        raise _failed(f"the editor ended with status {status}, and nothing has changed", editor, ExitCode.FAILED)


def _failed(what: str, editor: list[str], code: ExitCode) -> HomeportError:
    return HomeportError(what, editor[0], "deploy secrets edit, with another EDITOR if need be", code)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        what = "the editor left no text behind, and nothing has changed"
        raise HomeportError(what, file.name, "deploy secrets edit", ExitCode.FAILED) from None


@contextmanager
def _to_its_end() -> Iterator[None]:
    """Ctrl-C is the editor's own; a hangup or a kill ends this process in order, so that the file is wiped."""
    asked = {signal.SIGINT: _unheard, signal.SIGTERM: _leave, signal.SIGHUP: _leave}
    before = {number: signal.signal(number, handler) for number, handler in asked.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _unheard(number: int, frame: FrameType | None) -> None:
    """A handler, because one that is ignored would be ignored by the editor too."""


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
