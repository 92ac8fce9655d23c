"""Shows the progress of a verb on standard error: one line per step, plain text if it is not a terminal.

Standard output has results only, so that `--json` and pipes get nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TextIO

from homeport.core.humanize import size
from homeport.core.redact import Redactor
from hostctl.common.documents import Json

GREEN, RED, DIM, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
TICK_SECONDS = 0.2
# off a terminal, a step that takes longer than this is announced before it ends
LONG_SECONDS = 2.0


class Screen:
    """Shows steps on a stream; on a terminal the running step counts its seconds."""

    def __init__(
        self, stream: TextIO | None = None, *, quiet: bool = False, verbose: bool = False, width: int = 9
    ) -> None:
        self.stream, self.width = stream or sys.stderr, width
        self.quiet, self.verbose = quiet, verbose
        self.terminal = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.terminal and "NO_COLOR" not in os.environ
        self._lock = threading.Lock()
        self._running: tuple[str, str, float] | None = None
        self._announced = False
        self._ticker: threading.Thread | None = None

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            self._write_line(text)

    def begin(self, step: str, text: str = "") -> None:
        """Begin a step. Off a terminal nothing is printed until it ends or has taken LONG_SECONDS."""
        with self._lock:
            self._running, self._announced = (step, text, time.monotonic()), False
        self._draw()
        if not self._ticker and not self.quiet:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def note(self, text: str) -> None:
        """Show a note of the running step; on a terminal it replaces the one before."""
        with self._lock:
            if self._running:
                self._running = (self._running[0], text, self._running[2])
        self._draw()

    def end(self, step: str, text: str = "", seconds: float | None = None, *, ok: bool = True) -> None:
        """End a step. `seconds` is its duration; by default it is measured."""
        with self._lock:
            running, self._running = self._running, None
        if seconds is None and running:
            seconds = time.monotonic() - running[2]
        sign = self._paint("ok", GREEN) if ok else self._paint("failed", RED)
        took = self._paint(f"{seconds:6.1f} s", DIM) if seconds is not None else " " * 8
        if not self.quiet or not ok:
            self._write_line(f"  {step:<{self.width}}{took}  {sign}  {text}".rstrip())

    def _paint(self, text: str, colour: str) -> str:
        return f"{colour}{text}{PLAIN}" if self.colour else text

    def _write_line(self, text: str) -> None:
        with self._lock:
            clear = "\r\x1b[K" if self.terminal else ""
            self.stream.write(f"{clear}{text}\n")
            self.stream.flush()

    def _draw(self) -> None:
        with self._lock:
            if self.quiet or not self._running:
                return
            step, text, since = self._running
            elapsed = time.monotonic() - since
            if self.terminal:
                line = f"  {step:<{self.width}}{elapsed:6.1f} s  {text}"
                self.stream.write(f"\r\x1b[K{line[: os.get_terminal_size(self.stream.fileno()).columns - 1]}")
            elif elapsed > LONG_SECONDS and not self._announced:
                self._announced = True
                self.stream.write(f"  {step:<{self.width}}     ...  {text}".rstrip() + "\n")
            self.stream.flush()

    def _tick(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            self._draw()


class PushScreen:
    """Shows the events of a playbook and of hostctl as steps on a screen, and collects them for the result."""

    def __init__(self, screen: Screen, redactor: Redactor) -> None:
        self.screen, self.redact = screen, redactor
        self.steps: list[Json] = []
        self.transition: str | None = None
        # the name of the step that began last
        self.step = ""

    def __call__(self, event: Json) -> None:
        handler = getattr(self, f"_on_{event['kind']}", None)
        if handler:
            handler({**event, "text": self.redact(event.get("text") or "")})

    def _on_step(self, event: Json) -> None:
        step, state = event["step"], event["state"]
        if state == "begin":
            self.step = step
            self.screen.begin(step, event["text"])
        elif state == "note":
            self.screen.note(event["text"])
        else:
            self._end_step(event, step, ok=state == "ok")

    def _on_host(self, event: Json) -> None:
        if event["state"] == "note":
            # such as a migration's output or a reason to wait: printed on lines that stay
            for text in event["text"].splitlines():
                self.screen.say(f"    {text}")
        else:
            self._on_step(event)

    def _end_step(self, event: Json, step: str, *, ok: bool) -> None:
        ms = event["ms"]
        if ms is not None:
            self.steps.append({"name": step, "ms": ms})
        # the rest of a failure's text is in the error that follows
        text = next(iter(event["text"].splitlines()), "")
        self.screen.end(step, text, None if ms is None else ms / 1000, ok=ok)

    def _on_line(self, event: Json) -> None:
        if self.screen.verbose:
            self.screen.say(f"    {event['text']}")
        else:
            self.screen.note(event["text"])

    def _on_bytes(self, event: Json) -> None:
        self.screen.note(f"{size(event['done'])} of {size(event['total'])}")

    def _on_transition(self, event: Json) -> None:
        self.transition = event["transition"]
