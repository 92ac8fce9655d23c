"""The steps of each transition, in the order in which they are performed.

A row of a table is a step and the condition under which a transition has it. Recovery takes every step of the table and
undoes those that the journal names as begun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from hostctl.common.documents import Settings
from hostctl.instance import health
from hostctl.journal.engine import Step, Work, nothing
from hostctl.postgres import upgrade
from hostctl.transitions.steps import push, restore, switch


class Case(NamedTuple):
    """What decides which steps a transition has. `drains`: an older instance still drains."""

    settings: Settings
    drains: bool


def _always(_: Case) -> bool:
    return True


def _drains(case: Case) -> bool:
    return case.drains


def _database(case: Case) -> bool:
    return case.settings.get("database") is not None


def _migrates_database(case: Case) -> bool:
    return _database(case) and bool(case.settings["commands"]["migrate"])


def _restarts(case: Case) -> bool:
    return case.settings["strategy"] == "restart"


class Row(NamedTuple):
    """A step, and when a transition has it."""

    step: Step
    when: Callable[[Case], bool] = _always


UNPACK = Row(Step("unpack", push.unpack, push.remove_tree))
WAIT = Row(Step("wait", push.wait_for_drains, nothing), _drains)
CUT = Row(Step("cut", push.end_drains, nothing), _drains)
SETTINGS = Row(Step("settings", push.check_database, push.stop_check), _database)
POINT = Row(Step("point", push.take_restore_point, nothing), _migrates_database)
MIGRATE = Row(Step("migrate", push.migrate, push.stop_migration))
STOP = Row(Step("stop", push.stop_previous, push.start_previous), _restarts)
START = Row(Step("start", switch.start, switch.stop_new))
HEALTH = Row(Step("health", health.check_health, nothing))
FLIP = Row(Step("flip", switch.flip, switch.flip_back, repeat=True))
VERIFY = Row(Step("verify", switch.verify, nothing))
LIVE = Row(Step("live", switch.live, switch.live_back, repeat=True))

# while the data is replaced, no instance runs
STOP_ALL = Row(Step("stop", restore.stop_all, push.start_previous))
FETCH_DATA = Row(Step("fetch", restore.fetch, restore.forget))
REPLACE_DATA = Row(Step("data", restore.replace, restore.put_back))
VERIFY_DATA = Row(Step("verify", restore.verify, nothing))

# the live release starts again on other data
RESTART_IN_PLACE = (
    Row(Step("start", restore.start, restore.stop_again)),
    HEALTH,
    Row(Step("flip", restore.flip, restore.flip_back, repeat=True)),
    VERIFY_DATA,
)

PUSH = (UNPACK, WAIT, SETTINGS, POINT, MIGRATE, STOP, START, HEALTH, FLIP, VERIFY, LIVE)
ENV = (UNPACK, WAIT, SETTINGS, STOP, START, HEALTH, FLIP, VERIFY, LIVE)
ROLLBACK = (CUT, STOP, START, HEALTH, FLIP, VERIFY, LIVE)
ROLLBACK_WITH_DATA = (FETCH_DATA, STOP_ALL, REPLACE_DATA, START, HEALTH, FLIP, VERIFY_DATA, LIVE)
RESTORE = (FETCH_DATA, STOP_ALL, REPLACE_DATA, *RESTART_IN_PLACE)
UPGRADE = (
    Row(Step("fetch", upgrade.prepare, upgrade.forget)),
    STOP_ALL,
    Row(Step("data", upgrade.replace, upgrade.put_back)),
    *RESTART_IN_PLACE,
)
TABLES = {
    "push": PUSH,
    "env": ENV,
    "rollback": ROLLBACK,
    "restore": RESTORE,
    "load": RESTORE,
    "upgrade": UPGRADE,
}


def table(verb: str, with_data: bool) -> Sequence[Row]:
    """The table of a transition's verb; `with_data`: it replaces the data as well."""
    return ROLLBACK_WITH_DATA if verb == "rollback" and with_data else TABLES[verb]


def every(work: Work) -> list[Step]:
    """Every step that a transition of this kind may have."""
    return [row.step for row in table(work.verb, work.data is not None)]


def planned(work: Work, case: Case) -> list[Step]:
    """The steps that this transition has."""
    return [row.step for row in table(work.verb, work.data is not None) if row.when(case)]
