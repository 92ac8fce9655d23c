"""Every mistake in deploy.yml is reported with its line, its key and what is expected; all of them at once."""

# ruff: noqa: E501 - tables of whole messages

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from homeport.config.problems import ConfigError

TOP = (
    "app, host, domains, release, env, secrets, database, backup, accessories, health, drain_timeout, retain_releases, "
    "limits, cron, hooks_path, notify, ssh, hardening, acme, verify"
)
RELEASE = "name, path, build, containerfile, env, commands, migrate_timeout, strategy"
DURATION = 'must be a duration such as "500ms", "30s", "5m" or "1h", from'

# what stands in line 4 and below -> the whole list of mistakes
MISTAKES = [
    # unknown keys
    ("relaese: {}", [f'deploy.yml:4 relaese: unknown key; did you mean "release"? (expected one of: {TOP})']),
    ("release:\n  biuld: local", [f'deploy.yml:5 release.biuld: unknown key; did you mean "build"? (expected one of: {RELEASE})']),
    ("Drain-Timeout: 5s", [f'deploy.yml:4 Drain-Timeout: unknown key; did you mean "drain_timeout"? (expected one of: {TOP})']),
    ("memory: 1G", [f"deploy.yml:4 memory: unknown key; it belongs in limits.memory (expected one of: {TOP})"]),
    ("strategy: restart", [f"deploy.yml:4 strategy: unknown key; it belongs in release.strategy (expected one of: {TOP})"]),
    ("zebra: 1", [f"deploy.yml:4 zebra: unknown key (expected one of: {TOP})"]),
    ('"a b\\n": 1', [f'deploy.yml:4 "a b\\n": unknown key (expected one of: {TOP})']),
    ("limits: {ram: 1G}", ["deploy.yml:4 limits.ram: unknown key (expected one of: memory, cpu)"]),
    (
        "env: {POOL: 1}",
        [
            "deploy.yml:4 env.POOL: unknown key; a variable belongs in env.clear, or its name alone in env.secret "
            "(expected one of: clear, secret)"
        ],
    ),
    # Kamal's words
    ("service: shop", ["deploy.yml:4 service: in Homeport this is app"]),
    ("servers: [10.0.0.1]", ["deploy.yml:4 servers: in Homeport this is host, and there is one"]),
    ("proxy: {host: a.test, ssl: true}", ["deploy.yml:4 proxy.host: in Homeport this is domains", "deploy.yml:4 proxy.ssl: is not needed: HTTPS is always on"]),
    ("proxy:\n  healthcheck:\n    path: /up", ["deploy.yml:5 proxy.healthcheck: in Homeport this is health"]),
    ("deploy_timeout: 30", ["deploy.yml:4 deploy_timeout: in Homeport this is health.deploy_timeout"]),
    ("builder: {arch: amd64}", ["deploy.yml:4 builder: in Homeport this is release.build"]),
    ("retain_containers: 5", ["deploy.yml:4 retain_containers: in Homeport this is retain_releases"]),
    # shapes
    ("release: shop", ['deploy.yml:4 release: must be a map of keys (got "shop")']),
    ("release: [a]", ["deploy.yml:4 release: must be a map of keys"]),
    ("env: {clear: [A]}", ["deploy.yml:4 env.clear: must be a map of names to values"]),
    ("ssh: {authorized_keys: x}", ['deploy.yml:4 ssh.authorized_keys: must be a list (got "x")']),
    # values
    ("drain_timeout: soon", [f'deploy.yml:4 drain_timeout: {DURATION} 0s to 24h (got "soon")']),
    ("drain_timeout: -1", [f"deploy.yml:4 drain_timeout: {DURATION} 0s to 24h (got -1)"]),
    ("drain_timeout:", [f"deploy.yml:4 drain_timeout: {DURATION} 0s to 24h (got nothing)"]),
    ("health: {interval: 0}", [f"deploy.yml:4 health.interval: {DURATION} 50ms to 1h (got 0)"]),
    ("health: {path: up}", ['deploy.yml:4 health.path: must be a path that begins with /, such as /health (got "up")']),
    ("health: {path: '/up#x'}", ['deploy.yml:4 health.path: must be a path that begins with /, such as /health (got "/up#x")']),
    ("retain_releases: 1", ["deploy.yml:4 retain_releases: must be a whole number from 2 to 100 (got 1)"]),
    ("retain_releases: '5'", ['deploy.yml:4 retain_releases: must be a whole number from 2 to 100 (got "5")']),
    ("retain_releases: true", ["deploy.yml:4 retain_releases: must be a whole number from 2 to 100 (got true)"]),
    ("limits: {memory: 512}", ['deploy.yml:4 limits.memory: must be a size such as "512M" or "2G", at least 16M (got 512)']),
    ("limits: {cpu: 0}", ["deploy.yml:4 limits.cpu: must be a number of processors such as 2 or 0.5 (got 0)"]),
    ("release: {strategy: both}", ['deploy.yml:4 release.strategy: must be overlap or restart (got "both")']),
    ("release: {build: docker}", ['deploy.yml:4 release.build: must be auto, local, host or container (got "docker")']),
    ("release: {name: My-Shop}", ['deploy.yml:4 release.name: must be lower-case letters, digits and _, a letter first (got "My-Shop")']),
    (
        "release:\n  commands:\n    migrate: bin/migrate --all",
        ['deploy.yml:6 release.commands.migrate: must be a program in the release, such as bin/migrate (got "bin/migrate --all")'],
    ),
    ("ssh: {port: 70000}", ["deploy.yml:4 ssh.port: must be a whole number from 1 to 65535 (got 70000)"]),
    ("ssh: {user: postgres}", ['deploy.yml:4 ssh.user: postgres is a user of the system: choose another, such as deploy (got "postgres")']),
    ("ssh: {user: root}", ['deploy.yml:4 ssh.user: root is a user of the system: choose another, such as deploy (got "root")']),
    ("ssh: {user: shop}", ["deploy.yml:4 ssh.user: must be another than the app's own users"]),
    ("ssh: {provision_user: deploy}", ["deploy.yml:4 ssh.user: must be another than the one who provisions, deploy"]),
    ("acme: {directory: 'http://a.test'}", ['deploy.yml:4 acme.directory: must be a URL that begins with https:// (got "http://a.test")']),
    ("acme: {email: me}", ['deploy.yml:4 acme.email: must be an e-mail address (got "me")']),
    ("verify: {address: a.test}", ['deploy.yml:4 verify.address: must be an IP address (got "a.test")']),
    # the environment: values are never repeated
    ("env: {clear: {A: }}", ['deploy.yml:4 env.clear.A: has no value: write "" for an empty one']),
    ("env: {clear: {A: {b: hunter2}}}", ["deploy.yml:4 env.clear.A: must be text, not a map or a list"]),
    ("env: {clear: {pool: hunter2}}", ["deploy.yml:4 env.clear.pool: must be a name in capitals, such as POOL_SIZE"]),
    ("env: {clear: {PORT: 4000}}", ["deploy.yml:4 env.clear.PORT: is refused: Homeport gives every instance a port of its own"]),
    ("env: {clear: {HOMEPORT_X: 1}}", ["deploy.yml:4 env.clear.HOMEPORT_X: is refused: names that begin with HOMEPORT_ are Homeport's own"]),
    ('env: {clear: {A: "x\\0y"}}', ["deploy.yml:4 env.clear.A: holds a control character, which no environment file can carry"]),
    ("env:\n  clear: {A: 1}\n  secret:\n    - A", ["deploy.yml:7 env.secret[0]: A is in env.clear as well: keep one of the two"]),
    ("env: {secret: [A, A]}", ["deploy.yml:4 env.secret[1]: is there twice: keep one"]),
    (
        "env: {secret: [RELEASE_COOKIE]}",
        ["deploy.yml:4 env.secret[0]: RELEASE_COOKIE is refused: the host keeps a cookie of its own for every app"],
    ),
    (
        "env: {secret: [A=hunter2]}",
        [
            "deploy.yml:4 env.secret[0]: must be a name alone, such as SECRET_KEY_BASE; "
            "values come from deploy.secrets.yml or the environment of `deploy`"
        ],
    ),
    ("env: {secret: {A: hunter2}}", ["deploy.yml:4 env.secret: must be a list of names; values come from deploy.secrets.yml or the environment of `deploy`"]),
    ("release: {env: {MIX_ENV: dev}}", ["deploy.yml:4 release.env.MIX_ENV: is refused: Homeport sets it itself (prod)"]),
]  # fmt: skip


