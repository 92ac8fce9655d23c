"""release.local: real builds with this machine's mix."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from homeport.core.errors import HomeportError
from homeport.release import delta, local
from homeport.release.cache import Cache

from .samples import mix_project, write

pytestmark = pytest.mark.skipif(not shutil.which("mix"), reason="mix is not installed")


def build(root: Path, **env: str) -> Path:
    return local.build(root, "small", env, lambda line: None)


def edit(project: Path, version: int) -> None:
    """As a person edits: not within the second of the last build, in which mix would not see it."""
    time.sleep(1.1)
    write(project / "lib" / "small.ex", f"defmodule Small do\n  def version, do: {version}\nend\n")


def test_a_project_without_releases_becomes_a_release_that_runs(project: Path) -> None:
    made = build(project)
    done = subprocess.run(
        [made / "bin" / "small", "eval", "IO.puts(Small.version())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"


def test_the_same_source_built_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    cache = Cache("small", tmp_path / "cache")
    one, two = (mix_project(tmp_path / name) for name in ("one", "deep/er/two"))
    assert cache.add(build(one)).digest == cache.add(build(two)).digest


def test_one_changed_module_is_a_small_delta_and_an_old_build_leaves_no_trace(project: Path, tmp_path: Path) -> None:
    cache = Cache("small", tmp_path / "cache")
    first = cache.add(build(project))
    edit(project, 2)
    second = cache.add(build(project))
    stream = delta.make(second.tar, first.tar)
    assert len(stream.data) < 20_000
    edit(project, 1)
    assert cache.add(build(project)).digest == first.digest


def test_an_umbrella_builds_its_assets_and_its_release(tmp_path: Path) -> None:
    root = tmp_path / "umbrella"
    releases = 'version: "0.1.0", releases: [small: [applications: [small: :permanent]]]'
    write(
        root / "mix.exs",
        f'defmodule U do\n use Mix.Project\n def project, do: [apps_path: "apps", {releases}]\nend\n',
    )
    steps = 'File.mkdir_p!("priv"); File.write!("priv/app.js", "1")'
    shared = 'build_path: "../../_build", lockfile: "../../mix.lock", deps_path: "../../deps"'
    alias = f', {shared}, aliases: ["assets.deploy": fn _ -> {steps} end]'
    mix_project(root / "apps" / "small", alias)
    made = build(root)
    assert (made / "lib" / "small-0.1.0" / "priv" / "app.js").read_text() == "1"


def test_release_env_reaches_the_build_and_output_is_reported_as_it_comes(project: Path) -> None:
    write(project / "config" / "config.exs", 'IO.puts("feature " <> System.fetch_env!("FEATURE"))\n')
    lines: list[str] = []
    local.build(project, "small", {"FEATURE": "on"}, lines.append)
    assert "feature on" in lines


def test_a_failed_build_shows_the_command_its_last_lines_and_where(project: Path) -> None:
    write(project / "lib" / "small.ex", "defmodule Small do\n  def version, do: undefined_here()\nend\n")
    with pytest.raises(HomeportError) as caught:
        build(project)
    assert "`mix release" in caught.value.what
    assert "undefined_here" in caught.value.what
    assert caught.value.where == str(project)


def test_a_release_of_another_name_is_refused(tmp_path: Path) -> None:
    root = mix_project(tmp_path / "small", ", releases: [other: []]")
    with pytest.raises(HomeportError, match="The available releases are"):
        build(root)


def test_hex_that_is_not_there_and_cannot_be_reached_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIX_HOME", str(tmp_path / "mix-home"))
    root = mix_project(tmp_path / "small", ', more: [{:plug, "~> 1.0"}]')
    with pytest.raises(HomeportError) as caught:
        build(root, HEX_MIRROR="http://127.0.0.1:9", HEX_BUILDS_URL="http://127.0.0.1:9")
    assert "local.hex" in caught.value.what
    assert "builds.hex.pm" in caught.value.fix
