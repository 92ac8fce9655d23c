"""deploy.yml as YAML: lines, traps, aliases, and files that are no configuration at all."""

# ruff: noqa: E501 - tables of whole messages

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.config.check import plain
from homeport.config.document import merge, node_of, parse
from homeport.config.layers import load
from homeport.config.problems import ConfigError, Origin

UNUSABLE = [
    ("", "deploy.yml", "the file is empty"),
    ("# only this\n", "deploy.yml", "the file is empty"),
    ("null\n", "deploy.yml", "the file is empty"),
    ("- a\n- b\n", "deploy.yml:1", "the file must hold a map of keys, such as `app: shop`"),
    ("\nshop\n", "deploy.yml:2", "the file must hold a map of keys, such as `app: shop`"),
    ("app: shop\n\thost: a\n", "deploy.yml:2", "a tab; YAML is indented with spaces"),
    (
        "app: shop\n---\napp: b\n",
        "deploy.yml:2",
        "a second document begins here (`---`); the file must hold one",
    ),
    ("app: [a\nb: c\n", "deploy.yml:2", "not valid YAML: expected ',' or ']', but got ':'"),
    ("app: *nope\n", "deploy.yml:1", "not valid YAML: found undefined alias 'nope'"),
    ("a: 1\nb: \x01\n", "deploy.yml:2", "a control character that YAML does not allow"),
    (b"a: 1\nb: \xff\n", "deploy.yml:2", "is not UTF-8 here"),
    (b"x: " + b"y" * 300_000, "deploy.yml", "is larger than 256 KiB, which no configuration is"),
    ("a: " + "[" * 5000, "deploy.yml", "nested too deeply"),
    ("a: " + "[" * 40 + "]" * 40, "deploy.yml:1", "nested too deeply"),
    ('a: "\\UFFFFFFFF"\n', "deploy.yml", "not valid YAML: an escape or a version in it is out of range"),
]


@pytest.mark.parametrize(("text", "where", "what"), UNUSABLE, ids=[what + where for _, where, what in UNUSABLE])
def test_a_file_that_is_no_configuration_is_refused_in_plain_words(
    project: Any, text: str | bytes, where: str, what: str
) -> None:
    project.write(text)

    with pytest.raises(ConfigError) as caught:
        project.load()

    assert (caught.value.where, caught.value.what, caught.value.code) == (where, what, 2)
    assert caught.value.fix


def test_a_bomb_of_aliases_is_refused(project: Any) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))]
    project.write("\n".join(lines))

    with pytest.raises(ConfigError, match="its aliases grow to more than 20000 values"):
        project.load()


TRAPS = [
    ("drain_timeout: 22:22", 'drain_timeout: is a number to the base of 60 in YAML 1.1: put it in quotes (got "22:22")'),
    ("hooks_path: yes", 'hooks_path: is true or false in YAML 1.1 and text in 1.2: write true or false, or put it in quotes (got "yes")'),
    ("hooks_path: Off", 'hooks_path: is true or false in YAML 1.1 and text in 1.2: write true or false, or put it in quotes (got "Off")'),
    ("drain_timeout: 1_000", 'drain_timeout: is a number in YAML 1.1 and text in 1.2: leave out the _, or put it in quotes (got "1_000")'),
    ("drain_timeout: 010", 'drain_timeout: is octal in YAML 1.1 and decimal in 1.2: drop the leading 0, or put it in quotes (got "010")'),
    ("retain_releases: 0x10", 'retain_releases: is read in different ways: write a decimal number, or put it in quotes (got "0x10")'),
    ("env: {clear: {PIN: 0123}}", "env.clear.PIN: is octal in YAML 1.1 and decimal in 1.2: drop the leading 0, or put it in quotes"),
    ("env: {clear: {FLAG: on}}", "env.clear.FLAG: is true or false in YAML 1.1 and text in 1.2: write true or false, or put it in quotes"),
    ("hooks_path: !env HOOKS", "hooks_path: has a YAML tag (`!…`), which means nothing here: leave it out"),
    ("hooks_path: !!python/name:os.system x", "hooks_path: has a YAML tag (`!…`), which means nothing here: leave it out"),
    ("limits: {cpu: 1, cpu: 2}", "limits.cpu: is there twice, first in line 4: keep one"),
    ("? [a, b]\n: c", "a key must be plain text"),
    ("env: &e {clear: *e}", "env.clear: contains itself through an alias"),
    ("env: {<<: [1]}", "env.<<: must name a map, such as `<<: *base`"),
    ('hooks_path: "\\ud800"', "hooks_path: is not text: it has half of a surrogate pair"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "expected"), TRAPS, ids=[more for more, _ in TRAPS])
