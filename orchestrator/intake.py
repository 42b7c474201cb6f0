"""A submission becomes a payment, or a refusal that names the field and the remedy. One path for HTTP and Celery."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final, Literal

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from orchestrator import tracing
from orchestrator.cards import mask_card_numbers
from orchestrator.errors import (
    AlreadyCharged,
    ConcurrentUpdate,
    IdempotencyConflict,
    InvalidSubmission,
    PaymentOpen,
    UnknownTerminal,
)
from orchestrator.evidence import SubmissionAccepted
from orchestrator.ids import new_id
from orchestrator.log_context import identity_of
from orchestrator.model import Money
from orchestrator.policy import DEFAULT_SEND_BY_S, MAX_SEND_BY_S, MIN_SEND_BY_S
from orchestrator.record import Bell
from orchestrator.store.database import Conflict
from orchestrator.store.rows import Ring, Row, detail_parameters, ring_of
from orchestrator.store.store import Store
from orchestrator.subscription import Announce, unheard
from orchestrator.terminal_api import money, strict_json
from orchestrator.terminal_api.service_ids import derive_service_id
from orchestrator.views import payment_json

log = structlog.get_logger()

#: Largest amount that the platform's JSON schema lets through in any currency, in minor units of two decimals.
MAX_AMOUNT_MINOR: Final = 9_999_999_999
MAX_METADATA_MEMBERS: Final = 20
_TRIES: Final = 5

TenderOption = Literal[
    "AllowPartialAuthorisation",
    "AskGiving",
    "AskGratuity",
    "BypassPin",
    "ForcedDecline",
    "MOTO",
    "ReceiptHandler",
    "SkipAIDPriority",
]


def _known_currency(code: str) -> str:
    try:
        money.decimals(code)
    except money.InvalidAmount:
        message = "is not a currency that the platform lists"
        raise ValueError(message) from None
    return code


def _no_card_number(text: str) -> str:
    if mask_card_numbers(text) != text:
        message = "looks like a card number, which must never be stored here; leave it out"
        raise ValueError(message)
    return text


def _reference(text: str) -> str:
    if ":" in text or "\\" in text:
        message = "has a ':' or '\\', which webhook signatures cannot tell apart"
        raise ValueError(message)
    return text


_PRINTABLE = r"^[ -~]+$"
#: Text in any language, without control characters, which no database takes and no journal shows.
_READABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"
#: A person's word for a member may be anything; more than this of it is told to nobody.
_MEMBER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}", re.ASCII)
#: No shopper waits since then; a time before it is a mistake, and the first years are none that a database can move.
_EARLIEST_SUBMISSION = datetime(2020, 1, 1, tzinfo=UTC)
Reference = Annotated[
    str, StringConstraints(min_length=1, max_length=80, pattern=_PRINTABLE), AfterValidator(_reference)
]
Printable = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=_PRINTABLE)]
PoiId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,16}-[A-Za-z0-9]{1,32}$")]
SendByS = Annotated[int, Field(ge=MIN_SEND_BY_S, le=MAX_SEND_BY_S)]
Merchant = Printable
Shopper = Annotated[Printable, StringConstraints(min_length=3), AfterValidator(_no_card_number)]
#: Free text that the platform keeps with the payment.
Note = Annotated[
    str, StringConstraints(min_length=1, max_length=80, pattern=_READABLE), AfterValidator(_no_card_number)
]
MetadataName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,40}$")]
MetadataValue = Annotated[str, StringConstraints(max_length=200, pattern=r"^[ -~]*$"), AfterValidator(_no_card_number)]


#: What would be right, by field.
REMEDIES: Final[Mapping[str, str]] = {
    "reference": "1 to 80 printable ASCII characters without ':' and '\\'",
    "poi_id": "the terminal's POIID, model and serial number, such as V400m-324688170",
    "amount": 'an object such as {"currency": "EUR", "value": 1050} for 10.50 EUR',
    "amount.currency": "a three-letter code that the platform lists, such as EUR",
    "amount.value": "a whole number of minor units above zero: 10.50 EUR is 1050",
    "send_by_s": f"a whole number of seconds from {MIN_SEND_BY_S} to {MAX_SEND_BY_S}",
    "metadata": f"up to {MAX_METADATA_MEMBERS} members; names of 1 to 40 letters, digits and '_', ASCII text up to 200",
    "tender_options": "a list of the platform's tender options, such as AskGratuity",
    "operator_id": "who serves the till, 1 to 80 characters without line breaks",
    "operator_language": "two small letters by ISO 639-1, such as nl",
    "shift_number": "1 to 80 characters without line breaks",
    "sale_reference_id": "1 to 80 printable ASCII characters, the same for every payment of one sale",
    "shopper_reference": "your name for the shopper, 3 to 80 printable ASCII characters, nothing personal",
    "recurring_processing_model": "CardOnFile, Subscription or UnscheduledCardOnFile, together with shopper_reference",
    "callback_url": "an http or https URL of at most 500 characters",
    "override_reason": "3 to 500 characters without line breaks, together with override_by",
    "override_by": "the person who decided, 1 to 120 characters, together with override_reason",
    "merchant_account": "1 to 80 printable ASCII characters",
    "idempotency_key": "1 to 255 printable ASCII characters, the same on every retry",
    "submitted_at": "a time with its zone, such as 2026-01-31T12:00:00Z",
}
#: Members named in a field's path, such as ``amount.value``.
_DEPTH: Final = 3
#: A larger number in a field's path is nobody's place in a list.
_INDEX_MAX: Final = 1000


class Strict(BaseModel):
    """A body that is taken: members of these names and types alone, and no value in an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Amount(Strict):
    """Money in minor units: 10.50 EUR is ``{"currency": "EUR", "value": 1050}``."""

    currency: Annotated[str, AfterValidator(_known_currency)]
    value: Annotated[int, Field(gt=0, le=MAX_AMOUNT_MINOR)]

    @model_validator(mode="after")
    def _can_be_sent(self) -> "Amount":
        try:
            money.to_major(Money(self.currency, self.value))
        except money.InvalidAmount:
            message = "is more than the platform takes in this currency"
            raise ValueError(message) from None
        return self


