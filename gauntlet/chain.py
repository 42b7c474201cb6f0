"""The journal's hash chain, recomputed from its documented formula and nothing else.

A line's hash is SHA-256 over these, joined by ``|``: the hash before it (empty for the first), the payment's id, the
sequence, the instant (UTC, microseconds, ``Z``), evidence, event, before (or empty), after, digest (or empty), and the
detail's hash; that one is SHA-256 over the salt, ``|`` and the detail as canonical JSON.
"""

import hashlib
import json
from collections.abc import Sequence

from gauntlet.dump import Row


def line_hash(previous: str, line: Row) -> str:
    """The hash that this line must have."""
    parts = (
        previous, line["payment_id"], str(line["sequence"]), line["at"], line["evidence"], line["event"],
        line["before"] or "", line["after"], line["digest"] or "", detail_hash(line),
    )  # fmt: skip
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def detail_hash(line: Row) -> str:
    """The hash that this line's detail must have."""
    text = json.dumps(line["detail"], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{line['salt']}|{text}".encode()).hexdigest()


def fault(payment: Row, lines: Sequence[Row]) -> str | None:
    """What is wrong with a payment's chain, or None."""
    if [line["sequence"] for line in lines] != list(range(1, len(lines) + 1)):
        return "its lines have gaps"
    if not lines or payment["sequence"] != len(lines):
        return f"the row is at {payment['sequence']}, the journal at {len(lines)}"
    previous, state = "", None
    for line in lines:
        if line["before"] != state:
            return f"line {line['sequence']} starts from {line['before']}, and the one before ended in {state}"
        if line["detail_hash"] != detail_hash(line):
            return f"the detail of line {line['sequence']} is not what was written"
        if line["hash"] != line_hash(previous, line):
            return f"line {line['sequence']} is not what was written"
        previous, state = line["hash"], line["after"]
    if payment["journal_hash"] != previous:
        return "the row does not carry the hash of its last line"
    return None if payment["state"] == state else f"the row is {payment['state']}, the journal ends in {state}"
