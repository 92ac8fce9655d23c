"""Runs the checks one after the other; a check that fails does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from homeport.core.errors import ExitCode, HomeportError
from homeport.core.redact import Redactor
from homeport.doctor import login, outside, together
from homeport.doctor.patient import Check, Patient
from homeport.remote import hostctl
from homeport.remote.session import Session
from homeport.secrets.resolve import Secrets
from hostctl.common.documents import Json
from hostctl.common.finding import ERROR, OK, SKIPPED, WARNING, Finding, ok, run_check, skipped

Tell = Callable[[str], None]

STATES = (OK, SKIPPED, WARNING, ERROR)
HOST_SECONDS = 180.0

FIRST = (Check("host key", login.pinned), Check("login", login.login))
INSIDE = (Check("shell", login.shell),)
THEN = (
    Check("provisioned", together.provisioned, of_host=True),
    Check("build", together.builds, of_host=True),
    Check("clock", together.clock, of_host=True),
    Check("dns", outside.names),
    Check("caa", outside.authorities),
    Check("ports", outside.ports),
    Check("certificate", outside.certificates),
    Check("secrets", together.secrets),
    Check("bucket", together.bucket),
)


def examine(session: Session, tell: Tell) -> list[Json]:
    """Every finding, as documents with `check`, `state`, `says` and `fix`, in the order in which a push needs them.

    `tell` is called with the name of each check before it runs.
    """
    patient = Patient(session)
    found = _all(FIRST, patient, tell)
    of_host: Json = {}
    if worst(found) == ERROR:
        found += run_check("host", partial(skipped, "nobody can log in"))
    else:
        found += _all(INSIDE, patient, tell)
        tell("the host")
        of_host, told = consult(session)
        found += told
    found += _all(THEN, replace(patient, host=of_host or None), tell)
    redacted: list[Json] = Redactor(known_secrets(session)).everywhere(found)
    return redacted


def _all(checks: Iterable[Check], patient: Patient, tell: Tell) -> list[Json]:
    found: list[Json] = []
    for check in checks:
        tell(check.name)
        found += run_check(check.name, partial(_look, check, patient))
    return found


def _look(check: Check, patient: Patient) -> Iterable[Finding]:
    if check.of_host and patient.host is None:
        return skipped("the host cannot be asked")
    return check.look(patient)


def consult(session: Session) -> tuple[Json, list[Json]]:
    """The answer of hostctl and its findings; an empty answer and one error if hostctl cannot be called."""
    try:
        told = hostctl.over_ssh(session.app, session.target, timeout=HOST_SECONDS).call("doctor")
    except HomeportError as error:
        # a hostctl of an older version does not know the verb
        fix = "deploy provision" if error.code == ExitCode.USAGE else error.fix
        return {}, [{"check": "host", **Finding(ERROR, error.what, fix)._asdict()}]
    heard = time.time()
    by = "as root" if session.target.user == "root" else "by sudo"
    answers = run_check("host", partial(ok, f"hostctl {told['hostctl']} answers {by}"))
    return {**told, "heard": heard}, [*answers, *told["checks"]]


def known_secrets(session: Session) -> Secrets:
    """The secrets, for redaction; empty if they cannot be read, which another check reports."""
    try:
        return session.secrets
    except HomeportError:
        return {}


def worst(found: Sequence[Json]) -> str:
    """The most severe state of the findings; "ok" without any."""
    return max((one["state"] for one in found), key=STATES.index, default=OK)
