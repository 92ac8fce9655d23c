"""A host that an older Homeport provisioned is upgraded by this one, and no request fails.

An app on SQLite, and in the long form beside it one on PostgreSQL, is set up and worked with by the Homeport of
`tests.older.COMMIT`. This one then provisions the host and goes on with the older one's records, journals, restore
points, units and secrets. For the next upgrade move that commit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from demo.writer import Writer
from homeport import sandbox
from homeport.sandbox import Sandbox
from tests.apps.support import build_guestbook, build_ledger
from tests.host.support import SETTINGS, Done, Json, Project, get, new_project, on_host, settled, until, version
from tests.older import Older, unpack

BUILDS = {"ledger": build_ledger, "guestbook": build_guestbook}
ADDS = "add_author_to_entries"
BEAT = {"name": "beat", "schedule": "@yearly", "eval": 'IO.puts("beat of " <> System.get_env("HOMEPORT_RELEASE"))'}
MORE: dict[str, Json] = {"ledger": {"accessories": {"redis": {"memory": "32M"}}, "cron": [BEAT]}, "guestbook": {}}
# what is read in the same words before and after
READ = ("releases", "audit -n 100", "backup list", "certs", "cron", "accessory list", "lock status", "status", "apps")
HEALTH = {**SETTINGS["health"], "deploy_timeout": "60s"}  # what is slow here is the machine
ENDLESS = "20260301000000_never_end.exs"  # sleeps while it is compiled, before it holds any lock
TOKEN = "given-to-the-older-one"

# a host of this module's own: no other test's is provisioned by an older Homeport
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "").replace("gw", "-")
BOX = f"{os.environ.get('HOMEPORT_TEST_BOX', 't')}-upgrade{WORKER}"


@dataclass
class Host:
    """An app on the host, as the older Homeport left it."""

    project: Project
    older: Older
    artifacts: dict[int, Path]
    first: str = ""
    second: str = ""  # live; a restore point was taken before its migration
    unfinished: str = ""  # the release of a push that was killed in its migration, and never undone
    then: Json = field(default_factory=dict)  # the rows of the restore point
    later: Json = field(default_factory=dict)  # those that were written after it
    read: dict[str, Any] = field(default_factory=dict)  # what the older one printed, by verb
    processes: dict[str, str] = field(default_factory=dict)

    def by_older(self, *args: str | Path, check: bool = True) -> Done:
        """Run the older `deploy`. The first one, on a bare host, takes long where much else runs."""
        given = {**self.older.env, "API_TOKEN": TOKEN}
        return self.project.deploy(*args, env=given, check=check, patience=900)

    @property
    def app(self) -> str:
        return self.project.app


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A bare Debian of this module's own."""
    sandbox.down(BOX)
    try:
        yield sandbox.up(BOX)
    finally:
        sandbox.down(BOX)


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest, box: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Host]:
    """By app, the host that the older Homeport leaves."""
    directory = tmp_path_factory.mktemp("upgrade")
    older = unpack(directory / "older")
    chosen = list(BUILDS) if request.config.getoption("--full") else ["ledger"]
    found = {app: new_host(directory / app, box, older, app) for app in chosen}
    with ThreadPoolExecutor() as pool:
        working = []
        for host in found.values():
            set_up(host)  # one after the other: apt serves one at a time
            working.append(pool.submit(work, host))
        for one in working:
            one.result()
    for host in found.values():
        leave(host)
    return found


