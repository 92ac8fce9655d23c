"""The command line: strict arguments in, one JSON document out.

What a verb needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from hostctl.authorise import INTERNAL, authorise
from hostctl.errors import DONE, FAILED, USAGE, HostError, of_system
from hostctl.files import Json
from hostctl.layout import App, Layout
from hostctl.names import checked

GLOBAL = ("boot", "edge")
AGAIN = "deploy status tells what is so; try again, and report it if it comes again"
Verb = Callable[[App, argparse.Namespace], Json | None]


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is an error of the one shape."""

    def error(self, message: str) -> NoReturn:
        raise HostError(f"hostctl: {message}", "the arguments", "use the deploy of this version", USAGE)


def kind(name: str) -> Callable[[str], str]:
    return lambda value: checked(name, value)


def bounded(low: float, high: float) -> Callable[[str], float]:
    """A number within bounds."""

    def parse(value: str) -> float:
        number = float(value)
        if not low <= number <= high:
            raise ValueError(value)
        return number

    parse.__name__ = f"number from {low:g} to {high:g}"
    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if not low <= number <= high:
            raise ValueError(value)
        return number

    parse.__name__ = f"whole number from {low} to {high}"
    return parse


LARGEST = 1 << 46
SECONDS = bounded(0, 86_400)
WHO: dict[str, dict[str, object]] = {
    "--who": {"type": kind("line"), "default": ""},
    "--from": {"type": kind("line"), "default": "", "dest": "origin"},
}
ID: dict[str, dict[str, object]] = {"id": {"type": kind("transition")}}

# every verb, with what it takes; anything else is refused
OPTIONS: dict[str, dict[str, dict[str, object]]] = {
    "inspect": {},
    "status": {},
    "releases": {},
    "push": {},
    "env": {},
    "seal": {"--finish": {"action": "store_true"}},
    "plan": {},
    "build": {},
    "recover": {},
    "record": {"--release": {"type": kind("reference")}, "--failed": {"action": "store_true"}},
    "receive": {
        "--digest": {"type": kind("digest"), "required": True},
        "--transfer": {"type": kind("digest"), "required": True},
        "--offset": {"type": whole(0, LARGEST), "required": True},
        "--total": {"type": whole(1, LARGEST), "required": True},
        "--base": {"type": kind("digest")},
    },
    "rollback": {
        "--to": {"type": kind("reference")},
        "--force": {"action": "store_true"},
        "--with-data": {"action": "store_true"},
        "--point": {"type": kind("transition")},
        "--plan": {"action": "store_true"},
        "--lock-wait": {"type": SECONDS, "default": 0.0},
        **WHO,
    },
    "restore": {
        "--at": {"type": bounded(0, 1 << 40)},
        "--point": {"type": kind("transition")},
        "--plan": {"action": "store_true"},
        "--dry-run": {"action": "store_true"},
        "--file": {"action": "store_true"},
        "--database": {"type": kind("line")},
        "--lock-wait": {"type": SECONDS, "default": 0.0},
        **WHO,
    },
    "points": {},
    "doctor": {},
    "apps": {},
    "remove": {
        "action": {"choices": ["plan", "begin", "progress", "run"]},
        "--keep-data": {"action": "store_true"},
        "--force": {"action": "store_true"},
        "--lock-wait": {"type": SECONDS, "default": 0.0},
        **WHO,
    },
    "maintenance": {"action": {"choices": ["on", "off", "status"]}, **WHO},
    "certs": {"action": {"choices": ["list", "renew", "progress", "push"]}, **WHO},
    "cron": {
        "action": {"choices": ["list", "run", "progress", "suspend", "resume"]},
        "names": {"type": kind("job"), "nargs": "*"},
        **WHO,
    },
    "follow": {
        "--transition": {"type": kind("transition")},
        "--after": {"type": whole(0, 1 << 30), "default": 0},
        "--wait": {"type": SECONDS, "default": 0.0},
    },
    "audit": {"-n": {"type": whole(1, 100_000), "default": 20, "dest": "lines"}},
    "lock": {
        "action": {"choices": ["status", "acquire", "release"]},
        "--message": {"type": kind("line"), "default": ""},
        "--force": {"action": "store_true"},
        **WHO,
    },
    "logs": {
        "-f": {"action": "store_true", "dest": "follow"},
        "-n": {"type": whole(0, 1_000_000), "default": 100, "dest": "lines"},
        "--release": {"type": kind("reference")},
        "--since": {"type": bounded(0, 1 << 40)},
        "--grep": {"type": kind("line")},
        "--json": {"action": "store_true", "dest": "as_json"},
        "--job": {"type": kind("job")},
        "source": {"choices": ["app", "edge", "db", "backup", "migrate", "run", "cron"], "nargs": "?"},
    },
    "shell": {
        "action": {"choices": ["ask", "run"]},
        "--id": {"type": kind("transition")},
        "--terminal": {"action": "store_true"},
        **WHO,
    },
    "backup": {
        "action": {"choices": ["status", "run", "list", "drill", "progress", "takeover", "check", "forget"]},
        "--id": {"type": kind("transition")},
        "--plan": {"action": "store_true"},
        **WHO,
    },
    "db": {
        "action": {"choices": ["console", "dump", "load", "upgrade"]},
        "--database": {"type": kind("line")},
        "--write": {"action": "store_true"},
        "--sql": {"action": "store_true"},
        "--plan": {"action": "store_true"},
        "--bytes": {"type": whole(1, LARGEST), "default": 1},
        "--digest": {"type": kind("digest")},
        **WHO,
    },
    "stream": {
        "action": {
            "choices": ["condition", "prepare", "stopped", "start", "watch", "credentials", "tail", "libraries"]
        },
        "--allow-empty": {"action": "store_true"},
        "--names": {"default": ""},
    },
    "notify": {"action": {"choices": ["list", "test"]}, **WHO},
    "notifier": {"action": {"choices": ["keep", "send"]}},
    "accessory": {
        "action": {"choices": ["list", "restart", "remove", "logs"]},
        "name": {"type": kind("accessory"), "nargs": "?"},
        "-f": {"action": "store_true", "dest": "follow"},
        "-n": {"type": whole(0, 1_000_000), "default": 100, "dest": "lines"},
        "--since": {"type": bounded(0, 1 << 40)},
        "--grep": {"type": kind("line")},
        "--json": {"action": "store_true", "dest": "as_json"},
        **WHO,
    },
    "accessories": {},
    "transition": ID,
    "drain": ID,
    "building": ID,
    "spread": {"archive": {}, "directory": {}},
    "collect": {"directory": {}, "archive": {}},
}


