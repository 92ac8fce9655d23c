"""A hostile app on a real host, in its own database and in PostgreSQL's directories: docs/explanation/security.md."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.writer import Writer
from homeport.sandbox import Sandbox
from tests.apps.support import build_guestbook
from tests.host.support import SETTINGS, Project, bring_up, new_project, on_host, until

APP = "guestbook"
DOMAIN = f"{APP}.sandbox.test"
SOCKET = f"/run/homeport-{APP}-postgres"
HOME = "/var/lib/postgresql"
CLUSTER = f"{HOME}/homeport/{APP}"
SCRATCH = f"homeport-{APP}-scratch.drill.service"
# what makes the app's role a superuser as soon as a superuser calls it
EVIL = f"""
CREATE SCHEMA IF NOT EXISTS evil;
CREATE OR REPLACE FUNCTION evil.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('is_superuser') = 'on' THEN ALTER ROLE {APP} SUPERUSER; END IF;
  RETURN pg_catalog.to_regclass($1);
END $$;
ALTER DATABASE {APP} SET search_path = evil, pg_catalog, public;
"""
REFUSED = [
    f"ALTER DATABASE {APP} SET search_path = evil",
    f"ALTER DATABASE {APP} WITH ALLOW_CONNECTIONS false",
    f"ALTER ROLE {APP} CONNECTION LIMIT -1",
    "SET ROLE homeport_reader",
    "DROP SCHEMA homeport CASCADE",
    "COPY (SELECT 1) TO PROGRAM 'id'",
]


def sql(box: Sandbox, statements: str, role: str = "postgres") -> str:
    """What statements print; the app's own user runs them as the app's role, root as the superuser."""
    user = "root" if role == "postgres" else role
    psql = f"psql -XAtq -v ON_ERROR_STOP=1 -h {SOCKET} -U {role} -d {APP}"
    return on_host(box, f"echo {shlex.quote(statements)} | runuser -u {user} -- {psql} 2>&1 || true")


def superuser(box: Sandbox) -> bool:
    return sql(box, f"SET search_path = ''; SELECT rolsuper FROM pg_roles WHERE rolname = '{APP}'") == "t"


def watch(box: Sandbox) -> dict[str, Any]:
    """What the monitor finds; it finds nothing while another process, that of every minute for instance, is at work."""
    results: list[dict[str, Any]] = []

    def is_done() -> bool:
        results.append(json.loads(on_host(box, f"hostctl {APP} stream watch")))
        return "error" in results[-1]

    until(is_done, "the monitor has its turn")
    return results[-1]


def look_at_the_copy(box: Sandbox) -> dict[str, str]:
    """What the confinement of a drill's server is, while it runs; {} while there is none.

    One command, because the server of a small database runs for a second.
    """
    inside = f"nsenter -t $pid -m ls {HOME}/homeport/ {CLUSTER} /etc/homeport"
    script = f"""
pid=$(systemctl show --value -p MainPID {SCRATCH}); [ "$pid" != 0 ] || exit 0
bound=$(systemctl show --value -p BindsTo {SCRATCH})
seen=$({inside}) || exit 0
state=$(nsenter -t $pid -m ls /var/lib) || exit 0
rated=$(systemd-analyze security --no-pager {SCRATCH} | tail -1)
[ -d /proc/$pid ] || exit 0
printf '%s\\0' "bound=$bound" "seen=$seen" "state=$state" "rated=$rated"
"""
    return dict(line.split("=", 1) for line in on_host(box, script).split("\0") if "=" in line)


@pytest.fixture(scope="module")
def app(box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The app on PostgreSQL, archived."""
    directory = tmp_path_factory.mktemp("hostile-postgres")
    project = new_project(directory / "project", box, {**SETTINGS, "domains": [DOMAIN]}, DOMAIN, APP)
    bring_up(project, build_guestbook(directory / "built", 1))
    watch = f"hostctl {APP} stream watch >/dev/null; hostctl {APP} backup status"
    until(lambda: bool(json.loads(on_host(box, watch))["database"]["backup"]["full"]), "a base backup is taken", 240)
    return project


@pytest.fixture
def hostile(app: Project) -> Iterator[Project]:
    """As a host was before: the database is the app's, which sets a trap in it."""
    sql(app.box, f"ALTER DATABASE {APP} OWNER TO {APP}")
    sql(app.box, EVIL, APP)
    yield app
    sql(app.box, f"SET search_path = ''; ALTER ROLE {APP} NOSUPERUSER; ALTER DATABASE {APP} RESET ALL")
    sql(app.box, "DROP SCHEMA IF EXISTS evil CASCADE")


