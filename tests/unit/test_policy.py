"""The numbers: what is waited for, how often it is asked, and what a time scale may touch."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import policy
from orchestrator.model import Transport
from orchestrator.policy import Policy

HOUR_S = 3600.0
HORIZON_S = 48 * HOUR_S


def schedule(numbers: Policy) -> list[float]:
    """The ages at which an unknown is asked about after its window has passed, each check taking no time."""
    ages = [numbers.answer_window_s]
    while (wait_s := numbers.next_check_s(len(ages) - 1, ages[-1])) is not None:
        ages.append(ages[-1] + wait_s)
    return ages


def test_checks_double_from_five_seconds_up_to_a_quarter_of_an_hour_and_go_on_hourly() -> None:
    numbers = Policy()

    waits = [numbers.next_check_s(checks, since_sent_s=150) or 0 for checks in range(12)]

    assert waits == [5, 10, 20, 40, 80, 160, 320, *[HOUR_S] * 5]
    assert sum(waits[:7]) <= numbers.check_doubling_until_s < sum(waits[:7]) + 640


def test_checks_go_on_to_the_48_hours_that_a_terminal_remembers_and_no_further() -> None:
    numbers = Policy()

    assert numbers.next_check_s(60, HORIZON_S - 0.001) == HOUR_S
    assert numbers.next_check_s(60, HORIZON_S) is None
    assert numbers.next_check_s(0, HORIZON_S) is None


def test_a_schedule_ends_and_its_last_check_is_no_more_than_an_hour_past_the_horizon() -> None:
    ages = schedule(Policy())

    assert HORIZON_S <= ages[-1] < HORIZON_S + HOUR_S
    assert 50 <= len(ages) <= 60


def test_a_great_number_of_checks_overflows_nothing() -> None:
    assert Policy().next_check_s(10**9, 0) == HOUR_S


#: The ages of a conclusion at which the sentinel looks.
LOOKS_AT_S = [300, 900, HOUR_S, 6 * HOUR_S, 24 * HOUR_S, 47 * HOUR_S]


def test_the_sentinel_looks_at_growing_intervals_to_just_inside_48_hours() -> None:
    numbers = Policy()

    ages = [0.0]
    while (wait_s := numbers.next_sentinel_s(ages[-1])) is not None:
        ages.append(ages[-1] + wait_s)

    assert ages[1:] == LOOKS_AT_S
    assert ages[-1] < HORIZON_S
    assert numbers.next_sentinel_s(HORIZON_S) is None


@given(st.floats(0, 50 * HOUR_S))
def test_whatever_is_asked_in_between_the_sentinels_next_look_stays_where_it_is(age_s: float) -> None:
    wait_s = Policy().next_sentinel_s(age_s)

    ahead = [at_s for at_s in LOOKS_AT_S if at_s > age_s]
    assert (wait_s is None) == (not ahead)
    assert wait_s is None or (wait_s > 0 and age_s + wait_s == pytest.approx(ahead[0]))


@pytest.mark.parametrize(
    ("transport", "read_s"), [(Transport.ASYNC, 30), (Transport.SYNC, 160), (Transport.LOCAL, 130)]
)
def test_each_transport_waits_for_its_answer_as_long_as_the_platform_may_take(
    transport: Transport, read_s: float
) -> None:
    assert Policy().read_timeout_s(transport) == read_s


def test_a_held_call_outlives_the_payment_and_nothing_is_concluded_before_the_platform_ends_it() -> None:
    numbers = Policy()

    assert numbers.answer_window_s == 150
    assert numbers.sync_read_timeout_s > 150
    assert numbers.local_read_timeout_s > 120
    assert numbers.not_found_gap_s == 30
    assert numbers.hearsay_quiet_s == 2


def test_a_passed_window_proves_that_the_sender_is_quiesced() -> None:
    assert policy.CONNECT_TIMEOUT_S < policy.SEND_LEASE_S == 10
    assert Policy().answer_window_s > policy.SEND_LEASE_S + policy.CONNECT_TIMEOUT_S + policy.ASYNC_READ_TIMEOUT_S


def test_send_by_defaults_to_a_minute_and_is_bounded() -> None:
    assert (policy.MIN_SEND_BY_S, policy.DEFAULT_SEND_BY_S, policy.MAX_SEND_BY_S) == (5, 60, 3600)


def test_a_scale_of_one_changes_nothing() -> None:
    assert Policy.scaled(1) == Policy()


READS = {"sync_read_timeout_s", "local_read_timeout_s", "status_read_timeout_s", "refund_read_timeout_s"}
NEVER_SCALED = {"command_retry_s", "queue_backstop_s"}


@pytest.mark.parametrize("scale", [2, 30, 600])
def test_every_wait_of_the_protocol_is_divided_and_nothing_else_is(scale: float) -> None:
    base, scaled = Policy(), Policy.scaled(scale)

    for name in (field.name for field in fields(Policy)):
        before, after = getattr(base, name), getattr(scaled, name)
        if name in NEVER_SCALED:
            assert after == before, name
        elif name in READS:
            assert after == max(policy.SCALED_READ_FLOOR_S, before / scale), name
        elif name in {"sentinel_at_s", "tell_again_s"}:
            assert after == tuple(at_s / scale for at_s in before)
        else:
            assert after == pytest.approx(before / scale), name


@pytest.mark.parametrize("scale", [2, 30, 600])
def test_what_really_happens_on_the_wire_is_never_scaled(scale: float) -> None:
    scaled = Policy.scaled(scale)

    assert scaled.read_timeout_s(Transport.ASYNC) == policy.ASYNC_READ_TIMEOUT_S == 30
    assert policy.CONNECT_TIMEOUT_S == 5
    assert policy.SCALED_READ_FLOOR_S == 2
    assert len(schedule(scaled)) == pytest.approx(len(schedule(Policy())), abs=1)
