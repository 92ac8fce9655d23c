"""The database and its backup: every mistake with its line, what is derived, and what the host gets to know."""

# ruff: noqa: E501 - tables of whole messages

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from homeport.config import values
from homeport.config.cost import requests_a_month
from homeport.config.hostvars import host_vars, settings
from homeport.config.problems import ConfigError
from homeport.config.secret_names import scrub
from homeport.core.errors import HomeportError
from homeport.core.provision_stamp import stamp
from homeport.secrets.resolve import backup_secrets, collect, reveal
from homeport.verbs.config import command
from hostctl.backup import settings as backup_settings
from hostctl.core import schema as core_schema
from hostctl.core.paths import Layout

Text = Callable[[str], str]

# lines 4 and 5; a table's own lines begin at 6
SQLITE = "database: {engine: sqlite}\nbackup: {bucket: shop-backups}\n"
NAME = "must be a name alone, such as BACKUP_SECRET_ACCESS_KEY; values come from deploy.secrets.yml or the environment of `deploy`"
FILE = "must be the name of a file in /var/lib/<app>/, without a directory"
ENDPOINT = "must be a URL such as https://s3.eu-central-003.example.net, without a path"
EDGES = "must have no /, . or .. at its ends or between two /"
BACKUP = "enabled, bucket, prefix, region, endpoint, path_style, ca, access_key_id, secret_access_key, interval, snapshot_interval, retention, drill, verify, extra, max_lag, require, archive_timeout, full_interval, encryption_key, max_wal"

