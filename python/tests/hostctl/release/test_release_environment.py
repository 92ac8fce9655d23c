"""The environment of a release at rest: what is sealed comes back whole, and what was plain is sealed."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hostworld import World, killed
from hypothesis import given, settings
from hypothesis import strategies as st

from hostctl.common.errors import FAILED, REVERTED, USAGE, HostError
from hostctl.host import credentials
from hostctl.journal import journal
from hostctl.release import changes, envfile, environment, records
from hostctl.release.environment import INSTANCE, PLAIN, SEALED, SECRETS
from hostctl.transitions import begin, plan
from hostctl.verbs import seal_plaintext

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True).map(lambda name: f"V_{name}")
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def started(values: dict[str, str], program: Sequence[str]) -> bytes:
    """What a program prints that systemd starts with these variables as its unit's credential."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / environment.CREDENTIAL).write_text(envfile.render(values), newline="")
        command = [word.replace("$$", "$") for word in environment.launch_command(program)]
        env = {"CREDENTIALS_DIRECTORY": directory, "PORT": "4000"}
        return subprocess.run(command, env=env, capture_output=True, check=True).stdout


def run(world: World, name: str) -> Path:
    return world.app.record(live(world)) / name


def live(world: World) -> str:
    found = world.app.live()
    assert found is not None
    return found


# ---------------------------------------------------------------------------------------------- given to a program


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_every_variable_reaches_the_program_as_it_was_given(values: dict[str, str]) -> None:
    found = dict(line.split("=", 1) for line in started(values, ["/usr/bin/env", "-0"]).decode().split("\0")[:-1])
    assert {name: found[name] for name in values} == values
    assert found["PORT"] == "4000"


def test_the_arguments_of_the_program_are_its_own_and_its_variables_are_in_none() -> None:
    assert started({"KEY": "s3cret"}, ["/usr/bin/printf", "%s.", "a b", "$KEY", ""]) == b"a b.$KEY.."
    assert b"s3cret" not in started({"KEY": "s3cret"}, ["/bin/cat", "/proc/self/cmdline"])


# ---------------------------------------------------------------------------------------------- at rest


def test_what_is_kept_comes_back_with_the_port_of_the_instance(world: World) -> None:
    world.push("one")
    values = records.environment(world.app, live(world))
    assert (values["KEY"], values["COLOUR"]) == (world.secret, "blue")
    assert values["PORT"] == str(records.port(world.app, live(world)))


def test_a_release_without_an_environment_has_none(world: World) -> None:
    assert records.environment(world.app, "20260101T000001Z-abcdef1") == {}


def test_what_cannot_be_decrypted_is_told_and_never_taken_for_nothing(world: World) -> None:
    world.push("one")
    run(world, SEALED).write_bytes(b"of another host")
    with pytest.raises(HostError, match="cannot decrypt"):
        records.environment(world.app, live(world))


def test_secrets_that_nobody_can_decrypt_are_given_anew_and_the_push_goes_on(world: World) -> None:
    world.push("one")
    run(world, SEALED).write_bytes(b"of another host")
    with pytest.raises(HostError, match="cannot decrypt"):
        world.push("two", secrets={"KEY": None})
    assert world.push("two", secrets={"KEY": "another"})["result"] == "live"


def test_a_sealed_secret_opens_under_its_own_name_alone(world: World) -> None:
    world.push("one")
    with pytest.raises(HostError):
        credentials.read(run(world, SECRETS) / "KEY", "secret_OTHER")


def test_more_than_systemd_gives_a_unit_is_refused_by_its_size_before_anything_is_written(world: World) -> None:
    large = {f"V{number}": "x" * 99_000 for number in range(11)}
    with pytest.raises(HostError, match=r"are 10\d{5} bytes") as refused:
        world.push("one", env=large)
    assert refused.value.code == USAGE
    assert (journal.every(world.app), world.states()) == ([], {})


def test_a_variable_that_no_environment_can_hold_is_refused_before_anything_is_written(world: World) -> None:
    with pytest.raises(HostError, match="KEY holds a NUL"):
        world.push("one", secrets={"KEY": "a\0b"})
    assert (journal.every(world.app), world.states()) == ([], {})


def test_a_release_that_failed_keeps_nothing_of_it(world: World) -> None:
    release = world.push("one", "crashes")["release"]
    left = {path.name for path in world.app.record(release).iterdir()}
    assert not {SEALED, SECRETS, INSTANCE, PLAIN, "port"} & left


# ---------------------------------------------------------------------------------------------- of before


def as_before(world: World) -> dict[str, dict[str, str]]:
    """Every release as an older Homeport kept it; returns what each had."""
    had = {}
    for record in records.every(world.app):
        release, at = record["release"], world.app.record(record["release"])
        had[release] = records.environment(world.app, release)
        port = had[release].pop("PORT")
        environment.forget(world.app, release)
        (at / PLAIN).write_text(envfile.render({"PORT": port, **had[release]}))
        had[release]["PORT"] = port
        records.save(world.app, {key: value for key, value in record.items() if key != "env_digests"})
    return had


