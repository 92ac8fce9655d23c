"""Calls of hostctl: its answers, its refusals, and a connection that goes away."""

from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core.errors import ExitCode, HomeportError
from homeport.remote import hostctl
from homeport.ssh import connection
from hostctl.common.documents import Json

RESULT = {"result": "live", "release": "r2", "previous": "r1", "code": 0, "error": None, "steps": []}


def host(*answers: Json | HomeportError) -> hostctl.Hostctl:
    """hostctl that gives these answers in turn."""
    waiting = list(answers)

    def run(command: list[str], stdin: bytes) -> tuple[int, bytes, bytes]:
        answer = waiting.pop(0)
        if isinstance(answer, HomeportError):
            raise answer
        return 0, json.dumps(answer).encode(), b""

    return hostctl.Hostctl("hello", "deploy@host", run)


def test_a_refusal_of_hostctl_keeps_its_three_parts_and_its_code() -> None:
    error = {"what": "locked by ann", "where": "hello", "fix": "deploy lock release", "code": 4}
    with pytest.raises(HomeportError) as raised:
        hostctl.parse(4, json.dumps({"error": error}).encode(), b"", "host")
    assert (raised.value.what, raised.value.where, raised.value.fix, raised.value.code) == tuple(error.values())


@pytest.mark.parametrize(
    "said", ["sh: 1: sudo: not found", "sudo: a password is required", "/usr/local/sbin/hostctl: No such file"]
)
def test_a_host_without_hostctl_is_told_to_be_set_up(said: str) -> None:
    with pytest.raises(HomeportError) as raised:
        hostctl.parse(1, b"", said.encode(), "host")
    assert raised.value.fix == "deploy setup"


@given(st.binary(max_size=200), st.integers(0, 254))
def test_whatever_a_host_says_is_an_answer_or_an_error_of_ours(out: bytes, status: int) -> None:
    try:
        answer = hostctl.parse(status, out, b"noise", "host")
    except HomeportError as error:
        answer = {"error": error.as_dict()}
    assert isinstance(answer, dict)


@given(st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1)))
def test_words_reach_hostctl_as_they_are_whatever_a_shell_would_make_of_them(words: list[str]) -> None:
    line = " ".join(host().command(*words))
    assert shlex.split(line)[4:] == words


def test_following_shows_every_event_once_and_ends_with_the_result() -> None:
    seen: list[Json] = []
    first = {"events": [{"n": 1}, {"n": 2}], "next": 2, "done": False, "result": None}
    last = {"events": [{"n": 3}], "next": 3, "done": True, "result": RESULT}
    assert hostctl.follow(host(first, last), "t", seen.append) == RESULT
    assert [event["n"] for event in seen] == [1, 2, 3]


def test_a_connection_that_comes_back_is_followed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostctl.time, "sleep", lambda seconds: None)
    last = {"events": [], "next": 0, "done": True, "result": RESULT}
    assert hostctl.follow(host(connection.UnreachableError("gone"), last), "t", lambda event: None) == RESULT


def test_a_connection_that_stays_away_needs_a_person_and_names_attach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostctl.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(hostctl, "PATIENCE_SECONDS", -1.0)
    with pytest.raises(HomeportError) as raised:
        hostctl.follow(host(connection.UnreachableError("gone")), "t", lambda event: None)
    assert (raised.value.code, raised.value.fix) == (ExitCode.PERSON, "deploy attach")


def test_a_refusal_while_following_is_no_lost_connection() -> None:
    with pytest.raises(HomeportError, match="no such transition"):
        hostctl.follow(host(HomeportError("no such transition", code=2)), "t", lambda event: None)
