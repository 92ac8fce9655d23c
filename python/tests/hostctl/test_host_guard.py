from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pytest
from hostworld import FakeSystemd, World, unlaunched

from hostctl.backup.settings import Backup, Database, Databases
from hostctl.common.errors import HostError
from hostctl.journal import journal
from hostctl.journal.engine import Work
from hostctl.sqlite import pragmas, settings_check
from hostctl.sqlite.pragmas import Settings

MAIN = "/var/lib/shop/shop.db"
SAFE = Settings(MAIN, 0, 5000, "wal", "3.53.0", "shop", "Shop.Repo")
BACKUP = Backup("bucket", "shop", "us-east-1")


def databases(backup: Backup | None = BACKUP, unsafe: bool = False, extra: Sequence[str] = ()) -> Databases:
    files = tuple(Database(Path(path).name, Path(path)) for path in (MAIN, *extra))
    return Databases("shop", Path("/usr/local/lib/homeport/litestream"), unsafe, files, backup)


# ---------------------------------------------------------------------------------------------- judging


def test_safe_settings_pass_without_a_word() -> None:
    assert pragmas.judge([SAFE], databases()) == (None, [])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"wal_autocheckpoint": 1000}, "wal_autocheckpoint is 1000, and must be 0"),
        ({"wal_autocheckpoint": 1}, "wal_autocheckpoint is 1, and must be 0"),
        ({"busy_timeout": 999}, "busy_timeout is 999 ms, and must be at least 1000"),
        ({"journal_mode": "delete"}, "journal_mode is delete, and must be wal"),
    ],
)
def test_each_unsafe_setting_is_refused_with_the_lines_of_configuration_that_mend_it(
    given: dict[str, Any], says: str
) -> None:
    refusal = pragmas.judge([SAFE._replace(**given)], databases()).refusal
    assert refusal is not None
    assert f"Shop.Repo: {says}" in refusal.what
    assert refusal.where == "config/runtime.exs, Shop.Repo"
    assert "\n    config :shop, Shop.Repo, wal_auto_check_point: 0\n" in refusal.fix
    assert "\n    config :shop, Shop.Repo, busy_timeout: 5000\n" in refusal.fix
    assert ("journal_mode: :wal" in refusal.fix) == ("journal_mode" in given)
    assert "unsafe_checkpoints: allow" in refusal.fix


def test_without_ecto_the_lines_are_pragmas() -> None:
    refusal = pragmas.judge([SAFE._replace(wal_autocheckpoint=1000, app="", repo="")], databases()).refusal
    assert refusal is not None
    assert refusal.where == MAIN
    assert "\n    PRAGMA wal_autocheckpoint = 0\n    PRAGMA busy_timeout = 5000\n" in refusal.fix


def test_one_unsafe_repo_among_safe_ones_is_found() -> None:
    other = Settings("/var/lib/shop/jobs.db", 1000, 5000, "wal", "3.53.0", "shop", "Shop.Jobs")
    refusal = pragmas.judge([SAFE, other], databases(extra=["/var/lib/shop/jobs.db"])).refusal
    assert refusal is not None
    assert "Shop.Jobs" in refusal.what
    assert "Shop.Repo" not in refusal.what


def test_allowed_unsafe_settings_pass_and_what_stays_open_is_said() -> None:
    verdict = pragmas.judge([SAFE._replace(wal_autocheckpoint=1000)], databases(unsafe=True))
    assert verdict.refusal is None
    assert len(verdict.notes) == 1
    assert "wal_autocheckpoint is 1000" in verdict.notes[0]
    assert "Until that snapshot the backup may lack rows" in verdict.notes[0]


