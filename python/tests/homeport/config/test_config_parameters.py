"""database.parameters: what PostgreSQL would not take is told before its server is touched, and all else passes."""

# ruff: noqa: E501 - tables of whole messages

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.config import parameters
from homeport.config.values import MistakesError

Text = Callable[[str], str]


def database(parameters: str) -> str:
    return f"backup: {{enabled: false}}\ndatabase:\n  engine: postgres\n  parameters:\n    {parameters}\n"


# line 8 of deploy.yml -> what is said of it
MISTAKES = [
    ("work_mme: 16MB", 'work_mme: is no setting of PostgreSQL 15 or 17; did you mean "work_mem"?'),
    ("entirely_else: 1", "entirely_else: is no setting of PostgreSQL 15 or 17"),
    ("pg_stat_statements.maximum: 5000", '"pg_stat_statements.maximum": is no setting of PostgreSQL 15 or 17; did you mean "pg_stat_statements.max"?'),
    ("work_mem: 16mb", 'work_mem: must be a whole number of B, kB, MB, GB or TB, from 64kB to 2147483647kB (got "16mb")'),
    ("work_mem: 16", 'work_mem: must be a whole number of B, kB, MB, GB or TB, from 64kB to 2147483647kB (got "16")'),
    ("shared_buffers: 64kB", 'shared_buffers: must be a whole number of B, kB, MB, GB or TB, from 128kB to 8589934584kB (got "64kB")'),
    ("maintenance_work_mem: 64kB", 'maintenance_work_mem: must be a whole number of B, kB, MB, GB or TB, from 1MB to 2147483647kB (got "64kB")'),
    ("statement_timeout: 5 minutes", 'statement_timeout: must be a whole number of us, ms, s, min, h or d, from 0 to 2147483647ms (got "5 minutes")'),
    ("random_page_cost: -1", 'random_page_cost: must be a number, from 0 on (got "-1")'),
    ("max_worker_processes: 8MB", 'max_worker_processes: must be a whole number, from 0 to 262143 (got "8MB")'),
    ("jit: maybe", 'jit: must be on or off (got "maybe")'),
    ("synchronous_commit: soon", 'synchronous_commit: must be local, remote_write, remote_apply, on or off (got "soon")'),
    ("work_mem:", 'work_mem: must be a value: write "" for an empty one (got nothing)'),
    ("work_mem: [1]", 'work_mem: must be a value: write "" for an empty one'),
    ('search_path: "a\\nb"', 'search_path: holds a control character, which no setting may (got "a\\nb")'),
    ("max_connections: 20", "max_connections: must be at least 35: twice database.pool, for the overlap of a push, and 15 more"),
    ("listen_addresses: '*'", "listen_addresses: is Homeport's own: the server answers on the Unix socket of its app, and nowhere else"),
    ("ssl_cert_file: x", "ssl_cert_file: is Homeport's own: the server answers on the Unix socket of its app, and nowhere else"),
    ("Port: 5433", "Port: is Homeport's own: the server answers on the Unix socket of its app, and nowhere else"),
    ("data_directory: /x", "data_directory: is Homeport's own: Homeport decides where its files are"),
    ("archive_command: x", "archive_command: is Homeport's own: the backup depends on it: see backup"),
    ("archive_timeout: 60", "archive_timeout: is Homeport's own: set backup.archive_timeout"),
    ("wal_level: minimal", "wal_level: is Homeport's own: the backup depends on it: see backup"),
    ("recovery_target_time: now", "recovery_target_time: is Homeport's own: restores and drills set it for themselves"),
    ("fsync: off", "fsync: is Homeport's own: another value may lose or corrupt written data"),
    ("logging_collector: on", "logging_collector: is Homeport's own: the log goes to the journal"),
    ("block_size: 8192", "block_size: cannot be set: it is decided when PostgreSQL is built or its cluster is made"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "said"), MISTAKES, ids=[more for more, _ in MISTAKES])
def test_a_setting_that_the_server_would_refuse_is_told_with_its_line(
    project: Any, good: Text, more: str, said: str
) -> None:
    assert project.mistakes(good(database(more))) == [f"deploy.yml:8 database.parameters.{said}"]


def test_a_setting_is_there_once_in_whatever_letters(project: Any, good: Text) -> None:
    found = project.mistakes(good(database("timezone: UTC\n    TimeZone: UTC")))

    assert found == ["deploy.yml:9 database.parameters.TimeZone: is there twice, in other letters: keep one"]


