"""Certificates of the team's own on the host: proven, put in force together with their key, and never half."""

from __future__ import annotations

import grp
import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hostworld import World

from hostctl.common.errors import HostError
from hostctl.common.net import certificate
from hostctl.core import audit, schema
from hostctl.core.actor import Actor
from hostctl.edge import caddy, certificates, custom_certificates
from tests.certificates import Authority, Issued

TEAM = Authority()
NAME, OTHER = "shop.test", "www.shop.test"
FIRST = TEAM.of(NAME, "*.shop.test")
WHO = Actor("ann", "198.51.100.9")


def given(issued: Issued, **more: Any) -> dict[str, Any]:
    return {"certificate": TEAM.chain(issued), "key": issued.key, **more}


@pytest.fixture
def shown(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The edge: what it shows by name, whether it takes what it is given, and how often it was asked to."""
    told: dict[str, Any] = {"der": {}, "refuses": False, "reloads": 0, "config": tmp_path / "caddy.json"}
    (tmp_path / "apps").mkdir()
    monkeypatch.setattr(caddy, "SETTINGS", tmp_path)
    monkeypatch.setattr(caddy, "CONFIG", told["config"])
    monkeypatch.setattr(custom_certificates, "GROUP", grp.getgrgid(os.getegid()).gr_name)
    monkeypatch.setattr(caddy, "running", lambda: True)
    monkeypatch.setattr(certificate, "presented", lambda name: told["der"].get(name))

    def reload(config: Path, *, anew: bool = False) -> None:
        told["reloads"] += 1
        if told["refuses"]:
            raise HostError("Caddy did not take its new configuration")
        tls = json.loads(config.read_text())["apps"]["tls"]
        for file in tls.get("certificates", {"load_files": []})["load_files"]:
            path = Path(file["certificate"])
            pem = certificate.blocks(path.read_text())[0][0]
            told["der"][path.stem] = ssl.PEM_cert_to_DER_cert(pem)

    monkeypatch.setattr(caddy, "reload", reload)
    return told


def in_force(shown: dict[str, Any], *names: str) -> None:
    """What provisioning writes for the edge after it has handed the certificates over."""
    snippet = {"policies": [], "routes": [{"match": [{"host": [NAME, OTHER]}]}], "own_certificates": list(names)}
    (caddy.SETTINGS / "apps" / "shop.json").write_text(json.dumps(snippet))
    shown["config"].write_text(json.dumps(caddy.join({}, {"shop": snippet})))
    caddy.reload(caddy.CONFIG)
    shown["reloads"] = 0


def put(world: World, issued: Issued, name: str = NAME, **more: Any) -> dict[str, Any]:
    return custom_certificates.put("shop", {name: given(issued, **more)}, world)  # type: ignore[arg-type]


def bundle() -> str:
    return caddy.bundle("shop", NAME).read_text()


def test_a_first_one_lies_there_for_the_edge_to_be_told_of(world: World, shown: dict[str, Any]) -> None:
    assert put(world, FIRST) == {"changed": [NAME]}
    assert certificate.blocks(bundle())[0] == [FIRST.pem.strip(), TEAM.between.pem.strip()]
    assert certificate.blocks(bundle())[1] == [FIRST.key.strip()]
    assert caddy.bundle("shop", NAME).stat().st_mode & 0o777 == 0o640
    assert shown["reloads"] == 0


def test_a_newer_one_is_shown_and_the_same_again_changes_nothing(world: World, shown: dict[str, Any]) -> None:
    put(world, FIRST)
    in_force(shown, NAME)
    newer = TEAM.of(NAME)
    assert put(world, newer) == {"changed": [NAME]}
    assert (shown["der"][NAME], shown["reloads"]) == (newer.der, 1)
    assert put(world, newer) == {"changed": []}
    assert shown["reloads"] == 1
    assert [path.name for path in caddy.bundle("shop", NAME).parent.iterdir()] == [f"{NAME}.pem"]


def test_what_a_killed_run_has_not_brought_to_the_edge_is_brought(world: World, shown: dict[str, Any]) -> None:
    put(world, FIRST)
    in_force(shown, NAME)
    shown["der"][NAME] = TEAM.of(NAME).der
    assert put(world, FIRST) == {"changed": [NAME]}
    assert shown["der"][NAME] == FIRST.der


def test_an_edge_that_refuses_has_the_former_one_again(world: World, shown: dict[str, Any]) -> None:
    put(world, FIRST)
    in_force(shown, NAME)
    before, shown["refuses"] = bundle(), True
    with pytest.raises(HostError, match="did not take"):
        put(world, TEAM.of(NAME))
    assert bundle() == before


def test_a_key_that_is_not_given_is_the_one_of_before(world: World, shown: dict[str, Any]) -> None:
    with pytest.raises(HostError, match="there is no key"):
        put(world, FIRST, key=None)
    put(world, FIRST)
    assert put(world, FIRST, key=None) == {"changed": []}
    with pytest.raises(HostError, match="key values mismatch"):
        put(world, TEAM.of(NAME), key=None)


LOCKED = FIRST.key_as(serialization.BestAvailableEncryption(b"x"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (given(TEAM.of("other.test")), "hostname mismatch"),
        (given(TEAM.of(NAME, days=2, begun=3)), "expired"),
        (given(TEAM.of(NAME, days=9, begun=-3)), "not yet valid"),
        (given(FIRST, key=TEAM.of(NAME).key), "key values mismatch"),
        (given(FIRST, key=LOCKED), "no certificate for shop.test"),
        (given(FIRST, key="nonsense"), "no certificate for shop.test"),
        (given(FIRST, certificate="nonsense"), "no certificate for shop.test"),
    ],
    ids=["another name", "expired", "too early", "another key", "an encrypted key", "no key", "no certificate"],
)
def test_what_the_edge_could_not_use_changes_nothing(
    world: World, shown: dict[str, Any], wrong: dict[str, Any], says: str
) -> None:
    put(world, FIRST)
    before = bundle()
    both = {OTHER: given(FIRST), NAME: wrong}
    with pytest.raises(HostError, match=says) as caught:
        custom_certificates.put("shop", both, world)  # type: ignore[arg-type]
    assert caught.value.code == 2
    assert "PRIVATE" not in caught.value.what
    assert bundle() == before
    assert [path.name for path in caddy.bundle("shop", NAME).parent.iterdir()] == [f"{NAME}.pem"]


def test_the_name_of_another_app_is_none_of_this_ones(world: World, shown: dict[str, Any]) -> None:
    in_force(shown)
    with pytest.raises(HostError, match="answered by the app shop"):
        custom_certificates.put("shop-admin", {NAME: given(FIRST)}, world)  # type: ignore[arg-type]


def test_without_provisioning_a_push_is_refused_and_with_it_audited(world: World, shown: dict[str, Any]) -> None:
    in_force(shown)
    with pytest.raises(HostError, match="does not know yet") as caught:
        certificates.push(world.app, {NAME: given(FIRST)}, WHO, world)  # type: ignore[arg-type]
    assert caught.value.fix == "deploy provision"
    put(world, TEAM.of(NAME))
    in_force(shown, NAME)
    assert certificates.push(world.app, {NAME: given(FIRST)}, WHO, world) == {"changed": [NAME]}  # type: ignore[arg-type]
    assert [(line["verb"], line["message"]) for line in audit.read(world.app, 9)] == [("certs push", NAME)]


@pytest.mark.parametrize(
    "wrong",
    [[], {"../x": {}}, {NAME: None}, {NAME: {"certificate": "x"}}, {NAME: {"certificate": "x" * 300_000, "key": None}}],
)
def test_a_document_of_another_shape_is_refused(wrong: Any) -> None:
    assert schema.mistakes(custom_certificates.SPEC, {"certificates": wrong})
    assert not schema.mistakes(custom_certificates.SPEC, {"certificates": {NAME: given(FIRST)}})


# ---------------------------------------------------------------------------------------------- the configuration


def test_caddy_neither_gets_nor_renews_a_certificate_of_the_teams_own() -> None:
    snippets = {"a": {"policies": [], "routes": []}, "b": {"policies": [], "routes": [], "own_certificates": [NAME]}}
    found = caddy.join({}, snippets)["apps"]
    file = f"/etc/homeport/edge/certs/b/{NAME}.pem"
    assert found["tls"]["certificates"] == {"load_files": [{"certificate": file, "key": file}]}
    assert found["http"]["servers"]["edge"]["automatic_https"] == {"skip_certificates": [NAME]}
    plain = caddy.join({}, {"a": snippets["a"]})["apps"]
    assert "certificates" not in plain["tls"]
    assert "automatic_https" not in plain["http"]["servers"]["edge"]


def test_keys_that_are_no_longer_in_force_are_taken_away(
    world: World, shown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(world, FIRST)
    put(world, FIRST, OTHER)
    in_force(shown, NAME)
    (caddy.SETTINGS / "shared.json").write_text("{}")
    monkeypatch.setattr(caddy, "_validate", lambda config: None)
    shown["config"].unlink()
    caddy.apply(caddy.SETTINGS, shown["config"])
    assert [path.name for path in (caddy.SETTINGS / "certs" / "shop").iterdir()] == [f"{NAME}.pem"]
    (caddy.SETTINGS / "apps" / "shop.json").unlink()
    caddy.apply(caddy.SETTINGS, shown["config"])
    assert list((caddy.SETTINGS / "certs").iterdir()) == []


def test_where_every_certificate_is_the_teams_own_there_is_none_to_renew(world: World, shown: dict[str, Any]) -> None:
    put(world, FIRST)
    put(world, FIRST, OTHER)
    in_force(shown, NAME, OTHER)
    world.systemd.running_inside = lambda unit: False  # type: ignore[attr-defined]
    with pytest.raises(HostError, match="the team's own") as caught:
        certificates.act(world.app, "renew", WHO, world)  # type: ignore[arg-type]
    assert "deploy certs push" in caught.value.fix
    assert {one["name"]: one["own"] for one in certificates.every(world.app)} == {NAME: True, OTHER: True}
