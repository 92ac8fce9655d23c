"""Checks that laptop and host agree: provisioning, build, clocks, secrets, bucket."""

from __future__ import annotations

from homeport import __version__
from homeport.config.secret_names import BUCKET_KEYS
from homeport.deployment import preflight
from homeport.doctor.patient import Patient
from homeport.release import build
from homeport.secrets.resolve import of_backup
from hostctl.common.documents import Json
from hostctl.common.finding import ERROR, OK, WARNING, Finding, ok, skipped

# a larger difference of the clocks is a warning, and an error; S3 refuses at 15 minutes
SKEW_SECONDS, WRONG_SECONDS = 5.0, 300.0


def told(patient: Patient) -> Json:
    """The answer of the host, for checks with `of_host`."""
    assert patient.host is not None  # noqa: S101 - the examination skips such checks without an answer
    return patient.host


def provisioned(patient: Patient) -> list[Finding]:
    """Whether the host was provisioned with these roles, settings and programs."""
    theirs = told(patient)["hostctl"]
    if told(patient)["stamp"] == patient.session.host_vars["homeport_stamp"]:
        return ok(f"by Homeport {theirs}, with these settings")
    says = f"by Homeport {theirs}, here is {__version__}" if theirs != __version__ else "with other settings or roles"
    return [Finding(WARNING, f"provisioned {says}: the next push provisions first", "deploy provision")]


def builds(patient: Patient) -> list[Finding]:
    """Whether a release built here runs on the host. Raises HomeportError if it cannot be built here."""
    wanted, host = patient.config.release.build, told(patient)
    here = build.laptop()
    planned = build.plan(wanted, here, host)
    fits = build.plan("auto", here, host)
    if wanted == "local" and fits.strategy != "local":
        fix = "set release.build: container, or host"
        return [Finding(ERROR, f"release.build is local, but {fits.reason}", fix)]
    return ok(f"{planned.strategy}: {planned.reason}")


def clock(patient: Patient) -> list[Finding]:
    """The host's clock compared with this machine's at the time of the answer."""
    return [of_clock(told(patient)["time"] - told(patient)["heard"])]


def of_clock(ahead: float) -> Finding:
    """The finding for a host's clock that is `ahead` seconds ahead of this machine's; behind, if negative."""
    if abs(ahead) < SKEW_SECONDS:
        return Finding(OK, "the host's and this machine's agree")
    says = f"the host's is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    return Finding(
        ERROR if abs(ahead) > WRONG_SECONDS else WARNING, says, "timedatectl set-ntp true, on the one that is wrong"
    )


def secrets(patient: Patient) -> list[Finding]:
    """Which secrets have a value here. Raises HomeportError for one that cannot be kept secret, or read."""
    given = patient.session.secrets
    missing = [name for name, value in given.items() if value is None]
    if not given:
        return ok("none are declared")
    kept = f"; the host keeps what it has of {', '.join(missing)}" if missing else ""
    return ok(f"{len(given) - len(missing)} of {len(given)} are given here{kept}")


def bucket(patient: Patient) -> list[Finding]:
    """Whether this machine can use the backup's bucket. Raises HomeportError if the bucket cannot hold a backup."""
    keys = of_backup(patient.config, patient.session.secrets)
    if not keys:
        return ok("no backup goes to S3")
    if any(keys[key] is None for key in BUCKET_KEYS):
        return skipped("its keys are not given here; the host has asked with its own")
    found = preflight.backup(patient.loaded, patient.session.secrets)
    return [Finding(WARNING, one, "deploy backup check") for one in found] or ok(
        f"s3://{patient.config.backup.bucket} can be written from here"
    )
