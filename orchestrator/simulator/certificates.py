"""The certificates of the terminals, under a test root of their own; wrong ones where a fault asks for them.

The root is kept beside the ledger, so that who trusts it goes on trusting it over restarts. Everything under it is made
anew in each run, when it is first needed: a certificate costs less than a millisecond.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

FAULTS = {
    "expired": "ended yesterday",
    "other-terminal": "names another terminal",
    "other-root": "hangs from another root of the same name",
    "legacy": "is the one that old terminals share and that names none of them",
    "wrong-environment": "names this terminal in the live environment",
}
_ANOTHER_TERMINAL = "V400m-999999999"
_TEST_DOMAIN = "test.terminal.adyen.com"
_LIVE_DOMAIN = "live.terminal.adyen.com"
_ROOT_NAME = "Counterfoil Simulator Terminal Fleet Root"
_ISSUER_NAME = "Counterfoil Simulator Terminal Issuer"
_ROOT_DAYS = 3650
_LEAF_DAYS = 365
_BACKDATED = timedelta(days=30)  # for clocks that are behind, and so that an expired one was valid once
_ENDED = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate that signs others, with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def root(cls) -> Self:
        """A new root."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(_sign(_ROOT_NAME, key, None, signs=True, until=_in_days(_ROOT_DAYS)), key)

    def intermediate(self) -> Issuer:
        """A new issuer below this one; terminals send its certificate along."""
        key = ec.generate_private_key(ec.SECP256R1())
        return Issuer(_sign(_ISSUER_NAME, key, self, signs=True, until=_in_days(_ROOT_DAYS)), key)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


class Certificates:
    """What each terminal presents. `folder` keeps the root; it is made, and readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = _kept_root(folder / "root.pem")
        self._contexts: dict[tuple[str, str], ssl.SSLContext] = {}

    @property
    def root_pem(self) -> bytes:
        """The root that clients are to trust."""
        return self._root.pem

    @cached_property
    def _issuer(self) -> Issuer:
        return self._root.intermediate()

    @cached_property
    def _stranger(self) -> Issuer:
        return Issuer.root().intermediate()

    def context(self, poi_id: str, fault: str = "") -> ssl.SSLContext:
        """TLS as the terminal speaks it: 1.2 or newer, with its own certificate or the faulty one."""
        known = self._contexts.get((poi_id, fault))
        if known is None:
            known = self._contexts[poi_id, fault] = self._new_context(poi_id, fault)
        return known

    def _new_context(self, poi_id: str, fault: str) -> ssl.SSLContext:
        issuer = self._stranger if fault == "other-root" else self._issuer
        until = datetime.now(UTC) - _ENDED if fault == "expired" else _in_days(_LEAF_DAYS)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _sign(_common_name(poi_id, fault), key, issuer, signs=False, until=until)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_TICKET  # a resumed session shows no certificate, and would hide a fault
        context.num_tickets = 0
        with tempfile.NamedTemporaryFile() as file:  # ssl reads certificates from files alone
            file.write(_private_pem(key) + leaf.public_bytes(Encoding.PEM) + issuer.pem)
            file.flush()
            context.load_cert_chain(file.name)
        return context


def _common_name(poi_id: str, fault: str) -> str:
    if fault == "legacy":
        return f"legacy-terminal-certificate.{_TEST_DOMAIN}"
    if fault == "other-terminal":
        return f"{_ANOTHER_TERMINAL}.{_TEST_DOMAIN}"
    return f"{poi_id}.{_LIVE_DOMAIN if fault == 'wrong-environment' else _TEST_DOMAIN}"


def _kept_root(path: Path) -> Issuer:
    """The root in this file, made there when there is none."""
    if not path.exists():
        made = Issuer.root()
        unfinished = path.with_suffix(".new")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(made.pem + _private_pem(made.key))
        unfinished.replace(path)
    content = path.read_bytes()
    key = load_pem_private_key(content, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        message = f"{path} holds no key of ours; delete it, and a new root is made"
        raise ValueError(message)  # noqa: TRY004 - the file is wrong, not a type in the program
    return Issuer(x509.load_pem_x509_certificate(content), key)


def _sign(
    common_name: str, key: ec.EllipticCurvePrivateKey, by: Issuer | None, *, signs: bool, until: datetime
) -> x509.Certificate:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Simulator"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    issuer_key = by.key if by else key
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=signs, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _in_days(days: int) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)