# what stands in line 4 and below -> the whole list of mistakes
MISTAKES = [
    # the database
    ("database: {engine: postgres}", ["deploy.yml:4 database.engine: postgres needs a backup: set backup.bucket, or backup.enabled: false to go without"]),
    ("database: {engine: external}", ["deploy.yml:4 database.url: DATABASE_URL is not in env.secret: name it there, so that the app gets it"]),
    ("database: {engine: mysql}", ['deploy.yml:4 database.engine: must be none, sqlite, postgres or external (got "mysql")']),
    ("database: {engine: }", ["deploy.yml:4 database.engine: must be none, sqlite, postgres or external (got nothing)"]),
    ("database: sqlite", ['deploy.yml:4 database: must be a map of keys (got "sqlite")']),
    ("database:\n  engin: sqlite", ['deploy.yml:5 database.engin: unknown key; did you mean "engine"? (expected one of: engine, path, settings, unsafe_checkpoints, pool, lock_timeout, parameters, url)']),
    ("database: {path: data/shop.db}", [f'deploy.yml:4 database.path: {FILE} (got "data/shop.db")']),
    ("database: {path: ..}", [f'deploy.yml:4 database.path: {FILE} (got "..")']),
    ("database: {path: .shop.db}", [f'deploy.yml:4 database.path: {FILE} (got ".shop.db")']),
    ("database: {path: shop.db-wal}", ['deploy.yml:4 database.path: is a name that SQLite gives to the files beside a database (got "shop.db-wal")']),
    ("database: {path: EPOCH}", ["deploy.yml:4 database.path: is the name of Homeport's own object in the bucket: choose another (got \"EPOCH\")"]),
    ("database: {settings: bin/x --all}", ['deploy.yml:4 database.settings: must be a program in the release, such as bin/migrate (got "bin/x --all")']),
    ("database: {unsafe_checkpoints: yes please}", ['deploy.yml:4 database.unsafe_checkpoints: must be refuse or allow (got "yes please")']),
    # one without the other
    ("database:\n  engine: sqlite", ["deploy.yml:5 database.engine: sqlite needs a backup: set backup.bucket, or backup.enabled: false to go without"]),
    ("database: {engine: sqlite}\nbackup:\n  enabled: true", ["deploy.yml:4 database.engine: sqlite needs a backup: set backup.bucket, or backup.enabled: false to go without"]),
    ("backup:\n  bucket: shop-backups", ["deploy.yml:5 backup.bucket: there is no database to back up: set database.engine, or leave it out"]),
    ("database: {engine: sqlite, unsafe_checkpoints: allow}\nbackup: {bucket: shop-backups, drill: weekly}", ["deploy.yml:5 backup.drill: must be daily where database.unsafe_checkpoints is allow"]),
    # the bucket
    ("backup: {bucket: Shop}", ['deploy.yml:4 backup.bucket: must be 3 to 63 lower-case letters, digits, - and . (got "Shop")']),
    ("backup: {bucket: ab}", ['deploy.yml:4 backup.bucket: must be 3 to 63 lower-case letters, digits, - and . (got "ab")']),
    ("backup: {bucket: shop-}", ['deploy.yml:4 backup.bucket: must be 3 to 63 lower-case letters, digits, - and . (got "shop-")']),
    ("backup: {bucket: a..b}", ['deploy.yml:4 backup.bucket: must be no IP address, and have a letter or digit on both sides of each dot (got "a..b")']),
    ("backup: {bucket: 192.168.0.1}", ['deploy.yml:4 backup.bucket: must be no IP address, and have a letter or digit on both sides of each dot (got "192.168.0.1")']),
    ("backup: {bucket: xn--shop}", ['deploy.yml:4 backup.bucket: has a prefix or suffix that S3 reserves (got "xn--shop")']),
    ("backup: {bucket: shop-s3alias}", ['deploy.yml:4 backup.bucket: has a prefix or suffix that S3 reserves (got "shop-s3alias")']),
    ("backup: {bucket: example-backups}", ['deploy.yml:4 backup.bucket: is still the placeholder: write the name of your bucket (got "example-backups")']),
    ("backup: {bucket: shop.backups}", ["deploy.yml:4 backup.bucket: has a dot, which no certificate covers: choose another, or set path_style: true"]),
    ("backup: {prefix: /shop}", [f'deploy.yml:4 backup.prefix: {EDGES} (got "/shop")']),
    ("backup: {prefix: a/../b}", [f'deploy.yml:4 backup.prefix: {EDGES} (got "a/../b")']),
    ("backup: {prefix: a b}", ['deploy.yml:4 backup.prefix: must be a path in the bucket, such as shop or backups/shop (got "a b")']),
    ("backup: {region: Frankfurt}", ['deploy.yml:4 backup.region: must be the name of a region, such as eu-central-1 (got "Frankfurt")']),
    # the endpoint
    ("backup: {endpoint: s3.example.net}", [f'deploy.yml:4 backup.endpoint: {ENDPOINT} (got "s3.example.net")']),
    ("backup: {endpoint: 'https://s3.example.net/bucket'}", [f'deploy.yml:4 backup.endpoint: {ENDPOINT} (got "https://s3.example.net/bucket")']),
    ("backup: {endpoint: 'https://s3.example.net:99999'}", [f'deploy.yml:4 backup.endpoint: {ENDPOINT} (got "https://s3.example.net:99999")']),
    ("backup: {endpoint: 'http://s3.example.net'}", ['deploy.yml:4 backup.endpoint: must begin with https://; only a private address may do without (got "http://s3.example.net")']),
    ("backup: {endpoint: 'http://8.8.8.8'}", ['deploy.yml:4 backup.endpoint: must begin with https://; only a private address may do without (got "http://8.8.8.8")']),
    ("backup: {path_style: 'true'}", ['deploy.yml:4 backup.path_style: must be true or false (got "true")']),
    # the keys: what may be one is never repeated
    ("backup: {access_key_id: hunter2/and+more}", [f"deploy.yml:4 backup.access_key_id: {NAME}"]),
    ("backup: {secret_access_key: [hunter2]}", [f"deploy.yml:4 backup.secret_access_key: {NAME}"]),
    ("backup: {access_key_id: AKIAIOSFODNN7EXAMPLE}", [f"deploy.yml:4 backup.access_key_id: looks like a key itself, and here anybody may read it: it {NAME}"]),
    ("backup: {secret_access_key: A1B2C3D4E5F6A7B8C9D0}", [f"deploy.yml:4 backup.secret_access_key: looks like a key itself, and here anybody may read it: it {NAME}"]),
    ("backup: {access_key_id: HOMEPORT_KEY}", ["deploy.yml:4 backup.access_key_id: HOMEPORT_KEY is refused: names that begin with HOMEPORT_ are Homeport's own"]),
    ("backup: {access_key_id: KEY, secret_access_key: KEY}", ["deploy.yml:4 backup.secret_access_key: KEY is the access_key_id as well"]),
    (SQLITE + "env: {secret: [BACKUP_ACCESS_KEY_ID]}", ["deploy.yml:5 backup.access_key_id: BACKUP_ACCESS_KEY_ID is in env as well, and the app must not have it: use another name"]),
    (SQLITE.replace("}\n", ", secret_access_key: KEY}\n").replace("sqlite, secret_access_key: KEY", "sqlite") + "env: {clear: {KEY: x}}", ["deploy.yml:5 backup.secret_access_key: KEY is in env as well, and the app must not have it: use another name"]),
    # times
    ("backup: {interval: 10ms}", ['deploy.yml:4 backup.interval: must be a duration such as "500ms", "30s", "5m" or "1h", from 50ms to 1m (got "10ms")']),
    ("backup: {interval: 61s}", ['deploy.yml:4 backup.interval: must be a duration such as "500ms", "30s", "5m" or "1h", from 50ms to 1m (got "61s")']),
    ("backup: {snapshot_interval: 1s}", ['deploy.yml:4 backup.snapshot_interval: must be a time such as "6h" or "7d", from 10s to 3650d (got "1s")']),
    ("backup: {retention: 1w}", ['deploy.yml:4 backup.retention: must be a time such as "6h" or "7d", from 10s to 3650d (got "1w")']),
    ("backup: {retention: 1h}", ["deploy.yml:4 backup.retention: must be as long as snapshot_interval, or there is nothing to restore from"]),
    ("backup: {max_lag: 0}", ['deploy.yml:4 backup.max_lag: must be a duration such as "500ms", "30s", "5m" or "1h", from 1s to 24h (got 0)']),
    ("backup: {drill: hourly}", ['deploy.yml:4 backup.drill: must be daily, weekly or monthly (got "hourly")']),
    # lists
    ("backup: {extra: shop.db}", ['deploy.yml:4 backup.extra: must be a list (got "shop.db")']),
    ("backup: {extra: [a.db, b/c.db]}", [f'deploy.yml:4 backup.extra[1]: {FILE} (got "b/c.db")']),
    ("backup: {extra: [a.db, a.db]}", ["deploy.yml:4 backup.extra[1]: is there twice: keep one"]),
    ("database: {engine: sqlite}\nbackup:\n  bucket: shop-backups\n  extra:\n  - a.db\n  - shop.db", ["deploy.yml:9 backup.extra[1]: is database.path: leave it out"]),
    ("backup: {require: [worm]}", ['deploy.yml:4 backup.require[0]: must be versioning or object_lock (got "worm")']),
    ("backup: {require: [versioning, versioning]}", ["deploy.yml:4 backup.require[1]: is there twice: keep one"]),
    ("backup:\n  verify:\n  - SELECT 1\n  - SELEC 1", ['deploy.yml:7 backup.verify[1]: is not SQL: near "SELEC": syntax error']),
    ("backup: {verify: [SELECT (1]}", ["deploy.yml:4 backup.verify[0]: is not SQL: incomplete input"]),
    ("backup: {verify: [SELECT 1; SELECT 2]}", ["deploy.yml:4 backup.verify[0]: must be one statement: make a list of several"]),
    ("backup: {verify: ['']}", ['deploy.yml:4 backup.verify[0]: must be one statement of SQL whose first column is true while all is well (got "")']),
    # keys
    ("backup: {bukcet: a}", [f'deploy.yml:4 backup.bukcet: unknown key; did you mean "bucket"? (expected one of: {BACKUP})']),
    ("backup: {engine: sqlite}", [f"deploy.yml:4 backup.engine: unknown key; it belongs in database.engine (expected one of: {BACKUP})"]),
    ("backup: false", ["deploy.yml:4 backup: must be a map of keys (got false)"]),
]  # fmt: skip


