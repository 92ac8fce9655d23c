"""The descriptions of the keys of deploy.yml: the docstrings below the fields of the model.

They are read from the source when they are asked for: pydantic's own way (use_attribute_docstrings) reads them whenever
the model is imported, which takes 80 ms of every `deploy`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, get_args, get_origin

from homeport.config.fields import Section
from homeport.config.model import Config

# what a list or map of sections stands for in the path of a key
ITEM = "[]"
NAMED = "<name>"


def of_fields(section: type[Section]) -> dict[str, str]:
    """The description of each field of a section, by the field's name: one line, and below it an example or nothing."""
    tree = ast.parse(inspect.getsource(section)).body[0]
    assert isinstance(tree, ast.ClassDef)  # noqa: S101 - the source of a class is one
    pairs = (_description(field, text) for field, text in pairwise(tree.body))
    return {name: text for name, text in pairs if name}


def _description(field: ast.stmt, text: ast.stmt) -> tuple[str, str]:
    if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
        return "", ""
    docstring = text.value.value if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) else ""
    paragraph, _, example = inspect.cleandoc(str(docstring)).partition("\n\n")
    return field.target.id, "\n\n".join(filter(None, [" ".join(paragraph.split()), example]))


def every_key() -> dict[str, str]:
    """The description of every key, by its path: `backup.interval`, `cron[].name`, `accessories.<name>.kind`."""
    return dict(_below(Config, ""))


def _below(section: type[Section], path: str) -> Iterator[tuple[str, str]]:
    descriptions = of_fields(section)
    for name, field in section.model_fields.items():
        yield path + name, descriptions[name]
        if inner := inner_section(field.annotation):
            yield from _below(inner, f"{path}{name}{separator(field.annotation)}.")


def inner_section(annotation: Any) -> type[Section] | None:
    """The section that a key holds, or a list or map of which it holds; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for each in get_args(annotation) if (found := inner_section(each))), None)


def separator(annotation: Any) -> str:
    """The part of a path between a key and the keys of the sections that it lists or maps; "" for one section."""
    return {tuple: ITEM, dict: f".{NAMED}"}.get(get_origin(annotation), "")
