"""A host with PostgreSQL: what provisioning makes of it, what it changes later, and what it leaves behind."""

from __future__ import annotations

import json

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import SETTINGS, Json, Project, new_project, on_host, open_ports, public_ports

APP = "register"
DOMAIN = f"{APP}.sandbox.test"
SOCKET = f"/run/homeport-{APP}-postgres"
UNIT = f"homeport-{APP}-postgres.service"
CONFIG = f"/etc/homeport/{APP}/postgresql.conf"
OWN: Json = {**SETTINGS, "app": APP, "domains": [DOMAIN], "backup": {"enabled": False}}


@pytest.fixture(scope="module")
def set_up(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """An app on PostgreSQL without a backup, provisioned, and never pushed."""
    project = new_project(tmp_path_factory.mktemp(APP) / "project", box, OWN, DOMAIN, "guestbook")
    project.deploy("provision")
    return project


@pytest.fixture
def app(set_up: Project) -> Project:
    set_up.configure(**OWN, database={"engine": "postgres"})
    return set_up


def sql(box: Sandbox, statement: str, who: str = "root", role: str = "postgres") -> str:
    """What a statement prints, or what the refusal says."""
    psql = f'psql -XAt -h {SOCKET} -U {role} -d {APP} -c "{statement}"'
    return on_host(box, f"setpriv --reuid={who} --clear-groups {psql} 2>&1 || true")


def main_pid(box: Sandbox) -> str:
    return on_host(box, f"systemctl show --value -p MainPID {UNIT}")


def test_from_outside_the_host_has_ssh_and_the_edge_and_nothing_else(app: Project) -> None:
    assert open_ports(app.box.address) == [22, 80, 443]
    assert public_ports(app.box) == [22, 80, 443]


def test_a_user_of_the_host_is_let_in_as_the_role_of_the_app_that_it_belongs_to_alone(app: Project) -> None:
    on_host(app.box, "id otherapp >/dev/null 2>&1 || useradd --system otherapp")

    assert sql(app.box, "SELECT current_user", APP, APP) == APP
    assert sql(app.box, "SELECT current_user", "deploy", APP) == APP  # deploy db tunnel
    assert "Peer authentication failed" in sql(app.box, "SELECT 1", "otherapp", APP)
    assert "Peer authentication failed" in sql(app.box, "SELECT 1", "deploy", "postgres")
    assert "Peer authentication failed" in sql(app.box, "SELECT 1", APP, "postgres")


def test_the_server_is_confined_and_debian_made_no_cluster_of_its_own(app: Project) -> None:
    rated = on_host(app.box, f"systemd-analyze security --no-pager {UNIT} | tail -1")

    assert float(rated.split(":")[1].split()[0]) <= 1.5
    assert on_host(app.box, "pg_lsclusters --no-header") == ""
    assert sql(app.box, "SHOW data_checksums") == "on"


def test_another_run_changes_nothing(app: Project) -> None:
    assert app.deploy("provision", "--json").json["changed"] == 0


def test_a_setting_that_postgresql_would_refuse_never_reaches_the_host(app: Project) -> None:
    before = on_host(app.box, f"sha256sum {CONFIG}")
    app.configure(database={"engine": "postgres", "parameters": {"work_memory": "8MB"}})

    refused = app.deploy("provision", check=False)

    assert refused.code == 2
    assert "work_memory" in refused.err
    assert on_host(app.box, f"sha256sum {CONFIG}") == before


def test_settings_are_taken_over_with_a_restart_only_where_it_takes_one(app: Project) -> None:
    first = main_pid(app.box)
    app.configure(database={"engine": "postgres", "parameters": {"work_mem": "9MB"}})
    app.deploy("provision")
    reloaded = (sql(app.box, "SHOW work_mem"), main_pid(app.box))
    app.configure(database={"engine": "postgres", "pool": 20})
    app.deploy("provision")

    assert reloaded == ("9MB", first)
    assert sql(app.box, "SHOW max_connections") == "55"
    assert sql(app.box, "SHOW work_mem") != "9MB"
    assert main_pid(app.box) != first


def test_the_watch_restarts_a_server_whose_program_an_update_has_replaced(app: Project) -> None:
    before = main_pid(app.box)
    program = on_host(app.box, f"readlink -f /proc/{before}/exe")
    watch = f"hostctl {APP} stream watch"
    on_host(app.box, watch)
    assert main_pid(app.box) == before

    on_host(app.box, f"cp -p {program} {program}.new && mv {program}.new {program} && {watch}")

    assert main_pid(app.box) != before
    told = json.loads(on_host(app.box, f"tail -1 /var/lib/homeport/{APP}/audit.jsonl"))
    assert "an update replaced" in told["message"]


@pytest.mark.full
def test_without_a_database_its_units_are_gone_and_its_data_is_kept(app: Project) -> None:
    app.configure(database={"engine": "none"}, backup={"bucket": None})

    app.deploy("provision")

    assert on_host(app.box, f"ls /etc/systemd/system | grep homeport-{APP}- || true") == ""
    assert on_host(app.box, f"cat /var/lib/postgresql/homeport/{APP}/data/PG_VERSION").isdigit()
    app.configure(**OWN, database={"engine": "postgres"})
    app.deploy("provision")
    assert sql(app.box, "SELECT count(*) FROM homeport.canary") == "0"
