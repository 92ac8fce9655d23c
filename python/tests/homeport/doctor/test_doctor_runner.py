"""The doctor's checks from the laptop: what agrees with the host, what a visitor meets, and how it is printed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from homeport.core.errors import ExitCode, HomeportError
from homeport.doctor import agreement, login, outside, runner
from homeport.doctor.context import Check, Context
from homeport.ssh.connection import UnreachableError
from homeport.verbs import doctor
from hostctl.common.finding import ERROR, OK, SKIPPED, WARNING, Finding, ok

OURS = {"192.0.2.10", "2001:db8::10"}


class Session(SimpleNamespace):
    """As much of a session as the runner itself touches."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{"app": "shop", "target": SimpleNamespace(user="deploy"), "secrets": {}, **more})


def no_host(*_: object, **__: object) -> Any:
    raise UnreachableError("cannot reach the host: no route", "deploy@192.0.2.10", "check that it is up")


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One check before the host, two after; gives what was looked at."""
    seen: list[str] = []

    def look(name: str) -> Any:
        def looked(_: Context) -> list[Finding]:
            seen.append(name)
            return ok("well")

        return looked

    monkeypatch.setattr(runner, "LOGIN_CHECKS", (Check("login", look("login")),))
    monkeypatch.setattr(runner, "SHELL_CHECKS", (Check("shell", look("shell")),))
    more = (Check("clock", look("clock"), needs_host=True), Check("dns", look("dns")))
    monkeypatch.setattr(runner, "OTHER_CHECKS", more)
    return seen


def states(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["check"], one["state"]) for one in found]


def test_what_the_host_tells_comes_between(checks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    of_host = {"check": "disk", "state": WARNING, "says": "full", "fix": "more"}
    told = SimpleNamespace(call=lambda *_: {"hostctl": "1.0", "checks": [of_host]})
    monkeypatch.setattr("homeport.remote.hostctl.over_ssh", lambda *_, **__: told)
    found = runner.run_checks(Session(), lambda _: None)  # type: ignore[arg-type]
    assert states(found) == [("login", OK), ("shell", OK), ("host", OK), ("disk", WARNING), ("clock", OK), ("dns", OK)]
    assert runner.worst_state(found) == WARNING


def test_a_host_that_cannot_be_asked_hides_nothing_else(checks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homeport.remote.hostctl.over_ssh", lambda *_, **__: SimpleNamespace(call=no_host))
    found = runner.run_checks(Session(), lambda _: None)  # type: ignore[arg-type]
    assert states(found) == [("login", OK), ("shell", OK), ("host", ERROR), ("clock", SKIPPED), ("dns", OK)]
    assert (checks, found[2]["fix"]) == (["login", "shell", "dns"], "check that it is up")


def test_who_cannot_log_in_does_not_ask_the_host(checks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LOGIN_CHECKS", (Check("login", no_host),))
    found = runner.run_checks(Session(), lambda _: None)  # type: ignore[arg-type]
    assert states(found) == [("login", ERROR), ("host", SKIPPED), ("clock", SKIPPED), ("dns", OK)]


def test_a_hostctl_that_knows_no_doctor_is_provisioned(monkeypatch: pytest.MonkeyPatch) -> None:
    def old(*_: object) -> Any:
        raise HomeportError("unknown verb 'doctor'", "the arguments", "one of audit", ExitCode.USAGE)

    monkeypatch.setattr("homeport.remote.hostctl.over_ssh", lambda *_, **__: SimpleNamespace(call=old))
    assert runner.call_host(Session())[1][0]["fix"] == "deploy provision"  # type: ignore[arg-type]


def test_no_secret_is_printed(checks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from pydantic import SecretStr

    monkeypatch.setattr(runner, "OTHER_CHECKS", (Check("x", lambda _: [Finding(ERROR, "key is hunter22", "")]),))
    monkeypatch.setattr("homeport.remote.hostctl.over_ssh", lambda *_, **__: SimpleNamespace(call=no_host))
    session = Session(secrets={"KEY": SecretStr("hunter22")})
    assert runner.run_checks(session, lambda _: None)[-1]["says"] == "key is [KEY]"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "status", "out", "state"),
    [(0.02, 0, b"", OK), (1.4, 0, b"", WARNING), (0.02, 0, b"Welcome!\n", ERROR), (0.02, 127, b"", ERROR)],
)
def test_a_login_shell_must_be_quick_and_quiet(seconds: float, status: int, out: bytes, state: str) -> None:
    assert login.of_shell(seconds, status, out, "deploy").state == state


@pytest.mark.parametrize(("ahead", "state"), [(0.4, OK), (-4, OK), (60, WARNING), (-301, ERROR)])
def test_clocks_that_differ_are_told(ahead: float, state: str) -> None:
    assert agreement.of_clock(ahead).state == state


@pytest.mark.parametrize(
    ("leads_to", "state", "says"),
    [
        ({"192.0.2.10"}, OK, "192.0.2.10"),
        (OURS, OK, "2001:db8::10"),
        (set(), ERROR, "does not resolve"),
        ({"192.0.2.10", "2001:db8::99"}, ERROR, "2001:db8::99 (AAAA)"),
        ({"192.0.2.99"}, ERROR, "192.0.2.99 (A)"),
        ({"192.0.2.99", "2001:db8::99"}, ERROR, "(A and AAAA)"),
    ],
)
def test_every_address_of_a_name_must_be_the_hosts(leads_to: set[str], state: str, says: str) -> None:
    found = outside.of_name("shop.test", leads_to, OURS)
    assert (found.state, says in found.says) == (state, True), found


@pytest.mark.parametrize(
    ("issuers", "state"),
    [([], OK), (["letsencrypt.org"], OK), (["pki.goog", "letsencrypt.org"], OK), (["pki.goog"], ERROR), ([""], ERROR)],
)
def test_dns_must_let_the_authority_certify(issuers: list[str], state: str) -> None:
    assert outside.of_authorities("shop.test", issuers).state == state


def test_dns_that_gives_no_answer_is_no_reproach() -> None:
    assert outside.of_authorities("shop.test", None).state == SKIPPED


@pytest.mark.parametrize(("days", "state"), [(60, OK), (13, WARNING)])
def test_a_certificate_that_ends_soon_is_told(days: int, state: str) -> None:
    assert outside.of_certificate("shop.test", days * 86_400.0).state == state


def test_a_port_that_a_firewall_hides_is_told() -> None:
    assert outside.of_port(443, "192.0.2.10", filtered=True).state == ERROR
    assert outside.of_port(443, "192.0.2.10", filtered=False).state == OK


FOUND = [
    {"check": "disk", "state": OK, "says": "77 GB free", "fix": ""},
    {"check": "dns", "state": ERROR, "says": "shop.test does not resolve", "fix": "point it at the host"},
]


@pytest.fixture
def examined(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found = [dict(one) for one in FOUND]
    loaded = SimpleNamespace(destination=None)
    session = SimpleNamespace(app="shop", loaded=loaded, target=SimpleNamespace(host="192.0.2.10"))
    monkeypatch.setattr("homeport.remote.session.begin", lambda _: session)
    monkeypatch.setattr(runner, "run_checks", lambda *_: found)
    return found


def test_each_finding_is_a_line_with_its_fix_below(examined: list[dict[str, Any]]) -> None:
    done = CliRunner().invoke(doctor.command, [])
    assert done.stdout.splitlines() == [
        "ok       disk  77 GB free",
        "ERROR    dns   shop.test does not resolve",
        "               fix: point it at the host",
    ]
    assert done.exit_code == 5


def test_quiet_shows_only_what_is_wrong(examined: list[dict[str, Any]]) -> None:
    assert "disk" not in CliRunner().invoke(doctor.command, ["--quiet"]).stdout
    examined[:] = examined[:1]
    done = CliRunner().invoke(doctor.command, ["--quiet"])
    assert (done.exit_code, done.output) == (0, "")


def test_the_exit_status_tells_the_worst(examined: list[dict[str, Any]]) -> None:
    for state, code in ((ERROR, 5), (WARNING, 1), (SKIPPED, 0), (OK, 0)):
        examined[1]["state"] = state
        assert CliRunner().invoke(doctor.command, ["--json"]).exit_code == code


def test_the_summary_counts() -> None:
    assert doctor.summary(FOUND) == "2 checked: 1 error"
    assert doctor.summary([*FOUND, FOUND[1]]) == "3 checked: 2 errors"
    assert doctor.summary(FOUND[:1]) == "1 checked: all is well"
