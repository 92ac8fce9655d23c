"""The environment of a release at rest: sealed, and given by systemd to the release's own processes, in memory alone.

    releases/R/environment.cred   every variable but PORT, as envfile renders them
    releases/R/secrets/NAME       each secret once more by itself, for an app that would rather read a file
    releases/R/instance.env       PORT, which is no secret, and another one at every start

systemd would read an EnvironmentFile= before it has the credentials: so a shell reads the variables, and becomes the
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
PREFIX = "secret_"  # what systemd loads from a directory is named after that, and after the file
PLAIN = "env"  # where an older Homeport kept all of it, as plain text
MOST = 1 << 20  # bytes of all credentials of a unit (systemd, src/shared/creds-util.h, CREDENTIALS_TOTAL_SIZE_MAX)

# systemd makes one dollar of two. dash is on every Debian, and takes every name for a variable
LAUNCH = f'set -a; . "$$CREDENTIALS_DIRECTORY/{CREDENTIAL}"; exec "$$@"'


def launch_command(argv: Sequence[str]) -> list[str]:
    """The command that gives a program the variables of its unit's credential, and becomes it."""
    return ["/bin/dash", "-c", LAUNCH, argv[0], *argv]


def credential_setting(path: Path) -> str:
    """The setting of a unit by which it has the variables that are sealed in a file."""
    return f"LoadCredentialEncrypted={CREDENTIAL}:{path}"


# ---------------------------------------------------------------------------------------------- writing


def seal(path: Path, values: Mapping[str, str]) -> None:
    """Keep variables in a file that opens on this host alone. Raises HostError (usage) for more than systemd gives."""
    check_size(values)
    credentials.write(path, CREDENTIAL, envfile.render(values).encode())


def save(app: App, release: str, values: Mapping[str, str], secrets: Iterable[str]) -> None:
    """Seal the variables of a release, and each that is secret by itself. Raises HostError.

    The variables are sealed last: while they are not there, none of it is.
    """
    record = app.record(release)
    own = sorted(set(secrets) & values.keys())
    check_size(values, own)
    files.make_directory(record / SECRETS, 0o700)
    for name in own:
        credentials.write(record / SECRETS / name, PREFIX + name, values[name].encode())
    seal(record / SEALED, values)


def check_size(values: Mapping[str, str], secrets: Iterable[str] = ()) -> None:
    """Raises HostError (usage) for what no environment can hold, and for more than systemd gives to a unit."""
    size = len(CREDENTIAL) + len(envfile.render(values).encode())
    size += sum(len(PREFIX + name) + len(values[name].encode()) for name in secrets)
    if size > MOST:
        what = f"the app's variables are {size} bytes, and systemd gives an app at most {MOST}"
        raise HostError(what, "env in deploy.yml", "put what is large into a file of the release", USAGE)


def write_port(app: App, release: str, number: int) -> None:
    """The PORT of the instance that is started next."""
    record = app.record(release)
    files.write_atomic(record / INSTANCE, envfile.render({"PORT": str(number)}).encode())
    if (record / PLAIN).exists():  # the unit of before reads it, until provisioning comes to the end
        files.write_atomic(record / PLAIN, envfile.render({**read_plain(record / PLAIN), "PORT": str(number)}).encode())


def forget(app: App, release: str) -> None:
    """Remove all of it, and what a program of the release had besides."""
    record = app.record(release)
    for path in (record / PLAIN, record / INSTANCE, *record.glob("*.cred")):
        files.unlink(path)
    files.remove_tree(record / SECRETS)


# ---------------------------------------------------------------------------------------------- reading


def load(app: App, release: str) -> dict[str, str]:
    """The variables of a release's instance; empty when it has none (any more).

    Raises HostError when they are there and cannot be decrypted.
    """
    record = app.record(release)
    try:
        found = (record / SEALED).stat()
    except OSError:
        return read_plain(record / PLAIN)
    return {**_opened(record / SEALED, found.st_ino, found.st_mtime_ns), **read_plain(record / INSTANCE)}


@lru_cache(maxsize=64)
def _opened(path: Path, *_: int) -> dict[str, str]:
    """Decrypted once for each file of that inode and time: `logs -f` asks many times in a second."""
    return envfile.parse(credentials.read(path, CREDENTIAL).decode())


def read_plain(path: Path) -> dict[str, str]:
    """The variables of a file of plain text; empty when there is none."""
    try:
        return envfile.parse(path.read_text())
    except (OSError, ValueError):
        return {}
