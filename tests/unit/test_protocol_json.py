import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import LocalProtocolError, RemoteProtocolError
from orchestrator.terminal_api import strict_json
from orchestrator.terminal_api.strict_json import MalformedJson

exact = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text()
values = st.recursive(exact, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "not-json"),
        (b"{", "not-json"),
        (b"<html>", "not-json"),
        (b'{"a":1} x', "not-json"),
        (b"\xef\xbb\xbf{}", "not-json"),
        (b'{"a":"\xff"}', "not-utf-8"),
        ('{"a":1}'.encode("utf-16"), "not-utf-8"),
        (b'{"a":NaN}', "not-a-number"),
        (b'{"a":-Infinity}', "not-a-number"),
        (b'{"a":' + b"9" * 31 + b"}", "number-too-long"),
        (b'{"a":0.' + b"1" * 31 + b"}", "number-too-long"),
        (b'{"a":1e999999999999999999999}', "number-out-of-range"),
        (b'{"a":1e99999999}', "number-out-of-range"),
        (b'{"a":1e-31}', "number-out-of-range"),
        (b"[" * 33 + b"]" * 33, "too-deep"),
        (b"[" * 100_000, "too-deep"),
        (b'{"a":' * 50_000, "too-deep"),
        (b'"' + b"a" * 262_144 + b'"', "too-long"),
    ],
)
def test_what_is_not_one_clear_json_text_is_refused(body: bytes, problem: str) -> None:
    with pytest.raises(MalformedJson) as refused:
        strict_json.loads(body)

    assert refused.value.problem == problem
    assert isinstance(refused.value, RemoteProtocolError)


def test_a_repeated_member_is_refused_by_name_and_without_its_value() -> None:
    with pytest.raises(MalformedJson) as refused:
        strict_json.loads(b'{"x":{"Result":"Failure","Result":"Success 4111111111111111"}}')

    assert refused.value.member == "Result"
    assert "4111" not in repr(refused.value) + str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("body", [b'{"a":4111111111111111 oops}', b'{"a":"4111111111111111\xff"}'])
def test_an_error_never_holds_the_payload(body: bytes) -> None:
    with pytest.raises(MalformedJson) as refused:
        strict_json.loads(body)

    assert "4111" not in str(refused.value) + repr(refused.value.__dict__)
    assert refused.value.__suppress_context__


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":"' + b"\\" * 200_000, b'"' + b'\\"' * 100_000, b'"' * 200_000])
def test_hostile_nesting_and_quoting_cost_no_time(body: bytes) -> None:
    started = time.process_time()

    with pytest.raises(MalformedJson):
        strict_json.loads(body)

    assert time.process_time() - started < 0.5


def test_brackets_inside_text_are_no_nesting() -> None:
    text = "[{" * 100 + '"\\'

    assert strict_json.loads(json.dumps({"a": text}).encode()) == {"a": text}


def test_nesting_up_to_the_limit_is_read() -> None:
    assert strict_json.loads(b"[" * 32 + b"]" * 32)


@pytest.mark.parametrize(
    ("text", "value"), [("10.10", Decimal("10.10")), ("1E+2", Decimal(100)), ("11", 11), ('"\\ud800"', "\ud800")]
)
def test_numbers_keep_their_exact_value(text: str, value: object) -> None:
    found = strict_json.loads(text.encode())

    assert found == value
    assert type(found) is type(value)


@given(values)
def test_what_is_written_reads_back_the_same(value: Any) -> None:
    assert strict_json.loads(strict_json.dumps(value), max_depth=10_000) == value


@given(st.dictionaries(st.text(), values))
def test_the_canonical_form_does_not_depend_on_order(value: dict[str, Any]) -> None:
    assert strict_json.dumps_canonical(value) == strict_json.dumps_canonical(dict(reversed(value.items())))


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6))
def test_a_decimal_is_written_as_a_plain_number(value: Decimal) -> None:
    text = strict_json.dumps(value).decode()

    assert "e" not in text.lower()
    assert Decimal(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(Decimal("10.50"), b"10.5"), (Decimal("1E+2"), b"100"), (Decimal("42.00"), b"42"), (Decimal(100), b"100")],
)
def test_a_number_is_as_short_as_it_can_be(value: Decimal, text: bytes) -> None:
    assert strict_json.dumps([value]) == b"[" + text + b"]"


@pytest.mark.parametrize("value", [1.5, {1: 2}, b"x", Decimal("NaN"), {"a": {1, 2}}])
def test_what_has_no_exact_json_is_not_written(value: object) -> None:
    with pytest.raises(LocalProtocolError):
        strict_json.dumps(value)
