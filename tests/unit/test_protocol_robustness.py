"""Whatever a server or a terminal sends, the reading ends in evidence or in an error of the protocol."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import RemoteProtocolError
from orchestrator.evidence import AnswerMissing, Evidence, RequestRejected, ResultReported
from orchestrator.terminal_api.interpret import read_abort_answer, read_payment_answer, read_status_answer
from orchestrator.terminal_api.notifications import PushedReject, PushedResponse, read_notification
from tests.protocol_vectors import ENTRIES, body, transaction

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**32), 10**32)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters())
    | st.sampled_from(
        ["Success", "Partial", "Failure", "Reject", "N/A", "EUR", "1e9", "message=%ff%zz", "e30=", "\x00"]
    )
)
names = st.text(max_size=5) | st.sampled_from(
    ["SaleToPOIResponse", "SaleToPOIRequest", "MessageHeader", "PaymentResponse", "Response", "EventNotification"]
)
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
REAL = [
    json.loads(body(name))
    for name, entry in ENTRIES.items()
    if entry["file"].endswith(".json")
    and name.startswith(("responses/payment", "responses/status", "gateway/reject", "notifications/"))
]


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from paths(item, (*path, name))


def replaced(value: Any, path: tuple[str | int, ...], by: Any) -> Any:
    if not path:
        return by
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], by)
    return copy


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A real message with up to three of its values replaced by anything."""
    value = draw(st.sampled_from(REAL))
    for _ in range(draw(st.integers(0, 3))):
        value = replaced(value, draw(st.sampled_from(list(paths(value)))), draw(anything))
    return json.dumps(value).encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real message cut short, or with a few bytes flipped."""
    text = bytearray(json.dumps(draw(st.sampled_from(REAL))).encode())
    for _ in range(draw(st.integers(0, 3))):
        text[draw(st.integers(0, len(text) - 1))] = draw(st.integers(0, 255))
    return bytes(text[: draw(st.integers(0, len(text)))])


bodies = anything.map(lambda value: json.dumps(value).encode()) | spoiled() | damaged() | st.binary(max_size=60)
statuses = st.sampled_from([200, 200, 200, 400, 401, 404, 422, 429, 500])


def assert_storable(evidence: Evidence) -> None:
    for field in dataclasses.fields(evidence):
        value = getattr(evidence, field.name)
        if isinstance(value, str):
            value.encode("utf-8")
            assert "\x00" not in value
            assert len(value) <= 300


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(statuses, bodies, st.booleans())
def test_any_answer_to_a_payment_becomes_evidence_that_can_be_stored(
    status: int, text: bytes, expects_result: bool
) -> None:
    found = read_payment_answer(status, text, transaction(), expects_result=expects_result)

    assert found is not None or not expects_result
    if found is not None:
        assert found.digest
        assert_storable(found)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(statuses, bodies)
def test_any_answer_to_a_status_check_becomes_evidence_that_can_be_stored(status: int, text: bytes) -> None:
    found = read_status_answer(status, text, transaction(), status_service_id="sta0000001")

    assert found.digest
    assert_storable(found)
    assert_storable(read_abort_answer(status, text))


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(bodies)
def test_any_notification_is_read_or_refused_by_the_protocols_own_errors(text: bytes) -> None:
    try:
        found = read_notification(text)
    except RemoteProtocolError:
        return

    if isinstance(found, PushedResponse):
        result = found.result_for(transaction(), [b"key"])
        assert result is None or not result.authentic
        if result:
            assert_storable(result)
    if isinstance(found, PushedReject) and (evidence := found.evidence_for(transaction())):
        assert_storable(evidence)


@given(st.data())
def test_an_answer_cut_short_is_never_a_result(data: st.DataObject) -> None:
    whole = body("responses/payment_approved").strip()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]

    assert isinstance(read_payment_answer(200, cut, transaction(), expects_result=False), AnswerMissing)


@given(st.binary(max_size=60) | anything.map(lambda value: json.dumps(value).encode()))
def test_nothing_made_up_is_ever_a_result(text: bytes) -> None:
    found = read_payment_answer(200, text, transaction(), expects_result=True)

    assert not isinstance(found, ResultReported | RequestRejected)


@pytest.mark.parametrize("repeat", [100_000, 1_000_000])
def test_deep_nesting_is_refused_at_no_cost(repeat: int) -> None:
    found = read_payment_answer(200, b'{"a":' * repeat, transaction(), expects_result=True)

    assert isinstance(found, AnswerMissing)
    assert found.why in {"bad-json-too-deep", "bad-json-too-long"}
