"""What the journal keeps of a piece of evidence can be read back as the same evidence."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import evidence as module
from orchestrator.evidence import (
    KINDS,
    Evidence,
    InProgressReported,
    ResultReported,
    from_detail,
    kind_of,
    to_detail,
)
from orchestrator.model import Money
from tests.factories import CLAIMED, OUTSIDE, SAMPLES, WINDOW_PASSED, approved

POOL = st.sampled_from([fact.evidence for fact in (*OUTSIDE, CLAIMED, WINDOW_PASSED)])


def reread(evidence: Evidence) -> Evidence:
    """As the database gives it back."""
    return from_detail(kind_of(evidence), json.loads(json.dumps(to_detail(evidence))))


def test_there_is_a_sample_of_every_kind_that_the_module_defines() -> None:
    defined = {
        kind_of(value)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Evidence) and value is not Evidence
    }

    assert set(SAMPLES) == set(KINDS) == defined


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_kind_names_the_class_itself(kind: str) -> None:
    assert KINDS[kind] is type(SAMPLES[kind])
    assert kind == kind_of(SAMPLES[kind]) == kind_of(type(SAMPLES[kind]))
    assert kind.isidentifier()
    assert kind == kind.lower()


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_field_of_every_kind_survives_the_journal(kind: str) -> None:
    sample = SAMPLES[kind]

    said = {field.name for field in fields(sample)} - {"digest", "receipts"}
    assert all(getattr(sample, name) is not None for name in said)
    assert reread(sample) == sample


@given(POOL)
def test_all_evidence_survives_the_journal(evidence: Evidence) -> None:
    assert reread(evidence) == evidence


@given(POOL)
def test_members_that_say_nothing_are_left_out(evidence: Evidence) -> None:
    detail = to_detail(evidence)

    assert None not in detail.values()
    assert {field.name for field in fields(evidence) if getattr(evidence, field.name) is not None} == set(detail)


def test_a_digest_names_a_line_and_is_no_part_of_its_detail() -> None:
    named = replace(InProgressReported(detail="WAIT_FOR_PIN"), digest="6f2c")

    assert to_detail(named) == {"detail": "WAIT_FOR_PIN"}


def test_receipts_reach_neither_the_journal_nor_a_log() -> None:
    told = replace(approved(), receipts=[{"DocumentQualifier": "CustomerReceipt"}])

    assert to_detail(told) == to_detail(approved())
    assert "CustomerReceipt" not in repr(told)


def test_lines_of_before_extras_had_names_still_read_back() -> None:
    line = {"channel": "connection", "authentic": True, "result": "Success", "extra_minor": 150}

    found = from_detail("result_reported", line)

    assert isinstance(found, ResultReported)
    assert (found.extra_minor, found.tip_minor) == (150, None)


def test_money_is_spelt_in_minor_units() -> None:
    assert to_detail(approved(authorised=Money("JPY", 500)))["authorised"] == {"currency": "JPY", "minor": 500}


def test_a_kind_that_nobody_defined_is_refused() -> None:
    with pytest.raises(KeyError):
        from_detail("rumour", {})


def test_evidence_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        approved().result = "Failure"  # type: ignore[misc]