def parse(verb: str, rest: Sequence[str]) -> argparse.Namespace:
    """The arguments of a verb. Raises HostError (usage)."""
    if verb not in OPTIONS:
        raise HostError(f"unknown verb {verb[:40]!r}", "the arguments", f"one of {', '.join(sorted(OPTIONS))}", USAGE)
    parser = Parser(prog=f"hostctl APP {verb}", add_help=False, allow_abbrev=False, exit_on_error=True)
    for name, options in OPTIONS[verb].items():
        parser.add_argument(name, **options)  # type: ignore[arg-type]
    return parser.parse_args(list(rest))


# ---------------------------------------------------------------------------------------------- verbs


def _push(app: App, _: argparse.Namespace) -> Json:
    from hostctl import begin, spec
    from hostctl.edges import Edges

    return begin.push(app, spec.read(spec.PUSH), Edges())


def _env(app: App, _: argparse.Namespace) -> Json:
    from hostctl import begin, spec
    from hostctl.edges import Edges

    return begin.push(app, spec.read(spec.PUSH), Edges(), "env")


def _seal(app: App, given: argparse.Namespace) -> Json:
    from hostctl import conversion

    return conversion.finish(app) if given.finish else conversion.seal(app)


def _rollback(app: App, given: argparse.Namespace) -> Json:
    from hostctl import begin
    from hostctl.edges import Edges

    who = given.who or os.environ.get("SUDO_USER", "root")
    if given.plan:
        return begin.way_back(app, given.to, Edges())
    if given.with_data:
        return begin.rollback_with_data(app, given.to, given.point, who, given.origin, given.lock_wait, Edges())
    return begin.rollback(app, given.to, who, given.origin, given.lock_wait, Edges(), given.force)


def _restore(app: App, given: argparse.Namespace) -> Json | None:
    from hostctl import restore
    from hostctl.edges import Edges

    edges = Edges()
    data = restore.source(app, given.at, given.point, edges)
    if given.plan:
        return {"at": restore.instant(data), "gives_up": restore.gives_up(app, data)}
    if given.dry_run:
        return restore.rehearse(app, data, edges)
    if given.file:
        restore.send(app, data, given.database, edges, sys.stdout.buffer)
        return None
    who = given.who or os.environ.get("SUDO_USER", "root")
    return restore.begin(app, data, who, given.origin, given.lock_wait, edges)