@pytest.mark.parametrize("unsafe", [False, True])
@pytest.mark.parametrize("path", ["/srv/shop/current/shop.db", "/var/lib/shop/other.db", ""])
def test_another_file_than_the_one_streamed_is_always_refused(path: str, unsafe: bool) -> None:
    refusal = pragmas.judge([SAFE._replace(path=path)], databases(unsafe=unsafe)).refusal
    assert refusal is not None
    assert MAIN in refusal.what
    assert (path or "in memory") in refusal.what
    assert 'config :shop, Shop.Repo, database: System.fetch_env!("DATABASE_PATH")' in refusal.fix


def test_a_link_to_the_streamed_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    found = SAFE._replace(path=str(tmp_path / "disk" / "shop.db"))
    dbs = databases()._replace(databases=(Database("shop.db", tmp_path / "data" / "shop.db"),))
    assert pragmas.judge([found], dbs).refusal is None


def test_a_further_file_that_is_not_backed_up_is_named_and_its_settings_are_its_own_affair() -> None:
    cache = Settings("/var/lib/shop/cache.db", 1000, 0, "off", "3.53.0", "shop", "Shop.Cache")
    memory = cache._replace(path="", repo="Shop.Memory")
    refusal, notes = pragmas.judge([SAFE, cache, memory], databases())
    assert refusal is None
    assert notes == [
        "Shop.Cache writes to /var/lib/shop/cache.db, which is not backed up: name it in backup.extra if it should be"
    ]


@pytest.mark.parametrize(("version", "warned"), [("3.40.1", 1), ("3.51.2", 1), ("3.51.3", 0), ("3.53.0", 0), ("4", 0)])
def test_a_version_with_the_corruption_bug_is_warned_of_by_name(version: str, warned: int) -> None:
    verdict = pragmas.judge([SAFE._replace(sqlite_version=version)], databases())
    assert verdict.refusal is None
    assert [note for note in verdict.notes if f"SQLite {version}" in note and "WAL-reset" in note] == verdict.notes
    assert len(verdict.notes) == warned


def test_without_a_backup_the_app_may_checkpoint_and_is_warned_when_it_does_not() -> None:
    assert pragmas.judge([SAFE._replace(wal_autocheckpoint=1000)], databases(backup=None)) == (None, [])
    refusal, (note,) = pragmas.judge([SAFE], databases(backup=None))
    assert refusal is None
    assert "grows without end" in note


# ---------------------------------------------------------------------------------------------- reading


def test_settings_are_found_among_whatever_else_a_release_prints() -> None:
    line = json.dumps(SAFE._asdict())
    output = (
        f'12:00:00 [info] starting {{"a": 1}}\nhomeport-settings {line}\n{line}\n{{"path": "x"}}\n[1]\n\n{{nonsense\n'
    )
    assert pragmas.parse(output) == [SAFE, SAFE]


@pytest.mark.parametrize("value", [None, "many", [], {}])
def test_what_is_no_number_is_no_answer(value: object) -> None:
    assert pragmas.parse(json.dumps({**SAFE._asdict(), "wal_autocheckpoint": value})) == []


def test_numbers_in_quotes_are_numbers() -> None:
    assert pragmas.parse(json.dumps({**SAFE._asdict(), "busy_timeout": "5000"})) == [SAFE]


# ---------------------------------------------------------------------------------------------- the step


class Answering(FakeSystemd):
    """A host whose release answers the question as told."""

    def __init__(self, world: World, output: str, status: int) -> None:
        super().__init__(world)
        self.output, self.status = output, status
        self.asked: list[list[str]] = []

    def foreground(self, unit: str, argv: Sequence[str], properties: Sequence[str], output: IO[bytes]) -> int:
        self.asked.append([unit, *unlaunched(argv)])
        output.write(self.output.encode())
        return self.status


def pushing(world: World, output: str, status: int = 0, program: str | None = None, allow: str = "refuse") -> Work:
    """A push that is about to ask its release."""
    world.push("one")
    path = world.app.data / "shop.db"
    told: dict[str, Any] = {
        "engine": "sqlite",
        "user": "shop",
        "litestream": "/litestream",
        "unsafe_checkpoints": allow,
    }
    told |= {"databases": [{"name": "shop.db", "path": str(path)}], "backup": BACKUP._asdict()}
    world.app.database.write_text(json.dumps(told))
    world.systemd = Answering(world, output, status)
    entry = journal.every(world.app)[-1]
    entry.content["settings"]["database"] = {"engine": "sqlite", "path": str(path), "settings": program}
    return Work(world.app, entry, world)  # type: ignore[arg-type]


