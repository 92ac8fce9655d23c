"""What the backup of a SQLite app is worth, on a real host with the S3 server beside it.

    loss [RUNS]   the host is lost in the middle of 200 writes a second: how many acknowledged writes S3 does not have
    hole [TIMES]  Litestream is restarted, killed, asked and upgraded under the same load: is every row in the backup
    outage [S]    S3 is away, then full, then refuses the keys, for so many seconds: what status says, what is lost
    big [MB]      a large database: seconds to restore, against Litestream alone and against a plain download

Every comparison is row by row, with a backup that Litestream itself restores on this machine.
"""

from __future__ import annotations

import configparser
import json
import os
import platform
import random
import shlex
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from demo.writer import Writer
from homeport import sandbox
from homeport.core import pinned_programs
from homeport.sandbox import faults
from hostctl.common.documents import Json

ROOT = Path(__file__).parents[2]
DEPLOY = str(Path(sys.executable).with_name("deploy"))
NAME, APP = "bench", "ledger"
DOMAIN = f"{APP}.sandbox.test"
INTERVALS = ("1s", "250ms", "100ms")
STREAM = f"homeport-{APP}-litestream.service"
PROGRAM = "$(ls /usr/local/lib/homeport/litestream-*)"
SETTLED_SECONDS = 20.0  # for the last writes to be on S3