GIVEN = {"PHX_HOST": "shop.test", "COLOUR": "blue"}


@pytest.fixture
def old(world: World) -> tuple[World, dict[str, dict[str, str]]]:
    world.push("one", env=GIVEN)
    world.push("two", env=GIVEN)
    world.drain_all()
    return world, as_before(world)


Old = tuple[World, dict[str, dict[str, str]]]


def test_what_was_plain_text_is_sealed_first_and_removed_once_the_new_unit_is_there(old: Old) -> None:
    world, had = old
    assert seal_plaintext.seal(world.app) == {"sealed": sorted(had)}
    assert all((world.app.record(release) / PLAIN).exists() for release in had)
    assert seal_plaintext.finish(world.app) == {"removed": sorted(had)}
    assert {release: records.environment(world.app, release) for release in had} == had
    assert [p for p in world.root.rglob("*") if p.is_file() and world.secret.encode() in p.read_bytes()] == []
    assert (seal_plaintext.seal(world.app), seal_plaintext.finish(world.app)) == ({"sealed": []}, {"removed": []})


def test_releases_of_before_go_on_whether_or_not_they_are_sealed_yet(old: Old) -> None:
    world, had = old
    first = min(had)
    assert world.rollback()["release"] == first
    assert envfile.parse(run(world, PLAIN).read_text())["PORT"] == str(records.port(world.app, first))
    seal_plaintext.seal(world.app)
    assert world.rollback(max(had))["result"] == "live"
    port = str(records.port(world.app, max(had)))
    assert records.environment(world.app, max(had))["PORT"] == port
    assert envfile.parse(run(world, PLAIN).read_text())["PORT"] == port  # what the old unit reads
    seal_plaintext.finish(world.app)
    assert world.push("three", secrets={"KEY": None})["result"] == "live"


def test_after_it_a_plan_and_a_push_know_by_name_what_differs(old: Old) -> None:
    world, _ = old
    seal_plaintext.seal(world.app)
    same = world.spec("two", env=GIVEN)
    assert begin.push(world.app, same, world)["unchanged"]  # type: ignore[arg-type]
    assert changed(world, world.spec("two", env=GIVEN)) == []
    assert changed(world, world.spec("two", env=GIVEN, secrets={"KEY": "x"})) == ["env.secret.KEY"]


def test_the_plain_text_stays_where_what_is_sealed_is_not_the_same(old: Old) -> None:
    world, _ = old
    seal_plaintext.seal(world.app)
    environment.seal(run(world, SEALED), {"KEY": "another"})
    with pytest.raises(HostError, match="differs from the plain text"):
        seal_plaintext.finish(world.app)
    assert run(world, PLAIN).exists()


def convert(world: World) -> None:
    seal_plaintext.seal(world.app)
    seal_plaintext.finish(world.app)


def test_killed_at_any_act_the_conversion_loses_nothing_and_is_done_again(new_world: Callable[[], World]) -> None:
    after, done = 0, False
    while not done:
        world = new_world()
        world.push("one")
        had = as_before(world)
        done = not killed(world.root, after, partial(convert, world))
        assert {release: records.environment(world.app, release) for release in had} == had
        seal_plaintext.seal(world.app)
        seal_plaintext.finish(world.app)
        assert {release: records.environment(world.app, release) for release in had} == had
        assert not run(world, PLAIN).exists()
        after += 1
    assert after > 10


# ---------------------------------------------------------------------------------------------- env push


def env_push(world: World, version: str = "one", **more: object) -> dict[str, Any]:
    """As `deploy env push`; `version` is what is live."""
    spec = world.spec(version, **more)
    world.result = None
    return begin.push(world.app, spec, world, "env") | (world.result or {})  # type: ignore[arg-type]


def test_a_rotated_secret_goes_live_with_the_same_code_and_nothing_is_migrated(world: World) -> None:
    first = world.push("one")["release"]
    world.migrated.clear()
    result = env_push(world, secrets={"KEY": "rotated"})
    assert (result["result"], result["previous"]) == ("live", first)
    assert [step["name"] for step in result["steps"]] == ["unpack", "start", "health", "flip", "verify", "live"]
    assert world.migrated == []
    assert records.environment(world.app, live(world))["KEY"] == "rotated"
    assert records.load(world.app, live(world))["digest"] == records.load(world.app, first)["digest"]


def test_it_is_taken_back_as_any_release_is(world: World) -> None:
    first = world.push("one")["release"]
    env_push(world, secrets={"KEY": "rotated"})
    assert world.rollback()["release"] == first
    assert records.environment(world.app, live(world))["KEY"] == world.secret


