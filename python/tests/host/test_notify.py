"""What happens on the host is told to a real receiver over HTTPS, whether or not anybody is there to see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.sandbox import Sandbox, reboot
from tests.host.support import APP, Project, another, new_project, on_host, until
from tests.receiver import Got, Receiver, listening

GATEWAY = "198.51.100.1"  # this machine, as the sandbox sees it
TRUSTED = "/usr/local/share/ca-certificates/receiver.crt"
SECRET = "T0-marker-of-the-url"
STATE = f"/var/lib/homeport/{APP}/notify"


@pytest.fixture(scope="module")
def listener(live: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One whose certificate the host trusts."""
    directory = tmp_path_factory.mktemp("receiver")
    with listening(GATEWAY, directory) as found:
        on_host(live, f"printf %s '{(directory / 'ca.pem').read_text()}' > {TRUSTED} && update-ca-certificates")
        try:
            yield found
        finally:
            on_host(live, f"rm -f {TRUSTED} && update-ca-certificates --fresh")


@pytest.fixture(scope="module")
def told(live: Sandbox, listener: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The app, telling the receiver everything; nobody afterwards."""
    project = new_project(tmp_path_factory.mktemp("told") / "project", live)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NOTIFY_URL", listener.url(f"/hook/{SECRET}"))
        project.configure(notify=[{"url": "NOTIFY_URL", "format": "json"}])
        project.deploy("provision")
        try:
            yield project
        finally:
            project.configure(notify=[])
            project.deploy("provision")
            assert (
                on_host(live, f"ls -d {STATE} /etc/homeport/{APP}/notify* /etc/systemd/system/*notify* || true") == ""
            )


@pytest.fixture
def receiver(listener: Receiver) -> Receiver:
    """The same with nothing in it yet."""
    listener.got.clear()
    listener.answers.clear()
    return listener


def arrived(receiver: Receiver, event: str) -> Got:
    until(lambda: any(got.json["event"] == event for got in receiver.got), f"{event} is told", 30)
    return next(got for got in receiver.got if got.json["event"] == event)


def test_what_happens_on_the_host_is_told_and_its_url_stays_secret(
    told: Project, receiver: Receiver, artifacts: dict[int, Path]
) -> None:
    box = told.box
    tested = told.deploy("notify", "test", "--json").json
    assert tested == [{"url": "NOTIFY_URL", "ok": True, "status": 200, "answer": "ok"}]
    assert receiver.got[0].path == f"/hook/{SECRET}"

    before = told.live()
    pushed = told.push(another(told, artifacts))
    success = arrived(receiver, "success").json
    assert (success["verb"], success["release"], success["host"]) == ("push", pushed["release"], box.name)
    assert f"{pushed['release']} is live" in success["title"]

    told.deploy("rollback", before)
    assert arrived(receiver, "rollback").json["release"] == before

    listed = told.deploy("notify", "--json").json[0]
    assert (listed["waiting"], listed["last"]["ok"], listed["last"]["event"]) == (0, True, "rollback")

    # where the URL is: sealed, and nowhere else
    assert on_host(box, f"stat -c '%a %U' /etc/homeport/{APP}/notify/NOTIFY_URL.cred") == "600 root"
    assert on_host(box, f"grep -rlI {SECRET} /etc /home /run /srv /tmp /var /root || true") == ""
    assert on_host(box, f"journalctl --no-pager | grep -c {SECRET} || true") == "0"


@pytest.mark.full
def test_a_receiver_that_is_away_holds_nothing_up_and_is_told_after_a_reboot(
    told: Project, receiver: Receiver, artifacts: dict[int, Path]
) -> None:
    receiver.answers = [503] * 100
    pushed = told.push(another(told, artifacts))
    until(lambda: told.deploy("notify", "--json").json[0]["last"]["status"] == 503, "its answer is known")
    listed = told.deploy("notify", "--json").json[0]
    assert (listed["waiting"], listed["last"]["ok"]) == (1, False)

    receiver.answers.clear()
    receiver.got.clear()
    reboot(told.box.name, hard=True)

    until(lambda: bool(receiver.got), "it is asked again")
    assert receiver.got[0].json["release"] == pushed["release"]
    until(lambda: told.deploy("notify", "--json").json[0]["waiting"] == 0, "nothing waits")
    assert on_host(told.box, f"ls {STATE}/queue") == ""


def test_a_receiver_whose_certificate_nobody_vouches_for_is_told_nothing(told: Project, receiver: Receiver) -> None:
    on_host(told.box, f"mv {TRUSTED} {TRUSTED}.aside && update-ca-certificates --fresh")
    try:
        done = told.deploy("notify", "test", "--json", check=False)
    finally:
        on_host(told.box, f"mv {TRUSTED}.aside {TRUSTED} && update-ca-certificates")
    assert done.code == 1
    assert "its certificate is not valid" in done.out
    assert "not accepted by NOTIFY_URL" in done.err
    assert not receiver.got
