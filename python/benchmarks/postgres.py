"""What a PostgreSQL app's server and its backup are worth, on a real host with the S3 server beside it.

    loss [RUNS]   the host is lost in the middle of 200 writes a second: how many acknowledged writes S3 does not have,
                  with the tail as it is by default, and without it at two values of archive_timeout
    outage [S]    S3 is away for so many seconds under load, then long enough for max_wal: what is refused, what waits
    big [MB]      a large database: seconds of backup, restore and drill, against pg_dump | gzip and a plain download
    kill [TIMES]  kill -9 of the postmaster under load: requests that failed, the slowest, seconds until it answers

A lost host comes back as Homeport brings it back: without its cluster, it restores by itself what the bucket has.
HOMEPORT_BENCH_BOX names a sandbox to use in place of one of its own; it is left up.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from demo.load import Load
from demo.writer import Writer
from homeport import sandbox
from hostctl.common.documents import Json
from tests.apps.support import build_guestbook

DEPLOY = str(Path(sys.executable).with_name("deploy"))
APP = "guestbook"
DOMAIN = f"{APP}.sandbox.test"
SERVER, TAIL, WATCH = (f"homeport-{APP}-{what}" for what in ("postgres.service", "tail.service", "watch"))
CLUSTER, STATE = f"/var/lib/postgresql/homeport/{APP}", f"/var/lib/homeport/{APP}/backup"
PSQL = f"psql -XAtq -h /run/homeport-{APP}-postgres -U postgres -d {APP}"
PATIENCE = 900.0  # seconds for a backup to be as it should be again
SETTLED = 60.0  # seconds for the last writes to be on S3


class Bench:
    """One host with the guestbook app live on it."""

    def __init__(self, box: sandbox.Sandbox, work: Path) -> None:
        self.box, self.project = box, work / APP
        self.settings: Json = {"domains": [DOMAIN], "drain_timeout": "5s"}
        release = build_guestbook(work / "releases")
        self.project.mkdir()
        shutil.copy(Path(__file__).parents[2] / "molecule" / "apps" / APP / "deploy.yml", self.project)
        self.configure()
        self.deploy("setup", "--artifact", str(release))
        self.steady()

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

    def sql(self, statement: str, timeout: float = 300.0) -> str:
        return self.on_host(f'{PSQL} -c "{statement}"', timeout)

    def bodies(self) -> set[str]:
        return set(self.sql("SELECT body FROM entries").splitlines())

    def writer(self) -> Writer:
        return Writer(self.box.address, DOMAIN, self.box.root)

    def backup(self) -> Json:
        """What status says of the backup."""
        found: Json = json.loads(self.deploy("backup", "status", "--json"))["database"]["backup"]
        return found

    def steady(self) -> None:
        """Wait until the server is archived as it should be, and no base backup is owed for what was done to it."""
        deadline = time.monotonic() + PATIENCE
        watch = f"hostctl {APP} stream watch >/dev/null; test ! -e {STATE}/owed.json"
        idle = f"! systemctl is-active -q homeport-{APP}-backup.service"
        while self.box.run(f'{watch} && {idle} && ! grep -q \'"error":"\' {STATE}/watch.json').returncode:
            if time.monotonic() > deadline:
                raise TimeoutError(self.box.run(f"hostctl {APP} backup status").stdout)
            time.sleep(1)


@contextmanager
def bench() -> Iterator[Bench]:
    given = os.environ.get("HOMEPORT_BENCH_BOX")
    box = sandbox.up(given or "bench")
    try:
        with tempfile.TemporaryDirectory(prefix="homeport-bench-") as work:
            yield Bench(box, Path(work))
    finally:
        if not given:
            sandbox.down(box.name)


# ---------------------------------------------------------------------------------------------- loss


class Case(NamedTuple):
    """What is measured: with the tail or without, at an archive_timeout in seconds."""

    tail: bool
    archive_timeout: int


CASES = (Case(True, 15), Case(False, 15), Case(False, 60))


def loss(runs: int) -> None:
    """S3 cut off and power off at one instant: what the bucket has then is all that is left of the host."""
    with bench() as at:
        print(f"{'':<24}{'runs':>6}{'median lost':>13}{'worst':>7}{'median s':>10}{'worst':>7}{'gaps':>6}", flush=True)
        for case in CASES:
            at.configure(backup={"archive_timeout": f"{case.archive_timeout}s"})
            at.deploy("provision")
            lost = [lose(at, case) for _ in range(runs)]
            counts, seconds, gaps = zip(*lost, strict=True)
            name = f"{'tail' if case.tail else 'no tail'}, {case.archive_timeout} s"
            middle = f"{statistics.median(counts):>13.0f}{max(counts):>7}{statistics.median(seconds):>10.2f}"
            print(f"{name:<24}{runs:>6}{middle}{max(seconds):>7.2f}{sum(gaps):>6}", flush=True)


def lose(at: Bench, case: Case) -> tuple[int, float, int]:
    """One loss of the host: writes lost, seconds of them, and lost ones that have later ones that were kept."""
    at.steady()
    with at.writer() as writer:
        writer.wait(100)
        with without_tail(at, case):
            # without the tail what is lost depends on how much of archive_timeout has passed
            time.sleep(random.uniform(2, 4) if case.tail else random.uniform(1, 2) * case.archive_timeout)
            with sandbox.cut(at.box, "services"):
                ended = time.time()
                sandbox.reboot(at.box.name, hard=True)
                writer.stop()
                forget(at)
    revive(at)
    found = at.bodies()
    missing = writer.missing(found, ended)
    kept = max((when for body, when in writer.acknowledged.items() if body in found), default=0.0)
    # eight clients: an answer may overtake another, a commit may not
    gaps = sum(when < kept - 0.25 for when in missing)
    return len(missing), (ended - missing[0] if missing else 0.0), gaps


@contextmanager
def without_tail(at: Bench, case: Case) -> Iterator[None]:
    """The tail away, and what it had sent with it; the watch would start it again."""
    if case.tail:
        yield
        return
    at.on_host(f"systemctl stop {WATCH}.timer {WATCH}.service; systemctl stop {TAIL}")
    yield


def forget(at: Bench) -> None:
    """The host has lost its cluster, and all that it knew of its backup."""
    units = f"{WATCH}.timer {WATCH}.service homeport-{APP}-backup.service {TAIL} '{APP}@*' {SERVER}"
    # at once: a server that stops clean waits for an archive that nobody answers for
    at.on_host(f"systemctl stop --no-block {SERVER}; systemctl kill -s KILL {SERVER} {TAIL}")
    at.on_host(f"systemctl stop {units}; rm -rf {CLUSTER}/data {STATE}/*")


def revive(at: Bench) -> None:
    """What provisioning does last: the cluster is restored. Then the app."""
    at.on_host(f"hostctl {APP} stream start && systemctl start {WATCH}.timer", 900)
    at.on_host(f"systemctl start {APP}@$(basename $(readlink /var/lib/homeport/{APP}/live)).service")


# ---------------------------------------------------------------------------------------------- outage

WAL = f"du -sm {CLUSTER}/data/pg_wal | cut -f1"
FILL = "CREATE TABLE IF NOT EXISTS bulk (id bigserial, content text)"
ROWS = (
    "INSERT INTO bulk (content) SELECT "
    "(SELECT string_agg(md5(random()::text || n || m), '') FROM generate_series(1, 32) AS m) "
    "FROM generate_series(1, {kilobytes}) AS n"
)


def outage(seconds: int) -> None:
    """Under 200 writes a second and 1 MB of other rows each second; the second time past max_wal."""
    with bench() as at:
        head = f"{'outage':<16}{'seconds':>8}{'writes':>8}{'failed':>8}{'WAL MB':>8}{'lag told':>10}"
        print(f"{head}{'back after':>12}{'missing':>9}{'gaps':>6}{'drill':>8}", flush=True)
        at.sql(FILL)
        print(endure(at, "waits", seconds), flush=True)
        at.configure(backup={"max_wal": "256MiB"})
        at.deploy("provision")
        print(endure(at, "beyond max_wal", seconds, until_dropped=True), flush=True)


def endure(at: Bench, name: str, seconds: int, until_dropped: bool = False) -> str:
    """One outage, and everything that was acknowledged looked for in what can be restored afterwards."""
    at.steady()
    with at.writer() as writer:
        writer.wait(200)
        with sandbox.cut(at.box, "services"):
            begun, size = time.monotonic(), 0
            while time.monotonic() - begun < seconds and not (until_dropped and dropping(at)):
                at.sql(ROWS.format(kilobytes=4096 if until_dropped else 1024))
                size = max(size, int(at.on_host(WAL)))
            away, told = time.monotonic() - begun, at.backup()["lag"]
        back = time.monotonic()
        at.steady()
        while (lag := at.backup()["lag"]) is None or lag > 1:
            time.sleep(0.5)
        took = time.monotonic() - back
        writer.wait(200)
    gaps = int(at.on_host(f"cat {STATE}/gaps.jsonl 2>/dev/null | wc -l"))
    drill = json.loads(at.deploy("backup", "drill", "--json"))
    missing = len(writer.missing(at.bodies()))
    line = f"{name:<16}{away:>8.0f}{len(writer.acknowledged):>8}{sum(writer.failed.values()):>8}{size:>8}"
    line += f"{told if told is not None else float('inf'):>9.1f}s"
    return f"{line}{took:>11.1f}s{missing:>9}{gaps:>6}{'passed' if drill['ok'] else 'failed':>8}"


def dropping(at: Bench) -> bool:
    at.box.run(f"hostctl {APP} stream watch")
    return at.box.run(f"test -e {CLUSTER}/dropping").returncode == 0


# ---------------------------------------------------------------------------------------------- big


def big(megabytes: int, rounds: int = 3) -> None:
    """In turn, so that what the machine does besides touches all alike."""
    with bench() as at:
        at.sql("DROP TABLE IF EXISTS bulk")
        at.sql(FILL)
        for _ in range(megabytes // 50):
            at.sql(ROWS.format(kilobytes=50 * 1000))
        at.deploy("backup", "run")
        size = int(at.sql(f"SELECT pg_database_size('{APP}')"))
        print(f"database of {size / 1e6:.0f} MB", flush=True)
        url = upload(at, size)
        ways: dict[str, Callable[[], float]] = {
            "pg_dump | gzip": lambda: on_host_seconds(at, f"pg_dump -h /run/homeport-{APP}-postgres -U postgres {APP}"
                                                          " | gzip > /var/tmp/plain.gz && sync /var/tmp/plain.gz"),
            "backup run": lambda: deploy_seconds(at, "backup", "run"),
            "download": lambda: on_host_seconds(at, f"curl -fsSk -o /var/tmp/plain '{url}' && sync /var/tmp/plain"),
            "restore": lambda: restore_seconds(at),
            "drill": lambda: deploy_seconds(at, "backup", "drill"),
        }  # fmt: skip
        series: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, measured in ways.items():
                series[name].append(measured())
        base = {name: statistics.median(series[name]) for name in ("pg_dump | gzip", "download")}
        print(f"{'':<16}{'median s':>10}{'min':>8}{'max':>8}{'/ pg_dump':>12}{'/ download':>12}")
        for name, seconds in series.items():
            middle = statistics.median(seconds)
            ratios = "".join(f"{middle / one:>12.2f}" for one in base.values())
            print(f"{name:<16}{middle:>10.1f}{min(seconds):>8.1f}{max(seconds):>8.1f}{ratios}", flush=True)


def upload(at: Bench, size: int) -> str:
    """As many bytes as the database has, as one object; the URL of a plain download."""
    import boto3

    told = at.box.as_dict()["s3"]
    keys = dict(line.split(" = ") for line in at.box.credentials.read_text().splitlines() if " = " in line)
    client = boto3.client(
        "s3",
        endpoint_url=told["endpoint"],
        region_name=told["region"],
        aws_access_key_id=keys["aws_access_key_id"],
        aws_secret_access_key=keys["aws_secret_access_key"],
    )
    with tempfile.TemporaryFile() as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
        file.seek(0)
        client.upload_fileobj(file, told["bucket"], "bench/plain")
    return str(client.generate_presigned_url("get_object", {"Bucket": told["bucket"], "Key": "bench/plain"}))


def on_host_seconds(at: Bench, command: str) -> float:
    began = time.monotonic()
    at.on_host(command, 1800)
    return time.monotonic() - began


def restore_seconds(at: Bench) -> float:
    """What hostctl takes to restore beside and recover: a restore does just that before anything stops."""
    found = json.loads(at.deploy("restore", "--dry-run", "--json"))["databases"].values()
    return sum(float(one["seconds"]) for one in found)


def deploy_seconds(at: Bench, *args: str) -> float:
    began = time.monotonic()
    at.deploy(*args)
    return time.monotonic() - began


# ---------------------------------------------------------------------------------------------- kill

# kills the postmaster, and tells when, and when somebody was let in again
KILL = (
    f"pid=$(head -1 {CLUSTER}/data/postmaster.pid); date +%s.%N; kill -9 $pid; while test -d /proc/$pid; do :; done; "
    f"until {PSQL} -c 'SELECT 1' >/dev/null 2>&1; do sleep 0.05; done; date +%s.%N"
)


def kill(times: int) -> None:
    """20 clients, half of their requests POST; those POSTs that were in flight nobody may send again."""
    with bench() as at:
        print(
            f"{'run':>4}{'answered':>10}{'failed':>8}{'in flight':>11}{'slowest ms':>12}{'recovered s':>13}", flush=True
        )
        for number in range(times):
            with Load(at.box.address, DOMAIN, at.box.root, clients=20, rate=300, seconds=600) as load:
                time.sleep(3)
                began, ended = map(float, at.on_host(KILL).split())
                time.sleep(3)
            report = load.report
            flight = len(report.posts_in_flight(began, began + 1))
            told = f"{number + 1:>4}{report.answered:>10}{report.failed - flight:>8}{flight:>11}"
            print(f"{told}{report.total.slowest * 1000:>12.0f}{ended - began:>13.2f}", flush=True)
            at.steady()


MEASURES: dict[str, tuple[Callable[[int], None], int]] = {
    "loss": (loss, 10),
    "outage": (outage, 600),
    "big": (big, 1000),
    "kill": (kill, 5),
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
