"""The certificates of an app's names: what is told of them, and how Caddy is made to renew them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hostworld import World
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import LOCKED, HostError
from hostctl.common.net import certificate
from hostctl.common.net.certificate import Certificate
from hostctl.core.actor import Actor
from hostctl.edge import caddy as edge_caddy
from hostctl.edge import certificates

KEY = ec.generate_private_key(ec.SECP256R1())
BEGIN = datetime(2026, 9, 1, tzinfo=UTC)
DAY = 86_400.0
WHO = Actor("ann", "198.51.100.9")
NAME = "shop.test"


def issued(days: int = 90, serial: int = 1, **issuer: str) -> bytes:
    """A certificate of that many days in DER."""
    kinds = {"CN": x509.NameOID.COMMON_NAME, "O": x509.NameOID.ORGANIZATION_NAME, "C": x509.NameOID.COUNTRY_NAME}
    by = x509.Name([x509.NameAttribute(kinds[kind], text) for kind, text in issuer.items()])
    own = x509.Name([x509.NameAttribute(kinds["CN"], NAME)])
    end = BEGIN + timedelta(days=days)
    made = x509.CertificateBuilder(by, own, KEY.public_key(), serial, BEGIN, end).sign(KEY, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("issuer", "called"),
    [
        ({"C": "US", "O": "Let's Encrypt", "CN": "E7"}, "E7"),
        ({"C": "US", "O": "A CA"}, "A CA"),
        ({"CN": "Behörde"}, "Behörde"),
        ({"C": "US"}, ""),
    ],
)
def test_a_certificate_tells_its_issuer_and_times(issuer: dict[str, str], called: str) -> None:
    read = certificate.read(issued(90, **issuer))
    assert read == Certificate(called, BEGIN.timestamp(), BEGIN.timestamp() + 90 * DAY)


def test_the_next_renewal_is_the_authoritys_time_or_else_a_third_before_the_end() -> None:
    shown = Certificate("E7", 0.0, 90 * DAY)
    suggested = {"issuer_data": {"renewal_info": {"_selectedTime": "1970-02-01T00:00:00.123456789Z"}}}
    unset = {"issuer_data": {"renewal_info": {"_selectedTime": "0001-01-01T00:00:00Z"}}}
    assert certificates.next_renewal(shown, suggested) == pytest.approx(31 * DAY, abs=1)
    assert [certificates.next_renewal(shown, one) for one in ({}, unset, {"issuer_data": None})] == [60 * DAY] * 3


def test_a_name_without_a_certificate_says_what_the_authority_said() -> None:
    assert certificates.describe(NAME, None, None, "HTTP 403") == {"name": NAME, "issuer": None, "refused": "HTTP 403"}
    assert certificates.describe(NAME, b"no certificate", None, None)["issuer"] is None
    found = certificates.describe(NAME, issued(CN="E7"), (BEGIN.timestamp(), {}), "past")
    assert (found["issuer"], found["renewed"], found["refused"]) == ("E7", BEGIN.timestamp(), None)


def test_what_caddy_did_not_get_itself_has_no_next_renewal() -> None:
    found = certificates.describe(NAME, issued(CN="own"), None, None)
    assert (found["renewed"], found["next_renewal"]) == (None, None)


def test_the_newest_of_several_authorities_is_the_one_that_is_stored(tmp_path: Path) -> None:
    for issuer, at in (("old-ca", 100), ("new-ca", 200)):
        place = tmp_path / issuer / NAME
        place.mkdir(parents=True)
        (place / f"{NAME}.crt").write_text("pem")
        (place / f"{NAME}.json").write_text(json.dumps({"sans": [issuer]}))
        os.utime(place / f"{NAME}.crt", (at, at))
    assert certificates.stored(NAME, tmp_path) == (200.0, {"sans": ["new-ca"]})
    assert certificates.stored("other.test", tmp_path) is None


def test_the_last_refusal_of_each_name_is_read_from_caddys_log() -> None:
    def line(name: str, why: str) -> dict[str, Any]:
        return {"level": "error", "msg": certificates.REFUSED, "identifier": name, "error": why}

    log = [line(NAME, "first"), line("other.test", "x"), line(NAME, "last\n  of all"), {"msg": "will retry"}]
    assert certificates.refused(log, [NAME]) == {NAME: "last of all"}


@pytest.mark.parametrize("line", ["", "Started caddy.service", "[1]", '"x"'])
def test_a_line_of_the_journal_that_is_none_of_caddys_is_passed_over(line: str) -> None:
    assert certificates.log_entry(line) is None


# ---------------------------------------------------------------------------------------------- renewing


def inside(one: Certificate, ratio: float, now: float) -> bool:
    """As certmagic decides it (currentlyInRenewalWindow)."""
    return now > one.not_after - (one.not_after - one.not_before) * ratio


@given(st.floats(2.0, 89 * DAY), st.sampled_from([6 * DAY, 90 * DAY, 5 * 365 * DAY]), st.floats(0, 3600))
def test_the_window_holds_what_is_served_and_not_what_replaces_it(age: float, life: float, backdated: float) -> None:
    """Let's Encrypt dates a certificate an hour back."""
    now, age = 1_790_000_000.0, min(age, life)
    served = Certificate("E7", now - age - backdated, now - age - backdated + life)
    fresh = Certificate("E7", now - backdated, now - backdated + life)
    ratio = certificates.window([served], now)
    assert inside(served, ratio, now)
    # and not before as much time has passed as the margin leaves
    assert age < 2 * certificates.MARGIN or not inside(fresh, ratio, now)


