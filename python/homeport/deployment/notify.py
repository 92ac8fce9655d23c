"""Sends notifications of failures before the host is involved. The host itself sends all others."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from homeport.config.layers import Loaded
from homeport.config.notify import Notify
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.core.performer import here, who
from homeport.remote.session import Session
from homeport.screen.screen import PushScreen
from homeport.secrets import resolve
from homeport.secrets.resolve import Secrets
from hostctl.common import message, webhook
from hostctl.common.documents import Json

# not notified: a mistake in the arguments or in deploy.yml, somebody else's lock, and Ctrl-C
QUIET = (ExitCode.USAGE, ExitCode.LOCKED, ExitCode.INTERRUPTED)
# the step after the host's steps: the host has reported a success before it can fail
OUTSIDE = "outside"


def check(loaded: Loaded, values: Secrets) -> None:
    """Raises HomeportError (usage) for an invalid URL. The error does not contain it."""
    for receiver in loaded.config.notify:
        value = resolve.reveal(values.get(receiver.url))
        if value is not None and (wrong := webhook.mistake(value)):
            where, fix = str(loaded.origin["notify"]), f"deploy secrets set {receiver.url}"
            raise HomeportError(f"the value of {receiver.url} {wrong}", where, fix, ExitCode.USAGE)


class Teller:
    """Notifies of a verb that fails before the host has begun it. Create it while the environment has the secrets."""

    def __init__(self, session: Session, verb: str) -> None:
        self.session, self.verb = session, verb
        self.wanted = [one for one in session.loaded.config.notify if message.FAILURE in one.on]
        self.environ = dict(os.environ) if self.wanted else {}

    @contextmanager
    def watching(self, shown: PushScreen) -> Iterator[None]:
        """Run the verb in this block: its failure is notified, and raised again."""
        try:
            yield
        except HomeportError as error:
            known_there = shown.transition is not None and shown.step != OUTSIDE
            if self.wanted and error.code not in QUIET and not known_there:
                self._tell(redact.known().error(error))
            raise

    def _tell(self, error: HomeportError) -> None:
        told = document(self.session, self.verb, error)
        try:
            values = resolve.collect(self.session.loaded, self.environ, [one.url for one in self.wanted])
        except HomeportError as why:
            _warn(", ".join(one.url for one in self.wanted), why.what)
            return
        with ThreadPoolExecutor() as at_once:
            said = at_once.map(lambda one: _send(one, resolve.reveal(values[one.url]), told), self.wanted)
            for receiver, why_not in zip(self.wanted, said, strict=True):
                if why_not:
                    _warn(receiver.url, why_not)


def document(session: Session, verb: str, error: HomeportError) -> Json:
    """The notification, in the form of the host's queue."""
    facts = {"verb": verb, "from": here(), "code": int(error.code)}
    found = message.failure(session.app, verb, who(), error.as_dict(), facts)
    return {"app": session.app, "host": here(), "at": time.time(), **found._asdict()}


def _send(receiver: Notify, url: str | None, told: Json) -> str:
    """Send the notification; returns why the receiver did not accept it, "" if it did."""
    if url is None:
        return "only the host has its URL"
    answer = webhook.send(url, message.post(receiver.format, told))
    return "" if answer.taken else answer.text or f"it answered {answer.status}"


def _warn(name: str, why: str) -> None:
    print(redact.known()(f"warning: {name} was not told of this failure: {why}"), file=sys.stderr)
