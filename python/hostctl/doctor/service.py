"""Checks of the app: its health, its edge, the certificate authority, its domains and its backup."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping

from hostctl.backup import settings
from hostctl.common.documents import BackupStatus
from hostctl.common.finding import ERROR, OK, WARNING, Finding, ok, skipped
from hostctl.common.net import certificate, http
from hostctl.common.timestamps import utc
from hostctl.core import actor
from hostctl.doctor.context import Context
from hostctl.edge import certificates
from hostctl.notify import alerts
from hostctl.verbs import backup as backups

HOUR = 3600
PROBE = 3.0  # seconds
# Let's Encrypt, rate limits: failed validations per name and account in an hour
VALIDATIONS = 5


def app(context: Context) -> list[Finding]:
    """Whether the live release answers."""
    health, live = context.status["health"], context.status["live"]
    if not live:
        return [Finding(WARNING, "nothing is live yet", "deploy push")]
    if not health["ok"]:
        return [Finding(ERROR, f"{live['release']} is not healthy: {health['text']}", "deploy logs")]
    return ok(f"{live['release']} answers {health['status']}, {live['restarts']} restarts")


def edge(context: Context) -> list[Finding]:
    """Whether Caddy runs."""
    state = context.host.systemd.show("caddy.service")[0].state
    if state == "active":
        return ok("Caddy runs")
    return [
        Finding(ERROR, f"Caddy is {state}: nothing is served", "on the host: journalctl -u caddy; deploy provision")
    ]


def maintenance(context: Context) -> list[Finding]:
    """Whether visitors see the app or its maintenance page."""
    shown = context.status["maintenance"]
    if not shown:
        return ok("off: visitors see the app")
    since = utc(shown["since"])
    says = f"on since {since} by {shown['who']}: visitors see its page, with status 503"
    return [Finding(WARNING, says, "deploy maintenance off")]


# ---------------------------------------------------------------------------------------------- the authority


def authority(context: Context) -> list[Finding]:
    """The refusals of the certificate authority in the last hour, for domains that still have no certificate."""
    now = time.time()
    ends = {name: certificate.served_until(name) or 0.0 for name in certificates.names(context.app)}
    without_certificate = [name for name, end in ends.items() if end - now < alerts.CERTIFICATE]
    return of_authority(certificates.refused(certificates.caddy_log(now - HOUR), without_certificate))


def of_authority(refusals: Mapping[str, str]) -> list[Finding]:
    """Findings from the authority's reasons, by domain."""
    found = [_refusal(name, why) for name, why in refusals.items()]
    return found or ok("refused no certificate within the hour")


def _refusal(name: str, why: str) -> Finding:
    says = f"refuses a certificate for {name}: {why}"
    if "rateLimited" in why:
        return Finding(ERROR, says, "wait until its limit allows more; Caddy tries again")
    limit = f"Let's Encrypt allows {VALIDATIONS} failed validations of a name an hour"
    return Finding(ERROR, says, f"remove the cause (see dns, caa and ports); {limit}")


# ---------------------------------------------------------------------------------------------- names


def origin(context: Context) -> Iterable[Finding]:
    """Whether the app accepts its domains: PHX_HOST, and the origins of its sockets."""
    names, host = list(context.settings["domains"]), context.environment.get("PHX_HOST")
    if host and host not in names:
        fix = f"set PHX_HOST to {names[0]}, or add {host} to domains; then deploy push"
        yield Finding(WARNING, f"PHX_HOST is {host}, which is not in domains: links lead there", fix)
    live = context.status["live"]
    if not live or not live["port"] or not context.status["health"]["ok"]:
        yield from skipped("nothing is live that answers")
        return
    yield from of_origin({name: upgrade(live["port"], name).status for name in names})


def of_origin(answers: dict[str, int]) -> list[Finding]:
    """Decides over the status of a LiveView socket by domain: 101 is accepted, 403 refused by check_origin."""
    refused = [name for name, status in answers.items() if status == 403]
    if refused:
        fix = (
            f"check_origin: [{', '.join(json.dumps(f'//{name}') for name in answers)}] in the endpoint's configuration"
        )
        return [Finding(ERROR, f"the app refuses sockets from https://{name} (check_origin)", fix) for name in refused]
    if 101 in answers.values():
        return ok(f"sockets are accepted from {', '.join(answers)}")
    return ok("there is no LiveView socket with which to check check_origin")


def upgrade(port: int, name: str) -> http.Answer:
    """Ask for LiveView's websocket as a browser does that shows a page of https://name. Raises nothing."""
    handshake = {
        "Origin": f"https://{name}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "aG9tZXBvcnQgZG9jdG9yIQ==",
    }
    return http.get(port, name, "/live/websocket?vsn=2.0.0", PROBE, headers=handshake)


# ---------------------------------------------------------------------------------------------- the backup


def backup(context: Context) -> list[Finding]:
    """The backup's lag, the last drill's age, and the other reasons of `status --check` for the database."""
    database = context.status["database"]
    if database is None:
        return ok("no database, so no backup")
    if found := alerts.of_database(database, time.time()):
        return [Finding(ERROR, reason, "deploy backup status") for reason in found]
    return [of_backup(database["backup"], database.get("engine") == settings.EXTERNAL)]


def of_backup(summary: BackupStatus | None, elsewhere: bool) -> Finding:
    """A backup without problems, or none."""
    if summary is None and elsewhere:
        return Finding(OK, "the provider of the database makes its backups")
    if summary is None:
        fix = "set backup.bucket in deploy.yml, then deploy provision"
        return Finding(WARNING, "no backup is configured: every write is lost with the disk", fix)
    lag = "its lag is not known yet" if summary["lag"] is None else f"{summary['lag']:.1f} s behind"
    good = summary["last_good"]
    if good is None:
        return Finding(WARNING, f"{lag}; no drill has restored it yet", "deploy backup drill")
    return Finding(OK, f"{lag}; restored {utc(good['at'])[:10]}")


def store(context: Context) -> list[Finding]:
    """Whether the host reads and writes the bucket with its own keys."""
    database = context.status["database"]
    if database is None or not database.get("backup"):
        return skipped("no backup to S3 is configured")
    answer = backups.perform(context.app, "check", actor.Actor("doctor", ""), context.host)
    return ok(f"the host reads and writes s3://{answer['bucket']}")


def lock(context: Context) -> list[Finding]:
    """Whether a person holds the lock: it blocks every push."""
    held = context.status["lock"]
    if not held or not held.get("manual"):
        return ok("free")
    says = f"locked by {held['who']} since {utc(held['since'])}"
    return [Finding(WARNING, f"{says}: {held.get('message') or 'no reason given'}", "deploy lock release")]
