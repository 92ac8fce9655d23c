"""Watches the command lines of this machine, and with them those of the sandbox's host: its processes show here too.

As a program: reads words as a JSON list from the first line of its input, and prints the command lines that held one of
them as a JSON list when its input ends.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

INTERVAL = 0.01  # seconds between two looks
YOUNG = 1.0  # seconds in which a process is looked at each time: it may become another program
OLD = 0.5  # seconds between two looks at all others


@contextmanager
def watching(words: Iterable[str]) -> Iterator[list[str]]:
    """Collects every command line with one of the words in it; complete at the end of the `with`."""
    found: list[str] = []
    argv = [sys.executable, __file__]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(json.dumps(list(words)) + "\n")
        process.stdin.flush()
        try:
            yield found
        finally:
            said, _ = process.communicate(timeout=60)
            found += json.loads(said)


def main() -> None:
    words = [word.encode() for word in json.loads(sys.stdin.readline())]
    seen: set[str] = set()
    born: dict[str, float] = {}
    looked = 0.0
    while not select.select([sys.stdin], [], [], INTERVAL)[0]:
        now = time.monotonic()
        born = {pid: born.get(pid, now) for pid in os.listdir("/proc") if pid.isdigit()}  # noqa: PTH208 - twice as fast
        everyone = now - looked >= OLD
        looked = now if everyone else looked
        for pid in born:
            if everyone or now - born[pid] < YOUNG:
                line = command_line(pid)
                if any(word in line for word in words):
                    seen.add(line.decode(errors="replace").replace("\0", " "))
    print(json.dumps(sorted(seen)))


def command_line(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


if __name__ == "__main__":
    main()
