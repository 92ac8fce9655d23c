"""What the app and all that serves it write, from the journal, without the values of its secrets."""

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
from hostctl.transitions import prune

EDGE = "caddy.service"
LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
REFRESH = 0.2  # seconds; an instance takes longer from the writing of its environment to its first line
# what a terminal would obey, but for colours
_CONTROL = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")


class Wanted(NamedTuple):
    """What a person asked to see. `since` is seconds since the epoch; `of` names units in place of a source."""

    lines: int
    follow: bool = False
    release: str | None = None
    source: str | None = None
    since: float | None = None
    grep: str | None = None
    as_json: bool = False
    of: tuple[str, ...] = ()


def units(app: App, source: str | None, release: str | None) -> list[str]:
    """The units of a source, as patterns; without one, the instances and migrations, of one release or of all."""
    instances = f"{app.name}@{release or '*'}.service"
    # the unit begins with the year, so that no app whose name begins alike is met
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


def arguments(app: App, wanted: Wanted) -> list[str]:
    """The journalctl command. It runs as root: no pager, which would offer a shell."""
    command = ["journalctl", "--no-pager", "-q", "-o", "json", "--all"]
    command.append("--output-fields=MESSAGE,_SYSTEMD_UNIT,UNIT,PRIORITY")
    # with both, journalctl turns the order round
    if wanted.follow or wanted.grep is None:
        command.append(f"--lines={wanted.lines}")
    command += ["--follow"] if wanted.follow else []
    command += [f"--since=@{wanted.since:.0f}"] if wanted.since is not None else []
    command += [f"--grep={wanted.grep}"] if wanted.grep is not None else []
    of = wanted.of or units(app, wanted.source, wanted.release)
    return command + [part for unit in of for part in ("-u", unit)]


def run(app: App, wanted: Wanted, out: IO[str]) -> None:
    """Write the lines; of a release that the journal has forgotten, what was kept beside its record."""
    command = arguments(app, wanted)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as journal:
        assert journal.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            count = _write(shown(app, wanted, _entries(journal.stdout)), wanted, out)
        except (BrokenPipeError, KeyboardInterrupt):
            sys.stdout = None  # nobody reads it: nothing is flushed into it at the end
            return
        finally:
            journal.terminate()
    if not count and wanted.release and not wanted.follow:
        kept(app, wanted.release, out)


def _write(lines: Iterable[str], wanted: Wanted, out: IO[str]) -> int:
    count = 0
    for count, line in enumerate(lines if wanted.follow else deque(lines, maxlen=wanted.lines), 1):  # noqa: B007
        out.write(f"{line}\n")
        if wanted.follow:
            out.flush()
    out.flush()
    return count


def _entries(stream: Iterable[str]) -> Iterator[Json]:
    for line in stream:
        try:
            yield json.loads(line)
        except ValueError:  # journalctl was ended in the middle of one
            continue


# ---------------------------------------------------------------------------------------------- which release


def named(app: App, wanted: str) -> str:
    """The one release that is meant. Raises HostError (usage) when there is none, or more."""
    found = selection.matching(prune.candidates(app, None), wanted) if wanted else []
    if len(found) != 1:
        raise HostError(f"{len(found)} releases match {wanted}", str(app.records), "deploy releases", USAGE)
    return found[0].release


def newest_failed(app: App) -> str:
    """The release whose push failed last. Raises HostError (usage) when there is none."""
    failed = [one["release"] for one in records.every(app) if one["state"] == records.FAILED_STATE]
    if not failed:
        raise HostError("no release here has failed", str(app.records), "deploy releases", USAGE)
    return str(failed[-1])


def kept(app: App, release: str, out: IO[str]) -> None:
    """What was kept beside the record of a release that the journal has forgotten."""
    for name in ("migrate.log", "boot.log"):
        path = app.record(release) / name
        if path.exists():
            out.write(path.read_text(errors="replace"))


# ---------------------------------------------------------------------------------------------- a line


def shown(app: App, wanted: Wanted, entries: Iterable[Json]) -> Iterator[str]:
    """The entries as lines, or each as one JSON document."""
    clean, foreign = cleaner(app), neighbours(app) if wanted.source == "edge" else ()
    for entry in entries:
        text = message(entry)
        if any(name in text for name in foreign):
            continue
        line = clean(text)
        unit = str(entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or "")
        at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        if wanted.as_json:
            level = LEVELS[min(int(entry.get("PRIORITY", 6)), 7)]
            row = {"at": iso_milliseconds(at), "unit": unit, "level": level, "message": line}
            yield json.dumps(row, ensure_ascii=False)
        else:
            yield f"{iso_milliseconds(at)} {label(app, unit)} {_CONTROL.sub('', line)}"


def message(entry: Json) -> str:
    """The text of an entry; what is no UTF-8 comes from the journal as a list of bytes."""
    found = entry.get("MESSAGE") or ""
    return bytes(found).decode(errors="replace") if isinstance(found, list) else str(found)


def label(app: App, unit: str) -> str:
    """Who wrote a line: the release of an instance, or what a helper does."""
    name = unit.removesuffix(".service")
    return name.removeprefix(f"{app.name}@").removeprefix(f"homeport-{app.name}-")


def neighbours(app: App) -> Sequence[str]:
    """The domains of the other apps on the host, which share the edge: their lines are not this app's."""
    others = [app_config.load(other) for other in app.layout.apps() if other.name != app.name]
    return sorted({str(domain) for one in others for domain in one["domains"]} - set(app_config.load(app)["domains"]))


def cleaner(app: App) -> Callable[[str], str]:
    """What takes the secrets of all releases out of a text; those of a release that comes meanwhile, too."""
    state: dict[str, object] = {}

    def clean(text: str) -> str:
        now = time.monotonic()
        if now >= float(str(state.get("until", 0))):
            state.update(until=now + REFRESH, pattern=redact.pattern(_secrets(app)))
        pattern = state["pattern"]
        return pattern.sub(redact.MARK, text) if isinstance(pattern, re.Pattern) else text

    return clean


def _secrets(app: App) -> list[str]:
    found: set[str] = set()
    for record in records.every(app):
        found.update(redact.secrets(app, record))
    return sorted(found)
