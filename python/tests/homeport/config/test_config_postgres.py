"""PostgreSQL, on the host or a provider's: what is refused by name, and what the host and the app get to know."""

# ruff: noqa: E501 - tables of whole messages

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from homeport.config.cost import requests_a_month
from homeport.config.hostvars import host_vars, settings
from homeport.config.problems import ConfigError
from homeport.config.secret_names import scrub
from homeport.core.errors import HomeportError
from homeport.core.provision_stamp import stamp
from homeport.deployment import preflight
from homeport.secrets.resolve import backup_secrets, collect, reveal
from homeport.verbs.config import command
from hostctl.backup import settings as backup_settings
from hostctl.core import schema as core_schema
from hostctl.core.paths import Layout

Text = Callable[[str], str]

# lines 4 and 5; a table's own lines begin at 6
POSTGRES = "database: {engine: postgres}\nbackup: {bucket: shop-backups}\n"
EXTERNAL = "database: {engine: external}\nenv: {secret: [DATABASE_URL]}\n"
PROVIDERS = "backup: the backups of an external database are its provider's: leave this out, or set enabled: false"


def more(text: str, section: str) -> str:
    """POSTGRES with more keys in one of its sections."""
    return POSTGRES.replace(f"{section}: {{", f"{section}: {{{text}, ")


def of(engine: str, keys: str) -> str:
    return f"database: {{engine: {engine}, {keys}}}\nbackup: {{enabled: false}}\n"


