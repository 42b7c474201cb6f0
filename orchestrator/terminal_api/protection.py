"""Seal what goes to a terminal, open what comes back: encrypted, then verified, then believed.

A sealed message keeps a clear copy of its header, which the MAC does not cover: it only says which key to take, and is
compared with the one inside afterwards. Both sides hold the same key, so that what we sealed ourselves comes back
verified; the wrapper inside, ``SaleToPOIRequest`` or ``SaleToPOIResponse``, tells the direction.

Whatever is wrong between Base64 and MAC is one problem, ``decrypt-failed``: the MAC lies under the padding, and whoever
could tell the two apart could read messages without the key.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from orchestrator.errors import LocalProtocolError, RemoteProtocolError
from orchestrator.terminal_api import fields, strict_json

Wrapper: TypeAlias = Literal["SaleToPOIRequest", "SaleToPOIResponse"]
Problem: TypeAlias = Literal[
    "malformed",
    "unsupported-version",
    "unknown-key",
    "decrypt-failed",
    "header-mismatch",
    "wrapper-mismatch",
    "forged-plaintext",
]

# The platform's definition of the envelope, version 1.
CRYPTO_VERSION: Final = 1
_SALT: Final = b"AdyenNexoV1Salt"
_ITERATIONS: Final = 4000
_HMAC_KEY_BYTES: Final = 32
_CIPHER_KEY_BYTES: Final = 32
_BLOCK_BYTES: Final = 16  # of AES: the derived IV and the nonce are as long
_MAC_BYTES: Final = 32  # HMAC-SHA256

_DERIVED_MAX: Final = 256  # passphrases whose keys are kept; a derivation takes some 10 ms
_MESSAGE_TYPES: Final[Mapping[Wrapper, frozenset[str]]] = {
    "SaleToPOIResponse": frozenset({"Response"}),
    "SaleToPOIRequest": frozenset({"Request", "Notification"}),
}
_HEADER_MEMBERS: Final = tuple(
    "ProtocolVersion MessageClass MessageCategory MessageType SaleID ServiceID DeviceID POIID".split()
)
#: What a sealed message holds as it is spelled everywhere; spares reading each clear one twice.
_SEALED_MARKS: Final = (b"NexoBlob", b"SecurityTrailer")
_POSITIVE: Final = frozenset({"Success", "Partial"})

PASSPHRASE_CHARS_MIN: Final = 12  # the platform's rule, as the rest of `passphrase_problems`
_SPECIAL_CHARS: Final = "~!@#$%^&*()_+=}{][;:?.,><"


class ProtectionError(RemoteProtocolError):
    """A sealed message that cannot be opened, or a clear one where only a sealed one counts."""

    def __init__(self, problem: Problem) -> None:
        """Name the ``problem`` by a slug; never the message, nor its key."""
        super().__init__(f"the message was not accepted: {problem}")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A key that terminals share with us. Nothing of it shows, its identifier neither: official code hides it too."""

    identifier: str = field(repr=False)
    version: int
    passphrase: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that one terminal may have: the first one seals, all of them open. False when there is none."""

    keys: tuple[SharedKey, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.keys)

    @property
    def sealing(self) -> SharedKey | None:
        """The key to seal with; None where messages go clear."""
        return self.keys[0] if self.keys else None

    def find(self, identifier: str, version: int) -> SharedKey | None:
        """The key that a message names."""
        matches = (key for key in self.keys if (key.identifier, key.version) == (identifier, version))
        return next(matches, None)


def passphrase_problems(passphrase: str) -> list[str]:
    """Say which of the platform's rules for new passphrases this one breaks; older keys may be weaker."""
    rules = {
        f"it must have at least {PASSPHRASE_CHARS_MIN} characters": len(passphrase) >= PASSPHRASE_CHARS_MIN,
        "it must have an upper-case letter from A to Z": re.search("[A-Z]", passphrase),
        "it must have a lower-case letter from a to z": re.search("[a-z]", passphrase),
        "it must have a digit": re.search("[0-9]", passphrase),
        f"it must have one of the special characters {_SPECIAL_CHARS}": set(passphrase) & set(_SPECIAL_CHARS),
        "it must have printable ASCII characters only": passphrase.isascii() and passphrase.isprintable(),
    }
    return [rule for rule, kept in rules.items() if not kept]


# -- seal --------------------------------------------------------------------------------------------------------------


def seal(body: bytes, key: SharedKey) -> bytes:
    """Return the sealed form of a complete clear message, such as ``{"SaleToPOIRequest": {"MessageHeader": …}}``.

    Raises:
        LocalProtocolError: the body is no message.
    """
    return _enveloped(body, key, os.urandom(_BLOCK_BYTES))


