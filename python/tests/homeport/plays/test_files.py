"""The action files: what it sends to the host, and what check mode says of a host without hostctl."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from homeport.core.errors import ExitCode, HomeportError
from homeport.plays.actions.files import ActionModule, differences
from homeport.remote import hostctl
from hostctl.common.documents import Json

CONF = {"path": "/etc/x/conf", "content": "a\n"}


def action(answer: Json | HomeportError, check: bool = False, diff: bool = False) -> tuple[Any, list[Json]]:
    """The action on a host that gives this answer, and what is sent there."""
    sent: list[Json] = []

    def send(verb: str, payload: Json) -> Json:
        sent.append(payload)
        if isinstance(answer, HomeportError):
            raise answer
        return answer

    made: Any = object.__new__(ActionModule)
    made._task = SimpleNamespace(check_mode=check, diff=diff)
    made.root_hostctl = lambda app, variables: SimpleNamespace(send=send)
    return made, sent


def test_everything_goes_to_the_host_at_once_with_its_defaults() -> None:
    made, sent = action({"changed": [{"path": "/etc/x", "before": None}]})
    result = made.act({"directories": [{"path": "/etc/x"}], "files": [CONF], "absent": ["/etc/old"]}, {})

    assert (result["changed"], result["paths"]) == (True, ["/etc/x"])
    assert sent == [
        {
            "directories": [{"path": "/etc/x", "owner": "root", "group": "root", "mode": "0755"}],
            "files": [{**CONF, "owner": "root", "group": "root", "mode": "0644"}],
            "absent": ["/etc/old"],
            "check": False,
            "user": "root",
        }
    ]


@pytest.mark.parametrize("extra", [{}, {"content": "a", "source": "b"}])
def test_a_file_has_exactly_one_source_of_its_text(extra: Json) -> None:
    made, sent = action({"changed": []})
    with pytest.raises(HomeportError, match="exactly one"):
        made.act({"files": [{"path": "/etc/x", **extra}]}, {})
    assert sent == []


@pytest.mark.parametrize(
    "missing",
    [
        hostctl.NotProvisionedError("no hostctl"),
        HomeportError("unknown verb", "", "", ExitCode.USAGE),  # of an older hostctl
    ],
)
def test_check_mode_says_of_a_host_without_this_hostctl_that_all_would_change(missing: HomeportError) -> None:
    made, _ = action(missing, check=True)
    assert made.act({"files": [CONF]}, {})["paths"] == ["/etc/x/conf"]
    made, _ = action(missing)
    with pytest.raises(HomeportError):
        made.act({"files": [CONF]}, {})


def test_check_mode_hides_no_refusal_of_the_host() -> None:
    made, _ = action(HomeportError("root does not write /srv/x"), check=True)
    with pytest.raises(HomeportError, match="root does not write"):
        made.act({"files": [CONF]}, {})


def test_a_host_without_hostctl_is_told_from_one_that_does_not_answer() -> None:
    with pytest.raises(hostctl.NotProvisionedError):
        hostctl.parse(127, b"", b"sh: 1: hostctl: not found\n", "host")
    with pytest.raises(HomeportError) as silent:
        hostctl.parse(1, b"", b"Killed\n", "host")
    assert not isinstance(silent.value, hostctl.NotProvisionedError)


def test_diff_has_what_there_was_and_what_there_is() -> None:
    assert list(differences([{"path": "/x", "before": None}], {"/x": "new"})) == [
        {"before": "", "after": "new", "before_header": "/x", "after_header": "/x"}
    ]