@pytest.mark.parametrize(("more", "expected"), MISTAKES, ids=[more for more, _ in MISTAKES])
def test_a_mistake_is_told_with_line_key_and_what_is_expected(
    project: Any, good: Text, more: str, expected: list[str]
) -> None:
    assert project.mistakes(good(more)) == expected


GOOD = [
    "database: {engine: sqlite}\nbackup: {enabled: false}\n",
    "database: {path: other.db}\n",
    SQLITE.replace("shop-backups", "shop-backups, retention: 30d, snapshot_interval: 24h, interval: 50ms"),
    SQLITE.replace("shop-backups", "shop.backups, endpoint: 'https://s3.example.net:8443/'"),
    SQLITE.replace("shop-backups", "shop-backups, endpoint: 'http://10.0.0.5:9000'"),
    SQLITE.replace("shop-backups", "shop-backups, endpoint: 'http://localhost:9000'"),
    SQLITE.replace("shop-backups", "shop-backups, endpoint: 'http://[fd00::1]:9000'"),
    SQLITE.replace(
        "shop-backups", "shop-backups, verify: ['SELECT count(*) > 0 FROM orders;', PRAGMA integrity_check]"
    ),
]


@pytest.mark.parametrize("more", GOOD)
def test_what_is_right_passes(project: Any, good: Text, more: str) -> None:
    assert project.mistakes(good(more)) == []