def test_a_trap_in_the_search_path_makes_nobody_a_superuser(hostile: Project) -> None:
    box = hostile.box
    # the attack is real: whoever asks as before walks into it
    sql(box, "SELECT to_regclass('homeport.canary') IS NOT NULL")
    assert superuser(box)
    sql(box, f"SET search_path = ''; ALTER ROLE {APP} NOSUPERUSER")

    assert watch(box)["error"] is None
    hostile.deploy("backup", "drill")
    hostile.deploy("db", "dump", Path(hostile.root) / "hostile.dump")
    assert not superuser(box)


def test_a_host_of_before_is_corrected_while_the_app_writes(hostile: Project) -> None:
    box = hostile.box
    owners = (
        "SET search_path = ''; SELECT datdba::regrole FROM pg_database WHERE datname = current_database(); "
        "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'public'; "
        "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0"
    )
    sql(box, "SET search_path = ''; ALTER SCHEMA public OWNER TO pg_database_owner")
    with Writer(box.address, DOMAIN, box.root) as writer:
        writer.wait(100)
        on_host(box, f"hostctl {APP} stream start")
        writer.wait(100)
    assert writer.failed == {}
    assert sql(box, owners).split() == ["postgres", APP, "1"]
    assert not superuser(box)
    for statement in REFUSED:
        assert "ERROR" in sql(box, statement, APP), statement
    made = "CREATE EXTENSION citext; CREATE SCHEMA more; CREATE TABLE public.t (a public.citext); DROP TABLE public.t"
    assert sql(box, f"SET search_path = public; {made}; DROP SCHEMA more; DROP EXTENSION citext", APP) == ""


def test_a_drill_is_confined_and_takes_no_program_from_the_data(app: Project) -> None:
    box = app.box
    on_host(box, f"hostctl {APP} stream start")
    touched = f"{CLUSTER}/drill/touched"
    for name in ("recovery_end_command", "archive_cleanup_command"):
        sql(box, f"ALTER SYSTEM SET {name} = 'touch {touched}; touch {CLUSTER}/log/touched'")
    app.deploy("backup", "run")  # the copy has these settings, too
    running = app.start("backup", "drill")
    try:
        looked = {}
        while not looked:
            assert running.poll() is None, running.communicate()
            looked = look_at_the_copy(box)
        out, _ = running.communicate(timeout=180)
    finally:
        running.kill()
        for name in ("recovery_end_command", "archive_cleanup_command"):
            sql(box, f"ALTER SYSTEM RESET {name}")
    assert running.returncode == 0, out
    assert float(looked["rated"].split(":")[1].split()[0]) <= 1.5
    assert looked["bound"].strip()
    seen = looked["seen"].split()
    assert "drill" in seen
    assert "data" not in seen
    assert looked["state"].split() == ["postgresql"]
    assert on_host(box, f"ls {touched} {CLUSTER}/log/touched 2>/dev/null || true") == ""
    assert on_host(box, f"systemctl is-active {SCRATCH} || true") == "inactive"


def test_the_app_cannot_take_every_connection(app: Project) -> None:
    box = app.box
    on_host(box, f"hostctl {APP} stream start")
    psql = f"psql -XAtq -h {SOCKET} -U {APP} -d {APP} -c 'SELECT pg_sleep(60)'"
    many = f"for n in $(seq 80); do {psql} & done; wait"
    on_host(box, f"systemd-run -q --unit=many.service -p User={APP} sh -c {shlex.quote(many)}")
    try:
        refused = "too many connections"
        until(lambda: refused in on_host(box, "journalctl -q -o cat -u many.service"), "the app has all of its own")
        assert watch(box)["error"] is None
        assert sql(box, "SELECT 1") == "1"
    finally:
        on_host(box, "systemctl stop many.service; systemctl reset-failed many.service 2>/dev/null || true")


def test_the_user_postgres_cannot_replace_what_root_works_in(app: Project) -> None:
    box = app.box
    on_host(box, f"chown postgres: {HOME}")  # as an update of Debian's package leaves it
    on_host(box, f"runuser -u postgres -- sh -c 'mv {HOME}/homeport {HOME}/x && mv {HOME}/x {HOME}/homeport'")
    on_host(box, f"hostctl {APP} stream watch")
    for command in (f"mv {HOME}/homeport {HOME}/x", f"ln -s /root {CLUSTER}/fetched", f"mv {CLUSTER}/data {CLUSTER}/x"):
        done = box.run(f"runuser -u postgres -- {command}", timeout=30)
        assert done.returncode != 0, command
