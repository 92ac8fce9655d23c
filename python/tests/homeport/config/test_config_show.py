"""deploy config: what counts, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.config import show
from homeport.config.check import check
from homeport.config.document import parse
from homeport.config.layers import load
from homeport.config.problems import ConfigError
from homeport.core.errors import HomeportError
from homeport.options.options import Options
from homeport.verbs.config import command


def run(root: Path, *args: str) -> Any:
    result = CliRunner().invoke(command, ["-c", str(root / "deploy.yml"), *args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_what_is_shown_is_a_deploy_yml_that_means_the_same(project: Any, good: Callable[[str], str]) -> None:
    before = project.write(good("limits: {memory: 512M, cpu: 0.5}\nenv: {clear: {A: '010', B: 'yes'}}\n")).load()

    shown = run(project.root).stdout

    assert project.write(shown).load().config == before.config
    assert "memory: 512M" in shown
    assert "drain_timeout: 30s" in shown


def test_programs_get_seconds_and_bytes(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("limits: {memory: 512M}\nenv: {secret: [TOKEN]}\n"))

    found = json.loads(run(project.root, "--json").stdout)

    assert (found["limits"]["memory"], found["drain_timeout"], found["env"]["secret"]) == (
        2**29,
        30.0,
        ["TOKEN"],
    )


def test_the_layer_of_every_value_is_told(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("health:\n  path: /up\n")).write("drain_timeout: 5s\nhost: b.test\n", "deploy.prod.yml")

    lines = {
        line.split()[0]: line.split()[-1] for line in run(project.root, "-d", "prod", "--explain").stdout.splitlines()
    }

    assert lines["health.path"].endswith("deploy.yml:5")
    assert lines["drain_timeout"].endswith("deploy.prod.yml:1")
    assert lines["retain_releases"] == "default"


def test_programs_get_the_layers_too(project: Any, good: Callable[[str], str]) -> None:
    project.write(good(""))

    rows = {row["key"]: row for row in json.loads(run(project.root, "--explain", "--json").stdout)}

    assert rows["drain_timeout"] == {"key": "drain_timeout", "value": 30.0, "layer": "default", "line": None}
    assert rows["app"]["line"] == 1


def test_values_of_secrets_are_never_shown(
    project: Any, good: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-and-more")
    project.write(good("env: {secret: [TOKEN]}\n"))

    for args in ([], ["--json"], ["--explain"], ["--explain", "--json"]):
        result = run(project.root, *args)
        assert "TOKEN" in result.stdout
        assert "hunter2" not in result.output


def test_warnings_go_to_standard_error(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("env: {clear: {API_TOKEN: x}}\n"))

    result = run(project.root, "--json")

    assert result.stderr.startswith("warning: ")
    assert json.loads(result.stdout)["app"] == "shop"


def test_mistakes_are_raised_for_the_command_line_to_print(project: Any) -> None:
    project.write("app: shop\n")

    with pytest.raises(ConfigError):
        run(project.root)


def test_options_may_stand_before_the_verb_or_after_it(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("")).write("drain_timeout: 5s\nhost: b.test\n", "deploy.prod.yml").write(
        "drain_timeout: 6s\nhost: c.test\n", "deploy.test.yml"
    )
    before = Options(config=project.root / "deploy.yml", destination="prod")

    def drain(*args: str) -> float:
        result = CliRunner().invoke(command, ["--json", *args], obj=before)
        return float(json.loads(result.stdout)["drain_timeout"])

    assert drain() == 5.0
    assert drain("-d", "test") == 6.0


words = st.text("abcxyz", min_size=1, max_size=8)
configs = st.fixed_dictionaries(
    {
        "app": words.map(lambda word: f"my-{word}"),
        "host": st.sampled_from(["10.0.0.1", "me@a.test:22", "[::1]", "alias"]),
        "domains": st.lists(words.map(lambda word: f"{word}.test"), min_size=1, max_size=3, unique=True),
    },
    optional={
        "drain_timeout": st.integers(0, 86_400_000).map(lambda count: f"{count}ms"),
        "retain_releases": st.integers(2, 100),
        "limits": st.fixed_dictionaries(
            {"memory": st.none() | st.integers(2**24, 2**40), "cpu": st.none() | st.integers(1, 64)}
        ),
        "env": st.fixed_dictionaries(
            {
                "clear": st.dictionaries(
                    st.text("ABC_", min_size=1),
                    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
                ),
                "secret": st.lists(st.text("XYZ_", min_size=2).map(lambda name: f"Z{name}"), unique=True),
            }
        ),
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(configs)
def test_any_configuration_comes_back_from_what_is_shown(tmp_path: Path, value: dict[str, Any]) -> None:
    import yaml

    (tmp_path / "deploy.yml").write_text(yaml.safe_dump(value, allow_unicode=True))
    loaded = load(start=tmp_path)

    tree, problems = parse(show.as_yaml(loaded), "deploy.yml")
    again, mistakes = check(tree)

    assert (again, problems, mistakes) == (loaded.config, [], [])


def test_a_key_is_explained_with_its_value_origin_and_description(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("health:\n  interval: 2s\n"))

    shown = run(project.root, "health.interval", "cron").stdout

    here = f"({project.root / 'deploy.yml'}:5)"
    assert shown.startswith(f"health.interval: 2s  {here}\n  The time between two health checks.\n\n")
    assert "\n\ncron: []  (default)\n  Scheduled jobs" in shown
    assert "\n\ncron[].schedule:\n  When it runs" in shown
    assert [row["key"] for row in json.loads(run(project.root, "health", "--json").stdout)][:2] == [
        "health",
        "health.path",
    ]


def test_an_unknown_key_names_near_ones(project: Any, good: Callable[[str], str]) -> None:
    project.write(good(""))

    with pytest.raises(HomeportError) as caught:
        run(project.root, "helth.path")

    assert (caught.value.what, caught.value.code) == ("deploy.yml has no key helth.path", 2)
    assert caught.value.fix.startswith("name health.path")
