"""Wrong input of any verb is refused with exit status 2, before anything is connected to or changed."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport import cli

APP = "app: shop\nhost: 127.0.0.1:{port}\ndomains: [shop.test]\n"
KEY = "SHA256:" + "A" * 43

WRONG = [
    "bogus",
    "push extra",
    "push --bogus",
    "push --lock-wait soon",
    "push --lock-wait -1",
    "push --lock-wait nan",
    "push --lock-wait 100000",
    "push --artifact nowhere",
    "push --plan --lock-wait -1",
    "rollback one two",
    "rollback --lock-wait -1",
    "rollback ../../etc/passwd",
    "rollback -- -x",
    "rollback 2026*",
    "releases extra",
    "status extra",
    "attach extra",
    "provision extra",
    "audit -n 0",
    "audit -n many",
    "logs -n 0",
    "logs --release ../x",
    "logs --release -f",
    "lock",
    "lock bogus",
    "lock acquire",
    "lock acquire -m",
    "lock acquire -m ''",
    "lock acquire -m 'two\nlines'",
    "env",
    "env push extra",
    "env push --lock-wait -1",
    "maintenance",
    "maintenance bogus",
    "maintenance on extra",
    "maintenance on --allow not-an-address",
    "maintenance on --retry-after 0",
    "maintenance on -m 'two\nlines'",
    "maintenance off extra",
    "certs bogus",
    "certs push extra",
    "cron bogus",
    "cron run",
    "cron run 'A b'",
    "cron run one two",
    "cron suspend",
    "cron suspend ../x",
    "cron resume",
    "cron logs",
    "cron logs report -n 0",
    "accessory bogus",
    "accessory logs",
    "accessory logs ../x",
    "accessory restart",
    "accessory remove",
    "accessory remove UPPER",
    "notify bogus",
    "notify test extra",
    "completion",
    "completion tcsh",
    "apps extra",
    "doctor extra",
    "remove extra",
    "remove --lock-wait soon",
    "remove --plan --bogus",
    "console extra",
    "console",  # without a terminal
    "rpc",
    "rpc ''",
    "eval",
    "eval one two",
    "run",
    "exec",
    "open 'a b'",
    "tunnel 0",
    "tunnel 70000",
    "tunnel any",
    "tunnel 1 2",
    "tunnel --local 0",
    "observer 80",
    "observer soon",
    "observer 1 2",
    "db bogus",
    "db tunnel 0",
    "db load nowhere",
    "db console --database 'two\nlines'",
    "backup bogus",
    "backup forget ../x",
    "restore --at soon",
    "secrets",
    "secrets bogus",
    "secrets edit extra",
    "secrets set",
    "secrets set lower",
    "secrets set A_KEY value",
    "secrets set A_KEY=value",
    "secrets unset",
    "secrets list extra",
    "secrets check extra",
    "secrets rotate",
    "secrets rotate A_KEY --vault",
    "secrets rotate A_KEY B_KEY",
    "-d secrets status",
    "setup --accept-host-key nonsense",
    f"setup --accept-host-key {KEY}=",
    "setup --artifact nowhere",
    "config extra",
    "init nowhere",
    "init --app UPPER",
    "init --host 'a b'",
    "init --domain no_domain",
    "sandbox bogus",
    "sandbox up --suite sid",
    "sandbox up --name UPPER",
    "sandbox down --name ../x",
    "-d ../x status",
    "-d sandbox:UPPER status",
    "-d nowhere status",
    "-c nowhere.yml status",
    "-c . status",
]

CONFIGURED = ["push", "push --plan", "rollback", "releases", "status", "attach", "audit", "logs", "setup", "provision"]
CONFIGURED += ["config", "lock status", "lock release", "lock acquire -m x"]
REST = [
    "env push",
    "maintenance on",
    "certs push",
    "cron list",
    "accessory list",
    "notify test",
    "remove --yes",
    "apps",
]
REST += ["doctor", "rpc 1", "eval 1", "run sh", "exec sh", "ssh", "open", "tunnel", "observer", "db console"]
REST += ["backup status", "restore --plan"]
BROKEN = ["app: [", "app: Shop\n", "app: shop\nhots: x\n", "", "\xff"]


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A directory whose deploy.yml names a host where this test listens, and must hear nobody."""
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        (tmp_path / "deploy.yml").write_text(APP.format(port=listener.getsockname()[1]))
        yield listener


def status(words: list[str]) -> object:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    return left.value.code


@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_is_refused_before_the_host_is_asked(
    nobody: socket.socket, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*")}
    assert status(shlex.split(line)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*")} == before
    with pytest.raises(BlockingIOError):
        nobody.accept()


@pytest.mark.parametrize("text", BROKEN)
@pytest.mark.parametrize("line", CONFIGURED)
def test_no_verb_begins_with_a_broken_configuration(
    nobody: socket.socket, tmp_path: Path, line: str, text: str
) -> None:
    (tmp_path / "deploy.yml").write_bytes(text.encode("latin-1"))
    assert status(line.split()) == 2
    with pytest.raises(BlockingIOError):
        nobody.accept()


@pytest.mark.parametrize("line", REST)
def test_neither_does_any_other(nobody: socket.socket, tmp_path: Path, line: str) -> None:
    test_no_verb_begins_with_a_broken_configuration(nobody, tmp_path, line, "app: shop\nhots: x\n")
