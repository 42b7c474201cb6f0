"""What leaves as a file: differences, and payments with their evidence, as JSON lines or CSV."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from orchestrator.store.rows import Row
from orchestrator.views import difference_json, line_json, payment_json

#: A spreadsheet takes a cell that begins like this for a formula; with an apostrophe before it, it is text.
_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")

DIFFERENCE_COLUMNS: Final = (
    "id", "kind", "state", "merchant_account", "payment_id", "refund_id", "reference", "psp_reference", "our_state",
    "our_currency", "our_value_minor", "their_state", "their_currency", "their_value_minor", "source", "found_at",
    "changed_at", "changed_by", "note",
)  # fmt: skip

PAYMENT_COLUMNS: Final = (
    "id", "reference", "merchant_account", "poi_id", "service_id", "state", "outcome", "reason", "charged", "currency",
    "amount_value_minor", "authorised_value_minor", "psp_reference", "tender_reference", "late", "provisional",
    "created_at", "sent_at", "concluded_at", "reconciled_at",
)  # fmt: skip

EVIDENCE_COLUMNS: Final = (
    "payment_id", "reference", "sequence", "at", "evidence", "event", "before", "after", "detail", "hash",
)  # fmt: skip


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Spell rows as CSV, a line at a time, the header first. No cell can be taken for a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        yield _taken(buffer)
        writer.writerow([_cell(row.get(name)) for name in columns])
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> str:
    text = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return text


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
    return f"'{text}" if text.startswith(_FORMULA_SIGNS) and isinstance(value, str) else text


def json_lines(objects: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Spell objects as JSON, one a line, members in a fixed order: equal rows give equal bytes."""
    for each in objects:
        yield json.dumps(each, ensure_ascii=False, sort_keys=True, separators=(",", ":")) + "\n"


def difference_cells(row: Row) -> dict[str, Any]:
    """A difference as a flat row."""
    shown = difference_json(row)
    for side, name in (("our", "ours"), ("their", "theirs")):
        said = shown.pop(name) or {}
        amount = said.get("amount") or {}
        shown |= {
            f"{side}_state": said.get("state"),
            f"{side}_currency": amount.get("currency"),
            f"{side}_value_minor": amount.get("value"),
        }
    return shown


def payment_cells(row: Row) -> dict[str, Any]:
    """A payment as a flat row."""
    shown = payment_json(row)
    authorised = shown["authorised_amount"] or {}
    return shown | {
        "currency": shown["amount"]["currency"],
        "amount_value_minor": shown["amount"]["value"],
        "authorised_value_minor": authorised.get("value"),
    }


def payment_with_evidence(row: Row, lines: Iterable[Row]) -> dict[str, Any]:
    """A payment and every line of its journal."""
    return payment_json(row) | {"journal": [{"sequence": line["sequence"], **line_json(line)} for line in lines]}


def evidence_cells(row: Row, lines: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """The lines of a payment's journal as flat rows."""
    for line in lines:
        yield {"payment_id": str(row["id"]), "reference": row["reference"], **line_json(line)}
