"""One POST, and what it says of the answer: never the URL."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.message import Post
from hostctl.common.net import webhook
from hostctl.common.net.webhook import Delivery
from tests.receiver import listening

POST = Post({"Content-Type": "text/plain"}, b"hello")


def test_it_arrives_and_the_answer_is_told() -> None:
    with listening() as receiver:
        assert webhook.send(receiver.url("/hook?to=team"), POST) == Delivery(200, "ok")
        (got,) = receiver.got
        assert (got.path, got.body) == ("/hook?to=team", "hello")
        assert got.headers["User-Agent"] == "homeport"


@pytest.mark.parametrize(
    ("status", "taken", "final"),
    [
        (200, True, True),
        (204, True, True),
        (302, False, True),
        (404, False, True),
        (429, False, False),
        (500, False, False),
    ],
)
def test_what_is_final_and_what_is_tried_again(status: int, taken: bool, final: bool) -> None:
    with listening() as receiver:
        receiver.answers = [status]
        answer = webhook.send(receiver.url("/hook"), POST)
        assert (answer.status, answer.accepted, answer.final) == (status, taken, final)
        # a redirect may lead anywhere
        assert len(receiver.got) == 1


def test_an_answer_that_repeats_the_url_is_told_without_it() -> None:
    with listening() as receiver:
        receiver.says = "no such hook: /services/T0SECRET?key=ABCDEF1234"
        answer = webhook.send(receiver.url("/services/T0SECRET?key=ABCDEF1234"), POST)
        assert "T0SECRET" not in answer.text
        assert "ABCDEF1234" not in answer.text
        assert answer.text.startswith("no such hook: ")


def test_nobody_there_is_no_exception() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert webhook.send(f"http://127.0.0.1:{port}/hook", POST) == Delivery(0, "Connection refused")


def test_a_name_that_leads_nowhere_is_no_exception() -> None:
    assert webhook.send("https://nobody.invalid/hook", POST) == Delivery(0, "its name does not resolve")


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with listening(directory=tmp_path) as receiver:
        answer = webhook.send(receiver.url("/hook"), POST)
        assert answer.status == 0
        assert answer.text.startswith("its certificate is not valid: ")
        assert not receiver.got
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        assert webhook.send(receiver.url("/hook"), POST, trusting).accepted


GOOD = [
    "https://hooks.slack.test/services/T0/B0/xyz",
    "https://ntfy.sh/topic?auth=abc",
    "http://localhost:8080/topic",
    "http://127.0.0.1/x",
    "http://[::1]:81/x",
    "https://[2001:db8::1]/x",
]
BAD = [
    "",
    "hooks.slack.test/x",
    "http://hooks.slack.test/x",
    "ftp://a.test/x",
    "https://",
    "https:///x",
    "https://a.test:99999/x",
    "https://a.test/a b",
    "https://user:password@a.test/x",
    "https://a.test/\r\nX: y",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_url_to_send_to(url: str) -> None:
    assert webhook.mistake(url) == ""


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_such_url_is_refused_and_not_repeated(url: str) -> None:
    assert webhook.mistake(url).startswith("must be a URL that begins with https://")


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    webhook.mistake(text)


@given(st.from_regex(r"https://[a-z]{1,8}\.test/[A-Za-z0-9/]{4,30}\?[a-z]{1,3}=[A-Za-z0-9]{4,20}", fullmatch=True))
def test_nothing_of_a_url_that_makes_it_secret_is_left_in_a_text(url: str) -> None:
    text = webhook.redact_url(url, f"said {url} and {url.partition('?')[2]}")
    assert url not in text
    assert url.rpartition("=")[2] not in text.replace(webhook.MARK, "")