@pytest.fixture(scope="module", params=["ledger", pytest.param("guestbook", marks=pytest.mark.full)])
def host(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Host:
    return hosts[request.param]


@pytest.fixture(scope="module")
def upgraded(host: Host) -> Json:
    """What provisioning by this Homeport says, twice, and what failed meanwhile."""
    with host.project.load(rate=100) as load:
        provisioned = host.project.deploy("provision", "--json").json
        again = host.project.deploy("provision", "--json").json
    return {"provisioned": provisioned, "again": again, "load": load.report}


# ---------------------------------------------------------------------------------------------- the older one's work


def new_host(directory: Path, box: Sandbox, older: Older, app: str) -> Host:
    build, domain = BUILDS[app], f"{app}.sandbox.test"
    settings = {**SETTINGS, **MORE[app], "domains": [domain], "env": environment("one"), "health": HEALTH}
    artifacts = {1: build(directory, 1), 2: build(directory, 2, [ADDS]), 3: build(directory, 3, [ADDS])}
    artifacts[4] = endless(artifacts[3], directory / "4" / app)
    return Host(new_project(directory / "project", box, settings, domain, app), older, artifacts)


def environment(greeting: str) -> Json:
    return {"clear": {"GREETING": greeting}, "secret": ["API_TOKEN"]}


def endless(release: Path, to: Path) -> Path:
    """A copy of the release with a migration that does not come to its end."""
    shutil.copytree(release, to, symlinks=True)
    (migrations,) = to.glob("lib/*/priv/repo/migrations")
    (migrations / ENDLESS).write_text("Process.sleep(:infinity)\n")
    return to


def set_up(host: Host) -> None:
    host.by_older("setup", "--artifact", host.artifacts[1])
    host.first = host.project.live()


def work(host: Host) -> None:
    """Whatever leaves something behind: data, jobs, kept data, a restore point, superseded releases, the audit."""
    write(host.project)
    if host.app == "ledger":
        copy = host.project.root / "copy.db"
        host.by_older("db", "dump", copy)
        host.by_older("db", "load", "--yes", copy)
        host.by_older("cron", "run", "beat")
        host.by_older("backup", "drill")
    host.by_older("maintenance", "on", "-m", "back soon")
    host.by_older("maintenance", "off")
    host.then = rows(host.project)
    host.by_older("push", "--artifact", host.artifacts[2])
    host.second = host.project.live()
    write(host.project)
    host.later = {number: sum for number, sum in rows(host.project).items() if number not in host.then}
    host.project.configure(env=environment("two"))
    host.by_older("env", "push")
    host.by_older("rollback")
    settled(host.project)


def leave(host: Host) -> None:
    """A push that nobody undid, and what there is to compare with later."""
    host.unfinished = interrupted(host)
    on_host(host.project.box, f"systemctl start homeport-{host.app}-watch.service")
    host.read = {verb: read(host, verb, by=host.by_older) for verb in READ}
    host.processes = processes(host)


def interrupted(host: Host) -> str:
    """The release of a push that is killed in its migration, with all that would have undone it.

    A host that loses its power leaves the same, but would mend it at its next boot.
    """
    box, app = host.project.box, host.app
    unit = f"homeport-{app}-transition.service"
    drop_in = f"/etc/systemd/system/{unit}.d"
    on_host(box, f"mkdir {drop_in} && printf '[Service]\\nExecStopPost=\\n' >{drop_in}/x.conf; systemctl daemon-reload")
    environment = {**host.older.env, "API_TOKEN": TOKEN}
    running = host.project.start("push", "--artifact", host.artifacts[4], env=environment)
    until(lambda: migrates(host, unit), "the push migrates", 120)
    # first whatever follows it, here and there: it would have it undone
    for pid in descendants(running.pid):
        os.kill(pid, signal.SIGKILL)
    running.communicate()
    until(lambda: box.run(f"pgrep -f '[{app[0]}]{app[1:]} follow'").returncode == 1, "nobody follows it")
    on_host(box, f"systemctl kill --kill-whom=main -s KILL {unit}")
    until(lambda: box.run(f"systemctl is-active --quiet {unit}").returncode != 0, "it has ended")
    on_host(box, f"rm -r {drop_in}; systemctl daemon-reload")
    assert migrations(host)
    (journal,) = on_host(box, f"grep -l '\"result\": *null' /var/lib/homeport/{app}/transitions/*/journal.json").split()
    return str(json.loads(on_host(box, f"cat {journal}"))["release"])


def descendants(pid: int) -> list[int]:
    """The process and all that it began, which Ansible puts into sessions of their own."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [pid, *(each for child in " ".join(lists).split() for each in descendants(int(child)))]


def migrates(host: Host, unit: str) -> bool:
    held = host.project.box.run(f"systemctl is-active --quiet {unit} && cat /var/lib/homeport/{host.app}/lock.json")
    return bool(held.stdout) and json.loads(held.stdout).get("phase") == "migrate"


# ---------------------------------------------------------------------------------------------- what is looked at


def write(project: Project, count: int = 50) -> None:
    with Writer(project.box.address, project.domain, project.box.root) as writer:
        writer.wait(count)
    assert writer.failed == {}


def rows(project: Project) -> Json:
    """The app's first rows, by their number."""
    return {row["id"]: row["checksum"] for row in json.loads(get(project, "/rows?after=0").body)}


def read(host: Host, verb: str, by: Callable[..., Done]) -> Any:
    return steady(verb, json.loads(by(*verb.split(), "--json", check=False).out))


def steady(verb: str, told: Any) -> Any:
    """Of what a verb prints, all that does not change by itself: of `status` and `apps` only which keys there are."""
    if verb in ("status", "apps"):
        return sorted(keys(told))
    if verb == "backup list":
        told["epochs"] = [{**epoch, "databases": sorted(epoch.get("databases", ()))} for epoch in told["epochs"]]
        for epoch in told["epochs"]:
            epoch |= {"ranges": [one["from"] for one in epoch.get("ranges", ())]}  # of PostgreSQL: each ends now
        told["aside"] = [{**kept, "why": bool(kept["why"])} for kept in told["aside"]]
    return told


def keys(told: Any, path: str = "") -> set[str]:
    """The path of every key of a document."""
    if isinstance(told, dict):
        return {path}.union(*(keys(value, f"{path}.{key}") for key, value in told.items()))
    if isinstance(told, list):
        return {path}.union(*(keys(value, f"{path}[]") for value in told))
    return {path}


def processes(host: Host) -> dict[str, str]:
    """By unit, the main process of whatever serves the app or keeps its data."""
    units = f"caddy.service '{host.app}@*' 'homeport-{host.app}-*.service'"
    shown = on_host(host.project.box, f"systemctl show -p Id,MainPID,Type {units}")
    found = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.split("\n\n")]
    return {one["Id"]: one["MainPID"] for one in found if one["MainPID"] != "0" and one["Type"] != "oneshot"}


