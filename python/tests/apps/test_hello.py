from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.apps.support import Instance, copy_app, environment, listens, mix, running, started, wait_until


def test_one_connection_carries_many_requests(hello: Instance) -> None:
    connection = HTTPConnection("127.0.0.1", hello.port)
    connection.connect()
    first = connection.sock.getsockname()
    for method, path, body in [("GET", "/health", None), ("POST", "/echo", b"abc"), ("HEAD", "/", None)] * 3:
        connection.request(method, path, body)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, {"/health": b"ok", "/echo": b"abc", "/": b""}[path])
    assert connection.sock.getsockname() == first
    connection.close()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/nothing", 404),
        ("/assets/../../../ebin/hello.app", 404),
        ("/slow?ms=x", 400),
        ("/slow?ms=1", 200),
        ("/env?name=PATH", 403),
        ("/websocket", 426),
        ("/echo", 404),
    ],
)
def test_a_path_has_its_status(hello: Instance, path: str, status: int) -> None:
    assert hello.get(path)[0] == status


def test_the_version_says_who_answers(hello: Instance) -> None:
    answer = json.loads(hello.get("/version")[1])
    assert answer["version"] == "1"
    assert answer["release"] == "r1"
    assert answer["port"] == hello.port
    assert answer["pid"] == hello.process.pid


def test_the_environment_is_shown_only_by_allowed_names(hello: Instance) -> None:
    assert hello.get("/env?name=GREETING") == (200, b'{"GREETING":"good morning"}')
    assert hello.get("/env?name=RELEASE_COOKIE")[0] == 403


def test_large_and_chunked_bodies_come_back_whole(hello: Instance) -> None:
    body = bytes(range(256)) * 8192
    assert hello.ask("POST", "/echo", body).body == body
    connection = HTTPConnection("127.0.0.1", hello.port)
    connection.request("POST", "/echo", iter([b"one ", b"two ", b"three"]), encode_chunked=True)
    assert connection.getresponse().read() == b"one two three"
    connection.close()


def test_pipelined_requests_are_answered_in_order(hello: Instance) -> None:
    with socket.create_connection(("127.0.0.1", hello.port)) as client:
        post = b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n"
        client.sendall(post + b"\r\n1" + post + b"connection: close\r\n\r\n2")
        text = client.makefile("rb").read()
    assert re.findall(rb"\r\n\r\n(.)", text) == [b"1", b"2"]


def test_plain_http_is_sent_to_https_unless_the_edge_says_it_was(hello: Instance) -> None:
    answer = hello.ask("GET", "/health?a=b", headers={"host": "hello.test", "x-forwarded-proto": "http"})
    assert (answer.status, answer.headers["location"]) == (301, "https://hello.test/health?a=b")
    assert hello.get("/health", host="hello.test")[0] == 301
    assert hello.get("/health", host="hello.test", x_forwarded_proto="https")[0] == 200


def test_the_page_links_digested_assets_that_may_be_kept_for_ever(hello: Instance) -> None:
    page = hello.get("/")[1].decode()
    paths = re.findall(r'"(/assets/[^"]+-[0-9a-f]{32}\.(?:css|js))"', page)
    assert len(paths) == 2
    for path in paths:
        answer = hello.ask("GET", path, headers={"accept-encoding": "gzip"})
        assert answer.headers["content-encoding"] == "gzip"
        assert "immutable" in answer.headers["cache-control"]


def test_assets_deploy_writes_phoenixs_manifest_and_a_second_run_changes_nothing(hello_app: Path) -> None:
    static = hello_app / "priv" / "static"
    text = (static / "cache_manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["version"] == 1
    digested = manifest["latest"]["assets/css/app.css"]
    assert manifest["digests"][digested]["logical_path"] == "assets/css/app.css"
    assert (static / digested).read_bytes() == (static / "assets/css/app.css").read_bytes()
    assert (static / f"{digested}.gz").exists()
    mix(hello_app, "assets.deploy")
    assert (static / "cache_manifest.json").read_text() == text


def test_a_build_of_another_version_differs_in_one_module(tmp_path: Path) -> None:
    app = copy_app("hello", tmp_path / "app")
    mix(app, "release", "--path", str(tmp_path / "one"))
    mix(app, "release", "--path", str(tmp_path / "two"), HELLO_VERSION="2")
    differing = [path.name for path in files(tmp_path / "one") if differs(path, tmp_path)]
    assert differing == ["Elixir.Hello.Version.beam"]
    assert len(files(tmp_path / "one")) == len(files(tmp_path / "two"))
    (app / "VERSION").write_text("2\n")
    mix(app, "release", "--path", str(tmp_path / "one"), "--overwrite")
    assert not [path for path in files(tmp_path / "one") if differs(path, tmp_path)]


def files(root: Path) -> list[Path]:
    # mix draws a new cookie for each directory that it releases to
    return [path for path in root.rglob("*") if path.is_file() and path.name != "COOKIE"]


def differs(path: Path, root: Path) -> bool:
    return path.read_bytes() != (root / "two" / path.relative_to(root / "one")).read_bytes()


def test_a_stop_finishes_requests_in_flight_and_takes_no_new_ones(hello_release: Path, tmp_path: Path) -> None:
    with running(hello_release, tmp_path) as instance:
        connection = HTTPConnection("127.0.0.1", instance.port)
        connection.request("GET", "/slow?ms=1500")
        instance.get("/health")
        instance.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not listens(instance.port))
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"waited 1500 ms")
        assert answer.headers["connection"] == "close"
        assert instance.process.wait(30) == 0