def _enveloped(body: bytes, key: SharedKey, nonce: bytes) -> bytes:
    message = _parsed(body)
    wrapper = _wrapper_of(message)
    header = fields.mapping(message, wrapper or "", "MessageHeader")
    if wrapper is None or header is None:
        raise LocalProtocolError("only a message with a wrapper and a header can be sealed")
    blob, mac = _encrypt(body, key.passphrase, nonce)
    trailer = {
        "AdyenCryptoVersion": CRYPTO_VERSION,
        "KeyIdentifier": key.identifier,
        "KeyVersion": key.version,
        "Nonce": _base64(nonce),
        "Hmac": _base64(mac),
    }
    content = {"MessageHeader": header, "NexoBlob": _base64(blob), "SecurityTrailer": trailer}
    return strict_json.dumps({wrapper: content})


# -- open --------------------------------------------------------------------------------------------------------------


def open_answer(body: bytes, ring: KeyRing) -> bytes:
    """Return the clear bytes of what came on the connection of a request that we sealed.

    What is no message at all, such as ``ok`` or an HTTP error's text, is returned as it is: it can say nothing of a
    charge. A clear message passes only where it says nothing either: an error of the gateway in front of the terminal.

    Raises:
        ProtectionError: a message that must not be believed; the status has to be asked for.
    """
    message = _parsed(body)
    if not isinstance(message, Mapping) or not message.keys() & _MESSAGE_TYPES.keys():
        return body
    return _opened(message, body, ring, "SaleToPOIResponse")[0]


def open_message(body: bytes, ring: KeyRing, *, wrapper: Wrapper = "SaleToPOIResponse") -> Mapping[str, Any]:
    """Return the complete clear message, ``{wrapper: {"MessageHeader": …}}``: the one inside where it is sealed.

    Raises:
        ProtectionError: it is no message, not the one that is waited for, or not to be believed.
    """
    message = _parsed(body)
    if not isinstance(message, Mapping):
        raise ProtectionError("malformed")
    return _opened(message, body, ring, wrapper)[1]


def open_pushed(body: bytes, ring_of: Callable[[str], KeyRing]) -> bytes:
    """Return the clear bytes of a pushed message. One that is not sealed is returned as it is.

    Args:
        body: what was posted to us.
        ring_of: the keys of the terminal with this POIID, which the message merely claims to be from.

    Raises:
        ProtectionError: it is sealed, and cannot be opened.
    """
    if not any(mark in body for mark in _SEALED_MARKS):
        return body
    message = _parsed(body)
    wrapper = _wrapper_of(message)
    content = fields.mapping(message, wrapper or "")
    if wrapper is None or content is None or not _is_sealed(content):
        return body
    ring = ring_of(fields.text(content, "MessageHeader", "POIID") or "")
    return _opened(message, body, ring, wrapper)[0]


def _parsed(body: bytes) -> Any:
    """Return the JSON value; None where there is none that we read."""
    try:
        return strict_json.loads(body)
    except strict_json.MalformedJson:
        return None


def _opened(
    message: Mapping[str, Any], body: bytes, ring: KeyRing, expected: Wrapper
) -> tuple[bytes, Mapping[str, Any]]:
    """Return the clear message as bytes and read, checked in the order that the platform's reference gives."""
    wrapper = _wrapper_of(message)
    content = fields.mapping(message, wrapper or "")
    if wrapper is None or content is None:
        raise ProtectionError("malformed")
    if not _is_sealed(content):
        if ring and not _says_nothing(wrapper, content):
            raise ProtectionError("forged-plaintext")
        return body, message
    if wrapper != expected:
        raise ProtectionError("wrapper-mismatch")
    header = fields.mapping(content, "MessageHeader")
    if header is None:
        raise ProtectionError("malformed")
    clear = _unsealed(content, ring)
    inner = _parsed(clear)
    _check_inner(inner, wrapper, header)
    return clear, inner


def _is_sealed(content: Mapping[str, Any]) -> bool:
    return "NexoBlob" in content or "SecurityTrailer" in content


def _wrapper_of(message: object) -> Wrapper | None:
    """Return the one wrapper of a message; None where it has none, or two."""
    wrappers = [name for name in _MESSAGE_TYPES if isinstance(message, Mapping) and name in message]
    return wrappers[0] if len(wrappers) == 1 else None


def _unsealed(content: Mapping[str, Any], ring: KeyRing) -> bytes:
    """Return the bytes inside, verified."""
    match content:
        case {
            "NexoBlob": str(blob),
            "SecurityTrailer": {
                "AdyenCryptoVersion": int(crypto_version),
                "KeyIdentifier": str(identifier),
                "KeyVersion": int(key_version),
                "Nonce": str(nonce),
                "Hmac": str(mac),
            },
        } if not isinstance(crypto_version, bool) and not isinstance(key_version, bool):
            pass
        case _:
            raise ProtectionError("malformed")
    if crypto_version != CRYPTO_VERSION:
        raise ProtectionError("unsupported-version")
    key = ring.find(identifier, key_version)
    if key is None:
        raise ProtectionError("unknown-key")
    clear = _decrypt(blob, nonce, mac, key.passphrase)
    if clear is None:
        raise ProtectionError("decrypt-failed")
    return clear