@given(st.text())
def test_a_name_that_passes_is_safe_in_a_path_and_a_url(text: str) -> None:
    for parse in (values.database_file, values.bucket, values.prefix, values.region, values.endpoint):
        try:
            name = parse(text)
        except ValueError:
            continue
        assert name.isascii()
        assert not set(name) & set(' \t\n"$`;|&<>\\%?#')
        assert ".." not in name.split("/")


# what is derived


def loaded(project: Any, text: str, destination: str | None = None, **rest: Any) -> Any:
    return project.write(text).load(destination, **rest)


def test_what_other_keys_decide_needs_no_key_of_its_own(project: Any, good: Text) -> None:
    config = loaded(project, good(SQLITE)).config
    assert (config.database.path, config.backup.prefix, config.backup.path_style) == ("shop.db", "shop", False)

    more = SQLITE.replace("sqlite", "sqlite, unsafe_checkpoints: allow")
    elsewhere = loaded(project, good(more.replace("shop-backups", "shop-backups, endpoint: 'https://a.test'")))
    assert (elsewhere.config.backup.path_style, elsewhere.config.backup.drill) == (True, "daily")
    origin = {key: str(elsewhere.origin[f"backup.{key}"]) for key in ("prefix", "path_style", "drill")}
    assert origin == {"prefix": "deploy.yml:1", "path_style": "deploy.yml:5", "drill": "deploy.yml:4"}


def test_a_destination_has_a_place_of_its_own_in_the_bucket(project: Any, good: Text) -> None:
    project.write("host: 10.0.0.2\n", "deploy.staging.yml")

    assert loaded(project, good(SQLITE), "staging").config.backup.prefix == "shop-staging"


@pytest.mark.parametrize(
    ("overlay", "refused"),
    [
        ("host: 10.0.0.2\n", True),
        ("host: 10.0.0.2\nbackup: {prefix: staging}\n", False),
        ("host: 10.0.0.2\nbackup: {bucket: other-backups}\n", False),
        ("app: shop\n", True),
        ("app: shop-staging\ndomains: [staging.test]\nbackup: {prefix: staging}\n", False),
    ],
)
def test_two_destinations_cannot_stream_to_one_place(project: Any, good: Text, overlay: str, refused: bool) -> None:
    project.write(overlay, "deploy.staging.yml")
    what = "would be the same for two destinations: set backup.prefix of the other as well, or leave both out"

    found = project.mistakes(good(SQLITE.replace("shop-backups", "shop-backups, prefix: live")), "staging")

    assert found == ([f"deploy.yml:5 backup.prefix: {what}"] if refused else [])


# what others get to know