def variables(host: Host) -> dict[str, str]:
    """The environment of the live instance."""
    shown = on_host(host.project.box, f"tr '\\0' '\\n' </proc/{version(host.project)['pid']}/environ")
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def migrations(host: Host) -> str:
    """The units of the app's migrations."""
    return on_host(host.project.box, f"systemctl list-units --plain --no-legend 'homeport-{host.app}-migrat*'")


def live_is(host: Host, release: str) -> None:
    """Roll back to the release unless it is live."""
    settled(host.project)
    if host.project.live() != release:
        assert host.project.deploy("rollback", release, "--json").json["release"] == release
        settled(host.project)


# ---------------------------------------------------------------------------------------------- the upgrade


def test_provisioning_fails_no_request_and_restarts_litestream_alone(host: Host, upgraded: Json, measured: Any) -> None:
    measured(f"the upgrade of {host.app} by provisioning", upgraded["load"].total)
    assert upgraded["load"].failures == []
    assert upgraded["load"].answered > 100
    assert upgraded["provisioned"]["result"] == "changed"
    assert upgraded["again"] == {"result": "unchanged", "changed": 0}
    now, stream = processes(host), f"homeport-{host.app}-litestream.service"
    assert now.keys() == host.processes.keys()
    # the older one runs it as root
    restarted = {unit for unit in now if now[unit] != host.processes[unit]}
    assert restarted == ({stream} if host.app == "ledger" else set())
    if stream in restarted:
        assert on_host(host.project.box, f"ps -o user= -p {now[stream]}").strip() == host.app


def test_what_the_older_one_wrote_is_read_as_the_older_one_read_it(host: Host, upgraded: Json) -> None:
    for verb in READ:
        assert read(host, verb, by=host.project.deploy) == host.read[verb], verb


