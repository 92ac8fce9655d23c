"""What is told, and how each receiver gets it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common import message

ASKED = {"id": "20261121T120000000Z-abcdef", "verb": "push", "who": "ann", "from": "laptop", "release": "R2"}
GIT = {"ref": "main", "sha": "0123456789abcdef", "subject": "Mend the basket", "dirty": False}
DONE = {"result": "live", "release": "R2", "previous": "R1", "code": 0, "error": None}
ERROR = {"what": "the migration failed:\n  no such table", "where": "host", "fix": "mend the migration", "code": 3}
FAILED = {**DONE, "result": "failed", "code": 3, "error": ERROR}


def document(found: message.Notice, **more: Any) -> dict[str, Any]:
    return {"app": "shop", "host": "web1", "at": 1_800_000_000.0, **found._asdict(), **more}


def test_a_push_is_a_success_and_names_release_person_and_commit() -> None:
    found = message.of_transition("shop", ASKED, DONE, GIT)
    assert (found.event, found.well) == ("success", True)
    assert found.title == "shop: push by ann is done, R2 is live"
    assert found.text == "main 0123456: Mend the basket"


def test_a_rollback_that_is_live_is_an_event_of_its_own_and_one_that_failed_a_failure() -> None:
    asked = {**ASKED, "verb": "rollback"}
    assert message.of_transition("shop", asked, DONE, None).event == "rollback"
    assert message.of_transition("shop", asked, FAILED, None).event == "failure"


def test_a_failure_says_why_what_mends_it_and_what_serves_on() -> None:
    found = message.of_transition("shop", ASKED, FAILED, GIT)
    assert (found.event, found.well) == ("failure", False)
    assert found.title == "shop: push by ann failed; R1 serves on"
    assert found.text == "the migration failed:\n  no such table\nfix: mend the migration"
    assert found.facts["error"] == ERROR


@pytest.mark.parametrize(("verb", "called"), [("env", "env push"), ("load", "db load"), ("restore", "restore")])
def test_every_verb_is_called_as_a_person_types_it(verb: str, called: str) -> None:
    assert message.of_transition("shop", {**ASKED, "verb": verb}, DONE, None).title.startswith(
        f"shop: {called} by ann "
    )
    assert message.of_transition("shop", {**ASKED, "verb": verb}, FAILED, None).title.startswith(f"shop: {called} by")


def test_a_first_push_that_failed_names_nothing_that_serves() -> None:
    assert message.of_transition("shop", ASKED, {**FAILED, "previous": None}, None).title == "shop: push by ann failed"


@pytest.mark.parametrize(
    ("before", "ok", "told"),
    [
        (None, True, None),
        ({"ok": True}, True, None),
        ({"ok": False}, True, True),
        (None, False, False),
        ({"ok": True}, False, False),
        ({"ok": False}, False, False),
    ],
)
def test_a_drill_is_told_when_it_fails_and_when_it_passes_again(
    before: dict[str, Any] | None, ok: bool, told: bool | None
) -> None:
    result = {"ok": ok, "found": [] if ok else ["app.db: 3 rows are missing"], "offer": "", "up_to": 0.0, "seconds": 1}
    found = message.of_drill("shop", before, result)
    assert (found and found.well) is told
    assert found is None or ok or "3 rows are missing" in found.text


def test_what_is_long_keeps_its_beginning_and_its_end() -> None:
    text = "\n".join(["the build failed; its last lines:", *(f"line {n}" for n in range(100))])
    found = message.shortened(text).splitlines()
    assert found[0] == "the build failed; its last lines:"
    assert found[-1] == "line 99"
    assert len(found) == message.MOST_LINES


@given(st.text())
def test_no_text_is_longer_than_a_phone_shows(text: str) -> None:
    assert len(message.shortened(text)) <= message.LONGEST
    assert len(message.shortened(text).split("\n")) <= message.MOST_LINES


# any text at all: a commit's subject or an error may hold anything
ANY = st.text(st.characters(codec="utf-8"))


@given(ANY, ANY, st.booleans(), st.sampled_from(message.FORMATS))
def test_every_receiver_gets_what_http_can_carry(title: str, text: str, well: bool, how: str) -> None:
    found = message.post(how, document(message.Notice("failure", well, title, text, {"verb": "push"})))
    for name, value in found.headers.items():
        assert (name + value).isascii()
        assert (name + value).isprintable()
    found.body.decode("utf-8")


@given(ANY)
def test_slack_gets_its_three_characters_escaped(text: str) -> None:
    found = json.loads(message.post("slack", document(message.Notice("failure", False, "t", text, {}))).body)
    assert "<" not in found["text"]
    assert ">" not in found["text"]
    plain = found["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert plain.startswith(f"*t*\n{text}")


def test_a_program_gets_the_facts_and_nothing_of_the_queue() -> None:
    waiting = document(message.of_transition("shop", ASKED, FAILED, GIT), receiver={"url": "X"}, tries=3, next=1.0)
    found = json.loads(message.post("json", waiting).body)
    assert (found["app"], found["host"], found["event"], found["well"]) == ("shop", "web1", "failure", False)
    assert (found["release"], found["previous"], found["code"], found["error"]) == ("R2", "R1", 3, ERROR)
    assert not found.keys() & {"receiver", "tries", "next", "facts"}


def test_ntfy_gets_title_priority_and_tags_as_headers() -> None:
    found = message.post("ntfy", document(message.of_transition("shop", ASKED, FAILED, GIT)))
    assert found.headers["Title"] == "shop: push by ann failed; R1 serves on"
    assert found.headers["Priority"] == "high"
    assert found.body.decode().endswith("on web1, 2027-01-15 08:00:00 UTC")
