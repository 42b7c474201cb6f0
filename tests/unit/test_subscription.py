"""Which callbacks are sent."""

import pytest

from config.settings import load_settings
from orchestrator.errors import ConfigurationError
from orchestrator.subscription import TYPES, USUAL, Subscription


def test_by_default_everything_is_told_but_display_texts_and_mere_agreement() -> None:
    assert set(TYPES) - set(USUAL.wanted) == {"terminal.display"}
    assert not USUAL.wants("payment.reconciled", agreed=True)
    assert not USUAL.wants("refund.reconciled", agreed=True)
    assert load_settings({}).callback_events == USUAL.patterns


@pytest.mark.parametrize(
    ("patterns", "type_", "wanted"),
    [
        (("payment.*",), "payment.unknown", True),
        (("payment.*",), "refund.unknown", False),
        (("payment.unknown",), "payment.unknown", True),
        (("payment.unknown",), "payment.confirmed", False),
        (("*",), "terminal.display", True),
        ((), "payment.confirmed", False),
    ],
)
def test_a_type_is_told_when_it_or_a_pattern_of_it_is_named(
    patterns: tuple[str, ...], type_: str, wanted: bool
) -> None:
    assert Subscription(patterns).wants(type_) is wanted


@pytest.mark.parametrize(
    ("patterns", "wanted"), [(("*",), False), (("payment.*",), False), (("payment.*", "payment.reconciled"), True)]
)
def test_what_the_books_merely_confirm_is_told_where_it_is_named(patterns: tuple[str, ...], wanted: bool) -> None:
    assert Subscription(patterns).wants("payment.reconciled", agreed=True) is wanted
    assert Subscription(patterns).wants("payment.reconciled")


@pytest.mark.parametrize("text", ["payment.confimed", "payments.*", "payment.lost", "pay*", "payment.*,,refund.*", "#"])
def test_a_type_that_is_none_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"COUNTERFOIL_CALLBACK_EVENTS.*payment\.confirmed.*patterns"
    ) as refused:
        load_settings({"COUNTERFOIL_CALLBACK_EVENTS": text})
    assert text not in str(refused.value)
