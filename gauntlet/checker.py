"""The judge. Three witnesses, none of them the product: the callers' log, a dump by plain SQL, the simulator's ledger.

``judge`` returns every violation of what was promised. The rules read like the promises, one function each; ``World``
is the three witnesses with indexes over them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from gauntlet import chain
from gauntlet.dump import Dump, Row

Key = tuple[str, str]
"""A payment request on the wire: (POIID, ServiceID)."""

CHARGED = {"approved", "partially_approved"}
ENDED = {"confirmed", "reconciled"}

#: What a terminal's error condition says about the money. Written down here a second time, on purpose.
OUTCOME_OF = {
    "Refusal": "declined", "InvalidCard": "declined", "WrongPIN": "declined", "PaymentRestriction": "declined",
    "Cancel": "cancelled", "Aborted": "aborted", "Busy": "not_performed", "DeviceOut": "not_performed",
    "LoggedOut": "not_performed", "NotAllowed": "not_performed", "UnavailableDevice": "not_performed",
    "UnavailableService": "not_performed", "MessageFormat": "not_performed", "InsertedCard": "not_performed",
}  # fmt: skip

#: Reasons that claim that no byte of the request was ever written.
NEVER_ON_THE_WIRE = {"expired", "aborted_before_send", "not_delivered"}

#: Evidence, other than a terminal's result, that an outcome without a charge may rest on.
PROOFS_OF_ABSENCE = {"send_by_passed", "not_delivered", "not_found_reported", "abort_asked", "request_rejected"}

#: The clock of the wire against the database's, on one machine: the time between deciding and arriving.
ON_THE_WAY = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, for whom, and how it shows."""

    rule: str
    about: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.about}: {self.what}"


class World:
    """The witnesses, indexed."""

    def __init__(self, client: Sequence[Row], data: Dump, ledger: Sequence[Row]) -> None:
        self.client, self.data = client, data
        self.payments = data["payments"]
        self.by_id = {row["id"]: row for row in self.payments}
        self.by_key = {(row["poi_id"], row["service_id"]): row for row in self.payments}
        self.lines = _grouped(data["journal"], "payment_id")
        self.commands = _grouped(data["commands"], "payment_id")
        self.alarms = _grouped(data["alarms"], "payment_id")
        self.requests = _by_key(
            line for line in ledger if (line["kind"], line.get("category")) == ("request", "Payment")
        )
        self.prompts = _by_key(line for line in ledger if line["kind"] == "prompt")
        self.charges = _by_key(line for line in ledger if line["kind"] == "charge")
        self.no_charges = _by_key(line for line in ledger if line["kind"] == "no_charge")
        self.checks = _by_key((line for line in ledger if line["kind"] == "status"), "about_service_id")
        self.pushes = _by_key(line for line in ledger if line["kind"] == "notification")
        self.forged = {line["psp_reference"] for line in ledger if line["kind"] == "forged"}

    def heard(self, key: Key) -> list[str]:
        """What the simulator told about a payment, by a push that was accepted or a status that named its result."""
        pushed = [
            "push" for line in self.pushes[key] if line["what"] == "PaymentResponse" and 200 <= line["status"] < 300
        ]
        return pushed + [line["answer"] for line in self.checks[key] if line["answer"].startswith("repeated")]


def judge(client: Sequence[Row], data: Dump, ledger: Sequence[Row], queued: dict[str, int]) -> list[Violation]:
    """Every violation, by rule. ``queued`` counts what was left in the broker's queues."""
    world = World(client, data, ledger)
    found = [violation for rule in RULES for violation in rule(world)]
    return found + [Violation("left-behind", name, f"{count} messages") for name, count in sorted(queued.items())]


# -- the rules ---------------------------------------------------------------------------------------------------------


def one_request(world: World) -> Iterator[Violation]:
    """A submission puts at most one payment request on the wire; only what was accepted and claimed goes there."""
    for key, requests in world.requests.items():
        about = _named(key)
        if len(requests) > 1:
            yield Violation("second-request", about, f"{len(requests)} payment requests: {_scenarios(requests)}")
        payment = world.by_key.get(key)
        if payment is None:
            yield Violation("second-request", about, "a request for a payment that nobody accepted")
        elif payment["sent_at"] is None:
            yield Violation("second-request", about, "a request that nobody claimed")
    for key, charges in world.charges.items():
        if len(charges) > 1:
            yield Violation("second-charge", _named(key), f"{len(charges)} charges")


