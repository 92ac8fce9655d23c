"""The text inside: names and values, comments kept, nothing of a value ever repeated."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.config.names import env_reason
from homeport.config.problems import ConfigError
from homeport.secrets import document

HIDDEN = "hunter2-and-more"

COMMENTED = """\
# of the team
SECRET_KEY_BASE: "one"   # made by us

# of Stripe
STRIPE_KEY: two # ask Ada
KEY_FILE: |
  first
  second

# the end
LAST: 'it''s'
"""


def test_values_are_text_as_it_is_written() -> None:
    told = "A: 0123\nB: yes\nC: \"x\\ny\"\nD: ''\nE: 1.10\nF: |\n  one\n  two\n"

    assert document.read(told, "f") == {"A": "0123", "B": "yes", "C": "x\ny", "D": "", "E": "1.10", "F": "one\ntwo\n"}


@pytest.mark.parametrize("nothing", ["", "\n", "# only a comment\n", "---\n"])
def test_a_file_without_a_name_holds_nothing(nothing: str) -> None:
    assert document.read(nothing, "f") == {}


@pytest.mark.parametrize(
    ("told", "mistakes"),
    [
        (f"- {HIDDEN}\n", ["f:1 must hold names with values: NAME: value"]),
        (f"{HIDDEN}\n", ["f:1 must hold names with values: NAME: value"]),
        (f"\n{HIDDEN}: x\n", ["f:2 must be a name in capitals, such as STRIPE_KEY"]),
        (f"A: {HIDDEN}\nA: {HIDDEN}\n", ["f:2 A: is there twice: keep one"]),
        (f"A: [{HIDDEN}]\n", ["f:1 A: must be text: put it in quotes"]),
        ("A:\nB: ~\n", ["f:1 A: has no value: leave the line out", "f:2 B: has no value: leave the line out"]),
        (f"PORT: {HIDDEN}\n", ["f:1 PORT: is refused: Homeport gives every instance a port of its own"]),
        (f"A: !vault {HIDDEN}\n", ["f:1 A: has a YAML tag (`!…`), which means nothing here: leave it out"]),
        (f"A: b\nC: *{HIDDEN}\n", ["f:2 this is not YAML: write NAME: value, with the value in quotes"]),
        (f"A: b\nC: @{HIDDEN}\n", ["f:2 this is not YAML: write NAME: value, with the value in quotes"]),
        (f"A: b\nC: \x07{HIDDEN}\n", ["f:2 this is not YAML: write NAME: value, with the value in quotes"]),
    ],
)
def test_mistakes_are_told_by_line_and_no_value_is_repeated(told: str, mistakes: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        document.read(told, "f")

    assert [str(problem) for problem in caught.value.problems] == mistakes
    assert HIDDEN not in "\n".join(caught.value.lines())
    assert (caught.value.code, caught.value.fix) == (2, "correct it: deploy secrets edit")


def test_a_new_name_goes_to_the_end_and_everything_else_stays() -> None:
    assert document.put(COMMENTED, "NEW", "x y") == COMMENTED + 'NEW: "x y"\n'


def test_a_value_is_replaced_in_its_place() -> None:
    changed = document.put(document.put(COMMENTED, "STRIPE_KEY", "three"), "KEY_FILE", "a\nb\n")

    assert changed.startswith(COMMENTED.partition("STRIPE_KEY")[0] + 'STRIPE_KEY: "three"\n')
    assert changed.endswith("# the end\nLAST: 'it''s'\n")
    assert document.read(changed, "f")["KEY_FILE"] == "a\nb\n"


def test_a_name_is_taken_out_and_everything_else_stays() -> None:
    assert document.drop(COMMENTED, "STRIPE_KEY") == COMMENTED.replace("STRIPE_KEY: two # ask Ada\n", "")
    assert document.read(document.drop(COMMENTED, "KEY_FILE"), "f").keys() == {"SECRET_KEY_BASE", "STRIPE_KEY", "LAST"}


def test_a_key_file_is_written_as_a_block() -> None:
    assert document.put("", "KEY", "-----BEGIN-----\nabc def\n") == "KEY: |\n  -----BEGIN-----\n  abc def\n"


def test_a_map_in_braces_is_written_anew() -> None:
    assert document.put('{A: one, B: "two"}\n', "A", "three") == 'A: "three"\nB: "two"\n'
    assert document.drop("{A: one, B: two}", "B") == 'A: "one"\n'


NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True).filter(lambda name: not env_reason(name))
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)


@settings(deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4), NAMES, VALUES)
def test_any_value_comes_back_as_it_was_put(others: dict[str, str], name: str, value: str) -> None:
    written = "# a comment\n"
    for each in others.items():
        written = document.put(written, *each)

    put = document.put(written, name, value)

    assert document.read(put, "f") == {**others, name: value}
    assert document.read(document.drop(put, name), "f") == {each: others[each] for each in others if each != name}


@settings(deadline=None)
@given(st.text(), NAMES, VALUES)
def test_whatever_a_person_wrote_is_changed_as_told_or_refused(written: str, name: str, value: str) -> None:
    try:
        before = document.read(written, "f")
    except ConfigError:
        return
    assert document.read(document.put(written, name, value), "f") == {**before, name: value}


def test_a_new_file_says_how_and_holds_nothing() -> None:
    assert document.read(document.new_text(["A", "B"]), "f") == {}
    assert '#A: ""\n#B: ""\n' in document.new_text(["A", "B"])
