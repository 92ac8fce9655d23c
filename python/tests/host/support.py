"""The example app, its releases, and `deploy` as a person runs it against one real host."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import selectors
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.load import Load
from homeport.sandbox import Sandbox
from hostctl.common.documents import Json
from tests.apps.support import APPS, copy_app, mix
from tests.websocket import WebSocket

APP = "hello"
DOMAIN = f"{APP}.sandbox.test"
OLD_NAME = f"www.{DOMAIN}"  # only redirects to DOMAIN
DEPLOY = Path(sys.executable).with_name("deploy")
RATE, FULL_RATE = 100.0, 300.0  # requests a second of a load, in the short form of the tests and in the long one
LONGEST_SECONDS = 900.0  # of one `deploy`: only a hang takes that long
SCAN_BATCH, SCAN_SECONDS = 1024, 60.0  # ports asked at once; a full table of connections answers some only later

# short, so that a test does not wait for what it does not test. `domains`, `deploy_timeout` and a longer drain are the
# host's as well: another value makes the next push provision. A drain ends early, when nobody is connected.
SETTINGS: dict[str, Any] = {
    "domains": [DOMAIN, {"name": OLD_NAME, "redirect_to": DOMAIN}],
    "health": {"path": "/health", "interval": "200ms", "deploy_timeout": "15s"},
    "drain_timeout": "10s",
}


@dataclass(frozen=True)
class Done:
    """How one `deploy` ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Json:
        document: Json = json.loads(self.out)
        return document


