"""release.container: real builds with podman, from a small Debian tree made here: no registry is needed."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.core.errors import HomeportError
from homeport.release import abi, container, mix

from .samples import mix_project, write

IMAGE = "localhost/homeport-test-elixir"
INCLUDED = "elixir,erlang-nox,git,ca-certificates"
CACHE = Path("/var/cache/homeport/test")


def podman(*args: str) -> str:
    return subprocess.run(["podman", *args], check=True, capture_output=True, text=True).stdout


def tree() -> Path:
    """A Debian with Elixir, as a tar, from this machine's own apt sources."""
    key = hashlib.sha256(f"{platform.freedesktop_os_release()['VERSION_ID']} {INCLUDED}".encode()).hexdigest()
    tar = CACHE / f"elixir-{key[:12]}.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        part = CACHE / f"part-{os.getpid()}.tar"
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        lists = [*Path("/etc/apt/sources.list.d").glob("*.sources"), *Path("/etc/apt").glob("sources.list")]
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDED}", suite, str(part)]
        subprocess.run([*command, *map(str, lists)], check=True)
        part.replace(tar)
    return tar


def remove(storage: Path) -> None:
    """Podman keeps its storage mounted while it works; a killed run leaves it so."""
    subprocess.run(["umount", "--quiet", storage / "graph" / "overlay"], check=False)
    if storage.exists():
        shutil.rmtree(storage)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The tree as an image, in a storage of its own that is removed afterwards."""
    storage = CACHE / f"podman{os.environ.get('PYTEST_XDIST_WORKER', '')}"
    remove(storage)  # of a killed run
    (storage / "tmp").mkdir(parents=True)
    paths = f'graphroot = "{storage}/graph"\nrunroot = "{storage}/run"\n'
    write(storage / "storage.conf", f'[storage]\ndriver = "overlay"\n{paths}')
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CONTAINERS_STORAGE_CONF", str(storage / "storage.conf"))
        environment.setenv("TMPDIR", str(storage / "tmp"))
        with tree().open("rb") as file:
            subprocess.run(["podman", "import", "-q", "-", IMAGE], stdin=file, check=True, capture_output=True)
        yield IMAGE
    remove(storage)


def images() -> set[str]:
    return set(podman("images", "--all", "--quiet", "--no-trunc").split())


real = [
    pytest.mark.host,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("podman") or not shutil.which("mmdebstrap"),
        reason="needs root, podman and mmdebstrap",
    ),
]


class TestBuild:
    pytestmark = real

    def build(self, root: Path, env: dict[str, str], file: Path | None = None) -> Path:
        self.lines: list[str] = []
        return container.build(
            root, "small", env, self.lines.append, engine="podman", codename="bookworm", containerfile=file
        )

    def test_a_project_without_a_containerfile_becomes_a_release(self, project: Path, image: str) -> None:
        write(project / "config" / "config.exs", 'IO.puts("feature " <> System.fetch_env!("FEATURE"))\n')
        write(project / "_build" / "prod" / "stale", "of the laptop")
        env = {container.IMAGE: image, "FEATURE": 'a $b "c"'}
        self.build(project, env)
        before = images()
        made = self.build(project, env)
        assert any(line.endswith('feature a $b "c"') for line in self.lines)
        assert images() == before
        ran = subprocess.run([made / "bin" / "small", "eval", "IO.puts(Small.version())"], capture_output=True)
        assert ran.stdout == b"1\n"
        assert "erts" in abi.requirements(made, project / "elf.json")[0].file

    def test_the_repositorys_own_containerfile_is_used_whatever_its_last_stage(self, project: Path, image: str) -> None:
        text = (
            f"FROM {image} AS build\nARG FEATURE\nCOPY . /src\nWORKDIR /src\n"
            "RUN echo feature $FEATURE && MIX_ENV=prod mix release --quiet --path /made\n"
            f"FROM {image}\nCOPY --from=build --chown=nobody /made /opt/app\n"
        )
        own = write(project / "Containerfile", text)
        made = self.build(project, {"FEATURE": "on"}, container.own_file(project, None))
        assert own == container.own_file(project, None)
        assert "feature on" in "\n".join(self.lines)
        assert made.parts[-2:] == ("opt", "app")

    def test_a_build_that_fails_shows_the_last_lines(self, project: Path, image: str) -> None:
        write(project / "lib" / "small.ex", "defmodule Small do\n  def version, do: undefined_here()\nend\n")
        with pytest.raises(HomeportError) as caught:
            self.build(project, {container.IMAGE: image})
        assert "undefined_here" in caught.value.what


def test_the_configured_containerfile_goes_before_the_one_that_is_found(tmp_path: Path) -> None:
    assert container.own_file(tmp_path, None) is None
    write(tmp_path / "Dockerfile", "")
    assert container.own_file(tmp_path, None) == tmp_path / "Dockerfile"
    assert container.own_file(tmp_path, "docker/prod") == tmp_path / "docker" / "prod"


def test_the_values_of_variables_are_not_on_the_command_line(tmp_path: Path) -> None:
    env = {"FEATURE": "kept-apart"}
    command = container.build_command("docker", tmp_path / "f", tmp_path, tmp_path / "out", env)
    assert "FEATURE" in command
    assert not [word for word in command if "kept-apart" in word]


def test_the_generated_file_names_every_step_and_ends_with_nothing_but_the_release(tmp_path: Path) -> None:
    root = mix_project(tmp_path, ', more: [{:plug, "~> 1.0"}], aliases: ["assets.deploy": ["x"]]')
    text = container.app_file("base", "small", mix.read(root), ["FEATURE", "MIX_ENV"])
    steps = [
        "mix local.hex",
        "mix deps.get",
        "mix compile",
        "mix assets.deploy",
        "mix release",
        "FROM scratch",
    ]
    assert sorted(steps, key=text.index) == steps
    assert "ARG FEATURE\nARG MIX_ENV\n" in text
    assert text.endswith("COPY --from=build /release /\n")
