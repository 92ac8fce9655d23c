"""Reads a YAML file as a tree in which every value has its line.

YAML 1.1, which PyYAML reads, and YAML 1.2 disagree about `yes`, `010`, `1_000` and `22:22`. Such values are refused,
because they are ambiguous.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import yaml

from homeport.config.problems import Origin, Path, Problem, file_error, got, key_text

Scalar = str | int | float | bool | None
Tree = dict[str, "Node"]

# values below this key are not refused, because PostgreSQL reads `on` and 010 itself
AS_WRITTEN: Path = ("database", "parameters")

# far above any real file, far below a bomb of aliases or brackets
MOST_NODES = 20_000
MOST_LEVELS = 30

_CORE = "tag:yaml.org,2002:"
_KINDS = {"str", "null", "bool", "int", "float", "timestamp", "merge", "value", "map", "seq"}
_TRAPS = (
    (
        r"(?i)yes|no|on|off",
        "is true or false in YAML 1.1 and text in 1.2: write true or false, or put it in quotes",
    ),
    (r"[-+]?0[0-7_]+", "is octal in YAML 1.1 and decimal in 1.2: drop the leading 0, or put it in quotes"),
    (r"[-+]?[0-9_]+(:[0-9_]+)+(\.[0-9_]*)?", "is a number to the base of 60 in YAML 1.1: put it in quotes"),
    (
        r"[-+]?[0-9_.]*_[0-9_.]*",
        "is a number in YAML 1.1 and text in 1.2: leave out the _, or put it in quotes",
    ),
    (r"[-+]?0[xb][0-9a-fA-F_]+", "is read in different ways: write a decimal number, or put it in quotes"),
)


@dataclass(frozen=True)
class Node:
    """A value with its place. `text` is a scalar as it was written, without quotes."""

    value: Scalar | Tree | list[Node]
    origin: Origin
    text: str = ""


@dataclass
class _Reading:
    file: str
    problems: list[Problem] = field(default_factory=list)
    nodes: int = 0
    ancestors: list[yaml.Node] = field(default_factory=list)

    def origin(self, node: yaml.Node) -> Origin:
        return Origin(self.file, self.file, node.start_mark.line + 1)

    def problem(self, node: yaml.Node, path: Path, what: str) -> None:
        self.problems.append(Problem(self.origin(node), key_text(path), what))


def parse(text: str, file: str) -> tuple[Node, list[Problem]]:
    """The tree of a file and the mistakes that are YAML's own. Raises ConfigError when there is no tree."""
    root = _compose(text, file)
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == f"{_CORE}null"):
        raise file_error(file, "the file is empty", f"write one: deploy init, or fill in {file}")
    reading = _Reading(file)
    if not isinstance(root, yaml.MappingNode):
        what = "the file must hold a map of keys, such as `app: shop`"
        raise file_error(file, what, line=root.start_mark.line + 1)
    return _node(reading, root, ()), reading.problems


