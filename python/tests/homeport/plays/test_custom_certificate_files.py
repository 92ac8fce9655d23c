"""Certificates of the team's own, looked at before the host is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from homeport.core.errors import HomeportError
from homeport.doctor import outside
from homeport.plays import custom_certificates
from homeport.verbs import certs
from hostctl.common.finding import OK, WARNING
from tests.certificates import Authority, Issued

TEAM = Authority()
NAME, KEY = "shop.test", "SHOP_CERTIFICATE_KEY"
GOOD = TEAM.of(NAME)
ELSEWHERE, PAST = TEAM.of("other.test"), TEAM.of(NAME, days=2, begun=3)
LOCKED = GOOD.key_as(serialization.BestAvailableEncryption(b"x"))


def read(directory: Path, text: str, key: str | None, root: str = TEAM.root.pem) -> dict[str, Any]:
    (directory / "own.pem").write_text(text)
    (directory / "root.pem").write_text(root)
    one = {"name": NAME, "certificate": str(directory / "own.pem"), "key": KEY}
    return custom_certificates.read_all([one], {KEY: key}, str(directory / "root.pem"))


@pytest.mark.parametrize("issued", [GOOD, TEAM.of("a.test", NAME)], ids=["one name", "several"])
def test_what_a_visitor_would_accept_is_given_with_its_chain_and_key(tmp_path: Path, issued: Issued) -> None:
    found = read(tmp_path, f"a comment\n{TEAM.chain(issued)}", issued.key)
    assert found == {NAME: {"certificate": f"{issued.pem.strip()}\n{TEAM.between.pem.strip()}\n", "key": issued.key}}


def test_without_its_key_here_the_host_looks_at_it_with_the_one_it_has(tmp_path: Path) -> None:
    assert read(tmp_path, TEAM.chain(GOOD), None)[NAME]["key"] is None


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        (TEAM.chain(ELSEWHERE), ELSEWHERE.key, "hostname mismatch"),
        (TEAM.chain(PAST), PAST.key, "certificate has expired"),
        (GOOD.pem, GOOD.key, "unable to get local issuer"),
        (Authority("Nobody").chain(GOOD), GOOD.key, "unable to get local issuer"),
        (TEAM.chain(GOOD), TEAM.of(NAME).key, "SHOP_CERTIFICATE_KEY is not its key: key values mismatch"),
        (TEAM.chain(GOOD), LOCKED, "SHOP_CERTIFICATE_KEY is not its key"),
        (TEAM.chain(GOOD), "nonsense", "SHOP_CERTIFICATE_KEY is not its key"),
        (TEAM.chain(GOOD) + GOOD.key, GOOD.key, "holds a private key"),
        ("nothing", GOOD.key, "no certificate in PEM"),
        ("", GOOD.key, "no certificate in PEM"),
    ],
)
def test_what_visitors_would_not_accept_is_refused(tmp_path: Path, text: str, key: str, says: str) -> None:
    with pytest.raises(HomeportError, match=says) as caught:
        read(tmp_path, text, key)
    assert (caught.value.code, caught.value.where) == (2, str(tmp_path / "own.pem"))
    assert caught.value.fix
    assert "PRIVATE KEY" not in "".join(caught.value.lines())


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(b"\x30\x82\xff")
    with pytest.raises(HomeportError, match="is not PEM"):
        custom_certificates.read_all([{"name": NAME, "certificate": str(tmp_path / "own.pem"), "key": KEY}], {}, None)


def test_the_list_says_which_are_the_teams_own() -> None:
    one = {
        "name": NAME,
        "issuer": "Team CA 1",
        "not_after": "then",
        "renewed": None,
        "next_renewal": None,
        "refused": None,
    }
    assert certs.table([{**one, "own": True}])[1].endswith("your own: deploy certs push")
    assert certs.table([{**one, "own": False}])[1].split()[-2:] == ["-", "-"]


def test_one_that_ends_soon_is_not_to_be_renewed_by_anybody_else() -> None:
    found = outside.of_certificate(NAME, 3 * outside.DAY, own=True)
    assert (found.state, found.fix) == (WARNING, outside.NEWER)
    assert outside.of_certificate(NAME, 3 * outside.DAY).fix == "deploy certs renew"
    assert outside.of_certificate(NAME, 30 * outside.DAY, own=True).state == OK
