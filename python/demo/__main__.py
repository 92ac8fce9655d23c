"""bin/demo: version 1 goes live, then version 2, then back to 1, while visitors keep coming."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs

from demo.load import Load
from demo.report import Report
from homeport.core.humanize import size
from hostctl.common.documents import Json

ROOT = Path(__file__).parents[2]
DEPLOY = Path(sys.executable).with_name("deploy")
NAME = "demo"
DESTINATION = f"sandbox:{NAME}"
DOMAIN = "hello.sandbox.test"
CLIENTS, RATE = 20, 300
# load before, between and after the switches, so that what happens around them is counted too
QUIET_SECONDS = 2


def main() -> int:
    """Run the demo; the exit status is 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="bin/demo")
    parser.add_argument("--down", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        return down() if options.down else show(as_json=options.json)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    except KeyboardInterrupt:
        print("\ninterrupted; bin/demo goes on from there, bin/demo --down removes everything", file=sys.stderr)
        return 130


def project() -> Path:
    """The copy of the example app that the demo edits."""
    return platformdirs.user_cache_path("homeport") / "demo" / "hello"


def down() -> int:
    """Remove the sandbox and the copy of the app."""
    deploy("sandbox", "down", "--name", NAME)
    shutil.rmtree(project().parent, ignore_errors=True)
    say(f"kept for the next time: {platformdirs.user_cache_path('homeport')} and /var/cache/homeport")
    return 0


def show(*, as_json: bool) -> int:
    """The whole demo, told on standard error; the table goes to standard output."""
    began = time.monotonic()
    box = json.loads(deploy("sandbox", "up", "--name", NAME, "--json"))
    shutil.copytree(ROOT / "molecule" / "apps" / "hello", project(), dirs_exist_ok=True, ignore=_built)
    first = at_version(1, "push" if is_set_up() else "setup")
    say(f"{CLIENTS} visitors come and go, {RATE} requests a second, every other one a POST")
    with Load(box["address"], DOMAIN, box["acme"]["root"], clients=CLIENTS, rate=RATE) as visitors:
        second = _counted(visitors, "push version 2", lambda: at_version(2, "push"))
        back = _counted(visitors, "rollback to 1", lambda: switch("rollback"))
        time.sleep(QUIET_SECONDS)
    table = summary({"push version 1": first, "push version 2": second, "rollback to 1": back}, visitors.report)
    table |= {"seconds": round(time.monotonic() - began, 1), "curl": curl(box)}
    print(json.dumps(table) if as_json else "\n".join(lines(table)))
    return 1 if table["requests"]["failed"] else 0


def is_set_up() -> bool:
    """Whether an earlier run has left a healthy app: then there is nothing to provision."""
    asked = subprocess.run([DEPLOY, "-d", DESTINATION, "status"], cwd=project(), capture_output=True, check=False)
    return asked.returncode == 0


def _built(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("_build", "static", ".git")]


def _counted(visitors: Load, phase: str, switch: Callable[[], Json]) -> Json:
    time.sleep(QUIET_SECONDS)
    visitors.mark(phase)
    return switch()


def at_version(number: int, verb: str) -> Json:
    """Put this version into the app's source and bring it to the host."""
    say(f"echo {number} > VERSION", prompt=True)
    (project() / "VERSION").write_text(f"{number}\n")
    return switch(verb)


def switch(verb: str) -> Json:
    """Run a verb that ends in a release being live; return its result."""
    result: Json = json.loads(deploy("-d", DESTINATION, verb, "--json"))
    return result


def deploy(*args: str) -> str:
    """Run `deploy` as a person would, in the app's directory; its progress goes to the terminal."""
    say(" ".join(["deploy", *args]), prompt=True)
    where = project() if project().is_dir() else ROOT
    return subprocess.run([DEPLOY, *args], cwd=where, stdout=subprocess.PIPE, text=True, check=True).stdout


def say(text: str, *, prompt: bool = False) -> None:
    print(f"\n$ {text}" if prompt else f"\n{text}", file=sys.stderr, flush=True)


def summary(switches: dict[str, Json], report: Report) -> Json:
    """The table as a document."""
    rows = [
        {"what": what, "result": one["result"], "seconds": one["seconds"], "bytes_sent": one["bytes_sent"]}
        for what, one in switches.items()
    ]
    requests = {"answered": report.answered, "failed": report.failed, "slowest_ms": round(report.total.slowest * 1000)}
    return {"switches": rows, "requests": requests, "url": f"https://{DOMAIN}/"}


def curl(box: Json) -> str:
    """A command line that asks the app from here."""
    return f"curl --resolve {DOMAIN}:443:{box['address']} --cacert {box['acme']['root']} https://{DOMAIN}/version"


def lines(table: Json) -> list[str]:
    """The table as a person reads it, and what to try next."""
    switches = [
        f"  {row['what']:<16}{row['seconds']:>8.1f} s{size(row['bytes_sent']):>12}  {row['result']}"
        for row in table["switches"]
    ]
    requests = table["requests"]
    return [
        "",
        f"  {'':<16}{'time':>10}{'sent':>12}",
        *switches,
        "",
        f"  requests answered {requests['answered']:>8}",
        f"  requests failed   {requests['failed']:>8}",
        f"  slowest           {requests['slowest_ms']:>5} ms",
        "",
        f"{table['url']} is up:",
        f"  {table['curl']}",
        "",
        "What to try next:",
        f"  cd {project()}",
        f"  export PATH={DEPLOY.parent}:$PATH",
        f"  deploy -d {DESTINATION} status",
        f"  deploy -d {DESTINATION} releases",
        f"  deploy sandbox ssh --name {NAME}",
        "  bin/demo --down     (in Homeport's directory: removes every trace)",
    ]


if __name__ == "__main__":
    sys.exit(main())
