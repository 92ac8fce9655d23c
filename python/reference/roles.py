"""The README of each Ansible role: its purpose, what it depends on and its variables, from its argument spec."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import yaml

from hostctl.common.documents import Json

WIDTH = 120
ROLES = Path(__file__).resolve().parents[2] / "roles"
COLLECTION = "homeport.deploy"


def pages() -> dict[str, Callable[[], str]]:
    """What writes each role's README, by its path in the repository."""
    roles = sorted(path for path in ROLES.iterdir() if path.is_dir())
    return {f"roles/{role.name}/README.md": partial(page, role) for role in roles}


def page(role: Path) -> str:
    """The README of one role, in Markdown."""
    spec = _read(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    needed = [f"`{each['role']}`" for each in _read(role / "meta" / "main.yml")["dependencies"]]
    depends = f"Depends on {' and '.join(needed)}, whose variables have to be set as well." if needed else ""
    return "\n".join(
        [
            f"# {COLLECTION}.{role.name}: {spec['short_description']}\n",
            *(f"{_wrapped(text)}\n" for text in (spec["description"], depends) if text),
            "Generated from `meta/argument_specs.yml` by `bin/reference`.\n",
            "## Variables\n",
            *_variables(spec["options"], ""),
            "\n## Example\n",
            *_example(role.name, spec["options"]),
            "",
        ]
    )


def _read(path: Path) -> Json:
    document: Json = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def _variables(options: Json, indent: str) -> Iterator[str]:
    for name, option in options.items():
        text = f"`{name}` ({', '.join(_facts(option))}): {' '.join(option['description'].split())}"
        yield textwrap.fill(text, WIDTH, initial_indent=f"{indent}* ", subsequent_indent=f"{indent}  ")
        yield from _variables(option.get("options", {}), f"{indent}  ")


def _facts(option: Json) -> Iterator[str]:
    """The type of a variable, its choices, and whether it has to be set."""
    yield f"list of {option['elements']}" if option["type"] == "list" else option["type"]
    if choices := option.get("choices"):
        yield "one of " + " ".join(f"`{choice}`" for choice in choices)
    if option.get("required"):
        yield "required"
    elif "default" in option:
        yield f"default `{option['default']!r}`"


def _example(role: str, options: Json) -> Iterator[str]:
    required = [name for name, option in options.items() if option.get("required")]
    yield "    - hosts: all\n      become: true\n      roles:"
    yield f"        - role: {COLLECTION}.{role}\n          vars:"
    yield from (f"            {name}: ..." for name in required)


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH)
