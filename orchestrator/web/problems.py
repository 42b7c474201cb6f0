"""Errors as ``application/problem+json`` (RFC 9457): a stable type, a sentence, and the field. Never a payload."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from orchestrator.errors import (
    BrokerUnavailable,
    ConcurrentUpdate,
    IdempotencyConflict,
    NotFound,
    RemoteProtocolError,
    StoreUnavailable,
    SubmissionRejected,
)
from orchestrator.web.answers import json_bytes

TYPE_BASE: Final = "urn:counterfoil:problem:"
MEDIA_TYPE: Final = "application/problem+json"

#: Every problem type of the HTTP API; the documentation lists the same, and a test compares them.
TITLES: Final[dict[str, tuple[int, str]]] = {
    "malformed-body": (400, "The body is not the JSON that is asked for"),
    "missing-idempotency-key": (400, "The Idempotency-Key header is missing"),
    "unauthorized": (401, "The credentials are missing or not known"),
    "forbidden": (403, "The API key's role does not allow this"),
    "unreferenced-refunds-off": (403, "Refunds without a payment are switched off"),
    "not-found": (404, "There is no such object"),
    "no-receipts": (404, "There are no receipts of this payment"),
    "method-not-allowed": (405, "This method is not offered here"),
    "body-too-slow": (408, "The body did not arrive in time"),
    "idempotency-conflict": (409, "The idempotency key was used with another body"),
    "payment-open": (409, "An earlier payment of this reference has not ended"),
    "already-charged": (409, "An earlier payment of this reference was charged"),
    "not-charged": (409, "The payment is not charged, as far as is known"),
    "refund-exceeds-payment": (409, "The refund is more than is left of the payment"),
    "terminal-in-use": (409, "The terminal has payments that have not ended"),
    "not-unknown": (409, "Only an unknown payment is ruled on"),
    "ruling-stale": (409, "The payment has changed since it was looked at"),
    "run-not-done": (409, "Only a run that is done is signed off"),
    "differences-open": (409, "The run has open differences"),
    "already-signed": (409, "The run was signed off before"),
    "body-too-large": (413, "The body is larger than is taken"),
    "invalid-field": (422, "A field of the request is wrong"),
    "unknown-terminal": (422, "The terminal is not registered for the merchant account"),
    "submission-rejected": (422, "The submission was refused"),
    "internal": (500, "Something is wrong with this service; it has been noted"),
    "broker-unavailable": (503, "The broker did not take the message; send the same request again"),
    "store-unavailable": (503, "The database did not answer; send the same request again"),
    "too-many-streams": (503, "This process serves as many streams as it can; connect again"),
}

#: What a path or a query can get wrong beyond this is not worth a longer answer.
_FIELD_MAX_CHARS: Final = 80

#: When to send the same request again, in seconds.
_RETRY_AFTER_S: Final = "1"


class Problem(Exception):
    """An answer that is a problem document."""

    def __init__(
        self, slug: str, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(slug)
        self.slug = slug
        self.detail = detail
        self.headers = headers
        self.members = members


def problem_response(
    slug: str, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """Spell a problem document."""
    status, title = TITLES[slug]
    document = {"type": TYPE_BASE + slug, "title": title, "status": status, "detail": detail or title}
    document |= {name: str(value) for name, value in members.items() if value is not None}
    return Response(json_bytes(document), status, {**_headers(slug), **(headers or {})}, MEDIA_TYPE)


def _headers(slug: str) -> dict[str, str]:
    match slug:
        case "unauthorized":
            return {"www-authenticate": "Bearer"}
        case "store-unavailable" | "too-many-streams":
            return {"retry-after": _RETRY_AFTER_S}
        case "body-too-large" | "body-too-slow":  # the rest of the body would be read as the next request
            return {"connection": "close"}
        case _:
            return {}


#: What has an answer of its own; everything else that escapes a handler is ours to mend.
TOLD: Final[tuple[type[Exception], ...]] = (
    Problem,
    SubmissionRejected,
    RemoteProtocolError,
    NotFound,
    StoreUnavailable,
    ConcurrentUpdate,
    BrokerUnavailable,
    RequestValidationError,
    HTTPException,
)


def answer_to(error: Exception) -> Response:
    """Say what went wrong. The one place where errors become answers."""
    match error:
        case Problem():
            return problem_response(error.slug, error.detail, headers=error.headers, **error.members)
        case IdempotencyConflict():  # over HTTP the key is a header
            return problem_response(error.problem, str(error), field="Idempotency-Key", payment_id=error.payment_id)
        case SubmissionRejected():
            return problem_response(error.problem, str(error), field=error.field, payment_id=error.payment_id)
        case RemoteProtocolError():
            return problem_response("malformed-body", str(error), field=getattr(error, "member", None))
        case NotFound():
            return problem_response("not-found")
        case StoreUnavailable() | ConcurrentUpdate():
            return problem_response("store-unavailable")
        case BrokerUnavailable():
            return problem_response("broker-unavailable")
        case RequestValidationError():
            return _about_parameters(error)
        case HTTPException():
            return _about_routing(error)
        case _:
            return problem_response("internal")


def _about_parameters(error: RequestValidationError) -> Response:
    first = error.errors()[0]
    field = str(first["loc"][-1])[:_FIELD_MAX_CHARS]
    what = str(first["msg"]).partition(",")[0]  # what follows a comma can quote the value
    return problem_response("invalid-field", f"{field}: {what}", field=field)


def _about_routing(error: HTTPException) -> Response:
    slugs = {404: "not-found", 405: "method-not-allowed"}
    slug = slugs.get(error.status_code, "malformed-body" if error.status_code < 500 else "internal")
    return problem_response(slug, headers=error.headers)
