"""Unix sockets in directories that a lesser user can change: who connects, and who is asked."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path
from typing import NamedTuple

from hostctl.common.errors import FAILED, HostError
from hostctl.host.boundary.handles import Directory
from hostctl.host.boundary.users import User

_CREDENTIALS = "=3i"  # struct ucred: pid, uid, gid
PATIENCE = 30.0  # seconds to connect


class Peer(NamedTuple):
    """The process that began to listen on a socket, or that connected to it."""

    pid: int
    uid: int
    gid: int


def of(connection: socket.socket) -> Peer:
    """The peer of a connection, as the kernel has it."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_CREDENTIALS))
    return Peer(*struct.unpack(_CREDENTIALS, found))


def connect(base: Path, name: str, owner: User, group: str | None, seconds: float = PATIENCE) -> socket.socket:
    """Connect to the socket `name` beneath the directory `base`, which root owns. The caller is `owner` already.

    No link is followed, and the peer is a process of the owner's; with a `group` it is in that control group or below.
    Raises OSError if nothing listens there, and HostError if it is somebody else.
    """
    with Directory(base) as directory:
        handle = directory.open(name, os.O_PATH)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(seconds)
        if not stat.S_ISSOCK(os.fstat(handle).st_mode):
            raise _foreign(base / name, "it is no socket")
        # the link in /proc leads to what the handle was opened to, whatever has that name now
        connection.connect(f"/proc/self/fd/{handle}")
        require(connection, base / name, owner, group)
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(handle)
    connection.settimeout(None)
    return connection


def require(connection: socket.socket, at: Path, owner: User, group: str | None) -> None:
    """Raises HostError unless the peer is a process of the owner's and, with a `group`, in that control group."""
    peer = of(connection)
    if peer.uid != owner.uid:
        raise _foreign(at, f"a process of the user with the number {peer.uid} listens there")
    if group is not None and not in_group(peer.pid, group):
        raise _foreign(at, f"process {peer.pid} listens there, which is not of {Path(group).name}")


def in_group(pid: int, group: str, proc: Path = Path("/proc")) -> bool:
    """Whether a process is in a control group, or below it. One that has ended, or no group, is not."""
    try:
        return pid > 0 and belongs((proc / str(pid) / "cgroup").read_text(), group)
    except OSError:
        return False


def belongs(text: str, group: str) -> bool:
    """Whether a process with this /proc/PID/cgroup is in the control group, or below it."""
    paths = [line.split(":", 2)[2] for line in text.splitlines() if line.count(":") >= 2]
    return bool(group.strip("/")) and any(path == group or path.startswith(f"{group}/") for path in paths)


def _foreign(at: Path, why: str) -> HostError:
    return HostError(
        f"the socket is not the instance's: {why}", str(at), "deploy logs; deploy push replaces it", FAILED
    )
