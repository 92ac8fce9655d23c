"""Which file counts, what a destination changes, and where each value came from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homeport.config.layers import load
from homeport.config.problems import ConfigError
from homeport.core.errors import HomeportError


class Sandbox:
    """What homeport.sandbox.get gives."""

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": "sandbox",
            "address": "198.51.100.9",
            "ssh": {"user": "root", "port": 22, "key": "/s/key", "known_hosts": "/s/known_hosts"},
            "s3": {"endpoint": "http://198.51.100.10:8333"},
            "acme": {
                "directory": "https://198.51.100.10:14000/dir",
                "ca": "/s/ca.pem",
                "root": "/s/root.pem",
            },
        }


def test_the_nearest_file_above_counts(project: Any, good: Callable[[str], str]) -> None:
    below = project.root / "apps" / "web"
    below.mkdir(parents=True)
    project.write(good("zebra: 1"))

    with pytest.raises(ConfigError) as caught:
        load(start=below)

    assert caught.value.where == "../../deploy.yml:4"


def test_a_file_can_be_named(project: Any, good: Callable[[str], str]) -> None:
    project.write(good(""), "other.yml")

    loaded = load(Path("other.yml"), None, project.root)

    assert (loaded.root, loaded.config.app) == (project.root, "shop")


def test_without_a_file_the_way_to_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(start=tmp_path)

    assert caught.value.lines() == [
        "there is no deploy.yml here or in a directory above",
        f"  where: {tmp_path}",
        "  fix: write one: deploy init, or name one: deploy -c FILE",
    ]


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Path("nope.yml"), None, tmp_path)

    assert (caught.value.what, caught.value.where) == (
        "the file cannot be read: no such file or directory",
        "nope.yml",
    )


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()

    for name in ("pipe", "directory"):
        with pytest.raises(ConfigError, match="is not a file"):
            load(Path(name), None, tmp_path)


def test_a_destination_is_laid_over_it(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("env: {clear: {A: 1, B: 2}}\nlimits: {cpu: 2, memory: 1G}\n"))
    project.write(
        "host: 10.0.0.2\ndomains: [b.test]\nenv: {clear: {B: 3}}\nlimits: {memory: null}\n", "deploy.prod.yml"
    )

    loaded = project.load("prod")

    assert loaded.config.host == "10.0.0.2"
    assert [domain.name for domain in loaded.config.domains] == ["b.test"]
    assert loaded.config.env.clear == {"A": "1", "B": "3"}
    assert (loaded.config.limits.cpu, loaded.config.limits.memory) == (2.0, None)
    assert loaded.destination == "prod"


def test_every_value_knows_where_it_came_from(project: Any, good: Callable[[str], str]) -> None:
    project.write("app: shop\nhost: me@a.test:2222\ndomains:\n  - shop.test\nenv:\n  clear:\n    A: 1\n    B: 2\n")
    project.write("\nenv: {clear: {B: 3}}\nhost: me@b.test:2222\n", "deploy.prod.yml")

    origin = {key: str(value) for key, value in project.load("prod").origin.items()}

    assert origin["app"] == "deploy.yml:1"
    assert origin["domains"] == "deploy.yml:3"
    assert origin["env.clear.A"] == "deploy.yml:7"
    assert origin["env.clear.B"] == "deploy.prod.yml:2"
    assert origin["health.path"] == "default"
    assert origin["ssh.port"] == origin["ssh.provision_user"] == "deploy.prod.yml:3"
    assert origin["release.name"] == "deploy.yml:1"


def test_a_destination_without_a_file_is_refused(project: Any, good: Callable[[str], str]) -> None:
    project.write(good(""))

    with pytest.raises(ConfigError) as caught:
        project.load("prod")

    assert caught.value.where == "deploy.prod.yml"
    assert caught.value.what == "the file cannot be read: no such file or directory"


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b", "sandbox:", "prod:x", "sandbox:../x", ".x"])
def test_a_destination_is_a_plain_name(project: Any, good: Callable[[str], str], name: str) -> None:
    project.write(good(""))

    with pytest.raises(HomeportError) as caught:
        project.load(name, sandboxes=lambda _: Sandbox())

    assert (caught.value.what, caught.value.code) == (f"{name!r} cannot be a destination", 2)


def test_the_sandbox_needs_no_file(project: Any) -> None:
    project.write("app: my-shop\nhost: 203.0.113.10\ndomains: [my-shop.example.com, www.my-shop.example.com]\n")

    loaded = project.load("sandbox", sandboxes=lambda _: Sandbox())

    config = loaded.config
    assert (config.host, config.names) == ("198.51.100.9", ("my-shop.sandbox.test",))
    assert (config.ssh.user, config.ssh.provision_user, config.ssh.port) == ("deploy", "root", 22)
    assert (str(loaded.ssh_key), str(loaded.known_hosts)) == ("/s/key", "/s/known_hosts")
    assert (config.acme.directory, config.acme.ca) == ("https://198.51.100.10:14000/dir", "/s/ca.pem")
    assert (config.acme.root, config.verify.address) == ("/s/root.pem", "198.51.100.9")
    assert str(loaded.origin["host"]) == "sandbox"


def test_a_file_for_the_sandbox_is_laid_over_what_is_built_in(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("")).write("app: other\ndrain_timeout: 2s\n", "deploy.sandbox.yml")

    config = project.load("sandbox", sandboxes=lambda _: Sandbox()).config

    assert (config.drain_timeout, config.host, config.names) == (2.0, "198.51.100.9", ("other.sandbox.test",))


def test_several_sandboxes_have_names(project: Any, good: Callable[[str], str]) -> None:
    asked: list[str] = []
    project.write(good(""))

    project.load("sandbox:two", sandboxes=lambda name: asked.append(name) or Sandbox())

    assert asked == ["two"]


@pytest.mark.parametrize(
    ("destination", "fix"),
    [("sandbox", "deploy sandbox up"), ("sandbox:two", "deploy sandbox up --name two")],
)
def test_a_sandbox_that_is_not_there_can_be_brought_up(
    project: Any, good: Callable[[str], str], destination: str, fix: str
) -> None:
    project.write(good(""))

    with pytest.raises(ConfigError) as caught:
        project.load(destination, sandboxes=lambda _: None)

    assert (caught.value.fix, caught.value.where, caught.value.code) == (fix, "-d sandbox", 2)


def test_the_real_sandbox_module_is_asked(project: Any, good: Callable[[str], str]) -> None:
    project.write(good(""))

    with pytest.raises(ConfigError, match="there is no sandbox 'no-such-sandbox'"):
        project.load("sandbox:no-such-sandbox")


@pytest.mark.parametrize(
    ("variable", "warned"),
    [
        ("API_TOKEN: x", True),
        ("SECRET_KEY_BASE: x", True),
        ("DB_PASSWORD: x", True),
        ("AWS_ACCESS_KEY: x", True),
        ("DATABASE_URL: ecto://me:pass@db.test/x", True),
        ("DATABASE_URL: ecto://db.test/x", False),
        ("KEYBOARD: x", False),
        ("TOKENS: 5", False),
    ],
)
def test_a_secret_in_plain_sight_is_warned_of(
    project: Any, good: Callable[[str], str], variable: str, warned: bool
) -> None:
    project.write(good(f"env:\n  clear:\n    {variable}\n"))

    warnings = project.load().warnings

    name = variable.partition(":")[0]
    what = "looks like a secret, and env.clear is no place for one: put the name alone in env.secret"
    assert warnings == ((f"deploy.yml:6 env.clear.{name}: {what}",) if warned else ())


def test_the_release_is_named_after_the_app(project: Any) -> None:
    project.write("app: my-shop\nhost: a.test\ndomains: [a.test]\n")

    config = project.load().config

    assert (config.release.name, config.instance_name) == ("my_shop", "my-shop")


# ---------------------------------------------------------------------------------------------- two on one host


@pytest.mark.parametrize("overlay", ["drain_timeout: 2s\n", "host: 198.51.100.7\n", "host: root@198.51.100.7:22\n"])
def test_a_destination_on_the_same_host_does_not_take_over_the_first(project: Any, good: Any, overlay: str) -> None:
    project.write(overlay, "deploy.staging.yml")

    found = project.mistakes(good(""), "staging")

    what = "is missing, and the host is that of deploy.yml: this would replace shop there"
    assert found == [f"deploy.staging.yml:1 app: {what}; add the line `app: shop-staging`"]


def test_the_name_that_is_told_to_be_added_can_be_added(project: Any, good: Any) -> None:
    project.write("drain_timeout: 2s\n", "deploy.load_test.yml")
    (found,) = project.mistakes(good(""), "load_test")
    line = found.split("`")[1]
    project.write(f"{line}\ndomains: [b.test]\n", "deploy.load_test.yml")

    assert project.load("load_test").config.app == "shop-load-test"


def test_the_same_name_on_purpose_is_no_mistake(project: Any, good: Any) -> None:
    project.write(good("")).write("app: shop\ndrain_timeout: 2s\n", "deploy.live.yml")

    config = project.load("live").config

    assert (config.app, config.names, config.drain_timeout) == ("shop", ("shop.test",), 2.0)


def test_two_apps_on_one_host_do_not_answer_at_the_same_names(project: Any, good: Any) -> None:
    project.write("app: shop-staging\n", "deploy.staging.yml")

    found = project.mistakes(good(""), "staging")

    what = "is missing, and shop answers at those of deploy.yml on the same host; add names of its own"
    assert found == [f"deploy.staging.yml:1 domains: {what}"]


def test_a_destination_of_its_own_name_is_the_same_release_in_a_place_of_its_own(project: Any, good: Any) -> None:
    project.write(
        "app: my-shop\nhost: a.test\ndomains: [a.test]\nbackup: {bucket: backups}\ndatabase: {engine: sqlite}\n"
    )
    project.write("app: my-shop-staging\ndomains: [b.test]\n", "deploy.staging.yml")

    loaded = project.load("staging")

    assert (loaded.config.release.name, loaded.config.backup.prefix) == ("my_shop", "my-shop-staging")
    assert str(loaded.origin["release.name"]) == "deploy.yml:1"
    assert project.load().config.backup.prefix == "my-shop"


def test_a_destination_says_itself_what_its_release_is_called(project: Any, good: Any) -> None:
    project.write(good("")).write("app: b\nhost: b.test\nrelease: {name: other}\n", "deploy.b.yml")

    assert project.load("b").config.release.name == "other"


def test_another_app_in_the_sandbox_is_the_same_release(project: Any, good: Any) -> None:
    project.write(good("")).write("app: other\n", "deploy.sandbox.yml")

    assert project.load("sandbox", sandboxes=lambda _: Sandbox()).config.release.name == "shop"


def test_the_configuration_cannot_be_changed(project: Any, good: Callable[[str], str]) -> None:
    config = project.write(good("")).load().config

    with pytest.raises(Exception, match="frozen"):
        config.app = "other"
