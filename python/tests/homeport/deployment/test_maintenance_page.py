"""The page that visitors see in the place of the app."""

from __future__ import annotations

import html
import ipaddress
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core.errors import HomeportError
from homeport.deployment import maintenance_page
from homeport.verbs import maintenance as verb
from homeport.verbs import status
from hostctl.common.names import matches


def own(root: Path, text: bytes) -> Path:
    (root / "deploy").mkdir()
    (root / maintenance_page.PROJECT_PAGE).write_bytes(text)
    return root


class Shown(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


PLAIN = Shown(maintenance_page.fill(maintenance_page.DEFAULT_PAGE.read_text(), "plain", 60)).elements


@given(st.text(max_size=200))
def test_a_message_is_text_whatever_is_in_it(message: str) -> None:
    page = maintenance_page.fill(maintenance_page.DEFAULT_PAGE.read_text(), message, 60)
    assert html.escape(message) in page
    assert Shown(page).elements == PLAIN


def test_the_plain_page_needs_nothing_from_elsewhere_and_looks_again_by_itself(tmp_path: Path) -> None:
    page = maintenance_page.page(tmp_path, "", 90)
    assert maintenance_page.DEFAULT_MESSAGE in page
    assert '<meta http-equiv="refresh" content="90">' in page
    assert not any(word in page for word in ("http:", "https:", "src=", "url(", "{{"))


def test_the_teams_own_page_is_shown_as_it_is(tmp_path: Path) -> None:
    own(tmp_path, "\ufeff<h1>Zurück um 14 Uhr</h1> {{ message }} {{ retry_after }}".encode())
    assert maintenance_page.page(tmp_path, "a < b", 5) == "<h1>Zurück um 14 Uhr</h1> a &lt; b 5"


def test_a_page_without_a_place_for_a_message_takes_none(tmp_path: Path) -> None:
    own(tmp_path, b"<h1>soon</h1>")
    assert maintenance_page.page(tmp_path, "", 5) == "<h1>soon</h1>"
    with pytest.raises(HomeportError, match="no place for a message") as caught:
        maintenance_page.page(tmp_path, "at noon", 5)
    assert (caught.value.code, caught.value.where) == (2, "deploy/maintenance.html")


@pytest.mark.parametrize("text", [b"", b" \n", b"\xff\xfe", b"x" * ((1 << 20) + 1)])
def test_a_page_that_cannot_be_shown_is_refused(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(HomeportError) as caught:
        maintenance_page.page(own(tmp_path, text), "", 5)
    assert caught.value.code == 2


def test_a_directory_in_the_place_of_the_page_is_refused(tmp_path: Path) -> None:
    (tmp_path / maintenance_page.PROJECT_PAGE).mkdir(parents=True)
    with pytest.raises(HomeportError, match="cannot be read") as caught:
        maintenance_page.page(tmp_path, "", 5)
    assert caught.value.code == 2


# ---------------------------------------------------------------------------------------------- who is let through


@given(st.ip_addresses())
def test_every_address_is_one_that_the_host_takes(given: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    try:
        told = maintenance_page.address(str(given))
    except ValueError:
        assert given.is_loopback or given.is_unspecified or getattr(given, "ipv4_mapped", None)
        return
    assert matches("address", told)
    assert ipaddress.ip_address(told) in (given, getattr(given, "ipv4_mapped", None))


@pytest.mark.parametrize(
    ("given", "meant"),
    [("2001:DB8:0:0::1", "2001:db8::1"), ("::ffff:198.51.100.9", "198.51.100.9"), ("198.51.100.9", "198.51.100.9")],
)
def test_an_address_is_written_as_the_edge_does(given: str, meant: str) -> None:
    assert maintenance_page.address(given) == meant


@pytest.mark.parametrize(
    "text", ["", "x", "10.0.0.0/8", "127.0.0.1", "::1", "0.0.0.0", "fe80::1%eth0", "::ffff:127.0.0.1"]
)
def test_what_no_visitor_comes_from_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        maintenance_page.address(text)


# ---------------------------------------------------------------------------------------------- what is printed

ON = {"since": "2026-11-21T21:40:00Z", "who": "ann", "message": "moving", "allow": ["198.51.100.9"], "retry_after": 60}


def test_the_status_begins_with_the_page() -> None:
    found = {
        "app": "shop", "url": "https://shop.test/", "host": "web", "live": None, "certificate": None, "lock": None,
        "health": {"ok": True, "status": 200}, "disk": {"free": 5e9, "total": 1e10}, "maintenance": ON,
    }  # fmt: skip
    first = status.lines(found)[0]
    assert first.startswith("MAINTENANCE  ON since 2026-11-21T21:40:00Z by ann: moving; 198.51.100.9 pass")
    assert status.lines({**found, "maintenance": None})[0].startswith("app")


def test_what_is_off_is_said() -> None:
    assert verb.line(None) == "off: visitors see the app"


def test_connections_that_were_closed_or_could_not_be_are_told() -> None:
    assert len(verb.on_lines({"closed": 0, "open": 0})) == 1
    assert "2 connections" in verb.on_lines({"closed": 2, "open": 0})[1]
    assert verb.on_lines({"closed": 0, "open": 3})[1].startswith("warning: 3 earlier connections")
