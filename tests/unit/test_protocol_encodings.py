from typing import Any

import pytest

from orchestrator.terminal_api import additional
from tests.protocol_vectors import load

ENCODINGS = load("text-encodings.json")


@pytest.mark.parametrize("vector", ENCODINGS["vectors"], ids=lambda v: v["id"])
def test_additional_response_is_read_in_whichever_form_it_comes(vector: dict[str, Any]) -> None:
    found = additional.read_additional(vector["raw"])

    assert found.kind == vector["kind"]
    assert found.values == vector["fields"]


@pytest.mark.parametrize("vector", ENCODINGS["poi_transaction_id"], ids=lambda v: v["raw"])
def test_a_transaction_id_splits_into_tender_and_psp_reference(vector: dict[str, Any]) -> None:
    assert additional.split_poi_transaction_id(vector["raw"]) == (vector["tender"], vector["psp"])


@pytest.mark.parametrize("vector", ENCODINGS["receipt_lines"], ids=lambda v: v["raw"])
def test_a_receipt_line_is_read_for_printing(vector: dict[str, Any]) -> None:
    found = additional.read_receipt_line(vector["raw"])

    assert (found.name, found.value, found.key) == (vector["name"], vector["value"], vector["key"])


@pytest.mark.parametrize("vector", ENCODINGS["display_reference_ids"], ids=lambda v: v["raw"] or "empty")
def test_a_display_reference_names_tender_time_and_event(vector: dict[str, Any]) -> None:
    found = additional.read_display_reference(vector["raw"])

    assert (found.tender_reference, found.at, found.event) == (
        vector["transaction_id"],
        vector["timestamp"],
        vector["event"],
    )


def test_values_that_are_no_text_are_spelled_out_or_left_out() -> None:
    found = additional.read_additional('{"a":true,"b":false,"c":1.50,"d":null,"e":[1],"additionalData":{"a":"x"}}')

    assert found.values == {"a": "x", "b": "false", "c": "1.50"}
    assert additional.read_additional({"a": True}).values == {"a": "true"}


def test_of_equal_keys_the_first_one_counts() -> None:
    assert additional.read_form("a=1&a=2") == {"a": "1"}


@pytest.mark.parametrize("raw", ["{", "{}}", "eyJ", "eyJ0aWQiOiB9", "AAAA", "====", 5, ["a"], True])
def test_what_only_looks_encoded_is_no_error(raw: object) -> None:
    assert set(additional.read_additional(raw).values) <= {"message", ""}


@pytest.mark.parametrize("raw", ['{"cardSummary":"9999",', "eyJjYXJkU3VtbWFyeSI6Ijk5OTkiLA=="])
def test_broken_json_is_not_passed_off_as_a_message(raw: str) -> None:
    assert additional.read_additional(raw).values == {}


def test_a_value_is_safe_to_store() -> None:
    found = additional.read_additional("a=%00b&b=" + "x" * 1000)

    assert found.get("a") == "\ufffdb"
    assert len(found.get("b") or "") == 256
    assert found.get("none", "a") == "\ufffdb"