@pytest.mark.parametrize(("more", "expected"), MISTAKES, ids=[more for more, _ in MISTAKES])
def test_a_mistake_is_told_with_line_key_and_what_is_expected(
    project: Any, good: Callable[[str], str], more: str, expected: list[str]
) -> None:
    assert project.mistakes(good(more)) == expected


APPS = [
    ("Shop", 'must be lower-case letters, digits and -, a letter first, at most 31 (got "Shop")'),
    ("123", "must be lower-case letters, digits and -, a letter first, at most 31 (got 123)"),
    ("a" * 32, f'must be lower-case letters, digits and -, a letter first, at most 31 (got "{"a" * 32}")'),
    ("caddy", 'caddy is taken by the system or by Homeport: choose another, such as my-caddy (got "caddy")'),
    ("edge", 'edge is taken by the system or by Homeport: choose another, such as my-edge (got "edge")'),
    ("getty", 'getty is taken by the system or by Homeport: choose another, such as my-getty (got "getty")'),
    ("dpkg", 'dpkg is taken by the system or by Homeport: choose another, such as my-dpkg (got "dpkg")'),
    (
        "systemd-x",
        "systemd-x begins with systemd- or homeport-, which are taken: choose another, such as my-systemd-x "
        '(got "systemd-x")',
    ),
    (
        "shop-build",
        "shop-build ends with -build, which is how the users who build are named: choose another, such as my-shop "
        '(got "shop-build")',
    ),
    (
        "shop-litestream",
        "shop-litestream is how Homeport names what is beside another app: choose another, such as my-shop "
        '(got "shop-litestream")',
    ),
    (
        "shop-accessory-x",
        "shop-accessory-x is how Homeport names what is beside another app: choose another, such as my-shop "
        '(got "shop-accessory-x")',
    ),
]