class Bench:
    """One host with the ledger app live on it."""

    def __init__(self, box: sandbox.Sandbox, work: Path) -> None:
        self.box, self.work, self.project = box, work, work / APP
        self.settings: Json = {"domains": [DOMAIN], "drain_timeout": "5s"}
        self.litestream = pinned_programs.fetch("litestream", platform.machine())
        shutil.copytree(ROOT / "molecule" / "apps", work, dirs_exist_ok=True, ignore=_unbuilt)
        self.release = self.build("1")
        self.configure()
        self.deploy("setup", "--artifact", str(self.release))

    def build(self, version: str) -> Path:
        path = self.work / f"release-{version}"
        (self.project / "VERSION").write_text(version)
        env = {**os.environ, "MIX_ENV": "prod", "SOURCE_DATE_EPOCH": "1000000000"}
        command = ["mix", "release", "--overwrite", "--quiet", "--path", str(path)]
        subprocess.run(command, cwd=self.project, env=env, check=True, stdout=subprocess.DEVNULL)
        return path

    def configure(self, **sections: Any) -> None:
        self.settings |= sections
        (self.project / "deploy.sandbox.yml").write_text(yaml.safe_dump(self.settings))

    def deploy(self, *args: str) -> str:
        command = [DEPLOY, "--quiet", "-d", f"sandbox:{self.box.name}", *args]
        return subprocess.run(command, cwd=self.project, check=True, stdout=subprocess.PIPE, text=True).stdout

    def on_host(self, command: str, timeout: float = 300.0) -> str:
        done = self.box.run(command, timeout=timeout)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def writer(self) -> Writer:
        return Writer(self.box.address, DOMAIN, self.box.root)

    def epoch(self) -> str:
        return str(json.loads(self.on_host(f"cat /var/lib/homeport/{APP}/backup/epoch.json"))["epoch"])

    def steady(self) -> None:
        """Wait until all streams as it should, and nothing is owed for what was done to it before."""
        watch = f"hostctl {APP} stream watch; test ! -e /var/lib/homeport/{APP}/backup/owed.json"
        while self.box.run(f'{watch} && ! grep -q \'"error":"\' /var/lib/homeport/{APP}/backup/watch.json').returncode:
            time.sleep(0.5)

    def restored(self, epoch: str) -> Path:
        """The newest backup, restored here by Litestream alone, whatever hostctl would say of it."""
        target = self.work / f"restored-{time.time_ns()}.db"
        told = self.box.as_dict()["s3"]
        config = self.work / "litestream.yml"
        replica = {"type": "s3", "bucket": told["bucket"], "path": f"{APP}/{epoch}/{APP}.db"}
        replica |= {"endpoint": told["endpoint"], "region": told["region"], "force-path-style": True}
        config.write_text(yaml.safe_dump({"dbs": [{"path": "/ledger.db", "replica": replica}]}))
        argv = [str(self.litestream), "restore", "-config", str(config), "-o", str(target)]
        argv += ["-integrity-check", "full", "/ledger.db"]
        # AWS_CA_BUNDLE breaks Litestream's client, and the rest is not this bucket's
        env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        done = subprocess.run(argv, env={**env, **self.credentials()}, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        return target

    def credentials(self) -> dict[str, str]:
        parsed = configparser.ConfigParser()
        parsed.read(self.box.credentials)
        section = parsed[parsed.sections()[0]]
        names = {
            "LITESTREAM_ACCESS_KEY_ID": "aws_access_key_id",
            "LITESTREAM_SECRET_ACCESS_KEY": "aws_secret_access_key",
        }
        return {name: section[key] for name, key in names.items()}


def _unbuilt(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("_build", "deps")]


def bodies(database: Path) -> set[str]:
    with sqlite3.connect(database) as connection:
        return {row[0] for row in connection.execute("SELECT body FROM entries")}


@contextmanager
def bench() -> Iterator[Bench]:
    box = sandbox.up(NAME)
    try:
        with tempfile.TemporaryDirectory(prefix="homeport-bench-") as work:
            yield Bench(box, Path(work))
    finally:
        sandbox.down(NAME)


# ---------------------------------------------------------------------------------------------- loss


def loss(runs: int) -> None:
    """Link down and power off at one instant: what S3 has then is all that is left of the host."""
    with bench() as at:
        print(f"{'interval':>10}{'runs':>6}{'median lost':>13}{'worst':>7}{'seconds':>9}{'gaps':>6}")
        for interval in INTERVALS:
            at.configure(backup={"interval": interval})
            at.deploy("provision")
            lost = [lose(at) for _ in range(runs)]
            counts, seconds = [one[0] for one in lost], max(one[1] for one in lost)
            gaps = sum(one[2] for one in lost)
            print(f"{interval:>10}{runs:>6}{statistics.median(counts):>13}{max(counts):>7}{seconds:>9.2f}{gaps:>6}")


def lose(at: Bench) -> tuple[int, float, int]:
    """One loss of the host: writes lost, seconds of them, and lost ones that have later ones that were kept."""
    at.steady()
    epoch = at.epoch()
    with at.writer() as writer:
        writer.wait(random.randrange(300, 700))
        revival = threading.Thread(target=lambda: sandbox.reboot(NAME, hard=True))
        with sandbox.cut(at.box, "host"):
            ended = time.time()
            revival.start()
            found = bodies(at.restored(epoch))
        missing = writer.missing(found, ended)
        kept = max((when for body, when in writer.acknowledged.items() if body in found), default=0.0)
        revival.join()
    # eight clients: an answer may overtake another, a commit may not
    gaps = sum(when < kept - 0.25 for when in missing)
    return len(missing), (ended - missing[0] if missing else 0.0), gaps


# ---------------------------------------------------------------------------------------------- hole


def restart(at: Bench) -> None:
    at.on_host(f"systemctl restart {STREAM}")


def kill_both(at: Bench) -> None:
    at.on_host(f"systemctl kill -s KILL '{APP}@*' {STREAM}")


def ask(at: Bench) -> None:
    socket = f"/run/homeport-{APP}-litestream/socket/litestream.sock"
    program = (
        "$(systemctl show -P ExecStart " + STREAM + " | grep -o '/usr/local/lib/homeport/litestream[^ ;]*' | head -1)"
    )
    command = f"{program} sync -socket {socket} -wait /var/lib/{APP}/{APP}.db"
    at.on_host(f"for i in 1 2 3 4 5; do {command} >/dev/null; sleep 0.5; done")


def upgrade(at: Bench) -> None:
    at.deploy("backup", "run")


def reboot(at: Bench) -> None:
    sandbox.reboot(NAME)


def power_cut(at: Bench) -> None:
    sandbox.reboot(NAME, hard=True)


FAULTS: dict[str, Callable[[Bench], None]] = {
    "Litestream restarted": restart,
    "killed with the app": kill_both,
    "asked to sync, in a loop": ask,
    "upgraded by hostctl": upgrade,
    "host rebooted": reboot,
    "power cut": power_cut,
}


def hole(times: int) -> None:
    """Each fault under load, then everything that was acknowledged is looked for in the backup."""
    with bench() as at:
        print(f"{'fault':<28}{'times':>6}{'writes':>9}{'missing':>9}{'broken':>8}")
        for name, fault in FAULTS.items():
            writes = missing = broken = 0
            for _ in range(times):
                acknowledged, lost, sound = endure(at, fault)
                writes, missing, broken = writes + acknowledged, missing + lost, broken + (not sound)
            print(f"{name:<28}{times:>6}{writes:>9}{missing:>9}{broken:>8}", flush=True)


def endure(at: Bench, fault: Callable[[Bench], None]) -> tuple[int, int, bool]:
    """One fault: writes acknowledged, those not in the backup once all was streamed, and whether it is sound."""
    with at.writer() as writer:
        writer.wait(200)
        fault(at)
        writer.wait(200)
    found, sound = settled(at, writer)
    return len(writer.acknowledged), len(writer.missing(found)), sound


def settled(at: Bench, writer: Writer) -> tuple[set[str], bool]:
    """The rows of the backup once it has all that were acknowledged, or after a patience that only a hole needs."""
    last = max(writer.acknowledged, key=lambda body: writer.acknowledged[body])
    deadline = time.monotonic() + SETTLED_SECONDS
    while True:
        try:
            found = bodies(at.restored(at.epoch()))
        except (RuntimeError, sqlite3.DatabaseError):
            found = set()
        if (last in found and not writer.missing(found)) or time.monotonic() > deadline:
            return found, bool(found)
        time.sleep(0.5)


# ---------------------------------------------------------------------------------------------- outage


OUTAGES: dict[str, Callable[[sandbox.Sandbox], AbstractContextManager[None]]] = {
    "S3 away": lambda box: sandbox.cut(box, "services"),
    "S3 full": faults.full,
    "keys revoked": faults.revoked,
}


def outage(seconds: int) -> None:
    """What a client sees of it, what `deploy backup status` says meanwhile, and what is in the backup afterwards."""
    with bench() as at:
        print(f"{'outage':<14}{'seconds':>8}{'writes':>8}{'failed':>8}{'lag told':>10}{'back after':>12}{'missing':>9}")
        for name, trouble in OUTAGES.items():
            with at.writer() as writer:
                writer.wait(200)
                began = time.monotonic()
                with trouble(at.box):
                    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
                    lasted, told = time.monotonic() - began, status(at)
                back = time.monotonic()
                while lag(status(at)) > 1:
                    time.sleep(0.5)
                took = time.monotonic() - back
                writer.wait(200)
            found, _ = settled(at, writer)
            writes, failed, missing = len(writer.acknowledged), sum(writer.failed.values()), len(writer.missing(found))
            seen = f"{name:<14}{lasted:>8.1f}{writes:>8}{failed:>8}{lag(told):>9.1f}s{took:>11.1f}s{missing:>9}"
            print(f"{seen}\n  status: {'; '.join(told['trouble']) or 'all well'}", flush=True)


def status(at: Bench) -> Json:
    told: Json = json.loads(at.deploy("backup", "status", "--json"))
    return told


def lag(told: Json) -> float:
    """What `deploy backup status` says; infinite where it says that nobody knows."""
    found = told["database"]["backup"]["lag"]
    return float("inf") if found is None else float(found)


# ---------------------------------------------------------------------------------------------- big

FILL = """
import os, sqlite3
database = sqlite3.connect("/var/lib/{app}/{app}.db", timeout=30, isolation_level=None)
database.execute("PRAGMA wal_autocheckpoint=0")
database.execute("CREATE TABLE IF NOT EXISTS bulk (id INTEGER PRIMARY KEY, content BLOB)")
for _ in range({megabytes} // 4):
    database.execute("BEGIN IMMEDIATE")
    for _ in range(64):
        database.execute("INSERT INTO bulk (content) VALUES (randomblob(65000))")
    database.execute("COMMIT")
os._exit(0)  # whoever closes last would checkpoint
"""


def big(megabytes: int, rounds: int = 7) -> None:
    """Restores on the host: plain download, Litestream alone, Homeport's. Each round in another order, and compared
    within itself: what else the machine does hits all three.
    """
    with bench() as at:
        at.on_host(f"python3 -c '{FILL.format(app=APP, megabytes=megabytes)}'", 1200)
        at.deploy("backup", "run")
        size = int(at.on_host(f"stat -c %s /var/lib/{APP}/{APP}.db"))
        print(f"database of {size / 1e6:.0f} MB", flush=True)
        url = upload(at)
        ways: dict[str, Callable[[], Took]] = {
            "download": lambda: took(at, download(url)),
            "litestream": lambda: took(at, alone()),
            "homeport": lambda: rehearsed(at),
        }
        found = [{name: ways[name]() for name in turned(list(ways), number)} for number in range(rounds)]
        compare(found)
        migration = next((at.project / "extra").glob("*_add_author_to_entries.exs"))
        shutil.copy(migration, at.project / "priv/repo/migrations")
        pushed = json.loads(at.deploy("push", "--artifact", str(at.build("2")), "--json"))
        steps = {step["name"]: step["ms"] / 1000 for step in pushed["steps"]}
        print(f"push {pushed['seconds']:.1f} s; its steps: {steps}")


class Took(NamedTuple):
    """Seconds of one restore: by the clock, and of the processors."""

    seconds: float
    busy: float


def turned(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def compare(found: list[dict[str, Took]]) -> None:
    """Medians, and medians of the rounds' ratios."""
    titles = (
        ("median s", 10),
        ("min", 8),
        ("max", 8),
        ("/ download", 12),
        ("/ litestream", 14),
        ("busy s", 9),
        ("ratio", 8),
    )
    print(" " * 12 + "".join(f"{title:>{width}}" for title, width in titles))
    for name in found[0]:
        seconds = [one[name].seconds for one in found]
        told = f"{name:<12}{statistics.median(seconds):>10.1f}{min(seconds):>8.1f}{max(seconds):>8.1f}"
        told += f"{ratio(found, name, 'download', 0):>12.2f}{ratio(found, name, 'litestream', 0):>14.2f}"
        told += f"{statistics.median(one[name].busy for one in found):>9.1f}{ratio(found, name, 'litestream', 1):>8.2f}"
        print(told, flush=True)


def ratio(found: list[dict[str, Took]], name: str, base: str, field: int) -> float:
    return statistics.median(one[name][field] / one[base][field] for one in found)


def upload(at: Bench) -> str:
    """The same bytes as one object; the URL of a plain download."""
    import boto3

    told = at.box.as_dict()["s3"]
    keys = list(at.credentials().values())
    client = boto3.client(
        "s3",
        endpoint_url=told["endpoint"],
        region_name=told["region"],
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
    )
    client.upload_file(str(at.restored(at.epoch())), told["bucket"], "bench/plain")
    return str(client.generate_presigned_url("get_object", {"Bucket": told["bucket"], "Key": "bench/plain"}))


def download(url: str) -> str:
    return f"curl -fsS -o /var/tmp/plain '{url}' && sync /var/tmp/plain && rm /var/tmp/plain"


def alone() -> str:
    config, credentials = f"/run/homeport-{APP}-litestream/litestream.yml", f"/etc/homeport/{APP}/backup.env"
    restore = f"{PROGRAM} restore -config {config} -o /var/tmp/alone.db -integrity-check full /var/lib/{APP}/{APP}.db"
    return f"set -a; . {credentials}; {restore} >/dev/null && rm /var/tmp/alone.db"


TIMED = """
import json, resource, subprocess, sys, time
began = time.monotonic()
said = subprocess.run(["bash", "-c", sys.argv[1]], check=True, stdout=subprocess.PIPE, text=True).stdout
seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, said]))
"""


def timed(at: Bench, command: str) -> tuple[Took, str]:
    """What a command takes there, without the way to it; and what it said."""
    seconds, busy, said = json.loads(at.on_host(f"python3 -c {shlex.quote(TIMED)} {shlex.quote(command)}", 900))
    return Took(float(seconds), float(busy)), str(said)


def took(at: Bench, command: str) -> Took:
    return timed(at, command)[0]


def rehearsed(at: Bench) -> Took:
    """What hostctl takes to fetch and check the data; `restore` does just that before anything stops."""
    all_of_it, said = timed(at, f"hostctl {APP} restore --dry-run")
    found = json.loads(said)["databases"].values()
    return all_of_it._replace(seconds=sum(float(one["seconds"]) for one in found))


MEASURES: dict[str, tuple[Callable[[int], None], int]] = {
    "loss": (loss, 20),
    "hole": (hole, 10),
    "outage": (outage, 60),
    "big": (big, 1000),
}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in MEASURES:
        print(__doc__, file=sys.stderr)
        return 2
    measure, usual = MEASURES[sys.argv[1]]
    measure(int(sys.argv[2]) if len(sys.argv) > 2 else usual)
    return 0


if __name__ == "__main__":
    sys.exit(main())
