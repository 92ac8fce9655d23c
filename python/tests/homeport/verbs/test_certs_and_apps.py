"""What `deploy certs` and `deploy apps` print."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from homeport.core.errors import HomeportError
from homeport.verbs import apps, certs

CERTIFICATE = {
    "name": "shop.test", "issuer": "E7", "not_before": 1_790_000_000.0, "not_after": 1_797_776_000.0,
    "renewed": 1_790_003_600.0, "next_renewal": 1_795_184_000.0, "refused": None,
}  # fmt: skip
SHOP = {
    "app": "shop", "destination": "staging", "domains": ["shop.test", "s.test"], "state": "live", "why": "",
    "engine": "sqlite", "lock": None,
    "live": {"release": "20261121T184437Z-10c809f", "since": 1_790_000_000.0, "port": 20000}, "bytes": 24_920_064,
}  # fmt: skip


class Host:
    """Answers from a table by verb and action; keeps what was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked, self.where = answers, list[tuple[str, ...]](), "deploy@192.0.2.10"

    def call(self, *args: str, stdin: bytes = b"") -> Any:
        self.asked.append(args)
        return self.answers["_".join(args[:2]) if args[0] == "certs" else args[0]]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(certs_list={"certificates": [CERTIFICATE]}, apps={"apps": [SHOP]})
    monkeypatch.setattr("homeport.remote.session.begin", lambda _: SimpleNamespace(hostctl=made, app="shop"))
    monkeypatch.setattr("homeport.remote.long_jobs.GRACE_SECONDS", 0)
    monkeypatch.setattr("homeport.remote.long_jobs.POLL_SECONDS", 0)
    return made


@pytest.mark.parametrize("words", [[], ["list"]])
def test_certificates_are_listed_with_their_times(host: Host, words: list[str]) -> None:
    done = CliRunner().invoke(certs.command, words)
    assert done.output.splitlines() == [
        "NAME       ISSUER  VALID UNTIL           RENEWED               NEXT",
        "shop.test  E7      2026-12-20T14:13:20Z  2026-09-21T15:13:20Z  2026-11-20T14:13:20Z",
    ]


def test_a_name_without_a_certificate_stands_out(host: Host) -> None:
    none = {"name": "shop.test", "issuer": None, "refused": "HTTP 403"}
    assert certs.table([none, {**none, "refused": None}])[1:] == [
        "shop.test  NONE: HTTP 403",
        "shop.test  NONE: the authority has not answered yet",
    ]


def test_a_renewal_is_followed_to_its_end(host: Host) -> None:
    host.answers["certs_renew"] = {"started": 10.0}
    ended = {"at": 10.5, "ok": True, "seconds": 2.0, "found": []}
    host.answers["certs_progress"] = {"renew": {"running": False, "step": "", "result": ended}}
    done = CliRunner().invoke(certs.command, ["renew", "--json"])
    assert (done.exit_code, [one[1] for one in host.asked]) == (0, ["renew", "progress", "list"])


def test_a_renewal_that_failed_says_that_the_old_ones_are_served_on(host: Host) -> None:
    host.answers["certs_renew"] = {"started": 10.0}
    ended = {"at": 10.5, "ok": False, "seconds": 2.0, "found": ["shop.test: HTTP 429"]}
    host.answers["certs_progress"] = {"renew": {"running": False, "step": "", "result": ended}}
    done = CliRunner().invoke(certs.command, ["renew"])
    assert isinstance(done.exception, HomeportError)
    assert (done.exception.what, done.exception.code) == (
        "not renewed, the old certificates stay in use: shop.test: HTTP 429",
        1,
    )


def test_every_app_is_a_line(host: Host) -> None:
    assert CliRunner().invoke(apps.command, []).output.splitlines() == [
        "APP   DESTINATION  STATE  RELEASE                   DATABASE  DISK     DOMAINS",
        "shop  staging      live   20261121T184437Z-10c809f  sqlite    24.9 MB  shop.test, s.test",
    ]


def test_an_app_that_is_empty_locked_or_too_large_to_count_is_a_line_too() -> None:
    odd = {**SHOP, "destination": None, "state": "empty", "live": None, "lock": {"who": "ann"}}
    odd |= {"engine": None, "bytes": None}
    assert apps.table([odd])[1].split()[:4] == ["shop", "-", "empty,", "locked"]
    assert "none      ?" in apps.table([odd])[1]


@pytest.mark.parametrize("words", [["renews"], ["list", "shop.test"], ["--force"], ["renew", "--name"]])
def test_what_certs_does_not_know_is_refused_before_anything_is_asked(host: Host, words: list[str]) -> None:
    assert (CliRunner().invoke(certs.command, words).exit_code, host.asked) == (2, [])