@pytest.mark.parametrize(
    ("written", "name", "text"),
    [
        ("jit: off", "jit", "off"),
        ("jit: true", "jit", "true"),
        ("jit: No", "jit", "No"),
        ("work_mem: 16MB", "work_mem", "16MB"),
        ("work_mem: 16384", "work_mem", "16384"),
        ("work_mem: 1.5 GB", "work_mem", "1.5 GB"),
        ("random_page_cost: 1.10", "random_page_cost", "1.10"),
        ("autovacuum_vacuum_scale_factor: 5e-2", "autovacuum_vacuum_scale_factor", "5e-2"),
        ("statement_timeout: 1min", "statement_timeout", "1min"),
        ("log_min_duration_statement: -1", "log_min_duration_statement", "-1"),
        ("synchronous_commit: yes", "synchronous_commit", "yes"),
        ("max_connections: 35", "max_connections", "35"),
        ("max_connections: 1e2", "max_connections", "1e2"),
        ("MAX_CONNECTIONS: 0x40", "max_connections", "0x40"),
        ("timezone: Europe/Berlin", "TimeZone", "Europe/Berlin"),
        ("search_path: ''", "search_path", ""),
        ("pg_stat_statements.max: 5000", "pg_stat_statements.max", "5000"),
        ("shop.tenant: 7", "shop.tenant", "7"),
    ],
)
def test_what_postgresql_takes_passes_as_it_is_written(
    project: Any, good: Text, written: str, name: str, text: str
) -> None:
    found = project.write(good(database(written))).load()

    assert found.config.database.parameters == {name: text}
    assert found.warnings == ()


def test_a_setting_of_one_version_alone_is_a_warning(project: Any, good: Text) -> None:
    found = project.write(good(database("transaction_timeout: 5min"))).load()

    assert found.warnings == (
        "deploy.yml:8 database.parameters.transaction_timeout: is known to PostgreSQL 17 alone: "
        "a server of another version does not start with it",
    )


def test_where_a_setting_comes_from_is_known_even_of_a_name_with_a_dot(project: Any, good: Text) -> None:
    found = project.write(good(database("pg_stat_statements.max: 5000"))).load()

    assert str(found.origin["database.parameters.pg_stat_statements.max"]) == "deploy.yml:8"


# the list itself


def test_both_versions_are_known_whole() -> None:
    rows = [row for rows in parameters.settings_by_name().values() for row in rows]

    for version in parameters.VERSIONS:
        assert sum(version in row.versions for row in rows) > 350
    assert {row.kind for row in rows} == {"bool", "enum", "integer", "real", "string", "internal"}
    assert all(any(name.startswith(own) for name in parameters.settings_by_name()) for own in parameters.OWN)


NUMBERS = [rows[-1] for rows in parameters.settings_by_name().values() if rows[-1].kind in ("integer", "real")]


@given(st.sampled_from(NUMBERS), st.data())
def test_a_number_passes_within_its_range_in_any_unit_and_not_outside(row: Any, data: st.DataObject) -> None:
    whole = row.kind == "integer"
    inside = st.integers(int(row.least), int(row.most)) if whole else st.floats(row.least, row.most)
    number = data.draw(inside)

    assert parameters._value_mistake(row, repr(number)) == ""
    for outside in (row.least - 1, row.most + 1):
        if whole:
            assert parameters._value_mistake(row, str(int(outside))) != ""
    if whole and number > 0 and (units := parameters._units(row.unit)):
        small = min(units, key=lambda name: units[name])
        assert parameters._number(row, f"{number * parameters._unit_size(row.unit) // units[small]}{small}") == number


@given(
    st.dictionaries(
        st.text(), st.none() | st.text() | st.integers() | st.floats() | st.booleans() | st.lists(st.none())
    )
)
def test_what_passes_is_text_without_control_characters_under_a_name_that_postgresql_takes(given: Any) -> None:
    try:
        found = parameters.parse(given)
    except MistakesError:
        return
    for name, text in found.items():
        assert parameters._OF_A_MODULE.fullmatch(name) or name.lower() in parameters.settings_by_name()
        assert text.isprintable() or not any(character < " " for character in text)


@given(st.text(max_size=12), st.sampled_from(["work_mem", "jit", "synchronous_commit", "statement_timeout"]))
def test_no_text_confuses_the_check(text: str, name: str) -> None:
    with suppress(MistakesError):
        assert parameters.parse({name: text}) == {name: text}


SERVERS = [
    path for version in parameters.VERSIONS if (path := Path(f"/usr/lib/postgresql/{version}/bin/postgres")).exists()
]


@pytest.mark.skipif(not SERVERS, reason="no PostgreSQL of these versions is installed")
def test_the_list_is_that_of_the_installed_server() -> None:
    for server in SERVERS:
        told = subprocess.run([server, "--describe-config"], capture_output=True, text=True, check=True).stdout
        for name, _, _, kind, _, least, most, *_ in (line.split("\t") for line in told.splitlines()):
            row = next(row for row in parameters.settings_by_name()[name.lower()] if server.parts[4] in row.versions)
            assert (row.name, row.kind) == (name, KINDS[kind])
            if row.kind in ("integer", "real"):
                assert (row.least, row.most) == (pytest.approx(float(least)), pytest.approx(float(most)))


KINDS = {"BOOLEAN": "bool", "ENUM": "enum", "INTEGER": "integer", "REAL": "real", "STRING": "string"}
