"""The rows about PostgreSQL in `deploy status` and `deploy backup status`, as (name, text)."""

from __future__ import annotations

from collections.abc import Iterator

from homeport.core.humanize import size
from hostctl.common.documents import Json

Rows = Iterator[tuple[str, str]]


def database(server: Json) -> Rows:
    """The server and its faults. `server` is the field `database` of a status, with its times as text."""
    if server["engine"] == "external":
        yield "database", f"PostgreSQL of a provider ({server['url']})"
        return
    yield "database", _server(server)
    for index in server["indexes"]:
        yield "index", f"INVALID {index['name']} of {index['table']}; {index['repair']}"


def _server(server: Json) -> str:
    if server["server"] != "active":
        return f"PostgreSQL IS {str(server['server']).upper()}"
    if server["version"] is None:
        return "PostgreSQL DOES NOT ANSWER"
    connections = f"{server['connections']} of {server['max_connections']} connections"
    return f"PostgreSQL {server['version']}, {server['name']}, {size(server['bytes'])}, {connections}"


def archive(backup: Json) -> Rows:
    """The base backups, the archived log and its gaps. `backup` is the field `backup` of a PostgreSQL's status."""
    yield "archive", _archiver(backup)
    for kind, name in (("full", "full backup"), ("newest", "newest")):
        yield name, base(backup[kind])
    for gap in backup["gaps"]:
        yield "gap", gap_text(gap)
    if backup["encrypted"]:
        yield "encrypted", "with the key named by backup.encryption_key"


def _archiver(backup: Json) -> str:
    archiver = backup["archiver"]
    if backup["dropping"]:
        return f"THE LOG IS DROPPED since {backup['dropping']['since']}: S3 was away for too long"
    if archiver is None:
        return "not known: the server does not answer"
    waiting = f"{archiver['waiting']} segments wait" if archiver["waiting"] else "nothing waits"
    failing = f"; THE LAST TRY FAILED, {archiver['failures']} in all" if archiver["fails"] else ""
    return f"{waiting}, the last arrived {archiver['archived_at'] or 'never'}{failing}"


def base(backup: Json | None) -> str:
    """A base backup, from a status or from a list, whose keys differ."""
    if backup is None:
        return "NONE yet"
    ended, count = (backup["ended"], backup["size"]) if "ended" in backup else (backup["at"], backup["bytes"])
    return f"{ended} ({backup['label']}, {size(count)})"


def gap_text(gap: Json) -> str:
    """A gap: the time that cannot be restored."""
    if gap["until"] is None:
        return f"NOTHING after {gap['since']} can be restored until a full backup is taken"
    return f"nothing between {gap['since']} and {gap['until']} can be restored"
