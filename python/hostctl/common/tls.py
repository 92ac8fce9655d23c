"""TLS contexts, and a handshake in memory that checks a certificate with its key."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl  # imported late: it costs every verb that needs none

# messages of a handshake: two from each side, and some
ROUNDS = 4


def reason(error: Exception) -> str:
    """What is wrong with a certificate or its key, in the words of the TLS library."""
    said = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
    return str(said).replace("_", " ").lower()


def trusting(certificates: str) -> ssl.SSLContext:
    """The context of a client that trusts exactly these certificates, whoever signed them."""
    import ssl

    visitor = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    visitor.load_verify_locations(cadata=certificates)
    visitor.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return visitor


def handshake(bundle: Path, name: str, visitor: ssl.SSLContext) -> bytes:
    """The certificate in DER that a file of certificates and their key presents to this client for a name.

    Server and client shake hands in memory, so that the TLS library itself checks key, chain, names and times.
    Raises ssl.SSLError (SSLCertVerificationError if the client would refuse the certificate).
    """
    import ssl

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(bundle, password=lambda: "")  # an encrypted key is refused instead of asked about
    to_server, to_visitor = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = visitor.wrap_bio(to_visitor, to_server, server_hostname=name)
    sides = (here, server.wrap_bio(to_server, to_visitor, server_side=True))
    for _ in range(ROUNDS):
        for side in sides:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return here.getpeercert(binary_form=True) or b""


def unverified() -> ssl.SSLContext:
    """The context of a client that accepts any certificate: on loopback only the answer matters."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
