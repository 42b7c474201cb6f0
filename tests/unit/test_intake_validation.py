"""Whatever somebody submits: it is accepted or refused with a sentence that quotes nothing of it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import intake
from orchestrator.errors import InvalidSubmission
from orchestrator.intake import REMEDIES, Envelope, Submission, fingerprint, validate
from orchestrator.terminal_api import money

GOOD: dict[str, Any] = {"reference": "ORDER-1", "poi_id": "V400m-1", "amount": {"currency": "EUR", "value": 1050}}
ENVELOPE: dict[str, Any] = {"merchant_account": "HarbourBakery", "idempotency_key": "k"}
MARK = "4111111111111111"

anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
marked = st.text(max_size=20).map(lambda text: f"{text}{MARK}{text}\x00")
members = st.sampled_from([*Submission.model_fields, *Envelope.model_fields, "unknown", MARK, "", "\x00"])


def refused(body: Any, envelope: Any) -> InvalidSubmission | None:
    try:
        validate(body, envelope)
    except InvalidSubmission as error:
        return error
    return None


@given(body=anything, envelope=anything)
def test_any_value_is_refused_or_accepted_and_nothing_else(body: Any, envelope: Any) -> None:
    error = refused(body, envelope)

    assert error  # no chance value is a whole submission
    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert error.field is None or len(error.field) <= 80


@given(changes=st.dictionaries(members, anything, min_size=1, max_size=3))
def test_a_wrong_member_of_a_good_submission_is_named(changes: dict[str, Any]) -> None:
    error = refused(GOOD | changes, ENVELOPE)

    if error is not None and error.field is not None:
        assert error.field.partition(".")[0] in {*changes, "?", "override_by", "override_reason"}
        assert str(error).startswith(f"{error.field}: ")


@given(name=members, value=marked, deep=st.booleans())
def test_a_refusal_never_quotes_a_value(name: str, value: str, deep: bool) -> None:
    wrong: Any = {value: [value]} if deep else value
    for body, envelope in [
        (GOOD | {name: wrong}, ENVELOPE),
        (GOOD | {"amount": {"currency": value, "value": value}}, ENVELOPE),
        (GOOD | {"metadata": {value: value, "a": wrong}}, ENVELOPE),
        (GOOD | {"tender_options": [value]}, ENVELOPE),
        (GOOD, ENVELOPE | {name: wrong}),
        (GOOD, ENVELOPE | {"submitted_at": value}),
    ]:
        error = refused(body, envelope)
        assert error
        assert MARK not in str(error)
        assert MARK not in (error.field or "")


@pytest.mark.parametrize("field", [*Submission.model_fields, *Envelope.model_fields])
def test_each_field_has_a_remedy_and_a_refusal_tells_it(field: str) -> None:
    body, envelope = dict(GOOD), dict(ENVELOPE)
    (body if field in Submission.model_fields else envelope)[field] = object()

    error = refused(body, envelope)

    assert error
    assert REMEDIES[field] in str(error)


def test_the_amount_is_bounded_by_what_its_currency_can_carry() -> None:
    for currency in money.CURRENCIES:
        largest = min(9_999_999_999, int(money.MAX_MAJOR.scaleb(money.decimals(currency))))
        assert refused(GOOD | {"amount": {"currency": currency, "value": largest}}, ENVELOPE) is None
        assert refused(GOOD | {"amount": {"currency": currency, "value": largest + 1}}, ENVELOPE)


@given(
    reference=st.from_regex(r"[ -9;-\[\]-~]{1,80}", fullmatch=True),
    value=st.integers(1, 99_999_999),
    metadata=st.dictionaries(st.from_regex(r"[A-Za-z0-9_]{1,40}", fullmatch=True), st.just("x"), max_size=20),
)  # fmt: skip
def test_what_is_right_is_accepted_and_its_fingerprint_does_not_depend_on_the_spelling(
    reference: str, value: int, metadata: dict[str, str]
) -> None:
    metadata.pop("counterfoil_tag", None)
    body = {**GOOD, "reference": reference, "amount": {"currency": "EUR", "value": value}, "metadata": metadata}

    submission, envelope = validate(body, ENVELOPE | {"submitted_at": "2026-01-31T12:00:00+01:00"})
    reordered, _ = validate(dict(reversed(body.items())) | {"send_by_s": 60}, ENVELOPE)
    other, _ = validate(body | {"send_by_s": 61}, ENVELOPE)

    assert envelope.submitted_at == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert fingerprint(submission) == fingerprint(reordered) != fingerprint(other)


def test_a_card_number_in_the_metadata_is_refused_and_not_quoted() -> None:
    """Callers make mistakes too; what is never stored cannot leak."""
    with pytest.raises(InvalidSubmission) as refused:
        validate({**GOOD, "metadata": {"note": "paid with 4111 1111 1111 1111"}}, ENVELOPE)

    assert "card number" in str(refused.value)
    assert "4111" not in str(refused.value)


def test_a_member_at_its_default_is_the_same_submission_as_without_it() -> None:
    """So a member that a later release adds does not make a retry across the upgrade another body."""
    plain, _ = validate(GOOD, ENVELOPE)
    spelled, _ = validate({**GOOD, "send_by_s": 60, "metadata": {}, "override_by": None}, ENVELOPE)

    assert fingerprint(plain) == fingerprint(spelled)


TAKEN_ALONG: dict[str, Any] = {
    "metadata": {"correlation": "7f3a9c"},
    "tender_options": ["AskGratuity"],
    "operator_id": "Zoë",
    "operator_language": "nl",
    "shift_number": "2",
    "sale_reference_id": "4111111111111111",
    "shopper_reference": "cust-991",
    "recurring_processing_model": "CardOnFile",
}


def test_what_the_request_takes_along_is_stored_and_nothing_else_is() -> None:
    whole, _ = validate(GOOD | TAKEN_ALONG | {"send_by_s": 30}, ENVELOPE)
    plain, _ = validate(GOOD, ENVELOPE)

    assert intake._options(whole) == TAKEN_ALONG
    assert intake._options(plain) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("operator_id", ""),
        ("operator_id", "x" * 81),
        ("operator_id", "two\nlines"),
        ("operator_id", MARK),
        ("operator_language", "NL"),
        ("operator_language", "nld"),
        ("shift_number", 2),
        ("sale_reference_id", "Zoë"),
        ("shopper_reference", "ab"),
        ("shopper_reference", MARK),
        ("recurring_processing_model", "CardOnFile"),
        ("recurring_processing_model", "Forever"),
    ],
)
def test_a_wrong_instruction_is_refused_by_its_name(field: str, value: object) -> None:
    error = refused(GOOD | {field: value}, ENVELOPE)

    assert error
    assert error.field == field
    assert REMEDIES[field] in str(error)
    assert MARK not in str(error)
