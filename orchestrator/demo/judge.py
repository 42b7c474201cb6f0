"""The judge: the simulator's ledger file against the database, payment by payment. It trusts neither, and no scene."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.model import Outcome
from orchestrator.store.rows import Row

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """One payment as both sides tell it; ``problems`` is empty when they agree."""

    reference: str
    requests: int
    charges: Sequence[Line]
    row: Row | None
    problems: tuple[str, ...]


def judge(ledger: Iterable[Line], rows: Sequence[Row]) -> list[Finding]:
    """Join the ledger with the database by ServiceID; what is on one side alone is a problem too."""
    requests: dict[str, list[Line]] = defaultdict(list)
    charges: dict[str, list[Line]] = defaultdict(list)
    for line in ledger:
        if line["kind"] == "request" and line.get("category") == "Payment":
            requests[line["service_id"]].append(line)
        elif line["kind"] == "charge":
            charges[line["service_id"]].append(line)
    by_service_id = {row["service_id"]: row for row in rows}
    findings = [_judge_one(row, len(requests[sid]), charges[sid]) for sid, row in by_service_id.items()]
    strangers = (requests.keys() | charges.keys()) - by_service_id.keys()
    return findings + [_stranger(sid, requests[sid], charges[sid]) for sid in sorted(strangers)]


def _judge_one(row: Row, requests: int, charges: Sequence[Line]) -> Finding:
    problems = tuple(_problems(row, requests, charges))
    return Finding(row["reference"], requests, charges, row, problems)


def _problems(row: Row, requests: int, charges: Sequence[Line]) -> Iterable[str]:
    if requests > 1:
        yield f"{requests} payment requests were sent for one submission"
    if row["outcome"] is None:
        yield f"it has not ended: {row['state']}"
        return
    charged = Outcome(row["outcome"]).charged
    if charged and not charges:
        yield f"we say {row['outcome']}, and the terminal charged nobody"
    if charges and not charged:
        yield f"we say {row['outcome']}, and the terminal charged"
    if len(charges) > 1:
        yield f"the terminal charged {len(charges)} times"
    if charged and charges and (row["authorised_minor"], row["currency"]) != _amount(charges[0]):
        yield "the amounts differ"
    if charged and charges and row["psp_reference"] != charges[0]["psp_reference"]:
        yield "the PSP references differ"


def _amount(charge: Line) -> tuple[int, str]:
    return charge["amount_minor"], charge["currency"]


def _stranger(service_id: str, requests: Sequence[Line], charges: Sequence[Line]) -> Finding:
    reference = next((line["reference"] for line in [*requests, *charges]), service_id)
    return Finding(reference, len(requests), charges, None, ("the terminal knows it, and the database does not",))
