"""Services beside the app on a real host: its own, with a password nobody else has, and what a package brings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from homeport.sandbox import Sandbox
from tests.host.support import APP, Json, Project, another, check_told, get, new_project, on_host, settled

REDIS, JOBS = f"homeport-{APP}-accessory-redis.service", "beanstalkd.service"
WANTED: Json = {
    "redis": {"memory": "32M"},
    "jobs": {
        "package": "beanstalkd",
        "env": {"JOBS": "127.0.0.1:11300"},
        "files": {"/etc/default/beanstalkd": "beanstalkd.conf"},
    },
}
# one word a line, as Redis takes it from a terminal
ASK = "exec 3<>/dev/tcp/127.0.0.1/{port}; printf '%s\\r\\n' {words} QUIT >&3; timeout 5 cat <&3"


@pytest.fixture(scope="module")
def equipped(live: Sandbox, artifacts: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The app, live with a Redis of its own and a queue from a package; afterwards without them, as it was."""
    project = new_project(tmp_path_factory.mktemp("equipped") / "project", live)
    project.configure(accessories=WANTED)
    listen(project, "127.0.0.1")
    try:
        project.deploy("push", "--artifact", another(project, artifacts))
        yield project
    finally:
        leave(project, artifacts)


def leave(project: Project, artifacts: dict[int, Path]) -> None:
    project.configure(accessories={})
    project.deploy("push", "--artifact", another(project, artifacts))
    for one in listed(project):
        project.deploy("accessory", "remove", one["name"])
    settled(project)
    packages = "apt-get -qq purge beanstalkd redis-server redis-tools >/dev/null 2>&1"
    files = f"/etc/homeport/{APP}/accessories.json /etc/systemd/system/{APP}@.service.d"
    kept = f"find /var/lib/homeport/{APP}/aside -name 'accessory-*' -prune -printf '%h\n' | xargs -r rm -r"
    on_host(project.box, f"systemctl unmask redis-server.service; {packages}; rm -r {files}; {kept}")


def listen(project: Project, address: str) -> None:
    (project.root / "beanstalkd.conf").write_text(
        f"BEANSTALKD_LISTEN_ADDR={address}\nBEANSTALKD_LISTEN_PORT=11300\nBEANSTALKD_EXTRA=\n"
    )


def listed(project: Project) -> list[Json]:
    found: list[Json] = json.loads(project.deploy("accessory", "list", "--json").out)
    return found


def environment(project: Project) -> dict[str, str]:
    """What the live instance really has."""
    unit = f"{APP}@{project.live()}.service"
    text = on_host(project.box, f"tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID {unit})/environ")
    return dict(line.partition("=")[::2] for line in text.splitlines())


def ask(project: Project, *lines: str, user: str = "root") -> list[str]:
    """What Redis answers to these lines, sent by a user of the host."""
    url = urlsplit(environment(project)["REDIS_URL"])
    words = " ".join(f"'{line}'" for line in lines)
    told = ASK.format(port=url.port, words=words)
    return on_host(project.box, f"""setpriv --reuid={user} --clear-groups bash -c "{told}" """).splitlines()


def password(project: Project) -> str:
    return str(urlsplit(environment(project)["REDIS_URL"]).password)


def test_the_app_finds_its_services_and_they_listen_to_nobody_else(equipped: Project) -> None:
    given, found = environment(equipped), {one["name"]: one for one in listed(equipped)}

    url = urlsplit(given["REDIS_URL"])
    assert (url.scheme, url.hostname, given["JOBS"]) == ("redis", "127.0.0.1", "127.0.0.1:11300")
    assert found["redis"]["listens"] == [f"127.0.0.1:{url.port}"]
    assert found["jobs"]["listens"] == ["127.0.0.1:11300"]
    assert {one["state"] for one in found.values()} == {"active"}
    assert ask(equipped, f"AUTH {password(equipped)}", "SET a b", "GET a")[:2] == ["+OK", "+OK"]
    # the distribution's own, for everybody, never ran
    assert on_host(equipped.box, "systemctl is-enabled redis-server.service || true") == "masked"


