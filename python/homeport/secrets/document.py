"""The decrypted text of a file of secrets: lines of `NAME: value` in YAML. No message repeats a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import yaml

from homeport.config.names import env_reason
from homeport.config.problems import ConfigError, Origin, Problem

FIX = "correct it: deploy secrets edit"
_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}", re.ASCII)
_BLOCK = re.compile(r"[!-~][ -~]*\n(?:[!-~][ -~]*\n)*(?:[!-~][ -~]*)?", re.ASCII)
_CORE = "tag:yaml.org,2002:"
Entries = list[tuple[yaml.ScalarNode, yaml.ScalarNode]]


def read(text: str, file: str) -> dict[str, str]:
    """The values by name. Raises ConfigError with every mistake; its lines are those of the decrypted text."""
    entries, problems = _entries(_root(text, file), file)
    if problems:
        raise ConfigError(problems, FIX)
    return {key.value: value.value for key, value in entries}


def put(text: str, name: str, value: str) -> str:
    """The text with this value under the name. Everything else stays, comments too if possible."""
    values = {**read(text, ""), name: value}
    line = _line(name, value)
    if (span := _span(text, name)) is None:
        return _or_rewritten(text + ("" if text.endswith("\n") or not text else "\n") + line, values)
    return _or_rewritten(text[: span[0]] + line + text[span[1] :], values)


def drop(text: str, name: str) -> str:
    """The text without the name."""
    values = {key: value for key, value in read(text, "").items() if key != name}
    span = _span(text, name)
    return text if span is None else _or_rewritten(text[: span[0]] + text[span[1] :], values)


def new_text(names: Iterable[str]) -> str:
    """The text of a new file."""
    lines = ["# NAME: value, one below the other. What is saved is encrypted; what is not a comment is used."]
    return "\n".join([*lines, *(f'#{name}: ""' for name in names), ""])


def name_mistake(name: str) -> str:
    """Why a secret cannot have this name; "" if it can."""
    if not _NAME.fullmatch(name):
        return "must be a name in capitals, such as STRIPE_KEY"
    return f"is refused: {why}" if (why := env_reason(name)) else ""


def _root(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _yaml_error(file, mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        raise _yaml_error(file, text.count("\n", 0, error.position) + 1) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        raise _yaml_error(file, 1) from None


def _yaml_error(file: str, line: int) -> ConfigError:
    what = "this is not YAML: write NAME: value, with the value in quotes"
    return ConfigError([Problem(Origin(file, file, line), "", what)], FIX)


def _entries(root: yaml.Node | None, file: str) -> tuple[Entries, list[Problem]]:
    if root is None or (isinstance(root, yaml.ScalarNode) and root.value == ""):
        return [], []
    if not isinstance(root, yaml.MappingNode):
        return [], [_problem(file, root, "", "must hold names with values: NAME: value")]
    problems, names = list[Problem](), set[str]()
    for key, value in root.value:
        if (
            what := _key_mistake(key)
            or ("is there twice: keep one" if key.value in names else "")
            or _value_mistake(value)
        ):
            is_name = isinstance(key, yaml.ScalarNode) and _NAME.fullmatch(key.value)
            problems.append(_problem(file, key, key.value if is_name else "", what))
        names.update([key.value] if isinstance(key, yaml.ScalarNode) else [])
    return root.value, problems


def _problem(file: str, node: yaml.Node, key: str, what: str) -> Problem:
    return Problem(Origin(file, file, node.start_mark.line + 1), key, what)


def _key_mistake(key: yaml.Node) -> str:
    # an invalid name may be a misplaced value, so it is not repeated
    return (
        name_mistake(key.value)
        if isinstance(key, yaml.ScalarNode)
        else "must be a name in capitals, such as STRIPE_KEY"
    )


def _value_mistake(value: yaml.Node) -> str:
    if not isinstance(value, yaml.ScalarNode):
        return "must be text: put it in quotes"
    if not value.tag.startswith(_CORE):
        return "has a YAML tag (`!…`), which means nothing here: leave it out"
    nothing = value.style is None and value.tag == f"{_CORE}null"
    return "has no value: leave the line out" if nothing else ""


def _line(name: str, value: str) -> str:
    """One entry: a multi-line value such as a key file as a block, everything else in quotes."""
    style = "|" if _BLOCK.fullmatch(value) else '"'
    scalar = yaml.ScalarNode(f"{_CORE}str", value, style=style)
    key = yaml.ScalarNode(f"{_CORE}str", name)
    return yaml.serialize(
        yaml.MappingNode(f"{_CORE}map", [(key, scalar)]),
        Dumper=yaml.SafeDumper,
        allow_unicode=True,
        width=10**9,
    )


def _span(text: str, name: str) -> tuple[int, int] | None:
    """The offsets at which the entry's lines begin and end; None if there is no such entry."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key.value == name:
            end = value.end_mark.index
            whole = end if text[:end].endswith("\n") else text.find("\n", end) + 1 or len(text)
            return text.rfind("\n", 0, key.start_mark.index) + 1, whole
    return None


def _or_rewritten(text: str, values: Mapping[str, str]) -> str:
    """The text if it reads as these values; otherwise a new text with them, without comments."""
    try:
        if read(text, "") == values:
            return text
    except ConfigError:
        pass
    return "".join(_line(name, value) for name, value in values.items())
