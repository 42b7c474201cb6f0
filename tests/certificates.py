"""Certificates that a test makes for itself."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

Signer = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def certificate_for(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Signer | None,
    *,
    is_ca: bool,
    days: int = 2,
    addresses: Sequence[str] = (),
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signing_key, issued_by = (issuer[0], issuer[1].subject) if issuer else (key, subject)
    start = datetime.now(UTC) - timedelta(days=5)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issued_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=5 + days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if addresses:
        names = [x509.IPAddress(ip_address(address)) for address in addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def authority(name: str, issuer: Signer | None = None) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, certificate_for(name, key, issuer, is_ca=True)
