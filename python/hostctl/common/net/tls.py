"""TLS contexts, and a handshake in memory that checks a certificate with its key."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl  # the functions import it, because most verbs do without it

# a handshake takes two messages of each side; this is more than enough
ROUNDS = 4


def reason(error: Exception) -> str:
    """The fault of a certificate or its key, as the TLS library reports it."""
    message = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
    return str(message).replace("_", " ").lower()


def trusting_context(certificates: str) -> ssl.SSLContext:
    """The TLS context of a client that trusts these certificates only, whoever signed them."""
    import ssl

    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=certificates)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return client


def handshake(bundle: Path, name: str, client: ssl.SSLContext) -> bytes:
    """The certificate in DER that a server with this bundle (certificates and key) shows the client for a name.

    Server and client shake hands in memory, so that the TLS library checks the key, the chain, the name and the dates.
    Raises ssl.SSLError (SSLCertVerificationError if the client would refuse the certificate).
    """
    import ssl

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(bundle, password=lambda: "")  # an encrypted key is refused instead of asked about
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(to_client, to_server, server_hostname=name)
    sides = (client_side, server.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(ROUNDS):
        for side in sides:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return client_side.getpeercert(binary_form=True) or b""


def unverified_context() -> ssl.SSLContext:
    """The TLS context of a client that accepts any certificate, for connections over loopback."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