def test_what_yaml_versions_read_differently_is_refused(
    project: Any, good: Callable[[str], str], more: str, expected: str
) -> None:
    found = project.mistakes(good(more))

    assert found[0].removeprefix("deploy.yml:4 ").replace('"<<"', "<<") == expected


def test_a_key_given_twice_in_different_lines_names_both(project: Any, good: Callable[[str], str]) -> None:
    assert project.mistakes(good("\napp: other\n")) == ["deploy.yml:5 app: is there twice, first in line 1: keep one"]


TEXTS = [
    ("1.10", "1.10"),
    ("10", "10"),
    ("true", "true"),
    ("True", "True"),
    ("2026-11-21", "2026-11-21"),
    ("1e3", "1e3"),
    ("y", "y"),
    ("'yes'", "yes"),
    ('""', ""),
    ("!!str 010", "010"),
    ("|\n      a\n      b", "a\nb\n"),
    ("=", "="),
]


@pytest.mark.parametrize(("written", "value"), TEXTS)
def test_a_variable_is_text_as_it_was_written(
    project: Any, good: Callable[[str], str], written: str, value: str
) -> None:
    project.write(good(f"env:\n  clear:\n    A: {written}\n"))

    assert project.load().config.env.clear == {"A": value}


def test_anchors_and_merge_keys_work(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("health: &slow\n  timeout: 20s\n  interval: 2s\nrelease:\n  env: {A: &a x, B: *a}\n"))
    overlay = "health:\n  <<: [{timeout: 7s}, {timeout: 8s, interval: 3s}]\n  interval: 4s\nhost: b.test\n"
    project.write(overlay, "deploy.prod.yml")

    config = project.load("prod").config

    assert (config.release.env, config.health.timeout, config.health.interval) == (
        {"A": "x", "B": "x"},
        7.0,
        4.0,
    )


def test_a_section_with_nothing_under_it_is_as_good_as_none(project: Any, good: Callable[[str], str]) -> None:
    bare = project.write(good("")).load().config
    empty = "release:\n  commands:\n  env:\nenv:\n  clear:\n  secret:\nhealth:\nssh:\nlimits:\n"

    assert project.write(good(empty)).load().config == bare


def test_a_byte_order_mark_and_windows_lines_are_no_mistake(project: Any, good: Callable[[str], str]) -> None:
    project.write(b"\xef\xbb\xbf" + good("").replace("\n", "\r\n").encode())

    assert project.load().config.app == "shop"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
)
names = st.sampled_from(
    [
        "app",
        "host",
        "domains",
        "release",
        "env",
        "health",
        "ssh",
        "limits",
        "acme",
        "verify",
        "clear",
        "secret",
        "name",
        "path",
        "key",
    ]
)
shapes = st.recursive(
    scalars | names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | st.text(max_size=8), inner, max_size=6),
)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def _loads_or_refuses(root: Path, text: str | bytes) -> None:
    (root / "deploy.yml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    found: ConfigError | None = None
    try:
        load(None, None, root)
    except ConfigError as error:
        found = error
    assert found is None or (found.problems and "\n".join(found.lines()).encode("utf-8"))


@quick
@given(st.text() | st.binary())
def test_any_text_at_all_is_loaded_or_refused(tmp_path: Path, text: str | bytes) -> None:
    _loads_or_refuses(tmp_path, text)


@quick
@given(st.text(alphabet="ab:-[]{}&*!|>%@`'\"#,? \n\t01_\\xu~<=.", max_size=60))
def test_any_punctuation_is_loaded_or_refused(tmp_path: Path, text: str) -> None:
    _loads_or_refuses(tmp_path, text)


@quick
@given(documents | shapes)
def test_any_yaml_is_loaded_or_refused(tmp_path: Path, value: object) -> None:
    _loads_or_refuses(tmp_path, yaml.safe_dump(value, allow_unicode=True))


texts = st.text(st.characters(codec="utf-8"), max_size=20)
trees = st.dictionaries(
    texts,
    st.recursive(st.none() | st.booleans() | texts, lambda inner: st.dictionaries(texts, inner, max_size=4)),
    max_size=4,
)


@given(st.dictionaries(texts, texts | st.lists(texts), min_size=1))
def test_text_comes_out_of_yaml_as_it_went_in(value: dict[str, object]) -> None:
    root, problems = parse(yaml.safe_dump(value), "deploy.yml")

    assert (plain(root), problems) == (value, [])


@given(trees, trees)
def test_laying_one_map_over_another_keeps_what_it_does_not_name(base: Any, over: Any) -> None:
    merged = plain(merge(node_of(base, Origin("a")), node_of(over, Origin("b"))))

    assert set(merged) == set(base) | set(over)
    for key in set(base) | set(over):
        if isinstance(base.get(key), dict) and isinstance(over.get(key), dict):
            assert set(merged[key]) == set(base[key]) | set(over[key])
        else:
            assert merged[key] == (over[key] if key in over else base[key])
