"""Progress from the playbook's process to the one that talks to the person: lines of JSON in a file.

A playbook runs in processes of Ansible's own, whose output is Ansible's; what a step has to say while it works goes
through here. Without a listener (a plain `ansible-playbook`) nothing is written.
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
    """Tell whoever listens. One write of one line: lines of several processes do not mix."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(descriptor, json.dumps(event).encode() + b"\n")
    finally:
        os.close(descriptor)


def step(name: str, state: str, text: str = "", ms: int | None = None) -> None:
    """A step of the push begins, ends, fails or has a note to make; `ms` is how long it took."""
    emit({"kind": "step", "step": name, "state": state, "text": text, "ms": ms})


def line(text: str) -> None:
    """A line of somebody's output, a build's for instance."""
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
