"""The generated pages are those of today's code, every link leads somewhere, and the docs speak of verbs that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from homeport.cli import deploy
from homeport.config.descriptions import every_key
from reference.__main__ import GENERATED, ROOT

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_what_the_code_says(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), "run bin/reference"


def test_every_key_is_described_in_one_sentence_or_more() -> None:
    assert [key for key, text in every_key().items() if not re.search(r"[.:]( |$|\n)|op://", text)] == []


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_glossary_has_at_most_25_words_in_one_sentence_each() -> None:
    text = (ROOT / "docs" / "explanation" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\* \*\*(.+?)\*\*: (.+(?:\n  .+)*)", text, re.M)

    assert 10 < len(words) <= 25
    assert [word for word, said in words if len(re.findall(r"[.!?](?:\s|$)", said)) != 1] == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [(page.parent / path if path else page, anchor) for path, anchor in LINK.findall(page.read_text("utf-8"))]

    assert [str(path) for path, _ in links if not path.exists()] == []
    assert [f"{path}#{anchor}" for path, anchor in links if anchor and anchor not in anchors(path)] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_can_be_typed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert [f"{said}: {why}" for said in commands(text) if (why := mistake(said))] == []


def commands(text: str) -> Iterator[str]:
    """Every `deploy …` of a page: the lines of its blocks, and what stands in code marks."""
    blocks = re.findall(r"^(?: {4,}|)(?:\$ )?(deploy [^\n]*)", text, re.M)
    for said in (*blocks, *re.findall(r"`(deploy [^`]+)`", " ".join(text.split()))):
        yield re.split(r" #| {2,}|[|;<>…]|&&|\.\.\.", said)[0].strip()


def mistake(said: str) -> str:
    """What `deploy` would say of the words of a command, whose values may stand for others; empty if nothing."""
    command: click.Command = deploy
    words, context = shlex.split(said)[1:], click.Context(deploy)
    try:
        while True:
            _, words, _ = command.make_parser(context).parse_args(words)
            if not isinstance(command, click.Group) or not words or words[0] == "VERB":
                return ""
            found = command.get_command(context, words[0])
            if found is None:
                return f"no {words[0]}"
            command, words = found, words[1:]
            context = click.Context(command, parent=context, **command.context_settings)
    except click.UsageError as error:
        return error.message


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_only_keys_that_exist_are_named(page: Path) -> None:
    """A word such as `backup.interval` in code marks is a key of deploy.yml where its first part is one."""
    keys = {re.sub(r"\[\]|<name>\.", "", key) for key in every_key()}
    tops = {key for key in keys if "." not in key} - {"app", "host", "cron", "notify"}
    named = set(re.findall(r"`([a-z]+(?:\.[a-z_]+)+)`", page.read_text(encoding="utf-8")))

    assert {each for each in named if each.split(".")[0] in tops} - keys - {"deploy.yml"} == set()
