"""What a visitor says of himself does not reach the app: Caddy with the edge's own routes, before an app that answers
with the headers it got.
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import platform
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from homeport.core import pinned_programs

TEMPLATE = Path(__file__).parents[4] / "roles/edge/templates/app.json.j2"
# fmt: off
CLAIMS = [
    "Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto",
    "X-Forwarded-Protocol", "X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-Prefix", "X-Forwarded-Server",
    "X-Forwarded-User", "X-Real-IP", "X-Real-Port", "X-Client-IP", "Client-IP", "True-Client-IP", "CF-Connecting-IP",
    "CF-Connecting-IPv6", "CF-Pseudo-IPv4", "CF-Visitor", "Fastly-Client-IP", "Fastly-SSL", "Fly-Client-IP",
    "Fly-Forwarded-Proto", "CloudFront-Viewer-Address", "CloudFront-Forwarded-Proto", "X-Cluster-Client-IP",
    "X-Original-Forwarded-For", "X-Original-Host", "X-Original-URL", "X-Original-Proto", "X-Originating-IP",
    "X-Remote-IP", "X-Remote-Addr", "X-Remote-User", "Remote-Addr", "Remote-User", "X-ProxyUser-IP", "Proxy",
    "Proxy-Client-IP", "WL-Proxy-Client-IP", "X-Envoy-External-Address", "X-Azure-ClientIP", "X-Azure-SocketIP",
    "X-Appengine-User-IP", "X-NF-Client-Connection-IP", "DO-Connecting-IP", "X-Coming-From", "X-Host",
    "X-HTTP-Host-Override", "X-Rewrite-URL", "X-Scheme", "X-Url-Scheme", "Front-End-Https", "X-SSL",
    "X-SSL-Client-Verify", "SSL-Client-Cert", "X-ARR-SSL", "X-Sucuri-ClientIP", "Incap-Client-IP", "X-Sendfile-Type",
    "X-Accel-Mapping",
]
# fmt: on
FORGED = "6.6.6.6"
OWN = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip"}


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the headers of the request."""

    def do_GET(self) -> None:
        body = json.dumps([list(item) for item in self.headers.items()]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def routes(port: int) -> Any:
    """The edge's routes of an app, to an instance on the port."""
    plain = {"name": "shop.test", "redirect_to": ""}
    variables = {"edge_app": "shop", "edge_domains": [plain], "edge_own_certificates": [], "edge_hold_seconds": 1}
    variables |= {"edge_acme_directory": "", "edge_acme_email": "", "edge_acme_ca": ""}
    text = Templar(loader=DataLoader(), variables=variables).template(trust_as_template(TEMPLATE.read_text()))
    rendered = text if isinstance(text, str) else json.dumps(text)
    return json.loads(rendered.replace("{file./var/lib/homeport/shop/live/port}", str(port)))["routes"]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Caddy without TLS, whose upstream is an Echo."""
    caddy = pinned_programs.fetch("caddy", platform.machine())
    home = tmp_path_factory.mktemp("caddy")
    with socket.socket() as free, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as app:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        threading.Thread(target=app.serve_forever, daemon=True).start()
        server = {
            "listen": [f"127.0.0.1:{port}"],
            "routes": routes(app.server_port),
            "automatic_https": {"disable": True},
        }
        config = {"admin": {"disabled": True}, "apps": {"http": {"servers": {"edge": server}}}}
        (home / "caddy.json").write_text(json.dumps(config))
        argv = [str(caddy), "run", "--config", str(home / "caddy.json")]
        with subprocess.Popen(argv, env={**os.environ, "HOME": str(home)}, stderr=subprocess.DEVNULL) as running:
            try:
                _until_open(port)
                yield port
            finally:
                running.terminate()
                app.shutdown()


def _until_open(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def asked(port: int, headers: dict[str, str]) -> list[tuple[str, str]]:
    """The headers that the app got, their names in lower case."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/x", headers={"Host": "shop.test", **headers})
    with connection.getresponse() as answer:
        found = [(name.lower(), value) for name, value in json.load(answer)]
    connection.close()
    return found


@pytest.mark.parametrize("spelled", [str, str.lower, str.upper, lambda name: name.replace("-", "_")])
def test_nothing_that_a_visitor_claims_of_himself_reaches_the_app(edge: int, spelled: Any) -> None:
    got = asked(edge, {spelled(name): FORGED for name in CLAIMS})
    assert [item for item in got if FORGED in item[1]] == []


def test_the_edge_says_who_asks_and_what_for(edge: int) -> None:
    got = asked(edge, dict.fromkeys(CLAIMS, FORGED))
    told = {name: value for name, value in got if name in OWN}
    assert sorted(name for name, _ in got if name in OWN) == sorted(OWN)  # each once
    assert told == {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-host": "shop.test",
        "x-forwarded-port": "443",
        "x-forwarded-proto": "http",  # this Caddy has no TLS
        "x-real-ip": "127.0.0.1",
    }


def test_what_says_nothing_of_the_visitor_passes(edge: int) -> None:
    sent = {
        "Accept": "a",
        "Cookie": "b=c",
        "Authorization": "d",
        "X-Request-Id": "e",
        "X-Client-Info": "f",
        "Origin": "g",
    }
    sent |= {"X-CSRF-Token": "h", "User-Agent": "i", "Referer": "j", "traceparent": "k", "X-Requested-With": "l"}
    got = dict(asked(edge, sent))
    assert {name.lower(): value for name, value in sent.items()}.items() <= got.items()
