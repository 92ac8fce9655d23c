"""What a push costs: `deploy push` of a prebuilt release against the least that anybody could do, in turn on one host.

The floor is a script: rsync --link-dest, restart the unit, wait for 200. It checks nothing, keeps nothing and drops
requests. Both change one module, both are warm: the SSH connection stands, the release before is on the host.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from homeport import sandbox
from homeport.ssh import connection

ROOT = Path(__file__).parents[2]
DEPLOY = str(Path(sys.executable).with_name("deploy"))
NAME = "bench"
PAIRS = 7
PORT = 4000
UNIT = f"""[Service]
User=floor
WorkingDirectory=/srv/floor/current
Environment=PORT={PORT} PHX_SERVER=true PHX_HOST=localhost RELEASE_COOKIE=floor RELEASE_TMP=/run/floor LANG=C.UTF-8
Environment=RELEASE_DISTRIBUTION=none
RuntimeDirectory=floor
StateDirectory=floor
ExecStart=/srv/floor/current/bin/hello start
"""


class Timing(NamedTuple):
    seconds: float
    sent: int


def main() -> int:
    """Measure and print; `sys.argv[1]` is how many pairs."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS
    box = sandbox.up(NAME)
    try:
        with tempfile.TemporaryDirectory(prefix="homeport-bench-") as work:
            measure(box, Path(work), pairs)
    finally:
        sandbox.down(NAME)
    return 0


def measure(box: sandbox.Sandbox, work: Path, pairs: int) -> None:
    releases = build(work, pairs + 2)
    project = work / "app"
    floor = Floor(box)
    deploy(project, "setup", "--artifact", str(releases[0]))
    floor.push(releases[0])
    floors: list[Timing] = []
    pushes: list[Timing] = []
    rollbacks: list[Timing] = []
    for number, release in enumerate(releases[1:]):
        drained(project)
        turns = [floor.push(release), push(project, release)]
        drained(project)
        turns.append(timed(lambda: deploy(project, "rollback", "--json")))
        drained(project)
        deploy(project, "push", "--artifact", str(release))
        if number:  # the first pair warms both
            for series, turn in zip((floors, pushes, rollbacks), turns, strict=True):
                series.append(turn)
    report(floors, pushes, rollbacks)


def build(work: Path, count: int) -> list[Path]:
    """Releases of the example app that differ in one module each."""
    app = work / "app"
    shutil.copytree(ROOT / "molecule" / "apps" / "hello", app, ignore=shutil.ignore_patterns("_build"))
    made = [work / f"release-{number}" for number in range(count)]
    for number, path in enumerate(made):
        env = {**os.environ, "MIX_ENV": "prod", "HELLO_VERSION": str(number), "SOURCE_DATE_EPOCH": "1000000000"}
        for args in (["assets.deploy"], ["release", "--overwrite", "--quiet", "--path", str(path)]):
            subprocess.run(["mix", *args], cwd=app, env=env, check=True, stdout=subprocess.DEVNULL)
        (path / "releases" / "COOKIE").write_text("the same for both")
    return made


class Floor:
    """The script, over the same kind of shared SSH connection that Homeport uses."""

    def __init__(self, box: sandbox.Sandbox) -> None:
        self.target = connection.Target(box.address, "root", box.known_hosts, None, box.key)
        self.remote("useradd --system floor && mkdir -p /srv/floor/releases")
        self.remote(f"printf %s {shlex.quote(UNIT)} > /etc/systemd/system/floor.service && systemctl daemon-reload")
        self.before = ""

    def remote(self, script: str) -> None:
        subprocess.run(connection.command(self.target, [script]), check=True, stdout=subprocess.DEVNULL)

    def push(self, release: Path) -> Timing:
        link = [f"--link-dest=/srv/floor/releases/{self.before}"] if self.before else []
        began = time.monotonic()
        rsh = shlex.join(["ssh", *connection.options(self.target)])
        to = f"root@{self.target.host}:/srv/floor/releases/{release.name}/"
        done = subprocess.run(
            ["rsync", "-a", "--checksum", "--compress", "--stats", "-e", rsh, *link, f"{release}/", to],
            check=True,
            capture_output=True,
            text=True,
        )
        self.remote(
            f"ln -sfn releases/{release.name} /srv/floor/current && systemctl restart floor && "
            f"until curl -fso /dev/null http://127.0.0.1:{PORT}/health; do sleep 0.05; done"
        )
        self.before = release.name
        sent = re.search(r"Total bytes sent: ([\d,]+)", done.stdout)
        return Timing(time.monotonic() - began, int(sent[1].replace(",", "")) if sent else 0)


def push(project: Path, release: Path) -> Timing:
    began = time.monotonic()
    result = json.loads(deploy(project, "push", "--artifact", str(release), "--json"))
    return Timing(time.monotonic() - began, result["bytes_sent"])


def timed(action: Callable[[], object]) -> Timing:
    began = time.monotonic()
    action()
    return Timing(time.monotonic() - began, 0)


def drained(project: Path) -> None:
    """Wait until the release before has drained: it would delay the next push, and it is no part of this one."""
    while json.loads(deploy(project, "status", "--json"))["drains"]:
        time.sleep(0.2)


def deploy(project: Path, *args: str) -> str:
    command = [DEPLOY, "--quiet", "-d", f"sandbox:{NAME}", *args]
    return subprocess.run(command, cwd=project, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(floors: list[Timing], pushes: list[Timing], rollbacks: list[Timing]) -> None:
    """The medians, and the ratio of medians, which is what may be quoted from a shared machine."""
    base = statistics.median(one.seconds for one in floors)
    print(f"{'':<20}{'median s':>10}{'min':>8}{'max':>8}{'ratio':>8}{'bytes sent':>12}")
    for name, timings in (("floor", floors), ("deploy push", pushes), ("deploy rollback", rollbacks)):
        seconds = [one.seconds for one in timings]
        middle, sent = statistics.median(seconds), statistics.median(one.sent for one in timings)
        print(f"{name:<20}{middle:>10.2f}{min(seconds):>8.2f}{max(seconds):>8.2f}{middle / base:>8.2f}{sent:>12.0f}")
    helps = statistics.median(
        timed(lambda: subprocess.run([DEPLOY, "--help"], capture_output=True)).seconds for _ in floors
    )
    print(f"{'deploy --help':<20}{helps:>10.2f}")


if __name__ == "__main__":
    sys.exit(main())
