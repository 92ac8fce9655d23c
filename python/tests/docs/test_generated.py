"""The generated pages are those of today's code, every link leads somewhere, and the docs speak of verbs that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from homeport.cli import VERBS
from homeport.config.descriptions import every_key, of_fields
from reference.__main__ import ROOT, generated
from reference.json_schema import SECTIONS

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
COMMAND = re.compile(r"^ *(?:\$ )?deploy (?:-d \S+ )?([a-z]+)\b", re.M)


@pytest.mark.parametrize(("name", "text"), generated().items(), ids=list(generated()))
def test_a_generated_file_is_what_the_code_says(name: str, text: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == text, "run bin/reference"


def test_every_key_is_described_in_one_sentence_or_more() -> None:
    assert [key for key, text in every_key().items() if not re.search(r"[.:]( |$|\n)|op://", text)] == []


def test_every_section_of_the_model_is_in_the_schema() -> None:
    described = {name for section in SECTIONS.values() for name in of_fields(section)}

    assert {re.split(r"[.\[]", key)[-1] or key for key in every_key() if "." in key} <= described


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
def test_only_verbs_that_exist_are_named(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {*COMMAND.findall(text), *re.findall(r"`deploy (?:-d \S+ )?([a-z]+)\b", text)}

    assert named - VERBS.keys() == set()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_only_keys_that_exist_are_named(page: Path) -> None:
    """A word such as `backup.interval` in code marks is a key of deploy.yml where its first part is one."""
    keys = {re.sub(r"\[\]|<name>\.", "", key) for key in every_key()}
    tops = {key for key in keys if "." not in key} - {"app", "host", "cron", "notify"}
    named = set(re.findall(r"`([a-z]+(?:\.[a-z_]+)+)`", page.read_text(encoding="utf-8")))

    assert {each for each in named if each.split(".")[0] in tops} - keys - {"deploy.yml"} == set()
