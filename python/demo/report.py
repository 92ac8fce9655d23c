"""What a load came to: every request counted, by method, by kind of failure and by phase."""

from __future__ import annotations

import json
import time
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LARGEST_FAILURE_LIST = 10_000


@dataclass(frozen=True)
class Failure:
    """One request that got no good answer.

    `started` and `at` (its end) are seconds since the epoch; `sent` is false when it was never written.
    `kind`: `connect` (no connection), `reset` (closed before any byte of an answer), `cut` (closed within
    the answer), `timeout`, `status`, `echo` (a POST answered with another body), `protocol` (not HTTP).
    """

    method: str
    kind: str
    detail: str
    phase: str
    started: float
    at: float
    sent: bool

    def in_flight(self, began: float, ended: float) -> bool:
        """Whether the request was with the server at any time between the two (seconds since the epoch)."""
        return self.sent and self.started <= ended and began <= self.at


@dataclass(frozen=True)
class Phase:
    """The requests that ended between one `mark` and the next. Latencies in seconds, of those answered."""

    name: str
    began: float
    seconds: float
    answered: dict[str, int]
    failed: dict[str, int]
    kinds: dict[str, int]
    p50: float
    p99: float
    slowest: float
    slowest_at: float


@dataclass(frozen=True)
class Report:
    """The outcome. `versions` counts GET answers by the JSON `version` in them, in order of appearance."""

    total: Phase
    phases: list[Phase]
    failures: list[Failure]
    versions: dict[str, int]
    connections: int

    @property
    def answered(self) -> int:
        return sum(self.total.answered.values())

    @property
    def failed(self) -> int:
        return sum(self.total.failed.values())

    def phase(self, name: str) -> Phase:
        return next(phase for phase in self.phases if phase.name == name)

    def posts_in_flight(self, began: float, ended: float) -> list[Failure]:
        """Failed POSTs that were with the server during a kill: nobody may send these again.

        A kill takes time: `began` is just before the signal, `ended` when the process is gone.
        """
        return [item for item in self.failures if item.method == "POST" and item.in_flight(began, ended)]

    def unexcused(self, *kills: tuple[float, float]) -> list[Failure]:
        """The failures that are not POSTs in flight during one of the kills."""
        excused = [item for began, ended in kills for item in self.posts_in_flight(began, ended)]
        return [item for item in self.failures if item not in excused]

    @classmethod
    def from_json(cls, text: str) -> Report:
        data = json.loads(text)
        return cls(
            total=Phase(**data["total"]),
            phases=[Phase(**phase) for phase in data["phases"]],
            failures=[Failure(**failure) for failure in data["failures"]],
            versions=data["versions"],
            connections=data["connections"],
        )


@dataclass
class Tally:
    """The running counts of one phase."""

    name: str
    began: float = field(default_factory=time.time)
    answered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    slowest: float = 0.0
    slowest_at: float = 0.0

    def good(self, method: str, seconds: float) -> None:
        self.answered[method] += 1
        self.latencies.append(seconds)
        if seconds > self.slowest:
            self.slowest, self.slowest_at = seconds, time.time()

    def bad(self, failure: Failure) -> None:
        self.failed[failure.method] += 1
        self.kinds[failure.kind] += 1

    def freeze(self, ended: float) -> Phase:
        return Phase(
            name=self.name,
            began=self.began,
            seconds=ended - self.began,
            answered=dict(self.answered),
            failed=dict(self.failed),
            kinds=dict(self.kinds),
            p50=percentile(self.latencies, 0.50),
            p99=percentile(self.latencies, 0.99),
            slowest=self.slowest,
            slowest_at=self.slowest_at,
        )


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile; 0 when there are no values."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    rank = -int(-share * len(ordered) // 1)  # rounded up
    return ordered[max(rank, 1) - 1]


class Counts:
    """All outcomes so far, in total and by phase. A request counts in the phase in which it ends."""

    def __init__(self) -> None:
        self.total = Tally("total")
        self.phases = [Tally("start")]
        self.ends: list[float] = []
        self.failures: list[Failure] = []
        self.versions: Counter[str] = Counter()
        self.connections = 0

    def mark(self, name: str) -> float:
        tally = Tally(name)
        self.ends.append(tally.began)
        self.phases.append(tally)
        return tally.began

    def good(self, method: str, seconds: float) -> None:
        self.total.good(method, seconds)
        self.phases[-1].good(method, seconds)

    def bad(self, failure: Failure) -> None:
        self.total.bad(failure)
        self.phases[-1].bad(failure)
        if len(self.failures) < LARGEST_FAILURE_LIST:
            self.failures.append(failure)

    def progress(self) -> dict[str, Any]:
        total = self.total
        return {
            "phase": self.phases[-1].name,
            "answered": total.answered.total(),
            "failed": total.failed.total(),
            "slowest": total.slowest,
        }

    def report(self) -> Report:
        ended = time.time()
        ends = [*self.ends, ended]
        phases = [tally.freeze(end) for tally, end in zip(self.phases, ends, strict=True)]
        return Report(self.total.freeze(ended), phases, self.failures, dict(self.versions), self.connections)
