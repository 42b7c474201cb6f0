"""What the page of one payment shows, put together from what was read of it. Pure: nothing is asked or decided here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from orchestrator import runbook, story
from orchestrator.commands import CommandKind
from orchestrator.evidence import Exchange
from orchestrator.keys import Role
from orchestrator.model import CHARGED_OUTCOMES, Money, Outcome, State
from orchestrator.policy import Policy
from orchestrator.refund_verdicts import refund_verdict
from orchestrator.store.chain import journal_problems
from orchestrator.store.one_payment import OnePayment
from orchestrator.store.rows import Row, transaction_of
from orchestrator.terminal_api import money
from orchestrator.terminal_api.receipts import as_text
from orchestrator.transitions import Event
from orchestrator.verdicts import Verdict, Wait, standing_of, verdict
from orchestrator.web.alarms import may_close
from orchestrator.web.console.desk import Person
from orchestrator.web.console.offers import Situation, offered, withheld
from orchestrator.web.console.rendering import host_of

#: Lines of a long journal that stand on their own: how it began, and how it stands. The others are folded away.
_FIRST_LINES: Final = 5
_LAST_LINES: Final = 8

_GOOD: Final = frozenset({Event.CHARGED, Event.CHARGED_AS_BOOKED, Event.BOOKS_AUTHORISED_PROVEN, Event.RULED_CHARGED})
_DOUBT: Final = frozenset(
    {Event.RESULT_CONTRADICTS, Event.BOOKS_CONTRADICT, Event.BOOKS_DIFFER, Event.HEARSAY, Event.HEARSAY_DISAGREES}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a journal, in words, with what it rests on."""

    number: int
    at: datetime
    said: str
    source: str
    followed: str
    tone: str
    detail: str | None
    evidence: str
    event: str
    hash: str | None
    repeats: int
    repeated_at: datetime | None


def situation_of(one: OnePayment, policy: Policy) -> Situation:
    """What decides which acts make sense."""
    return Situation(transaction_of(one.row), one.left_minor, one.row["read_at"], policy)


def values_of(one: OnePayment, person: Person, policy: Policy, flower_url: str | None) -> dict[str, Any]:
    """Everything that the template names."""
    row, now = one.row, situation_of(one, policy)
    outcome = Outcome(row["outcome"]) if row["outcome"] else None
    acts = offered(now, person.role)
    lines = [_line(line, row["currency"]) for line in one.lines]
    return {
        "row": row,
        "said": verdict_of(one),
        "charged": None if outcome is None else outcome.charged,
        "result": row["result"] or {},
        "left_minor": one.left_minor,
        "is_open": outcome is None,
        "live_after": f"{one.displays[0]['id'] if one.displays else 0}.{row['sequence']}",
        "acts": {act.value for act in acts},
        "others": sorted(role.value for role in withheld(now, person.role)),
        "first_lines": lines if len(lines) <= _FIRST_LINES + _LAST_LINES else lines[:_FIRST_LINES],
        "folded_lines": lines[_FIRST_LINES:-_LAST_LINES] if len(lines) > _FIRST_LINES + _LAST_LINES else [],
        "last_lines": lines[-_LAST_LINES:] if len(lines) > _FIRST_LINES + _LAST_LINES else [],
        "line_count": len(lines),
        "problems": None if one.is_cut else journal_problems(row, one.lines, policy),
        "expunged": sum(line["detail"] is None for line in one.lines),
        "planned": [_planned(each) for each in one.commands if each["refund_id"] is None],
        "checks": [_line(line, row["currency"]) for line in one.lines if _is_check(line)],
        "next_check_at": next((c["due_at"] for c in one.commands if c["kind"] == CommandKind.CHECK_STATUS), None),
        "sale": [_of_sale(each) for each in one.sale],
        "sale_warning": _sale_warning(one),
        "refunds": [_refund(each, one) for each in one.refunds],
        "elsewhere": one.elsewhere,
        "tellings": [_telling(each) for each in one.tellings],
        "may_redeliver": person.role.includes(Role.OPERATE),
        "may_close": partial(may_close, person.role),
        "alarms": [_alarm(each) for each in one.alarms],
        "differences": [_difference(each) for each in one.differences],
        "webhooks": one.webhooks,
        "displays": one.displays,
        "receipts": [{"copy": each["copy"], "text": as_text(each)} for each in one.receipts],
        "proposal": _proposal(one, person),
        "outcomes": [(each.value, _OUTCOME_WORDS[each]) for each in Outcome],
        "flower": flower_url and flower_address(flower_url, row["id"]),
        "metadata": sorted((row["options"].get("metadata") or {}).items()),
    }