def test_a_stop_ends_idle_connections(hello_release: Path, tmp_path: Path) -> None:
    with running(hello_release, tmp_path) as instance:
        with socket.create_connection(("127.0.0.1", instance.port)) as idle:
            instance.get("/health")
            instance.process.send_signal(signal.SIGTERM)
            assert idle.recv(1) == b""
        assert instance.process.wait(30) == 0


def test_told_to_crash_at_boot_it_ends_with_an_error(hello_release: Path, tmp_path: Path) -> None:
    with started(hello_release, tmp_path, {"HELLO_CRASH_AT_BOOT": "1"}) as instance:
        assert instance.process.wait(30) != 0
        assert "HELLO_CRASH_AT_BOOT is set" in instance.log.read_text()


@pytest.mark.parametrize("env", [{"HELLO_NEVER_HEALTHY": "1"}, {"PHX_SERVER": "false"}])
def test_told_not_to_listen_it_runs_without(env: dict[str, str], hello_release: Path, tmp_path: Path) -> None:
    with started(hello_release, tmp_path, env) as instance:
        instance.wait_for("hello does not listen")
        assert not listens(instance.port)
        assert instance.process.poll() is None


def test_told_to_be_ill_its_health_says_so(hello_release: Path, tmp_path: Path) -> None:
    env = {"HELLO_HEALTH_STATUS": "500", "HELLO_EAT_MEMORY_MB": "300", "HELLO_SLOW_BOOT_MS": "10"}
    with running(hello_release, tmp_path, env) as instance:
        assert instance.get("/health")[0] == 500
        assert instance.get("/version")[0] == 200
        assert resident_mb(instance) > 300
        instance.get("/memory?mb=0")
        wait_until(lambda: resident_mb(instance) < 300)
        assert instance.get("/memory?mb=400") == (200, b"holding 400 MB")
        assert resident_mb(instance) > 400


def resident_mb(instance: Instance) -> float:
    status = Path(f"/proc/{instance.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def test_a_slow_boot_listens_no_earlier_than_told(hello_release: Path, tmp_path: Path) -> None:
    with started(hello_release, tmp_path, {"HELLO_SLOW_BOOT_MS": "60000"}) as instance:
        wait_until(lambda: (tmp_path / "tmp").exists() or resident_mb(instance) > 60)
        assert not listens(instance.port)
        assert instance.process.poll() is None


def test_told_to_check_the_host_it_refuses_others(hello_release: Path, tmp_path: Path) -> None:
    env = {"HELLO_CHECK_HOST": "1", "PHX_HOST": "hello.test"}
    with running(hello_release, tmp_path, env) as instance:
        assert instance.get("/health", host="hello.test", x_forwarded_proto="https")[0] == 200
        assert instance.get("/health", host="other.test", x_forwarded_proto="https")[0] == 400
        assert instance.get("/health")[0] == 200


def run(release: Path, scratch: Path, program: str, **env: str) -> subprocess.CompletedProcess[str]:
    scratch.mkdir(exist_ok=True)
    return subprocess.run(
        [release / "bin" / program],
        env=environment(1, scratch, env),
        capture_output=True,
        text=True,
        cwd=scratch,
    )


def test_migrations_are_applied_once_and_pending_ones_named(hello_release: Path, tmp_path: Path) -> None:
    known = "1_create_greetings\n2_add_language_to_greetings\n"
    assert run(hello_release, tmp_path, "pending").stdout == known
    assert run(hello_release, tmp_path, "migrate").stdout.count("migrated") == 2
    assert (tmp_path / "state" / "migrations").read_text() == known
    assert run(hello_release, tmp_path, "pending").stdout == ""
    assert run(hello_release, tmp_path, "migrate").stdout == "nothing to migrate\n"
    third = {"HELLO_EXTRA_MIGRATION": "3_more"}
    assert run(hello_release, tmp_path, "pending", **third).stdout == "3_more\n"
    assert run(hello_release, tmp_path, "migrate", **third).stdout == "migrated 3_more\n"


def test_a_failing_migration_exits_non_zero_and_writes_nothing(hello_release: Path, tmp_path: Path) -> None:
    failed = run(hello_release, tmp_path, "migrate", HELLO_FAIL_MIGRATION="1")
    assert failed.returncode != 0
    assert "HELLO_FAIL_MIGRATION is set" in failed.stderr
    assert not (tmp_path / "state" / "migrations").exists()


def test_the_umbrella_serves_from_its_second_child(tmp_path: Path) -> None:
    app = copy_app("umbrella", tmp_path / "app")
    release = tmp_path / "umbrella_web"
    mix(app, "release", "--path", str(release))
    with running(release, tmp_path / "run") as instance:
        assert instance.get("/health") == (200, b"ok")
        assert instance.get("/") == (200, b"Hello from the core")
        assert instance.get("/other")[0] == 404
        assert instance.terminate() == 0


@pytest.mark.parametrize("name", ["hello", "ledger", "umbrella"])
def test_the_elixir_is_formatted_free_of_warnings_and_passes_its_own_tests(name: str, tmp_path: Path) -> None:
    app = copy_app(name, tmp_path / "app")
    mix(app, "format", "--check-formatted")
    mix(app, "compile", "--warnings-as-errors")
    mix(app, "test", MIX_ENV="test")
    shutil.rmtree(app)
