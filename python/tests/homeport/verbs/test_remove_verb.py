"""What `deploy remove` tells before it asks, what it takes for a yes, and as whom it reaches the host."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from homeport.core.errors import HomeportError
from homeport.ssh import connection
from homeport.verbs import remove
from hostctl.common.documents import Json

NOTE = "/var/lib/homeport-removed/shop-20261121T184437123Z-10c809"
PLANNED: Json = {
    "app": "shop", "gone": None, "live": "20261121T184437Z-10c809f", "releases": 3, "domains": ["shop.test"],
    "destination": None, "engine": "sqlite", "bytes": 24_920_064, "users": ["shop", "shop-build"], "lock": None,
    "databases": [{"name": "shop.db", "path": "/var/lib/shop/shop.db", "bytes": 8192}],
    "backup": {"bucket": "b", "prefix": "shop", "encrypted": False}, "unfinished": None,
}  # fmt: skip
RESULT: Json = {
    "at": 10.0, "ended": 1_790_000_000.0, "ok": True, "again": False, "reverted": False, "error": None, "found": [],
    "keep_data": False, "left": [{"path": f"{NOTE}/data", "bytes": 7}], "warnings": [], "note": NOTE,
    "backup": {"bucket": "b", "prefix": "shop", "encrypted": False, "at": 1_790_000_000.0}, "bytes": 1, "releases": 3,
}  # fmt: skip


class Host:
    """Answers by action; keeps what was asked."""

    def __init__(self) -> None:
        self.asked, self.where = list[tuple[str, ...]](), "root@192.0.2.10"
        ended = {"running": False, "step": "", "result": RESULT}
        self.answers: dict[str, Json] = {"plan": PLANNED, "begin": {"started": 10.0}, "progress": {"remove": ended}}

    def call(self, *args: str, stdin: bytes = b"") -> Json:
        self.asked.append(args[1:])
        return self.answers[args[1]]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    session = SimpleNamespace(app="shop", target=SimpleNamespace(host="192.0.2.10"))
    monkeypatch.setattr("homeport.remote.session.begin", lambda _: session)
    monkeypatch.setattr(remove, "privileged_hostctl", lambda _: made)
    return made


def run(*words: str) -> Any:
    return CliRunner().invoke(remove.command, list(words))


def actions(host: Host) -> list[str]:
    return [words[0] for words in host.asked]


def test_what_goes_is_told_first_and_left_when_it_was_done(host: Host) -> None:
    done = run("--yes")
    assert done.exit_code == 0, done.exception
    assert done.stderr.splitlines()[:4] == [
        "removes   shop at shop.test: 3 releases, 24.9 MB",
        "database  /var/lib/shop/shop.db (8.2 kB), removed",
        "backup    a final one, then s3://b/shop stays as it is",
        "users     shop, shop-build",
    ]
    assert [line for line in done.stderr.splitlines()[4:] if not line.startswith("  remove")] == [
        "shop is removed from 192.0.2.10",
        "backup    s3://b/shop has every write until 2026-09-21T14:13:20Z",
        f"left      {NOTE}/data, 7 B",
        f"          to delete it, as root on the host: rm -r {NOTE}/data",
        f"note      {NOTE}: who removed it, when, and its audit",
    ]
    assert actions(host) == ["plan", "begin", "progress"]


def test_without_a_terminal_nobody_can_be_asked(host: Host) -> None:
    done = run()
    assert isinstance(done.exception, HomeportError)
    assert (done.exception.code, done.exception.fix, actions(host)) == (2, "add --yes", ["plan"])


@pytest.mark.parametrize(("typed", "goes"), [("shop", True), ("shopp", False), ("", False), ("y", False)])
def test_the_name_of_the_app_is_typed_to_remove_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, typed: str, goes: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(remove.click, "prompt", lambda *_, **__: typed)
    monkeypatch.setattr(remove.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    if goes:
        remove._confirm("shop", yes=False)
        return
    with pytest.raises(HomeportError, match="nothing was removed") as caught:
        remove._confirm("shop", yes=False)
    assert caught.value.code == 2


def test_a_plan_asks_nobody_and_begins_nothing(host: Host) -> None:
    done = run("--plan", "--json")
    assert (json.loads(done.stdout)["releases"], actions(host)) == (3, ["plan"])
    assert "kept" in run("--plan", "--keep-data").stdout.splitlines()[1]


def test_what_is_asked_for_reaches_the_host(host: Host) -> None:
    run("--yes", "--keep-data", "--force", "--lock-wait", "7")
    assert host.asked[1][:5] == ("begin", "--keep-data", "--force", "--lock-wait", "7")


def test_an_app_that_is_gone_already_is_no_error(host: Host) -> None:
    host.answers["plan"] = {"app": "shop", "gone": {**RESULT, "who": "ann"}}
    done = run("--yes")
    assert (done.exit_code, actions(host)) == (0, ["plan"])
    assert done.stdout.startswith("shop is not on this host: ann removed it at 2026-09-21T14:13:20Z\n")


def test_what_was_taken_back_fails_with_the_code_that_says_what_serves(host: Host) -> None:
    error = {
        "what": "there is no final backup: S3 is away",
        "where": "s3://b",
        "fix": "deploy remove --force",
        "code": 3,
    }
    ended = {**RESULT, "ok": False, "reverted": True, "error": error}
    host.answers["progress"] = {"remove": {"running": False, "step": "", "result": ended}}
    done = run("--yes")
    assert isinstance(done.exception, HomeportError)
    assert (done.exception.code, done.exception.what, done.exception.where) == (3, error["what"], "s3://b")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"backup": None}, "backup    NONE: the app's data is kept on the host"),
        ({"backup": None, "engine": "external"}, "the provider's: the external database is not touched"),
        ({"bytes": None, "releases": 1, "domains": []}, "removes   shop at no name: 1 release, of unknown size"),
        (
            {"unfinished": {"who": "ann", "at": 1_790_000_000.0, "keep_data": False, "done": ["check"]}},
            "continues the removal that ann began at 2026-09-21T14:13:20Z",
        ),
    ],
)
def test_what_is_not_as_usual_is_told(more: Json, says: str) -> None:
    assert says in "\n".join(remove.plan_lines({**PLANNED, **more}, keep_data=False))


@pytest.mark.parametrize(
    ("user", "prefix"), [("root", []), ("admin", ["sudo", "-n", "/usr/bin/env", "--unset=SUDO_USER"])]
)
def test_it_is_done_as_who_provisions(monkeypatch: pytest.MonkeyPatch, user: str, prefix: list[str]) -> None:
    seen: list[list[str]] = []

    def ran(target: object, command: list[str], **_: object) -> tuple[int, bytes, bytes]:
        seen.append(command)
        return 0, b"{}", b""

    monkeypatch.setattr(connection, "run", ran)
    target = connection.Target("192.0.2.10", user, Path("known_hosts"))
    remove.privileged_hostctl(SimpleNamespace(app="shop", provision_target=target)).call("remove", "plan")  # type: ignore[arg-type]
    assert seen == [[*prefix, "/usr/local/sbin/hostctl", "shop", "remove", "plan"]]


@pytest.mark.parametrize("words", [["shop"], ["--keep"], ["--lock-wait", "x"], ["--lock-wait", "-1"]])
def test_what_it_does_not_know_is_refused_before_anything_is_asked(host: Host, words: list[str]) -> None:
    done = run(*words)
    assert (done.exit_code, host.asked) == (2, [])
