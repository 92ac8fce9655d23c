"""Stores the state of each sandbox of this machine, in a state.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from homeport.sandbox import durable
from homeport.sandbox.addresses import Slot
from homeport.sandbox.model import SANDBOXES, Sandbox


@dataclass(frozen=True)
class State:
    """The state of a sandbox. `ready`: every service has answered; `pid` and `started` identify the supervisor."""

    name: str
    suite: str
    slot: int
    owner: int
    ready: bool = False
    pid: int = 0
    started: int = 0


def path_of(name: str) -> Path:
    """The file with the state of a sandbox."""
    return SANDBOXES / name / "state.json"


def save(state: State) -> None:
    """Store the state."""
    path = path_of(state.name)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    durable.write_json(path, asdict(state))


def load(name: str) -> State | None:
    """The state of a sandbox; None if there is none, or if the file cannot be read."""
    document = durable.read_json(path_of(name))
    try:
        return State(**document) if document is not None else None
    except TypeError:
        return None


def names() -> list[str]:
    """The names of all sandboxes with a directory, also of an incomplete one that a killed run left."""
    if not SANDBOXES.is_dir():
        return []
    return sorted(entry.name for entry in SANDBOXES.iterdir() if entry.is_dir())


def slots_taken(besides: str) -> set[int]:
    """The slots of all sandboxes except `besides`."""
    states = (load(name) for name in names() if name != besides)
    return {state.slot for state in states if state is not None}


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (field 22 of proc(5) stat); 0 when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def is_supervised(state: State) -> bool:
    """Whether the supervisor of the state runs: a process with its number and its start time."""
    return state.pid > 0 and start_time(state.pid) == state.started


def to_sandbox(state: State) -> Sandbox:
    """The sandbox with its current state."""
    up = state.ready and is_supervised(state)
    return Sandbox(state.name, state.suite, Slot(state.slot), "up" if up else "down")
