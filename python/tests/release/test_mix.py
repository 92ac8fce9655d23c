"""release.mix: what a project needs, told from its mix.exs."""

from __future__ import annotations

from pathlib import Path

import pytest

from homeport.core.errors import HomeportError
from homeport.release import mix

from .samples import mix_project, write

RELEASE = ["mix", "release", "--overwrite", "--quiet", "--path", "/out"]


def commands(root: Path) -> list[list[str]]:
    return mix.commands(mix.read(root), "small", "/out")


def test_a_plain_project_needs_one_command_and_comments_count_for_nothing(project: Path) -> None:
    assert commands(project) == [RELEASE]


def test_a_release_is_named_only_where_releases_are_since_mix_knows_no_other_name(tmp_path: Path) -> None:
    root = mix_project(tmp_path, ", releases: [small: []]")
    assert commands(root) == [["mix", "release", "small", *RELEASE[2:]]]


def test_dependencies_from_hex_want_hex_and_rebar(tmp_path: Path) -> None:
    root = mix_project(tmp_path, ', more: [{:plug, "~> 1.0"}]')
    assert [c[1] for c in commands(root)] == ["local.hex", "local.rebar", "deps.get", "release"]


@pytest.mark.parametrize("dependency", ['{:a, git: "x"}', '{:a, path: "../a"}', '{:a, github: "b/a"}'])
def test_other_dependencies_do_without_hex(tmp_path: Path, dependency: str) -> None:
    root = mix_project(tmp_path, f", more: [{dependency}]")
    assert [c[1] for c in commands(root)] == ["deps.get", "release"]


def test_assets_are_built_after_compiling_and_before_the_release(tmp_path: Path) -> None:
    root = mix_project(tmp_path, ', aliases: ["assets.deploy": ["x"]]')
    assert commands(root) == [["mix", "compile"], ["mix", "assets.deploy"], RELEASE]


def test_an_umbrellas_child_builds_its_assets_in_its_own_directory(tmp_path: Path) -> None:
    write(tmp_path / "mix.exs", 'def project, do: [apps_path: "apps", releases: [small: []]]')
    mix_project(tmp_path / "apps" / "core")
    mix_project(tmp_path / "apps" / "web", ', aliases: ["assets.deploy": ["x"]]')
    assert commands(tmp_path)[:2] == [["mix", "compile"], ["env", "--chdir=apps/web", "mix", "assets.deploy"]]


def test_without_mix_exs_the_refusal_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HomeportError) as caught:
        mix.read(tmp_path)
    assert caught.value.code == 2
    assert "--artifact" in caught.value.fix


def test_nothing_in_release_env_can_make_it_another_mix_env() -> None:
    env = mix.environment({"MIX_ENV": "dev", "FEATURE": "on"})
    assert (env["MIX_ENV"], env["FEATURE"]) == ("prod", "on")
