"""`hostctl APP certs ACTION`: the certificates of the app's names, as the edge shows them, and their renewal.

A renewal is Caddy's own work: its loop renews what is inside the renewal window (certmagic, certNeedsRenewal). So the
window is widened until what is served is inside, and what replaces it is not; when every name shows another, the
configuration of the disk is loaded again. Until then, and whenever the authority refuses, the old one is served.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from hostctl.common.errors import FAILED, LOCKED, USAGE, HostError
from hostctl.common.files import Json, read_json, write_atomic, write_json
from hostctl.common.net import certificate
from hostctl.common.net.certificate import Certificate
from hostctl.core import audit
from hostctl.core.actor import Actor
from hostctl.core.paths import PROGRAM, App
from hostctl.edge import caddy, custom_certificates
from hostctl.host.boundary import users
from hostctl.host.host import Host
from hostctl.release import app_config

STORAGE = Path("/var/lib/caddy/certificates")
# Caddy renews when this part of the lifetime is left, unless the authority tells a time of its own (ARI)
WINDOW = 1 / 3
# seconds: ten minutes between two looks of a Caddy that an older Homeport started, and an order takes a few seconds
PATIENCE = 720.0
MARGIN = 30.0  # seconds by which what is served is inside the widened window
LOOK = 1.0  # seconds
# what Caddy logs when an order came to nothing
REFUSED = "could not get certificate from issuer"


def act(app: App, action: str, who: Actor, host: Host) -> Json:
    """Do one of list, renew, progress. Raises HostError."""
    if action == "renew":
        return _renew(app, who, host)
    return _progress(app, host) if action == "progress" else {"certificates": every(app)}


def push(app: App, given: Mapping[str, Json], who: Actor, host: Host) -> Json:
    """Put the team's own certificates in force without provisioning. Raises HostError."""
    if unknown := sorted(set(given) - set(custom_names(app))):
        what = f"the host does not know yet that the certificate of {unknown[0]} is the team's own"
        raise HostError(what, str(snippet(app)), "deploy provision", USAGE)
    told = custom_certificates.put(app.name, given, host)
    if told["changed"]:
        audit.note(app, who.name, who.origin, "certs push", ", ".join(told["changed"]))
    return told


# ---------------------------------------------------------------------------------------------- what is so


def snippet(app: App) -> Path:
    """What provisioning has written of the app for the edge."""
    return caddy.SETTINGS / "apps" / f"{app.name}.json"


def names(app: App) -> list[str]:
    """Every name that the edge answers for the app, redirects included."""
    found = read_json(snippet(app))
    return sorted(caddy.hosts(found)) if found else list(app_config.load(app)["domains"])


def custom_names(app: App) -> list[str]:
    """The names whose certificates the team gives itself: Caddy neither gets nor renews them."""
    return caddy.custom_names(read_json(snippet(app)) or {})


def every(app: App) -> list[Json]:
    """Each name's certificate, times in seconds since the epoch; without one, what the authority said, if anything."""
    known, given = names(app), custom_names(app)
    refusals = refused(caddy_log(time.time() - 86_400), known)
    kept = _stored([name for name in known if name not in given])
    found = [(name, certificate.presented(name)) for name in known]
    return [{**describe(name, der, kept.get(name), refusals.get(name)), "own": name in given} for name, der in found]


def _stored(wanted: Sequence[str]) -> dict[str, tuple[float, Json] | None]:
    """`stored` of each name, read by Caddy's own user, whose directory it is."""
    return users.run_as(users.find(caddy.USER), lambda: {name: stored(name) for name in wanted}) if wanted else {}


def describe(name: str, der: bytes | None, kept: tuple[float, Json] | None, refusal: str | None) -> Json:
    """One name's certificate. `kept`: when it was written, and what Caddy wrote beside it."""
    shown = parse(der)
    if shown is None:
        return {"name": name, "issuer": None, "refused": refusal}
    times: Json = {"not_before": shown.not_before, "not_after": shown.not_after}
    times |= {"renewed": kept[0] if kept else None, "next_renewal": next_renewal(shown, kept[1]) if kept else None}
    return {"name": name, "issuer": shown.issuer, **times, "refused": None}


def parse(der: bytes | None) -> Certificate | None:
    """What the edge shows, if it is a certificate."""
    with suppress(ValueError):
        return certificate.read(der or b"")
    return None


def next_renewal(shown: Certificate, beside: Json) -> float:
    """When Caddy renews it: at the time that the authority suggests, else when a third of its life is left."""
    suggested = ((beside.get("issuer_data") or {}).get("renewal_info") or {}).get("_selectedTime", "")
    with suppress(ValueError):
        at = datetime.fromisoformat(suggested).timestamp()
        if at > shown.not_before:  # Go writes the year 1 for a time that is not set
            return at
    return shown.not_after - WINDOW * (shown.not_after - shown.not_before)


def stored(name: str, storage: Path = STORAGE) -> tuple[float, Json] | None:
    """When Caddy wrote the name's newest certificate, and what it wrote beside it; None for one that is not Caddy's."""
    found = sorted(storage.glob(f"*/{name}/{name}.crt"), key=lambda path: path.stat().st_mtime)
    return (found[-1].stat().st_mtime, read_json(found[-1].with_suffix(".json")) or {}) if found else None


def caddy_log(since: float) -> list[Json]:
    """Caddy's log in JSON since then."""
    words = ("journalctl", "-q", "--no-pager", "-o", "cat", "-u", "caddy.service", "--since", f"@{int(since)}")
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    return [one for line in done.stdout.splitlines() if (one := log_entry(line))]


