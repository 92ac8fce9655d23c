"""Whether laptop and host agree: what the host was provisioned with, what is built here, the clocks, the bucket."""

from __future__ import annotations

from homeport import __version__
from homeport.config.secret_names import BUCKET_KEYS
from homeport.deployment import preflight
from homeport.doctor.patient import Patient
from homeport.release import build
from homeport.secrets.resolve import of_backup
from hostctl.common.documents import Json
from hostctl.common.finding import ERROR, OK, WARNING, Finding, ok, skipped

# a clock that is further off is told; S3 refuses at 15 minutes
SKEW_SECONDS, WRONG_SECONDS = 5.0, 300.0


def told(patient: Patient) -> Json:
    """What the host told; asked only by checks that need it."""
    assert patient.host is not None  # noqa: S101 - the examination has seen to it
    return patient.host


def provisioned(patient: Patient) -> list[Finding]:
    """Whether the host is what these roles, settings and programs make of it."""
    theirs = told(patient)["hostctl"]
    if told(patient)["stamp"] == patient.session.host_vars["homeport_stamp"]:
        return ok(f"by Homeport {theirs}, with these settings")
    says = f"by Homeport {theirs}, here is {__version__}" if theirs != __version__ else "with other settings or roles"
    return [Finding(WARNING, f"provisioned {says}: the next push provisions first", "deploy provision")]


def builds(patient: Patient) -> list[Finding]:
    """Whether what is built here runs there. Raises HomeportError where it cannot be built."""
    wanted, host = patient.config.release.build, told(patient)
    here = build.laptop()
    planned = build.plan(wanted, here, host)
    fits = build.plan("auto", here, host)
    if wanted == "local" and fits.strategy != "local":
        fix = "set release.build: container, or host"
        return [Finding(ERROR, f"release.build is local, but {fits.reason}", fix)]
    return ok(f"{planned.strategy}: {planned.reason}")


def clock(patient: Patient) -> list[Finding]:
    """The host's clock against this one's, read as its answer came."""
    return [of_clock(told(patient)["time"] - told(patient)["heard"])]


def of_clock(ahead: float) -> Finding:
    """How many seconds the host's clock is ahead of this machine's; behind, if negative."""
    if abs(ahead) < SKEW_SECONDS:
        return Finding(OK, "the host's and this machine's agree")
    says = f"the host's is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    return Finding(
        ERROR if abs(ahead) > WRONG_SECONDS else WARNING, says, "timedatectl set-ntp true, on the one that is wrong"
    )


def secrets(patient: Patient) -> list[Finding]:
    """Which secrets are given here. Raises HomeportError for one that cannot be kept secret, or read."""
    given = patient.session.secrets
    missing = [name for name, value in given.items() if value is None]
    if not given:
        return ok("none are declared")
    kept = f"; the host keeps what it has of {', '.join(missing)}" if missing else ""
    return ok(f"{len(given) - len(missing)} of {len(given)} are given here{kept}")


def bucket(patient: Patient) -> list[Finding]:
    """The backup's bucket from here. Raises HomeportError for one that cannot hold a backup."""
    keys = of_backup(patient.config, patient.session.secrets)
    if not keys:
        return ok("no backup goes to S3")
    if any(keys[key] is None for key in BUCKET_KEYS):
        return skipped("its keys are not given here; the host has asked with its own")
    found = preflight.backup(patient.loaded, patient.session.secrets)
    return [Finding(WARNING, one, "deploy backup check") for one in found] or ok(
        f"s3://{patient.config.backup.bucket} can be written from here"
    )
