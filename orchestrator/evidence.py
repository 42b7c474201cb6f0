"""Everything that can be observed about a transaction. Facts, in the past tense, with no opinion on what they mean.

What the world does is a value of one of these classes; no exception carries news of a payment. ``classify`` gives
each its meaning. Standard library only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from orchestrator.model import Money, Outcome


class Exchange(StrEnum):
    """Which of our requests an answer, or its absence, belongs to."""

    PAYMENT = "payment"
    STATUS = "status"
    ABORT = "abort"


class Channel(StrEnum):
    """How a terminal's result reached us."""

    CONNECTION = "connection"  # the answer on our own connection
    STATUS = "status"  # nested in the answer to our status request
    NOTIFICATION = "notification"  # pushed to our endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A fact that we observed. ``digest`` names its content where the same fact can reach us twice, else None."""

    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionAccepted(Evidence):
    """The first line of every journal: the terms, so that the chain covers them too.

    An override names the person who let a sale be paid again, and why.
    """

    merchant_account: str | None = None
    reference: str | None = None
    poi_id: str | None = None
    sale_id: str | None = None
    service_id: str | None = None
    amount: Money | None = None
    override_by: str | None = None
    override_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendStarted(Evidence):
    """A worker claimed the transaction; from now on the request may be on the wire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotDelivered(Evidence):
    """The owner of the claim proves that no byte of the payment request was written. ``why`` is a slug."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMissing(Evidence):
    """A request may have been carried out, and nothing usable was answered. ``why`` is a slug, never a payload."""

    exchange: Exchange
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected(Evidence):
    """The platform refused a request before it reached the terminal. Equal refusals have an equal ``refusal``."""

    exchange: Exchange
    refusal: str  # such as "http-401" or "reject:Input is not a JSONObject"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultReported(Evidence):
    """A terminal's PaymentResponse that echoes our POIID, SaleID and ServiceID, and our reference where it names one.

    ``result`` and ``error_condition`` are verbatim. ``authentic`` is false for a pushed result without a valid tag.
    Amounts on top of the requested one are in minor units of the requested currency, None where none is named.
    """

    channel: Channel
    authentic: bool
    result: str
    error_condition: str | None = None
    authorised: Money | None = None
    extra_minor: int = 0  # tip, cashback and surcharge that the answer names, together
    tip_minor: int | None = None
    cashback_minor: int | None = None
    surcharge_minor: int | None = None
    dcc_amount: Money | None = None  # what the shopper was offered to pay in the card's own currency
    dcc_rate: str | None = None  # verbatim
    dcc_markup: str | None = None  # verbatim, in per cent
    dcc_accepted: bool | None = None
    psp_reference: str | None = None
    tender_reference: str | None = None
    poi_transaction_id: str | None = None  # verbatim, for a later reversal
    poi_transaction_at: str | None = None  # verbatim text of the time stamp, likewise
    online: bool | None = None
    busy_with: str | None = None  # ServiceID that a Busy answer names as the running one
    refusal_reason: str | None = None
    auth_code: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    card_entry_mode: str | None = None
    card_funding: str | None = None
    signature: str | None = None  # "captured" on the terminal's screen, or "required" on paper; never the strokes
    receipts: Any = field(default=None, repr=False, compare=False)  # as they came; for printing alone, never journalled


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectPushed(Evidence):
    """A pushed event says that one of our requests was rejected. Nobody signs it: it is hearsay."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InProgressReported(Evidence):
    """The terminal says that the payment is still running."""

    detail: str | None = None  # such as WAIT_FOR_PIN


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFoundReported(Evidence):
    """The terminal does not know the payment. ``last_service_id`` is the last request that it says it saw."""

    last_service_id: str | None = None
    terminal_reassigned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortAsked(Evidence):
    """The caller wants the payment stopped."""

    asked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortSent(Evidence):
    """An abort request ended. Its answer proves nothing."""

    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckAsked(Evidence):
    """Somebody wants the status asked for now."""

    asked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendByPassed(Evidence):
    """The instant after which the shopper may have left has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerWindowPassed(Evidence):
    """The time in which the platform ends every payment has passed."""


class BooksEntry(StrEnum):
    """What an entry in the platform's books says, by event code or record type."""

    AUTHORISED = "authorised"
    REFUSED = "refused"
    CANCELLED = "cancelled"  # CANCELLATION, TECHNICAL_CANCEL
    REFUNDED_ELSEWHERE = "refunded_elsewhere"
    DIFFERENCE = "difference"  # CAPTURE_FAILED, EXPIRE, CHARGEBACK and their kind: never a move


@dataclass(frozen=True, slots=True, kw_only=True)
class BooksReported(Evidence):
    """A verified standard webhook or a report line about this payment."""

    entry: BooksEntry
    source: str  # "webhook:<event code>" or "report:<record type>"
    psp_reference: str | None = None
    amount: Money | None = None
    effective_at: str | None = None  # when the platform says that it happened: RFC 3339 in UTC
    covers_day: bool = False  # a report that covers the payment's day and has no authorised line for it


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSilent(Evidence):
    """A report that covers the payment's day has no line for it."""

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled(Evidence):
    """A person settled an unknown."""

    outcome: Outcome
    ruled_by: str
    reason: str
    second: str | None = None
    authorised_minor: int | None = None


def kind_of(evidence: Evidence | type[Evidence]) -> str:
    """Name the kind of a piece of evidence as the journal spells it, such as ``answer_missing``."""
    cls = evidence if isinstance(evidence, type) else type(evidence)
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


#: Every kind that a journal line can hold.
KINDS: Mapping[str, type[Evidence]] = {kind_of(cls): cls for cls in Evidence.__subclasses__()}

_ENUMS: Mapping[str, type[StrEnum]] = {
    "exchange": Exchange,
    "channel": Channel,
    "entry": BooksEntry,
    "outcome": Outcome,
}


#: What is no part of a journal line's detail: the line holds the digest itself, and receipts are no evidence.
_NO_DETAIL: Final = frozenset({"digest", "receipts"})


def to_detail(evidence: Evidence) -> dict[str, Any]:
    """Spell evidence as the JSON object that the journal keeps; members that say nothing are left out."""
    detail: dict[str, Any] = {}
    for each in fields(evidence):
        value = getattr(evidence, each.name)
        if value is None or each.name in _NO_DETAIL:
            continue
        detail[each.name] = {"currency": value.currency, "minor": value.minor} if isinstance(value, Money) else value
    return detail


def from_detail(kind: str, detail: Mapping[str, Any]) -> Evidence:
    """Read back what ``to_detail`` wrote, so that a journal can be replayed."""
    values: dict[str, Any] = {}
    for name, value in detail.items():
        if name in _ENUMS:
            values[name] = _ENUMS[name](value)
        elif isinstance(value, Mapping):
            values[name] = Money(value["currency"], value["minor"])
        else:
            values[name] = value
    return KINDS[kind](**values)
