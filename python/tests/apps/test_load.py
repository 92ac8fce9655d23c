from __future__ import annotations

import json
import math
import signal
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.load import PACKAGES, Load
from demo.report import Counts, Failure, Report, percentile
from tests.apps import faulty
from tests.apps.support import Instance, free_port, running, wait_until


def load(address: str, **options: Any) -> Load:
    return Load(address, "localhost", **{"plain": True, "clients": 4, "rate": 0, **options})


def load_until(address: str, requests: int, **options: Any) -> Report:
    """The report of exactly that many requests."""
    with load(address, max_requests=requests, **options) as user:
        wait_until(lambda: total(user) == requests)
    return user.report


def halves(counts: dict[str, int], clients: int) -> bool:
    """Each client takes the methods in turn, so that each may be one ahead."""
    return set(counts) == {"GET", "POST"} and abs(counts["GET"] - counts["POST"]) <= clients


def total(user: Load) -> int:
    progress = user.progress()
    return progress.answered + progress.failed


def test_a_sound_app_fails_nothing_and_half_of_the_requests_are_posts(hello: Instance) -> None:
    report = load_until(hello.address, 400, clients=8)
    assert report.failed == 0
    assert report.answered == 400
    assert halves(report.total.answered, clients=8)
    assert report.connections == 8
    assert report.versions == {"1": report.total.answered["GET"]}
    assert 0 < report.total.p50 <= report.total.p99 <= report.total.slowest


def test_phases_split_the_counts_and_add_up(hello: Instance) -> None:
    with load(hello.address, rate=500) as user:
        began = user.mark("push")
        before = user.progress().answered
        wait_until(lambda: user.progress().answered > before + 20)
        user.mark("after")
    report = user.report
    assert [phase.name for phase in report.phases] == ["start", "push", "after"]
    assert report.phase("push").began == began
    assert sum(report.phase("push").answered.values()) > 20
    assert sum(sum(phase.answered.values()) for phase in report.phases) == report.answered


def test_a_kill_is_counted_and_only_posts_in_flight_are_excused(hello_release: Path, tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as instances:
        first = instances.enter_context(running(hello_release, tmp_path / "one", port=port))
        with load(first.address) as user:
            user.mark("kill")
            killed = kill(first)
            wait_until(lambda: user.progress().failed > 20)
            instances.enter_context(running(hello_release, tmp_path / "two", port=port))
            wait_until_all_answer(user)
            user.mark("after")
            wait_until_all_answer(user)
    report = user.report
    assert report.phase("after").failed == {}
    assert len(report.posts_in_flight(*killed)) <= user.settings.clients
    assert report.unexcused(killed)
    assert {failure.kind for failure in report.unexcused(killed)} <= {"connect", "reset"}


def kill(instance: Instance) -> tuple[float, float]:
    began = time.time()
    instance.process.kill()
    instance.process.wait()
    return began, time.time()


def wait_until_all_answer(user: Load) -> None:
    before = user.progress().answered
    wait_until(lambda: user.progress().answered > before + 100)


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (faulty.close_after_request, "reset"),
        (faulty.reset_after_request, "reset"),
        (faulty.cut_the_answer, "cut"),
        (faulty.cut_the_head, "cut"),
        (faulty.error_500, "status"),
        (faulty.nonsense, "protocol"),
        (faulty.hang, "timeout"),
    ],
)
def test_every_failure_is_counted_once_by_its_kind_and_never_asked_again(
    behaviour: faulty.Behaviour, kind: str
) -> None:
    with faulty.serving(behaviour) as (server, address):
        report = load_until(address, 12, timeout=0.2 if kind == "timeout" else 30.0)
        assert report.total.kinds == {kind: 12}
        assert halves(report.total.failed, clients=4)
        assert report.answered == 0
        assert server.requests == 12
        assert all(failure.sent and failure.started <= failure.at for failure in report.failures)


def test_an_altered_echo_fails_the_post_only() -> None:
    with faulty.serving(faulty.wrong_echo) as (_, address):
        report = load_until(address, 12)
    assert report.total.kinds == {"echo": report.failed}
    assert report.total.failed == {"POST": report.failed}
    assert report.total.answered == {"GET": 12 - report.failed}
    assert report.failed > 0


def test_a_refused_connection_is_a_failure_that_was_never_sent() -> None:
    report = load_until(f"127.0.0.1:{free_port()}", 8)
    assert report.total.kinds == {"connect": 8}
    assert not any(failure.sent for failure in report.failures)
    assert report.posts_in_flight(0, time.time()) == []


