"""Strict arguments, one JSON document, and who may run what."""

from __future__ import annotations

import errno
import io
import json
import marshal
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostworld import World
from hypothesis import given
from hypothesis import strategies as st

from homeport.core import hostctl_zipapp
from hostctl import cli
from hostctl.authorise import INTERNAL, authorise
from hostctl.common import names
from hostctl.common.errors import USAGE, HostError, of_system
from hostctl.core import schema


def run(world: World, *argv: str, user: str | None = None) -> Any:
    return cli.run(list(argv), world.app.layout, 0, user)


def test_root_and_the_apps_deployers_may_others_may_not(world: World) -> None:
    assert run(world, "shop", "releases") == {"releases": []}
    assert run(world, "shop", "releases", user="deploy") == {"releases": []}
    with pytest.raises(HostError, match="mallory may not"):
        run(world, "shop", "releases", user="mallory")


@pytest.mark.parametrize(
    "argv",
    [["boot"], ["edge", "apply"], ["shop", "recover"], ["shop", "drain", "20260101T000000000Z-abcdef"]],
)
def test_internal_verbs_are_refused_under_sudo(world: World, argv: list[str]) -> None:
    with pytest.raises(HostError, match="only the host runs") as caught:
        run(world, *argv, user="deploy")
    assert caught.value.code == USAGE


def test_without_root_nothing_runs() -> None:
    with pytest.raises(HostError, match="needs root"):
        authorise("status", 1000, None, ["deploy"])


@given(
    st.sampled_from(sorted({*cli.OPTIONS, *cli.GLOBAL})),
    st.text(min_size=1, max_size=8),
    st.lists(st.text(max_size=5)),
)
def test_a_sudo_user_who_is_no_deployer_may_run_no_verb_at_all(verb: str, user: str, deployers: list[str]) -> None:
    if user == "root" or (user in deployers and verb not in INTERNAL):
        authorise(verb, 0, user, deployers)
    else:
        with pytest.raises(HostError):
            authorise(verb, 0, user, deployers)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["shop"],
        ["shop", "nope"],
        ["../etc", "status"],
        ["Shop", "status"],
        ["shop", "status", "extra"],
        ["shop", "follow", "--transition", "../../x"],
        ["shop", "follow", "--after", "-1"],
        ["shop", "follow", "--wait", "inf"],
        ["shop", "follow", "--wait", "nan"],
        ["shop", "logs", "-n", "1e3"],
        ["shop", "logs", "--release", "-u"],
        ["shop", "rollback", "--to", "a;b"],
        ["shop", "rollback", "--lock", "3"],  # no abbreviations
        ["shop", "receive", "--digest", "x"],
        ["shop", "lock", "steal"],
        ["shop", "lock", "acquire", "--message", "two\nlines"],
        ["boot", "now"],
        ["edge"],
    ],
)
def test_whatever_is_not_exactly_right_is_a_usage_error(world: World, argv: list[str]) -> None:
    with pytest.raises(HostError) as caught:
        run(world, *argv)
    assert caught.value.code == USAGE


def test_an_app_that_is_not_provisioned_is_told_so(world: World) -> None:
    with pytest.raises(HostError, match="no app other"):
        run(world, "other", "status")


def test_an_error_is_one_json_document_and_its_code_the_exit_status(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["shop", "nope"], world.app.layout)
    told = json.loads(capsys.readouterr().out)
    assert code == USAGE
    assert set(told["error"]) == {"what", "where", "fix", "code"}


def test_every_verb_has_a_function_and_every_function_a_verb() -> None:
    assert set(cli.VERBS) == set(cli.OPTIONS)
    assert all(callable(verb) for verb in cli.VERBS.values())


@pytest.mark.parametrize("kind", sorted(names.PATTERNS))
@given(text=st.text(max_size=40))
def test_a_name_never_leads_out_of_a_directory(kind: str, text: str) -> None:
    if kind not in ("line", "path", "command", "event") and names.matches(kind, text):
        assert "/" not in text
        assert text not in (".", "..")
        assert not text.startswith("-")
    assert not (names.matches(kind, text) and ("\n" in text or "\0" in text))


def test_a_transition_id_is_one_and_sorts_by_age() -> None:
    made = [names.transition_id() for _ in range(3)]
    assert all(names.matches("transition", one) for one in made)
    assert [one[:19] for one in made] == sorted(one[:19] for one in made)


# ---------------------------------------------------------------------------------------------- the spec


def read(monkeypatch: pytest.MonkeyPatch, document: object) -> dict[str, Any]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(document).encode())))
    return schema.read(schema.PUSH)


