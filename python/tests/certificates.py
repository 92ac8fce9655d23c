"""Certificates as a team has them from an authority of its own: a root, one between, and those of names."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    private: Key

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key(self) -> str:
        return self.key_as(serialization.NoEncryption())

    def key_as(self, encryption: serialization.KeySerializationEncryption) -> str:
        shape = serialization.PrivateFormat.PKCS8
        return self.private.private_bytes(serialization.Encoding.PEM, shape, encryption).decode()


class Authority:
    """A root that signs the one between, which signs everything else."""

    def __init__(self, name: str = "Team CA") -> None:
        self.root = _issue(name, None, (), 3650, 0)
        self.between = _issue(f"{name} 1", self.root, (), 3650, 0)

    def of(self, *names: str, days: int = 90, begun: int = 1) -> Issued:
        """A certificate of these names that began some days ago, and ends `days` later."""
        return _issue(names[0], self.between, names, days, begun)

    def chain(self, issued: Issued) -> str:
        """What belongs into the file: the certificate, and the one between."""
        return issued.pem + self.between.pem


def _issue(called: str, by: Issued | None, names: tuple[str, ...], days: int, begun: int) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, called)])
    signer, issuer = (by.private, by.certificate.subject) if by else (key, subject)
    begin = datetime.datetime.now(datetime.UTC) - begun * DAY
    builder = x509.CertificateBuilder(
        issuer, subject, key.public_key(), x509.random_serial_number(), begin, begin + days * DAY
    )
    for extension, critical in _extensions(key, signer, names):
        builder = builder.add_extension(extension, critical)
    return Issued(builder.sign(signer, hashes.SHA256()), key)


def _extensions(key: Key, signer: Key, names: tuple[str, ...]) -> list[tuple[x509.ExtensionType, bool]]:
    is_one = not names
    usage = dict.fromkeys(("key_cert_sign", "crl_sign"), is_one) | {"digital_signature": not is_one}
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    usage |= dict.fromkeys((*others, "encipher_only", "decipher_only"), False)
    return [
        (x509.BasicConstraints(ca=is_one, path_length=None), True),
        (x509.KeyUsage(**usage), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
        *([(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)] if names else []),
        *([(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)] if names else []),
    ]
