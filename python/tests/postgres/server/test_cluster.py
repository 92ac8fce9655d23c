"""What `postgres.cluster` makes and asks, on a real server beside."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pgworld import Host

from hostctl.common.errors import USAGE, HostError
from hostctl.core.paths import Layout
from hostctl.postgres import upgrade
from hostctl.postgres.database import data_swap
from hostctl.postgres.server import cluster, create, scratch_server

DELETED = "7f00-7f01 r-xp 00000000 08:01 42 /usr/lib/postgresql/17/bin/postgres (deleted)"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (DELETED, "/usr/lib/postgresql/17/bin/postgres"),
        (DELETED.replace("r-xp", "r--p"), None),
        (DELETED.replace(" (deleted)", ""), None),
        ("7f00-7f01 r-xs 00000000 00:01 9 /dev/zero (deleted)", None),
        ("7f00-7f01 r-xp 00000000 00:00 0", None),
    ],
)
def test_code_that_was_replaced_on_disk_is_told_from_all_else_that_is_mapped(line: str, found: str | None) -> None:
    assert cluster._deleted_file(line) == found


def test_rows_keep_newlines_quotes_and_empty_fields() -> None:
    assert cluster.parse_rows('1,,"a\nb"\n\n"x ""y"""\n') == [["1", "", "a\nb"], [""], ['x "y"']]


def test_pg_upgrade_is_quoted_from_its_log_when_it_names_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the directories of a test are root's alone
    monkeypatch.setattr(cluster, "as_owner", lambda work, _=None: work())
    log = tmp_path / "dump.log"
    log.write_text("restoring\npg_restore: error: it cannot be\n")
    printed = f'Restoring ok\n*failure*\nConsult the last few lines of "{log}" for\nthe probable cause\n'

    assert upgrade._error_text(printed).endswith("pg_restore: error: it cannot be")
    printed = "Checking ok\nYour installation contains an error\nFailure, exiting\n"
    assert upgrade._error_text(printed).startswith("Your")


def test_an_upgrade_is_refused_where_no_newer_version_is_installed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    create.create(host.app, host)  # type: ignore[arg-type]
    monkeypatch.setattr(cluster, "installed_majors", lambda: [cluster.data_major(host.app.cluster_data)])

    with pytest.raises(HostError, match="newest installed version"):
        upgrade.plan(host.app)


def test_what_is_made_is_no_part_of_the_system_and_nobody_elses(host: Host) -> None:
    """pg_upgrade meets again whatever has a number of the system's own."""
    create.create(host.app, host)  # type: ignore[arg-type]
    config = cluster.require(host.app)

    with scratch_server.server(host.app, host, host.app.cluster_data, archive=True) as server:
        oids = "SELECT min(oid::int8) FROM pg_class WHERE relnamespace = 'homeport'::regnamespace"
        (found,) = cluster.query(server, oids, config.name)
        told = "SELECT datname FROM pg_database WHERE has_database_privilege('public', datname, 'CONNECT')"
        open_to_all = cluster.query(server, told)
        (checksums,) = cluster.query(server, "SHOW data_checksums")
        bound = cluster.query(server, "SELECT :'x'", bound={"x": "it's\nü"})
        with pytest.raises(HostError, match=r'^PostgreSQL: ERROR:  relation "nope" does not exist$') as missing:
            cluster.query(server, "SELECT * FROM nope")
        rename = 'ALTER DATABASE :"name" RENAME TO other'
        with server_session(server, config.name), pytest.raises(HostError) as busy:
            cluster.administer(server, rename, bound={"name": config.name})
        with server_session(server, config.name):
            data_swap.rename(server, {config.name: "other"})

    assert int(found[0]) >= 16384
    assert open_to_all == [["template0"]]  # which lets nobody in
    assert (checksums, bound) == (["on"], [["it's\nü"]])
    assert (missing.value.reason, busy.value.reason) == ("42P01", cluster.OBJECT_IN_USE)


@contextmanager
def server_session(server: cluster.Server, database: str) -> Iterator[None]:
    """A session that stays in the database."""
    argv = [server.bin / "psql", "-XAtq", "-h", server.socket, "-U", cluster.SUPERUSER, "-d", database]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as psql:
        assert psql.stdin is not None
        assert psql.stdout is not None
        psql.stdin.write(b"SELECT 1;\n")
        psql.stdin.flush()
        assert psql.stdout.readline() == b"1\n"
        yield
        psql.kill()


@pytest.mark.parametrize(
    ("printed", "state"),
    [
        ("psql:<stdin>:3: WARNING:  25P01: there is no transaction\npsql:<stdin>:4: ERROR:  55006: in use\n", "55006"),
        ("ERROR:  42P01: no such relation\nLOCATION:  parserOpenTable, parse_relation.c:1392\n", "42P01"),
        ("psql: error: connection to server on socket failed: FATAL:  role does not exist\n", ""),
    ],
)
def test_the_sqlstate_of_an_error_is_read(printed: str, state: str) -> None:
    assert cluster.sqlstate(printed) == state


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("work_mem = '8XB'", "work_mem"),
        ("no_such_thing = 1", "no_such_thing"),
        ("shared_preload_libraries = 'no_such_library'", "no_such_library"),
    ],
)
def test_a_configuration_that_the_server_would_not_start_with_is_refused(host: Host, setting: str, said: str) -> None:
    create.create(host.app, host)  # type: ignore[arg-type]
    file = host.app.database.with_name("postgresql.conf")
    cluster.check_configuration(host.app)
    file.write_text(f"{file.read_text()}\n{setting}\n")

    with pytest.raises(HostError, match=said):
        cluster.check_configuration(host.app)


def test_a_library_that_is_not_installed_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    app = Layout(tmp_path).app("shop")
    cluster.refuse_missing_libraries(app, "")
    cluster.refuse_missing_libraries(app, "pg_stat_statements, auto_explain.so,'$libdir/anything'")
    with pytest.raises(HostError, match="no_such_library") as refused:
        cluster.refuse_missing_libraries(app, "pg_stat_statements, no_such_library")
    assert refused.value.code == USAGE
    assert not list(tmp_path.iterdir())