def test_the_next_transition_undoes_what_the_older_one_left_unfinished(
    host: Host, upgraded: Json, measured: Any
) -> None:
    """`env push` is that transition: the artifact of what is live is still on the host."""
    project = host.project
    project.configure(env=environment("three"))
    with project.load(rate=100) as load:
        changed = project.deploy("env", "push", "--json").json
        given = variables(host)
        back = project.deploy("rollback", "--json").json
    measured(f"env push of {host.app}, and back", load.report.total)

    assert load.report.failures == []
    assert (changed["result"], changed["previous"]) == ("live", host.second)
    assert changed["env_changes"] == {"added": [], "changed": ["GREETING"], "removed": []}
    # the token was sealed by the older one; this one was given no value
    assert (given["GREETING"], given["API_TOKEN"]) == ("three", TOKEN)
    assert (back["release"], project.live(), variables(host)["GREETING"]) == (host.second, host.second, "one")
    assert {one["release"]: one["state"] for one in project.releases()}[host.unfinished] == "failed"
    assert migrations(host) == ""


def test_a_push_and_a_rollback_to_a_release_of_the_older_one(host: Host, upgraded: Json, measured: Any) -> None:
    project = host.project
    live_is(host, host.second)
    with project.load(rate=100) as load:
        pushed = project.push(host.artifacts[3])
        back = project.deploy("rollback", host.second, "--json").json
    measured(f"push of {host.app} after its upgrade, and rollback", load.report.total)

    assert load.report.failures == []
    assert (pushed["result"], pushed["previous"]) == ("live", host.second)
    assert (back["release"], project.live()) == (host.second, host.second)
    assert load.report.versions.keys() == {"2", "3"}


def test_a_restore_point_of_the_older_one_is_gone_back_to(host: Host, upgraded: Json, measured: Any) -> None:
    project = host.project
    live_is(host, host.second)
    (point,) = [one for one in host.read["backup list"]["points"] if one["for"] == host.second]
    with project.load(rate=50) as load:
        tried = project.deploy("restore", "--point", point["id"], "--dry-run", "--json").json
        back = project.deploy("rollback", "--with-data", "--yes", "--json").json
        load.mark("after")
    measured(f"rollback of {host.app} with data", load.report.total)

    assert load.report.failures == []
    assert tried["databases"]
    assert (back["release"], project.live()) == (host.first, host.first)
    found = rows(project)
    assert host.then.items() <= found.items()
    assert not set(host.later.values()) & set(found.values())
    kept = project.deploy("backup", "list", "--json").json["aside"]
    assert back["kept"]["aside"] in [one["path"] for one in kept]


def test_the_rest_goes_on(host: Host, upgraded: Json) -> None:
    project = host.project
    if host.app == "ledger":
        assert "beat of" in project.deploy("cron", "run", "beat").out
        kept = host.read["backup list"]["aside"][0]
        project.deploy("backup", "forget", kept["id"], "--yes")
    assert project.deploy("backup", "drill", "--json").json["ok"]
    told = project.deploy("doctor", "--json", check=False).json["checks"]
    assert [one for one in told if one["state"] == "error"] == []
    on_host(project.box, f"systemctl start homeport-{host.app}-watch.service")
    until(lambda: project.deploy("status", "--check", check=False).code == 0, "nothing is wrong", 120)
    assert on_host(project.box, "systemctl list-units --plain --no-legend --state=failed") == ""


@pytest.mark.full
def test_the_older_laptop_reads_the_newer_host_and_provisions_it_back_before_it_pushes(
    host: Host, upgraded: Json, measured: Any
) -> None:
    project = host.project
    settled(project)
    for verb in READ:
        assert read(host, verb, by=host.by_older) == read(host, verb, by=project.deploy), verb
    with project.load(rate=100) as load:
        pushed = host.by_older("push", "--artifact", host.artifacts[2], "--json")
    measured(f"the older laptop pushes {host.app}", load.report.total)
    assert load.report.failures == []
    assert pushed.json["result"] == "live"
    assert "provision" in pushed.err