def one_charge_for_a_sale(world: World) -> Iterator[Violation]:
    """No second payment for a sale starts while an earlier one is open or was charged, unless somebody overrode it."""
    for reference, payments in _grouped(world.payments, "reference").items():
        own = [row for row in payments if row["override_by"] is None]
        charges = [line for row in own for line in world.charges[_key(row)]]
        if len(charges) > 1:
            yield Violation("second-charge", reference, f"charged {len(charges)} times")
        for earlier, later in pairwise(own):
            requests = world.requests[_key(later)]
            if requests and (not earlier["concluded_at"] or _at(requests[0]["at"]) < _at(earlier["concluded_at"])):
                yield Violation("second-charge", reference, "its second payment began before the first had ended")


def nothing_lost(world: World) -> Iterator[Violation]:
    """What was accepted is there, as it was asked for, and has ended or is being asked about."""
    for row in world.payments:
        if row["state"] not in ENDED and row["state"] != "unknown":
            yield Violation("lost", row["reference"], f"still {row['state']}")
    known = {row["idempotency_key"] for row in world.payments + world.data["rejections"]}
    ids: dict[str, set[str]] = defaultdict(set)
    created: Counter[str] = Counter()
    for line in world.client:
        if line["kind"] == "enqueued" and line["key"] not in known:
            yield Violation("lost", line["asked"]["reference"], "enqueued, and nobody knows it")
        if line["kind"] == "gave_up":
            yield Violation("lost", line["asked"]["reference"], f"its caller never had an answer ({line['role']})")
        if line["kind"] == "answered" and line["status"] in (200, 201):
            yield from _kept(world, line)
            ids[line["key"]].add(line["id"])
            created[line["key"]] += line["status"] == 201
        elif line["kind"] == "answered" and line["status"] != 409:
            yield Violation("lost", line["asked"]["reference"], f"refused with {line['status']}")
    for key, made in ids.items():
        if len(made) > 1 or created[key] > 1:
            yield Violation("second-request", key, f"one key made {len(made)} payments, {created[key]} times new")


def _kept(world: World, line: Row) -> Iterator[Violation]:
    asked, row = line["asked"], world.by_id.get(line["id"])
    if line["role"] == "clash":
        yield Violation("second-request", asked["reference"], "the same key with another body was accepted")
    elif row is None:
        yield Violation("lost", asked["reference"], f"answered {line['status']}, and it is not there")
    elif (row["reference"], row["poi_id"], row["currency"], row["amount_minor"]) != (
        asked["reference"], asked["poi_id"], asked["amount"]["currency"], asked["amount"]["value"],
    ):  # fmt: skip
        yield Violation("lost", asked["reference"], "it is not what was asked for")


def outcomes_agree(world: World) -> Iterator[Violation]:
    """Charged when, and only when, the ledger charged: the same amount, currency and reference of the platform."""
    for row in world.payments:
        key = _key(row)
        charges, no_charges = world.charges[key], world.no_charges[key]
        if row["state"] not in ENDED:
            continue
        wrong = _charge_fault(row, charges[0]) if charges else _no_charge_fault(world, row, no_charges)
        if wrong:
            yield Violation("disagrees", row["reference"], wrong)


def _charge_fault(row: Row, charge: Row) -> str | None:
    expected = "partially_approved" if charge["result"] == "Partial" else "approved"
    if row["outcome"] != expected:
        return f"{row['outcome']}, and the ledger says {expected}"
    ours = (row["authorised_minor"], row["currency"], row["psp_reference"])
    theirs = (charge["amount_minor"], charge["currency"], charge["psp_reference"])
    return None if ours == theirs else f"charged {ours}, and the ledger says {theirs}"


def _no_charge_fault(world: World, row: Row, no_charges: Sequence[Row]) -> str | None:
    if row["outcome"] in CHARGED:
        return f"{row['outcome']}, and the ledger has no charge"
    requests = world.requests[_key(row)]
    if row["reason"] in NEVER_ON_THE_WIRE:
        return f"{row['reason']}, and its request is in the ledger" if requests else None
    if no_charges and no_charges[-1].get("error_condition"):
        expected = OUTCOME_OF.get(no_charges[-1]["error_condition"])
    elif any(line["taken"] for line in requests) and not no_charges:
        return f"{row['outcome']}, and the ledger has no end for it"
    else:
        expected = "not_performed"
    return None if row["outcome"] == expected else f"{row['outcome']}, and the ledger says {expected}"


