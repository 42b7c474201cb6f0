"""Which certificate a terminal on the local network may show, and the root under which alone it counts.

An address cannot be checked by a certificate, since terminals get theirs from DHCP: the common name says which terminal
answers, and it has to be the one that was meant. The root is known by its fingerprint, so that nobody's copy of it has
to be trusted.
"""

import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import ConfigurationError

#: SHA-256 of the terminal fleet's roots, as the platform's documentation prints them.
PUBLISHED_SHA256: Final[Mapping[str, str]] = {
    "test": "3a33c334c30f6946e9754b6bb1672b546fbaa966fb6a4b58aa4e3abe80a7ecbe",
    "live": "06d48641954b957d7af5f5e45a58d861db0de3ccedbb983660bb016ce6142da1",
}
WHERE_PUBLISHED: Final = "https://docs.adyen.com/point-of-sale/design-your-integration/choose-your-architecture/local"
_FILE_BYTES_MAX: Final = 65_536  # our choice: a root has some 2 kB
_DER_START: Final = b"\x30\x82"  # a SEQUENCE of 256 bytes or more, as every certificate is
_TERMINAL_NAME: Final = "[a-zA-Z0-9]{3,}-[a-zA-Z0-9]{9,15}"
_LEGACY_NAME: Final = "legacy-terminal-certificate"  # of terminals from before each had a certificate of its own


@dataclass(frozen=True, slots=True)
class Root:
    """The one root that terminals' certificates have to chain to."""

    der: bytes = field(repr=False)
    source: str  # the file that it was read from, or where else it comes from

    @property
    def sha256(self) -> str:
        """The fingerprint in lower-case hexadecimal."""
        return fingerprint(self.der)


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate in lower-case hexadecimal."""
    return hashlib.sha256(der).hexdigest()


def read_certificate(path: Path) -> bytes:
    """Return the one certificate in a file, PEM or DER, as DER.

    Raises:
        ValueError: it cannot be read, or holds something else; the message goes after the file's name.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or type(error).__name__}") from None
    try:
        if content.startswith(_DER_START) and len(content) <= _FILE_BYTES_MAX:
            return content
        if content.count(b"-----BEGIN") <= 1:  # the library reads two as one, and skips what is between
            return ssl.PEM_cert_to_DER_cert(content.decode("ascii").strip())
    except ValueError:  # UnicodeDecodeError is one too
        pass
    raise ValueError("must be a file with one certificate in PEM or DER, and nothing else")


def load_roots(path: Path | None, environment: str) -> Root:
    """Return the root of the environment, ``test`` or ``live``: the file's, else the one that came along.

    On live it must be the published one. On test a file may hold any, such as a simulator's.

    Raises:
        ConfigurationError: there is none, it cannot be read, or it is not the published one.
    """
    published = PUBLISHED_SHA256[environment]
    if path is None and environment == "test":
        bundled = resources.files("orchestrator.terminal_api") / "roots" / "test.pem"
        root = Root(
            ssl.PEM_cert_to_DER_cert(bundled.read_text("ascii").strip()), "the root that comes with counterfoil"
        )
    elif path is None:
        raise ConfigurationError(
            f"COUNTERFOIL_TERMINAL_ROOTS is not set, and terminals on live need the live root: download it from "
            f"{WHERE_PUBLISHED} (its SHA-256 is {published}), and name the file"
        )
    else:
        try:
            root = Root(read_certificate(path), str(path))
        except ValueError as error:
            raise ConfigurationError(f"COUNTERFOIL_TERMINAL_ROOTS: {path} {error}") from None
    if root.sha256 != published and (environment == "live" or path is None):
        raise ConfigurationError(
            f"{root.source} is not the published {environment} root: its SHA-256 is {root.sha256}, the published one's "
            f"is {published}; download it from {WHERE_PUBLISHED}"
        )
    return root


def terminal_tls(root: Root) -> ssl.SSLContext:
    """Return a context for connections to terminals: this root alone, TLS 1.2 or newer.

    It leaves the name open, since an address names no terminal: whoever connects has to ask ``name_fits`` about
    ``common_name(getpeercert())`` before the first byte of a request.

    Raises:
        ConfigurationError: OpenSSL does not take the root.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        tls.load_verify_locations(cadata=root.der)
    except ssl.SSLError as error:
        raise ConfigurationError(f"{root.source} holds no certificate that OpenSSL takes: {error.reason}") from None
    return tls


def common_name(certificate: Mapping[str, Any] | None) -> str | None:
    """Return the subject's common name of what ``ssl.SSLSocket.getpeercert`` gives; None where it is not just one."""
    subject = (certificate or {}).get("subject", ())
    names = [value for relative in subject for name, value in relative if name == "commonName"]
    return names[0] if len(names) == 1 else None


def name_fits(name: str | None, environment: str, poi_id: str, *, legacy_allowed: bool) -> bool:
    """Whether a certificate with this common name is the terminal's, in this environment (``test`` or ``live``).

    A legacy name names no terminal: any terminal that has one passes for any other.
    """
    terminal, dot, domain = (name or "").partition(".")
    if not dot or domain != f"{environment}.terminal.adyen.com":
        return False
    if terminal == _LEGACY_NAME:
        return legacy_allowed
    return terminal == poi_id and re.fullmatch(_TERMINAL_NAME, terminal) is not None