@dataclass
class Project:
    """A copy of the app's deploy.yml in a git repository of its own; `settings` is its deploy.sandbox.yml."""

    root: Path
    box: Sandbox
    settings: Json
    domain: str

    def __post_init__(self) -> None:
        self.configure()
        git(self.root, "init", "-q", "-b", "main")
        git(self.root, "add", "-A")
        git(self.root, "commit", "-q", "-m", "the app")

    def configure(self, **sections: Any) -> None:
        """Replace whole sections of the settings: `configure(env={"clear": {"HELLO_CRASH_AT_BOOT": "1"}})`."""
        self.settings |= sections
        (self.root / "deploy.sandbox.yml").write_text(yaml.safe_dump(self.settings))

    @property
    def app(self) -> str:
        return self.domain.partition(".")[0]

    def command(self, *args: str) -> list[str]:
        return [str(DEPLOY), "-d", f"sandbox:{self.box.name}", *args]

    def deploy(
        self,
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        patience: float = LONGEST_SECONDS,
    ) -> Done:
        """Run `deploy` to its end; with `check`, one that fails fails the test and shows what it said."""
        ran = subprocess.run(
            self.command(*map(str, args)),
            cwd=self.root,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience,
        )
        done = Done(ran.returncode, ran.stdout, ran.stderr)
        assert not check or done.code == 0, f"exit {done.code}\n{done.out}\n{done.err}"
        return done

    def start(self, *args: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Run `deploy` beside the test, in a process group of its own, its output in one pipe."""
        return subprocess.Popen(
            self.command(*map(str, args)),
            cwd=self.root,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def push(self, artifact: Path) -> Json:
        """Push a built release; the document that --json prints."""
        return self.deploy("push", "--artifact", artifact, "--json").json

    def status(self) -> Json:
        return self.deploy("status", "--json", check=False).json

    def releases(self) -> list[Json]:
        found: list[Json] = json.loads(self.deploy("releases", "--json").out)
        return found

    def live(self) -> str:
        """The release that is live."""
        return str(self.status()["live"]["release"])

    def load(self, **options: Any) -> Load:
        """20 keep-alive clients, half of the requests POST, as `demo.load` makes them; more a second with --full."""
        given = {"clients": 20, "rate": RATE, "seconds": 1200, **options}
        return Load(self.box.address, self.domain, self.box.root, **given)

    def websocket(self) -> WebSocket:
        return WebSocket(self.box.address, self.domain, self.box.root)


def git(root: Path, *args: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *who, *args], cwd=root, check=True, capture_output=True)


def new_project(
    root: Path, box: Sandbox, settings: Json = SETTINGS, domain: str = DOMAIN, example: str = APP
) -> Project:
    root.mkdir(parents=True, exist_ok=True)
    shutil.copy(APPS / example / "deploy.yml", root)
    return Project(root, box, dict(settings), domain)


def bring_up(project: Project, artifact: Path) -> None:
    """The app is provisioned and this release is live, also where another file's tests have set the app up before."""
    known = project.box.run(f"test -e /var/lib/homeport/{project.app}/live").returncode == 0
    # a push provisions only what differs
    project.deploy("push" if known else "setup", "--artifact", artifact)


def build(directory: Path, version: int) -> Path:
    """The release directory of a version: its VERSION differs, and so does its style sheet."""
    app = directory / "app"
    if not app.exists():
        copy_app(APP, app)
    (app / "VERSION").write_text(f"{version}\n")
    style = APPS / APP / "assets" / "css" / "app.css"
    (app / "assets" / "css" / "app.css").write_text(f"{style.read_text()}/* version {version} */\n")
    shutil.rmtree(app / "priv" / "static", ignore_errors=True)  # what another version digested is not this one's
    mix(app, "assets.deploy")
    release = directory / str(version) / APP
    mix(app, "release", "--overwrite", "--quiet", "--path", str(release))
    return release


def on_host(box: Sandbox, command: str) -> str:
    """What a shell command prints that root runs on the host. Fails the test unless it succeeds."""
    done = box.run(command, timeout=60)
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


@contextmanager
def unwatched(box: Sandbox, app: str) -> Iterator[None]:
    """The watch of every minute, which starts what is stopped and mends what is found, does not look; nor after a
    reboot.
    """
    watch = f"homeport-{app}-watch.service"
    directory = f"/etc/systemd/system/{watch}.d"
    condition = r"[Unit]\nConditionPathExists=!/etc\n"
    on_host(box, f"mkdir -p {directory} && printf '{condition}' >{directory}/unwatched.conf && systemctl daemon-reload")
    on_host(box, f"systemctl stop {watch}")
    try:
        yield
    finally:
        on_host(box, f"rm -r {directory} && systemctl daemon-reload")


def until(holds: Callable[[], bool], what: str, patience: float = 180.0) -> None:
    """Wait until something holds. Fails the test when it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(0.1)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: str


def get(
    project: Project, path: str, name: str | None = None, *, plain: bool = False, root: Path | None = None
) -> Answer:
    """GET at the host's address; over HTTPS the certificate is checked for `name` against the ACME root alone."""
    name = name or project.domain
    trust = ssl.create_default_context(cafile=str(root or project.box.root))
    with socket.create_connection((project.box.address, 80 if plain else 443), timeout=20) as raw:
        connection = http.client.HTTPConnection(name)
        connection.sock = raw if plain else trust.wrap_socket(raw, server_hostname=name)
        connection.request("GET", path, headers={"Host": name})
        answer = connection.getresponse()
        headers = {key.lower(): value for key, value in answer.getheaders()}
        found = Answer(answer.status, headers, answer.read().decode())
        connection.close()
        return found


def version(project: Project) -> Json:
    """What the app says of itself: version, release, pid."""
    facts: Json = json.loads(get(project, "/version").body)
    return facts


def another(project: Project, artifacts: dict[int, Path]) -> Path:
    """A release of another version than the one that is live."""
    return artifacts[1 if version(project)["version"] == "2" else 2]


def settled(project: Project) -> None:
    """Wait until no old instance drains any more. The host is asked itself: `deploy status` takes longer to ask."""
    ask = f"hostctl {project.app} status"
    until(lambda: not json.loads(on_host(project.box, ask))["drains"], "every drain has ended")


def unchanged(project: Project) -> bool:
    """Whether provisioning finds nothing to change."""
    done = project.deploy("provision", "--json").json
    return bool(done == {"result": "unchanged", "changed": 0})


def open_ports(address: str) -> list[int]:
    """The TCP ports that are open. Fails the test when one neither opens nor is refused."""
    batches = (range(first, min(first + SCAN_BATCH, 65_536)) for first in range(1, 65_536, SCAN_BATCH))
    return [port for batch in batches for port in sorted(_open(address, batch))]


def public_ports(box: Sandbox) -> list[int]:
    """The TCP ports on which the host's programs listen for other machines, with a firewall before them or not."""
    ends = [line.split()[3].rpartition(":") for line in on_host(box, "ss -Hltn").splitlines()]
    return sorted({int(port) for address, _, port in ends if not address.startswith(("127.", "[::1]"))})


def _open(address: str, ports: range) -> list[int]:
    found, deadline = [], time.monotonic() + SCAN_SECONDS
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(selectors.DefaultSelector())
        for port in ports:
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            assert one.connect_ex((address, port)) in (errno.EINPROGRESS, errno.ECONNREFUSED)
            waiting.register(one, selectors.EVENT_WRITE, (one, port))
        while waiting.get_map():
            assert time.monotonic() < deadline, [key.data for key in waiting.get_map().values()]
            for key, _ in waiting.select(1):
                one, port = key.data
                waiting.unregister(one)
                found += [port] if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 else []
    return found


def footprint(project: Project) -> Json:
    """What a failed push must leave as it was: what is live, what runs, what is unpacked, who holds the lock.

    An instance that drains is on its way out, whatever a push does: it is waited for.
    """
    settled(project)
    app, told = project.app, project.status()
    listed = f"systemctl list-units --plain --no-legend '{app}@*' 'homeport-{app}-*'"
    return {
        "live": told["live"]["release"],
        "healthy": told["health"]["ok"],
        "process": version(project)["pid"],
        "lock": told["lock"],
        "units": on_host(project.box, f"{listed} | cut -d' ' -f1 | grep -v -- -drain-").splitlines(),
        "trees": on_host(project.box, f"ls -A /srv/{app}/releases").splitlines(),
    }


def check_told(done: Done, code: int, says: str) -> None:
    """A failure has the exit code promised, and its message three parts."""
    error = done.json["error"]
    assert (done.code, error["code"]) == (code, code), error
    assert re.search(says, error["what"], re.DOTALL), error["what"]
    assert error["where"]
    assert error["fix"]
