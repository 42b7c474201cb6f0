"""Our own mark on a payment request, which the platform echoes: who sends it back has seen our request.

It covers what we asked for, not the Result: whoever saw the request could answer in the terminal's name.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence

from orchestrator.model import Transaction

METADATA_NAME = "counterfoil_tag"


def sign(key: bytes, tx: Transaction) -> str:
    """Return the tag as url-safe text without padding, 43 characters."""
    return base64.urlsafe_b64encode(_mac(key, tx)).rstrip(b"=").decode("ascii")


def verify(keys: Sequence[bytes], tx: Transaction, text: str | None) -> bool:
    """Whether the text is the tag of this transaction under any of the keys. Any input is answered, none raises."""
    given = (text or "").encode("utf-8", "replace")
    matches = [hmac.compare_digest(sign(key, tx).encode("ascii"), given) for key in keys]
    return any(matches)


def _mac(key: bytes, tx: Transaction) -> bytes:
    parts = (tx.sale_id, tx.service_id, tx.poi_id, str(tx.id), str(tx.amount.minor), tx.amount.currency)
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in parts:
        encoded = part.encode("utf-8")
        mac.update(len(encoded).to_bytes(4) + encoded)  # length first, so that no two lists read the same
    return mac.digest()
