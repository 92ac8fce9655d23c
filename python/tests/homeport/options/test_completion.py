"""The Tab key, pressed in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pexpect
import pytest
from click.testing import CliRunner

from homeport.cli import VERBS, deploy
from homeport.options import completion

# `deploy` as it is installed, but for the sandboxes that it finds
PROGRAM = f"""#!{sys.executable}
import pathlib, homeport.options.completion
homeport.options.completion.SANDBOXES = pathlib.Path({{boxes!r}})
from homeport.cli import main
main()
"""
PATIENCE = 20.0  # seconds; only a hang takes that long

needs = {name: pytest.mark.skipif(not shutil.which(name), reason=f"there is no {name}") for name in ("zsh", "fish")}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with destinations, with `deploy` on the PATH and two sandboxes on the machine."""
    for name in ("deploy.yml", "deploy.staging.yml", "deploy.secrets.yml", "deploy.secrets.staging.yml", "other.yml"):
        (tmp_path / name).touch()
    (tmp_path / "other.eu.yml").touch()
    for name in ("default", "rehearsal"):
        (tmp_path / "boxes" / name).mkdir(parents=True)
    program = tmp_path / "bin" / "deploy"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(boxes=str(tmp_path / "boxes")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(line: str) -> list[str]:
    """What is offered where the cursor is, at the end of the line; every value with what it is."""
    asked = {**os.environ, "COMP_WORDS": line, "_DEPLOY_COMPLETE": "bash_complete"}
    done = subprocess.run(["deploy"], env=asked, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


LINES = {
    "deploy sta": ["plain,status"],
    "deploy -d ": [f"plain,{name}" for name in ("staging", "sandbox", "sandbox:default", "sandbox:rehearsal")],
    "deploy -d sandbox:r": ["plain,sandbox:rehearsal"],
    "deploy push --destination sta": ["plain,staging"],
    "deploy push --destination=sta": ["plain,staging"],
    "deploy -c other.yml -d e": ["plain,eu"],
    "deploy push --art": ["plain,--artifact"],
    "deploy push --artifact ": ["file,"],
    "deploy backup dri": ["plain,drill"],
    "deploy sandbox down --name r": ["plain,rehearsal"],
    "deploy completion f": ["plain,fish"],
    "deploy status --json ": [],
}


@pytest.mark.parametrize(("line", "expected"), LINES.items(), ids=list(LINES))
def test_what_is_offered(place: Path, line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_every_verb_is_offered_and_none_is_loaded(place: Path) -> None:
    assert offered("deploy ") == [f"plain,{name}" for name in VERBS]
    asked = "import sys; from homeport.cli import main\ntry: main([])\nfinally: print(*sys.modules)"
    environ = {**os.environ, "COMP_WORDS": "deploy p", "_DEPLOY_COMPLETE": "bash_complete"}
    done = subprocess.run([sys.executable, "-c", asked], env=environ, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "plain,push" in loaded
    assert [name for name in loaded if name.startswith(("homeport.verbs", "pydantic", "ansible"))] == []


def test_no_verb_loads_what_takes_long_before_it_runs() -> None:
    asked = "import sys, importlib; [importlib.import_module(f'homeport.verbs.{name}') for name in sys.argv[1:]]"
    argv = [sys.executable, "-c", f"{asked}; print(*sys.modules)", *VERBS]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "ansible_runner", "boto3", "paramiko", "rich", "yaml"} & set(loaded)


def test_a_directory_without_a_project_offers_the_sandboxes_alone(place: Path, tmp_path: Path) -> None:
    (place / "deploy.yml").unlink()
    assert offered("deploy -d s")[0] == "plain,sandbox"


def test_a_shell_that_is_not_known_is_refused() -> None:
    done = CliRunner().invoke(deploy, ["completion", "tcsh"])
    assert done.exit_code == 2


def test_every_destination_option_offers_destinations() -> None:
    context = click.Context(deploy)
    for name in VERBS:
        verb = deploy.get_command(context, name)
        assert verb is not None
        for option in verb.params:
            if option.name == "destination":
                assert option._custom_shell_complete is completion.destinations, name  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------- in the shells


def becomes(argv: list[str], start: str, typed: str, line: str) -> None:
    """A line with Tab at its end, typed into a shell on a terminal, ends up as another one."""
    environ = {**os.environ, "TERM": "dumb", "INPUTRC": "/dev/null"}
    with pexpect.spawn(argv[0], argv[1:], env=environ, encoding="utf-8", timeout=PATIENCE, dimensions=(40, 200)) as it:
        # the line itself, which is echoed, does not hold the prompt
        it.sendline(f"{start}; PS1='rea''dy> '")
        it.expect_exact("ready> ")
        it.send(f"{typed}\t")
        it.expect_exact(line)


IN_BASH = {
    "deploy stat": "deploy status ",
    "deploy -d stag": "deploy -d staging ",
    # bash takes the colon for the end of a word
    "deploy -d sandbox:reh": "deploy -d sandbox:rehearsal ",
    "deploy push --destination=stag": "deploy push --destination=staging ",
    "deploy -c other.y": "deploy -c other.yml ",
}


@pytest.mark.parametrize(("typed", "line"), IN_BASH.items(), ids=list(IN_BASH))
def test_bash_completes(place: Path, typed: str, line: str) -> None:
    becomes(["bash", "--norc", "--noprofile", "-i"], 'eval "$(deploy completion bash)"', typed, line)


@needs["zsh"]
@pytest.mark.parametrize(("typed", "line"), [("deploy stat", "us "), ("deploy -d sandbox:reh", "earsal ")])
def test_zsh_completes(place: Path, typed: str, line: str) -> None:
    start = 'autoload -U compinit; compinit -u -D; eval "$(deploy completion zsh)"'
    becomes(["zsh", "-f", "-i"], start, typed, line)


@needs["fish"]
def test_fish_completes(place: Path) -> None:
    def offers(line: str) -> list[str]:
        script = f"deploy completion fish | source; complete -C '{line}'"
        done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
        return [each.partition("\t")[0] for each in done.stdout.splitlines()]

    assert offers("deploy stat") == ["status"]
    assert offers("deploy -d sandbox:r") == ["sandbox:rehearsal"]
    assert offers("deploy push --arti") == ["--artifact"]