def test_the_app_is_told_where_its_database_is(project: Any, good: Text) -> None:
    push = settings(loaded(project, good(SQLITE)).config)

    assert push.settings["database"] == {
        "engine": "sqlite",
        "path": "/var/lib/shop/shop.db",
        "settings": None,
        "unsafe_checkpoints": "refuse",
    }
    assert (push.env["DATABASE_PATH"], push.env["DATABASE_URL"]) == (
        "/var/lib/shop/shop.db",
        "ecto://localhost/%2Fvar%2Flib%2Fshop%2Fshop.db",
    )


def test_an_app_may_say_for_itself_where_its_database_is(project: Any, good: Text) -> None:
    env = "env: {clear: {DATABASE_PATH: /var/lib/shop/mine.db}, secret: [DATABASE_URL]}\n"

    push = settings(loaded(project, good(SQLITE + env)).config)

    assert push.env == {"PHX_HOST": "shop.test", "DATABASE_PATH": "/var/lib/shop/mine.db"}


@pytest.mark.parametrize(
    "more", [SQLITE, SQLITE.replace("sqlite", "sqlite, settings: bin/x, unsafe_checkpoints: allow")]
)
def test_hostctl_finds_no_mistake_in_settings_that_passed_here(project: Any, good: Text, more: str) -> None:
    push = settings(loaded(project, good(more)).config)
    schema = {"settings": core_schema.PUSH["settings"], "env": core_schema.PUSH["env"]}

    assert core_schema.mistakes(schema, {"settings": push.settings, "env": push.env}) == []


FULL = """database: {engine: sqlite, path: main.db}
backup:
  bucket: shop-backups
  prefix: live/shop
  region: eu-central-1
  endpoint: https://s3.example.net/
  ca: ca.pem
  access_key_id: S3_KEY
  secret_access_key: S3_SECRET
  interval: 1s
  snapshot_interval: 24h
  retention: 30d
  drill: monthly
  verify: [SELECT 1]
  extra: [events.db]
  max_lag: 2m
  require: [versioning]
"""


def test_the_role_gets_what_database_json_will_say(project: Any, good: Text) -> None:
    project.write("x\n", "ca.pem")

    found = host_vars(loaded(project, good(FULL)))

    assert found["homeport_backup_secrets"] == {"access_key_id": "S3_KEY", "secret_access_key": "S3_SECRET"}
    assert found["homeport_database"] == {
        "engine": "sqlite",
        "user": "shop",
        "unsafe_checkpoints": "refuse",
        "databases": [
            {"name": "main.db", "path": "/var/lib/shop/main.db"},
            {"name": "events.db", "path": "/var/lib/shop/events.db"},
        ],
        "backup": {
            "bucket": "shop-backups",
            "prefix": "live/shop",
            "region": "eu-central-1",
            "endpoint": "https://s3.example.net",
            "path_style": True,
            "ca": str(project.root / "ca.pem"),
            "interval": 1.0,
            "snapshot_interval": 86_400.0,
            "retention": 30 * 86_400.0,
            "drill": "monthly",
            "verify": ["SELECT 1"],
            "max_lag": 120.0,
            "require": ["versioning"],
        },
    }


def test_hostctl_reads_what_the_role_gets(project: Any, good: Text, tmp_path: Path) -> None:
    told = host_vars(loaded(project, good(SQLITE)))["homeport_database"]
    app = Layout(tmp_path / "host").app("shop")
    app.database.parent.mkdir(parents=True)
    app.database.write_text(json.dumps({**told, "litestream": "/usr/local/lib/homeport/litestream"}))

    found = backup_settings.require(app)

    assert (found.main.path, found.user, found.unsafe) == (Path("/var/lib/shop/shop.db"), "shop", False)
    assert found.backup is not None
    assert (found.backup.bucket, found.backup.interval, found.backup.ca) == ("shop-backups", 0.25, None)


def test_without_a_backup_there_are_no_keys(project: Any, good: Text) -> None:
    found = host_vars(loaded(project, good("database: {engine: sqlite}\nbackup: {enabled: false}\n")))

    assert found["homeport_database"]["backup"] is None
    assert found["homeport_backup_secrets"] is None