# what stands in line 4 and below -> the whole list of mistakes
MISTAKES = [
    (more("path: shop.db", "database"), ["deploy.yml:4 database.path: is for sqlite, and database.engine is postgres: leave it out"]),
    (more("settings: bin/x", "database"), ["deploy.yml:4 database.settings: is for sqlite, and database.engine is postgres: leave it out"]),
    (more("unsafe_checkpoints: allow", "database"), ["deploy.yml:4 database.unsafe_checkpoints: is for sqlite, and database.engine is postgres: leave it out"]),
    (more("url: DATABASE_URL", "database"), ["deploy.yml:4 database.url: is for external, and database.engine is postgres: leave it out"]),
    (more("extra: [a.db]", "backup"), ["deploy.yml:5 backup.extra: is for sqlite, and database.engine is postgres: leave it out"]),
    (of("sqlite", "pool: 5"), ["deploy.yml:4 database.pool: is for postgres and external, and database.engine is sqlite: leave it out"]),
    (of("sqlite", "parameters: {}"), ["deploy.yml:4 database.parameters: is for postgres, and database.engine is sqlite: leave it out"]),
    ("database: {engine: sqlite}\nbackup: {bucket: shop-backups, max_wal: 1G}", ["deploy.yml:5 backup.max_wal: is for postgres, and database.engine is sqlite: leave it out"]),
    ("database: {engine: sqlite}\nbackup: {bucket: shop-backups, encryption_key: KEY}", ["deploy.yml:5 backup.encryption_key: is for postgres, and database.engine is sqlite: leave it out"]),
    # the backup
    ("database: {engine: postgres}", ["deploy.yml:4 database.engine: postgres needs a backup: set backup.bucket, or backup.enabled: false to go without"]),
    (more("endpoint: 'http://10.0.0.5:9000'", "backup"), ["deploy.yml:5 backup.endpoint: must begin with https:// for postgres: pgBackRest requires it"]),
    (more("archive_timeout: 0", "backup"), ['deploy.yml:5 backup.archive_timeout: must be a duration such as "500ms", "30s", "5m" or "1h", from 1s to 1h (got 0)']),
    (more("archive_timeout: 1.5s", "backup"), ["deploy.yml:5 backup.archive_timeout: must be whole seconds"]),
    (more("full_interval: 1h", "backup"), ["deploy.yml:5 backup.full_interval: must be as long as snapshot_interval: backups between are incremental"]),
    (more("max_wal: 16M", "backup"), ['deploy.yml:5 backup.max_wal: must be a size such as "512M" or "2G", at least 64M (got "16M")']),
    (more("encryption_key: BACKUP_ACCESS_KEY_ID", "backup"), ["deploy.yml:5 backup.encryption_key: BACKUP_ACCESS_KEY_ID is one of the bucket's own keys as well"]),
    (more("encryption_key: hunter2/and+more", "backup"), ["deploy.yml:5 backup.encryption_key: must be a name alone, such as BACKUP_SECRET_ACCESS_KEY; values come from deploy.secrets.yml or the environment of `deploy`"]),
    (more("encryption_key: KEY", "backup") + "env: {secret: [KEY]}\n", ["deploy.yml:5 backup.encryption_key: KEY is in env as well, and the app must not have it: use another name"]),
    # the server
    (more("pool: 0", "database"), ["deploy.yml:4 database.pool: must be a whole number from 1 to 500 (got 0)"]),
    (more("lock_timeout: 0", "database"), ['deploy.yml:4 database.lock_timeout: must be a duration such as "500ms", "30s", "5m" or "1h", from 50ms to 1h (got 0)']),
    (more("parameters: []", "database"), ["deploy.yml:4 database.parameters: must be a map of PostgreSQL's settings, such as {work_mem: 16MB}"]),
    # a provider's: a URL in place of its name is never repeated
    ("database: {engine: external}\n", ["deploy.yml:4 database.url: DATABASE_URL is not in env.secret: name it there, so that the app gets it"]),
    ("database:\n  engine: external\n  url: SHOP_URL\nenv: {secret: [DATABASE_URL]}\n", ["deploy.yml:6 database.url: SHOP_URL is not in env.secret: name it there, so that the app gets it"]),
    ("database: {engine: external, url: 'postgres://shop:hunter2@db.test/shop'}\n", ["deploy.yml:4 database.url: must be a name alone, such as DATABASE_URL; values come from deploy.secrets.yml or the environment of `deploy`"]),
    (EXTERNAL + "backup: {bucket: shop-backups}\n", [f"deploy.yml:6 {PROVIDERS}"]),
    (EXTERNAL + "backup: {enabled: true, drill: daily}\n", [f"deploy.yml:6 {PROVIDERS}"]),
    (EXTERNAL.replace("external", "external, lock_timeout: 1s"), ["deploy.yml:4 database.lock_timeout: is for postgres, and database.engine is external: leave it out"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_told_with_line_key_and_what_mends_it(
    project: Any, good: Text, text: str, expected: list[str]
) -> None:
    assert project.mistakes(good(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        POSTGRES,
        of("postgres", "pool: 500"),
        EXTERNAL,
        EXTERNAL + "backup: {enabled: false, bucket: shop-backups, max_wal: 1G}\n",
        more("endpoint: 'https://10.0.0.5:9000', ca: ca.pem", "backup"),
        # SQLite's parser would refuse it
        more("verify: ['SELECT now() - max(at) < interval ''1 hour'' FROM orders']", "backup"),
    ],
)
def test_what_is_right_passes(project: Any, good: Text, text: str) -> None:
    assert project.mistakes(good(text)) == []


# what others get to know

FULL = """database: {engine: postgres, pool: 5, lock_timeout: 2s, parameters: {work_mem: 16MB, jit: off}}
backup:
  bucket: shop-backups
  endpoint: https://s3.example.net/
  ca: ca.pem
  encryption_key: BACKUP_KEY
  archive_timeout: 30s
  full_interval: 30d
  snapshot_interval: 24h
  retention: 30d
  max_wal: 512M
"""


def test_the_role_gets_what_database_json_will_say(project: Any, good: Text) -> None:
    project.write("x\n", "ca.pem")

    found = host_vars(project.write(good(FULL)).load())

    assert found["homeport_backup_secrets"] == {
        "encryption_key": "BACKUP_KEY",
        "access_key_id": "BACKUP_ACCESS_KEY_ID",
        "secret_access_key": "BACKUP_SECRET_ACCESS_KEY",
    }
    assert found["homeport_database"] == {
        "engine": "postgres",
        "user": "shop",
        "name": "shop",
        "pool": 5,
        "lock_timeout": 2.0,
        "parameters": {"work_mem": "16MB", "jit": "off"},
        "backup": {
            "bucket": "shop-backups",
            "prefix": "shop",
            "region": "us-east-1",
            "endpoint": "https://s3.example.net",
            "path_style": True,
            "ca": str(project.root / "ca.pem"),
            "interval": 0.25,
            "snapshot_interval": 86_400.0,
            "retention": 30 * 86_400.0,
            "drill": "weekly",
            "verify": [],
            "max_lag": 60.0,
            "require": [],
            "archive_timeout": 30.0,
            "full_interval": 30 * 86_400.0,
            "max_wal": 512 * 2**20,
            "encrypted": True,
        },
    }


def test_a_name_with_a_hyphen_is_none_in_sql(project: Any) -> None:
    text = f"app: my-shop\nhost: 198.51.100.7\ndomains: [shop.test]\n{POSTGRES}"

    found = host_vars(project.write(text).load())

    assert (found["homeport_database"]["user"], found["homeport_database"]["name"]) == ("my-shop", "my_shop")
    assert found["homeport_env"]["DATABASE_URL"] == (
        "ecto://my-shop@localhost/my_shop?socket_dir=/run/homeport-my-shop-postgres"
    )


def test_the_app_is_told_where_its_database_is_unless_it_says_so_itself(project: Any, good: Text) -> None:
    push = settings(project.write(good(POSTGRES)).load().config)
    own = settings(project.write(good(POSTGRES + "env: {clear: {POOL_SIZE: 7}, secret: [PGHOST]}\n")).load().config)

    assert push.settings["database"] == {"engine": "postgres", "pool": 10, "lock_timeout": 5.0}
    assert push.env == {
        "PHX_HOST": "shop.test",
        "DATABASE_URL": "ecto://shop@localhost/shop?socket_dir=/run/homeport-shop-postgres",
        "PGHOST": "/run/homeport-shop-postgres",
        "PGUSER": "shop",
        "PGDATABASE": "shop",
        "POOL_SIZE": "10",
    }
    assert own.env["POOL_SIZE"] == "7"
    assert "PGHOST" not in own.env


def test_of_a_provider_the_app_gets_the_secret_and_the_host_its_name(project: Any, good: Text) -> None:
    found = host_vars(project.write(good(EXTERNAL)).load())

    assert found["homeport_database"] == {
        "engine": "external",
        "user": "shop",
        "pool": 10,
        "url": "DATABASE_URL",
        "backup": None,
    }
    assert found["homeport_backup_secrets"] is None
    assert found["homeport_settings"]["database"] == {"engine": "external", "pool": 10, "url": "DATABASE_URL"}
    assert found["homeport_env"] == {"PHX_HOST": "shop.test", "POOL_SIZE": "10"}
    assert found["homeport_env_secret"] == ["DATABASE_URL"]


@pytest.mark.parametrize("text", [POSTGRES, EXTERNAL])
def test_hostctl_finds_no_mistake_in_settings_that_passed_here(project: Any, good: Text, text: str) -> None:
    push = settings(project.write(good(text)).load().config)
    schema = {"settings": core_schema.PUSH["settings"], "env": core_schema.PUSH["env"]}

    assert core_schema.mistakes(schema, {"settings": push.settings, "env": push.env}) == []
    push.settings["database"]["port"] = 5432
    assert core_schema.mistakes(schema, {"settings": push.settings}) == ["settings.database is not valid"]


def test_hostctl_reads_what_the_role_gets(project: Any, good: Text, tmp_path: Path) -> None:
    project.write("x\n", "ca.pem")
    told = host_vars(project.write(good(FULL)).load())["homeport_database"]
    app = Layout(tmp_path / "host").app("shop")
    app.database.parent.mkdir(parents=True)
    app.database.write_text(json.dumps(told))

    found = backup_settings.backup(app)

    assert backup_settings.engine(app) == "postgres"
    assert (found.archive_timeout, found.max_wal, found.encrypted) == (30.0, 512 * 2**20, True)


def test_the_host_is_provisioned_anew_for_another_setting_but_not_for_another_name_of_a_key(
    project: Any, good: Text
) -> None:
    project.write("x\n", "ca.pem")

    def stamped(text: str) -> str:
        return stamp(host_vars(project.write(good(text)).load()))

    assert stamped(FULL.replace("16MB", "32MB")) != stamped(FULL)
    assert stamped(FULL.replace("BACKUP_KEY", "OTHER_KEY")) == stamped(FULL)


# the keys

KEYS = {
    "BACKUP_ACCESS_KEY_ID": "someone",
    "BACKUP_SECRET_ACCESS_KEY": "hunter2-and-more",
    "KEY": "hunter3-and-twenty-characters",
}
ENCRYPTED = more("encryption_key: KEY", "backup")


def test_the_encryption_key_comes_from_the_environment_and_leaves_it(
    project: Any, good: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    found = project.write(good(ENCRYPTED)).load()

    keys = backup_secrets(found, os.environ)
    scrub(found.config, os.environ)

    assert {key: reveal(value) for key, value in keys.items()} == {
        "access_key_id": "someone",
        "secret_access_key": "hunter2-and-more",
        "encryption_key": "hunter3-and-twenty-characters",
    }
    assert not set(KEYS) & set(os.environ)
    assert not {"KEY", *KEYS.values()} & set(host_vars(found)["homeport_env"])


def test_a_key_that_can_be_guessed_is_refused(project: Any, good: Text) -> None:
    with pytest.raises(HomeportError) as caught:
        collect(project.write(good(ENCRYPTED)).load(), {**KEYS, "KEY": "nineteen-characters"})

    assert caught.value.what == (
        "the value of KEY has fewer than 20 characters, too few to encrypt with: openssl rand -base64 48"
    )


def test_the_bucket_is_asked_whether_or_not_the_encryption_key_is_given(
    project: Any, good: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("homeport.bucket.check.check", lambda _, keys: asked.append(sorted(keys)) or [])
    found = project.write(good(ENCRYPTED)).load()
    given = {name: KEYS[name] for name in ("BACKUP_ACCESS_KEY_ID", "BACKUP_SECRET_ACCESS_KEY")}

    assert preflight.backup(found, collect(found, given)) == []
    assert preflight.backup(found, collect(found, {"KEY": KEYS["KEY"]})) == []
    assert asked == [["access_key_id", "secret_access_key"]]


# the sandbox


class Sandbox:
    """What homeport.sandbox.get gives."""

    def __init__(self, root: Path, more: str = "homeport_encryption_key = of-the-sandbox-as-well\n") -> None:
        self.credentials = root / "s3-credentials"
        keys = "aws_access_key_id = SANDBOX\naws_secret_access_key = of-the-sandbox\n"
        self.credentials.write_text(f"[default]\n{keys}{more}")

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": "sandbox",
            "address": "198.51.100.9",
            "ssh": {"user": "root", "port": 22, "key": "/s/key", "known_hosts": "/s/known_hosts"},
            "s3": {
                "endpoint": "http://198.51.100.10:8333",
                "tls_endpoint": "https://198.51.100.10:8334",
                "ca": "/s/ca.pem",
                "region": "us-east-1",
                "bucket": "homeport",
                "credentials": str(self.credentials),
            },
            "acme": {"directory": "https://198.51.100.10:14000/dir", "ca": "/s/ca.pem", "root": "/s/root.pem"},
        }


def in_the_sandbox(project: Any, text: str, sandbox: Sandbox) -> Any:
    return project.write(text).load("sandbox", sandboxes=lambda _: sandbox)


def test_the_sandbox_brings_its_own_store_over_https_and_its_keys(project: Any, good: Text) -> None:
    found = in_the_sandbox(project, good(ENCRYPTED), Sandbox(project.root))

    backup = found.config.backup
    assert (backup.endpoint, backup.ca, backup.path_style) == ("https://198.51.100.10:8334", "/s/ca.pem", True)
    assert {key: reveal(value) for key, value in backup_secrets(found, KEYS).items()} == {
        "access_key_id": "SANDBOX",
        "secret_access_key": "of-the-sandbox",
        "encryption_key": "of-the-sandbox-as-well",
    }


def test_without_encryption_no_key_of_the_sandbox_is_asked_for(project: Any, good: Text) -> None:
    found = in_the_sandbox(project, good("database: {engine: postgres}\n"), Sandbox(project.root, ""))

    assert sorted(backup_secrets(found, {})) == ["access_key_id", "secret_access_key"]


def test_an_external_database_needs_nothing_of_the_sandbox(project: Any, good: Text) -> None:
    found = in_the_sandbox(project, good(EXTERNAL), Sandbox(project.root))

    assert (found.config.backup.bucket, found.credentials) == (None, None)


# what is shown


def test_what_is_shown_means_the_same_and_has_no_key_of_another_engine(project: Any, good: Text) -> None:
    project.write("x\n", "ca.pem")
    for text, others in ((FULL, {"settings", "url", "extra"}), (EXTERNAL, {"settings", "parameters", "backup"})):
        before = project.write(good(text)).load().config
        told = CliRunner().invoke(command, ["-c", str(project.root / "deploy.yml")]).stdout

        assert project.write(told).load().config == before
        assert not others & {line.strip().partition(":")[0] for line in told.splitlines()}


def test_what_the_backup_costs_is_the_tail_and_the_segments(project: Any, good: Text) -> None:
    def cost(text: str, writes: float) -> float:
        return requests_a_month(project.write(good(text)).load().config, writes)

    month = 365.25 / 12 * 86_400
    assert cost(POSTGRES, 0.01) == pytest.approx(month / 0.25 + month / 15 + month / 21_600)
    assert cost(POSTGRES, 60.0) == pytest.approx(2 * month / 60 + month / 21_600)
    assert cost(more("archive_timeout: 60s", "backup"), 0.01) < cost(POSTGRES, 0.01)


def test_a_ca_that_is_not_there_is_told(project: Any, good: Text) -> None:
    with pytest.raises(ConfigError) as caught:
        host_vars(project.write(good(FULL)).load())

    assert (caught.value.what, caught.value.where) == ("backup.ca: there is no file ca.pem", "deploy.yml:8")
