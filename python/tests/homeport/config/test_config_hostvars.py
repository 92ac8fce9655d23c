"""What the playbooks and hostctl get to know of the configuration."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from homeport.config import secret_names
from homeport.config.hostvars import host_vars, settings, target
from homeport.config.problems import ConfigError
from hostctl.core import schema as core_schema

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop"


def loaded(project: Any, text: str, destination: str | None = None) -> Any:
    return project.write(text).load(destination)


def test_the_settings_of_a_push_are_those_that_hostctl_takes(project: Any, good: Callable[[str], str]) -> None:
    push = settings(loaded(project, good("env: {clear: {A: x}}\n")).config)

    assert push.settings == {
        "release_name": "shop",
        "health": {"path": "/health", "interval": 1.0, "timeout": 5.0, "deploy_timeout": 60.0},
        "drain_timeout": 30.0,
        "retain_releases": 5,
        "strategy": "overlap",
        "commands": {"migrate": "bin/migrate"},
        "migrate_timeout": 900.0,
        "domains": ["shop.test"],
        "database": None,
        "cron": None,
    }
    assert push.env == {"PHX_HOST": "shop.test", "A": "x"}


@pytest.mark.parametrize(
    "more",
    [
        "",
        "release: {commands: {migrate: null}, strategy: restart, migrate_timeout: 1s}\n",
        "health: {path: '/', interval: 50ms, timeout: 1h, deploy_timeout: 24h}\ndrain_timeout: 0\n",
        "retain_releases: 100\nenv: {clear: {A: ''}}\n",
        "drain_timeout: 24h\nretain_releases: 2\n",
    ],
)
def test_hostctl_finds_no_mistake_in_settings_that_passed_here(
    project: Any, good: Callable[[str], str], more: str
) -> None:
    push = settings(loaded(project, good(more)).config)
    schema = {"settings": core_schema.PUSH["settings"], "env": core_schema.PUSH["env"]}

    assert core_schema.mistakes(schema, {"settings": push.settings, "env": push.env}) == []


def test_the_name_of_the_app_can_be_set_or_be_secret(project: Any, good: Callable[[str], str]) -> None:
    assert settings(loaded(project, good("env: {clear: {PHX_HOST: x.test}}\n")).config).env == {"PHX_HOST": "x.test"}
    assert settings(loaded(project, good("env: {secret: [PHX_HOST]}\n")).config).env == {}


def test_the_variables_of_the_host(project: Any) -> None:
    project.write("x\n", "ca.pem")
    text = (
        "app: my-shop\nhost: 'me@[2001:db8::1]:2222'\n"
        "domains: [shop.test, {name: www.shop.test, redirect_to: shop.test}]\n"
        "limits: {memory: 512M, cpu: 1.5}\nacme: {ca: ca.pem, email: me@a.test}\nssh: {key: ~/k}\n"
        "env: {secret: [TOKEN]}\n"
    )
    found = host_vars(loaded(project, text))

    args = shlex.split(found.pop("ansible_ssh_args"))
    known_hosts = project.root / "deploy.known_hosts"
    assert {"StrictHostKeyChecking=yes", f"UserKnownHostsFile={known_hosts}", "IdentitiesOnly=yes"} <= set(args)
    assert found.pop("homeport_settings")["domains"] == ["shop.test"]
    assert found == {
        "homeport_name": "my-shop",
        "ansible_host": "2001:db8::1",
        "ansible_port": 2222,
        "ansible_user": "deploy",
        "ansible_ssh_private_key_file": str(Path("~/k").expanduser()),
        "homeport_deploy_user": "deploy",
        "homeport_provision_user": "me",
        "homeport_authorized_keys": [],
        "homeport_app": "my-shop",
        "homeport_user": "my-shop",
        "homeport_domains": [
            {"name": "shop.test", "redirect_to": ""},
            {"name": "www.shop.test", "redirect_to": "shop.test"},
        ],
        "homeport_release_name": "my_shop",
        "homeport_strategy": "overlap",
        "homeport_env": {"PHX_HOST": "shop.test"},
        "homeport_env_secret": ["TOKEN"],
        "homeport_build": {
            "way": "auto",
            "path": str(project.root),
            "containerfile": None,
            "release_name": "my_shop",
            "env": {},
        },
        "homeport_builds_here": False,
        "homeport_hardening": {"firewall": True, "open": []},
        "homeport_limits": {"memory": 2**29, "cpu": 1.5},
        "homeport_memory": 2**29,
        "homeport_cpu": 1.5,
        "homeport_stop_seconds": 30.0,
        "homeport_hold_seconds": 30.0,
        "homeport_acme_directory": "",
        "homeport_acme_email": "me@a.test",
        "homeport_acme_ca": str(project.root / "ca.pem"),
        "homeport_acme_root": "",
        "homeport_certificates": [],
        "homeport_database": None,
        "homeport_backup_secrets": None,
        "homeport_accessories": [],
        "homeport_root": str(project.root),
        "homeport_hooks": str(project.root / "hooks"),
        "homeport_destination": "",
        "homeport_verify_address": None,
        "homeport_notify": [],
    }


def test_a_certificate_of_the_teams_own_is_a_file_and_the_name_of_its_key(project: Any) -> None:
    text = "app: shop\nhost: a.test\ndomains: [{name: shop.test, certificate: own.pem, key: SHOP_KEY}]\n"
    with pytest.raises(ConfigError, match=r"domains: there is no file own.pem"):
        host_vars(loaded(project, text))
    project.write("x\n", "own.pem")
    found = loaded(project, text)
    assert host_vars(found)["homeport_certificates"] == [
        {"name": "shop.test", "certificate": str(project.root / "own.pem"), "key": "SHOP_KEY"}
    ]
    assert secret_names.names(found.config) == ("SHOP_KEY",)


def test_no_secret_value_is_in_the_variables(
    project: Any, good: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "hunter2-and-more")

    assert "hunter2" not in json.dumps(host_vars(loaded(project, good("env: {secret: [TOKEN]}\n"))))


def test_an_alias_of_ssh_keeps_its_own_port_and_key(project: Any) -> None:
    found = host_vars(loaded(project, "app: shop\nhost: shop-host\ndomains: [shop.test]\n"))

    assert found["ansible_host"] == "shop-host"
    assert {"ansible_port", "ansible_ssh_private_key_file"} & set(found) == set()


def test_a_destination_is_part_of_the_hosts_name(project: Any, good: Callable[[str], str]) -> None:
    project.write("host: 10.0.0.2\n", "deploy.staging.yml")

    found = host_vars(loaded(project, good(""), "staging"))

    assert (found["homeport_name"], found["homeport_destination"]) == ("shop-staging", "staging")


def test_where_the_app_stops_before_it_starts_requests_wait_for_both(project: Any, good: Callable[[str], str]) -> None:
    more = "release: {strategy: restart}\ndrain_timeout: 20s\nhealth: {deploy_timeout: 40s}\n"

    found = host_vars(loaded(project, good(more)))

    assert (found["homeport_stop_seconds"], found["homeport_hold_seconds"]) == (20.0, 60.0)


def test_an_instance_always_has_time_to_end(project: Any, good: Callable[[str], str]) -> None:
    assert host_vars(loaded(project, good("drain_timeout: 0\n")))["homeport_stop_seconds"] == 10.0


def test_keys_come_as_lines_and_from_files(project: Any, good: Callable[[str], str]) -> None:
    project.write(f"# mine\n{KEY}\n\n", "me.pub")

    found = host_vars(loaded(project, good(f"ssh: {{authorized_keys: [me.pub, {KEY}]}}\n")))

    assert found["homeport_authorized_keys"] == [KEY, KEY]


PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n"
NO_KEYS = "is no file of public keys, one per line (….pub)"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("ssh: {authorized_keys: [nope.pub]}", "ssh.authorized_keys: there is no file nope.pub"),
        ("ssh: {authorized_keys: [private]}", f"ssh.authorized_keys: private {NO_KEYS}"),
        ("ssh: {authorized_keys: [empty]}", f"ssh.authorized_keys: empty {NO_KEYS}"),
        ("ssh: {authorized_keys: [binary]}", f"ssh.authorized_keys: binary {NO_KEYS}"),
        ("acme: {ca: nope.pem}", "acme.ca: there is no file nope.pem"),
        ("acme: {root: nope.pem}", "acme.root: there is no file nope.pem"),
    ],
)
def test_a_file_that_is_named_must_be_there_and_be_what_it_should(
    project: Any, good: Callable[[str], str], more: str, expected: str
) -> None:
    project.write(PRIVATE, "private").write("", "empty").write(b"\xff\xfe", "binary")

    with pytest.raises(ConfigError) as caught:
        host_vars(loaded(project, good(more)))

    assert (caught.value.what, caught.value.where, caught.value.code) == (expected, "deploy.yml:4", 2)


def test_two_people_log_in(project: Any, good: Callable[[str], str]) -> None:
    found = loaded(project, good("ssh: {port: 2222, key: /k}\n"))

    assert str(target(found)) == "deploy@198.51.100.7:2222"
    assert str(target(found, provision=True)) == "root@198.51.100.7:2222"
    assert target(found).key == Path("/k")


def test_the_firewall_is_on_unless_deploy_yml_says_otherwise(project: Any, good: Callable[[str], str]) -> None:
    assert host_vars(loaded(project, good("")))["homeport_hardening"] == {"firewall": True, "open": []}
    written = good("hardening: {firewall: false, open: [8443, 51820/udp]}\n")
    found = host_vars(loaded(project, written))["homeport_hardening"]
    assert found == {"firewall": False, "open": ["8443/tcp", "51820/udp"]}