@pytest.mark.parametrize(("app", "expected"), APPS)
def test_an_app_cannot_have_a_name_that_is_taken(project: Any, app: str, expected: str) -> None:
    text = f"app: {app}\nhost: 198.51.100.7\ndomains: [shop.test]\n"

    assert project.mistakes(text) == [f"deploy.yml:1 app: {expected}"]


HOSTS = [
    ("203.0.113.10", 'is still the placeholder: write the address of your host (got "203.0.113.10")'),
    ("vps.example.com", 'is still the placeholder: write the address of your host (got "vps.example.com")'),
    ("'2001:db8::1'", 'must have an IPv6 address in brackets, such as [2001:db8::1] (got "2001:db8::1")'),
    ("'[2001:db8::1::]'", 'has no IPv6 address in its brackets (got "[2001:db8::1::]")'),
    ("a:0", 'has a port that is not between 1 and 65535 (got "a:0")'),
    (
        "-oProxyCommand=x",
        'must be an address, user@host:port, or an alias of ~/.ssh/config (got "-oProxyCommand=x")',
    ),
    ("ssh://a", 'must be an address, user@host:port, or an alias of ~/.ssh/config (got "ssh://a")'),
    ("a b", 'must be an address, user@host:port, or an alias of ~/.ssh/config (got "a b")'),
    ("[a, b]", "must be an address, user@host:port, or an alias of ~/.ssh/config"),
    ("''", 'must be an address, user@host:port, or an alias of ~/.ssh/config (got "")'),
]


@pytest.mark.parametrize(("host", "expected"), HOSTS)
def test_a_host_is_an_address_or_a_name_that_ssh_knows(project: Any, host: str, expected: str) -> None:
    text = f"app: shop\nhost: {host}\ndomains: [shop.test]\n"

    assert project.mistakes(text) == [f"deploy.yml:2 host: {expected}"]


