"""The action upload: sends a delta against a release that both sides hold, in pieces; continues an upload cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from homeport.core.humanize import size
from homeport.plays.action import Action
from homeport.release import delta
from homeport.release.cache import Cache
from homeport.remote.hostctl import Hostctl
from homeport.screen import events
from hostctl.common.documents import Json

# large compared with the cost of a remote command (about 0.1 s), small enough that an interruption loses little
PIECE_BYTES = 4 * 1024 * 1024


DOCUMENTATION = """
module: upload
short_description: Upload the release
description:
  - Sends the release's tar to the host as a delta against a release that both sides hold, in pieces.
  - Continues an upload that was cut off. Sends nothing where the host holds the release.
extends_documentation_fragment:
  - homeport.deploy.action
  - homeport.deploy.action.deploy_user
  - homeport.deploy.action.inventory
  - homeport.deploy.action.host
  - homeport.deploy.action.tar
  - homeport.deploy.action.digest
"""

EXAMPLES = """
- name: Upload the release
  homeport.deploy.upload:
    tar: "{{ homeport_built.tar }}"
    digest: "{{ homeport_built.digest }}"
    host: "{{ homeport_host.facts }}"
"""

RETURN = """
bytes_sent:
  description: How many bytes were sent.
  returned: success
  type: int
"""


class ActionModule(Action):
    """Returns {"bytes_sent": n}."""

    step = "upload"

    def act(self, args: Json, task_vars: Json) -> Json:
        digest, facts = args["digest"], args["host"]
        if digest in facts["artifacts"] or not args["tar"]:
            return {"bytes_sent": 0, "says": "the host holds it already"}
        base = Cache(task_vars["homeport_app"]).nearest(facts["artifacts"])
        sent, against = transfer(self.hostctl(task_vars), digest, Path(args["tar"]), base, facts)
        return {"bytes_sent": sent, "says": f"{size(sent)}, {against}", "changed": True}


def transfer(host: Hostctl, digest: str, tar: Path, base: Path | None, facts: Json) -> tuple[int, str]:
    """Upload the tar; return how many bytes were sent, and "a delta" or "whole"."""
    stream = delta.make(tar, base)
    sent = send(host, digest, stream, facts["partial"], _tell)
    return sent, "a delta" if stream.base else "whole"


def send(host: Hostctl, digest: str, stream: delta.Stream, partial: Json, tell: Callable[[int, int], None]) -> int:
    """Send the bytes of the stream that the host does not have yet; return how many."""
    total, begun = len(stream.data), partial.get(digest, {})
    start = begun["bytes"] if begun.get("transfer") == stream.sha256 else 0
    for offset in offsets(start, total):
        piece = stream.data[offset : offset + PIECE_BYTES]
        host.call("receive", *_arguments(digest, stream, offset), stdin=piece)
        tell(offset + len(piece), total)
    return total - start


def offsets(start: int, total: int) -> Iterator[int]:
    """The offset of each piece; one empty piece at the end if the host has all bytes but has not accepted them yet."""
    yield from range(start, total, PIECE_BYTES) if start < total else [total]


def _arguments(digest: str, stream: delta.Stream, offset: int) -> list[str]:
    args = ["--digest", digest, "--transfer", stream.sha256, "--offset", str(offset), "--total", str(len(stream.data))]
    return [*args, "--base", stream.base.stem] if stream.base else args


def _tell(done: int, total: int) -> None:
    events.emit({"kind": "bytes", "done": done, "total": total})
