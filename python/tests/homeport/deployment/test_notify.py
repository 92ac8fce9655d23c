"""What fails before the host has begun it is told from here; of everything else the host tells by itself."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from homeport.cli import deploy
from homeport.config.layers import load
from homeport.config.secret_names import scrub
from homeport.core import redact
from homeport.core.errors import ExitCode, HomeportError
from homeport.deployment import notify
from homeport.options.options import Options
from homeport.remote.session import Session
from homeport.screen.screen import PushScreen, Screen
from homeport.secrets import listing, rotation
from homeport.secrets.resolve import collect
from homeport.verbs.notify import table
from tests.receiver import Receiver, listening

CONFIG = """app: shop
host: web
domains: [shop.test]
notify:
  - {url: TEAM_URL, format: json, on: [failure]}
  - {url: PHONE_URL, format: ntfy, on: [success]}
"""
ERROR = HomeportError("the build failed with key hunter2-secret", "mix", "mend the build", ExitCode.FAILED)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as found:
        yield found


@pytest.fixture
def session(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Session:
    (tmp_path / "deploy.yml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEAM_URL", receiver.url("/T0-secret"))
    monkeypatch.setenv("PHONE_URL", receiver.url("/phone"))
    return Session(load(tmp_path / "deploy.yml"), Options())


def screen() -> PushScreen:
    return PushScreen(Screen(io.StringIO()), redact.Redactor({}))


def fails(session: Session, error: HomeportError, *events: dict[str, object]) -> None:
    """A push that shows these events and then fails, as the verb runs it."""
    shown, notifier = screen(), notify.FailureNotifier(session, "push")
    scrub(session.loaded.config, os.environ)
    for event in events:
        shown({"text": "", "ms": None, **event})
    with pytest.raises(HomeportError) as raised, notifier.watch(shown):
        raise error
    assert raised.value is error


def test_a_failure_that_never_reached_the_host_is_told_without_any_secret(session: Session, receiver: Receiver) -> None:
    redact.learn({"KEY": redact.SecretStr("hunter2-secret")})
    fails(session, ERROR)
    (got,) = receiver.got
    assert got.path == "/T0-secret"
    assert (got.json["event"], got.json["verb"], got.json["code"]) == ("failure", "push", 1)
    assert got.json["text"] == "the build failed with key [KEY]\nfix: mend the build"


@pytest.mark.parametrize("code", [ExitCode.USAGE, ExitCode.LOCKED, ExitCode.INTERRUPTED])
def test_a_mistake_of_a_person_is_nobodys_news(session: Session, receiver: Receiver, code: ExitCode) -> None:
    fails(session, HomeportError("no", "", "", code))
    assert not receiver.got


def test_what_the_host_has_begun_it_tells_itself(session: Session, receiver: Receiver) -> None:
    fails(
        session, ERROR, {"kind": "transition", "transition": "T"}, {"kind": "host", "step": "health", "state": "begin"}
    )
    assert not receiver.got


def test_a_release_that_is_live_and_does_not_answer_from_outside_is_told_from_here(
    session: Session, receiver: Receiver
) -> None:
    begun = {"kind": "step", "step": notify.OUTSIDE, "state": "begin"}
    fails(session, ERROR, {"kind": "transition", "transition": "T"}, begun)
    assert len(receiver.got) == 1


def test_a_url_that_the_host_alone_has_is_said_to_be_so(
    session: Session, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TEAM_URL")
    fails(session, ERROR)
    assert "TEAM_URL was not notified of this failure: only the host has its URL" in capsys.readouterr().err


def test_a_receiver_that_refuses_changes_nothing_and_is_named(
    session: Session, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.answers, receiver.says = [404], "no hook at /T0-secret"
    fails(session, ERROR)
    said = capsys.readouterr().err
    assert said == "warning: TEAM_URL was not notified of this failure: no hook at [URL]\n"


@pytest.mark.parametrize("url", ["hooks.test/T0-secret", "http://hooks.test/T0-secret"])
def test_a_value_that_is_no_url_is_refused_and_not_repeated(
    session: Session, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("TEAM_URL", url)
    with pytest.raises(HomeportError, match="the value of TEAM_URL must be a URL") as raised:
        notify.check(session.loaded, collect(session.loaded, os.environ))
    error = raised.value
    assert error.code == ExitCode.USAGE
    assert "T0-secret" not in str(error.as_dict())
    assert (error.where, error.fix) == ("deploy.yml:4", "deploy secrets set TEAM_URL")


def test_the_urls_are_secrets_and_leave_the_environment(session: Session) -> None:
    assert set(session.secrets) == {"TEAM_URL", "PHONE_URL"}
    assert not {"TEAM_URL", "PHONE_URL"} & os.environ.keys()


MISTAKES: list[tuple[str, str]] = [
    ("notify: hello", "notify: must be a list"),
    ("notify: [https://hooks.test/T0-secret]", "notify[0]: must be a map of keys"),
    ("notify: [{}]", "notify[0].url: is required"),
    ("notify: [{url: https://hooks.test/T0-secret}]", "notify[0].url: must be a name alone, such as NOTIFY_URL"),
    ("notify: [{url: A_URL, format: teams}]", "notify[0].format: must be slack, ntfy, json or plain"),
    ("notify: [{url: A_URL, on: failure}]", "notify[0].on: must be a list of success, failure, rollback, drill"),
    ("notify: [{url: A_URL, on: []}]", "notify[0].on: must be a list of success"),
    ("notify: [{url: A_URL, on: [success, party]}]", "notify[0].on[1]: must be success, failure, rollback, drill or"),
    ("notify: [{url: A_URL, on: [drill, drill]}]", "notify[0].on[1]: is there twice: keep one"),
    ("notify: [{url: A_URL}, {url: A_URL}]", "notify[1].url: A_URL is there twice: keep one"),
    ("notify: [{url: A_URL, only: [drill]}]", "notify[0].only: unknown key"),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_in_notify_is_told_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deploy.yml").write_text(f"app: shop\nhost: web\ndomains: [shop.test]\n{text}\n")
    with pytest.raises(HomeportError) as raised:
        load(tmp_path / "deploy.yml")
    error = raised.value
    assert error.code == ExitCode.USAGE
    assert error.what.startswith(says)
    assert error.where == "deploy.yml:4"
    assert "T0-secret" not in error.what


def test_all_events_and_slack_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "deploy.yml").write_text("app: shop\nhost: web\ndomains: [shop.test]\nnotify: [{url: A_URL}]\n")
    (found,) = load(tmp_path / "deploy.yml").config.notify
    assert (found.format, found.on) == ("slack", ("success", "failure", "rollback", "drill", "trouble"))


# ---------------------------------------------------------------------------------------------- the verb


class Host:
    where = "deploy@web"

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def call(self, *args: str) -> dict[str, object]:
        return {"receivers": self.answer}


@pytest.fixture
def asked(session: Session, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the verb against a host that answers so; its exit status."""

    def run(answer: object, *args: str) -> int:
        monkeypatch.setattr(Session, "hostctl", Host(answer))
        found = CliRunner().invoke(deploy, ["-c", str(session.loaded.root / "deploy.yml"), "notify", *args])
        run.out = found.output  # type: ignore[attr-defined]
        return found.exception.code if isinstance(found.exception, HomeportError) else found.exit_code

    return run


