"""A real S3 server on this machine: SeaweedFS on free ports of 127.0.0.1, gone with the tests however they end."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import secrets
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

from homeport.core import pinned_programs
from hostctl.backup.s3 import Bucket
from hostctl.backup.settings import Backup, Credentials

REGION = "us-east-1"
WITHIN = 60.0  # seconds that the server may take to be able to store something
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """For preexec_fn: the child gets SIGKILL when the process that started it is gone, however it went."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, whose gRPC sisters (10,000 above) are free too."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.randbelow(9_000) + 11_000
        if port not in found and _free(port) and _free(port + 10_000):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def forget_sockets() -> None:
    """Remove the sockets that SeaweedFS puts into /tmp, whatever it is told, and that nobody listens at any more."""
    listening = Path("/proc/net/unix").read_text()
    for path in Path("/tmp").glob("seaweedfs-*-grpc-*.sock"):
        if str(path) not in listening:
            path.unlink(missing_ok=True)


class Store:
    """A running S3 server, and what a test asks of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.access, self.secret = secrets.token_hex(10).upper(), secrets.token_urlsafe(30)
        self.port, *self._others = free_ports(4)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.log: IO[bytes] | None = None
        keys = [{"accessKey": self.access, "secretKey": self.secret}]
        reader = [{"accessKey": "READER", "secretKey": "only-reads"}]
        identities = [
            {"name": "tests", "credentials": keys, "actions": ["Admin"]},
            {"name": "reader", "credentials": reader, "actions": ["Read", "List"]},
        ]
        (directory / "s3.json").write_text(json.dumps({"identities": identities}))

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.access, self.secret)

    def _argv(self) -> list[str]:
        master, volume, filer = self._others
        options = {
            "dir": self.directory,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3": "true",
            "s3.port": self.port,
            "s3.config": self.directory / "s3.json",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": self.directory / "s3.sock",
            "filer.localSocket": self.directory / "filer.sock",
            "master.port": master,
            "volume.port": volume,
            "filer.port": filer,
            "master.telemetry": "false",
            "master.electionTimeout": "1s",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 4000,  # each bucket takes a few
            "volume.preStopSeconds": 0,
        }
        weed = str(pinned_programs.fetch("seaweedfs", platform.machine()))
        return [weed, "server", *(f"-{name}={value}" for name, value in options.items())]

    def start(self) -> None:
        """Start the server and wait until an object can be stored."""
        self.log = (self.directory / "weed.log").open("ab")
        self.process = subprocess.Popen(
            self._argv(),
            stdout=self.log,
            stderr=self.log,
            cwd=self.directory,
            env={**os.environ, "TMPDIR": str(self.directory)},
            preexec_fn=die_with_parent,
        )
        deadline = time.monotonic() + WITHIN
        while not self._stores():
            assert self.process.poll() is None, (self.directory / "weed.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (self.directory / "weed.log").read_text()[-3000:]
            time.sleep(0.1)

    def _stores(self) -> bool:
        with contextlib.suppress(Exception):
            probe = self.bucket("probe")
            self.make_bucket("probe")
            probe.put("probe", b"")
            return True
        return False

    def stop(self) -> None:
        """Kill it; what it holds stays, and `start` brings it back on the same port."""
        assert self.process is not None
        assert self.log is not None
        self.process.kill()  # it takes 15 s to end when asked
        self.process.wait()
        self.log.close()
        forget_sockets()

    def freeze(self) -> None:
        """S3 that takes connections and never answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def make_bucket(self, name: str) -> str:
        """Make a bucket (one that is there is fine); returns its name."""
        with contextlib.suppress(FileExistsError):
            self.bucket(name).create()
        return name

    def backup(self, bucket: str, **more: object) -> Backup:
        """What database.json would say under `backup` for a bucket of this server."""
        told = Backup(bucket=bucket, prefix="shop", region=REGION, endpoint=self.endpoint, path_style=True)
        return told._replace(**more)  # type: ignore[arg-type]

    def bucket(self, name: str, **more: object) -> Bucket:
        """hostctl's own client for a bucket of this server."""
        return Bucket(self.backup(name, **more), self.credentials)