class Submission(Strict):
    """What a caller asks of us, once; identified by its idempotency key within the merchant account."""

    reference: Reference
    poi_id: PoiId
    amount: Amount
    send_by_s: SendByS = DEFAULT_SEND_BY_S
    metadata: Annotated[dict[MetadataName, MetadataValue], Field(max_length=MAX_METADATA_MEMBERS)] = Field(
        default_factory=dict
    )
    tender_options: Annotated[list[TenderOption], Field(max_length=8)] = Field(default_factory=list)
    operator_id: Note | None = None
    operator_language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] | None = None
    shift_number: Note | None = None
    sale_reference_id: Printable | None = None
    shopper_reference: Shopper | None = None
    recurring_processing_model: Literal["CardOnFile", "Subscription", "UnscheduledCardOnFile"] | None = None
    callback_url: Annotated[str, StringConstraints(max_length=500, pattern=r"^https?://[!-~]+$")] | None = None
    override_reason: Annotated[str, StringConstraints(min_length=3, max_length=500, pattern=_READABLE)] | None = None
    override_by: Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=_READABLE)] | None = None

    @model_validator(mode="after")
    def _token_has_an_owner(self) -> "Submission":
        if self.recurring_processing_model is not None and self.shopper_reference is None:
            raise PydanticCustomError(
                "recurring_processing_model", "needs shopper_reference, under which a token is kept"
            )
        return self

    @model_validator(mode="after")
    def _override_is_whole(self) -> "Submission":
        if (self.override_reason is None) != (self.override_by is None):
            missing = "override_reason" if self.override_reason is None else "override_by"
            raise PydanticCustomError(missing, "is missing")
        if "counterfoil_tag" in self.metadata:
            raise PydanticCustomError("metadata", "counterfoil_tag is ours; choose another name")
        return self


class Envelope(Strict):
    """Who submits, under which key, and since when the shopper waits."""

    merchant_account: Merchant
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=_PRINTABLE)]
    submitted_at: Annotated[datetime, Field(strict=False)] | None = None

    @model_validator(mode="after")
    def _has_a_zone(self) -> "Envelope":
        if self.submitted_at is None:
            return self
        if self.submitted_at.tzinfo is None:
            raise PydanticCustomError("submitted_at", "has no time zone")
        if self.submitted_at < _EARLIEST_SUBMISSION:
            raise PydanticCustomError("submitted_at", "is long past")
        return self


@dataclass(frozen=True, slots=True)
class Accepted:
    """The payment's row, and whether this submission created it."""

    row: Row
    created: bool