def test_a_test_says_what_each_receiver_answered_and_fails_unless_all_took_it(asked: Callable[..., int]) -> None:
    good = {"url": "TEAM_URL", "ok": True, "status": 200, "answer": "ok"}
    bad = {"url": "PHONE_URL", "ok": False, "status": 0, "answer": "its name does not resolve"}
    assert asked([good], "test") == 0
    assert asked([good, bad], "test") == ExitCode.FAILED
    assert asked.out.splitlines() == [  # type: ignore[attr-defined]
        "TEAM_URL answered 200: ok",
        "PHONE_URL did not answer: its name does not resolve",
    ]


def test_the_list_says_what_became_of_the_last_one() -> None:
    last = {"at": "2026-11-21T12:00:00Z", "event": "failure", "status": 503, "answer": "busy", "ok": False}
    one = {"url": "TEAM_URL", "format": "slack", "on": ["failure", "drill"], "waiting": 1}
    lines = table(
        [
            {**one, "last": {**last, "next_try": "2026-11-21T12:00:05Z"}},
            {**one, "waiting": 0, "last": {**last, "next_try": None}},
            {**one, "waiting": 0, "last": {**last, "ok": True, "next_try": None}},
            {**one, "waiting": 0, "last": None},
        ]
    )
    assert [line.split("  ")[-1] for line in lines] == [
        "LAST",
        "503 busy; next try 2026-11-21T12:00:05Z",
        "given up: 503 busy",
        "accepted",
        "-",
    ]
    assert table([]) == ["no receivers; add notify to deploy.yml, then run deploy provision"]


def test_an_action_that_is_none_is_refused(session: Session) -> None:
    found = CliRunner().invoke(deploy, ["-c", str(session.loaded.root / "deploy.yml"), "notify", "shout"])
    assert found.exit_code == 2


def test_the_verbs_of_secrets_know_whose_the_urls_are(session: Session) -> None:
    rows = {row["name"]: (row["for"], row["from"]) for row in listing.rows(session.loaded, os.environ)}
    assert rows == dict.fromkeys(("TEAM_URL", "PHONE_URL"), ("notify", "environment"))
    with pytest.raises(HomeportError, match="TEAM_URL is the URL of a receiver") as raised:
        rotation.rotate(session.loaded, "TEAM_URL", os.environ)
    assert raised.value.code == ExitCode.USAGE
