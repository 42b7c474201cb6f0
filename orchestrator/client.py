"""What a backend service imports: take payments over HTTP. Needs httpx and pydantic, and nothing else of ours.

::

    with Counterfoil("https://counterfoil.example", api_key="…") as counterfoil:
        payment = counterfoil.payments.create(reference="order-1", poi_id="V400m-324000123", amount=(1050, "EUR"))
        payment = counterfoil.payments.wait(payment.id, timeout=180)
        if payment.charged is None: ...  # not known yet: do not hand out goods, and do not ask for the money again
"""

import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

__all__ = [
    "Card",
    "Conversion",
    "Counterfoil",
    "CounterfoilError",
    "Money",
    "Payment",
    "Payments",
    "Receipt",
    "Receipts",
    "Refund",
]

TRIES_MAX = 3  # of one call that is safe to repeat: enough for a restart or a lost connection, then the caller decides
RETRY_AFTER_S = (0.2, 0.8)  # before the second try and the third; short, since a shopper stands at the terminal
LONG_POLL_S_MAX = 30  # of one request of `wait`; the API's own limit
POLL_PAUSE_S = 0.5  # between requests of `wait` where a proxy or an outage ends them early


class CounterfoilError(Exception):
    """The API refused, or could not be reached. The fields are those of its problem document (RFC 9457).

    ``status`` is None when no answer came: whether the call took effect is then not known, and repeating it with the
    same ``idempotency_key`` is safe.
    """

    def __init__(self, title: str, *, status: int | None = None, problem: Mapping[str, Any] | None = None) -> None:
        members = problem or {}
        self.status = status
        self.title = str(members.get("title") or title)
        self.type = str(members.get("type") or "about:blank")
        self.detail = _text(members.get("detail"))
        self.field = _text(members.get("field"))
        self.payment_id = _text(members.get("payment_id"))
        #: Of the call that failed, where it has one: give it again to repeat the call safely.
        self.idempotency_key: str | None = None
        super().__init__(f"{self.title}: {self.detail}" if self.detail else self.title)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True)


Answer = TypeVar("Answer", bound=_Answer)


class Money(_Answer):
    """An amount in minor units of the platform's currency table."""

    currency: str
    value: int


class Card(_Answer):
    """What may be known of a card."""

    brand: str | None = None
    last4: str | None = None
    entry_mode: str | None = None
    funding: str | None = None


class Conversion(_Answer):
    """What the shopper was offered to pay in the card's own currency; the merchant is paid as asked."""

    amount: Money
    rate: str | None = None
    markup: str | None = None
    accepted: bool | None = None


class Payment(_Answer):
    """A payment as the API shows it. ``charged`` is None while nobody knows; members that are new are kept."""

    id: UUID
    reference: str
    state: Literal["pending", "unknown", "confirmed", "reconciled"]
    amount: Money
    merchant_account: str | None = None
    poi_id: str | None = None
    service_id: str | None = None
    send_by: datetime | None = None
    reason: str | None = None
    outcome: str | None = None
    charged: bool | None = None
    authorised_amount: Money | None = None
    refunded_amount: Money | None = None
    tip: Money | None = None
    cashback: Money | None = None
    surcharge: Money | None = None
    dcc: Conversion | None = None
    psp_reference: str | None = None
    tender_reference: str | None = None
    sale_reference_id: str | None = None
    card: Card | None = None
    auth_code: str | None = None
    refusal_reason: str | None = None
    signature: str | None = None  # "captured" on the screen, or "required" on the cashier's receipt
    late: bool = False
    provisional: bool = False
    created_at: datetime | None = None
    sent_at: datetime | None = None
    answer_by: datetime | None = None
    concluded_at: datetime | None = None
    reconciled_at: datetime | None = None
    sequence: int = 0


class Receipt(_Answer):
    """What the terminal wants printed: line by line, and as text of 40 columns."""

    whose: str = Field(alias="copy")  # "cashier", "customer" or "other"
    text: str
    signature_required: bool = False
    lines: tuple[Mapping[str, Any], ...] = ()


class Receipts(_Answer):
    """A payment's receipts, in the order in which they are printed."""

    data: tuple[Receipt, ...]
    at: datetime | None = None


