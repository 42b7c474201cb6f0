"""``counterfoil terminals trust``: the root that terminals' certificates chain to, shown and verified."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cryptography import x509

from config.settings import settings
from orchestrator.cli.output import emit, say
from orchestrator.cli.product import Json
from orchestrator.cli.root import Exit
from orchestrator.errors import ConfigurationError
from orchestrator.terminal_api.certificates import PUBLISHED_SHA256, Root, load_roots, read_certificate

_NAMES: Final = {x509.NameOID.EMAIL_ADDRESS: "emailAddress"}  # beside those that RFC 4514 lists


def trust(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A root in PEM or DER to look at; the one in use otherwise."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Show the root that terminals are trusted under, or look at a file before it is: exit 1 unless it is published."""
    environment = settings().environment
    root = load_roots(settings().terminal_roots, environment) if file is None else _read(file)
    facts = _facts(root, datetime.now(UTC))
    if as_json:
        emit(facts)
    else:
        _tell(facts, environment)
    return Exit.DONE if facts["published_for"] and facts["valid_now"] else Exit.ERROR


def _read(file: Path) -> Root:
    try:
        return Root(read_certificate(file.expanduser()), str(file))
    except ValueError as error:
        raise ConfigurationError(f"{file} {error}") from None


def _facts(root: Root, now: datetime) -> dict[str, Any]:
    try:
        certificate = x509.load_der_x509_certificate(root.der)
        subject, issuer = (name.rfc4514_string(_NAMES) for name in (certificate.subject, certificate.issuer))
    except ValueError:
        raise ConfigurationError(f"{root.source} holds no certificate that can be read") from None
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return {
        "source": root.source,
        "subject": subject,
        "issuer": issuer,
        "not_before": start,
        "not_after": end,
        "valid_now": start <= now <= end,
        "sha256": _colons(hashlib.sha256(root.der).digest()),
        "sha1": _colons(hashlib.sha1(root.der, usedforsecurity=False).digest()),  # the platform prints it too
        "published_for": next((name for name, known in PUBLISHED_SHA256.items() if known == root.sha256), None),
    }


def _colons(digest: bytes) -> str:
    """As openssl prints a fingerprint."""
    return digest.hex(":").upper()


def _tell(facts: dict[str, Any], environment: str) -> None:
    say(facts["source"])
    say(f"  subject             {facts['subject']}")
    say(f"  issuer              {facts['issuer']}")
    say(f"  valid               {facts['not_before']:%Y-%m-%d} to {facts['not_after']:%Y-%m-%d}")
    say(f"  SHA256 Fingerprint  {facts['sha256']}")
    say(f"  SHA1 Fingerprint    {facts['sha1']}")
    if not facts["valid_now"]:
        say("It is not valid today.")
    if facts["published_for"] is None:
        say("It is NOT a root that the platform published: trust it for a simulator alone.")
    elif facts["published_for"] == environment:
        say(f"It is the published {environment} root.")
    else:
        say(f"It is the published {facts['published_for']} root; the environment is {environment}.")
