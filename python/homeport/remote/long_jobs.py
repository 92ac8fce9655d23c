"""Polls a long job on the host until it ends. The job needs no connection."""

from __future__ import annotations

import time
from collections.abc import Callable

from homeport.core.errors import ExitCode, HomeportError
from homeport.remote.hostctl import PATIENCE_SECONDS, Hostctl
from homeport.ssh import connection
from hostctl.common.documents import Json

POLL_SECONDS = 0.5
GRACE_SECONDS = 15.0  # within which systemd must have started the job


def follow(host: Hostctl, job: str, started: float, on_step: Callable[[str], None], verb: str = "backup") -> Json:
    """The result of a job of a verb, such as drill of backup, which began at `started` by the host's clock.

    A lost connection is retried for PATIENCE_SECONDS. Raises HomeportError after that, and if the job ended without a
    result.
    """
    heard = time.monotonic()
    grace = heard + GRACE_SECONDS
    while True:
        try:
            progress = host.call(verb, "progress")[job]
        except connection.UnreachableError as error:
            if time.monotonic() - heard > PATIENCE_SECONDS:
                raise _lost(job, error, host.where) from None
            time.sleep(POLL_SECONDS)
            continue
        heard = time.monotonic()
        result: Json | None = progress["result"]
        if result and result["at"] >= started and not progress["running"]:
            return result
        if not progress["running"] and heard > grace:
            raise HomeportError(f"the {job} ended without a result", host.where, "journalctl -u 'homeport-*' there")
        on_step(progress["step"])
        time.sleep(POLL_SECONDS)


def _lost(job: str, error: HomeportError, where: str) -> HomeportError:
    what = f"lost the connection to the host ({error.what}); the {job} continues there"
    return HomeportError(what, where, "deploy backup status", ExitCode.PERSON)