def test_a_good_spec_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    good = world.spec("one")
    assert read(monkeypatch, good) == good


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("release", "../../etc"), "release is not valid"),
        (("digest", "abc"), "digest is not valid"),
        (("extra", 1), "extra is unknown"),
        (("env", {"A": 1}), "env is not valid"),
        (("env", {"A B": "x"}), "env is not valid"),
        (("secrets", ["KEY"]), "secrets is not valid"),
        (("settings", {}), "settings.health is missing"),
    ],
)
def test_each_mistake_of_a_spec_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, change: tuple[str, object], said: str
) -> None:
    with pytest.raises(HostError, match=said) as caught:
        read(monkeypatch, {**world.spec("one"), change[0]: change[1]})
    assert caught.value.code == USAGE
    assert world.secret not in caught.value.what


@pytest.mark.parametrize("path", ["bin/../../../bin/sh", "/bin/sh", "-x", "a b", ""])
def test_a_migration_command_is_a_plain_path_in_the_release(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    with pytest.raises(HostError, match="migrate"):
        read(monkeypatch, world.spec("one", commands={"migrate": path}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_no_document_makes_the_check_itself_fail(document: object) -> None:
    assert schema.mistakes(schema.PUSH, document)


# ---------------------------------------------------------------------------------------------- the zipapp


def test_the_zipapp_is_the_same_bytes_every_time_and_runs_isolated(tmp_path: Path) -> None:
    first, second = tmp_path / "a/hostctl.pyz", tmp_path / "b/hostctl.pyz"
    hostctl_zipapp.build(first)
    os.utime(first, (0, 0))
    hostctl_zipapp.build(second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_mode & 0o777 == 0o755
    code = "import sys; sys.path.insert(0, sys.orig_argv[-1]); import hostctl.cli; print(hostctl.__file__)"
    done = subprocess.run([sys.executable, "-IS", "-c", code, str(first)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(first))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """hostctl as provisioning installs it, but for the directory into which it unpacks itself."""
    entry = hostctl_zipapp.ENTRY.replace("/usr/local/lib/homeport", str(tmp_path / "lib"))
    monkeypatch.setattr(hostctl_zipapp, "ENTRY", entry)
    hostctl_zipapp.build(tmp_path / "hostctl")
    return tmp_path / "hostctl"


def by_sudo(program: Path, limits: str) -> subprocess.CompletedProcess[str]:
    """Run hostctl as sudo does for the deploy user, whose shell has set limits; root's program keeps them."""
    words = ["sh", "-c", f'{limits} exec "$@"', "sh", str(program), "shop", "status"]
    environment = {"PATH": os.environ["PATH"], "SUDO_USER": "deploy"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


def bytecode(program: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (program.parent / "lib").rglob("*.pyc")}


@pytest.mark.skipif(os.geteuid() != 0, reason="hostctl unpacks itself for root alone")
@pytest.mark.parametrize("limits", ["ulimit -f 8;", "ulimit -f 0;", "ulimit -n 32;", "umask 777;", "ulimit -t 5;"])
def test_no_limit_of_the_deploy_user_leaves_broken_bytecode(installed: Path, limits: str) -> None:
    assert "no app shop" in by_sudo(installed, limits).stdout
    if made := bytecode(installed):
        assert by_sudo(installed, "").stdout
        assert bytecode(installed) == made
    else:  # this root cannot lift the limit
        by_sudo(installed, "")
        made = bytecode(installed)
    sources = list((installed.parent / "lib").rglob("*.py"))
    assert len(made) == len(sources) > 100
    for content in made.values():
        marshal.loads(content[16:])
    assert [path for path in sources if path.stat().st_mode & 0o777 != 0o644] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="hostctl unpacks itself for root alone")
def test_a_run_of_the_deploy_user_writes_no_bytecode(installed: Path) -> None:
    by_sudo(installed, "")
    for path in (installed.parent / "lib").rglob("*.pyc"):
        path.unlink()
    assert "no app shop" in by_sudo(installed, "ulimit -f 8;").stdout
    assert bytecode(installed) == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_one_with_the_file_and_the_way_out(number: int) -> None:
    error = of_system(OSError(number, os.strerror(number), "/srv/shop/x"), "unpack", "elsewhere", "no fix")
    assert error.what.startswith("the disk is full: ")
    assert "unpack" in error.what
    assert error.where == "/srv/shop/x"
    assert error.fix.startswith("free some space on the host")


def test_what_else_the_system_refuses_keeps_its_own_words() -> None:
    error = of_system(PermissionError(errno.EACCES, "Permission denied", "/x"), "unpack", "/here", "mend it")
    assert (error.where, error.fix) == ("/here", "mend it")
    assert "Permission denied" in error.what
