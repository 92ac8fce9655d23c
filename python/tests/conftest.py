"""For every test: signals as a terminal would have them, and a key of the tests' own for what is sealed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hostctl.common.errors import HostError
from hostctl.host import credentials
from hostctl.host.boundary.users import User
from hostctl.sqlite.database import files, owner
from hostctl.sqlite.stream import litestream

# The files that take longest, in the order in which they begin. Where several processes share the tests by file (--dist
# loadfile --no-loadscope-reorder), a file of several minutes must not be the last to begin.
_LONGEST = """
test_stream test_faults test_upgrade test_restore test_postgres_restore test_apps test_postgres_load test_remove
test_postgres_backup test_markers test_ledger test_postgres_provision test_second_app test_firewall test_load
test_hostile_sqlite test_failures test_accessories test_postgres_upgrade test_backup test_env test_host test_cron
test_notify test_shell
test_own_certificates
test_postgres_drill test_archive test_restore_archive test_backup_stream test_upgrade_and_back test_postgres_push
test_host_data_kill test_host_kill
"""
LONGEST_FIRST = {f"{name}.py": place for place, name in enumerate(_LONGEST.split())}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long form of the tests that have a short one, too")
    parser.addoption("--full-list", metavar="FILE", type=Path, help="write to the end of FILE which long forms ran")


# where bin/test looks for tests on real hosts: to collect all others takes longer than some of these
_WITH_HOSTS = {"host", "release", "sandbox"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    with_host = {item.path.parent for item in items if item.get_closest_marker("host")}
    elsewhere = {folder.relative_to(tests).as_posix() for folder in with_host} - _WITH_HOSTS
    if elsewhere:
        raise pytest.UsageError(f"bin/test looks for no test on a real host in {', '.join(sorted(elsewhere))}")
    items.sort(key=lambda item: LONGEST_FIRST.get(item.path.name, len(LONGEST_FIRST)))
    if not config.getoption("--full"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("full")])
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # the process that shares out the tests knows them all
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    terminalreporter.section("longest files, which python/tests/conftest.py has begin first")
    terminalreporter.write_line(
        ", ".join(f"{name} {seconds:.0f} s" for name, seconds in longest_files(terminalreporter))
    )
    ran = [one for one in reports if one.when == "call" and "full" in one.keywords]
    if ran and (path := config.getoption("--full-list")):
        with path.open("a") as file:
            file.writelines(f"{one.duration:7.0f} s  {one.nodeid}  {one.outcome}\n" for one in ran)


def longest_files(terminalreporter: pytest.TerminalReporter) -> list[tuple[str, float]]:
    """The files of two minutes and more, by the time that their tests took with all that was set up for them."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for each in reports:
            if isinstance(each, pytest.TestReport):
                seconds[Path(each.location[0]).stem] += each.duration
    return [(name, total) for name, total in seconds.most_common() if total >= 120]


def pytest_configure() -> None:
    # what a shell starts in the background ignores Ctrl-C, and so would everything that is started from here
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def key_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-creds needs root and a key of this machine: tests of a host have the real one."""
    monkeypatch.setattr(credentials, "_creds", _creds)


@pytest.fixture(scope="session", autouse=True)
def apps_user_is_the_tests_own() -> Iterator[None]:
    """An app of a host in a directory has no user of its own: what its user does to its files, the tests' own does."""
    me = User("me", os.getuid(), os.getgid(), ())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, "find", lambda name: me)
        patched.setattr(owner, "run", lambda name, work, seconds=None: json.loads(json.dumps(work())))
        patched.setattr(owner, "become", lambda name: None)
        patched.setattr(owner, "hold", _hold)
        patched.setattr(litestream, "control_group", lambda app: None)
        yield


@contextlib.contextmanager
def _hold(name: str, paths: Sequence[Path]) -> Iterator[None]:
    with contextlib.ExitStack() as transactions:
        for path in paths:
            transactions.enter_context(files.hold(path))
        yield


def _creds(verb: str, option: str, name: str, given: bytes) -> bytes:
    head = f"for {name}:".encode()
    if verb == "encrypt":
        return head + base64.b64encode(given)
    if not given.startswith(head):
        raise HostError(f"systemd-creds cannot decrypt {name}", "", credentials.AGAIN)
    return base64.b64decode(given.removeprefix(head))