def _check_inner(inner: object, wrapper: Wrapper, header: Mapping[str, Any]) -> None:
    """Check what was verified against what surrounds it: the direction first, then the header."""
    inner_wrapper = _wrapper_of(inner)
    inner_header = fields.mapping(inner, inner_wrapper or "", "MessageHeader")
    if inner_wrapper is None or inner_header is None:
        raise ProtectionError("malformed")
    if inner_wrapper != wrapper:
        raise ProtectionError("wrapper-mismatch")
    message_type = inner_header.get("MessageType")
    if not isinstance(message_type, str) or message_type not in _MESSAGE_TYPES[wrapper]:
        raise ProtectionError("header-mismatch")
    if any(header.get(name) != inner_header.get(name) for name in _HEADER_MEMBERS):
        raise ProtectionError("header-mismatch")


def _says_nothing(wrapper: Wrapper, content: Mapping[str, Any]) -> bool:
    """Whether a clear message is an error of the gateway, which knows nothing of what the terminal did."""
    if _has_positive(content):
        return False
    if wrapper == "SaleToPOIRequest":
        return fields.text(content, "EventNotification", "EventToNotify") == "Reject"
    answers = [value for name, value in content.items() if name != "MessageHeader"]
    unreachable = {"Result": "Failure", "ErrorCondition": "UnreachableHost"}
    return all(fields.text(each, "Response", name) == word for each in answers for name, word in unreachable.items())


def _has_positive(value: object) -> bool:
    """Whether there is a Success or Partial at any depth: a status answer nests the payment's."""
    if isinstance(value, Mapping):
        result = value.get("Result")
        return (isinstance(result, str) and result in _POSITIVE) or any(map(_has_positive, value.values()))
    return isinstance(value, list) and any(map(_has_positive, value))


# -- the cipher --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Derived:
    hmac_key: bytes = field(repr=False)
    cipher_key: bytes = field(repr=False)
    iv: bytes = field(repr=False)


@lru_cache(maxsize=_DERIVED_MAX)
def _derive(passphrase: str) -> _Derived:
    """Derive the keys of a passphrase; identifier and version have no part in it."""
    length = _HMAC_KEY_BYTES + _CIPHER_KEY_BYTES + _BLOCK_BYTES
    stream = hashlib.pbkdf2_hmac("sha1", passphrase.encode("utf-8"), _SALT, _ITERATIONS, length)
    return _Derived(
        hmac_key=stream[:_HMAC_KEY_BYTES],
        cipher_key=stream[_HMAC_KEY_BYTES : _HMAC_KEY_BYTES + _CIPHER_KEY_BYTES],
        iv=stream[_HMAC_KEY_BYTES + _CIPHER_KEY_BYTES :],
    )


def _cipher(derived: _Derived, nonce: bytes) -> Cipher[modes.CBC]:
    iv = bytes(a ^ b for a, b in zip(derived.iv, nonce, strict=True))
    return Cipher(algorithms.AES(derived.cipher_key), modes.CBC(iv))


def _encrypt(plaintext: bytes, passphrase: str, nonce: bytes) -> tuple[bytes, bytes]:
    """Return the blob and the MAC, which is over the plaintext."""
    derived = _derive(passphrase)
    padder = PKCS7(8 * _BLOCK_BYTES).padder()
    encryptor = _cipher(derived, nonce).encryptor()
    blob = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    return blob, hmac.digest(derived.hmac_key, plaintext, "sha256")


def _decrypt(blob_text: str, nonce_text: str, mac_text: str, passphrase: str) -> bytes | None:
    """Return the verified plaintext; None for whatever is wrong. The MAC is computed under bad padding too."""
    blob, nonce, mac = _unbase64(blob_text), _unbase64(nonce_text), _unbase64(mac_text)
    if not blob or len(blob) % _BLOCK_BYTES or len(nonce) != _BLOCK_BYTES or len(mac) != _MAC_BYTES:
        return None
    derived = _derive(passphrase)
    decryptor = _cipher(derived, nonce).decryptor()
    padded = decryptor.update(blob) + decryptor.finalize()
    unpadder = PKCS7(8 * _BLOCK_BYTES).unpadder()
    try:
        plaintext, well_padded = unpadder.update(padded) + unpadder.finalize(), True
    except ValueError:
        plaintext, well_padded = padded, False
    verified = hmac.compare_digest(hmac.digest(derived.hmac_key, plaintext, "sha256"), mac)
    return plaintext if verified and well_padded else None


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _unbase64(text: str) -> bytes:
    """Return the bytes that are written so, and not otherwise; none where they are not."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # the latter for characters outside ASCII
        return b""
    return value if _base64(value) == text else b""
