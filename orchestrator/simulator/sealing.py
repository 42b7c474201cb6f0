"""Messages under a shared key, from the terminal's side: opened when they come, sealed when they go.

Written from the description of the envelope alone, and on purpose apart from the product's: what the two disagree on,
the tests that join them show.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from orchestrator.simulator.encoding import Json, as_object

# Sources: https://docs.adyen.com/point-of-sale/design-your-integration/choose-your-architecture/local/protect
_SALT = b"AdyenNexoV1Salt"
_ROUNDS = 4000
_MAC_BYTES = 32
_CIPHER_KEY_BYTES = 32
_IV_BYTES = 16
_DERIVED_BYTES = _MAC_BYTES + _CIPHER_KEY_BYTES + _IV_BYTES
CRYPTO_VERSION = 1
# What the clear header and the sealed one must agree on; members beyond the schema are ignored.
_HEADER_MEMBERS = (
    "ProtocolVersion",
    "MessageClass",
    "MessageCategory",
    "MessageType",
    "SaleID",
    "ServiceID",
    "DeviceID",
    "POIID",
)
REQUEST, RESPONSE = "SaleToPOIRequest", "SaleToPOIResponse"


class CryptoError(Exception):
    """The message is not what somebody who holds a key of this terminal sent. It says nothing more, on purpose."""


@dataclass(frozen=True, slots=True)
class SharedKey:
    """One version of a shared key, derived once from its passphrase."""

    identifier: str
    version: int
    mac_key: bytes = field(repr=False)
    cipher_key: bytes = field(repr=False)
    iv: bytes = field(repr=False)

    @classmethod
    def derive(cls, identifier: str, version: int, passphrase: str) -> Self:
        """The key of this passphrase."""
        derived = hashlib.pbkdf2_hmac("sha1", passphrase.encode(), _SALT, _ROUNDS, _DERIVED_BYTES)
        iv_at = _MAC_BYTES + _CIPHER_KEY_BYTES
        return cls(identifier, version, derived[:_MAC_BYTES], derived[_MAC_BYTES:iv_at], derived[iv_at:])

    @classmethod
    def parse(cls, text: str) -> Self:
        """A key from `IDENTIFIER:VERSION:PASSPHRASE`; ValueError names the part that is wrong, never its value."""
        identifier, _, rest = text.partition(":")
        version, _, passphrase = rest.partition(":")  # a passphrase may have colons of its own
        if not (identifier and passphrase and version.isdecimal()):
            message = "IDENTIFIER:VERSION:PASSPHRASE is wanted, with a number for VERSION and nothing empty"
            raise ValueError(message)
        return cls.derive(identifier, int(version), passphrase)


@dataclass(frozen=True, slots=True)
class Opened:
    """A request in clear, and the key that it was sealed with; None when it came in clear."""

    raw: bytes
    key: SharedKey | None


def seal(key: SharedKey, message: bytes, nonce: bytes | None = None) -> bytes:
    """The message, whole with its wrapper, as an envelope under this key; the nonce is fresh unless a test fixes it."""
    [(wrapper, content)] = json.loads(message).items()
    nonce = nonce or os.urandom(_IV_BYTES)
    padder = padding.PKCS7(algorithms.AES.block_size).padder()
    encryptor = _cipher(key, nonce).encryptor()
    blob = encryptor.update(padder.update(message) + padder.finalize()) + encryptor.finalize()
    trailer: Json = {
        "AdyenCryptoVersion": CRYPTO_VERSION,
        "KeyIdentifier": key.identifier,
        "KeyVersion": key.version,
        "Nonce": base64.b64encode(nonce).decode(),
        "Hmac": base64.b64encode(hmac.digest(key.mac_key, message, "sha256")).decode(),
    }
    sealed = {
        "MessageHeader": content["MessageHeader"],
        "NexoBlob": base64.b64encode(blob).decode(),
        "SecurityTrailer": trailer,
    }
    return json.dumps({wrapper: sealed}, separators=(",", ":")).encode()


def unseal(raw: bytes, keys: Iterable[SharedKey], wrapper: str = REQUEST) -> Opened:
    """The message in clear; CryptoError when it is sealed and cannot be trusted. What is not sealed is handed on."""
    try:
        outer = as_object(json.loads(raw)).get(wrapper)
    except (ValueError, RecursionError):
        return Opened(raw, None)
    envelope = as_object(outer)
    if not envelope.keys() & {"NexoBlob", "SecurityTrailer"}:
        return Opened(raw, None)
    trailer = as_object(envelope.get("SecurityTrailer"))
    if trailer.get("AdyenCryptoVersion") != CRYPTO_VERSION:
        raise CryptoError
    named = (trailer.get("KeyIdentifier"), trailer.get("KeyVersion"))
    key = next((key for key in keys if (key.identifier, key.version) == named), None)
    if key is None:
        raise CryptoError
    plain = _decrypt(key, envelope.get("NexoBlob"), trailer)
    _demand_same_header(envelope, plain, wrapper)
    return Opened(plain, key)


def _decrypt(key: SharedKey, blob: Any, trailer: Json) -> bytes:
    texts: tuple[Any, ...] = (blob, trailer.get("Nonce"), trailer.get("Hmac"))
    try:
        sealed, nonce, mac = (base64.b64decode(text, validate=True) for text in texts)
        if len(nonce) != _IV_BYTES:
            raise CryptoError
        decryptor = _cipher(key, nonce).decryptor()
        unpadder = padding.PKCS7(algorithms.AES.block_size).unpadder()
        plain = unpadder.update(decryptor.update(sealed) + decryptor.finalize()) + unpadder.finalize()
    except (ValueError, TypeError, binascii.Error) as error:
        raise CryptoError from error
    if not hmac.compare_digest(hmac.digest(key.mac_key, plain, "sha256"), mac):
        raise CryptoError
    return plain


def _demand_same_header(envelope: Json, plain: bytes, wrapper: str) -> None:
    try:
        inner = as_object(as_object(json.loads(plain)).get(wrapper)).get("MessageHeader")
    except (ValueError, RecursionError) as error:
        raise CryptoError from error
    inner, outer = as_object(inner), as_object(envelope.get("MessageHeader"))
    if not inner or any(inner.get(name) != outer.get(name) for name in _HEADER_MEMBERS):
        raise CryptoError


def _cipher(key: SharedKey, nonce: bytes) -> Cipher[modes.CBC]:
    iv = bytes(ours ^ theirs for ours, theirs in zip(key.iv, nonce, strict=True))
    return Cipher(algorithms.AES(key.cipher_key), modes.CBC(iv))