@dataclass(frozen=True, slots=True)
class Intake:
    """Accepts submissions."""

    store: Store
    bell: Bell
    sale_id: str
    callback_url: str | None = None
    #: What a submission's own ``callback_url`` may begin with; none where nothing could sign what is told.
    callback_schemes: tuple[str, ...] = ("https://", "http://")
    announce: Announce = unheard

    def submit(self, body: Mapping[str, Any], envelope: Mapping[str, Any]) -> Accepted:
        """Accept a submission once; durable when this returns.

        Raises:
            SubmissionRejected: why not, with the field and the remedy; nothing was written.
            StoreUnavailable: the database did not answer; the same submission may be sent again.
        """
        submission, checked = validate(body, envelope)
        self._check_callback(submission.callback_url)
        return self._accept(submission, checked)

    def _check_callback(self, url: str | None) -> None:
        if url is None or url.startswith(self.callback_schemes):
            return
        remedy = (
            "must begin with https://" if self.callback_schemes else "needs COUNTERFOIL_CALLBACK_SECRETS, which sign"
        )
        raise InvalidSubmission(f"callback_url: {remedy}", field="callback_url")

    def _accept(self, submission: Submission, envelope: Envelope) -> Accepted:
        print_of_body = fingerprint(submission)
        for salt in range(_TRIES):
            parameters = self._parameters(submission, envelope, print_of_body, salt)
            try:
                row = self.store.accept(parameters)
            except Conflict:  # the same key a moment ago, or a ServiceID that another key derived
                continue
            if row["refused"] is None:
                _tell(row)
                self._ring(row)
                self.announce("payment.pending", row["created_at"], partial(payment_json, row))
                return Accepted(row, created=True)
            return self._refused(row, print_of_body)
        raise ConcurrentUpdate

    def _ring(self, row: Row) -> None:
        if not row["busy"]:
            self.bell([_first_ring(row)])

    def _refused(self, row: Row, print_of_body: str) -> Accepted:
        match row["refused"]:
            case "same" if row["same_fingerprint"] == print_of_body:
                return Accepted(self.store.row(row["same_id"]), created=False)
            case "same":
                raise IdempotencyConflict(field="idempotency_key", payment_id=row["same_id"])
            case "unknown-terminal":
                raise UnknownTerminal(field="poi_id")
            case "payment-open":
                raise PaymentOpen(field="reference", payment_id=row["open_id"])
            case _:
                raise AlreadyCharged(field="reference", payment_id=row["charged_id"])

    def _parameters(self, submission: Submission, envelope: Envelope, printed: str, salt: int) -> dict[str, Any]:
        terms = {
            "merchant_account": envelope.merchant_account,
            "reference": submission.reference,
            "poi_id": submission.poi_id,
            "sale_id": self.sale_id,
            "service_id": derive_service_id(envelope.merchant_account, "payment", "", envelope.idempotency_key, salt),
        }
        override = {"override_by": submission.override_by, "override_reason": submission.override_reason}
        amount = Money(submission.amount.currency, submission.amount.value)
        return {
            "id": new_id(),
            **terms,
            **override,
            "idempotency_key": envelope.idempotency_key,
            "fingerprint": printed,
            "currency": amount.currency,
            "amount_minor": amount.minor,
            "submitted_at": envelope.submitted_at,
            "send_by_s": submission.send_by_s,
            "options": _options(submission),
            "callback_url": submission.callback_url or self.callback_url,
            "trace": tracing.traceparent(),
            **detail_parameters(SubmissionAccepted(**terms, **override, amount=amount)),
        }


#: What the request to the terminal takes along.
_TAKEN_ALONG: Final = (
    "metadata",
    "tender_options",
    "operator_id",
    "operator_language",
    "shift_number",
    "sale_reference_id",
    "shopper_reference",
    "recurring_processing_model",
)


def _options(submission: Submission) -> dict[str, Any]:
    """What the request takes along, where anything was asked for."""
    return {name: value for name in _TAKEN_ALONG if (value := getattr(submission, name))}


def validate(body: Mapping[str, Any], envelope: Mapping[str, Any]) -> tuple[Submission, Envelope]:
    """Check every field; the first wrong one is named, with what is wrong and what would be right.

    Raises:
        InvalidSubmission: a field is wrong. Its text never quotes a value.
    """
    try:
        return Submission.model_validate(body), Envelope.model_validate(envelope)
    except ValidationError as error:
        raise refusal(error, REMEDIES) from None


def refusal(error: ValidationError, remedies: Mapping[str, str]) -> InvalidSubmission:
    """Name the first wrong field, what is wrong, and what would be right; never a value."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    parts = [_named(part) for part in first["loc"] if part != "[key]"][:_DEPTH]
    parts = parts or [first["type"]] * (first["type"] in remedies)  # a check of a whole names the member as its type
    field = ".".join(parts)
    message = "is no member" if first["type"] == "extra_forbidden" else _what(first["msg"])
    remedy = next((remedies[name] for name in (field, field.partition(".")[0]) if name in remedies), None)
    others = error.error_count() - 1
    detail = f"{field or 'the body'}: {message}" + (f"; {remedy}" if remedy else "")
    return InvalidSubmission(detail + (f" ({others} more)" if others else ""), field=field or None)


def _named(part: str | int) -> str:
    known = 0 <= part < _INDEX_MAX if isinstance(part, int) else _MEMBER_NAME.fullmatch(part)
    return str(part) if known else "?"


def _what(message: str) -> str:
    """Say what is wrong; a pattern is for the documentation, and what is right follows."""
    return "is not as it should be" if "pattern" in message else message.removeprefix("Value error, ")


def fingerprint(submission: Strict) -> str:
    """SHA-256 over the validated body in canonical JSON: equal for the same request however it was spelled."""
    return hashlib.sha256(
        strict_json.dumps_canonical(submission.model_dump(mode="json", exclude_defaults=True))
    ).hexdigest()


def _first_ring(row: Row) -> Ring:
    return ring_of({**row, "kind": "send", "payment_id": row["id"]})


def _tell(row: Row) -> None:
    """The one line, and the one span, that have both who asked and what it became."""
    identity = identity_of(row)
    log.info("accepted", **identity)
    tracing.note(**identity)