class Refund(_Answer):
    """A refund as the API shows it. ``refunded`` is None while nobody knows: the platform tells within days."""

    id: UUID
    state: str
    reference: str | None = None
    payment_id: UUID | None = None
    amount: Money | None = None
    merchant_account: str | None = None
    poi_id: str | None = None
    service_id: str | None = None
    send_by: datetime | None = None
    outcome: str | None = None
    reason: str | None = None
    refunded: bool | None = None
    psp_reference: str | None = None
    asked_by: str | None = None
    approved_by: str | None = None
    created_at: datetime | None = None
    sent_at: datetime | None = None
    answer_by: datetime | None = None
    concluded_at: datetime | None = None
    reconciled_at: datetime | None = None
    sequence: int = 0


def _amount(amount: Money | tuple[int, str]) -> dict[str, Any]:
    if isinstance(amount, Money):
        return {"currency": amount.currency, "value": amount.value}
    value, currency = amount
    if type(value) is not int or type(currency) is not str:  # True and 10.5 are not minor units
        raise TypeError('an amount is (minor units, currency), such as (1050, "EUR")')
    return {"currency": currency, "value": value}


def _path(payment_id: UUID | str, act: str = "") -> str:
    return f"/v1/payments/{quote(str(payment_id), safe='')}{act}"


def _parse(model: type[Answer], content: Any, key: str | None = None) -> Answer:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        names = ", ".join(sorted({str(each["loc"][0]) for each in error.errors(include_input=False) if each["loc"]}))
        failure = CounterfoilError(
            f"the answer is not a {model.__name__.lower()}; see: {names or 'all of it'}", status=httpx.codes.OK
        )
        failure.idempotency_key = key
        raise failure from None


class Payments:
    """The calls about payments. Each raises `CounterfoilError`, and none raises because a payment is `unknown`."""

    def __init__(self, api: "Counterfoil") -> None:
        self._api = api

    def create(
        self,
        *,
        reference: str,
        poi_id: str,
        amount: Money | tuple[int, str],
        idempotency_key: str | None = None,
        merchant_account: str | None = None,
        send_by_s: int | None = None,
        metadata: Mapping[str, str] | None = None,
        tender_options: Any = None,
        operator_id: str | None = None,
        operator_language: str | None = None,
        shift_number: str | None = None,
        sale_reference_id: str | None = None,
        shopper_reference: str | None = None,
        recurring_processing_model: str | None = None,
        callback_url: str | None = None,
        override_reason: str | None = None,
        override_by: str | None = None,
    ) -> Payment:
        """Ask for a payment. It is durable when this returns; its outcome comes later, see `wait`.

        Without ``idempotency_key`` one is made, and kept over the tries of this call. Whoever may have to repeat the
        call after a crash of their own gives one that they stored first.
        """
        body = {
            "reference": reference,
            "poi_id": poi_id,
            "amount": _amount(amount),
            "merchant_account": merchant_account,
            "send_by_s": send_by_s,
            "metadata": dict(metadata) if metadata else None,
            "tender_options": tender_options,
            "operator_id": operator_id,
            "operator_language": operator_language,
            "shift_number": shift_number,
            "sale_reference_id": sale_reference_id,
            "shopper_reference": shopper_reference,
            "recurring_processing_model": recurring_processing_model,
            "callback_url": callback_url,
            "override_reason": override_reason,
            "override_by": override_by,
        }
        given = {name: value for name, value in body.items() if value is not None}
        key = idempotency_key or str(uuid4())
        return _parse(Payment, self._api.call("POST", "/v1/payments", body=given, key=key), key)

    def get(self, payment_id: UUID | str) -> Payment:
        return _parse(Payment, self._api.call("GET", _path(payment_id)))

    def wait(self, payment_id: UUID | str, timeout: float) -> Payment:
        """The payment once it has an outcome or is `unknown`, or as it is after ``timeout`` seconds.

        An outage of the API in between is sat out; raises only when the payment could not be read even once, or when
        the API refuses.
        """
        deadline = time.monotonic() + timeout
        payment: Payment | None = None
        while True:
            left_s = deadline - time.monotonic()
            asked_at = time.monotonic()
            try:
                wait_s = max(0, min(LONG_POLL_S_MAX, int(left_s)))
                payment = _parse(Payment, self._api.call("GET", _path(payment_id), wait_s=wait_s, tries=1))
            except CounterfoilError as error:
                if not _worth_a_retry(error) or (payment is None and time.monotonic() >= deadline):
                    raise
            if payment is not None and (payment.state != "pending" or time.monotonic() >= deadline):
                return payment
            pause_s = asked_at + POLL_PAUSE_S - time.monotonic()
            time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))

    def abort(self, payment_id: UUID | str) -> None:
        """Ask to stop it. It may be charged all the same: the outcome says."""
        self._api.call("POST", _path(payment_id, "/abort"), body={})

    def check(self, payment_id: UUID | str) -> None:
        """Have the terminal asked now; what it says shows in the payment."""
        self._api.call("POST", _path(payment_id, "/status-checks"), body={})

    def receipts(self, payment_id: UUID | str) -> Receipts:
        """What the terminal wants printed. Where there is nothing, the error's type ends in ``no-receipts``."""
        return _parse(Receipts, self._api.call("GET", _path(payment_id, "/receipts")))

    def reprint(self, payment_id: UUID | str) -> None:
        """Have the terminal asked for the receipts once more."""
        self._api.call("POST", _path(payment_id, "/receipts"), body={})

    def refund(
        self,
        payment_id: UUID | str,
        reference: str,
        amount: Money | tuple[int, str],
        idempotency_key: str | None = None,
        poi_id: str | None = None,
    ) -> Refund:
        """Pay back, in part or in full, over the payment's terminal or another one. The key is as for `create`."""
        body = {"reference": reference, "amount": _amount(amount)} | ({"poi_id": poi_id} if poi_id else {})
        key = idempotency_key or str(uuid4())
        return _parse(Refund, self._api.call("POST", _path(payment_id, "/refunds"), body=body, key=key), key)

    def refunds(self, payment_id: UUID | str) -> list[Refund]:
        """What was paid back of it, oldest first, as it stands now."""
        page = self._api.call("GET", _path(payment_id, "/refunds"))
        return [_parse(Refund, each) for each in page["data"]]

    def get_refund(self, refund_id: UUID | str) -> Refund:
        return _parse(Refund, self._api.call("GET", f"/v1/refunds/{quote(str(refund_id), safe='')}"))


