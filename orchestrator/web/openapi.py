"""The description at ``/openapi.json``: what the framework finds, and what it cannot know."""

from collections.abc import Iterator
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from orchestrator.intake import Submission
from orchestrator.meaning import Alarm
from orchestrator.model import Outcome, Reason, State, Transport
from orchestrator.refunding.intake import PayoutBody, RefundBody
from orchestrator.refunds.model import RefundOutcome, RefundReason
from orchestrator.store.words import DifferenceKind, DifferenceState, RunState
from orchestrator.terminal_api.shown import Trouble
from orchestrator.web.alarms import ClosingBody
from orchestrator.web.problems import MEDIA_TYPE, TITLES, TYPE_BASE
from orchestrator.web.reconciliations import NoteBody, RunBody, SignOffBody
from orchestrator.web.ruling import RulingBody
from orchestrator.web.terminals import Hold, Move, Registration

_REF: Final = "#/components/schemas/"
_SECURITY: Final = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key; `counterfoil keys create` makes one."},
    "platform": {"type": "http", "scheme": "basic", "description": "As configured for the platform's notifications."},
}
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "The same on every retry of one submission; its scope is the merchant account.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_WAIT: Final = {
    "name": "wait",
    "in": "query",
    "description": "seconds to wait for an outcome or `unknown`",
    "schema": {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
}
#: What each operation answers, and what it takes, where a handler reads the body itself.
_ANSWERS: Final[dict[tuple[str, str], tuple[str, str]]] = {
    ("/v1/payments", "post"): ("201", "Payment"),
    ("/v1/payments", "get"): ("200", "PaymentPage"),
    ("/v1/payments/{payment_id}", "get"): ("200", "Payment"),
    ("/v1/payments/{payment_id}/journal", "get"): ("200", "JournalPage"),
    ("/v1/payments/{payment_id}/status-checks", "post"): ("202", "Payment"),
    ("/v1/payments/{payment_id}/abort", "post"): ("202", "Payment"),
    ("/v1/payments/{payment_id}/receipts", "get"): ("200", "Receipts"),
    ("/v1/payments/{payment_id}/receipts", "post"): ("202", "Payment"),
    ("/v1/payments/{payment_id}/ruling", "post"): ("200", "Payment"),
    ("/v1/payments/{payment_id}/refunds", "post"): ("201", "Refund"),
    ("/v1/payments/{payment_id}/refunds", "get"): ("200", "RefundPage"),
    ("/v1/refunds", "post"): ("201", "Refund"),
    ("/v1/refunds", "get"): ("200", "RefundPage"),
    ("/v1/refunds/{refund_id}", "get"): ("200", "Refund"),
    ("/v1/refunds/{refund_id}/journal", "get"): ("200", "JournalPage"),
    ("/v1/refunds/{refund_id}/status-checks", "post"): ("202", "Refund"),
    ("/v1/terminals", "get"): ("200", "TerminalPage"),
    ("/v1/terminals/{poi_id}", "get"): ("200", "Terminal"),
    ("/v1/terminals/{poi_id}", "put"): ("200", "Terminal"),
    ("/v1/terminals/{poi_id}/address", "put"): ("200", "Terminal"),
    ("/v1/terminals/{poi_id}/hold", "post"): ("200", "Terminal"),
    ("/v1/terminals/{poi_id}/release", "post"): ("200", "Terminal"),
    ("/v1/rejections", "get"): ("200", "RejectionPage"),
    ("/v1/alarms", "get"): ("200", "AlarmPage"),
    ("/v1/alarms/{alarm_id}/close", "post"): ("200", "Alarm"),
    ("/v1/callbacks", "get"): ("200", "CallbackPage"),
    ("/v1/callbacks/{callback_id}/redeliver", "post"): ("202", "Callback"),
    ("/v1/reconciliations", "post"): ("201", "Reconciliation"),
    ("/v1/reconciliations", "get"): ("200", "ReconciliationPage"),
    ("/v1/reconciliations/{run_id}", "get"): ("200", "Reconciliation"),
    ("/v1/reconciliations/{run_id}/differences", "get"): ("200", "DifferencePage"),
    ("/v1/reconciliations/{run_id}/sign-off", "post"): ("200", "Reconciliation"),
    ("/v1/differences", "get"): ("200", "DifferencePage"),
    ("/v1/differences/{difference_id}/{act}", "post"): ("200", "Difference"),
    ("/v1/reports/{name}", "put"): ("201", "Report"),
}
_BODIES: Final[dict[tuple[str, str], str]] = {
    ("/v1/alarms/{alarm_id}/close", "post"): "ClosingBody",
    ("/v1/payments", "post"): "Submission",
    ("/v1/payments/{payment_id}/ruling", "post"): "RulingBody",
    ("/v1/payments/{payment_id}/refunds", "post"): "RefundBody",
    ("/v1/refunds", "post"): "PayoutBody",
    ("/v1/terminals/{poi_id}", "put"): "Registration",
    ("/v1/terminals/{poi_id}/address", "put"): "Move",
    ("/v1/terminals/{poi_id}/hold", "post"): "Hold",
    ("/v1/reconciliations", "post"): "RunBody",
    ("/v1/reconciliations/{run_id}/sign-off", "post"): "SignOffBody",
    ("/v1/differences/{difference_id}/{act}", "post"): "NoteBody",
}
#: Operations that are named by an idempotency key.
_KEYED: Final = {("/v1/payments", "post"), ("/v1/payments/{payment_id}/refunds", "post"), ("/v1/refunds", "post")}