def _compose(text: str, file: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise file_error(file, _syntax(error), line=mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise file_error(file, "a control character that YAML does not allow", line=line) from None
    except (yaml.YAMLError, ValueError, OverflowError):
        raise file_error(file, "not valid YAML: an escape or a version in it is out of range") from None
    except RecursionError:
        raise file_error(file, "nested too deeply") from None


def _syntax(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it cannot be read"
    if "'\\t'" in problem:
        return "a tab; YAML is indented with spaces"
    if "another document" in problem or "single document" in (error.context or ""):
        return "a second document begins here (`---`); the file must hold one"
    return f"not valid YAML: {problem}"


def _node(reading: _Reading, node: yaml.Node, path: Path) -> Node:
    _count(reading, node)
    if node in reading.ancestors:
        reading.problem(node, path, "contains itself through an alias")
        return Node(None, reading.origin(node))
    reading.ancestors.append(node)
    try:
        return Node(_value(reading, node, path), reading.origin(node), _text(node))
    finally:
        reading.ancestors.pop()


def _count(reading: _Reading, node: yaml.Node) -> None:
    reading.nodes += 1
    if reading.nodes > MOST_NODES:
        line = node.start_mark.line + 1
        raise file_error(reading.file, f"its aliases grow to more than {MOST_NODES} values", line=line)
    if len(reading.ancestors) > MOST_LEVELS:
        raise file_error(reading.file, "nested too deeply", line=node.start_mark.line + 1)


def _text(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _value(reading: _Reading, node: yaml.Node, path: Path) -> Scalar | Tree | list[Node]:
    if node.tag.removeprefix(_CORE) not in _KINDS:
        reading.problem(node, path, "has a YAML tag (`!…`), which means nothing here: leave it out")
    if isinstance(node, yaml.MappingNode):
        return _map(reading, node, path)
    if isinstance(node, yaml.SequenceNode):
        return [_node(reading, item, (*path, index)) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)  # noqa: S101 - a node of YAML is one of three
    return _scalar(reading, node, path)


def _map(reading: _Reading, node: yaml.MappingNode, path: Path) -> Tree:
    own: Tree = {}
    merged: Tree = {}
    for key, value in node.value:
        if key.tag == f"{_CORE}merge":
            merged = {**_merge_sources(reading, value, path), **merged}
        elif (name := _name(reading, key, path)) is not None:
            if name in own:
                what = f"is there twice, first in line {own[name].origin.line}: keep one"
                reading.problem(key, (*path, name), what)
            child = _node(reading, value, (*path, name))
            own[name] = Node(child.value, reading.origin(key), child.text)
    return {**merged, **own}


def _name(reading: _Reading, key: yaml.Node, path: Path) -> str | None:
    if isinstance(key, yaml.ScalarNode) and _encodable(key.value):
        return str(key.value)
    reading.problem(key, path, "a key must be plain text")
    return None


def _merge_sources(reading: _Reading, value: yaml.Node, path: Path) -> Tree:
    sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
    tree: Tree = {}
    for source in sources:
        if not isinstance(source, yaml.MappingNode):
            reading.problem(value, (*path, "<<"), "must name a map, such as `<<: *base`")
            continue
        content = _node(reading, source, path).value
        tree = {**(content if isinstance(content, dict) else {}), **tree}
    return tree


def _scalar(reading: _Reading, node: yaml.ScalarNode, path: Path) -> Scalar:
    text = str(node.value)
    if not _encodable(text):
        reading.problem(node, path, "is not text: it has half of a surrogate pair")
        return ""
    kind = node.tag.removeprefix(_CORE)
    if node.style is not None or kind not in ("null", "bool", "int", "float"):
        return text
    if kind == "null":
        return None
    return _plain(reading, node, path, text)


def _plain(reading: _Reading, node: yaml.ScalarNode, path: Path, text: str) -> Scalar:
    if path[:-1] == AS_WRITTEN:
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[-+]?(0|[1-9][0-9]{0,17})", text):
        return int(text)
    if re.fullmatch(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]{1,18}", text):
        return float(text)
    for pattern, what in _TRAPS:
        if re.fullmatch(pattern, text):
            reading.problem(node, path, what + got(path, text))
            break
    return text


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def node_of(value: object, origin: Origin) -> Node:
    """A tree made of plain values, all of one origin: a layer that is in no file."""
    if isinstance(value, dict):
        return Node({str(key): node_of(item, origin) for key, item in value.items()}, origin)
    if isinstance(value, list | tuple):
        return Node([node_of(item, origin) for item in value], origin)
    if value is None or isinstance(value, str | int | float | bool):
        return Node(value, origin, "" if value is None else str(value))
    raise TypeError(f"no YAML value: {type(value).__name__}")


def merge(base: Node, over: Node) -> Node:
    """`over` laid over `base`: maps merge key by key, lists and scalars are replaced."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    joined = dict(base.value)
    for key, node in over.value.items():
        joined[key] = merge(joined[key], node) if key in joined else node
    return Node(joined, base.origin)


def find(root: Node, path: Path) -> tuple[Node, Path]:
    """The node at `path`, or the deepest one on the way there, and how far along the path that is."""
    node = root
    for depth, part in enumerate(path):
        step = _step(node, part)
        if step is None:
            return node, path[:depth]
        node = step
    return node, path


def _step(node: Node, part: str | int) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(str(part))
    if isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
        return node.value[part]
    return None
