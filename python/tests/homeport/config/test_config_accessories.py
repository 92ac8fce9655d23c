"""`accessories` in deploy.yml: what may stand there, what it means, and what the host gets to know of it."""

# ruff: noqa: E501 - tables of whole messages

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.config import accessories, show
from homeport.config.hostvars import host_vars, settings
from homeport.config.problems import ConfigError
from homeport.core.provision_stamp import stamp
from homeport.secrets import runtime_check
from hostctl.accessories import services as on_the_host

KEYS = "kind, memory, persist, evict, package, unit, env, files"
NAME = "must be a name in lower-case letters, digits and -, at most 20, such as redis"

MISTAKES = [
    ("accessories: [redis]", ["deploy.yml:4 accessories: must be a map of names to services, such as {redis: {}}"]),
    ("accessories: {Redis: }", [f"deploy.yml:4 accessories.Redis: {NAME}"]),
    ("accessories: {a/b: {kind: redis}}", [f'deploy.yml:4 accessories."a/b": {NAME}']),
    ("accessories: {queue: }", ["deploy.yml:4 accessories.queue.kind: is required: one of redis, valkey, memcached; or package, for a service of a Debian package"]),
    ("accessories: {queue: {kind: mongodb}}", ['deploy.yml:4 accessories.queue.kind: must be redis, valkey, memcached or package (got "mongodb")']),
    ("accessories: {redis: 7}", ["deploy.yml:4 accessories.redis: must be a map of keys (got 7)"]),
    ("accessories: {redis: {image: redis}}", [f"deploy.yml:4 accessories.redis.image: unknown key (expected one of: {KEYS})"]),
    ("accessories: {redis: {memroy: 1G}}", [f'deploy.yml:4 accessories.redis.memroy: unknown key; did you mean "memory"? (expected one of: {KEYS})']),
    ("accessories: {redis: {memory: 1}}", ['deploy.yml:4 accessories.redis.memory: must be a size such as "512M" or "2G", at least 16M (got 1)']),
    ("accessories: {redis: {persist: 'yes'}}", ['deploy.yml:4 accessories.redis.persist: must be true or false (got "yes")']),
    ("accessories: {memcached: {persist: true}}", ["deploy.yml:4 accessories.memcached.persist: does not apply to memcached: it is for redis and valkey"]),
    ("accessories: {redis: {unit: a.service}}", ["deploy.yml:4 accessories.redis.unit: does not apply to redis: it is for package"]),
    ("accessories: {mq: {kind: package}}", ["deploy.yml:4 accessories.mq.package: is required: the Debian package with the service"]),
    ("accessories: {mq: {package: Bad!}}", ['deploy.yml:4 accessories.mq.package: must be the name of a Debian package, such as mosquitto (got "Bad!")']),
    ("accessories: {mq: {package: ssh}}", ['deploy.yml:4 accessories.mq.package: ssh belongs to the host itself (got "ssh")']),
    ("accessories: {mq: {package: a1, unit: homeport-shop-tail.service}}", ['deploy.yml:4 accessories.mq.unit: homeport-shop-tail.service belongs to the host itself or to Homeport (got "homeport-shop-tail.service")']),
    ("accessories: {mq: {package: a1, unit: a.socket}}", ['deploy.yml:4 accessories.mq.unit: must be the name of a unit, such as mosquitto.service (got "a.socket")']),
    ("accessories: {mq: {package: a1, env: {PORT: '1'}}}", ["deploy.yml:4 accessories.mq.env.PORT: is refused: Homeport gives every instance a port of its own"]),
    ("accessories: {mq: {package: a1, files: {/etc/ssh/sshd_config: x}}}", ['deploy.yml:4 accessories.mq.files."/etc/ssh/sshd_config": belongs to the host itself or to Homeport']),
    ("accessories: {mq: {package: a1, files: {/etc/../root/x: x}}}", ['deploy.yml:4 accessories.mq.files."/etc/../root/x": must be a file below /etc, such as /etc/mosquitto/conf.d/shop.conf']),
    ("env: {clear: {REDIS_URL: x}}\naccessories: {redis: }", ["deploy.yml:5 accessories.redis: sets REDIS_URL for the app, which env.clear sets as well: give it another name, or remove that"]),
    ("env: {secret: [REDIS_URL]}\naccessories: {redis: }", ["deploy.yml:5 accessories.redis: sets REDIS_URL for the app, which env.secret sets as well: give it another name, or remove that"]),
    ("accessories: {redis: , mq: {package: a1, env: {REDIS_URL: x}}}", ["deploy.yml:4 accessories.mq.env.REDIS_URL: sets REDIS_URL for the app, which accessories.redis sets as well: keep one"]),
]  # fmt: skip


@pytest.mark.parametrize(("more", "expected"), MISTAKES, ids=[more for more, _ in MISTAKES])
def test_a_mistake_is_told_with_line_key_and_what_is_expected(
    project: Any, good: Callable[[str], str], more: str, expected: list[str]
) -> None:
    assert project.mistakes(good(more)) == expected


