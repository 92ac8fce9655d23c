"""Calls hostctl on a host: one remote command per call, JSON in and out."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from homeport.core.errors import ExitCode, HomeportError
from homeport.ssh import connection
from hostctl.common.documents import Json

HOSTCTL = "/usr/local/sbin/hostctl"
# what provisioning calls in its place, as root: roles/base/files/root-hostctl
ROOT_HOSTCTL = "/usr/local/lib/homeport/root-hostctl"
# how long a lost connection is retried, while the transition continues on the host
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 5.0


class NotProvisionedError(HomeportError):
    """There is no hostctl on the host, or the user may not run it."""


class Run(Protocol):
    """Runs one command line on the host. Raises HomeportError when the connection fails."""

    def __call__(self, command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]: ...


@dataclass(frozen=True)
class Hostctl:
    """hostctl for one app on one host. `where` names the host in errors."""

    app: str
    where: str
    run: Run
    sudo: bool = True
    program: str = HOSTCTL

    def command(self, *args: str) -> list[str]:
        """The words of the remote command, quoted for a shell."""
        prefix = ["sudo", "-n"] if self.sudo else []
        return [shlex.quote(word) for word in [*prefix, self.program, self.app, *args]]

    def call(self, *args: str, stdin: bytes = b"") -> Json:
        """Run a verb and return its answer. Raises HomeportError, with hostctl's own three parts where it gave them."""
        status, out, err = self.run(self.command(*args), stdin)
        return parse(status, out, err, self.where)

    def send(self, verb: str, payload: Json, *args: str) -> Json:
        """Run a verb that reads a JSON document."""
        return self.call(verb, *args, stdin=json.dumps(payload).encode())


def parse(status: int, out: bytes, err: bytes, where: str) -> Json:
    """hostctl's answer, from its exit status and output. Raises HomeportError for a refusal, and without an answer."""
    try:
        answer = json.loads(out)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _no_answer(status, err, where)
    if "error" in answer and status != 0:
        error = answer["error"]
        raise HomeportError(error["what"], error["where"] or where, error["fix"], error["code"])
    return answer


def _no_answer(status: int, err: bytes, where: str) -> HomeportError:
    lines = err.decode(errors="replace").strip().splitlines() or [f"exit status {status}"]
    if any(sign in lines[-1] for sign in ("not found", "password is required", "not allowed", "No such file")):
        return NotProvisionedError("the host is not provisioned for this app", where, "deploy setup", ExitCode.FAILED)
    return HomeportError(f"hostctl gave no answer: {lines[-1]}", where, "deploy provision", ExitCode.PERSON)


def over_ssh(app: str, target: connection.Target, timeout: float = 60) -> Hostctl:
    """hostctl over SSH, for verbs that need no playbook. `timeout` is for one call, in seconds."""

    def run(command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        return connection.run(target, command, stdin=stdin, timeout=timeout)

    return Hostctl(app, str(target), run, sudo=target.user != "root")


def follow(host: Hostctl, transition: str, on_event: Callable[[Json], None]) -> Json:
    """Pass a transition's events to `on_event` until the transition has ended; return its result.

    The transition continues on the host without a connection. A lost connection is retried for PATIENCE_SECONDS; then
    raises HomeportError.
    """
    position, lost_since = 0, None
    while True:
        try:
            answer = host.call(
                "follow", "--transition", transition, "--after", str(position), "--wait", str(POLL_SECONDS)
            )
        except connection.UnreachableError as error:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > PATIENCE_SECONDS:
                raise _lost(error, host.where) from None
            time.sleep(1)
            continue
        lost_since, position = None, answer["next"]
        for event in answer["events"]:
            on_event(event)
        if answer["done"]:
            result: Json = answer["result"]
            return result


def _lost(error: HomeportError, where: str) -> HomeportError:
    what = f"lost the connection to the host ({error.what}); the host finishes or undoes the transition by itself"
    return HomeportError(what, where, "deploy attach", ExitCode.PERSON)
