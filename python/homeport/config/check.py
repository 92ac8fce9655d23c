"""Validates a tree as a Config, or returns every mistake with its line."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from homeport.config import keys
from homeport.config.document import Node, find
from homeport.config.model import Config
from homeport.config.problems import Path, Problem, got, key_text
from homeport.config.values import MistakesError

# below these keys every scalar is text as it was written: 1.10 stays 1.10
_TEXTS: tuple[Path, ...] = (("env", "clear"), ("release", "env"), ("database", "parameters"))

_KINDS = {
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a map",
    "model_type": "must be a map of keys",
    "model_attributes_type": "must be a map of keys",
}
_REQUIRED = {
    "app": "is required: the app's name, such as shop",
    "host": "is required: an address, user@host:port, or an alias of ~/.ssh/config",
    "domains": "is required: a list of names, such as [shop.example.org]",
}


def check(tree: Node, destination: str | None = None) -> tuple[Config | None, list[Problem]]:
    """The configuration that a merged tree holds, or its mistakes."""
    try:
        return Config.model_validate(plain(tree), context=destination), []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        return None, [problem for each in errors for problem in _problems(tree, dict(each))]


def plain(node: Node, path: Path = ()) -> Any:
    """The values of a tree without their places."""
    if isinstance(node.value, dict):
        return {key: plain(child, (*path, key)) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child, (*path, index)) for index, child in enumerate(node.value)]
    return node.text if _is_text(path[:-1]) and node.value is not None else node.value


def _is_text(section: Path) -> bool:
    return section in _TEXTS or (len(section) == 3 and (section[0], section[2]) == ("accessories", "env"))


def _problems(tree: Node, error: dict[str, Any]) -> list[Problem]:
    path: Path = tuple(error["loc"])
    cause = error.get("ctx", {}).get("error")
    if error["type"] == "extra_forbidden":
        return [_problem(tree, *found) for found in keys.unknown_key(path, find(tree, path)[0])]
    if isinstance(cause, MistakesError):
        return [_problem(tree, (*path, *below), what) for below, what in cause.mistakes]
    return [_problem(tree, path, _message(tree, path, error))]


def _message(tree: Node, path: Path, error: dict[str, Any]) -> str:
    if error["type"] == "missing":
        return _REQUIRED.get(key_text(path), "is required")
    cause = error.get("ctx", {}).get("error")
    what = str(cause) if cause else _type_message(error)
    node, _ = find(tree, path)
    return what + got(path, node.value)


def _type_message(error: dict[str, Any]) -> str:
    if error["type"] == "literal_error":
        return f"must be {error['ctx']['expected'].replace(chr(39), '')}"
    return _KINDS.get(error["type"]) or str(error["msg"])


def _problem(tree: Node, path: Path, what: str) -> Problem:
    node, reached = find(tree, path)
    # `- shop.test` stands for {name: shop.test}: there is no key `name` to point at
    shorthand = reached[:1] == ("domains",) and not isinstance(node.value, dict)
    return Problem(node.origin, key_text(reached if shorthand else path), what)