def test_a_ca_that_is_not_there_is_told(project: Any, good: Text) -> None:
    with pytest.raises(ConfigError) as caught:
        host_vars(loaded(project, good(FULL)))

    assert (caught.value.what, caught.value.where) == ("backup.ca: there is no file ca.pem", "deploy.yml:10")


def test_the_host_is_provisioned_anew_when_the_ca_changes_and_not_when_it_moves(project: Any, good: Text) -> None:
    project.write("x\n", "ca.pem")
    before = stamp(host_vars(loaded(project, good(FULL))))
    project.write("x\n", "moved.pem")

    moved = stamp(host_vars(loaded(project, good(FULL.replace("ca.pem", "moved.pem").replace("S3_KEY", "KEY")))))
    project.write("y\n", "ca.pem")
    changed = stamp(host_vars(loaded(project, good(FULL))))

    assert moved == before
    assert changed != before


# the keys of the bucket


KEYS = {"BACKUP_ACCESS_KEY_ID": "someone", "BACKUP_SECRET_ACCESS_KEY": "hunter2-and-more"}


def test_the_keys_come_from_the_environment_and_leave_it(
    project: Any, good: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with_keys = loaded(project, good(SQLITE + "env: {secret: [TOKEN]}\n"))

    found = collect(with_keys, os.environ)
    keys = backup_secrets(with_keys, os.environ)
    scrub(with_keys.config, os.environ)

    assert {name: reveal(value) for name, value in found.items()} == {"TOKEN": None, **KEYS}
    assert {name: reveal(value) for name, value in keys.items()} == {
        "access_key_id": "someone",
        "secret_access_key": "hunter2-and-more",
    }
    assert not set(KEYS) & set(os.environ)
    assert "hunter2" not in f"{found} {keys}"


@pytest.mark.parametrize("more", ["", "database: {engine: sqlite}\nbackup: {enabled: false}\n"])
def test_without_a_backup_no_key_is_asked_for(project: Any, good: Text, more: str) -> None:
    without = loaded(project, good(more))

    assert backup_secrets(without, KEYS) == {} == collect(without, KEYS)


def test_the_app_does_not_get_the_keys(project: Any, good: Text) -> None:
    found = host_vars(loaded(project, good(SQLITE)))

    assert found["homeport_env_secret"] == []
    assert not set(KEYS) & set(found["homeport_env"])


def test_a_key_that_cannot_be_kept_secret_is_refused(project: Any, good: Text) -> None:
    with pytest.raises(HomeportError) as caught:
        collect(loaded(project, good(SQLITE)), {**KEYS, "BACKUP_SECRET_ACCESS_KEY": "abc"})

    assert caught.value.where == "environment: BACKUP_SECRET_ACCESS_KEY"


# the sandbox


class Sandbox:
    """What homeport.sandbox.get gives."""

    def __init__(self, root: Path) -> None:
        self.credentials = root / "s3-credentials"
        self.credentials.write_text("[default]\naws_access_key_id = SANDBOX\naws_secret_access_key = of-the-sandbox\n")

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": "sandbox",
            "address": "198.51.100.9",
            "ssh": {"user": "root", "port": 22, "key": "/s/key", "known_hosts": "/s/known_hosts"},
            "s3": {
                "endpoint": "http://198.51.100.10:8333",
                "region": "us-east-1",
                "bucket": "homeport",
                "credentials": str(self.credentials),
            },
            "acme": {"directory": "https://198.51.100.10:14000/dir", "ca": "/s/ca.pem", "root": "/s/root.pem"},
        }


def in_the_sandbox(project: Any, text: str, overlay: str = "") -> Any:
    if overlay:
        project.write(overlay, "deploy.sandbox.yml")
    sandbox = Sandbox(project.root)
    return loaded(project, text, "sandbox", sandboxes=lambda _: sandbox)