def _points(app: App, _: argparse.Namespace) -> Json:
    from hostctl import points

    return {"points": points.every(app)}


def _doctor(app: App, _: argparse.Namespace) -> Json:
    from hostctl.doctor import doctor
    from hostctl.edges import Edges

    return doctor(app, Edges())


def _apps(app: App, _: argparse.Namespace) -> Json:
    from hostctl import apps
    from hostctl.edges import Edges

    return {"apps": apps.every(app.layout, Edges())}


def _maintenance(app: App, given: argparse.Namespace) -> Json:
    from hostctl import maintenance, spec
    from hostctl.edges import Edges

    who = maintenance.Who(given.who or os.environ.get("SUDO_USER", "root"), given.origin)
    if given.action == "on":
        return maintenance.on(app, spec.read(spec.MAINTENANCE), who, Edges())
    return maintenance.off(app, who) if given.action == "off" else {"maintenance": maintenance.now(app)}


def _remove(app: App, given: argparse.Namespace) -> Json:
    from hostctl import remove
    from hostctl.edges import Edges

    who = given.who or os.environ.get("SUDO_USER", "root")
    wish = remove.Wish(who, given.origin, given.keep_data, given.force, given.lock_wait)
    return remove.verb(app, given.action, wish, Edges())


def _certs(app: App, given: argparse.Namespace) -> Json:
    from hostctl import certs
    from hostctl.edges import Edges

    who = certs.Who(given.who or os.environ.get("SUDO_USER", "root"), given.origin)
    if given.action == "push":
        from hostctl import own_certificates, spec

        return certs.push(app, spec.read(own_certificates.SPEC)["certificates"], who, Edges())
    return certs.verb(app, given.action, who, Edges())


def _cron(app: App, given: argparse.Namespace) -> Json | None:
    from hostctl import cron, cron_jobs, cron_runs
    from hostctl.edges import Edges

    who = cron_jobs.Who(given.who or os.environ.get("SUDO_USER", "root"), given.origin)
    told = cron.verb(app, given.action, given.names, who, Edges())
    if "result" not in told:
        return told
    print(cron_runs.sentence(told))  # into the log of the job that has run
    return None


def _plan(app: App, _: argparse.Namespace) -> Json:
    from hostctl import plan, spec

    return plan.plan(app, spec.read(spec.PLAN))


def _follow(app: App, given: argparse.Namespace) -> Json:
    from hostctl.follow import follow

    return follow(app, given.transition, given.after, given.wait)


def _status(app: App, _: argparse.Namespace) -> Json:
    from hostctl.edges import Edges
    from hostctl.status import status

    return status(app, Edges())


def _inspect(app: App, _: argparse.Namespace) -> Json:
    from hostctl.facts import inspect

    return inspect(app)


def _releases(app: App, _: argparse.Namespace) -> Json:
    from hostctl import records

    return {"releases": [records.short(app, record) for record in records.every(app)]}


def _record(app: App, given: argparse.Namespace) -> Json:
    from hostctl import logs, records

    release = logs.newest_failed(app) if given.failed else logs.named(app, given.release or "")
    kept = {name: _text(app.record(release) / name) for name in ("boot.log", "migrate.log")}
    return {"record": records.load(app, release), **kept}


def _text(path: Path) -> str | None:
    return path.read_text(errors="replace") if path.exists() else None


def _audit(app: App, given: argparse.Namespace) -> Json:
    from hostctl import audit

    return {"audit": audit.read(app, given.lines)}


def _lock(app: App, given: argparse.Namespace) -> Json:
    from hostctl import audit, lock

    who = given.who or os.environ.get("SUDO_USER", "root")
    if given.action == "acquire":
        told: Json | None = lock.acquire(app, who, given.origin, given.message)
        audit.note(app, who, given.origin, "lock acquire", given.message)
        return {"lock": told}
    if given.action == "release":
        released = lock.release(app, who, given.force)
        audit.note(app, who, given.origin, "lock release", (released or {}).get("message", ""))
        return {"lock": None, "released": released}
    return {"lock": lock.holder(app)}