def document(app: FastAPI) -> dict[str, Any]:
    """Describe the API; made once."""
    if app.openapi_schema is None:
        description = get_openapi(title=app.title, version=app.version, routes=app.routes)
        components = description.setdefault("components", {})
        found = components.get("schemas", {})  # of queries; the framework's own errors are not what is answered
        components["schemas"] = _schemas() | {name: found[name] for name in found if "ValidationError" not in name}
        components["securitySchemes"] = _SECURITY
        for path, method, operation in _operations(description):
            _describe(path, method, operation)
        app.openapi_schema = description
    return app.openapi_schema


def _operations(description: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _describe(path: str, method: str, operation: dict[str, Any]) -> None:
    # The framework would show the handler's name; its docstring says it better.
    operation["summary"] = operation.get("description", operation["summary"]).splitlines()[0].rstrip(".")
    responses = operation["responses"]
    responses.pop("422", None)
    responses["default"] = {"description": "a problem", "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}}
    if path.startswith("/v1/"):
        operation["security"] = [{"key": []}]
    elif path.startswith("/notifications/"):
        operation["security"] = [{"platform": []}]
    if answer := _ANSWERS.get((path, method)):
        responses[answer[0]]["content"] = {"application/json": {"schema": _ref(answer[1])}}
    if body := _BODIES.get((path, method)):
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    if (path, method) in _KEYED:
        wait = [_WAIT] if path == "/v1/payments" else []
        operation["parameters"] = [*operation.get("parameters", []), _IDEMPOTENCY_KEY, *wait]
        responses["200"] = {**responses["201"], "description": "seen before"}
    if (path, method) == ("/v1/refunds", "post"):
        responses["202"] = {**responses["201"], "description": "waits for a second person"}
    if (path, method) == ("/v1/payments/{payment_id}/receipts", "get"):
        responses["200"]["content"] |= {"text/plain": {"schema": _TEXT}, "text/html": {"schema": _TEXT}}
    if path.endswith("/differences") and method == "get":
        responses["200"]["content"] |= {"text/csv": {"schema": _TEXT}}
    if (path, method) == ("/v1/reports/{name}", "put"):
        operation["requestBody"] = {"required": True, "content": {"text/csv": {}, "application/gzip": {}}}
    if (path, method) == ("/v1/reconciliations", "post"):
        responses["200"] = {**responses["201"], "description": "the same period waits already"}
    if (path, method) == ("/v1/terminals/{poi_id}", "put"):
        responses["201"] = {**responses["200"], "description": "registered"}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF + name}


def _schemas() -> dict[str, Any]:
    taken: dict[str, Any] = {}
    for model in (
        Submission,
        RefundBody,
        PayoutBody,
        RulingBody,
        Registration,
        Move,
        Hold,
        RunBody,
        NoteBody,
        SignOffBody,
        ClosingBody,
    ):
        schema = model.model_json_schema(ref_template=_REF + "{model}")
        taken |= schema.pop("$defs", {})
        taken[model.__name__] = schema
    shown = {
        "Payment": _payment(),
        "Refund": _refund(),
        "Line": _object(
            {**_all_text("at evidence event after hash", "before"), "sequence": _INTEGER, "detail": _OPEN},
        ),
        "Receipts": _receipts(),
        "Terminal": _terminal(),
        "Rejection": _object(_all_text("at idempotency_key reference problem detail", "field payment_id")),
        "Alarm": _alarm(),
        "Callback": _callback(),
        "Reconciliation": _reconciliation(),
        "Report": _report(),
        "Difference": _difference(),
        "Problem": _problem(),
    }
    pages = {f"{kind}Page": _page(item) for kind, item in _PAGES.items()}
    return dict(sorted({**taken, **shown, **pages}.items()))


_PAGES: Final = {
    "Payment": "Payment",
    "Refund": "Refund",
    "Journal": "Line",
    "Terminal": "Terminal",
    "Rejection": "Rejection",
    "Alarm": "Alarm",
    "Callback": "Callback",
    "Reconciliation": "Reconciliation",
    "Difference": "Difference",
}
_TEXT: Final = {"type": "string"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_INTEGER: Final = {"type": "integer"}
_FLAG: Final = {"type": "boolean"}
_MAYBE_FLAG: Final = {"type": ["boolean", "null"]}
_MAYBE_AMOUNT: Final = {"anyOf": [{"$ref": _REF + "Amount"}, {"type": "null"}]}
_OPEN: Final = {"type": ["object", "null"]}
_INSTANT: Final = {"type": "string", "format": "date-time"}
_MAYBE_INSTANT: Final = {"type": ["string", "null"], "format": "date-time"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _maybe(properties: dict[str, Any]) -> dict[str, Any]:
    return {**_object(properties), "type": ["object", "null"]}


def _all_text(always: str, maybe: str) -> dict[str, Any]:
    return dict.fromkeys(always.split(), _TEXT) | dict.fromkeys(maybe.split(), _MAYBE_TEXT)


def _one_of(values: Any, *, nullable: bool = False) -> dict[str, Any]:
    words: list[str | None] = [value.value for value in values]
    return {"enum": [*words, None]} if nullable else {"type": "string", "enum": words}


def _page(item: str) -> dict[str, Any]:
    return _object({"data": {"type": "array", "items": _ref(item)}, "next_cursor": _MAYBE_TEXT})


def _payment() -> dict[str, Any]:
    return _object(
        {
            **_all_text("id reference merchant_account poi_id service_id", "psp_reference tender_reference"),
            **_all_text("", "sale_reference_id auth_code refusal_reason"),
            "state": _one_of(State),
            "reason": _one_of(Reason, nullable=True),
            "outcome": _one_of(Outcome, nullable=True),
            "charged": {"type": ["boolean", "null"], "description": "null: not known yet"},
            "amount": _ref("Amount"),
            **dict.fromkeys(("authorised_amount", "refunded_amount", "tip", "cashback", "surcharge"), _MAYBE_AMOUNT),
            "dcc": _maybe({"amount": _ref("Amount"), **_all_text("", "rate markup"), "accepted": _MAYBE_FLAG}),
            "card": _maybe(_all_text("", "brand last4 entry_mode funding")),
            "signature": {"enum": ["captured", "required", None]},
            **dict.fromkeys(("late", "provisional"), _FLAG),
            **dict.fromkeys(("created_at", "send_by"), _INSTANT),
            **dict.fromkeys(("sent_at", "answer_by", "concluded_at", "reconciled_at"), _MAYBE_INSTANT),
            "sequence": _INTEGER,
        }
    )


def _receipts() -> dict[str, Any]:
    line = _object({**_all_text("", "label value key"), "bold": _FLAG})
    receipt = {
        "copy": {"type": "string", "enum": ["cashier", "customer", "other"]},
        "signature_required": _FLAG,
        "lines": {"type": "array", "items": line},
        "text": _TEXT,
    }
    return _object({"at": _INSTANT, "data": {"type": "array", "items": _object(receipt)}})


def _refund() -> dict[str, Any]:
    return _object(
        {
            **_all_text("id reference merchant_account poi_id service_id asked_by", "payment_id"),
            **_all_text("", "psp_reference approved_by"),
            "state": _one_of(State),
            "reason": _one_of(RefundReason, nullable=True),
            "outcome": _one_of(RefundOutcome, nullable=True),
            "refunded": {"type": ["boolean", "null"], "description": "null: not known yet"},
            "amount": _ref("Amount"),
            **dict.fromkeys(("created_at", "send_by"), _INSTANT),
            **dict.fromkeys(("sent_at", "answer_by", "concluded_at", "reconciled_at"), _MAYBE_INSTANT),
            "sequence": _INTEGER,
        }
    )


def _terminal() -> dict[str, Any]:
    return _object(
        {
            **_all_text("poi_id merchant_account", "store region cloud_api address"),
            "till_prints": _MAYBE_FLAG,
            "transport": _one_of(Transport),
            "trouble": _one_of(Trouble, nullable=True),
            "created_at": _INSTANT,
            **dict.fromkeys(("address_at", "trouble_at"), _MAYBE_INSTANT),
            "held": {**_object({"at": _INSTANT, **_all_text("by", "reason")}), "type": ["object", "null"]},
            "running": {**_object({"sent_at": _INSTANT, **_all_text("id reference", "")}), "type": ["object", "null"]},
            "queued": _INTEGER,
            "unknown": _INTEGER,
        }
    )


def _alarm() -> dict[str, Any]:
    return _object(
        {
            "id": _INTEGER,
            "name": _one_of(Alarm),
            "at": _INSTANT,
            "merchant_account": {"type": ["string", "null"], "description": "null: the whole installation"},
            **_all_text("", "payment_id refund_id reference poi_id closed_by closed_reason"),
            "sequence": {"type": ["integer", "null"]},
            "closed_at": _MAYBE_INSTANT,
        }
    )


def _callback() -> dict[str, Any]:
    maybe_integer = {"type": ["integer", "null"]}
    return _object(
        {
            **_all_text("id type host", "payment_id refund_id last_error"),
            **dict.fromkeys(("sequence", "last_status"), maybe_integer),
            "timestamp": _INSTANT,
            "data": {"type": "object"},
            "attempts": _INTEGER,
            **dict.fromkeys(("next_at", "delivered_at", "parked_at"), _MAYBE_INSTANT),
        }
    )


def _reconciliation() -> dict[str, Any]:
    problem = _object({**_all_text("problem", "file"), "line": {"type": ["integer", "null"]}})
    return _object(
        {
            **_all_text("id merchant_account started_by", ""),
            **{key: {"type": "string", "format": "date"} for key in ("from", "to")},
            "state": _one_of(RunState),
            "created_at": _INSTANT,
            **dict.fromkeys(("started_at", "finished_at"), _MAYBE_INSTANT),
            "progress": {"type": "object"},
            "reports": {"type": "array", "items": _ref("Report")},
            "problems": {"type": "array", "items": problem},
            "summary": _OPEN,
            "sign_off": _maybe(
                {
                    "at": _INSTANT,
                    **_all_text("by", "note"),
                    **dict.fromkeys(("open_differences", "own_differences"), _INTEGER),
                }
            ),
        }
    )


def _report() -> dict[str, Any]:
    return _object(
        {
            **_all_text("name", "kind"),
            **dict.fromkeys(("lines", "other_merchant_lines"), _INTEGER),
            **{key: {"type": ["string", "null"], "format": "date"} for key in ("first_day", "last_day")},
            "other_merchant_line_numbers": {"type": "array", "items": _INTEGER},
        }
    )


def _difference() -> dict[str, Any]:
    side = _maybe({"state": _MAYBE_TEXT, "amount": _MAYBE_AMOUNT})
    return _object(
        {
            **_all_text("id merchant_account source", "payment_id refund_id reference psp_reference changed_by note"),
            "kind": _one_of(DifferenceKind),
            "state": _one_of(DifferenceState),
            **{key: {**side, "required": []} for key in ("ours", "theirs")},
            "found_at": _INSTANT,
            "changed_at": _MAYBE_INSTANT,
        }
    )


def _problem() -> dict[str, Any]:
    types = {"type": "string", "enum": [TYPE_BASE + slug for slug in TITLES]}
    members = {"type": types, "title": _TEXT, "status": _INTEGER, "detail": _TEXT}
    found = _object(members)
    found["properties"] = {**members, "field": _TEXT, "payment_id": _TEXT}
    return found