class Counterfoil:
    """A connection to the API. May be shared by threads; close it, or use it in a ``with``."""

    def __init__(self, base_url: str, api_key: str, timeout_s: float = 10) -> None:
        self._timeout_s = timeout_s
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {api_key}", "Accept": "application/json"},
            timeout=timeout_s,
            follow_redirects=False,  # a payment goes where it was addressed
        )
        self.payments = Payments(self)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        key: str | None = None,
        wait_s: int = 0,
        tries: int = TRIES_MAX,
    ) -> Any:
        """One call of the API, repeated where no answer or a server's failure came; every call here is safe to repeat.

        Returns the JSON of the answer, None for an empty one. Raises `CounterfoilError`.
        """
        request = self._http.build_request(
            method,
            path,
            json=body,
            headers={"Idempotency-Key": key} if key else None,
            params={"wait": wait_s} if wait_s else None,
            timeout=self._timeout_s + wait_s,
        )
        for attempt in range(1, tries + 1):
            try:
                return _read(self._send(request))
            except CounterfoilError as error:
                error.idempotency_key = key
                if attempt == tries or not _worth_a_retry(error):
                    raise
            time.sleep(RETRY_AFTER_S[attempt - 1])
        raise AssertionError("the last try returns or raises")

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request)
        except httpx.TransportError as error:
            raise CounterfoilError(f"no answer ({type(error).__name__})") from error


def _worth_a_retry(error: CounterfoilError) -> bool:
    return error.status is None or error.status >= httpx.codes.INTERNAL_SERVER_ERROR


def _read(response: httpx.Response) -> Any:
    try:
        content = response.json() if response.content else None
    except ValueError:
        content = None
    if response.is_success and (content is not None or not response.content):
        return content
    title = f"HTTP {response.status_code}"
    if response.is_success:
        title = "the answer is not JSON; is this Counterfoil's address?"
    raise CounterfoilError(title, status=response.status_code, problem=content if isinstance(content, dict) else None)
