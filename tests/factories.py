"""Valid objects of the core; a test overrides only what it is about.

``transaction`` builds one in any stage, the way the table would have left it there. ``SAMPLES`` holds a piece of
evidence of each kind, and ``EVIDENCE`` a wider pool that the histories of the promises are drawn from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from orchestrator.evidence import (
    AbortAsked,
    AbortSent,
    AnswerMissing,
    AnswerWindowPassed,
    BooksEntry,
    BooksReported,
    Channel,
    CheckAsked,
    Evidence,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RejectPushed,
    ReportSilent,
    RequestRejected,
    ResultReported,
    Ruled,
    SendByPassed,
    SendStarted,
    SubmissionAccepted,
    kind_of,
)
from orchestrator.model import Books, Money, Outcome, Reason, Stage, State, Transaction
from orchestrator.policy import Policy

POLICY: Final = Policy()
SENT_AT: Final = datetime(2025, 3, 14, 9, 0, tzinfo=UTC)
#: The answer window has passed, and every later stage has been reached.
NOW: Final = SENT_AT + timedelta(minutes=10)
SERVICE_ID: Final = "7f3a91c2e4"
PSP: Final = "QXB7P4NDM6TGHZ82"
OTHER_PSP: Final = "KLT3W9RSV5JCFQ41"
#: When the platform says that something in its books happened.
EARLIER: Final = "2025-03-14T09:00:12Z"
LATER: Final = "2025-03-14T09:05:00Z"
AMOUNT: Final = Money("EUR", 1099)

_CONCLUDED: Final = {"sent_at": SENT_AT, "state": State.CONFIRMED, "concluded_at": SENT_AT + timedelta(seconds=20)}
_RECONCILED: Final = _CONCLUDED | {"state": State.RECONCILED, "reconciled_at": SENT_AT + timedelta(minutes=5)}
_CHARGED: Final = {
    "outcome": Outcome.APPROVED,
    "authorised_minor": AMOUNT.minor,
    "psp_reference": PSP,
    "tender_reference": "BV5k001741942800003",
}

_IN: Final[Mapping[Stage, Mapping[str, Any]]] = {
    Stage.QUEUED: {},
    Stage.SENT: {"sent_at": SENT_AT},
    Stage.UNKNOWN: {"sent_at": SENT_AT, "state": State.UNKNOWN, "reason": Reason.NO_ANSWER},
    Stage.DISPUTED: {"sent_at": SENT_AT, "state": State.UNKNOWN, "reason": Reason.CONTRADICTION},
    Stage.NOT_PERFORMED: {
        **_CONCLUDED,
        "outcome": Outcome.NOT_PERFORMED,
        "reason": Reason.NOT_FOUND,
        "sentinel": True,
    },
    Stage.NOT_CHARGED: {**_CONCLUDED, "outcome": Outcome.DECLINED},
    Stage.CHARGED: {**_CONCLUDED, **_CHARGED},
    Stage.RECONCILED_NOT_CHARGED: {**_RECONCILED, "outcome": Outcome.DECLINED},
    Stage.RECONCILED_CHARGED: {**_RECONCILED, **_CHARGED},
}


def transaction(stage: Stage = Stage.QUEUED, **overrides: Any) -> Transaction:
    """A transaction that stands in ``stage``."""
    fields: dict[str, Any] = {
        "id": UUID("0195a7c2-3d1e-7c44-9a52-4d1f0a6b8e21"),
        "reference": "till-4-000123",
        "merchant_account": "HarbourBakery",
        "poi_id": "V400m-324688179",
        "sale_id": "Till4",
        "service_id": SERVICE_ID,
        "amount": AMOUNT,
        "sequence": 3,
    }
    return Transaction(**(fields | dict(_IN[stage]) | overrides))


def accepted() -> Transaction:
    """A transaction as its journal begins: one line, nothing sent."""
    return transaction(Stage.QUEUED, sequence=1)


def absent(**overrides: Any) -> Transaction:
    """Reconciled as not performed because nobody, a report included, knew of it."""
    fields = {"outcome": Outcome.NOT_PERFORMED, "reason": Reason.ABSENT_FROM_REPORT, "sentinel": True}
    return transaction(Stage.RECONCILED_NOT_CHARGED, **(fields | overrides))


def by_books(**overrides: Any) -> Transaction:
    """Concluded as approved by the books alone; the terminal has said nothing."""
    fields = {"reason": Reason.BOOKS, "tender_reference": None}
    return transaction(Stage.RECONCILED_CHARGED, **(fields | overrides))


def ruled(outcome: Outcome, **overrides: Any) -> Transaction:
    """Settled by a person."""
    if outcome.charged:
        stage, unsaid = Stage.RECONCILED_CHARGED, {"psp_reference": None, "tender_reference": None}
    else:
        stage, unsaid = Stage.RECONCILED_NOT_CHARGED, {}
    fields = {"outcome": outcome, "reason": Reason.RULED, "sentinel": not outcome.charged, **unsaid}
    return transaction(stage, **(fields | overrides))


def booked(**overrides: Any) -> Books:
    """What the books said, as a transaction remembers it."""
    fields: dict[str, Any] = {"authorised": True, "psp_reference": PSP, "amount": AMOUNT}
    return Books(**(fields | overrides))


# --- what terminals say ------------------------------------------------------------------------------------------


def result(verdict: str, **overrides: Any) -> ResultReported:
    """An authentic answer on our own connection."""
    fields: dict[str, Any] = {"channel": Channel.CONNECTION, "authentic": True, "result": verdict}
    return ResultReported(**(fields | overrides))


def approved(minor: int = AMOUNT.minor, **overrides: Any) -> ResultReported:
    fields: dict[str, Any] = {
        "authorised": Money(AMOUNT.currency, minor),
        "psp_reference": PSP,
        "tender_reference": "BV5k001741942800003",
        "poi_transaction_id": f"BV5k001741942800003.{PSP}",
        "poi_transaction_at": "2025-03-14T09:00:12.000Z",
        "card_brand": "mc",
        "card_last4": "9999",
    }
    return result("Success", **(fields | overrides))


def failed(condition: str | None = "Refusal", **overrides: Any) -> ResultReported:
    return result("Failure", error_condition=condition, **overrides)


def busy(with_service_id: str | None = None, **overrides: Any) -> ResultReported:
    return failed("Busy", busy_with=with_service_id, **overrides)


def pushed(said: ResultReported, *, tagged: bool) -> ResultReported:
    """The same words on the notification endpoint."""
    return _said(said, Channel.NOTIFICATION, authentic=tagged)


def nested(said: ResultReported) -> ResultReported:
    """The same words inside the answer to a status check."""
    return _said(said, Channel.STATUS, authentic=True)


def _said(said: ResultReported, channel: Channel, *, authentic: bool) -> ResultReported:
    values = {name: getattr(said, name) for name in ResultReported.__dataclass_fields__}
    return ResultReported(**(values | {"channel": channel, "authentic": authentic}))


def missing(exchange: Exchange = Exchange.PAYMENT, why: str = "read-timeout") -> AnswerMissing:
    return AnswerMissing(exchange=exchange, why=why)


def refused(exchange: Exchange = Exchange.PAYMENT, refusal: str = "http-401") -> RequestRejected:
    return RequestRejected(exchange=exchange, refusal=refusal)


# --- what the books and people say -------------------------------------------------------------------------------


def books(entry: BooksEntry, **overrides: Any) -> BooksReported:
    fields: dict[str, Any] = {"source": f"webhook:{entry}", "psp_reference": PSP, "amount": AMOUNT}
    return BooksReported(entry=entry, **(fields | overrides))


def authorisation(*, success: bool = True, **overrides: Any) -> BooksReported:
    entry = BooksEntry.AUTHORISED if success else BooksEntry.REFUSED
    return books(entry, **({"source": "webhook:AUTHORISATION"} | overrides))


def ruling(outcome: Outcome, **overrides: Any) -> Ruled:
    fields: dict[str, Any] = {
        "ruled_by": "mira@harbour-bakery.example",
        "reason": "receipt seen",
        "authorised_minor": AMOUNT.minor if outcome.charged else None,
    }
    return Ruled(outcome=outcome, **(fields | overrides))


#: One of each kind that a journal line can hold, and every field of it said.
SAMPLES: Final[Mapping[str, Evidence]] = {
    kind_of(sample): sample
    for sample in (
        SubmissionAccepted(
            merchant_account="HarbourBakeryPOS",
            reference="till-4-000123",
            poi_id="V400m-324000123",
            sale_id="counterfoil",
            service_id="P000000001",
            amount=Money("EUR", 1099),
            override_by="jo",
            override_reason="the first one was voided by hand",
        ),
        SendStarted(),
        NotDelivered(why="connect-timeout"),
        missing(Exchange.STATUS),
        refused(Exchange.STATUS),
        approved(
            1249,
            channel=Channel.NOTIFICATION,
            error_condition="none",
            extra_minor=150,
            tip_minor=100,
            cashback_minor=30,
            surcharge_minor=20,
            dcc_amount=Money("GBP", 961),
            dcc_rate="0.874431",
            dcc_markup="3.5",
            dcc_accepted=True,
            online=False,
            busy_with="0123456789",
            refusal_reason="none",
            auth_code="123456",
            card_entry_mode="Contactless",
            card_funding="CREDIT",
            signature="required",
        ),
        RejectPushed(why="Input is not a JSONObject"),
        InProgressReported(detail="WAIT_FOR_PIN"),
        NotFoundReported(last_service_id="0123456789", terminal_reassigned=True),
        AbortAsked(asked_by="till-4"),
        AbortSent(answer="200"),
        CheckAsked(asked_by="mira"),
        SendByPassed(),
        AnswerWindowPassed(),
        authorisation(covers_day=True, effective_at=EARLIER),
        ReportSilent(source="report:2025-03-14"),
        ruling(Outcome.PARTIALLY_APPROVED, second="jo", authorised_minor=500),
    )
}


@dataclass(frozen=True, slots=True)
class Fact:
    """Evidence with a name for messages."""

    name: str
    evidence: Evidence

    def __repr__(self) -> str:
        return self.name


_CONDITIONS: Final = (
    "Aborted", "Busy", "Cancel", "DeviceOut", "InProgress", "InsertedCard", "InvalidCard", "LoggedOut",
    "MessageFormat", "NotAllowed", "NotFound", "PaymentRestriction", "Refusal", "UnavailableDevice",
    "UnavailableService", "UnreachableHost", "WrongPIN", "Communication timeout", "SomethingNew",
)  # fmt: skip

_SAID: Final[Mapping[str, ResultReported]] = {
    "approved": approved(),
    "approved for more": approved(1300),
    "approved with tip": approved(1249, extra_minor=150),
    "approved for less": approved(700),
    "approved offline": approved(online=False),
    "approved under another PSP reference": approved(psp_reference=OTHER_PSP),
    "approved in another currency": approved(authorised=Money("USD", 1099)),
    "approved without a PSP reference": approved(psp_reference=None),
    "approved without an amount": approved(authorised=None),
    "partly approved": approved(700, result="Partial"),
    "busy with ours": busy(SERVICE_ID),
    "busy with another": busy("0123456789"),
    "failed without a condition": failed(None),
    "an unlisted result": result("Perhaps"),
    **{f"failed: {condition}": failed(condition) for condition in _CONDITIONS},
}

_FROM_TERMINALS: Final[Mapping[str, Evidence]] = {
    **{f"{name}, on our connection": said for name, said in _SAID.items()},
    **{f"{name}, to our status check": nested(said) for name, said in _SAID.items()},
    **{f"{name}, pushed with a tag": pushed(said, tagged=True) for name, said in _SAID.items()},
    **{f"{name}, pushed without a tag": pushed(said, tagged=False) for name, said in _SAID.items()},
}

_FROM_EXCHANGES: Final[Mapping[str, Evidence]] = {
    **{f"no answer to a {exchange}": missing(exchange) for exchange in Exchange},
    **{f"{exchange} rejected with 401": refused(exchange) for exchange in Exchange},
    "payment rejected with 404": refused(refusal="http-404"),
    "not delivered": NotDelivered(why="connect-timeout"),
    "a Reject was pushed": RejectPushed(why="unparsable"),
    "in progress": InProgressReported(),
    "not found": NotFoundReported(),
    "not found, ours was the last": NotFoundReported(last_service_id=SERVICE_ID),
    "not found, another was the last": NotFoundReported(last_service_id="0123456789"),
    "not found on a re-assigned terminal": NotFoundReported(terminal_reassigned=True),
    "abort sent": AbortSent(answer="200"),
}

_TIMES: Final = (EARLIER, LATER)

_FROM_BOOKS: Final[Mapping[str, Evidence]] = {
    **{f"books: {entry}": books(entry) for entry in BooksEntry},
    "books: authorised, no details": authorisation(psp_reference=None, amount=None),
    "books: authorised, other amount": authorisation(amount=Money("EUR", 500)),
    "books: authorised, other currency": authorisation(amount=Money("USD", 1099)),
    "books: authorised, other PSP reference": authorisation(psp_reference=OTHER_PSP),
    "books: refused, other PSP reference": authorisation(success=False, psp_reference=OTHER_PSP),
    "books: refused, report covers the day": authorisation(success=False, covers_day=True),
    "books: cancelled, other PSP reference": books(BooksEntry.CANCELLED, psp_reference=OTHER_PSP),
    "books: refused, no details": authorisation(success=False, psp_reference=None, amount=None),
    "books: cancelled, no details": books(BooksEntry.CANCELLED, psp_reference=None, amount=None),
    **{f"books: {entry}, effective at {at}": books(entry, effective_at=at) for entry in BooksEntry for at in _TIMES},
    "report is silent": ReportSilent(source="report:2025-03-14"),
}

_FROM_PEOPLE: Final[Mapping[str, Evidence]] = {
    "abort asked": AbortAsked(asked_by="till-4"),
    "check asked": CheckAsked(asked_by="mira"),
    "ruled approved, no amount": ruling(Outcome.APPROVED, authorised_minor=None),
    **{f"ruled {outcome}": ruling(outcome) for outcome in Outcome},
}

_FROM_CLOCKS: Final[Mapping[str, Evidence]] = {"send_by passed": SendByPassed()}

#: Everything that can reach us without an act of our own code: terminals, platform, books, people, clocks.
OUTSIDE: Final[tuple[Fact, ...]] = tuple(
    Fact(name, evidence)
    for group in (_FROM_TERMINALS, _FROM_EXCHANGES, _FROM_BOOKS, _FROM_PEOPLE, _FROM_CLOCKS)
    for name, evidence in group.items()
)

CLAIMED: Final = Fact("send started", SendStarted())
WINDOW_PASSED: Final = Fact("answer window passed", AnswerWindowPassed())

#: Transactions in every stage, with each memory that a guard looks at.
VARIANTS: Final[tuple[Transaction, ...]] = (
    *(transaction(stage) for stage in Stage),
    transaction(Stage.QUEUED, books=booked()),
    *(transaction(stage, abort_asked=True) for stage in (Stage.SENT, Stage.UNKNOWN)),
    *(transaction(stage, books=booked()) for stage in (Stage.SENT, Stage.UNKNOWN)),
    *(transaction(stage, books=booked(psp_reference=OTHER_PSP)) for stage in (Stage.SENT, Stage.UNKNOWN)),
    *(transaction(stage, books=booked(authorised=False)) for stage in (Stage.SENT, Stage.UNKNOWN)),
    *(
        transaction(stage, books=booked(authorised=False))
        for stage in (Stage.QUEUED, Stage.DISPUTED, Stage.NOT_PERFORMED, Stage.NOT_CHARGED)
    ),
    *(transaction(stage, books=booked(effective_at=LATER)) for stage in (Stage.SENT, Stage.DISPUTED, Stage.CHARGED)),
    *(transaction(stage, books=booked(psp_reference=None, amount=None)) for stage in (Stage.UNKNOWN, Stage.DISPUTED)),
    transaction(Stage.UNKNOWN, books=booked(), refused_with="http-401"),
    *(transaction(stage, refused_with="http-401") for stage in (Stage.SENT, Stage.UNKNOWN)),
    *(transaction(stage, checked_at=NOW - timedelta(seconds=1)) for stage in (Stage.SENT, Stage.UNKNOWN)),
    transaction(Stage.UNKNOWN, not_found_at=NOW - timedelta(seconds=31), checks=1, asked_since_unknown=True),
    transaction(Stage.UNKNOWN, not_found_at=NOW - timedelta(seconds=29), checks=1, asked_since_unknown=True),
    transaction(Stage.UNKNOWN, not_found_at=NOW - timedelta(seconds=31), checks=1, books=booked()),
    transaction(Stage.UNKNOWN, asked_since_unknown=True, checks=1),
    transaction(Stage.UNKNOWN, sent_at=NOW - timedelta(hours=49), checks=40),
    transaction(Stage.DISPUTED, sent_at=NOW - timedelta(hours=49)),
    transaction(Stage.DISPUTED, sent_at=None, reason=Reason.NEVER_SENT),
    transaction(Stage.NOT_PERFORMED, sentinel=False, sent_at=None, reason=Reason.EXPIRED),
    transaction(Stage.NOT_PERFORMED, sentinel=False, reason=Reason.TERMINAL_BUSY),
    transaction(Stage.NOT_PERFORMED, reason=Reason.REFUSED_BY_PLATFORM, refused_with="http-401"),
    transaction(Stage.NOT_CHARGED, outcome=Outcome.ABORTED, sent_at=None, reason=Reason.ABORTED_BEFORE_SEND),
    transaction(Stage.NOT_CHARGED, outcome=Outcome.CANCELLED),
    transaction(Stage.CHARGED, provisional=True),
    transaction(Stage.CHARGED, outcome=Outcome.PARTIALLY_APPROVED, authorised_minor=700),
    transaction(Stage.CHARGED, late=True, sent_at=None),
    absent(),
    by_books(),
    *(ruled(outcome) for outcome in (Outcome.APPROVED, Outcome.DECLINED, Outcome.NOT_PERFORMED)),
)
