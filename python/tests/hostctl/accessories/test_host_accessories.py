"""The app's other services: made once, started when something differs, stopped when other machines could reach them."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hostworld import World, killed
from hypothesis import given
from hypothesis import strategies as st

from hostctl.accessories import services as accessories_services
from hostctl.common.errors import LOCKED, USAGE, HostError
from hostctl.core import lock
from hostctl.host.listeners import Socket
from hostctl.release import records, redact
from hostctl.transitions.steps import push_checks

LOOPBACK = Socket("tcp", "127.0.0.1", 19_000)
EVERYWHERE = Socket("tcp", "0.0.0.0", 6379)


class Services:
    """systemd's side: what runs, and where each of them listens."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.called: list[tuple[str, ...]] = []
        self.where: dict[str, list[Socket]] = {}

    def systemctl(self, *words: str) -> str:
        self.called.append(words)
        if words[0] == "restart":
            self.world.running.add(words[1])
        if words[:2] == ("disable", "--now"):
            self.world.running.discard(words[-1])
        return ""

    def listens(self, one: accessories_services.Accessory) -> list[Socket]:
        return self.where.get(one.unit, [LOOPBACK]) if one.unit in self.world.running else []

    def verbs(self) -> list[str]:
        return [words[0] for words in self.called]


@pytest.fixture
def services(world: World, monkeypatch: pytest.MonkeyPatch) -> Services:
    found = Services(world)
    monkeypatch.setattr(accessories_services, "_systemctl", found.systemctl)
    monkeypatch.setattr(accessories_services, "sockets", found.listens)
    monkeypatch.setattr(accessories_services, "owner", lambda _: pwd.getpwuid(os.getuid()).pw_name)
    (world.root / "etc/systemd/system").mkdir(parents=True)
    return found


def unit(name: str) -> str:
    return f"homeport-shop-accessory-{name}.service"


def want(world: World, **kinds: str) -> None:
    """Provision for these: `redis="redis"`, or `jobs="jobs.service"` for what a package brings."""
    told = {}
    for name, kind in kinds.items():
        own = kind in accessories_services.OWN
        told[name] = {"kind": kind if own else "package", "unit": unit(name) if own else kind, "memory": 1 << 27}
        if own:
            (world.root / "etc/systemd/system" / unit(name)).write_text("[Service]\n")
    world.app.config.with_name("accessories.json").write_text(json.dumps(told))


def start(world: World) -> Any:
    return accessories_services.start(world.app, world)


def remove(world: World, name: str) -> Any:
    return accessories_services.remove(world.app, name, "ann", "198.51.100.9", world)


def test_an_app_without_accessories_has_none(world: World, services: Services) -> None:
    assert accessories_services.environment(world.app) == {}
    assert accessories_services.status(world.app, world) == []
    assert start(world)["changed"] is False


def test_each_gets_a_port_and_a_password_of_its_own_and_keeps_them(world: World, services: Services) -> None:
    want(world, redis="redis", cache="memcached")

    assert start(world) == {"changed": True, "started": ["cache", "redis"]}
    first = accessories_services.environment(world.app)
    assert start(world) == {"changed": False, "started": []}

    assert accessories_services.environment(world.app) == first
    redis, cache = (urlsplit(first[name]) for name in ("REDIS_URL", "CACHE_URL"))
    assert (redis.scheme, redis.hostname, redis.path, redis.username) == ("redis", "127.0.0.1", "/0", "")
    assert (cache.scheme, cache.hostname, unquote(cache.username or "")) == ("memcached", "127.0.0.1", "shop@homeport")
    assert redis.port != cache.port
    assert redis.password != cache.password
    assert len(redis.password or "") >= 32


def test_no_file_holds_the_password_in_the_clear(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)
    password = str(urlsplit(accessories_services.environment(world.app)["REDIS_URL"]).password)

    files = [path for path in world.root.rglob("*") if path.is_file()]
    assert [path for path in files if password in path.read_text(errors="replace")] == []
    sealed = world.app.state / "accessories/redis/auth.cred"
    assert sealed.stat().st_mode & 0o777 == 0o600


def test_what_runs_with_other_settings_is_restarted_and_nothing_else(world: World, services: Services) -> None:
    want(world, redis="redis", queue="valkey")
    start(world)
    file = world.app.config.with_name("accessories.json")
    told = json.loads(file.read_text())
    told["redis"]["memory"] += 1
    file.write_text(json.dumps(told))

    assert start(world)["started"] == ["redis"]


def test_one_that_does_not_run_is_started(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)
    world.running.discard(unit("redis"))

    assert start(world)["started"] == ["redis"]


