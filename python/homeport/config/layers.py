"""Finds deploy.yml, merges the destination's file over it, and validates the result."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from homeport.config import parameters
from homeport.config.check import check
from homeport.config.database import BACKED_UP
from homeport.config.document import Node, find, merge, node_of, parse
from homeport.config.model import Config
from homeport.config.problems import ConfigError, Origin, Problem, file_error
from homeport.config.values import parse_host
from homeport.core.errors import ExitCode, HomeportError

FILE = "deploy.yml"
SANDBOX = "sandbox"
SANDBOX_NAME = "default"  # the one that `deploy sandbox up` starts when it is given no name
MOST_BYTES = 256 * 1024

DEFAULT = Origin("default")
_SECRET_NAME = re.compile(
    r"(^|_)(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|KEY_BASE|(API|ACCESS|PRIVATE)_?KEY)$"
)
_SECRET_VALUE = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")


class SandboxLike(Protocol):
    """The facts of a sandbox that become configuration; see homeport.sandbox."""

    def as_dict(self) -> dict[str, Any]: ...


Sandboxes = Callable[[str], SandboxLike | None]
SandboxFacts = Mapping[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A configuration, with the origin of each value by dotted key, and `root`, the directory of deploy.yml."""

    config: Config
    root: Path
    origin: Mapping[str, Origin]
    destination: str | None
    warnings: tuple[str, ...]
    # an AWS shared credentials file with the keys of the sandbox's store, which override the environment
    credentials: Path | None = None
    # the name of deploy.yml, from which the names of the other files derive
    file: str = FILE

    def path(self, text: str) -> Path:
        """The path that a text in deploy.yml means: relative to deploy.yml; `~` is the home directory."""
        return self.root / Path(text).expanduser()

    @property
    def secrets_files(self) -> tuple[Path, ...]:
        """The encrypted files of secrets, which may not exist; later ones override earlier ones."""
        names = ["secrets", *([f"secrets.{self.destination.partition(':')[0]}"] if self.destination else [])]
        stem, suffix = Path(self.file).stem, Path(self.file).suffix
        return tuple(self.root / f"{stem}.{name}{suffix}" for name in names)

    @property
    def host_address(self) -> str:
        """The address of the host, or its alias in ssh's configuration."""
        return self.config.parsed_host.address

    @property
    def known_hosts(self) -> Path:
        """The file in which the host's keys are pinned."""
        return self.path(self.config.ssh.known_hosts)

    @property
    def ssh_key(self) -> Path | None:
        """The private key of the login; None if ssh's own configuration decides."""
        return self.path(self.config.ssh.key) if self.config.ssh.key else None


def load(
    config: Path | None = None,
    destination: str | None = None,
    start: Path | None = None,
    sandboxes: Sandboxes | None = None,
) -> Loaded:
    """The configuration of `destination`, from `config` or the nearest deploy.yml at or above `start` (here).

    Raises ConfigError with every mistake, exit code 2.
    """
    here = (start or Path.cwd()).absolute()
    base = here / config if config else _nearest_file(here)
    tree, problems = read(base, here)
    sandbox = _sandbox(destination, sandboxes or _sandboxes)
    for layer, found in _destination_layers(base, here, destination, tree, sandbox):
        tree, problems = merge(tree, layer), problems + found
    checked, found = check(tree, destination)
    # a value with a mistake in YAML is not reported again for its type
    reported = {(each.origin, each.key) for each in problems}
    problems += [each for each in found if (each.origin, each.key) not in reported]
    if problems or checked is None:
        raise ConfigError(sorted(problems, key=lambda each: _sort_key(each, tree)))
    origin = _origins(checked, tree)
    credentials = _credentials(sandbox, origin)
    warnings = (*_secret_warnings(tree), *_version_warnings(checked, origin))
    return Loaded(checked, base.parent, origin, destination, warnings, credentials, base.name)


def _sort_key(problem: Problem, tree: Node) -> tuple[bool, str, int]:
    return problem.origin.file != tree.origin.file, problem.origin.file, problem.origin.line


def _nearest_file(here: Path) -> Path:
    for directory in (here, *here.parents):
        if (directory / FILE).is_file():
            return directory / FILE
    what = f"there is no {FILE} here or in a directory above"
    raise file_error(str(here), what, "write one: deploy init, or name one: deploy -c FILE")


def read(file: Path, here: Path) -> tuple[Node, list[Problem]]:
    """The tree of one file, and its mistakes in YAML. Raises ConfigError if the file cannot be read."""
    name = _display(file, here)
    try:
        return parse(_text(file, name), name)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        fix = "check its name and its permissions"
        raise file_error(name, f"the file cannot be read: {reason}", fix) from None


