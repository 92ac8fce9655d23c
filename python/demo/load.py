"""A load that hides nothing: keep-alive clients, half of the requests POST, every outcome counted.

No request is ever sent twice. A connection that the server has closed between two requests (`connection:
close`, or an end of stream seen before the next request is written) is opened again, as any HTTP client does;
an end of stream after the request was written is a failure. Each client has one request in flight (a closed
loop), so an edge that holds requests lowers the rate; the time it holds them is in the latencies, as is the
time to connect.

As a program, from `python/`: `python -m demo.load ADDRESS DOMAIN [--ca FILE]`; exit status 0 only if nothing
failed. As a library it is a process of its own, so that it and its user do not slow one another:

    with Load("198.51.100.7", "hello.sandbox.test", ca) as load:
        load.mark("push")
        ...
    assert load.report.failed == 0
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from demo.clients import Runner, Settings
from demo.report import Report

PACKAGES = Path(__file__).parents[1]
STOP_GRACE = 5.0  # seconds beyond the request timeout until the process is taken for stuck


def say(**document: Any) -> None:
    print(json.dumps(document), flush=True)


async def obey(runner: Runner) -> None:
    """Commands on standard input, one a line: `mark NAME`, `progress`; its end stops the load."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await runner.ready.wait()
    say(ready=True)
    while line := (await reader.readline()).decode().strip():
        command, _, name = line.partition(" ")
        say(**(runner.counts.progress() if command == "progress" else {"at": runner.counts.mark(name)}))
    runner.stop()


async def serve(settings: Settings, controlled: bool) -> Report:
    runner = Runner(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, runner.stop)
    control = asyncio.create_task(obey(runner)) if controlled else None
    report = await runner.run()
    if control:
        await control  # the user ends it, so that nothing is said to a closed pipe
    return report


@dataclass(frozen=True)
class Progress:
    phase: str
    answered: int
    failed: int
    slowest: float


class Load:
    """A load in a process of its own, from `with` to its end; `report` holds the outcome after it.

    Entering returns when every client has had its first answer or failure. Raises RuntimeError when the
    process cannot start or dies.
    """

    report: Report

    def __init__(self, address: str, domain: str, ca: Path | str | None = None, **options: Any) -> None:
        """`options` are the other fields of `Settings`."""
        self.settings = Settings(address, domain, str(ca) if ca else None, **options)

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "demo.load", *arguments(self.settings), "--control"]
        path = os.pathsep.join(filter(None, [str(PACKAGES), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        try:
            self.hear()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            output, _ = self.process.communicate(timeout=self.settings.timeout + STOP_GRACE)
        except BaseException:
            self.kill()
            raise
        if output:
            self.report = Report.from_json(output)
        elif kind is None:
            raise RuntimeError(f"the load ended with status {self.process.returncode} and no report")

    def mark(self, name: str) -> float:
        """Begins a phase; returns when (seconds since the epoch)."""
        return float(self.ask(f"mark {name}")["at"])

    def progress(self) -> Progress:
        return Progress(**self.ask("progress"))

    def ask(self, command: str) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # it has died, which hear() reports with its status
            pipe(self.process.stdin).write(command + "\n")
            pipe(self.process.stdin).flush()
        return self.hear()

    def hear(self) -> dict[str, Any]:
        line = pipe(self.process.stdout).readline()
        if not line:
            raise RuntimeError(f"the load ended with status {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def pipe(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise RuntimeError("the load was not started with pipes")
    return stream


def arguments(settings: Settings) -> list[str]:
    """The command line that `parser` reads back as `settings`."""
    options = [option for item in fields(settings)[2:] for option in option_of(item.name, getattr(settings, item.name))]
    return [settings.address, settings.domain, *options]


def option_of(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}"] if value else []
    return [] if value is None else [f"--{name.replace('_', '-')}", str(value)]


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m demo.load", description="Keep-alive clients, half POST.")
    result.add_argument("address", help="IP or IP:PORT to connect to")
    result.add_argument("domain", help="name for SNI and Host")
    result.add_argument("--ca", help="file of certificates to trust")
    result.add_argument("--plain", action="store_true", help="HTTP instead of HTTPS")
    for item in fields(Settings):
        if item.name not in ("address", "domain", "ca", "plain"):
            kind: Callable[[str], Any] = type(item.default)
            result.add_argument(f"--{item.name.replace('_', '-')}", type=kind, default=item.default)
    result.add_argument("--json", action="store_true", help="print the report as one JSON document")
    result.add_argument("--control", action="store_true", help=argparse.SUPPRESS)
    return result


def table(report: Report) -> str:
    lines = [f"{'phase':<16}{'seconds':>8}{'answered':>10}{'failed':>8}{'p50 ms':>9}{'p99 ms':>9}{'slowest':>9}"]
    for phase in [*report.phases, report.total]:
        times = "".join(f"{value * 1000:9.1f}" for value in (phase.p50, phase.p99, phase.slowest))
        good, bad = sum(phase.answered.values()), sum(phase.failed.values())
        lines.append(f"{phase.name:<16}{phase.seconds:8.1f}{good:10}{bad:8}{times}")
    lines += [
        f"{item.method} {item.kind} after {item.at - item.started:.3f} s: {item.detail}" for item in report.failures
    ]
    return "\n".join(lines)


def main() -> int:
    options = vars(parser().parse_args())
    controlled, as_json = options.pop("control"), options.pop("json")
    report = asyncio.run(serve(Settings(**options), controlled))
    print(json.dumps(asdict(report)) if as_json or controlled else table(report), flush=True)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
