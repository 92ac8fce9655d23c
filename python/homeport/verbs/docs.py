"""deploy docs: prints the documentation of this version, offline."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path

import click

from homeport.core.errors import ExitCode, HomeportError
from homeport.core.packaged_files import content
from hostctl.common.table import columns

EPILOG = """Examples:

  deploy docs

  deploy docs troubleshooting

  deploy docs deploy.yml | less

  deploy docs schema > .deploy.schema.json
"""

# in reading order
FOLDERS = ("guides", "reference", "explanation")
SCHEMA = "schema"
SCHEMA_FILE = Path("reference", "deploy.schema.json")


def _complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in sections() if name.startswith(incomplete)]


@click.command(epilog=EPILOG)
@click.argument("section", required=False, shell_complete=_complete)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(section: str | None, as_json: bool) -> None:
    """Print a section of the documentation, in Markdown; without SECTION, list the sections.

    `deploy docs schema` prints the JSON Schema of deploy.yml, which editors use to complete and check it.
    """
    if section is None:
        print(json.dumps(section_rows()) if as_json else "\n".join(table(section_rows())))
    else:
        text = page(section).read_text(encoding="utf-8")
        print(json.dumps({"section": section, "text": text}) if as_json else text, end="\n" if as_json else "")


def sections() -> dict[str, Path]:
    """The file of every section, by the section's name."""
    root = content() / "docs"
    pages = [path for folder in FOLDERS for path in sorted((root / folder).glob("*.md"))]
    return {path.name.removesuffix(".md"): path for path in pages} | {SCHEMA: root / SCHEMA_FILE}


def page(section: str) -> Path:
    """The file of a section, by its name or its path below docs/. Raises HomeportError (usage) for an unknown one."""
    known = sections()
    name = section.rpartition("/")[2].removesuffix(".md")
    if name in known:
        return known[name]
    raise HomeportError(
        f"there is no section '{section}' in the documentation", "", _suggestion(name, known), ExitCode.USAGE
    )


def _suggestion(name: str, known: Iterable[str]) -> str:
    """The command that prints what was probably meant: a verb's help, or a section with a similar name."""
    context = click.get_current_context().find_root()
    if isinstance(context.command, click.Group) and name in context.command.list_commands(context):
        return f"deploy {name} --help"
    if near := difflib.get_close_matches(name, known, n=3):
        return " or ".join(f"deploy docs {each}" for each in near)
    return "deploy docs lists the sections; deploy config KEY explains a key of deploy.yml"


def section_rows() -> list[dict[str, str]]:
    """Name, title and folder of every section."""
    return [{"section": name, "title": _title(path), "folder": path.parent.name} for name, path in sections().items()]


def _title(path: Path) -> str:
    if path.suffix != ".md":
        return "JSON Schema of deploy.yml"
    with path.open(encoding="utf-8") as lines:
        return next(lines).lstrip("# ").strip()


def table(rows: list[dict[str, str]]) -> list[str]:
    """The sections as lines, by folder."""
    lines = columns([(f"  {row['section']}", row["title"]) for row in rows])
    by_folder = {
        folder: [line for row, line in zip(rows, lines, strict=True) if row["folder"] == folder] for folder in FOLDERS
    }
    return [line for folder in FOLDERS for line in (folder, *by_folder[folder])]