def outcomes_have_evidence(world: World) -> Iterator[Violation]:
    """Every outcome points at a journal line that supports it, and none at a forgery."""
    for row in world.payments:
        if row["psp_reference"] in world.forged:
            yield Violation("no-evidence", row["reference"], "it carries a forged reference")
        if row["outcome"] is None:
            continue
        lines, ending = world.lines[row["id"]], _ending(world, _key(row))
        results = [
            line["detail"]
            for line in lines
            if line["evidence"] == "result_reported" and line["detail"].get("authentic")
        ]
        if ending is None:
            supported = any(line["evidence"] in PROOFS_OF_ABSENCE for line in lines)
        else:
            supported = any(_same_result(detail, ending) for detail in results)
        if not supported:
            yield Violation("no-evidence", row["reference"], f"{row['outcome']} rests on no line of its journal")


def _ending(world: World, key: Key) -> Row | None:
    """How the terminal ended it, where it did and could say so."""
    endings = [line for line in world.charges[key] + world.no_charges[key] if "result" in line]
    return endings[-1] if endings else None


def _same_result(detail: Row, ending: Row) -> bool:
    return bool(
        detail["result"] == ending["result"]
        and (detail.get("error_condition") or "") == ending["error_condition"]
        and (detail.get("psp_reference") or "") == ending["psp_reference"]
    )


def unknown_is_explained(world: World) -> Iterator[Violation]:
    """``unknown`` stands only where every evidence was withheld, and somebody goes on asking or was alarmed."""
    for row in world.payments:
        if row["state"] != "unknown":
            continue
        key, about = _key(row), row["reference"]
        heard, answers = world.heard(key), [line["answer"] for line in world.checks[key]]
        if row["reason"] != "no_answer":
            yield Violation("unexplained-unknown", about, f"its reason is {row['reason']}")
        if heard:
            yield Violation("unexplained-unknown", about, f"unknown, and the simulator told: {', '.join(heard)}")
        elif not answers or answers[-1] == "not_found":
            yield Violation("unexplained-unknown", about, f"unknown after status answers {answers or 'none'}")
        is_asked = any(command["kind"] == "check_status" for command in world.commands[row["id"]])
        if not is_asked and not world.alarms[row["id"]]:
            yield Violation("unexplained-unknown", about, "nobody asks any more, and nobody was alarmed")


def nobody_was_prompted_late(world: World) -> Iterator[Violation]:
    """No request goes out after ``send_by``: the shopper may have left."""
    for row in world.payments:
        for request in world.requests[_key(row)]:
            if _at(request["at"]) > _at(row["send_by"]) + ON_THE_WAY:
                yield Violation("prompted-late", row["reference"], f"sent {request['at']}, send by {row['send_by']}")


def chains_hold(world: World) -> Iterator[Violation]:
    """The journal is whole, in order, and explains the row."""
    for row in world.payments:
        fault = chain.fault(row, world.lines[row["id"]])
        if fault:
            yield Violation("broken-chain", row["reference"], fault)


def nothing_left_behind(world: World) -> Iterator[Violation]:
    """What is still to be done is explained: an unknown is asked about, a conclusion from absence is watched."""
    for row in world.payments:
        for command in world.commands[row["id"]]:
            watched = row["state"] == "unknown" or row["sentinel"]
            if command["kind"] != "check_status" or not watched:
                yield Violation(
                    "left-behind", row["reference"], f"{command['kind']} is open while it is {row['state']}"
                )
        if row["holds_terminal"] is not None:
            yield Violation("left-behind", row["reference"], f"it still holds {row['holds_terminal']}")


RULES: tuple[Callable[[World], Iterator[Violation]], ...] = (
    one_request, one_charge_for_a_sale, nothing_lost, outcomes_agree, outcomes_have_evidence, unknown_is_explained,
    nobody_was_prompted_late, chains_hold, nothing_left_behind,
)  # fmt: skip


# -- reading -----------------------------------------------------------------------------------------------------------


def _key(row: Row) -> Key:
    return (row["poi_id"], row["service_id"])


def _named(key: Key) -> str:
    return "/".join(key)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _scenarios(lines: Sequence[Row]) -> str:
    return ", ".join(str(line.get("scenario") or "by amount") for line in lines)


def _grouped(rows: Sequence[Row], name: str) -> defaultdict[str, list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[name]].append(row)
    return groups


def _by_key(lines: Iterator[Row], service_id: str = "service_id") -> defaultdict[Key, list[Row]]:
    groups: defaultdict[Key, list[Row]] = defaultdict(list)
    for line in lines:
        groups[(line["poi_id"], line[service_id])].append(line)
    return groups