def verdict_of(one: OnePayment) -> Verdict:
    """The verdict, with what a queued payment waits for."""
    held_by = (one.row["held_by"] or "somebody") if one.row["held_at"] is not None else None
    wait = Wait(ahead=one.row["ahead"], held_by=held_by)
    return verdict(standing_of(one.row, one.row["read_at"], wait, one.refunding_minor))


def flower_address(flower_url: str, payment_id: UUID) -> str:
    """Flower's list of tasks, searched for a payment: its messages say ``payment_id=…`` among their arguments."""
    return f"{flower_url.rstrip('/')}/tasks?name={quote(f'tasks. kwargs:{payment_id}')}"


# -- the journal -------------------------------------------------------------------------------------------------------


def _line(line: Row, currency: str) -> Line:
    detail = line["detail"]
    return Line(
        number=line["sequence"],
        at=line["at"],
        said=story.learned(line["evidence"], detail, currency),
        source=story.source(line["evidence"], detail),
        followed=story.followed(line["event"], line["before"], line["after"]),
        tone=_tone(line),
        detail=json.dumps(detail, indent=2, ensure_ascii=False, sort_keys=True) if detail else None,
        evidence=line["evidence"],
        event=line["event"],
        hash=line.get("hash"),
        repeats=line.get("repeats", 0),
        repeated_at=line.get("repeated_at"),
    )


def _tone(line: Row) -> str:
    """How a line looks: what concluded stands out, and what disagrees."""
    is_move = line["before"] is not None and line["before"] != line["after"]
    if line["event"] in _GOOD:
        return "good"
    if line["event"] in _DOUBT or (is_move and line["after"] == State.UNKNOWN):
        return "doubt"
    return "bad" if is_move and line["after"] != State.PENDING else "plain"


def _is_check(line: Row) -> bool:
    detail = line["detail"] or {}
    asked = detail.get("exchange") == Exchange.STATUS or detail.get("channel") == "status"
    return asked or line["evidence"] in {"in_progress_reported", "not_found_reported"}


def _planned(command: Row) -> dict[str, Any]:
    return {**command, "words": story.PLANNED[command["kind"]]}


# -- what stands beside it ---------------------------------------------------------------------------------------------

_OUTCOME_WORDS: Final[Mapping[Outcome, str]] = {
    Outcome.APPROVED: "Charged, in full",
    Outcome.PARTIALLY_APPROVED: "Charged in part: say how much",
    Outcome.DECLINED: "Not charged: the card was declined",
    Outcome.CANCELLED: "Not charged: the shopper cancelled it",
    Outcome.ABORTED: "Not charged: it was stopped",
    Outcome.NOT_PERFORMED: "Not charged: it never took place",
}


def _is_paid(row: Row) -> bool:
    """Whether it is charged and not paid back whole."""
    return row["outcome"] in CHARGED_OUTCOMES and row["authorised_minor"] > row["refunded_minor"]


def _of_sale(row: Row) -> dict[str, Any]:
    charged = None if row["outcome"] is None else row["outcome"] in CHARGED_OUTCOMES
    return {**row, "charged": charged, "is_paid": _is_paid(row)}