def test_a_service_that_others_could_reach_is_stopped_again_and_the_rest_is_brought_up(
    world: World, services: Services
) -> None:
    want(world, jobs="jobs.service", redis="redis")
    services.where["jobs.service"] = [LOOPBACK, EVERYWHERE]

    with pytest.raises(HostError, match=r"jobs listens on 0\.0\.0\.0:6379, .* it was stopped") as caught:
        start(world)

    assert caught.value.code == USAGE
    assert "127.0.0.1" in caught.value.fix
    assert ("disable", "--now", "--quiet", "jobs.service") in services.called
    assert world.running == {unit("redis")}


def test_one_that_ran_before_is_refused_and_left_running(world: World, services: Services) -> None:
    want(world, jobs="jobs.service")
    world.running.add("jobs.service")
    services.where["jobs.service"] = [EVERYWHERE]

    with pytest.raises(HostError, match="it ran before"):
        start(world)

    assert world.running == {"jobs.service"}


def test_one_that_ran_before_is_not_stopped_when_it_is_taken_out_either(world: World, services: Services) -> None:
    world.running.add("jobs.service")
    want(world, jobs="jobs.service")
    start(world)
    want(world)

    remove(world, "jobs")

    assert world.running == {"jobs.service"}


def test_after_a_refusal_it_is_started_anew_with_what_was_good_before(world: World, services: Services) -> None:
    want(world, jobs="jobs.service")
    start(world)
    services.where["jobs.service"] = [EVERYWHERE]
    with pytest.raises(HostError, match="it was stopped"):
        start(world)
    world.running.add("jobs.service")  # by a person's hand
    del services.where["jobs.service"]

    assert start(world)["started"] == ["jobs"]


def test_one_that_begins_to_listen_to_others_later_is_trouble(world: World, services: Services) -> None:
    want(world, jobs="jobs.service")
    start(world)
    services.where["jobs.service"] = [EVERYWHERE]

    (told,) = accessories_services.status(world.app, world)

    assert told["beyond"] == ["0.0.0.0:6379"]


def test_a_service_of_another_kind_does_not_get_the_data_of_the_first(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)
    want(world, redis="valkey")

    with pytest.raises(HostError, match=r"holds the data of redis, and deploy.yml wants valkey") as caught:
        start(world)
    assert caught.value.code == USAGE


def test_one_that_listens_on_nothing_does_not_come_up(world: World, services: Services) -> None:
    want(world, redis="redis")
    services.where[unit("redis")] = []

    with pytest.raises(HostError, match="redis does not start"):
        start(world)


def test_a_package_need_not_listen(world: World, services: Services) -> None:
    want(world, jobs="jobs.service")
    services.where["jobs.service"] = []

    assert start(world)["changed"]


def test_two_apps_never_get_the_same_port(world: World, services: Services, new_world: Any) -> None:
    taken = set(range(accessories_services.PORTS.start, accessories_services.PORTS.start + 7))

    assert accessories_services.free_port(taken) not in taken
    with pytest.raises(HostError, match="no port is free"):
        accessories_services.free_port(set(accessories_services.PORTS))


# ---------------------------------------------------------------------------------------------- the app's environment


def test_a_push_gives_the_app_the_url_and_counts_it_as_a_secret(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)
    result = world.push("1")
    release = result["release"]

    url = accessories_services.environment(world.app)["REDIS_URL"]
    values = records.environment(world.app, release)
    assert values["REDIS_URL"] == url
    assert redact.redact(f"connecting to {url}", world.app, release) == f"connecting to {redact.MARK}"


def test_a_value_of_env_wins(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)

    assert push_checks.environment(world.app, world.spec("1", env={"REDIS_URL": "mine"}))["REDIS_URL"] == "mine"


def test_a_push_before_the_service_was_made_says_what_mends_it(world: World, services: Services) -> None:
    want(world, redis="redis")

    with pytest.raises(HostError, match="redis was never made") as caught:
        push_checks.environment(world.app, world.spec("1"))
    assert caught.value.fix == "deploy provision"


# ---------------------------------------------------------------------------------------------- by a person's word


def test_one_that_deploy_yml_names_is_not_removed(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)

    with pytest.raises(HostError, match=r"deploy.yml names the accessory redis") as caught:
        remove(world, "redis")
    assert caught.value.code == USAGE
    assert world.running == {unit("redis")}


def test_one_that_the_live_release_still_finds_is_not_removed(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)
    world.push("1")
    want(world)

    with pytest.raises(HostError, match=r"the live release .* has the accessory redis"):
        remove(world, "redis")
    world.push("2")
    world.drain_all()
    assert remove(world, "redis")["removed"] == "redis"


def test_what_is_left_over_is_told_and_removed_with_its_data_aside(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)
    (world.app.state / "accessories/redis/data/dump").write_text("kept")
    want(world)

    (told,) = accessories_services.status(world.app, world)
    assert (told["name"], told["left_over"], told["state"]) == ("redis", True, "active")
    assert start(world)["changed"] is False
    gone = remove(world, "redis")

    assert world.running == set()
    assert accessories_services.status(world.app, world) == []
    assert (Path(gone["aside"]) / "data/dump").read_text() == "kept"
    assert not (world.root / "etc/systemd/system" / unit("redis")).exists()
    assert json.loads(world.app.audit.read_text().splitlines()[-1])["verb"] == "accessory remove"


