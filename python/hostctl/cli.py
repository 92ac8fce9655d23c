"""The command line of hostctl: strict arguments in, one JSON document out.

Each verb imports its modules when it runs, because start-up time is part of every command.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, cast

from hostctl.authorise import INTERNAL, authorise
from hostctl.common.documents import MaintenancePage, PushSpec, ReceiverUpdate
from hostctl.common.errors import DONE, FAILED, USAGE, HostError, of_system
from hostctl.common.files import Json
from hostctl.common.names import checked
from hostctl.core.actor import Actor
from hostctl.core.paths import App, Layout

GLOBAL = ("boot", "edge", "host")
AGAIN = "see deploy status, then try again; report the error if it comes again"
Answer = Mapping[str, object]
Verb = Callable[[App, argparse.Namespace], Answer | None]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are HostErrors (usage)."""

    def error(self, message: str) -> NoReturn:
        raise HostError(f"hostctl: {message}", "the arguments", "use the deploy of this version", USAGE)


def kind(name: str) -> Callable[[str], str]:
    """An argument type: a string that `names` accepts as this kind."""
    return lambda value: checked(name, value)


def bounded(low: float, high: float) -> Callable[[str], float]:
    """An argument type: a number within bounds."""

    def parse(value: str) -> float:
        number = float(value)
        if not low <= number <= high:
            raise ValueError(value)
        return number

    parse.__name__ = f"number from {low:g} to {high:g}"
    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argument type: a whole number within bounds."""

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

# the arguments of every verb; others are refused
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


def _push(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.core import schema
    from hostctl.host.host import Host
    from hostctl.transitions import begin

    return begin.push(app, cast("PushSpec", schema.read(schema.PUSH)), Host())


def _env(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.core import schema
    from hostctl.host.host import Host
    from hostctl.transitions import begin

    return begin.push(app, cast("PushSpec", schema.read(schema.PUSH)), Host(), "env")


def _seal(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.verbs import seal_plaintext

    return seal_plaintext.finish(app) if args.finish else seal_plaintext.seal(app)


def _rollback(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.transitions import begin

    who = args.who or os.environ.get("SUDO_USER", "root")
    if args.plan:
        return begin.plan_rollback(app, args.to, Host())
    if args.with_data:
        return begin.rollback_with_data(app, args.to, args.point, who, args.origin, args.lock_wait, Host())
    return begin.rollback(app, args.to, who, args.origin, args.lock_wait, Host(), args.force)


def _restore(app: App, args: argparse.Namespace) -> Answer | None:
    from hostctl.backup import recovery_target
    from hostctl.host.host import Host
    from hostctl.transitions import begin
    from hostctl.transitions.steps import restore

    host = Host()
    data = restore.source(app, args.at, args.point, host)
    if args.plan:
        return {"at": recovery_target.target_time(data), "gives_up": restore.gives_up(app, data)}
    if args.dry_run:
        return restore.rehearse(app, data, host)
    if args.file:
        restore.send(app, data, args.database, host, sys.stdout.buffer)
        return None
    who = args.who or os.environ.get("SUDO_USER", "root")
    return begin.restore_in_place(app, data, who, args.origin, args.lock_wait, host)


def _points(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.backup import restore_points

    return {"points": restore_points.all_points(app)}


def _doctor(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.doctor.runner import run_checks
    from hostctl.host.host import Host

    return run_checks(app, Host())


def _apps(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.verbs import apps

    return {"apps": apps.every(app.layout, Host())}


def _maintenance(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.core import schema
    from hostctl.edge import maintenance
    from hostctl.host.host import Host

    who = Actor(args.who or os.environ.get("SUDO_USER", "root"), args.origin)
    if args.action == "on":
        return maintenance.on(app, cast("MaintenancePage", schema.read(schema.MAINTENANCE)), who, Host())
    return maintenance.off(app, who) if args.action == "off" else {"maintenance": maintenance.current(app)}


def _remove(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.removal import remove

    who = args.who or os.environ.get("SUDO_USER", "root")
    request = remove.RemoveRequest(who, args.origin, args.keep_data, args.force, args.lock_wait)
    return remove.perform(app, args.action, request, Host())


def _certs(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.edge import certificates
    from hostctl.host.host import Host

    who = Actor(args.who or os.environ.get("SUDO_USER", "root"), args.origin)
    if args.action == "push":
        from hostctl.core import schema
        from hostctl.edge import custom_certificates

        return certificates.push(app, schema.read(custom_certificates.SPEC)["certificates"], who, Host())
    return certificates.act(app, args.action, who, Host())


def _cron(app: App, args: argparse.Namespace) -> Answer | None:
    from hostctl.cron import commands, runs
    from hostctl.host.host import Host

    who = Actor(args.who or os.environ.get("SUDO_USER", "root"), args.origin)
    answer = commands.perform(app, args.action, args.names, who, Host())
    if "result" not in answer:
        return answer
    print(runs.sentence(answer))  # into the log of the job
    return None


def _plan(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.core import schema
    from hostctl.transitions import plan

    return plan.plan(app, cast("PushSpec", schema.read(schema.PLAN)))


def _follow(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.transitions.follow import follow

    return follow(app, args.transition, args.after, args.wait)


def _status(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.verbs.status import status

    return status(app, Host())


def _inspect(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.verbs.inspect import inspect

    return inspect(app)


def _releases(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.release import records

    return {"releases": [records.summary(app, record) for record in records.every(app)]}


def _record(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.release import records
    from hostctl.verbs import logs

    release = logs.newest_failed(app) if args.failed else logs.resolve(app, args.release or "")
    kept = {name: _text(app.record(release) / name) for name in ("boot.log", "migrate.log")}
    return {"record": records.load(app, release), **kept}


def _text(path: Path) -> str | None:
    return path.read_text(errors="replace") if path.exists() else None


def _audit(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.core import audit

    return {"audit": audit.read(app, args.lines)}


def _lock(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.core import audit, lock

    who = args.who or os.environ.get("SUDO_USER", "root")
    if args.action == "acquire":
        answer: Json | None = lock.acquire(app, who, args.origin, args.message)
        audit.note(app, who, args.origin, "lock acquire", args.message)
        return {"lock": answer}
    if args.action == "release":
        released = lock.release(app, who, args.force)
        audit.note(app, who, args.origin, "lock release", (released or {}).get("message", ""))
        return {"lock": None, "released": released}
    return {"lock": lock.holder(app)}


def _receive(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.release.upload import receive

    return receive(app, args.digest, args.transfer, args.offset, args.total, args.base, sys.stdin.buffer)


def _logs(app: App, args: argparse.Namespace) -> None:
    from hostctl.cron import jobs
    from hostctl.verbs import logs

    release = logs.resolve(app, args.release) if args.release else None
    of = jobs.units(app, args.job) if args.job else ()
    query = logs.Query(args.lines, args.follow, release, args.source, args.since, args.grep, args.as_json, of)
    logs.print_log(app, query, sys.stdout)


def _shell(app: App, args: argparse.Namespace) -> Answer | None:
    from hostctl.core import schema
    from hostctl.host.host import Host
    from hostctl.instance import shell

    if args.action == "ask":
        return shell.ask(app, schema.read(schema.SHELL))
    who = args.who or os.environ.get("SUDO_USER", "root")
    sys.exit(shell.run(app, args.id or "", args.terminal, who, args.origin, Host()))


def _build(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.core import schema
    from hostctl.host.host import Host
    from hostctl.instance import build

    return build.begin(app, schema.read(schema.BUILD), Host())


def _backup(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.verbs import backup

    who = Actor(args.who or os.environ.get("SUDO_USER", "root"), args.origin)
    if args.action == "forget":
        from hostctl.verbs import kept

        name = args.id or ""
        return kept.find(app, name) if args.plan else kept.forget(app, name, *who)
    return backup.perform(app, args.action, who, Host())


def _db(app: App, args: argparse.Namespace) -> Answer | None:
    from hostctl.host.host import Host
    from hostctl.verbs import db

    who = args.who or os.environ.get("SUDO_USER", "root")
    if args.action == "upgrade":
        from hostctl.postgres.upgrade import plan
        from hostctl.transitions.steps import upgrade

        return plan(app) if args.plan else upgrade.begin(app, who, args.origin, Host())
    if args.action == "load":
        return db.load(app, args.bytes, args.digest or "", who, args.origin, Host())
    if args.action == "dump":
        db.dump(app, args.database, args.sql, sys.stdout.buffer)
    else:
        sys.exit(db.console(app, args.database, args.write, who, args.origin))
    return None


def _stream(app: App, args: argparse.Namespace) -> Answer:
    from hostctl import engines
    from hostctl.backup import settings
    from hostctl.core import schema
    from hostctl.host.host import Host

    if args.action == "credentials":
        return {"changed": settings.save_credentials(app, schema.read(settings.KEYS))}
    if args.action == "libraries":
        from hostctl.postgres.server import cluster

        cluster.refuse_missing_libraries(app, args.names)
        return {}
    answer = engines.require(app).replication.run_action(app, args.action, Host(), args.allow_empty)
    if args.action == "watch":
        _report_trouble(app, answer)
    return answer


def _report_trouble(app: App, result: Json) -> None:
    from hostctl.host.host import Host
    from hostctl.notify import events

    if events.receivers(app):
        from hostctl.verbs.status import database

        events.monitor_ran(app, result, database(app, Host()))


def _notify(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.notify import queue

    if args.action == "list":
        return {"receivers": queue.listing(app)}
    who = args.who or os.environ.get("SUDO_USER", "root")
    return {"receivers": queue.send_test(app, who, args.origin, Host())}


def _notifier(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.core import schema
    from hostctl.host.host import Host
    from hostctl.notify import events, queue

    if args.action == "keep":
        return {"changed": events.save(app, cast("ReceiverUpdate", schema.read(events.UPDATE)))}
    return queue.deliver(app, Host())


def _accessory(app: App, args: argparse.Namespace) -> Answer | None:
    from hostctl.accessories import services
    from hostctl.host.host import Host

    if args.action == "list":
        return {"accessories": services.status(app, Host())}
    if args.action == "logs":
        from hostctl.verbs import logs

        unit = services.find(app, args.name or "").unit
        query = logs.Query(args.lines, args.follow, None, None, args.since, args.grep, args.as_json, (unit,))
        logs.print_log(app, query, sys.stdout)
        return None
    who = args.who or os.environ.get("SUDO_USER", "root")
    act = services.restart if args.action == "restart" else services.remove
    return act(app, args.name or "", who, args.origin, Host())


def _accessories(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.accessories import services
    from hostctl.host.host import Host

    return services.start(app, Host())


def _transition(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.transitions import run

    return run.run(app, args.id, Host())


def _drain(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.journal import journal
    from hostctl.journal.engine import Work
    from hostctl.transitions.steps import drain

    entry = journal.load(app, args.id)
    if entry is None or entry.result is None:
        raise HostError(f"transition {args.id} has nothing to drain", str(app.transitions), "deploy status", FAILED)
    return drain.run(Work(app, entry, Host()))


def _recover(app: App, _: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.transitions import recover

    return recover.verb(app, Host())


def _building(app: App, args: argparse.Namespace) -> Answer:
    from hostctl.host.host import Host
    from hostctl.instance import build

    return build.run(app, args.id, Host())


def _spread(_: App, args: argparse.Namespace) -> Answer:
    from hostctl.instance import build

    return build.spread(args.archive, args.directory)


def _collect(_: App, args: argparse.Namespace) -> Answer:
    from hostctl.instance import build

    return build.collect(args.directory, args.archive)


VERBS: dict[str, Verb] = {name: globals()[f"_{name}"] for name in OPTIONS}


def global_verb(layout: Layout, verb: str, rest: Sequence[str]) -> Answer:
    """Verbs of the whole host: `boot`, `host converge|firewall|units`, and `edge apply|check|certificates`."""
    if verb == "boot" and not rest:
        from hostctl.host.host import Host
        from hostctl.removal import remove
        from hostctl.transitions import recover

        being_removed = remove.resume_all(layout, Host())
        return recover.boot([app for app in layout.apps() if app.name not in being_removed], Host())
    if verb == "host" and list(rest) == ["converge"]:
        from hostctl.core import schema
        from hostctl.host import converge

        return {"changed": converge.converge(cast("converge.Spec", schema.read(converge.SPEC)))}
    if verb == "host" and rest[:1] == ["firewall"]:
        return _firewall(layout, list(rest[1:]))
    if verb == "host" and list(rest) == ["units"]:
        from hostctl.core import schema
        from hostctl.host import units
        from hostctl.host.systemd import Systemd

        return {"changed": units.converge(cast("units.Spec", schema.read(units.SPEC)), Systemd())}
    if verb == "edge":
        from hostctl.edge import caddy

        if len(rest) == 3 and rest[0] == "check":
            return caddy.check(checked("app", rest[1]), Path(rest[2]))
        if list(rest) == ["apply"]:
            return caddy.apply()
        if len(rest) == 2 and rest[0] == "certificates":
            return _own_certificates(checked("app", rest[1]))
    raise HostError(
        "unknown arguments",
        "the arguments",
        "one of hostctl boot, host converge|firewall|units, edge check|apply|certificates",
        USAGE,
    )


def _firewall(layout: Layout, words: list[str]) -> Answer:
    """The verbs apply APP SECONDS (reads what the app asks for on standard input), confirm, undo and forget APP."""
    from hostctl.core import schema
    from hostctl.host import firewall

    if len(words) == 3 and words[0] == "apply":
        wish = cast("firewall.Wish", schema.read(firewall.SPEC))
        return firewall.apply(layout, checked("app", words[1]), wish, whole(5, 600)(words[2]))
    if words in (["confirm"], ["undo"]):
        return firewall.confirm(layout) if words == ["confirm"] else firewall.undo(layout)
    raise HostError("unknown arguments", "the arguments", "hostctl host firewall apply|confirm|undo", USAGE)


def _own_certificates(app: str) -> Answer:
    """Install custom certificates from standard input. Provisioning calls this before it writes app.json."""
    from hostctl.core import schema
    from hostctl.edge import custom_certificates
    from hostctl.host.host import Host

    return custom_certificates.put(app, schema.read(custom_certificates.SPEC)["certificates"], Host())


def run(argv: Sequence[str], layout: Layout, uid: int, sudo_user: str | None) -> Answer | None:
    """Authorise and run one command. Raises HostError."""
    if argv and argv[0] in GLOBAL:
        authorise(argv[0], uid, sudo_user, ())
        return global_verb(layout, argv[0], argv[1:])
    if len(argv) < 2:
        raise HostError("hostctl APP VERB [options]", "the arguments", f"one of {', '.join(sorted(OPTIONS))}", USAGE)
    app, verb = layout.app(argv[0]), argv[1]
    args = parse(verb, argv[2:])
    authorise(verb, uid, sudo_user, deployers(app, verb))
    return VERBS[verb](app, args)


def deployers(app: App, verb: str) -> list[str]:
    """The users that may push the app; none for internal verbs, which run before provisioning writes app.json."""
    if verb in INTERNAL:
        return []
    from hostctl.release import app_config

    return [str(name) for name in app_config.load(app)["deployers"]]


def main(argv: Sequence[str], layout: Layout | None = None) -> int:
    """Run one command and print its document or error. Returns the exit code."""
    try:
        answer = run(argv, layout or Layout(), os.geteuid(), os.environ.get("SUDO_USER"))
    except HostError as error:
        return _refused(error)
    except OSError as error:
        return _refused(of_system(error, " ".join(["hostctl", *argv[1:2]]), "hostctl", AGAIN))
    except ValueError as error:
        return _refused(HostError(f"{type(error).__name__}: {error}", "hostctl", AGAIN))
    if answer is not None:
        print(json.dumps(answer, separators=(",", ":")))
    return DONE


def _refused(error: HostError) -> int:
    print(json.dumps({"error": error.as_dict()}))
    return error.code