def test_where_nothing_differs_it_says_so_and_does_nothing(world: World) -> None:
    first = world.push("one")["release"]
    assert env_push(world, secrets={"KEY": None}) == {"unchanged": True, "release": first}
    assert list(world.states()) == [first]


def test_one_that_is_not_healthy_leaves_the_old_environment_serving(world: World) -> None:
    first = world.push("one")["release"]
    spec = world.spec("one", secrets={"KEY": "rotated"})
    world.sick[spec["release"]] = "500"
    begin.push(world.app, spec, world, "env")  # type: ignore[arg-type]
    assert world.result is not None
    assert world.result["code"] == REVERTED
    assert world.app.live() == first
    assert world.states()[spec["release"]] == "failed"
    assert not (world.app.record(spec["release"]) / SEALED).exists()


def test_it_is_refused_where_nothing_is_live_or_another_code_went_live_meanwhile(world: World) -> None:
    with pytest.raises(HostError, match="no release is live") as nothing:
        env_push(world)
    assert (nothing.value.fix, world.states()) == ("deploy push", {})
    world.push("one")
    with pytest.raises(HostError, match="went live meanwhile") as other:
        env_push(world, "two")
    assert (other.value.code, other.value.fix) == (FAILED, "deploy env push")
    assert len(world.states()) == 1


def test_interrupted_it_names_the_command_that_begins_it_again(world: World) -> None:
    world.push("one")
    env_push(world, secrets={"KEY": "rotated"})
    assert journal.every(world.app)[-1].content["verb"] == "env"


# ---------------------------------------------------------------------------------------------- by name


def changed(world: World, spec: dict[str, Any]) -> list[str]:
    fingerprints = {name: value and envfile.sha256(value) for name, value in spec["secrets"].items()}
    found: list[str] = plan.plan(world.app, {**spec, "secrets": fingerprints})["changed_keys"]
    return found


def test_releases_and_audit_tell_by_name_what_changed_and_no_value_can_be_guessed_from_it(world: World) -> None:
    world.push("one", env={"COLOUR": "blue", "GONE": "x"})
    result = env_push(world, env={"COLOUR": "red", "NEW": "y"}, secrets={"KEY": "rotated", "MAIL": "m"})
    told = {"added": ["MAIL", "NEW"], "changed": ["COLOUR", "KEY"], "removed": ["GONE"]}
    assert result["env_changes"] == told
    assert records.summary(world.app, records.load(world.app, live(world)))["env_changes"] == told
    line = json.loads(world.app.audit.read_text().splitlines()[-1])
    assert (line["verb"], line["env_changes"]) == ("env", told)
    kept = json.dumps(records.load(world.app, live(world)))
    assert "rotated" not in kept
    assert envfile.sha256("rotated")[:16] not in kept


def test_a_first_release_has_nothing_to_differ_from(world: World) -> None:
    assert world.push("one")["env_changes"] is None
    assert records.load(world.app, live(world))["env_changes"] is None


def test_a_rollback_tells_what_it_takes_back(world: World) -> None:
    world.push("one")
    env_push(world, secrets={"KEY": "rotated"})
    assert world.rollback()["env_changes"] == {"added": [], "changed": ["KEY"], "removed": []}


def test_a_plan_names_what_would_change_from_digests_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push("one")
    monkeypatch.setattr(credentials, "unseal", lambda *_: pytest.fail("a plan decrypts nothing"))
    assert changed(world, world.spec("one")) == []
    assert changed(world, world.spec("one", env={"NEW": "1"}, secrets={"KEY": "x", "B": None})) == [
        *("env.clear.NEW", "env.secret.B", "env.secret.KEY", "env.clear.COLOUR")
    ]
    assert changed(world, world.spec("one", secrets={})) == ["env.secret.KEY"]


@given(*[st.dictionaries(NAMES, VALUES, max_size=4)] * 2)
def test_names_that_differ_are_told_once_and_equal_ones_never(old: dict[str, str], new: dict[str, str]) -> None:
    told = changes.named_changes(envfile.digests("k", old), envfile.digests("k", new))
    every = [name for names in told.values() for name in names]
    assert sorted(every) == sorted({name for name in old.keys() | new.keys() if old.get(name) != new.get(name)})


# ---------------------------------------------------------------------------------------------- the real key


CREDS = credentials._creds


@pytest.mark.skipif(os.geteuid() != 0, reason="systemd-creds keeps its key where root alone writes")
def test_systemd_opens_what_it_sealed_and_only_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_creds", CREDS)
    kept = credentials.seal("environment", b'KEY="x"\n\0\xff')
    assert b"KEY" not in kept
    assert credentials.unseal("environment", kept) == b'KEY="x"\n\0\xff'
    with pytest.raises(HostError, match="cannot decrypt other") as refused:
        credentials.unseal("other", kept)
    assert refused.value.fix == credentials.AGAIN
