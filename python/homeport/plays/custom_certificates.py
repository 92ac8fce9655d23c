"""Certificates of the team's own: read from their files, and looked at as a visitor will, before the host is."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

from homeport.config.hostvars import host_vars
from homeport.core import private_directory
from homeport.core.errors import ExitCode, HomeportError
from homeport.remote.session import Session
from homeport.secrets.resolve import reveal
from hostctl.common import certificate, tls
from hostctl.common.documents import Json


def check(session: Session) -> dict[str, Json]:
    """What the host is given: by name the certificate with its chain, and the key or None for the one that it has.

    Raises HomeportError (usage) for one that visitors would turn away from.
    """
    found = host_vars(session.loaded)
    values = {name: reveal(value) for name, value in session.secrets.items()} if found["homeport_certificates"] else {}
    return given(found["homeport_certificates"], values, found["homeport_acme_root"])


def given(certificates: Iterable[Json], values: Mapping[str, str | None], root: str | None) -> dict[str, Json]:
    """The same of {name, certificate: a file, key: the name of a secret}, and the secrets' values.

    `root` is a file with what the certificates lead to, empty for the system's own. Raises HomeportError.
    """
    return {one["name"]: _one(one, values.get(one["key"]), root) for one in certificates}


def _one(one: Json, key: str | None, root: str | None) -> Json:
    text = _read(one)
    certificates, keys = certificate.blocks(text)
    if keys:
        fix = f"take it out, and keep it by: deploy secrets set {one['key']}"
        raise _refused(one, "the file holds a private key, and everybody may read the file", fix)
    if not certificates:
        raise _refused(one, "the file holds no certificate in PEM", "name the file with the certificate and its chain")
    if key is not None:
        _prove(one, certificates, key, root)
    return {"certificate": "\n".join([*certificates, ""]), "key": key}


def _read(one: Json) -> str:
    try:
        return Path(one["certificate"]).read_text()
    except (OSError, UnicodeDecodeError):
        raise _refused(one, "the file cannot be read, or is not PEM", "name the file in PEM") from None


def _prove(one: Json, certificates: list[str], key: str, root: str | None) -> None:
    """Shake hands in memory, as the check from outside does with the host."""
    with private_directory.directory() as private:
        bundle = private / "bundle.pem"
        private_directory.write(bundle, "\n".join([*certificates, key.strip(), ""]))
        try:
            tls.handshake(bundle, one["name"], ssl.create_default_context(cafile=root or None))
        except ssl.SSLCertVerificationError as error:
            what = f"visitors of {one['name']} would not accept it: {tls.reason(error)}"
            fix = "correct it; the file holds its chain as well, and acme.root names a root that is not public"
            raise _refused(one, what, fix) from None
        except ssl.SSLError as error:
            what = f"the value of {one['key']} is not its key: {tls.reason(error)}"
            raise _refused(one, what, f"deploy secrets set {one['key']}, with the key in PEM, not encrypted") from None


def _refused(one: Json, what: str, fix: str) -> HomeportError:
    return HomeportError(what, str(one["certificate"]), fix, ExitCode.USAGE)
