"""The receivers of notifications: a webhook each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator

from homeport.config import values
from homeport.config.fields import Mistakes, Section
from homeport.config.values import refuse

Event = Literal["success", "failure", "rollback", "drill", "trouble"]
EVENTS: tuple[Event, ...] = ("success", "failure", "rollback", "drill", "trouble")


def _events(data: object) -> tuple[object, ...]:
    if not isinstance(data, list | tuple) or not data:
        raise ValueError(f"must be a list of {', '.join(EVENTS[:-1])} and {EVENTS[-1]}")
    mistakes: Mistakes = []
    for index, name in enumerate(data):
        what = "" if name in EVENTS else f"must be {', '.join(EVENTS[:-1])} or {EVENTS[-1]}"
        what = what or ("is there twice: keep one" if name in data[:index] else "")
        mistakes += [((index,), what)] if what else []
    refuse(mistakes)
    return tuple(data)


class Notify(Section):
    """A receiver: the name of the secret that holds its URL, the format it understands, and the events it receives."""

    url: Annotated[str, BeforeValidator(values.secret_name("NOTIFY_URL"))]
    """The name of the secret that holds the receiver's URL."""

    format: Literal["slack", "ntfy", "json", "plain"] = "slack"
    """What the receiver understands: slack (also for Mattermost and Discord), ntfy, json or plain."""

    on: Annotated[tuple[Event, ...], BeforeValidator(_events)] = EVENTS
    """The events to send: success, failure, rollback, drill (failed, or passed again), trouble (with the database or
    its backup, and its end).
    """


def _empty_if_null(data: object) -> object:
    return () if data is None else data


def _once(receivers: tuple[Notify, ...]) -> tuple[Notify, ...]:
    names = [one.url for one in receivers]
    refuse([((at, "url"), f"{name} is there twice: keep one") for at, name in enumerate(names) if name in names[:at]])
    return receivers


Receivers = Annotated[tuple[Notify, ...], BeforeValidator(_empty_if_null), AfterValidator(_once)]
