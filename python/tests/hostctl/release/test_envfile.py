"""The environment file: what is written is what systemd reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostctl.common.errors import HostError
from hostctl.release import envfile

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True)
VALUES = st.one_of(TEXT, st.text("\"'\\`$#;=\n\r\t %{}é😀aV"))


def systemd_reads(text: str) -> dict[str, str]:  # noqa: C901 - one state machine, as in systemd
    """systemd's own reader (src/basic/env-file.c, parse_env_file_internal, v252) for lines of the form
    KEY="...".

    A whole reader, quotes opened and closed anywhere, so that a value that broke out of its quotes would
    show.
    """
    values: dict[str, str] = {}
    state, key, value = "pre_key", "", ""
    for char in text + "\n":
        if state == "pre_key":
            if char in "#;":
                state = "comment"
            elif char not in " \t\n\r":
                state, key = "key", char
        elif state == "key":
            if char in "\n\r":
                state = "pre_key"
            elif char == "=":
                state, value = "value", ""
            else:
                key += char
        elif state == "value":
            if char in "\n\r":
                values[key.strip()], state = value, "pre_key"
            elif char == '"':
                state = "double"
            elif char == "'":
                state = "single"
            elif char == "\\":
                state = "value_escape"
            else:
                value += char
        elif state == "value_escape":
            value, state = value + (char if char not in "\n\r" else ""), "value"
        elif state == "single":
            value, state = (value, "value") if char == "'" else (value + char, "single")
        elif state == "double":
            if char == '"':
                state = "value"
            elif char == "\\":
                state = "double_escape"
            else:
                value += char
        elif state == "double_escape":
            value += char if char in '"\\`$' else "" if char == "\n" else "\\" + char
            state = "double"
        elif char in "\n\r":  # comment
            state = "pre_key"
    return values


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_systemd_reads_what_was_given(values: dict[str, str]) -> None:
    assert systemd_reads(envfile.render(values)) == values


@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_hostctl_reads_back_what_was_given(values: dict[str, str]) -> None:
    assert envfile.parse(envfile.render(values)) == values


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_the_first_line_can_be_replaced_whatever_the_values_hold(values: dict[str, str]) -> None:
    written = envfile.render({"PORT": "1", **{k: v for k, v in values.items() if k != "PORT"}})
    replaced = 'PORT="2"\n' + written.partition("\n")[2]
    assert envfile.parse(replaced) == {**values, "PORT": "2"}


@pytest.mark.parametrize("value", ["nul \0 inside", "x" * 200_000, "lone \ud800"])
def test_what_no_environment_can_hold_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(HostError, match="the variable KEY") as caught:
        envfile.render({"KEY": value})
    assert value not in caught.value.what


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A\nB", "é"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(HostError):
        envfile.render({name: "x"})


@given(st.text(max_size=80))
def test_anything_else_is_not_read(text: str) -> None:
    try:
        values = envfile.parse(text)
    except ValueError:
        return
    assert envfile.parse(envfile.render(values)) == values


def test_the_app_may_set_defaults_but_not_what_hostctl_decides() -> None:
    full = envfile.complete("shop", "R", "c00kie", "shop.test", {"LANG": "de_DE.UTF-8", "RELEASE_COOKIE": "mine"})
    assert full["LANG"] == "de_DE.UTF-8"
    assert full["RELEASE_COOKIE"] == "c00kie"
    assert full["PHX_HOST"] == "shop.test"
    assert full["PHX_SERVER"] == "true"


def test_the_digest_changes_with_any_value_and_with_the_key_but_not_with_the_order() -> None:
    base = envfile.digest("key", {"A": "1", "B": "2"})
    assert base == envfile.digest("key", {"B": "2", "A": "1"})
    assert base != envfile.digest("key", {"A": "1", "B": "3"})
    assert base != envfile.digest("other", {"A": "1", "B": "2"})
