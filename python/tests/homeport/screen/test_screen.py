"""What a person sees: lines off a terminal, nothing of a secret, nothing on standard output."""

from __future__ import annotations

import io

import pytest
from pydantic import SecretStr

from homeport.core.humanize import size
from homeport.core.redact import Redactor
from homeport.screen import screen as screen_screen
from homeport.screen.screen import PushScreen, Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2138, "2.1 kB"),
        (5_050_000, "5.0 MB"),
        (7.2e9, "7.2 GB"),
        (3e13, "30000.0 GB"),
    ],
)
def test_a_size_is_read_at_a_glance(count: float, shown: str) -> None:
    assert size(count) == shown


def test_off_a_terminal_a_step_is_one_plain_line() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.begin("upload")
    screen.note("1.0 kB of 2.0 kB")
    screen.end("upload", "2.0 kB, a delta", 0.25)
    assert out.getvalue() == "  upload      0.2 s  ok  2.0 kB, a delta\n"


def test_a_long_step_is_announced_where_nothing_can_be_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen_screen, "LONG_SECONDS", -1.0)
    out = io.StringIO()
    screen = Screen(out)
    screen.begin("build", "local")
    screen.note("Compiling 12 files")
    assert out.getvalue().splitlines() == ["  build         ...  local"]


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Screen(Terminal()).colour
    monkeypatch.delenv("NO_COLOR")
    assert Screen(Terminal()).colour
    assert not Screen(io.StringIO()).colour


def test_quiet_hides_what_went_well_and_shows_what_did_not() -> None:
    out = io.StringIO()
    screen = Screen(out, quiet=True)
    screen.begin("build")
    screen.end("build", "fine", 0.1)
    screen.end("health", "500", 0.1, ok=False)
    assert out.getvalue() == "  health      0.1 s  failed  500\n"


def test_no_event_of_any_kind_shows_a_secret() -> None:
    out = io.StringIO()
    shown = PushScreen(Screen(out, verbose=True), Redactor({"TOKEN": SecretStr("s3cr3t-value")}))
    shown({"kind": "line", "text": "TOKEN=s3cr3t-value"})
    shown({"kind": "step", "step": "build", "state": "begin", "text": "with s3cr3t-value", "ms": None})
    shown({"kind": "host", "step": "migrate", "state": "failed", "text": "bad s3cr3t-value", "ms": 3})
    assert "s3cr3t-value" not in out.getvalue()
    assert "[TOKEN]" in out.getvalue()


def test_the_steps_are_kept_for_the_document() -> None:
    shown = PushScreen(Screen(io.StringIO()), Redactor({}))
    shown({"kind": "step", "step": "upload", "state": "ok", "text": "", "ms": 40})
    shown({"kind": "host", "step": "flip", "state": "ok", "text": "", "ms": 2, "n": 1})
    assert shown.steps == [{"name": "upload", "ms": 40}, {"name": "flip", "ms": 2}]


def test_the_output_of_a_migration_stays_on_the_screen_line_by_line() -> None:
    out = io.StringIO()
    shown = PushScreen(Screen(out), Redactor({}))
    shown({"kind": "host", "step": "migrate", "state": "begin", "text": "", "ms": None})
    shown({"kind": "host", "step": "migrate", "state": "note", "text": "== Running 1\n== Migrated 1", "ms": None})
    shown({"kind": "host", "step": "migrate", "state": "ok", "text": "bin/migrate", "ms": 300})
    assert out.getvalue().splitlines() == [
        "    == Running 1",
        "    == Migrated 1",
        "  migrate     0.3 s  ok  bin/migrate",
    ]


def test_a_failed_step_is_one_line_as_the_error_tells_the_rest() -> None:
    out = io.StringIO()
    shown = PushScreen(Screen(out), Redactor({}))
    shown({"kind": "host", "step": "health", "state": "failed", "text": "it died; its last lines:\na\nb", "ms": 300})
    assert out.getvalue() == "  health      0.3 s  failed  it died; its last lines:\n"


def test_an_event_of_an_unknown_kind_is_passed_over() -> None:
    PushScreen(Screen(io.StringIO()), Redactor({}))({"kind": "tomorrow"})
