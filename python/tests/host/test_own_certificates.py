"""Certificates of the team's own on a real host: given to the edge, put in the place of others, refused."""

from __future__ import annotations

import json
import socket as sockets
import ssl
from collections.abc import Iterator

import pytest

from demo.load import Load
from homeport.sandbox import Sandbox
from tests.certificates import Authority, Issued
from tests.host.support import DOMAIN, OLD_NAME, SETTINGS, Json, Project, get, new_project, on_host
from tests.host.test_apps import lost
from tests.websocket import WebSocket

KEY = "HELLO_CERTIFICATE_KEY"
TEAM = Authority()
FILE = f"/etc/homeport/edge/certs/hello/{DOMAIN}.pem"


def give(project: Project, issued: Issued) -> dict[str, str]:
    """Put a certificate in its file; the environment that holds its key."""
    (project.root / "own.pem").write_text(TEAM.chain(issued))
    return {KEY: issued.key}


@pytest.fixture(scope="module")
def own(live: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The app with a certificate of the team's own for its name, and the authority's for the one that redirects."""
    root = tmp_path_factory.mktemp("own") / "project"
    names: list[Json] = [
        {"name": DOMAIN, "certificate": "own.pem", "key": KEY},
        {"name": OLD_NAME, "redirect_to": DOMAIN},
    ]
    project = new_project(root, live, {**SETTINGS, "domains": names, "acme": {"root": str(root / "roots.pem")}})
    (root / "roots.pem").write_text(TEAM.root.pem + live.root.read_text())
    project.deploy("provision", env=give(project, TEAM.of(DOMAIN)))
    yield project
    # an older host and its other tests know nothing of it
    project.configure(**SETTINGS, acme={})
    project.deploy("provision")
    assert on_host(live, f"test -e {FILE} && echo there || true") == ""
    assert get(project, "/health").status == 200


def served(project: Project) -> str:
    """The certificate that a visitor is shown, in PEM, whoever has signed it."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with (
        sockets.create_connection((project.box.address, 443), 10) as raw,
        trust.wrap_socket(raw, server_hostname=project.domain) as shown,
    ):
        return ssl.DER_cert_to_PEM_cert(shown.getpeercert(binary_form=True) or b"")


def listed(project: Project) -> dict[str, Json]:
    found: list[Json] = json.loads(project.deploy("certs", "--json").out)
    return {one["name"]: one for one in found}


def test_a_certificate_of_the_teams_own_is_served_and_the_authoritys_beside_it(own: Project) -> None:
    root = own.root / "roots.pem"
    assert get(own, "/health", root=root).status == 200
    assert get(own, "/x", OLD_NAME, root=root).status == 308
    found = listed(own)
    assert (found[DOMAIN]["issuer"], found[DOMAIN]["own"]) == ("Team CA 1", True)
    assert found[OLD_NAME]["own"] is False
    assert "your own: deploy certs push" in own.deploy("certs").out
    assert on_host(own.box, f"stat -c '%U %G %a' {FILE}") == "root caddy 640"
    # a push checks from outside, with the same root
    assert own.deploy("status", "--check").code == 0


def test_a_newer_one_takes_its_place_and_no_visitor_is_turned_away(own: Project) -> None:
    newer = TEAM.of(DOMAIN, f"other.{DOMAIN}")
    environment = give(own, newer)
    socket = WebSocket(own.box.address, own.domain, own.root / "roots.pem")
    with Load(own.box.address, own.domain, own.root / "roots.pem", clients=10, rate=100, seconds=600) as load:
        done = own.deploy("certs", "push", "--json", env=environment).json
        again = own.deploy("certs", "push", "--json", env=environment).json
    assert (done, again) == ({"changed": [DOMAIN]}, {"changed": []})
    assert served(own) == ssl.DER_cert_to_PEM_cert(newer.der)
    assert lost(load.report) == []
    assert socket.echo("still open")
    socket.close()
    # without its key here the host keeps the one that it has
    assert own.deploy("certs", "push", "--json").json == {"changed": []}
    last = own.deploy("audit", "-n", "1", "--json").out
    assert "certs push" in last


@pytest.mark.parametrize(
    ("verb", "wrong", "says"),
    [
        (("certs", "push"), TEAM.of("other.sandbox.test"), "browsers would not accept it: hostname mismatch"),
        (("provision",), TEAM.of(DOMAIN, days=3, begun=5), "browsers would not accept it: certificate has expired"),
        (("certs", "push"), Authority("Nobody").of(DOMAIN), "browsers would not accept it: unable to get"),
    ],
    ids=["another name", "expired", "another authority"],
)
def test_what_visitors_would_not_accept_never_reaches_the_host(
    own: Project, verb: tuple[str, ...], wrong: Issued, says: str
) -> None:
    before, there = served(own), on_host(own.box, f"sha256sum {FILE}")
    environment = give(own, wrong)
    refused = own.deploy(*verb, "--json", env=environment, check=False)
    assert (refused.code, says in refused.json["error"]["what"]) == (2, True), refused.err
    assert refused.json["error"]["where"].endswith("own.pem")
    assert (served(own), on_host(own.box, f"sha256sum {FILE}")) == (before, there)


def test_a_certificate_that_is_not_of_the_hosts_key_is_refused_there(own: Project) -> None:
    """Nobody gives its key here, so that only the host can tell."""
    before = served(own)
    give(own, TEAM.of(DOMAIN))
    refused = own.deploy("certs", "push", "--json", check=False)
    assert (refused.code, "key values mismatch" in refused.json["error"]["what"]) == (2, True), refused.err
    assert served(own) == before
