"""The environment of a release on the disk: encrypted, and decrypted by systemd in memory for the release's processes.

    releases/R/environment.cred   every variable except PORT, as envfile renders them
    releases/R/secrets/NAME       each secret in a file of its own, for an app that reads it from a file
    releases/R/instance.env       PORT, which is not secret and changes at every start

systemd reads an EnvironmentFile= before the credentials are there. So a shell reads the variables and then executes the
program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from hostctl.common import files
from hostctl.common.errors import USAGE, HostError
from hostctl.core.paths import App
from hostctl.host import credentials
from hostctl.release import envfile

SEALED, SECRETS, INSTANCE = "environment.cred", "secrets", "instance.env"
CREDENTIAL = "environment"
PREFIX = "secret_"  # of the names of the credentials that systemd loads from the directory of the secrets
PLAIN = "env"  # the file in which an older Homeport kept the environment as plain text
MOST = 1 << 20  # bytes of all credentials of a unit (systemd, src/shared/creds-util.h, CREDENTIALS_TOTAL_SIZE_MAX)

# systemd replaces two dollar signs by one. dash is on every Debian, and accepts every name of a variable
LAUNCH = f'set -a; . "$$CREDENTIALS_DIRECTORY/{CREDENTIAL}"; exec "$$@"'


def launch_command(argv: Sequence[str]) -> list[str]:
    """The command that sets the variables of the unit's credential and executes a program."""
    return ["/bin/dash", "-c", LAUNCH, argv[0], *argv]


def credential_setting(path: Path) -> str:
    """The setting by which a unit loads the encrypted variables of a file."""
    return f"LoadCredentialEncrypted={CREDENTIAL}:{path}"


# ---------------------------------------------------------------------------------------------- writing


def seal(path: Path, values: Mapping[str, str]) -> None:
    """Encrypt variables into a file for this host. Raises HostError (usage) when they exceed systemd's limit."""
    check_size(values)
    credentials.write(path, CREDENTIAL, envfile.render(values).encode())


def save(app: App, release: str, values: Mapping[str, str], secrets: Iterable[str]) -> None:
    """Encrypt the variables of a release, and each secret into a file of its own. Raises HostError.

    The file of all variables is written last: its existence means that the others are complete.
    """
    record = app.record(release)
    names = sorted(set(secrets) & values.keys())
    check_size(values, names)
    files.make_directory(record / SECRETS, 0o700)
    for name in names:
        credentials.write(record / SECRETS / name, PREFIX + name, values[name].encode())
    seal(record / SEALED, values)


def check_size(values: Mapping[str, str], secrets: Iterable[str] = ()) -> None:
    """Raises HostError (usage) for an invalid variable, and when all of them exceed systemd's limit for a unit."""
    size = len(CREDENTIAL) + len(envfile.render(values).encode())
    size += sum(len(PREFIX + name) + len(values[name].encode()) for name in secrets)
    if size > MOST:
        what = f"the app's variables are {size} bytes, and systemd allows {MOST} for a unit"
        raise HostError(what, "env in deploy.yml", "move large values into a file of the release", USAGE)


def write_port(app: App, release: str, number: int) -> None:
    """Write the PORT of the instance that is started next."""
    record = app.record(release)
    files.write_atomic(record / INSTANCE, envfile.render({"PORT": str(number)}).encode())
    if (record / PLAIN).exists():  # the unit of an older Homeport reads it until provisioning has replaced that unit
        files.write_atomic(record / PLAIN, envfile.render({**read_plain(record / PLAIN), "PORT": str(number)}).encode())


def forget(app: App, release: str) -> None:
    """Delete the environment of a release, its secrets, and the encrypted files of its programs."""
    record = app.record(release)
    for path in (record / PLAIN, record / INSTANCE, *record.glob("*.cred")):
        files.unlink(path)
    files.remove_tree(record / SECRETS)


# ---------------------------------------------------------------------------------------------- reading


def load(app: App, release: str) -> dict[str, str]:
    """The variables of a release's instance; empty when they were deleted or never written.

    Raises HostError when they cannot be decrypted.
    """
    record = app.record(release)
    try:
        status = (record / SEALED).stat()
    except OSError:
        return read_plain(record / PLAIN)
    return {**_decrypted(record / SEALED, status.st_ino, status.st_mtime_ns), **read_plain(record / INSTANCE)}


@lru_cache(maxsize=64)
def _decrypted(path: Path, *_: int) -> dict[str, str]:
    """The variables of a file, cached by its inode and time: `logs -f` reads them many times in a second."""
    return envfile.parse(credentials.read(path, CREDENTIAL).decode())


def read_plain(path: Path) -> dict[str, str]:
    """The variables of a plain text file; empty without one, or for an invalid one."""
    try:
        return envfile.parse(path.read_text())
    except (OSError, ValueError):
        return {}