def test_whatever_kills_a_start_or_a_removal_the_same_again_does_the_rest(world: World, services: Services) -> None:
    after = 0
    while True:
        want(world, redis="redis")
        starting = killed(world.root, after, lambda: start(world))
        start(world)
        assert world.running == {unit("redis")}
        want(world)
        removing = killed(world.root, after, lambda: remove(world, "redis"))
        if accessories_services.every(world.app):
            remove(world, "redis")
        assert (accessories_services.every(world.app), world.running) == ([], set())
        assert len(list(world.app.aside.glob("*/accessory-redis/data"))) == after + 1
        if not starting and not removing:
            break
        after += 1
    assert after > 10


@pytest.mark.parametrize("left", ["the directory", "the unit"])
def test_a_removal_that_was_cut_short_is_finished_by_the_next(world: World, services: Services, left: str) -> None:
    want(world, redis="redis")
    start(world)
    want(world)
    place, file = world.app.state / "accessories/redis", world.root / "etc/systemd/system" / unit("redis")
    if left == "the unit":
        place.rename(world.root / "aside")
    else:
        file.unlink()

    remove(world, "redis")

    assert accessories_services.every(world.app) == []
    assert not file.exists()


def test_the_unit_of_a_package_is_left_to_another_app_that_names_it(world: World, services: Services) -> None:
    want(world, jobs="jobs.service")
    start(world)
    want(world)
    other = world.app.layout.app("admin")
    other.config.parent.mkdir(parents=True)
    other.config.write_text(json.dumps({"app": "admin", "user": "admin"}))
    other.config.with_name("accessories.json").write_text('{"q":{"kind":"package","unit":"jobs.service"}}')

    remove(world, "jobs")

    assert world.running == {"jobs.service"}


@pytest.mark.parametrize("keep", [False, True])
def test_an_app_that_leaves_takes_all_its_services_along_and_may_leave_their_data(
    world: World, services: Services, keep: bool
) -> None:
    want(world, redis="redis", jobs="jobs.service")
    start(world)
    made = accessories_services.environment(world.app)

    for _ in "again":
        accessories_services.uninstall_all(world.app, world, keep)

    assert world.running == set()
    assert ("disable", "--quiet", "jobs.service") in services.called
    assert len(list(world.app.aside.glob("*/accessory-redis/data"))) == (0 if keep else 1)
    assert not keep or accessories_services.environment(world.app) == made


def test_files_that_are_no_longer_wanted_go_aside(world: World, services: Services) -> None:
    file = world.root / "etc/jobs/jobs.conf"
    file.parent.mkdir(parents=True)
    file.write_text("listen 127.0.0.1\n")
    told = {
        "jobs": {"kind": "package", "unit": "jobs.service", "files": [{"dest": "/etc/jobs/jobs.conf", "digest": "x"}]}
    }
    world.app.config.with_name("accessories.json").write_text(json.dumps(told))
    start(world)
    assert file.exists()
    want(world, jobs="jobs.service")

    start(world)

    assert not file.exists()
    assert (world.app.state / "accessories/jobs/files/etc%jobs%jobs.conf").read_text() == "listen 127.0.0.1\n"


def test_nothing_is_restarted_or_removed_while_somebody_holds_the_lock(world: World, services: Services) -> None:
    want(world, redis="redis")
    start(world)
    lock.acquire(world.app, "bob", "198.51.100.9", "maintenance")
    services.called.clear()

    for act in (accessories_services.restart, accessories_services.remove):
        with pytest.raises(HostError, match="locked by bob") as caught:
            act(world.app, "redis", "ann", "", world)
        assert caught.value.code == LOCKED
    assert services.called == []


@pytest.mark.parametrize("name", ["", "nothere", "../x"])
def test_a_name_that_is_none_is_refused(world: World, services: Services, name: str) -> None:
    with pytest.raises(HostError, match="has no accessory") as caught:
        accessories_services.find(world.app, name)
    assert caught.value.code == USAGE


@pytest.mark.parametrize("text", ['{"redis": 1}', '{"redis": {}}', '{"redis": {"kind": "redis"}}'])
def test_a_file_that_is_not_as_provisioning_writes_it_is_an_error_of_three_parts(world: World, text: str) -> None:
    world.app.config.with_name("accessories.json").write_text(text)

    with pytest.raises(HostError, match=r"accessories.json cannot be read") as caught:
        accessories_services.configured(world.app)
    assert caught.value.where
    assert caught.value.fix == "deploy provision"


@given(st.from_regex(r"[a-z][a-z0-9-]{0,19}", fullmatch=True))
def test_the_variable_of_any_name_is_one(name: str) -> None:
    from hostctl.common.names import matches

    assert matches("variable", accessories_services.variable(name))
