"""Sends notifications of failures before the host is involved. The host itself sends all others."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from homeport.config.layers import Loaded
from homeport.config.notify import Notify
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.core.performer import machine_name, performer_name
from homeport.remote.session import Session
from homeport.screen.screen import PushScreen
from homeport.secrets import resolve
from homeport.secrets.resolve import Secrets
from hostctl.common import message
from hostctl.common.documents import NoticeDocument
from hostctl.common.net import webhook

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


class FailureNotifier:
    """Notifies of a verb that fails before the host has begun it. Create it while the environment has the secrets."""

    def __init__(self, session: Session, verb: str) -> None:
        self.session, self.verb = session, verb
        self.receivers = [receiver for receiver in session.loaded.config.notify if message.FAILURE in receiver.on]
        self.environ = dict(os.environ) if self.receivers else {}

    @contextmanager
    def watch(self, shown: PushScreen) -> Iterator[None]:
        """Run the verb in this block: its failure is notified, and raised again."""
        try:
            yield
        except HomeportError as error:
            host_notifies = shown.transition is not None and shown.step != OUTSIDE
            if self.receivers and error.code not in QUIET and not host_notifies:
                self._notify(redact.redactor().error(error))
            raise

    def _notify(self, error: HomeportError) -> None:
        notification = document(self.session, self.verb, error)
        try:
            values = resolve.collect(self.session.loaded, self.environ, [receiver.url for receiver in self.receivers])
        except HomeportError as why:
            _warn(", ".join(receiver.url for receiver in self.receivers), why.what)
            return
        with ThreadPoolExecutor() as pool:
            send = partial(_send, values=values, notification=notification)
            for receiver, reason in zip(self.receivers, pool.map(send, self.receivers), strict=True):
                if reason:
                    _warn(receiver.url, reason)


def document(session: Session, verb: str, error: HomeportError) -> NoticeDocument:
    """The notification, in the form of the host's queue."""
    facts = {"verb": verb, "from": machine_name(), "code": int(error.code)}
    notice = message.failure(session.app, verb, performer_name(), error.as_dict(), facts)
    return message.document(notice, session.app, machine_name(), time.time())


def _send(receiver: Notify, values: Secrets, notification: NoticeDocument) -> str:
    """Send the notification; returns why the receiver did not accept it, "" if it did."""
    url = resolve.reveal(values[receiver.url])
    if url is None:
        return "only the host has its URL"
    answer = webhook.send(url, message.post(receiver.format, notification))
    return "" if answer.accepted else answer.text or f"it answered {answer.status}"


def _warn(name: str, why: str) -> None:
    print(redact.redactor()(f"warning: {name} was not notified of this failure: {why}"), file=sys.stderr)