def log_entry(line: str) -> Json | None:
    """A line of Caddy's log; None for one that is systemd's."""
    with suppress(ValueError):
        found = json.loads(line)
        return found if isinstance(found, dict) else None
    return None


def refused(log: Iterable[Json], wanted: Iterable[str]) -> dict[str, str]:
    """The last reason why the authority gave no certificate, by name."""
    known = set(wanted)
    orders = (one for one in log if one.get("msg") == REFUSED and one.get("identifier") in known)
    return {str(one["identifier"]): re.sub(r"\s+", " ", str(one.get("error", "")))[:240] for one in orders}


# ---------------------------------------------------------------------------------------------- renewing


def unit(app: App) -> str:
    """The unit that a renewal runs in."""
    return app.helper_unit("certs")


def result(app: App) -> Path:
    return app.state / "certs.json"


def _renew(app: App, who: Actor, host: Host) -> Json:
    """Inside its unit the renewal itself; from anywhere else that unit is started, which needs no connection."""
    wanted = sorted(set(names(app)) - set(custom_names(app)))
    if host.systemd.running_inside(unit(app)):
        return renew_certificates(app, wanted, host)
    if not wanted:
        what = "every certificate of this app is the team's own: nobody else renews it"
        raise HostError(what, str(snippet(app)), "put newer ones in their files, then run: deploy certs push", USAGE)
    # of any app: a second one would load its own window over that of the first
    units = [unit(one) for one in app.layout.apps()]
    if running := [name for name, told in zip(units, host.systemd.show(*units), strict=True) if told.runs]:
        raise HostError("a renewal runs already", running[0], "deploy certs list, and again when it is done", LOCKED)
    if not caddy.running():
        raise HostError("Caddy does not run", "caddy.service", "deploy provision", FAILED)
    begun = time.time()
    # whatever ends the renewal, a kill included: what is on the disk is loaded again
    again = shlex.join(caddy.command("reload", "--config", str(caddy.CONFIG), "--address", caddy.ADMIN))
    after = [f"ExecStopPost={again}", f"Environment=HOME={caddy.HOME}"]
    host.systemd.background(unit(app), [PROGRAM, app.name, "certs", "renew"], after)
    audit.note(app, who.name, who.origin, "certs renew", ", ".join(wanted))
    return {"started": begun}


def renew_certificates(app: App, wanted: Sequence[str], host: Host) -> Json:
    """Widen the window, and wait until every name shows another certificate. What came of it is written down."""
    begun, clock = time.time(), host.clock()
    before = {name: der for name in wanted if (der := certificate.presented(name))}
    try:
        found = _ordered(app, before, begun, host) if before else ["no name has a certificate yet"]
    except HostError as error:
        found = [error.what]
    ended: Json = {"at": begun, "ok": not found, "seconds": round(host.clock() - clock, 3), "found": found}
    write_json(result(app), ended)
    return ended


def _ordered(app: App, before: Mapping[str, bytes], begun: float, host: Host) -> list[str]:
    candidate = caddy.CONFIG.with_name(f"caddy.{app.name}.renew")
    lives = [shown for der in before.values() if (shown := parse(der))]
    wide = widen(json.loads(caddy.CONFIG.read_text()), sorted(before), window(lives, begun))
    write_atomic(candidate, json.dumps(wide).encode(), 0o644)
    try:
        caddy.reload(candidate)
    finally:
        candidate.unlink()
    return _waited(before, begun, host)


def _waited(before: Mapping[str, bytes], begun: float, host: Host) -> list[str]:
    """Reasons why it failed; none when every name shows another certificate."""
    deadline, waits = host.clock() + PATIENCE, dict(before)
    while waits and host.clock() < deadline:
        host.sleep(LOOK)
        waits = {name: der for name, der in waits.items() if certificate.presented(name) in (der, None)}
        if refusals := refused(caddy_log(begun), waits):
            return [f"{name}: {why}" for name, why in refusals.items()]
    return [f"{name} shows the same certificate as before" for name in waits]


def window(lives: Sequence[Certificate], now: float) -> float:
    """The part of its lifetime that the freshest must have left to be renewed: all of these are inside it by MARGIN."""
    least = min(lives, key=lambda one: (now - one.not_before) / (one.not_after - one.not_before))
    age = now - least.not_before
    return 1 - max(age - MARGIN, age / 2) / (least.not_after - least.not_before)


def widen(config: Json, wanted: Sequence[str], ratio: float) -> Json:
    """Caddy's configuration with another window for these names; those without a policy get one of their own."""
    tls = config["apps"].get("tls", {})
    automation = tls.get("automation", {})
    policies = [_widened(one, wanted, ratio) for one in automation.get("policies", [])]
    left = sorted(set(wanted) - {name for one in policies for name in one.get("subjects", [])})
    own = [{"subjects": left, "renewal_window_ratio": ratio}] if left else []
    tls = {**tls, "automation": {**automation, "policies": [*own, *policies]}}
    return {**config, "apps": {**config["apps"], "tls": tls}}


def _widened(policy: Json, wanted: Sequence[str], ratio: float) -> Json:
    return {**policy, "renewal_window_ratio": ratio} if set(policy.get("subjects", [])) & set(wanted) else policy


def _progress(app: App, host: Host) -> Json:
    """What the laptop asks while it runs, and when it has ended."""
    running = host.systemd.show(unit(app))[0].runs
    return {
        "renew": {"running": running, "step": "waiting for Caddy and the authority", "result": read_json(result(app))}
    }