def test_the_databases_variable_belongs_to_the_database(project: Any, good: Callable[[str], str]) -> None:
    text = good("database: {engine: sqlite}\nbackup: {enabled: false}\naccessories: {database: {kind: redis}}")

    assert project.mistakes(text) == [
        "deploy.yml:6 accessories.database: sets DATABASE_URL for the app, which database sets as well: give it another name, or remove that"
    ]


def test_a_name_that_is_a_kind_needs_no_more(project: Any, good: Callable[[str], str]) -> None:
    found = project.write(good("accessories:\n  redis:\n  memcached: {memory: 64M}\n")).load().config.accessories

    assert [(name, one.kind, one.memory) for name, one in found.items()] == [
        ("redis", "redis", 128 << 20),
        ("memcached", "memcached", 64 << 20),
    ]


def test_a_package_is_known_by_its_package_and_has_a_unit_of_that_name(
    project: Any, good: Callable[[str], str]
) -> None:
    text = "accessories: {mq: {package: mosquitto}, amqp: {package: rabbitmq-server, unit: rabbit.service}}\n"
    found = project.write(good(text)).load().config.accessories

    assert {name: (one.kind, one.unit_name) for name, one in found.items()} == {
        "mq": ("package", "mosquitto.service"),
        "amqp": ("package", "rabbit.service"),
    }


def test_one_without_a_kind_hides_no_other_mistake(project: Any, good: Callable[[str], str]) -> None:
    text = good("accessories:\n  redis: {memory: lots}\n  foo: {}\n  bar: {package: 'x y'}\n")

    with pytest.raises(ConfigError) as refused:
        project.write(text).load()

    assert [each.key for each in refused.value.problems] == [
        "accessories.redis.memory",
        "accessories.foo.kind",
        "accessories.bar.package",
    ]


def test_what_is_shown_can_be_read_again(project: Any, good: Callable[[str], str]) -> None:
    text = "accessories: {redis: {evict: true}, memcached: , mq: {package: a1, env: {A: '010'}, files: {/etc/a: deploy.yml}}}\n"
    loaded = project.write(good(text)).load()

    assert project.write(show.as_yaml(loaded)).load().config == loaded.config
    assert loaded.config.accessories["mq"].env == {"A": "010"}


def test_the_app_gets_what_stands_there_and_the_host_alone_makes_the_rest(
    project: Any, good: Callable[[str], str]
) -> None:
    loaded = project.write(good("accessories: {redis: , mq: {package: a1, env: {MQ: 'x:1'}}}\n")).load()

    assert settings(loaded.config).env == {"PHX_HOST": "shop.test", "MQ": "x:1"}
    assert accessories.variables_set(loaded.config.accessories) == {"REDIS_URL": "redis", "MQ": "mq"}


def test_the_host_knows_units_and_contents_and_not_where_a_file_lies_here(
    project: Any, good: Callable[[str], str]
) -> None:
    project.write("listen\n", "mq.conf")
    loaded = project.write(good("accessories: {redis: , mq: {package: a1, files: {/etc/a.conf: mq.conf}}}\n")).load()

    redis, mq = host_vars(loaded)["homeport_accessories"]

    assert (redis["unit"], redis["kind"], redis["files"]) == ("homeport-shop-accessory-redis.service", "redis", [])
    digest = hashlib.sha256(b"listen\n").hexdigest()
    assert (mq["unit"], mq["package"]) == ("a1.service", "a1")
    assert mq["files"] == [{"src": str(project.root / "mq.conf"), "dest": "/etc/a.conf", "digest": digest}]


def test_a_file_that_is_not_there_is_refused(project: Any, good: Callable[[str], str]) -> None:
    loaded = project.write(good("accessories: {mq: {package: a1, files: {/etc/a.conf: mq.conf}}}\n")).load()

    with pytest.raises(Exception, match=r"accessories.mq.files./etc/a.conf: there is no file mq.conf"):
        host_vars(loaded)


def test_the_host_is_provisioned_anew_for_another_content_and_not_for_another_laptop(
    project: Any, good: Callable[[str], str]
) -> None:
    project.write("listen\n", "mq.conf")
    vars = host_vars(project.write(good("accessories: {mq: {package: a1, files: {/etc/a: mq.conf}}}\n")).load())
    (mq,) = vars["homeport_accessories"]
    elsewhere = {**vars, "homeport_accessories": [{**mq, "files": [{**mq["files"][0], "src": "/elsewhere"}]}]}
    another = {**vars, "homeport_accessories": [{**mq, "files": [{**mq["files"][0], "digest": "0"}]}]}

    assert stamp(elsewhere) == stamp(vars)
    assert stamp(another) != stamp(vars)


def test_what_an_accessory_gives_is_supplied(project: Any, good: Callable[[str], str]) -> None:
    (project.root / "config").mkdir()
    project.write('System.fetch_env!("REDIS_URL")\nSystem.fetch_env!("OTHER_URL")\n', "config/runtime.exs")
    loaded = project.write(good("accessories: {redis: }\n")).load()

    assert [found.name for found in runtime_check.unset_variables(loaded)] == ["OTHER_URL"]


@given(st.from_regex(r"[a-z][a-z0-9-]{0,19}", fullmatch=True))
def test_laptop_and_host_name_the_same_variable(name: str) -> None:
    assert accessories.variable(name) == on_the_host.variable(name)
