"""Custom certificates: read from their files and verified as a browser would, before they are sent to the host."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

from homeport.config.hostvars import host_vars
from homeport.core import private_directory
from homeport.core.errors import ExitCode, HomeportError
from homeport.remote.session import Session
from homeport.secrets.resolve import reveal
from hostctl.common.documents import Json
from hostctl.common.net import certificate, tls


def check(session: Session) -> dict[str, Json]:
    """The certificates for the host, by name: the certificate with its chain, and its key; None keeps the host's key.

    Raises HomeportError (usage) for a certificate that a browser would reject.
    """
    variables = host_vars(session.loaded)
    certificates = variables["homeport_certificates"]
    values = {name: reveal(value) for name, value in session.secrets.items()} if certificates else {}
    return read_all(certificates, values, variables["homeport_acme_root"])


def read_all(certificates: Iterable[Json], values: Mapping[str, str | None], root: str | None) -> dict[str, Json]:
    """As `check`, from documents of {name, certificate: a file, key: the name of a secret} and the secrets' values.

    `root` is a PEM file with the root certificate; empty for the system's own. Raises HomeportError.
    """
    return {one["name"]: _read_one(one, values.get(one["key"]), root) for one in certificates}


def _read_one(one: Json, key: str | None, root: str | None) -> Json:
    text = _text(one)
    certificates, keys = certificate.blocks(text)
    if keys:
        fix = f"remove it from the file, and store it with: deploy secrets set {one['key']}"
        raise _usage_error(one, "the file holds a private key, and everybody may read the file", fix)
    if not certificates:
        raise _usage_error(
            one, "the file holds no certificate in PEM", "name the file with the certificate and its chain"
        )
    if key is not None:
        _verify(one, certificates, key, root)
    return {"certificate": "\n".join([*certificates, ""]), "key": key}


def _text(one: Json) -> str:
    try:
        return Path(one["certificate"]).read_text()
    except (OSError, UnicodeDecodeError):
        raise _usage_error(one, "the file cannot be read, or is not PEM", "name the file in PEM") from None


def _verify(one: Json, certificates: list[str], key: str, root: str | None) -> None:
    """Verify the certificate and its key by a TLS handshake in memory. Raises HomeportError (usage)."""
    with private_directory.directory() as private:
        bundle = private / "bundle.pem"
        private_directory.write(bundle, "\n".join([*certificates, key.strip(), ""]))
        try:
            tls.handshake(bundle, one["name"], ssl.create_default_context(cafile=root or None))
        except ssl.SSLCertVerificationError as error:
            what = f"{one['name']}: browsers would not accept it: {tls.reason(error)}"
            fix = "correct it; the file must have the chain as well, and acme.root must name a root that is not public"
            raise _usage_error(one, what, fix) from None
        except ssl.SSLError as error:
            what = f"the value of {one['key']} is not its key: {tls.reason(error)}"
            raise _usage_error(one, what, f"deploy secrets set {one['key']}, with the unencrypted key in PEM") from None


def _usage_error(one: Json, what: str, fix: str) -> HomeportError:
    return HomeportError(what, str(one["certificate"]), fix, ExitCode.USAGE)