def answer(world: World, **given: object) -> str:
    return json.dumps({**SAFE._replace(path=str(world.app.data / "shop.db"))._asdict(), **given}) + "\n"


def asked(work: Work) -> list[list[str]]:
    systemd: Any = work.host.systemd
    found: list[list[str]] = systemd.asked
    return found


def events(work: Work) -> str:
    return (work.journal.directory / "events.jsonl").read_text()


def test_the_release_is_asked_in_its_own_unit_by_ecto_or_by_its_program(world: World) -> None:
    work = pushing(world, answer(world))
    assert "wal_autocheckpoint 0, busy_timeout 5000 ms" in (settings_check.check(work) or "")
    tree = world.app.tree(work.release)
    unit = f"homeport-shop-settings-{work.release}.service"
    assert asked(work) == [[unit, str(tree / "bin/shop"), "eval", settings_check.ECTO]]
    work.settings["database"]["settings"] = "bin/migrate"
    settings_check.check(work)
    assert asked(work)[1:] == [[unit, str(tree / "bin/migrate")]]


def test_a_program_that_the_release_does_not_have_is_named(world: World) -> None:
    with pytest.raises(HostError, match="no bin/settings") as caught:
        settings_check.check(pushing(world, "", program="bin/settings"))
    assert "rel/overlays/bin/settings" in caught.value.fix


def test_an_unsafe_release_stops_the_push(world: World) -> None:
    with pytest.raises(HostError, match="wal_autocheckpoint is 1000"):
        settings_check.check(pushing(world, answer(world, wal_autocheckpoint=1000)))


def test_an_allowed_one_is_noted(world: World) -> None:
    work = pushing(world, answer(world, wal_autocheckpoint=1000), allow="allow")
    assert settings_check.check(work)
    assert "Until that snapshot the backup may lack rows" in events(work)


@pytest.mark.parametrize(
    ("output", "status", "mends"),
    [
        ("", 0, "database.settings in deploy.yml"),
        ("nothing of use\n", 0, "database.settings in deploy.yml"),
        (json.dumps(SAFE._asdict()), 1, "correct the error in these lines"),
    ],
)
def test_a_release_that_says_nothing_usable_is_refused_with_its_last_lines_and_without_its_secrets(
    world: World, output: str, status: int, mends: str
) -> None:
    work = pushing(world, f"{output}\nthe key is {world.secret}\n", status)
    with pytest.raises(HostError, match=f"exit status {status}") as caught:
        settings_check.check(work)
    assert "the key is [redacted]" in caught.value.what
    assert mends in caught.value.fix
    log = Path(caught.value.where)
    assert world.secret not in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_silent_program_is_told_what_to_print(world: World) -> None:
    with pytest.raises(HostError, match="bin/migrate, exit status 0") as caught:
        settings_check.check(pushing(world, "", program="bin/migrate"))
    assert '"wal_autocheckpoint": 0' in caught.value.fix


def test_a_silent_release_passes_where_unsafe_checkpoints_are_allowed(world: World) -> None:
    work = pushing(world, "", allow="allow")
    assert settings_check.check(work) == "not told"
    assert "unsafe_checkpoints is allowed" in events(work)


def test_an_app_without_a_database_is_not_asked(world: World) -> None:
    work = pushing(world, "")
    work.journal.content["settings"]["database"] = None
    assert settings_check.check(work) is None
    assert asked(work) == []


def test_the_question_has_nothing_in_it_that_systemd_would_replace() -> None:
    assert "$" not in settings_check.ECTO
    assert "%" not in settings_check.ECTO