@pytest.mark.parametrize("behaviour", [faulty.close_silently_after_answer, faulty.close_announced])
def test_a_connection_closed_between_requests_is_opened_again_without_a_failure(
    behaviour: faulty.Behaviour,
) -> None:
    with faulty.serving(behaviour) as (server, address):
        report = load_until(address, 10, clients=2, rate=4)  # what is asked before the end arrives fails, and rightly
        assert (report.failed, report.answered, report.connections, server.requests) == (0, 10, 10, 10)


def test_chunked_answers_are_read() -> None:
    with faulty.serving(faulty.chunked) as (_, address):
        report = load_until(address, 12)
    assert (report.failed, report.answered, report.connections) == (0, 12, 4)
    assert report.versions == {"9": report.total.answered["GET"]}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    key, crt = directory / "key.pem", directory / "crt.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*new, *name, "-keyout", key, "-out", crt], check=True, capture_output=True)
    return key, crt


def test_over_tls_the_authority_and_the_name_are_checked(certificate: tuple[Path, Path]) -> None:
    key, crt = certificate
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(crt, key)
    with faulty.serving(faulty.good, tls) as (_, address):
        trusted = load_until(address, 20, plain=False, ca=str(crt))
        stranger = load_until(address, 4, plain=False)
    assert (trusted.failed, trusted.answered, trusted.connections) == (0, 20, 4)
    assert stranger.total.kinds == {"connect": 4}
    assert "CERTIFICATE_VERIFY_FAILED" in stranger.failures[0].detail


def test_over_tls_a_close_between_requests_is_no_failure_and_one_after_a_request_is(
    certificate: tuple[Path, Path],
) -> None:
    key, crt = certificate
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(crt, key)
    with faulty.serving(faulty.close_silently_after_answer, tls) as (_, address):
        between = load_until(address, 8, plain=False, ca=str(crt), clients=2, rate=20)
    with faulty.serving(faulty.close_after_request, tls) as (_, address):
        after = load_until(address, 8, plain=False, ca=str(crt))
    assert (between.failed, between.connections) == (0, 8)
    assert after.total.kinds == {"reset": 8}


def program(address: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "demo.load", address, "localhost", "--plain", *options]
    return subprocess.Popen(command, cwd=PACKAGES, stdout=subprocess.PIPE, text=True)


def test_as_a_program_it_ends_by_itself_and_its_status_tells(hello: Instance) -> None:
    good = program(hello.address, "--max-requests", "40", "--rate", "0", "--json")
    assert Report.from_json(good.communicate()[0]).answered == 40
    assert good.returncode == 0
    bad = program(f"127.0.0.1:{free_port()}", "--seconds", "0.3")
    assert "connect" in bad.communicate()[0]
    assert bad.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_program_a_signal_ends_it_with_a_report(number: signal.Signals) -> None:
    with faulty.serving(faulty.good) as (server, address):
        running_load = program(address, "--rate", "200", "--json")
        wait_until(lambda: server.requests > 20)
        running_load.send_signal(number)
        report = Report.from_json(running_load.communicate(timeout=30)[0])
        assert report.answered == server.requests
        assert report.failed == 0


def test_when_its_user_fails_the_process_ends_with_it() -> None:
    with faulty.serving(faulty.good) as (_, address):
        user = load(address)
        with pytest.raises(ZeroDivisionError), user:
            raise ZeroDivisionError
        assert user.process.returncode == 0


def test_when_the_process_dies_its_user_is_told() -> None:
    with faulty.serving(faulty.good) as (_, address):
        user = load(address)
        with pytest.raises(RuntimeError, match="status -9"):
            kill_and_ask(user)


def kill_and_ask(user: Load) -> None:
    with user:
        user.process.kill()
        user.process.wait()
        user.progress()


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_the_smallest_value_with_that_share_at_or_below_it(values: list[float], share: float) -> None:
    result = percentile(values, share)
    assert result in values
    assert sum(value <= result for value in values) >= math.floor(share * len(values))
    assert sum(value < result for value in values) < share * len(values) + 1e-9


failures = st.builds(
    Failure,
    method=st.sampled_from(["GET", "POST"]),
    kind=st.sampled_from(["reset", "connect"]),
    detail=st.text(),
    phase=st.text(),
    started=st.floats(0, 50),
    at=st.floats(50, 100),
    sent=st.booleans(),
)


@given(st.lists(failures))
def test_a_report_survives_json_and_excuses_only_sent_posts_in_flight(some: list[Failure]) -> None:
    counts = Counts()
    for failure in some:
        counts.bad(failure)
    report = Report.from_json(json.dumps(asdict(counts.report())))
    assert report.failures == some
    assert report.unexcused() == some
    assert report.unexcused((101.0, 102.0)) == some
    assert not [item for item in report.unexcused((49.0, 50.0)) if item.sent and item.method == "POST"]
    assert len(report.unexcused((49.0, 50.0))) + len(report.posts_in_flight(49.0, 50.0)) == len(some)
