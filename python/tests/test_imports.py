"""The rule of imports: a folder knows itself and what stands left of it, nothing imports in a circle, and what the
laptop shares with the host is hostctl.common. Every import counts, those inside functions and for types included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PYTHON = Path(__file__).parents[1]
# a folder imports from itself and from those left of it; folders in one string know nothing of each other
ORDER = [
    *("common", "core", "host", "release", "notify", "journal", "instance", "edge", "accessories"),
    *("backup", "sqlite", "postgres", "engines", "cron", "transitions", "verbs", "removal,doctor", "cli"),
]
RANK = {folder: rank for rank, group in enumerate(ORDER) for folder in group.split(",")}


# What is imported by a function, and why: the seconds of processor time that starting costs with it and without it.
LATE = {
    "homeport.cli": "one verb of many: deploy --help and completion 0.11 s, with all that a session needs 0.7 s",
    "homeport.verbs": "a verb's help and completion 0.14 s, with a session 0.57 s",
    "homeport.config.layers": "sandbox destinations only: 0.1 s",
    "homeport.deployment.preflight": "boto3, where the bucket is asked: 0.15 s",
    "homeport.remote.interactive": "the session is a type here; verbs read its options for their help: 0.4 s",
    "homeport.sandbox.services": "cryptography, where a sandbox is made: 0.1 s",
    "homeport.secrets.resolve": "Ansible Vault, where a file holds a value: 0.3 s",
    "hostctl.cli": "one verb of many: hostctl status 0.1 s, with every verb's modules 0.4 s",
    "hostctl.engines": "one engine of three, and one concern of it",
    "hostctl.notify.events": "TLS, where a notification is sent",
    "hostctl.verbs.status": "S3 with TLS and XML, where the app has a database",
    "hostctl.transitions.follow": "following is what a push does most often, recovery hardly ever",
}


class Import(NamedTuple):
    """One imported name: the module that imports, the module that it gets, the line, and whether a function does it."""

    source: str
    target: str
    line: int
    late: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules(package: str) -> dict[str, Path]:
    """Every module of a package, by its dotted name."""
    found = {}
    for path in sorted((PYTHON / package).rglob("*.py")):
        name = ".".join(path.relative_to(PYTHON).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


MODULES = {**modules("hostctl"), **modules("homeport")}


def imports(module: str) -> Iterator[Import]:
    """What a module imports of the project's own modules."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            named = [f"{node.module}.{name.name}" for name in node.names]
            targets = [name if name in MODULES else str(node.module) for name in named]
        elif isinstance(node, ast.Import):
            targets = [name.name for name in node.names]
        else:
            continue
        for target in targets:
            # a package's __init__ runs before any module of it; the module's own packages have begun to
            for loaded in (target, *(name for name in _packages(target) if name not in _packages(module))):
                if loaded in MODULES and loaded != module:
                    yield Import(module, loaded, node.lineno, node.col_offset > 0)


def _packages(module: str) -> list[str]:
    """The packages that a module lies in."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


ALL = [found for module in MODULES for found in imports(module)]


def folder(module: str) -> str:
    return module.split(".")[1]


def test_every_folder_of_hostctl_has_its_place_in_the_order() -> None:
    outside = {"hostctl", "hostctl.__main__", "hostctl.authorise"}
    assert {folder(name) for name in modules("hostctl") if name not in outside} == set(RANK)


def test_no_folder_of_hostctl_imports_from_one_further_right() -> None:
    wrong = [
        str(found)
        for found in ALL
        if found.source.startswith("hostctl.") and found.target.startswith("hostctl.")
        if folder(found.source) in RANK and folder(found.target) in RANK
        if folder(found.source) != folder(found.target)
        if RANK[folder(found.source)] <= RANK[folder(found.target)]
    ]
    assert wrong == []


def test_the_laptop_imports_nothing_of_the_host_but_what_both_share() -> None:
    # hostctl itself is named by what packs it
    wrong = [
        str(found)
        for found in ALL
        if found.source.startswith("homeport") and found.target.split(".")[0] == "hostctl"
        if found.target != "hostctl" and not f"{found.target}.".startswith("hostctl.common.")
    ]
    assert wrong == []


def test_the_host_imports_nothing_of_the_laptop() -> None:
    assert [str(found) for found in ALL if found.source.startswith("hostctl") and "homeport" in found.target] == []


def test_imports_stand_at_the_top_but_where_starting_would_cost_too_much() -> None:
    late = [found for found in ALL if found.late]
    assert [str(found) for found in late if not _may_be_late(found.source)] == []
    assert {name for name in LATE if not any(f"{found.source}.".startswith(f"{name}.") for found in late)} == set()


def _may_be_late(module: str) -> bool:
    return any(name in LATE for name in (module, *_packages(module)))


def test_nothing_imports_in_a_circle() -> None:
    assert circles({module: {found.target for found in ALL if found.source == module} for module in MODULES}) == []


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach each other, by name."""
    reached = {module: _reach(graph, module) for module in graph}
    groups = {frozenset(other for other in reached[module] if module in reached[other]) for module in graph}
    return sorted(sorted(group) for group in groups if group)


def _reach(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(graph[module])
    return seen


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == [["b", "c"]]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_in_its_docstring_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[module].read_text())) or MODULES[module].stat().st_size == 0