def _sale_warning(one: OnePayment) -> str | None:
    """What the other payments of the sale mean for this one, where two of them may have been charged."""
    others = [each for each in one.sale if _is_paid(each)]
    open_ones = [each for each in one.sale if each["outcome"] is None]
    if not others:
        if open_ones and one.row["outcome"] is None:
            return "Another payment of this sale is not known yet either. Look at both before you do anything."
        return None
    total = sum(each["authorised_minor"] - each["refunded_minor"] for each in others)
    paid = money.in_words(one.row["currency"], total)
    if _is_paid(one.row):
        count = len(others) + 1
        return f"This sale is charged {count} times: {paid} beside this payment. If that was not meant, pay one back."
    return f"Another payment of this sale is charged: {paid}. Look at it before you take a payment again."


def _refund(row: Row, one: OnePayment) -> dict[str, Any]:
    return {
        **row,
        "verdict": refund_verdict(row),
        "lines": [_line(line, row["currency"]) for line in one.refund_lines if line["refund_id"] == row["id"]],
        "planned": [_planned(each) for each in one.commands if each["refund_id"] == row["id"]],
    }


def _telling(row: Row) -> dict[str, Any]:
    """A callback. Of its address the host alone: the rest may hold a secret."""
    if row["delivered_at"] is not None:
        kind, words, at = "good", "delivered", row["delivered_at"]
    elif row["parked_at"] is not None:
        kind, words, at = "bad", "parked", row["parked_at"]
    else:
        kind, words, at = "wait", "waiting", row["next_at"]
    return {**row, "url": None, "host": host_of(row["url"]), "kind": kind, "words": words, "state_at": at}


def _alarm(row: Row) -> dict[str, Any]:
    found = runbook.guidance(row["name"])
    parts = [("What it means", found.means), ("Look", found.look), ("Do", found.do)] if found else []
    return {**row, "guidance": [(title, runbook.pieces(text)) for title, text in parts if text]}


def _difference(row: Row) -> dict[str, Any]:
    return {**row, "ours": _side(row["ours"]), "theirs": _side(row["theirs"])}


def _side(side: Mapping[str, Any] | None) -> str:
    """What one side says, in words."""
    said = side or {}
    amount = said.get("amount")
    parts: Sequence[str] = [
        str(said.get("state") or "").replace("_", " "),
        money.in_words(amount["currency"], amount["value"]) if amount else "",
    ]
    return ", ".join(filter(None, parts)) or "nothing"


def _proposal(one: OnePayment, person: Person) -> dict[str, Any] | None:
    """What a first person proposed and a second one has not agreed to, as long as it is about what is known now."""
    found = one.proposal
    if found is None or one.row["state"] != State.UNKNOWN or found["verdict"] is None:
        return None
    wanted = found["verdict"]
    minor, currency = wanted["authorised_minor"], one.row["currency"]
    charged_minor = one.row["amount_minor"] if minor is None and wanted["outcome"] == Outcome.APPROVED else minor
    return {
        "by": found["name"],
        "at": found["at"],
        "outcome": wanted["outcome"],
        "words": _OUTCOME_WORDS[Outcome(wanted["outcome"])].partition(": say")[0],
        "reason": wanted["reason"],
        "sequence": wanted["sequence"],
        "amount": None if charged_minor is None else money.in_words(currency, charged_minor),
        "amount_typed": "" if minor is None else major_text(currency, minor),
        "is_stale": wanted["sequence"] != one.row["sequence"],
        "is_own": found["proposed_by"] == identity_of(person),
    }


def identity_of(person: Person) -> str:
    """What tells two people apart who rule."""
    return f"user {person.user_id}"


def major_text(currency: str, minor: int) -> str:
    """An amount as it is typed into a form: without its currency, and without marks between the thousands."""
    return f"{money.to_major(Money(currency, minor)):f}"
