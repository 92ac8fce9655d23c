"""Checks that laptop and host agree: provisioning, build, clocks, secrets, bucket."""

from __future__ import annotations

from homeport import __version__
from homeport.config.secret_names import BUCKET_KEYS
from homeport.deployment import preflight
from homeport.doctor.context import Context
from homeport.release import build
from homeport.secrets.resolve import of_backup
from hostctl.common.documents import Json
from hostctl.common.finding import ERROR, OK, WARNING, Finding, ok, skipped

# a larger difference of the clocks is a warning, and an error; S3 refuses at 15 minutes
SKEW_SECONDS, WRONG_SECONDS = 5.0, 300.0


def host_answer(context: Context) -> Json:
    """The answer of the host, for checks with `needs_host`."""
    assert context.host is not None  # noqa: S101 - the runner skips such checks without an answer
    return context.host


def provisioning(context: Context) -> list[Finding]:
    """Whether the host was provisioned with these roles, settings and programs."""
    host = host_answer(context)
    if host["stamp"] == context.session.host_vars["homeport_stamp"]:
        return ok(f"by Homeport {host['hostctl']}, with these settings")
    older = host["hostctl"] != __version__
    how = f"by Homeport {host['hostctl']}, here is {__version__}" if older else "with other settings or roles"
    return [Finding(WARNING, f"provisioned {how}: the next push provisions first", "deploy provision")]


def builds(context: Context) -> list[Finding]:
    """Whether a release built here runs on the host. Raises HomeportError if it cannot be built here."""
    configured, host, laptop = context.config.release.build, host_answer(context), build.laptop()
    planned = build.plan(configured, laptop, host)
    suitable = build.plan("auto", laptop, host)
    if configured == "local" and suitable.strategy != "local":
        fix = "set release.build: container, or host"
        return [Finding(ERROR, f"release.build is local, but {suitable.reason}", fix)]
    return ok(f"{planned.strategy}: {planned.reason}")


def clock(context: Context) -> list[Finding]:
    """The host's clock compared with this machine's at the time of the answer."""
    return [of_clock(host_answer(context)["time"] - host_answer(context)["heard"])]


def of_clock(ahead: float) -> Finding:
    """The finding for a host's clock that is `ahead` seconds ahead of this machine's; behind, if negative."""
    if abs(ahead) < SKEW_SECONDS:
        return Finding(OK, "the host's and this machine's agree")
    says = f"the host's is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    fix = "on the machine whose clock is wrong: timedatectl set-ntp true"
    return Finding(ERROR if abs(ahead) > WRONG_SECONDS else WARNING, says, fix)


def secrets(context: Context) -> list[Finding]:
    """Which secrets have a value here. Raises HomeportError for one that cannot be read, or not be redacted."""
    values = context.session.secrets
    missing = [name for name, value in values.items() if value is None]
    if not values:
        return ok("none are declared")
    kept = f"; the host keeps its values of {', '.join(missing)}" if missing else ""
    return ok(f"{len(values) - len(missing)} of {len(values)} are given here{kept}")


def bucket(context: Context) -> list[Finding]:
    """Whether this machine can use the backup's bucket. Raises HomeportError if the bucket cannot hold a backup."""
    keys = of_backup(context.config, context.session.secrets)
    if not keys:
        return ok("no backup goes to S3")
    if any(keys[key] is None for key in BUCKET_KEYS):
        return skipped("its keys are not given here; the host has asked with its own")
    warnings = preflight.backup(context.loaded, context.session.secrets)
    return [Finding(WARNING, warning, "deploy backup check") for warning in warnings] or ok(
        f"s3://{context.config.backup.bucket} can be written from here"
    )