DOMAINS = [
    ("shop.test", "domains", 'must be a list (got "shop.test")'),
    ("[]", "domains", "must begin with a name that does not redirect: the main one"),
    ("[https://shop.test]", "domains[0]", 'must be a name alone, without https://, port or path (got "https://shop.test")'),
    ("[localhost]", "domains[0]", 'must be a name such as shop.example.org (got "localhost")'),
    ("[10.0.0.1]", "domains[0]", 'must be a name such as shop.example.org (got "10.0.0.1")'),
    ("[a_b.test]", "domains[0]", 'must be a name such as shop.example.org (got "a_b.test")'),
    ("[bücher.test]", "domains[0]", 'must be in its ASCII form (xn--…) (got "b\\u00fccher.test")'),
    ("['*.a.test']", "domains[0]", "must be a name without *: such a certificate needs another proof than Homeport gives (got \"*.a.test\")"),
    ("[shop.example.com]", "domains[0]", 'is still the placeholder: write a name of yours (got "shop.example.com")'),
    ("[a.test, A.TEST]", "domains[1]", "a.test is there twice: keep one"),
    ("[5]", "domains[0]", "must be a name such as shop.example.org, or {name: …, redirect_to: …} (got 5)"),
    ("[a.test, {name: b.test, redirect_to: c.test}]", "domains[1].redirect_to", "must be one of the names that do not redirect: a.test"),
    ("[{name: b.test, redirect_to: b.test}]", "domains", "must begin with a name that does not redirect: the main one"),
    ("[a.test, {redirect_to: a.test}]", "domains[1].name", "is required"),
    ("[{name: a.test, to: b.test}]", "domains[0].to", "unknown key (expected one of: name, redirect_to, certificate, key)"),
    ("[{name: a.test, certificate: a.pem}]", "domains[0].key", "is required beside certificate: the name of the secret that holds its private key"),
    ("[{name: a.test, key: A_KEY}]", "domains[0].certificate", "is required beside key: the file with the certificate and its chain"),
]  # fmt: skip


@pytest.mark.parametrize(("domains", "key", "expected"), DOMAINS)
def test_domains_are_public_names_each_once(project: Any, domains: str, key: str, expected: str) -> None:
    text = f"app: shop\nhost: 198.51.100.7\ndomains: {domains}\n"

    assert project.mistakes(text) == [f"deploy.yml:3 {key}: {expected}"]


def test_what_is_required_is_asked_for(project: Any) -> None:
    assert project.mistakes("env: {}\n") == [
        "deploy.yml:1 app: is required: the app's name, such as shop",
        "deploy.yml:1 host: is required: an address, user@host:port, or an alias of ~/.ssh/config",
        "deploy.yml:1 domains: is required: a list of names, such as [shop.example.org]",
    ]


def test_port_and_user_must_not_be_said_in_two_ways(project: Any) -> None:
    text = "app: shop\nhost: me@a.test:22\ndomains: [shop.test]\nssh: {port: 23, provision_user: you}\n"

    assert project.mistakes(text) == [
        "deploy.yml:4 ssh.port: differs from the port in host, 22: keep one of the two",
        "deploy.yml:4 ssh.provision_user: differs from the user in host, me: keep one of the two",
    ]


def test_a_long_name_is_refused_where_a_user_is_made_to_build_for_it(project: Any) -> None:
    text = f"app: {'a' * 27}\nhost: a.test\ndomains: [shop.test]\nrelease: {{build: host}}\n"

    assert project.mistakes(text) == [
        "deploy.yml:1 app: must have at most 26 characters where releases are built on the host"
    ]


def test_all_mistakes_come_at_once_in_the_order_of_the_files(project: Any) -> None:
    project.write("retain_releases: x\n\nbogus: 1\nhost: b.test\n", "deploy.prod.yml")

    found = project.mistakes("health:\n  path: up\napp: Shop\nhost: a.test\nlimits:\n  cpu: a\n", "prod")

    assert [each.split(":", 2)[:2] for each in found] == [
        ["deploy.yml", "1 domains"],
        ["deploy.yml", "2 health.path"],
        ["deploy.yml", "3 app"],
        ["deploy.yml", "6 limits.cpu"],
        ["deploy.prod.yml", "1 retain_releases"],
        ["deploy.prod.yml", "3 bogus"],
    ]


def test_the_error_has_three_parts_and_exit_code_2(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("zebra: 1\n"))

    with pytest.raises(ConfigError) as caught:
        project.load()

    error = caught.value
    assert (error.what, error.where, error.code) == (
        f"zebra: unknown key (expected one of: {TOP})",
        "deploy.yml:4",
        2,
    )
    assert error.fix == "correct it, then run: deploy config"


def test_several_mistakes_are_lines_of_one_error(project: Any, good: Callable[[str], str]) -> None:
    project.write(good("zebra: 1\nservice: a\n"))

    with pytest.raises(ConfigError) as caught:
        project.load()

    assert caught.value.what.splitlines() == [
        "2 mistakes in the configuration",
        f"  deploy.yml:4 zebra: unknown key (expected one of: {TOP})",
        "  deploy.yml:5 service: in Homeport this is app",
    ]
