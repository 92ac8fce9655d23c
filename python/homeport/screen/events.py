"""Progress events from a playbook's processes to the process that has the terminal: lines of JSON in a file.

Ansible runs a playbook in processes of its own and takes their output, so a step reports its progress through this
file. Without a listener (a plain `ansible-playbook`) nothing is written.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hostctl.common.documents import Json

VARIABLE = "HOMEPORT_EVENTS"
LOOK_SECONDS = 0.03


def emit(event: Json) -> None:
    """Write an event for the listener. One write per line, so that lines of several processes do not mix."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, json.dumps(event).encode() + b"\n")
    finally:
        os.close(descriptor)


def step(name: str, state: str, text: str = "", ms: int | None = None) -> None:
    """Report that a step begins, ends, fails or has a note; `ms` is its duration in milliseconds."""
    emit({"kind": "step", "step": name, "state": state, "text": text, "ms": ms})


def line(text: str) -> None:
    """Report a line of a program's output, such as a build's."""
    emit({"kind": "line", "text": text})


@contextmanager
def listen(path: Path, on_event: Callable[[Json], None]) -> Iterator[None]:
    """Call `on_event` with every event written to `path` while the block runs."""
    path.touch(mode=0o600)
    ended = threading.Event()

    def tail() -> None:
        with path.open() as events:
            while True:
                last = ended.is_set()  # read before the lines, so that none written before the end is missed
                for text in events:
                    on_event(json.loads(text))
                if last:
                    return
                ended.wait(LOOK_SECONDS)

    thread = threading.Thread(target=tail, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
