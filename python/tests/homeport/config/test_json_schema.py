"""The JSON Schema of deploy.yml: what `deploy config` accepts is valid, what it refuses for its shape is not."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jsonschema

from homeport.config.check import plain
from homeport.config.descriptions import every_key, inner_section, of_fields
from homeport.config.document import parse
from homeport.config.fields import Section
from homeport.config.model import Config

ROOT = Path(__file__).resolve().parents[4]
SCHEMA = json.loads((ROOT / "docs" / "reference" / "deploy.schema.json").read_text(encoding="utf-8"))
EXAMPLES = [ROOT / "python/homeport/docs/deploy.yml", *sorted((ROOT / "molecule" / "apps").glob("*/deploy.yml"))]
LEAST = "app: shop\nhost: 192.0.2.1\ndomains: [shop.test]\n"

GOOD = [
    "",
    "release:",
    "cron:",
    "domains: [{name: a.test, certificate: a.pem, key: A_KEY}, {name: b.test, redirect_to: a.test}, c.test]",
    "env: {clear: {A: x, B: 5, C: true, D: 1.5, E: ''}, secret: [TOKEN]}",
    "database: {engine: sqlite}\n"
    "backup: {bucket: shop-backups, interval: 250ms, retention: 7d, max_lag: 60, drill: daily}",
    "database: {engine: postgres, parameters: {work_mem: 16MB, jit: off, max_connections: 100}}\n"
    "backup: {bucket: shop-backups, max_wal: 10GiB, require: [versioning]}",
    "accessories: {redis: , queue: {kind: valkey, memory: 128M}, jobs: {package: beanstalkd, env: {A: b}}}",
    "cron: [{name: a, schedule: '@daily', command: bin/a}, {name: b, schedule: '* * * * *', eval: A.b(), timeout: 5m}]",
    "notify: [{url: SLACK_URL}, {url: NTFY_URL, format: ntfy, on: [failure]}]",
    "limits: {memory: 512M, cpu: 0.5}\nretain_releases: 2",
    "ssh: {port: 22, authorized_keys: [keys/a.pub]}",
]
BAD = [
    "drain_timeout: soon",
    "drain_timeout: 5 s",
    "domain: shop.test",
    "domains: shop.test",
    "domains: [{redirect_to: a.test}]",
    "health: {pth: /up}",
    "health: [/up]",
    "release: {strategy: rolling}",
    "env: {secret: TOKEN}",
    "env: {clear: {A: [b]}}",
    "backup: {retention: 7w}",
    "backup: {max_wal: lots}",
    "backup: {enabled: 'yes'}",
    "backup: {require: [encryption]}",
    "database: {engine: mysql}",
    "database: {pool: 0}",
    "retain_releases: 1",
    "accessories: [redis]",
    "accessories: {redis: {kind: mysql}}",
    "cron: [{schedule: '@daily', command: bin/a}]",
    "notify: [{url: A, on: [everything]}]",
    "ssh: {port: 70000}",
]


def mistakes(text: str) -> list[str]:
    tree, problems = parse(text, "deploy.yml")
    assert problems == []
    return [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(plain(tree))]


def test_the_schema_itself_is_valid() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_are_valid(path: Path) -> None:
    assert mistakes(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("text", GOOD)
def test_what_deploy_config_accepts_is_valid(project: Any, text: str) -> None:
    base = LEAST.replace("domains: [shop.test]\n", "") if text.startswith("domains") else LEAST

    assert mistakes(base + text) == []
    project.write(base + text).load()


@pytest.mark.parametrize("text", BAD)
def test_what_has_a_wrong_shape_is_not(text: str) -> None:
    base = LEAST.replace("domains: [shop.test]\n", "") if text.startswith("domains") else LEAST

    assert mistakes(base + text) != []


@pytest.mark.parametrize("key", ["app", "host", "domains"])
def test_what_is_required_is_missed(key: str) -> None:
    told = yaml.safe_load(LEAST)
    del told[key]

    assert mistakes(yaml.safe_dump(told)) == [f"'{key}' is a required property"]


def test_every_key_of_the_model_is_in_it_with_its_description() -> None:
    assert described(SCHEMA, Config, "") == every_key()


def described(told: dict[str, Any], section: type[Section], path: str) -> dict[str, str]:
    """The description of every key of the schema, by the paths of `every_key`."""
    body = next(each for each in (told, *told.get("anyOf", ())) if "properties" in each)
    assert set(body["properties"]) == set(of_fields(section))
    found = {}
    for name, each in body["properties"].items():
        found[path + name] = each["description"]
        if inner := inner_section(section.model_fields[name].annotation):
            separator = (
                "[]" if "items" in json.dumps(each) else ".<name>" if "additionalProperties" in json.dumps(each) else ""
            )
            found |= described(SCHEMA["$defs"][inner.__name__], inner, f"{path}{name}{separator}.")
    return found
