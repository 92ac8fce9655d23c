"""Runs the checks one after the other; a check that fails does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from homeport.core.errors import ExitCode, HomeportError
from homeport.core.redact import Redactor
from homeport.doctor import agreement, login, outside
from homeport.doctor.context import Check, Context
from homeport.remote import hostctl
from homeport.remote.session import Session
from homeport.secrets.resolve import Secrets
from hostctl.common.documents import Json
from hostctl.common.finding import ERROR, OK, SKIPPED, WARNING, Finding, ok, run_check, skipped

Tell = Callable[[str], None]

STATES = (OK, SKIPPED, WARNING, ERROR)
HOST_SECONDS = 180.0

LOGIN_CHECKS = (Check("host key", login.pinned_key), Check("login", login.login))
SHELL_CHECKS = (Check("shell", login.shell),)
OTHER_CHECKS = (
    Check("provisioned", agreement.provisioning, needs_host=True),
    Check("build", agreement.builds, needs_host=True),
    Check("clock", agreement.clock, needs_host=True),
    Check("dns", outside.names),
    Check("caa", outside.authorities),
    Check("ports", outside.ports),
    Check("certificate", outside.certificates),
    Check("secrets", agreement.secrets),
    Check("bucket", agreement.bucket),
)


def run_checks(session: Session, tell: Tell) -> list[Json]:
    """Every finding, as documents with `check`, `state`, `says` and `fix`, in the order in which a push needs them.

    `tell` is called with the name of each check before it runs.
    """
    context = Context(session)
    findings = _run(LOGIN_CHECKS, context, tell)
    host: Json = {}
    if worst_state(findings) == ERROR:
        findings += run_check("host", partial(skipped, "nobody can log in"))
    else:
        findings += _run(SHELL_CHECKS, context, tell)
        tell("the host")
        host, host_findings = call_host(session)
        findings += host_findings
    findings += _run(OTHER_CHECKS, replace(context, host=host or None), tell)
    redacted: list[Json] = Redactor(known_secrets(session)).everywhere(findings)
    return redacted


def _run(checks: Iterable[Check], context: Context, tell: Tell) -> list[Json]:
    findings: list[Json] = []
    for check in checks:
        tell(check.name)
        findings += run_check(check.name, partial(_findings, check, context))
    return findings


def _findings(check: Check, context: Context) -> Iterable[Finding]:
    if check.needs_host and context.host is None:
        return skipped("the host cannot be asked")
    return check.find(context)


def call_host(session: Session) -> tuple[Json, list[Json]]:
    """The answer of hostctl and its findings; an empty answer and one error if hostctl cannot be called."""
    try:
        answer = hostctl.over_ssh(session.app, session.target, timeout=HOST_SECONDS).call("doctor")
    except HomeportError as error:
        # a hostctl of an older version does not know the verb
        fix = "deploy provision" if error.code == ExitCode.USAGE else error.fix
        return {}, [{"check": "host", **Finding(ERROR, error.what, fix)._asdict()}]
    heard = time.time()
    user = "as root" if session.target.user == "root" else "by sudo"
    reached = run_check("host", partial(ok, f"hostctl {answer['hostctl']} answers {user}"))
    return {**answer, "heard": heard}, [*reached, *answer["checks"]]


def known_secrets(session: Session) -> Secrets:
    """The secrets, for redaction; empty if they cannot be read, which another check reports."""
    try:
        return session.secrets
    except HomeportError:
        return {}


def worst_state(findings: Sequence[Json]) -> str:
    """The most severe state of the findings; "ok" without any."""
    return max((finding["state"] for finding in findings), key=STATES.index, default=OK)
