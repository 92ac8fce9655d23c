"""Builds the example apps in a copy of their own and runs their releases on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

APPS = Path(__file__).parents[3] / "molecule" / "apps"
NOTHING: Mapping[str, str] = {}
PATIENCE = 60.0  # seconds: far beyond what a start takes, so that only a hang fails


NEEDED = {"ledger": ("hello",), "guestbook": ("hello",)}  # what an app takes from beside it: ../hello


def copy_app(name: str, to: Path) -> Path:
    """A copy to build in; what the app needs from beside it is copied beside `to`."""
    for other in NEEDED.get(name, ()):
        if not (to.parent / other).exists():
            copy_app(other, to.parent / other)
    return shutil.copytree(APPS / name, to, ignore=shutil.ignore_patterns("_build", "static", "*.db*", "*.dump"))


def build_ledger(directory: Path, version: int = 1, extra: Sequence[str] = ()) -> Path:
    """The release directory of a version of the ledger app (SQLite), for --artifact.

    `extra` names migrations from the app's extra/ that this version has as well, by the part after their numbers:
    `("forget_half_of_the_entries",)` is destructive, `("add_author_to_entries",)` is not.
    """
    return _build("ledger", directory, version, extra)


def build_guestbook(directory: Path, version: int = 1, extra: Sequence[str] = ()) -> Path:
    """The release directory of a version of the guestbook app (PostgreSQL), for --artifact.

    `extra` as for the ledger, and two more: `add_mood_to_entries` waits for whoever holds a lock on the table,
    `make_checksums_unique` fails where a body was posted twice and leaves an invalid index behind.
    """
    return _build("guestbook", directory, version, extra)


def with_migrations(release: Path, to: Path, *extra: str) -> Path:
    """A copy of a release, at `to`, that has more migrations; they are compiled only when they run."""
    shutil.copytree(release, to, symlinks=True)
    (directory,) = to.glob(f"lib/{release.name}-*/priv/repo/migrations")
    for name in extra:
        (found,) = (APPS / release.name / "extra").glob(f"*_{name}.exs")
        shutil.copy(found, directory)
    return to


def _build(name: str, directory: Path, version: int, extra: Sequence[str]) -> Path:
    app = directory / f"source-{version}"
    copy_app(name, app)
    (app / "VERSION").write_text(f"{version}\n")
    for migration in extra:
        (found,) = (app / "extra").glob(f"*_{migration}.exs")
        shutil.copy(found, app / "priv" / "repo" / "migrations")
    release = directory / str(version) / name
    mix(app, "release", "--quiet", "--path", str(release))
    return release


def mix(app: Path, *command: str, **env: str) -> str:
    result = subprocess.run(
        ["mix", *command],
        cwd=app,
        env={**os.environ, "MIX_ENV": "prod", **env},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Instance:
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        """Status and body of one GET; `x_y` stands for the header `x-y`."""
        answer = self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return answer.status, answer.body

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read())

    def terminate(self) -> int:
        """SIGTERM, as systemd sends it; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.log.read_text() or self.process.poll() is not None)
        assert text in self.log.read_text()

    def wait_until_answering(self) -> None:
        wait_until(lambda: listens(self.port) or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def environment(port: int, scratch: Path, env: Mapping[str, str]) -> dict[str, str]:
    base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PHX_SERVER": "true", "PORT": str(port)}
    places = {"RELEASE_TMP": str(scratch / "tmp"), "STATE_DIRECTORY": str(scratch / "state")}
    quiet = {"RELEASE_DISTRIBUTION": "none", "ERL_CRASH_DUMP": "/dev/null", "HOMEPORT_RELEASE": "r1"}
    return base | places | quiet | dict(env)


@contextmanager
def started(
    release: Path, scratch: Path, env: Mapping[str, str] = NOTHING, port: int | None = None
) -> Iterator[Instance]:
    """The release running with `env`, whether or not it listens yet; killed at the end if it still runs."""
    port = port or free_port()
    scratch.mkdir(exist_ok=True)
    log = scratch / f"{port}.log"
    command: list[str | Path] = [release / "bin" / release.name, "start"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment(port, scratch, env), stdout=output, stderr=output, cwd=scratch
        )
    try:
        yield Instance(process, port, log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def running(
    release: Path, scratch: Path, env: Mapping[str, str] = NOTHING, port: int | None = None
) -> Iterator[Instance]:
    """As `started`, once it listens."""
    with started(release, scratch, env, port) as instance:
        instance.wait_until_answering()
        yield instance