def test_the_sandbox_brings_its_own_store_and_keys(project: Any, good: Text) -> None:
    more = SQLITE.replace("shop-backups", "shop-backups, region: eu-central-1, require: [versioning], interval: 1s")

    found = in_the_sandbox(project, good(more))

    backup = found.config.backup
    assert (backup.bucket, backup.prefix, backup.endpoint) == ("homeport", "shop", "http://198.51.100.10:8333")
    assert (backup.region, backup.path_style, backup.require, backup.interval) == ("us-east-1", True, (), 1.0)
    assert str(found.origin["backup.bucket"]) == "sandbox"
    keys = {name: reveal(value) for name, value in backup_secrets(found, KEYS).items()}
    assert keys == {"access_key_id": "SANDBOX", "secret_access_key": "of-the-sandbox"}


def test_the_sandbox_needs_no_bucket_in_the_file(project: Any, good: Text) -> None:
    assert in_the_sandbox(project, good("database: {engine: sqlite}\n")).config.backup.bucket == "homeport"


def test_a_database_that_only_the_sandbox_has_gets_its_store_too(project: Any, good: Text) -> None:
    found = in_the_sandbox(project, good(""), "database: {engine: sqlite}\n")

    assert found.config.backup.bucket == "homeport"


def test_without_a_database_the_sandbox_brings_no_store(project: Any, good: Text) -> None:
    found = in_the_sandbox(project, good(""))

    assert (found.config.backup.bucket, found.credentials) == (None, None)
    assert collect(found, KEYS) == {}


def test_another_store_for_the_sandbox_takes_its_keys_from_the_environment(project: Any, good: Text) -> None:
    found = in_the_sandbox(project, good(SQLITE), "backup: {bucket: mine, endpoint: 'https://a.test'}\n")

    assert found.credentials is None
    assert reveal(backup_secrets(found, KEYS)["access_key_id"]) == "someone"


def test_keys_of_the_sandbox_that_cannot_be_read_are_told(project: Any, good: Text) -> None:
    found = in_the_sandbox(project, good(SQLITE))
    found.credentials.write_text("[default]\n")
    with pytest.raises(HomeportError) as lacking:
        collect(found, {})
    found.credentials.unlink()
    with pytest.raises(HomeportError) as missing:
        collect(found, {})

    assert lacking.value.fix == "deploy sandbox down, then deploy sandbox up"
    assert (missing.value.where, missing.value.fix) == (str(found.credentials), "deploy sandbox up")


# what is shown


def shown(project: Any, *args: str) -> str:
    return CliRunner().invoke(command, ["-c", str(project.root / "deploy.yml"), *args]).stdout


def test_what_a_backup_costs_is_a_line_of_its_own(project: Any, good: Text) -> None:
    project.write(good(SQLITE))

    assert shown(project, "--explain").splitlines()[-1] == (
        "backup.interval 250ms costs about 10.6 million PUT requests a month while writes never stop, "
        "97,000 at one write a minute"
    )
    project.write(good("database: {engine: sqlite}\nbackup: {enabled: false}\n"))
    assert "PUT" not in shown(project, "--explain")


def test_every_database_costs_and_a_longer_interval_costs_less(project: Any, good: Text) -> None:
    def cost(more: str, writes: float = 0.05) -> float:
        text = SQLITE.replace("shop-backups", f"shop-backups{more}")
        return requests_a_month(loaded(project, good(text)).config, writes)

    assert cost(", extra: [a.db]") == 2 * cost("")
    assert cost(", interval: 1s") < cost("") / 3.5
    assert cost(", interval: 1s", 60.0) == cost("", 60.0)


def test_no_value_of_a_key_is_shown(project: Any, good: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    project.write(good(SQLITE))

    for args in ([], ["--json"], ["--explain"], ["--explain", "--json"]):
        assert "BACKUP_SECRET_ACCESS_KEY" in shown(project, *args)
        assert "hunter2" not in shown(project, *args)


def test_what_is_shown_means_the_same(project: Any, good: Text) -> None:
    project.write("x\n", "ca.pem")
    before = loaded(project, good(FULL)).config

    text = shown(project)

    assert "retention: 30d" in text
    assert loaded(project, text).config == before