def test_nobody_else_on_the_host_gets_in_or_finds_the_password(equipped: Project) -> None:
    secret = password(equipped)

    assert ask(equipped, "GET a", user="nobody")[0].startswith("-NOAUTH")
    box = equipped.box
    assert on_host(box, f"grep -rlI {secret} /etc /home /root /srv /tmp /var || true") == ""
    shown = on_host(box, f"systemctl show {REDIS}; systemctl cat {REDIS}; journalctl --no-pager; ps axww -o args=")
    assert secret not in shown.replace(f"grep -rlI {secret}", "")
    readable = (
        f"setpriv --reuid=nobody --clear-groups grep -rlaI {secret} /run /proc/[0-9]*/environ 2>/dev/null || true"
    )
    assert on_host(box, readable) == ""


def test_what_redis_holds_survives_a_restart_and_a_kill(equipped: Project) -> None:
    ask(equipped, f"AUTH {password(equipped)}", "SET kept yes")

    told = json.loads(equipped.deploy("accessory", "restart", "redis", "--json").out)
    assert (told["state"], told["beyond"]) == ("active", [])
    on_host(equipped.box, f"systemctl kill -s KILL {REDIS}; while ! systemctl -q is-active {REDIS}; do :; done")

    assert ask(equipped, f"AUTH {password(equipped)}", "GET kept")[-2:] == ["yes", "+OK"]
    assert "Ready to accept connections" in equipped.deploy("accessory", "logs", "redis", "-n", "50").out


def test_a_service_that_other_machines_could_reach_is_stopped_and_the_app_goes_on(
    equipped: Project, artifacts: dict[int, Path]
) -> None:
    before = equipped.live()
    listen(equipped, "0.0.0.0")

    done = equipped.deploy("push", "--artifact", artifacts[3], "--json", check=False)
    listen(equipped, "127.0.0.1")

    check_told(done, 2, r"jobs listens on 0\.0\.0\.0:11300, where other machines reach it; it was stopped")
    assert on_host(equipped.box, f"systemctl is-active {JOBS} || true") == "inactive"
    assert equipped.live() == before
    assert get(equipped, "/health").status == 200
    reasons = equipped.deploy("status", "--check", check=False)
    assert (reasons.code, f"the accessory jobs does not run: {JOBS} is inactive" in reasons.err) == (1, True)
    on_host(equipped.box, f"sed -i s/0.0.0.0/127.0.0.1/ /etc/default/beanstalkd; systemctl enable --now {JOBS}")


@pytest.mark.full
def test_one_that_deploy_yml_names_no_more_is_told_and_removed_by_a_persons_word(
    equipped: Project, artifacts: dict[int, Path]
) -> None:
    named = equipped.deploy("accessory", "remove", "redis", check=False)
    assert (named.code, "deploy.yml names the accessory redis" in named.err) == (2, True)
    equipped.configure(accessories={})
    equipped.deploy("provision")
    needed = equipped.deploy("accessory", "remove", "redis", check=False)
    assert (needed.code, "has the accessory redis in its environment" in needed.err) == (2, True)

    equipped.deploy("push", "--artifact", another(equipped, artifacts))
    assert "REDIS_URL" not in environment(equipped)
    assert "redis: LEFT OVER, active" in equipped.deploy("status").out
    gone = json.loads(equipped.deploy("accessory", "remove", "redis", "--json").out)
    equipped.deploy("accessory", "remove", "jobs")

    assert listed(equipped) == []
    assert on_host(equipped.box, f"ls {gone['aside']}/data") == "appendonlydir"
    assert on_host(equipped.box, f"systemctl is-active {REDIS} {JOBS} || true").split() == ["inactive", "inactive"]
    assert on_host(equipped.box, "ls /etc/systemd/system | grep accessory || true") == ""