def _receive(app: App, given: argparse.Namespace) -> Json:
    from hostctl.receive import receive

    return receive(app, given.digest, given.transfer, given.offset, given.total, given.base, sys.stdin.buffer)


def _logs(app: App, given: argparse.Namespace) -> None:
    from hostctl import cron_jobs, logs

    release = logs.named(app, given.release) if given.release else None
    of = cron_jobs.units(app, given.job) if given.job else ()
    asked = logs.Wanted(given.lines, given.follow, release, given.source, given.since, given.grep, given.as_json, of)
    logs.run(app, asked, sys.stdout)


def _shell(app: App, given: argparse.Namespace) -> Json | None:
    from hostctl import shell, spec
    from hostctl.edges import Edges

    if given.action == "ask":
        return shell.ask(app, spec.read(spec.SHELL))
    who = given.who or os.environ.get("SUDO_USER", "root")
    sys.exit(shell.run(app, given.id or "", given.terminal, who, given.origin, Edges()))


def _build(app: App, _: argparse.Namespace) -> Json:
    from hostctl import build, spec
    from hostctl.edges import Edges

    return build.begin(app, spec.read(spec.BUILD), Edges())


def _backup(app: App, given: argparse.Namespace) -> Json:
    from hostctl import backup
    from hostctl.edges import Edges

    who = backup.Who(given.who or os.environ.get("SUDO_USER", "root"), given.origin)
    if given.action == "forget":
        from hostctl import aside

        name = given.id or ""
        return aside.find(app, name) if given.plan else aside.forget(app, name, *who)
    return backup.verb(app, given.action, who, Edges())


def _db(app: App, given: argparse.Namespace) -> Json | None:
    from hostctl import database
    from hostctl.edges import Edges

    who = given.who or os.environ.get("SUDO_USER", "root")
    if given.action == "upgrade":
        from hostctl.postgres import upgrade

        return upgrade.plan(app) if given.plan else upgrade.begin(app, who, given.origin, Edges())
    if given.action == "load":
        return database.load(app, given.bytes, given.digest or "", who, given.origin, Edges())
    if given.action == "dump":
        database.dump(app, given.database, given.sql, sys.stdout.buffer)
    else:
        sys.exit(database.console(app, given.database, given.write, who, given.origin))
    return None


def _stream(app: App, given: argparse.Namespace) -> Json:
    from hostctl import databases, engines, spec
    from hostctl.edges import Edges

    if given.action == "credentials":
        return {"changed": databases.keep_credentials(app, spec.read(databases.KEYS))}
    if given.action == "libraries":
        from hostctl.postgres import cluster

        cluster.refuse_libraries(app, given.names)
        return {}
    told = engines.require(app).streams.verb(app, given.action, Edges(), given.allow_empty)
    if given.action == "watch":
        _tell_trouble(app, told)
    return told


def _tell_trouble(app: App, looked: Json) -> None:
    from hostctl import notify
    from hostctl.edges import Edges

    if notify.receivers(app):
        from hostctl.status import database

        notify.watched(app, looked, database(app, Edges()))


def _notify(app: App, given: argparse.Namespace) -> Json:
    from hostctl import outbox
    from hostctl.edges import Edges

    if given.action == "list":
        return {"receivers": outbox.listing(app)}
    who = given.who or os.environ.get("SUDO_USER", "root")
    return {"receivers": outbox.test(app, who, given.origin, Edges())}


def _notifier(app: App, given: argparse.Namespace) -> Json:
    from hostctl import notify, outbox, spec
    from hostctl.edges import Edges

    if given.action == "keep":
        return {"changed": notify.keep(app, spec.read(notify.KEPT))}
    return outbox.run(app, Edges())


def _accessory(app: App, given: argparse.Namespace) -> Json | None:
    from hostctl import accessories
    from hostctl.edges import Edges

    if given.action == "list":
        return {"accessories": accessories.told(app, Edges())}
    if given.action == "logs":
        from hostctl import logs

        unit = accessories.find(app, given.name or "").unit
        asked = logs.Wanted(given.lines, given.follow, None, None, given.since, given.grep, given.as_json, (unit,))
        logs.run(app, asked, sys.stdout)
        return None
    who = given.who or os.environ.get("SUDO_USER", "root")
    act = accessories.restart if given.action == "restart" else accessories.remove
    return act(app, given.name or "", who, given.origin, Edges())


