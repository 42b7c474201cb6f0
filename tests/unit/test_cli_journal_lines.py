"""A journal line at the command line is read by people: amounts as they are written, nothing in braces."""

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.cli.payments import line_cells


@pytest.mark.parametrize(
    ("detail", "shown"),
    [
        ({"amount": {"minor": 1050, "currency": "EUR"}, "poi_id": "V400m-1"}, "amount 10.50 EUR, poi_id V400m-1"),
        ({"authorised": {"minor": 1050, "currency": "JPY"}}, "authorised 1,050 JPY"),
        ({"rests_on": ["a", {"b": 1}]}, "rests_on a b 1"),
        ({"why": "", "card": None}, ""),
        (None, ""),
    ],
)
def test_what_a_line_says_is_said_without_braces(detail: dict[str, Any] | None, shown: str) -> None:
    line = {"sequence": 1, "at": datetime(2026, 11, 21, tzinfo=UTC), "evidence": "e", "event": "v", "detail": detail}

    assert line_cells({**line, "before": None, "after": "pending"})[-1] == shown
