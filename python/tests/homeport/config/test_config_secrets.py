"""Secret values: taken from the environment, never shown, removed from whatever is printed."""

from __future__ import annotations

import base64
import json
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from homeport.config import secret_names
from homeport.core.errors import HomeportError
from homeport.core.redact import Redactor
from homeport.secrets import resolve

HIDDEN = "hunter2-and-more"


@pytest.fixture
def loaded(project: Any, good: Callable[[str], str]) -> Any:
    return project.write(good("env: {secret: [SECRET_KEY_BASE, OTHER]}\n")).load()


def test_values_come_from_the_environment_and_none_keeps_what_the_host_has(loaded: Any) -> None:
    found = resolve.collect(loaded, {"SECRET_KEY_BASE": HIDDEN, "UNRELATED": "x"})

    assert {name: resolve.reveal(value) for name, value in found.items()} == {
        "SECRET_KEY_BASE": HIDDEN,
        "OTHER": None,
    }


def test_a_value_shows_in_no_text_made_of_it(loaded: Any) -> None:
    found = resolve.collect(loaded, {"SECRET_KEY_BASE": HIDDEN})

    try:
        raise RuntimeError(found)
    except RuntimeError:
        assert HIDDEN not in f"{found} {found!r} {Redactor(found)!r} {traceback.format_exc()}"
    with pytest.raises(TypeError):
        json.dumps(found)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("", "the value of OTHER is empty"),
        ("abc", "the value of OTHER has fewer than 4 characters, too few to keep it out of logs"),
        ("abc\x07d", "the value of OTHER holds a control character, which no environment file can carry"),
        ("abc\udcffd", "the value of OTHER is not UTF-8"),
    ],
)
def test_a_value_that_cannot_be_kept_secret_or_carried_is_refused(loaded: Any, value: str, what: str) -> None:
    with pytest.raises(HomeportError) as caught:
        resolve.collect(loaded, {"OTHER": value})

    error = caught.value
    assert (error.what, error.where, error.code) == (what, "environment: OTHER", 2)
    assert not value or value not in "\n".join(error.lines())


def test_no_child_process_inherits_a_value(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY_BASE", HIDDEN)

    secret_names.scrub(loaded.config, os.environ)

    code = "import os; print(os.environ.get('SECRET_KEY_BASE'))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "None\n"


def test_fingerprints_tell_a_change_and_nothing_else(loaded: Any) -> None:
    found = resolve.fingerprints(resolve.collect(loaded, {"SECRET_KEY_BASE": "abcd"}))

    assert found == {
        "SECRET_KEY_BASE": "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589",
        "OTHER": None,
    }


def redactor(**values: str) -> Redactor:
    return Redactor({name: SecretStr(value) for name, value in values.items()})


VALUE = 'p@ss/w\'rd "ü"\\+x'
SPELLINGS = {
    "raw": VALUE,
    "base64": base64.b64encode(VALUE.encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(VALUE.encode()).decode(),
    "base64 without padding": base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
    "URL": quote(VALUE),
    "URL, all": quote(VALUE, safe=""),
    "URL, lower case": quote(VALUE, safe="").replace("%C3%BC", "%c3%bc").replace("%2F", "%2f").replace("%2B", "%2b"),
    "form": quote_plus(VALUE),
    "shell": shlex.quote(VALUE),
    "JSON": json.dumps(VALUE)[1:-1],
    "JSON, UTF-8": json.dumps(VALUE, ensure_ascii=False)[1:-1],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_usual_spelling_is_redacted(spelling: str) -> None:
    text = SPELLINGS[spelling]
    if spelling == "URL, lower case":
        text = "".join(c.lower() if "%" in text[max(0, at - 2) : at] else c for at, c in enumerate(text))

    assert redactor(TOKEN=VALUE)(f"before {text} after") == "before [TOKEN] after"


def test_the_longer_of_two_values_counts() -> None:
    assert redactor(A="abcd", B="abcdef")("abcdefgh abcdx") == "[B]gh [A]x"


def test_a_key_file_is_redacted_line_by_line() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nshort\n-----END KEY-----\n"

    assert redactor(KEY=key)("read MIIEvQIBADANBg, short") == "read [KEY], short"


def test_documents_are_redacted_in_every_text() -> None:
    found = redactor(A="abcd").everywhere({"abcd": ["xabcd", {"k": "abcd"}], "n": 1, "none": None})

    assert found == {"[A]": ["x[A]", {"k": "[A]"}], "n": 1, "none": None}


def test_without_values_text_stays_as_it_is() -> None:
    assert Redactor({})("[A] abcd") == "[A] abcd"
    assert Redactor({"A": None})("abcd") == "abcd"


# of letters that are no part of `[NAME]`, so that what stands for a value cannot spell one
values = st.text(
    st.characters(codec="utf-8", exclude_characters="[]AB", exclude_categories=["Cs", "Cc"]),
    min_size=4,
    max_size=40,
)


@given(values, values, st.text(max_size=20), st.text(max_size=20))
def test_no_spelling_of_any_value_is_left(first: str, second: str, before: str, after: str) -> None:
    hide = redactor(A=first, B=second)
    spellings = [
        first,
        quote(first),
        shlex.quote(first),
        json.dumps(first),
        base64.b64encode(first.encode()).decode(),
    ]

    hidden = hide("".join(f"{before}{spelling}{after}{second}" for spelling in spellings))

    for value in (first, second):
        assert value not in hidden
        assert base64.b64encode(value.encode()).decode() not in hidden


@given(values, st.text())
def test_a_text_without_the_value_stays_as_it_is(value: str, text: str) -> None:
    forms = (
        value,
        quote(value),
        quote_plus(value),
        quote(value, safe=""),
        json.dumps(value)[1:-1],
        shlex.quote(value)[1:-1],
    )
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")
    assume(
        not any(
            form and form.lower() in text.lower()
            for form in (*forms, encoded, encoded.replace("+", "-").replace("/", "_"))
        )
    )

    assert redactor(A=value)(text) == text


@given(values, st.text(max_size=30), st.text(max_size=30))
def test_redacting_twice_changes_nothing(value: str, before: str, after: str) -> None:
    hide = redactor(A=value)
    once = hide(before + value + after)

    assert hide(once) == once
