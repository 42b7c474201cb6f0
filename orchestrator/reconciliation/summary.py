"""What came of a run, in figures and in sentences for whoever keeps the books."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from orchestrator.model import CHARGED_OUTCOMES, DISPUTED_REASONS, State
from orchestrator.reconciliation.sources import Source
from orchestrator.store.matching import Period
from orchestrator.store.rows import Row
from orchestrator.store.words import DifferenceKind
from orchestrator.terminal_api import money

#: How a person would say it, one and many.
_SAID: Final = {
    DifferenceKind.MISSING_THERE: "charged by us and in no report of its day",
    DifferenceKind.MISSING_HERE: "charged by the platform for a sale of ours, and none of our payments is it",
    DifferenceKind.AMBIGUOUS: "in the books, and could be more than one of our payments",
    DifferenceKind.ORPHAN: "charged by the platform, and we know nothing of it",
    DifferenceKind.AMOUNT_DIFFERS: "of another amount in the books",
    DifferenceKind.CURRENCY_DIFFERS: "of another currency in the books",
    DifferenceKind.STATE_DIFFERS: "charged on one side, and not on the other",
    DifferenceKind.DUPLICATE_LINE: "twice in one report",
    DifferenceKind.REFUND_ELSEWHERE: "paid back without us",
    DifferenceKind.REFUND_DIFFERS: "paid back differently than we know",
    DifferenceKind.CAPTURE_FAILED: "authorised, and could not be captured",
    DifferenceKind.EXPIRED: "authorised, and expired before the capture",
    DifferenceKind.CHARGEBACK: "disputed by the cardholder",
}

#: What a person does about it, in short; docs/reconciliation.md says more.
_TO_DO: Final = {
    DifferenceKind.MISSING_THERE: (
        "Look for the payment in the Customer Area. Booked later, this closes by itself when a report has it; never "
        "booked, the shop was not paid: raise it with the platform."
    ),
    DifferenceKind.MISSING_HERE: "Most often the shopper was charged twice: refund one in the Customer Area.",
    DifferenceKind.AMBIGUOUS: "Compare times and terminals. Where one of them is unknown, rule on it.",
    DifferenceKind.ORPHAN: "Ask who took it: another system on the same account, or a key in the wrong hands.",
    DifferenceKind.AMOUNT_DIFFERS: (
        "Compare with the receipt. Pay back what was too much, or have the platform correct it."
    ),
    DifferenceKind.CURRENCY_DIFFERS: "Compare with the receipt, and have the platform correct it.",
    DifferenceKind.STATE_DIFFERS: "The payment is unknown until later books speak, or somebody rules on it.",
    DifferenceKind.DUPLICATE_LINE: "Harmless if it was paid out once: compare with the settlement.",
    DifferenceKind.REFUND_ELSEWHERE: "Ask who paid it back. It lowers what is left to refund.",
    DifferenceKind.REFUND_DIFFERS: "Read the refund's journal on the payment's page, and compare.",
    DifferenceKind.CAPTURE_FAILED: "No money will come of it: take the payment anew.",
    DifferenceKind.EXPIRED: "No money will come of it: take the payment anew.",
    DifferenceKind.CHARGEBACK: "Defend it in the Customer Area, before its deadline.",
}

_CHARGED: Final = frozenset(outcome.value for outcome in CHARGED_OUTCOMES)

#: What becomes of a payment's line in the table of a summary.
GROUPS: Final = (
    "charged_reconciled",
    "charged_waiting",
    "not_charged_reconciled",
    "not_charged_waiting",
    "unknown",
    "open",
)


def said(kind: DifferenceKind) -> str:
    """How a person would say a difference."""
    return _SAID[kind]


def what_to_do(kind: DifferenceKind) -> str:
    """What a person does about a difference."""
    return _TO_DO[kind]


def summarise(
    totals: Sequence[Row],
    differences: Iterable[Row],
    others: Sequence[Row],
    sources: Sequence[Source],
    period: Period,
) -> dict[str, Any]:
    """Count, sum and say it. Equal rows give an equal summary."""
    by_kind: dict[str, Counter[str]] = {}
    for row in differences:
        by_kind.setdefault(row["kind"], Counter())[row["state"]] += row["n"]
    payments = _payments(totals)
    opened = {kind: states["open"] for kind, states in by_kind.items() if states["open"]}
    return {
        "payments": payments,
        "differences": {
            "open": sum(opened.values()),
            "by_kind": {kind: dict(sorted(states.items())) for kind, states in sorted(by_kind.items())},
        },
        "unknown_line_types": {row["type"]: row["lines"] for row in others},
        "sentences": [
            *_about_reports(sources, period),
            *_about_payments(payments),
            *_about_doubt(totals),
            *_about_differences(opened),
        ],
    }


def _payments(totals: Iterable[Row]) -> dict[str, Any]:
    """By currency and group: how many, and their sum in minor units."""
    found: dict[str, Any] = {}
    for row in totals:
        groups = found.setdefault(row["currency"], {group: {"count": 0, "sum_minor": 0} for group in GROUPS})
        group = groups[_group(row)]
        group["count"] += row["payments"]
        group["sum_minor"] += row["sum_minor"]
    return found


def _group(row: Row) -> str:
    if row["outcome"] is None:
        return "unknown" if row["state"] == State.UNKNOWN else "open"
    charged = "charged" if row["outcome"] in _CHARGED else "not_charged"
    return f"{charged}_{'reconciled' if row['state'] == State.RECONCILED else 'waiting'}"


def _about_reports(sources: Sequence[Source], period: Period) -> Iterator[str]:
    days = f"{period.first_day}" if period.first_day == period.last_day else f"{period.first_day} to {period.last_day}"
    lines = sum(source.lines for source in sources)
    yield f"{days}: {len(sources)} {_plural(len(sources), 'report')} with {lines} {_plural(lines, 'line')} of ours."
    if not sources:
        yield "Without a report only webhooks could be compared; put the platform's reports into the folder."


def _about_payments(payments: Mapping[str, Any]) -> Iterator[str]:
    for currency, groups in sorted(payments.items()):
        agreed, waiting = groups["charged_reconciled"], groups["charged_waiting"]
        yield (
            f"{currency}: {_count_and_sum(agreed, currency)} charged, and the books agree;"
            f" {_count_and_sum(waiting, currency)} charged, and the books do not agree yet."
        )
        unknown = groups["unknown"]
        if unknown["count"]:
            yield f"{currency}: {_count_and_sum(unknown, currency)} not known; do not charge these sales again."


def _about_doubt(totals: Sequence[Row]) -> Iterator[str]:
    uncovered = sum(row["payments"] for row in totals if row["outcome"] in _CHARGED and not row["covered"])
    if uncovered:
        yield f"Charged outside the days that the reports cover in full: {uncovered} {_plural(uncovered, 'payment')}."
    disputed = sum(row["payments"] for row in totals if row["reason"] in DISPUTED_REASONS)
    if disputed:
        yield f"Needs a person: {disputed} {_plural(disputed, 'payment')} whose evidence contradicts itself."


def _about_differences(opened: Mapping[str, int]) -> Iterator[str]:
    if not opened:
        yield "No open difference."
    for kind, count in sorted(opened.items()):
        yield f"Needs a person: {count} {_SAID[DifferenceKind(kind)]}."


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _count_and_sum(group: dict[str, int], currency: str) -> str:
    count, minor = group["count"], group["sum_minor"]
    try:
        major = f"{Decimal(minor).scaleb(-money.decimals(currency)):f} {currency}"
    except money.InvalidAmount:
        major = f"{minor} minor units of {currency}"
    return f"{count} {_plural(count, 'payment')} ({major})"