def _text(file: Path, name: str) -> str:
    if file.exists() and not file.is_file():
        raise file_error(name, "is not a file", f"name a file, such as {FILE}")
    data = file.read_bytes() if file.stat().st_size <= MOST_BYTES else b"x" * (MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        what = f"is larger than {MOST_BYTES // 1024} KiB, which no configuration is"
        raise file_error(name, what, f"name another file, such as {FILE}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise file_error(name, "is not UTF-8 here", "save the file as UTF-8", line) from None


def _display(file: Path, here: Path) -> str:
    return min(os.path.relpath(file, here), str(file), key=len)


def _destination_layers(
    base: Path, here: Path, destination: str | None, tree: Node, sandbox: SandboxFacts | None
) -> list[tuple[Node, list[Problem]]]:
    if destination is None:
        return []
    name = destination.partition(":")[0]
    file = base.with_name(f"{base.stem}.{name}{base.suffix}")
    overlay = [read(file, here)] if name != SANDBOX or file.exists() else []
    named = _release_name_layer(tree, overlay[0][0]) if overlay else []
    if sandbox is None:
        checks = (_shared_directory, partial(_shared_host, name))
        found = [problem for layer, _ in overlay for check in checks for problem in check(tree, layer)]
        return [*named, *((layer, [*problems, *found]) for layer, problems in overlay)]
    merged = merge(tree, overlay[0][0]) if overlay else tree
    return [*named, (node_of(_sandbox_values(merged, sandbox), Origin(SANDBOX)), []), *overlay]


def _release_name_layer(tree: Node, layer: Node) -> list[tuple[Node, list[Problem]]]:
    """Keep the release's name, which mix.exs sets, if a destination changes the app's name."""
    app = _text_at(tree, "app")
    if app is None or not _is_set(layer, ("app",)) or _is_set(tree, ("release", "name")):
        return []
    return [(node_of({"release": {"name": app.replace("-", "_")}}, find(tree, ("app",))[0].origin), [])]


def _shared_directory(tree: Node, layer: Node) -> list[Problem]:
    """Refuse a destination with another host or app that would stream to the same place in the bucket."""
    own = [_is_set(layer, ("backup", name)) for name in ("bucket", "endpoint", "prefix")]
    another = _is_set(layer, ("host",)) or _is_set(layer, ("app",))
    if not another or any(own) or not _is_set(tree, ("backup", "prefix")):
        return []
    what = "would be the same for two destinations: set backup.prefix of the other as well, or leave both out"
    return [Problem(find(tree, ("backup", "prefix"))[0].origin, "backup.prefix", what)]


def _shared_host(name: str, tree: Node, layer: Node) -> list[Problem]:
    """The mistakes of a destination on the same host: it needs an app name and domains of its own.

    `app` with the same name declares that the destination is the same app.
    """
    app, host = _text_at(tree, "app"), _text_at(tree, "host")
    if app is None or host is None or not _same_host(host, _text_at(layer, "host") or host):
        return []
    if not _is_set(layer, ("app",)):
        suggested = f"{app}-{name}".replace("_", "-")
        what = f"is missing, and the host is that of {tree.origin.file}: this would replace {app} there"
        return [Problem(layer.origin, "app", f"{what}; add the line `app: {suggested}`")]
    if _text_at(layer, "app") != app and not _is_set(layer, ("domains",)):
        what = f"is missing, and {app} answers at those of {tree.origin.file} on the same host"
        return [Problem(layer.origin, "domains", f"{what}; add names of its own")]
    return []


def _same_host(one: str, other: str) -> bool:
    try:
        return parse_host(one).address == parse_host(other).address
    except ValueError:
        return False


def _is_set(tree: Node, path: tuple[str, ...]) -> bool:
    return find(tree, path)[1] == path


def _check_destination(destination: str, name: str) -> None:
    pattern = r"sandbox:[a-z][a-z0-9-]{0,30}" if ":" in destination else r"[a-z0-9][a-z0-9_-]{0,40}"
    if not re.fullmatch(pattern, destination):
        fix = "use lower-case letters, digits, - and _; or sandbox:NAME"
        raise HomeportError(f"{destination!r} cannot be a destination", "-d", fix, ExitCode.USAGE)
    if name == "secrets":
        what = "'secrets' cannot be a destination: its file would be the one with the secrets"
        raise HomeportError(what, "-d", "give it another name", ExitCode.USAGE)


def _text_at(tree: Node, *path: str) -> str | None:
    """The text at a path of keys; None if there is none."""
    node, reached = find(tree, path)
    return node.value if reached == path and isinstance(node.value, str) else None


def _sandboxes(name: str) -> SandboxLike | None:
    from homeport import sandbox

    found: SandboxLike | None = sandbox.get(name)
    return found


def _sandbox(destination: str | None, sandboxes: Sandboxes) -> SandboxFacts | None:
    """The facts of the sandbox that the destination names; None for any other destination."""
    if destination is None:
        return None
    place, _, instance = destination.partition(":")
    _check_destination(destination, place)
    if place != SANDBOX:
        return None
    name = instance or SANDBOX_NAME
    sandbox = sandboxes(name)
    if sandbox is None:
        fix = "deploy sandbox up" + (f" --name {name}" if name != SANDBOX_NAME else "")
        raise file_error("-d sandbox", f"there is no sandbox {name!r}", fix)
    return sandbox.as_dict()


def _sandbox_values(tree: Node, sandbox: SandboxFacts) -> dict[str, Any]:
    ssh, acme = sandbox["ssh"], sandbox["acme"]
    return {
        "host": sandbox["address"],
        "domains": [f"{_text_at(tree, 'app') or 'app'}.sandbox.test"],
        **_sandbox_backup(_text_at(tree, "database", "engine"), sandbox["s3"]),
        "ssh": {
            "user": "deploy",
            "provision_user": ssh["user"],
            "port": ssh["port"],
            "key": ssh["key"],
            "known_hosts": ssh["known_hosts"],
        },
        "acme": {"directory": acme["directory"], "ca": acme["ca"], "root": acme["root"]},
        "verify": {"address": sandbox["address"]},
    }


def _sandbox_backup(engine: str | None, s3: SandboxFacts) -> dict[str, Any]:
    """The sandbox's own bucket. Its keys are in a file, Loaded.credentials, so that no variable has to be set."""
    if engine not in BACKED_UP:
        return {}
    bucket = {name: s3[name] for name in ("bucket", "region")}
    # pgBackRest requires HTTPS; without HTTPS there is no certificate to trust
    endpoint = (
        {"endpoint": s3["tls_endpoint"], "ca": s3["ca"]} if engine == "postgres" else {"endpoint": s3["endpoint"]}
    )
    return {"backup": {"ca": None, **bucket, **endpoint, "path_style": True, "require": []}}


def _credentials(sandbox: SandboxFacts | None, origin: Mapping[str, Origin]) -> Path | None:
    """The file with the keys of the sandbox's store; None if deploy.yml names another store."""
    own = origin["backup.endpoint"].layer == SANDBOX
    return Path(sandbox["s3"]["credentials"]) if sandbox and own else None


def leaves(value: object, key: str = "") -> dict[str, Any]:
    """The values of a nested map by dotted keys. A list is one value, and so is an empty map."""
    if not isinstance(value, dict) or not value:
        return {key: value}
    found: dict[str, Any] = {}
    for name, item in value.items():
        found |= leaves(item, f"{key}.{name}" if key else str(name))
    return found


def _origins(config: Config, tree: Node) -> dict[str, Origin]:
    derived = {"release.name": "app", "database.path": "app", "backup.prefix": "app"}
    derived |= {"backup.path_style": "backup.endpoint", "backup.drill": "database.unsafe_checkpoints"}
    derived |= {"ssh.port": "host"} if config.parsed_host.port else {}
    derived |= {"ssh.provision_user": "host"} if config.parsed_host.user else {}
    found = {key: _origin(key, tree) for key in leaves(config.model_dump())}
    return {key: found[derived[key]] if key in derived and at is DEFAULT else at for key, at in found.items()}


def _origin(key: str, tree: Node) -> Origin:
    path = tuple(key.split("."))
    _, reached = find(tree, path)
    # the name of a PostgreSQL setting may contain a dot
    with_dots = (*reached, ".".join(path[len(reached) :])) if reached != path else path
    node, reached = find(tree, with_dots)
    return node.origin if reached == with_dots else DEFAULT


def _secret_warnings(tree: Node) -> list[str]:
    node, reached = find(tree, ("env", "clear"))
    variables = node.value if len(reached) == 2 and isinstance(node.value, dict) else {}
    what = "looks like a secret, and env.clear is no place for one: put the name alone in env.secret"
    names = [name for name, each in variables.items() if _looks_secret(name, each.text)]
    return [f"{variables[name].origin} env.clear.{name}: {what}" for name in names]


def _version_warnings(config: Config, origin: Mapping[str, Origin]) -> list[str]:
    versions = parameters.single_version(config.database.parameters)
    what = "is known to PostgreSQL {} alone: a server of another version does not start with it"
    keys = {name: f"database.parameters.{name}" for name in versions}
    return [f"{origin[keys[name]]} {keys[name]}: {what.format(version)}" for name, version in versions.items()]


def _looks_secret(name: str, value: str) -> bool:
    return bool(_SECRET_NAME.search(name) or _SECRET_VALUE.match(value))
