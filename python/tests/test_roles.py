"""The roles and actions of the collection: what they read, and that equal settings give an equal host in every run."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache

import pytest
import yaml

from homeport.core.packaged_files import collection, content
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
    known = options()
    used = {(name, key) for task in tasks() for name, given in task.items() if name in known for key in given or {}}
    assert {(name, key) for name, key in used if key not in known[name]} == set()
    assert known.keys() - {name for task in tasks() for name in task} == set()


def test_every_task_gives_what_its_action_requires() -> None:
    for task in tasks():
        for name in task.keys() & options().keys():
            required = {key for key, option in options()[name].items() if option.get("required")}
            assert required <= (task[name] or {}).keys(), (name, task)


@pytest.mark.parametrize(
    ("action", "names", "notes"),
    [
        ("credentials", {"app", "names"}, ("as root", "the file that C(deploy) writes")),
        ("plan", {"tar", "digest", "git", "host"}, ("as the deploy user", "the inventory plugin")),
        (
            "switch",
            {"verb", "digest", "git", "live", "to", "force", "with_data", "point", "at"},
            ("as the deploy user",),
        ),
    ],
)
def test_ansible_shows_what_several_actions_share_as_part_of_each(
    action: str, names: set[str], notes: tuple[str, ...]
) -> None:
    shown = documentation()[f"homeport.deploy.{action}"]
    assert shown["options"].keys() == names
    assert all(option["description"] for option in shown["options"].values())
    for note in notes:
        assert any(note in each for each in shown["notes"]), note


def test_ansible_shows_of_every_action_what_every_result_holds() -> None:
    for name, shown in documentation().items():
        assert any("C(step)" in note and "C(ms)" in note for note in shown["notes"]), name
        assert shown["author"] == "Homeport"
    required = {name for name, known in options().items() if known.get("digest", {}).get("required")}
    assert required == {f"homeport.deploy.{name}" for name in ("hook", "plan", "upload")}


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


@cache
def documentation() -> dict[str, Json]:
    """What ansible-doc shows of each action, by its full name."""
    actions = [path.stem for path in (collection() / "plugins" / "action").glob("*.py") if path.stem != "__init__"]
    command = ["ansible-doc", "-t", "module", "--json", *(f"homeport.deploy.{name}" for name in actions)]
    env = {**os.environ, "ANSIBLE_CONFIG": str(content() / "ansible.cfg")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return {name: shown["doc"] for name, shown in json.loads(done.stdout).items()}


def options() -> dict[str, Json]:
    """The options of each action, by its full name."""
    return {name: shown["options"] for name, shown in documentation().items()}
