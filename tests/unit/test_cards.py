"""Card numbers are masked wherever they stand, in time that grows with the text and no faster."""

import time

import pytest
from starlette.requests import Request

from orchestrator.cards import mask_card_numbers
from orchestrator.search.words import TYPED_CHARS_MAX
from orchestrator.web.console.search import asked_of

#: Looked through in a tenth of this; by every stretch of its groups it would take half a minute.
LONG_TEXT_WITHIN_S = 3.0


@pytest.mark.parametrize("group", ["1 ", "4-", "12 "])
def test_a_long_text_of_small_groups_is_looked_through_at_once(group: str) -> None:
    began_s = time.monotonic()
    mask_card_numbers(group * 2_000)
    assert time.monotonic() - began_s < LONG_TEXT_WITHIN_S


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("4111 1111 1111 1111 5500-0000-0000-0004", "************1111 ************0004"),
        (" ".join("4111111111111111"), "************1111"),
        ("6 4-0 57-21 0-4 07 3 6 6 7-6 3903 3 8-2-260-5 2 94 3 73", "***********3667 **************4373"),
    ],
)
def test_numbers_in_groups_of_any_size_are_masked_each(text: str, masked: str) -> None:
    assert mask_card_numbers(text).replace("-", " ").replace("  ", " ") == masked


def test_of_what_is_longer_than_any_search_no_more_is_looked_at_than_is_refused() -> None:
    query = f"q={'1+' * 30_000}&terminal={'1+' * 30_000}".encode()
    asked = asked_of(Request({"type": "http", "query_string": query, "headers": []}))
    assert len(asked.typed) == TYPED_CHARS_MAX + 1
    assert len(asked.fields["terminal"]) == TYPED_CHARS_MAX + 1