def _accessories(app: App, _: argparse.Namespace) -> Json:
    from hostctl import accessories
    from hostctl.edges import Edges

    return accessories.start(app, Edges())


def _transition(app: App, given: argparse.Namespace) -> Json:
    from hostctl import switch
    from hostctl.edges import Edges

    return switch.run(app, given.id, Edges())


def _drain(app: App, given: argparse.Namespace) -> Json:
    from hostctl import drain, journal
    from hostctl.edges import Edges
    from hostctl.transition import Work

    entry = journal.load(app, given.id)
    if entry is None or entry.result is None:
        raise HostError(f"transition {given.id} has nothing to drain", str(app.transitions), "deploy status", FAILED)
    return drain.run(Work(app, entry, Edges()))


def _recover(app: App, _: argparse.Namespace) -> Json:
    from hostctl import recover
    from hostctl.edges import Edges

    return recover.verb(app, Edges())


def _building(app: App, given: argparse.Namespace) -> Json:
    from hostctl import build
    from hostctl.edges import Edges

    return build.run(app, given.id, Edges())


def _spread(_: App, given: argparse.Namespace) -> Json:
    from hostctl import build

    return build.spread(given.archive, given.directory)


def _collect(_: App, given: argparse.Namespace) -> Json:
    from hostctl import build

    return build.collect(given.directory, given.archive)


VERBS: dict[str, Verb] = {name: globals()[f"_{name}"] for name in OPTIONS}


def global_verb(layout: Layout, verb: str, rest: Sequence[str]) -> Json:
    """What concerns the whole host: `boot`, `edge check APP FILE`, `edge apply`, `edge certificates APP`."""
    if verb == "boot" and not rest:
        from hostctl import recover, remove
        from hostctl.edges import Edges

        going = remove.go_on(layout, Edges())
        return recover.boot([app for app in layout.apps() if app.name not in going], Edges())
    if verb == "edge":
        from hostctl import edge

        if len(rest) == 3 and rest[0] == "check":
            return edge.check(checked("app", rest[1]), Path(rest[2]))
        if list(rest) == ["apply"]:
            return edge.apply()
        if len(rest) == 2 and rest[0] == "certificates":
            return _own_certificates(checked("app", rest[1]))
    raise HostError("unknown arguments", "the arguments", "hostctl boot, hostctl edge check|apply|certificates", USAGE)


def _own_certificates(app: str) -> Json:
    """Provisioning hands them over, which is before there is an app.json."""
    from hostctl import own_certificates, spec
    from hostctl.edges import Edges

    return own_certificates.put(app, spec.read(own_certificates.SPEC)["certificates"], Edges())


def run(argv: Sequence[str], layout: Layout, uid: int, sudo_user: str | None) -> Json | None:
    """Authorise and run one command. Raises HostError."""
    if argv and argv[0] in GLOBAL:
        authorise(argv[0], uid, sudo_user, ())
        return global_verb(layout, argv[0], argv[1:])
    if len(argv) < 2:
        raise HostError("hostctl APP VERB [options]", "the arguments", f"one of {', '.join(sorted(OPTIONS))}", USAGE)
    app, verb = layout.app(argv[0]), argv[1]
    given = parse(verb, argv[2:])
    authorise(verb, uid, sudo_user, deployers(app, verb))
    return VERBS[verb](app, given)


def deployers(app: App, verb: str) -> list[str]:
    """Who may push this app. What only the host itself runs needs no app.json: provisioning writes that last."""
    if verb in INTERNAL:
        return []
    from hostctl import config

    return [str(name) for name in config.load(app)["deployers"]]


def main(argv: Sequence[str], layout: Layout | None = None) -> int:
    """Run one command as the process that was called; returns the exit code."""
    try:
        told = run(argv, layout or Layout(), os.geteuid(), os.environ.get("SUDO_USER"))
    except HostError as error:
        return _refused(error)
    except OSError as error:
        return _refused(of_system(error, " ".join(["hostctl", *argv[1:2]]), "hostctl", AGAIN))
    except ValueError as error:
        return _refused(HostError(f"{type(error).__name__}: {error}", "hostctl", AGAIN))
    if told is not None:
        print(json.dumps(told, separators=(",", ":")))
    return DONE


def _refused(error: HostError) -> int:
    print(json.dumps({"error": error.as_dict()}))
    return error.code
