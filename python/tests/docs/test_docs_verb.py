"""deploy docs: every section is listed and printed, without a deploy.yml and without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from homeport.cli import deploy
from homeport.core.errors import HomeportError
from homeport.verbs import docs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*args: str) -> Any:
    result = CliRunner().invoke(docs.command, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_every_page_is_listed_with_its_title() -> None:
    listed = run().stdout.splitlines()

    for page in (ROOT / "docs").glob("*/*.md"):
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert [line for line in listed if line.split()[:1] == [page.name.removesuffix(".md")] and line.endswith(title)]


def test_names_of_sections_are_unique() -> None:
    assert len(docs.sections()) == len(list((ROOT / "docs").glob("*/*.md"))) + 1


@pytest.mark.parametrize("section", docs.sections())
def test_a_section_is_printed_as_it_is(section: str) -> None:
    assert run(section).stdout == docs.sections()[section].read_text(encoding="utf-8")


def test_a_section_may_be_given_by_its_path() -> None:
    assert run("docs/guides/troubleshooting.md").stdout == run("troubleshooting").stdout


def test_programs_get_json() -> None:
    assert {"section": "verbs", "title": "Verbs", "folder": "reference"} in json.loads(run("--json").stdout)
    assert json.loads(run("--json", "verbs").stdout)["text"] == run("verbs").stdout


@pytest.mark.parametrize(
    ("given", "fix"),
    [("troubleshoting", "deploy docs troubleshooting"), ("zzzz", "deploy docs lists the sections")],
)
def test_an_unknown_section_names_near_ones(given: str, fix: str) -> None:
    with pytest.raises(HomeportError) as caught:
        run(given)

    assert (caught.value.what, caught.value.code) == (f"there is no section '{given}' in the documentation", 2)
    assert caught.value.fix.startswith(fix)


def test_a_verb_is_explained_by_its_help() -> None:
    with pytest.raises(HomeportError) as caught:
        deploy.main(["docs", "push"], standalone_mode=False)

    assert caught.value.fix == "deploy push --help"


def test_tab_completes_sections() -> None:
    argument = docs.command.params[0]
    assert [each.value for each in argument.shell_complete(None, "troub")] == ["troubleshooting"]  # type: ignore[arg-type]
