"""`hostctl APP logs`: the log of the app and its units, from the journal, with its secrets redacted."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, NamedTuple

from hostctl.common.errors import USAGE, HostError
from hostctl.common.files import Json
from hostctl.common.timestamps import iso_milliseconds
from hostctl.core.paths import App
from hostctl.cron import jobs
from hostctl.release import app_config, records, redact, selection
from hostctl.transitions.steps import prune

EDGE = "caddy.service"
LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
REFRESH = 0.2  # seconds between two reads of the secrets; an instance takes longer to write its first line
# control sequences of terminals, except colours
_CONTROL = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


class Query(NamedTuple):
    """The lines to show. `since`: seconds since the epoch. `of`: units instead of a source."""

    lines: int
    follow: bool = False
    release: str | None = None
    source: str | None = None
    since: float | None = None
    grep: str | None = None
    as_json: bool = False
    of: tuple[str, ...] = ()


def units(app: App, source: str | None, release: str | None) -> list[str]:
    """Patterns of the units of a source; by default the instances and migrations of one release, or of all."""
    instances = f"{app.name}@{release or '*'}.service"
    # a digit: the release begins with the year, and the unit of another app does not match
    migrations = app.helper_unit(f"migrate-{release or '[0-9]*'}")
    known = {
        "app": [instances],
        "migrate": [migrations],
        "run": [app.helper_unit("run-[0-9]*")],
        "cron": list(jobs.units(app, "*")),
        "edge": [EDGE],
        "db": [app.cluster_unit, app.stream_unit],
        "backup": [app.helper_unit(name) for name in ("backup", "drill", "litestream", "tail", "watch")],
    }
    return known[source] if source else [instances, migrations]


def arguments(app: App, query: Query) -> list[str]:
    """The journalctl command. It runs as root, so without a pager: a pager can start a shell."""
    command = ["journalctl", "--no-pager", "-q", "-o", "json", "--all"]
    command.append("--output-fields=MESSAGE,_SYSTEMD_UNIT,UNIT,PRIORITY")
    # with --lines and --grep, journalctl reverses the order
    if query.follow or query.grep is None:
        command.append(f"--lines={query.lines}")
    command += ["--follow"] if query.follow else []
    command += [f"--since=@{query.since:.0f}"] if query.since is not None else []
    command += [f"--grep={query.grep}"] if query.grep is not None else []
    of = query.of or units(app, query.source, query.release)
    return command + [part for unit in of for part in ("-u", unit)]


def print_log(app: App, query: Query, out: IO[str]) -> None:
    """Write the lines to `out`; for a release that the journal no longer has, the logs saved beside its record."""
    command = arguments(app, query)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as journal:
        assert journal.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            count = _write(render(app, query, _entries(journal.stdout)), query, out)
        except (BrokenPipeError, KeyboardInterrupt):
            sys.stdout = None  # the reader is gone: Python must not flush at exit
            return
        finally:
            journal.terminate()
    if not count and query.release and not query.follow:
        print_saved(app, query.release, out)


def _write(lines: Iterable[str], query: Query, out: IO[str]) -> int:
    count = 0
    for count, line in enumerate(lines if query.follow else deque(lines, maxlen=query.lines), 1):  # noqa: B007
        out.write(f"{line}\n")
        if query.follow:
            out.flush()
    out.flush()
    return count


def _entries(stream: Iterable[str]) -> Iterator[Json]:
    for line in stream:
        try:
            yield json.loads(line)
        except ValueError:  # the last line is incomplete when journalctl is terminated
            continue


# ---------------------------------------------------------------------------------------------- which release


def resolve(app: App, reference: str) -> str:
    """The release that a reference names. Raises HostError (usage) when it matches none or several."""
    releases = selection.matching(prune.candidates(app, None), reference) if reference else []
    if len(releases) != 1:
        raise HostError(f"{len(releases)} releases match {reference}", str(app.records), "deploy releases", USAGE)
    return releases[0].release


def newest_failed(app: App) -> str:
    """The newest release whose push failed. Raises HostError (usage) when there is none."""
    failed = [record["release"] for record in records.every(app) if record["state"] == records.FAILED_STATE]
    if not failed:
        raise HostError("no release has failed", str(app.records), "deploy releases", USAGE)
    return str(failed[-1])


def print_saved(app: App, release: str, out: IO[str]) -> None:
    """Write the logs of migration and boot that were saved beside the release's record."""
    for name in ("migrate.log", "boot.log"):
        path = app.record(release) / name
        if path.exists():
            out.write(path.read_text(errors="replace"))


# ---------------------------------------------------------------------------------------------- a line


def render(app: App, query: Query, entries: Iterable[Json]) -> Iterator[str]:
    """The entries as lines of text or JSON, redacted."""
    redact_text, foreign = redactor(app), foreign_domains(app) if query.source == "edge" else ()
    for entry in entries:
        text = message(entry)
        if any(name in text for name in foreign):
            continue
        line = redact_text(text)
        unit = str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or "")
        at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        if query.as_json:
            level = LEVELS[min(int(entry.get("PRIORITY", 6)), 7)]
            row = {"at": iso_milliseconds(at), "unit": unit, "level": level, "message": line}
            yield json.dumps(row, ensure_ascii=False)
        else:
            yield f"{iso_milliseconds(at)} {label(app, unit)} {_CONTROL.sub('', line)}"


def message(entry: Json) -> str:
    """The text of an entry. The journal gives text that is not UTF-8 as a list of bytes."""
    text = entry.get("MESSAGE") or ""
    return bytes(text).decode(errors="replace") if isinstance(text, list) else str(text)


def label(app: App, unit: str) -> str:
    """The source of a line: the release of an instance, or the name of a helper unit."""
    name = unit.removesuffix(".service")
    return name.removeprefix(f"{app.name}@").removeprefix(f"homeport-{app.name}-")


def foreign_domains(app: App) -> Sequence[str]:
    """The domains of the other apps: the edge serves all, and lines about them are left out."""
    others = [app_config.load(other) for other in app.layout.apps() if other.name != app.name]
    return sorted(
        {str(domain) for config in others for domain in config["domains"]} - set(app_config.load(app)["domains"])
    )


def redactor(app: App) -> Callable[[str], str]:
    """A function that redacts the secrets of all releases, also of those that are pushed while it is used."""
    state: dict[str, object] = {}

    def redact_text(text: str) -> str:
        now = time.monotonic()
        if now >= float(str(state.get("until", 0))):
            state.update(until=now + REFRESH, pattern=redact.pattern(_secrets(app)))
        pattern = state["pattern"]
        return pattern.sub(redact.MARK, text) if isinstance(pattern, re.Pattern) else text

    return redact_text


def _secrets(app: App) -> list[str]:
    secrets: set[str] = set()
    for record in records.every(app):
        secrets.update(redact.secrets(app, record))
    return sorted(secrets)
