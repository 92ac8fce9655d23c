"""database.json and the keys of the bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hostctl.backup import settings
from hostctl.common.errors import HostError
from hostctl.core import schema
from hostctl.core.paths import App, Layout

FULL = {
    "engine": "sqlite",
    "user": "shop",
    "litestream": "/usr/local/lib/homeport/litestream-0.5.17",
    "unsafe_checkpoints": "allow",
    "databases": [
        {"name": "shop.db", "path": "/var/lib/shop/shop.db"},
        {"name": "x/y.db", "path": "/var/lib/shop/x/y.db"},
    ],
    "backup": {
        "bucket": "b",
        "prefix": "shop",
        "region": "us-east-1",
        "endpoint": None,
        "path_style": False,
        "ca": "/etc/homeport/shop/backup-ca.pem",
        "interval": 0.1,
        "snapshot_interval": 60,
        "retention": 3600,
        "drill": "daily",
        "verify": ["SELECT 1"],
        "max_lag": 30,
        "require": ["versioning"],
    },
}


@pytest.fixture
def app(tmp_path: Path) -> App:
    found = Layout(tmp_path).app("shop")
    found.database.parent.mkdir(parents=True)
    return found


def write(app: App, **more: object) -> None:
    app.database.write_text(json.dumps({**FULL, **more}))


def test_everything_that_is_written_down_is_read(app: App) -> None:
    write(app)
    found, backup = settings.require_backup(app)
    assert found.unsafe
    assert found.main.name == "shop.db"
    assert found.named("x/y.db").path == Path("/var/lib/shop/x/y.db")
    assert (backup.interval, backup.verify, backup.require) == (0.1, ("SELECT 1",), ("versioning",))
    assert backup.ca == Path("/etc/homeport/shop/backup-ca.pem")


def test_an_app_without_a_database_has_none(app: App) -> None:
    assert settings.load(app) is None
    with pytest.raises(HostError, match="has no SQLite database"):
        settings.require(app)


def test_a_database_without_a_backup(app: App) -> None:
    write(app, backup=None, unsafe_checkpoints="refuse")
    assert settings.require(app).backup is None
    assert not settings.require(app).unsafe
    with pytest.raises(HostError, match="has no backup"):
        settings.require_backup(app)


@pytest.mark.parametrize("text", ["", "[]", '{"databases": []}', '{"user": "shop"}', "{"])
def test_a_file_that_is_not_as_it_should_be_is_named(app: App, text: str) -> None:
    app.database.write_text(text)
    with pytest.raises(HostError, match=r"database\.json cannot be read"):
        settings.load(app)


def test_a_name_that_is_none_of_the_apps_is_refused(app: App) -> None:
    write(app)
    with pytest.raises(HostError, match="there is no database"):
        settings.require(app).named("other.db")


# ------------------------------------------------------------------------------- keys


def test_keys_are_kept_for_root_alone_and_a_null_keeps_what_is_there(app: App) -> None:
    assert settings.save_credentials(app, {"access_key_id": "AK", "secret_access_key": 's"\\$`'})
    assert settings.credentials(app) == settings.Credentials("AK", 's"\\$`')
    assert app.backup_credentials.stat().st_mode & 0o777 == 0o600
    assert not settings.save_credentials(app, {"access_key_id": None, "secret_access_key": None})
    assert settings.save_credentials(app, {"access_key_id": None, "secret_access_key": "new"})
    assert settings.credentials(app) == settings.Credentials("AK", "new")


def test_a_null_with_nothing_to_keep_is_refused(app: App) -> None:
    with pytest.raises(HostError, match="has no keys"):
        settings.save_credentials(app, {"access_key_id": "AK", "secret_access_key": None})


def test_keys_that_cannot_be_read_are_not_shown(app: App) -> None:
    app.backup_credentials.write_text("SECRET=plain")
    with pytest.raises(HostError) as caught:
        settings.credentials(app)
    assert "plain" not in repr(caught.value)
    assert "cannot be read" in caught.value.what


@pytest.mark.parametrize("value", ["", "with space", "line\nbreak", "ü", 7, ["x"]])
def test_what_no_header_can_carry_is_no_key(value: object) -> None:
    assert schema.mistakes(settings.KEYS, {"access_key_id": value, "secret_access_key": None})
