"""The roles and actions of the collection: what they read, and that equal settings give an equal host in every run."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from homeport.core.packaged_files import collection
from hostctl.common.documents import Json

ROLES = collection() / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())
# Ansible makes them of Python's sets, whose order is another one in each process: a file would change with each run
OF_SETS = re.compile(r"\|\s*(difference|intersect|symmetric_difference|union)\b")


@pytest.mark.parametrize("suffix", ["yml", "j2"])
def test_no_role_takes_the_order_of_a_set(suffix: str) -> None:
    texts = {str(path.relative_to(ROLES)): path.read_text() for path in ROLES.rglob(f"*.{suffix}")}
    assert texts
    assert [name for name, text in texts.items() if OF_SETS.search(text)] == []


@pytest.mark.parametrize("role", NAMES)
def test_a_role_reads_no_variable_that_another_role_registers(role: str) -> None:
    others = {name for other in NAMES if other != role for name in registered(other)}
    texts = {path: path.read_text() for path in (ROLES / role).rglob("*") if path.suffix in (".yml", ".j2")}

    assert [
        (path.name, name) for path, text in texts.items() for name in others if re.search(rf"\b{name}\b", text)
    ] == []


def registered(role: str) -> set[str]:
    texts = (path.read_text() for path in (ROLES / role / "tasks").glob("*.yml"))
    return {name for text in texts for name in re.findall(r"^\s+register: (\w+)$", text, re.M)}


@pytest.mark.parametrize("role", NAMES)
def test_a_role_speaks_only_of_itself_and_of_the_roles_that_it_depends_on(role: str) -> None:
    strangers = {name for name in NAMES if name not in needed(role)}
    texts = {path: path.read_text() for path in (ROLES / role).rglob("*") if path.suffix in (".yml", ".j2")}
    uses = {(path.name, name) for path, text in texts.items() for name in re.findall(r"\b([a-z]+)_\w+", bare(text))}

    assert {(file, name) for file, name in uses if name in strangers} == set()


def needed(role: str) -> set[str]:
    """The role itself and all that it depends on."""
    document = yaml.safe_load((ROLES / role / "meta" / "main.yml").read_text())
    direct = [each["role"].removeprefix("homeport.deploy.") for each in document["dependencies"]]
    return {role}.union(*(needed(each) for each in direct))


def bare(text: str) -> str:
    """The expressions of a file: what stands between braces or after `when:`."""
    return "\n".join(re.findall(r"\{[{%].*?[%}]\}|when: .*", text, re.S))


def test_the_sandboxing_of_units_is_written_once() -> None:
    templates = {path: path.read_text() for path in ROLES.rglob("*.j2")}
    lasting = [path for path, text in templates.items() if re.search(r"^Type=(exec|notify)$", text, re.M)]

    assert [path.name for path, text in templates.items() if "ProtectKernelTunables" in text] == ["hardening.j2"]
    assert len(lasting) == 8
    assert [path for path in lasting if not re.search(r"base_hardening|confinement\.j2", templates[path])] == []


# ---------------------------------------------------------------------------------------------- actions


def test_every_task_uses_the_documented_options_of_its_action() -> None:
    used = {(name, key) for task in tasks() for name, given in task.items() if name in DOCUMENTED for key in given}
    assert {(name, key) for name, key in used if key not in DOCUMENTED[name]} == set()
    assert {name for name, _ in used} == DOCUMENTED.keys()


def test_every_task_gives_what_its_action_requires() -> None:
    for task in tasks():
        for name in task.keys() & DOCUMENTED.keys():
            required = {key for key, option in DOCUMENTED[name].items() if option.get("required")}
            assert required <= task[name].keys(), (name, task)


def test_every_task_has_the_full_name_of_its_module() -> None:
    names = {name for task in tasks() for name in task if "." in name or name.startswith("homeport")}
    assert {name for name in names if not re.match(r"(ansible\.builtin|homeport\.deploy)\.", name)} == set()


def tasks() -> Iterator[Json]:
    """Every task of the playbooks and roles."""
    for path in ROLES.glob("*/tasks/*.yml"):
        yield from yaml.safe_load(path.read_text())
    for path in (collection() / "playbooks").glob("*.yml"):
        for play in yaml.safe_load(path.read_text()):
            yield from play.get("tasks", [])


def documented() -> dict[str, Json]:
    """The options of each action, by its full name."""
    texts = {path.stem: path.read_text() for path in (collection() / "plugins" / "action").glob("*.py")}
    docs = {name: re.search(r'^DOCUMENTATION = """\n(.*?)"""', text, re.M | re.S) for name, text in texts.items()}
    return {f"homeport.deploy.{name}": yaml.safe_load(doc[1])["options"] for name, doc in docs.items() if doc}


DOCUMENTED = documented()