def test_the_window_is_wide_enough_for_the_freshest_of_several() -> None:
    old, young = Certificate("a", 0, 90 * DAY), Certificate("b", 60 * DAY, 150 * DAY)
    ratio = certificates.window([old, young], 70 * DAY)
    assert inside(old, ratio, 70 * DAY)
    assert inside(young, ratio, 70 * DAY)


def test_only_the_apps_own_names_get_another_window() -> None:
    policies = [{"subjects": [NAME, "www.shop.test"], "issuers": [1]}, {"subjects": ["other.test"]}]
    before = {"admin": 1, "apps": {"http": 2, "tls": {"automation": {"renew_interval": "30s", "policies": policies}}}}
    wide = certificates.widen(before, [NAME, "www.shop.test"], 0.9)
    assert wide["apps"]["tls"]["automation"] == {
        "renew_interval": "30s",
        "policies": [{**policies[0], "renewal_window_ratio": 0.9}, policies[1]],
    }
    assert (wide["admin"], wide["apps"]["http"]) == (1, 2)


def test_names_that_no_policy_names_get_one() -> None:
    wide = certificates.widen({"apps": {"http": 2}}, [NAME], 0.9)
    (policy,) = wide["apps"]["tls"]["automation"]["policies"]
    assert policy == {"subjects": [NAME], "renewal_window_ratio": 0.9}


@pytest.fixture
def caddy(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Caddy, as a configuration that was loaded, what it shows, and what it logged."""
    shown: dict[str, Any] = {
        "loaded": None,
        "der": issued(serial=1, CN="E7"),
        "next": issued(serial=2, CN="E7"),
        "log": [],
    }
    (tmp_path / "caddy.json").write_text(json.dumps({"apps": {"http": {}}}))
    monkeypatch.setattr(edge_caddy, "CONFIG", tmp_path / "caddy.json")

    def reload(path: Path) -> None:
        shown["loaded"] = json.loads(path.read_text())
        if not shown["log"]:
            shown["der"] = shown["next"]

    monkeypatch.setattr(edge_caddy, "reload", reload)
    monkeypatch.setattr(certificate, "presented", lambda name: shown["der"])
    monkeypatch.setattr(certificates, "caddy_log", lambda since: shown["log"])
    return shown


def test_a_renewal_ends_when_another_certificate_is_shown(world: World, caddy: dict[str, Any], tmp_path: Path) -> None:
    done = certificates.renew_certificates(world.app, [NAME], world)  # type: ignore[arg-type]
    assert (done["ok"], done["found"]) == (True, [])
    assert caddy["loaded"]["apps"]["tls"]["automation"]["policies"][0]["subjects"] == [NAME]
    # what a reboot would load is as it was
    assert [path.name for path in tmp_path.iterdir()] == ["caddy.json"]
    assert "tls" not in json.loads((tmp_path / "caddy.json").read_text())["apps"]


def test_a_refused_renewal_says_why(world: World, caddy: dict[str, Any]) -> None:
    caddy["log"] = [{"msg": certificates.REFUSED, "identifier": NAME, "error": "HTTP 429 rateLimited"}]
    done = certificates.renew_certificates(world.app, [NAME], world)  # type: ignore[arg-type]
    assert (done["ok"], done["found"]) == (False, [f"{NAME}: HTTP 429 rateLimited"])


def test_a_renewal_that_never_comes_is_given_up(world: World, caddy: dict[str, Any]) -> None:
    caddy["next"] = caddy["der"]
    done = certificates.renew_certificates(world.app, [NAME], world)  # type: ignore[arg-type]
    assert done["found"] == [f"{NAME} shows the same certificate as before"]


def test_a_window_that_caddy_does_not_take_is_told(
    world: World, caddy: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise HostError("Caddy did not take its new configuration: no")

    monkeypatch.setattr(edge_caddy, "reload", refuse)
    done = certificates.renew_certificates(world.app, [NAME], world)  # type: ignore[arg-type]
    assert done["found"] == ["Caddy did not take its new configuration: no"]


def test_without_a_certificate_there_is_nothing_to_renew(world: World, caddy: dict[str, Any]) -> None:
    caddy["der"] = None
    assert certificates.renew_certificates(world.app, [NAME], world)["found"] == ["no name has a certificate yet"]  # type: ignore[arg-type]
    assert caddy["loaded"] is None


def test_two_renewals_are_not_run_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.systemd, "running_inside", lambda unit: False, raising=False)
    world.running.add(certificates.unit(world.app))
    with pytest.raises(HostError, match="runs already") as caught:
        certificates.act(world.app, "renew", WHO, world)  # type: ignore[arg-type]
    assert caught.value.code == LOCKED
    assert certificates.act(world.app, "progress", WHO, world)["renew"]["running"]  # type: ignore[arg-type]
