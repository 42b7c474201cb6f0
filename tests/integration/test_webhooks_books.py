"""What each webhook does to a payment, from its signature to the row: the cells of the books, over HTTP."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pytest

from orchestrator.evidence import NotFoundReported
from orchestrator.store import schema
from tests.factories import approved
from tests.integration.http_support import OTHER_MERCHANT, Api, Json
from tests.integration.webhook_support import (
    alarms,
    asked,
    at,
    believed,
    body,
    book,
    declined,
    differences,
    kept,
    kinds,
    not_performed,
    paid,
    post,
    psp,
    record,
    signed,
    webhook,
    with_keys,
)
from tests.services import fresh_database

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with with_keys(database_url, tmp_path_factory.mktemp("logs")) as api:
            yield api


def commands(api: Api, payment: Json) -> dict[str, Any]:
    found = api.rows.execute(
        "SELECT kind, due_at <= now() AS due FROM commands WHERE payment_id = %s", [payment["id"]]
    ).fetchall()
    return {row["kind"]: row["due"] for row in found}


# -- AUTHORISATION true --------------------------------------------------------------------------------------------


def test_an_authorisation_of_what_was_never_sent_is_no_outcome_asks_with_an_alarm_and_stops_the_send(api: Api) -> None:
    payment = api.accepted()

    book(api, webhook(payment))

    assert believed(api, payment) == ("pending", None, None)
    assert alarms(api, payment) == ["booked_before_send"]
    assert commands(api, payment)["check_status"]
    with pytest.raises(AssertionError):
        api.claim(payment)


def test_an_authorisation_of_a_sent_payment_asks_and_the_agreeing_result_reconciles_at_once(api: Api) -> None:
    payment = api.sent()
    item = webhook(payment)

    book(api, item)

    assert believed(api, payment) == ("pending", None, None)
    assert commands(api, payment)["check_status"]
    record(api, payment, approved(psp_reference=item["pspReference"]))
    assert believed(api, payment) == ("reconciled", "approved", None)
    assert alarms(api, payment) == []


@pytest.mark.parametrize("asked_first", [True, False])
def test_an_authorisation_settles_an_unknown_after_one_inconclusive_check(api: Api, asked_first: bool) -> None:
    payment = api.unknown(api.sent())
    item = webhook(payment)

    if asked_first:
        asked(api, payment)
        book(api, item)
    else:
        book(api, item)
        assert believed(api, payment) == ("unknown", None, "no_answer")
        asked(api, payment)

    assert believed(api, payment) == ("reconciled", "approved", "books")
    row = api.row(payment["id"])
    assert (row["psp_reference"], row["authorised_minor"]) == (item["pspReference"], 1099)


def test_an_authorisation_after_not_performed_is_late_reconciled_and_alarmed(api: Api) -> None:
    payment = not_performed(api)

    book(api, webhook(payment))

    assert believed(api, payment) == ("reconciled", "approved", "books")
    assert api.row(payment["id"])["late"]
    assert alarms(api, payment) == ["late_approval"]


def test_an_authorisation_reconciles_a_charge(api: Api) -> None:
    payment = paid(api)

    book(api, webhook(payment, pspReference=payment["psp_reference"]))

    assert believed(api, payment) == ("reconciled", "approved", None)
    assert alarms(api, payment) == kinds(api, payment) == []


def test_an_authorisation_of_what_the_terminal_refused_is_a_contradiction(api: Api) -> None:
    payment = declined(api)

    book(api, webhook(payment, pspReference=payment["psp_reference"]))

    assert believed(api, payment) == ("unknown", None, "contradiction")
    assert alarms(api, payment) == ["contradiction"]
    assert kinds(api, payment) == ["state_differs"]


@pytest.mark.parametrize(
    ("amount", "kind"),
    [({"currency": "EUR", "value": 1098}, "amount_differs"), ({"currency": "USD", "value": 1099}, "currency_differs")],
)
def test_another_amount_than_the_terminal_said_is_a_difference_and_moves_nothing(
    api: Api, amount: Json, kind: str
) -> None:
    payment = paid(api)

    book(api, webhook(payment, pspReference=payment["psp_reference"], amount=amount))

    assert believed(api, payment) == ("confirmed", "approved", None)
    assert alarms(api, payment) == ["books_differ"]
    (found,) = differences(api, payment_id=payment["id"])
    assert (found["kind"], found["source"]) == (kind, "webhook:AUTHORISATION")
    assert found["ours"] == {"state": "approved", "amount": {"currency": "EUR", "value": 1099}}
    assert found["theirs"] == {"state": "AUTHORISATION", "amount": amount}


def test_a_tip_that_the_terminal_named_agrees(api: Api) -> None:
    payment = record(api, api.sent(), approved(1319, psp_reference=psp(), extra_minor=220, tip_minor=220))

    book(api, webhook(payment, pspReference=payment["psp_reference"], amount={"currency": "EUR", "value": 1319}))

    assert believed(api, payment) == ("reconciled", "approved", None)


# -- AUTHORISATION false -------------------------------------------------------------------------------------------


def test_a_refused_authorisation_of_what_is_open_is_only_journalled(api: Api) -> None:
    for payment in (api.accepted(), api.sent(), asked(api, api.unknown(api.sent()))):
        before = api.row(payment["id"])

        book(api, webhook(payment, success="false"))

        after = api.row(payment["id"])
        assert {name for name in after if after[name] != before[name]} == {"sequence", "journal_hash"}
        assert alarms(api, payment) == kinds(api, payment) == []


def test_a_refused_authorisation_settles_an_unknown_past_48_hours(api: Api) -> None:
    payment = api.unknown(api.sent())
    with api.rows.transaction():
        api.rows.execute("SET LOCAL session_replication_role = replica")  # a payment's time of sending is fixed
        api.rows.execute("UPDATE payments SET sent_at = now() - interval '49 h' WHERE id = %s", [payment["id"]])

    book(api, webhook(payment, success="false"))

    assert believed(api, payment) == ("reconciled", "declined", "books")


def test_a_refused_authorisation_contradicts_a_charge_of_the_same_reference_alone(api: Api) -> None:
    same, another = paid(api), paid(api)

    book(api, webhook(same, success="false", pspReference=same["psp_reference"]))
    book(api, webhook(another, success="false"))

    assert believed(api, same) == ("unknown", None, "contradiction")
    assert believed(api, another) == ("confirmed", "approved", None)
    assert (kinds(api, same), kinds(api, another)) == (["state_differs"], [])


def test_a_refused_authorisation_reconciles_a_refusal(api: Api) -> None:
    payment = declined(api)

    book(api, webhook(payment, success="false", pspReference=payment["psp_reference"]))

    assert believed(api, payment) == ("reconciled", "declined", None)


def test_an_offline_approval_is_provisional_until_the_books_refuse_it_loudly(api: Api) -> None:
    payment = paid(api, online=False)
    assert payment["provisional"]

    book(api, webhook(payment, success="false", pspReference=payment["psp_reference"]))

    assert believed(api, payment) == ("reconciled", "declined", "books")
    assert alarms(api, payment) == ["offline_approval_refused"]


def test_an_offline_approval_that_the_books_have_is_provisional_no_more(api: Api) -> None:
    payment = paid(api, online=False)

    book(api, webhook(payment, pspReference=payment["psp_reference"]))

    assert believed(api, payment) == ("reconciled", "approved", None)
    assert not api.row(payment["id"])["provisional"]


# -- taken back, failed, disputed ----------------------------------------------------------------------------------

TAKEN_BACK = pytest.mark.parametrize("code", ["CANCELLATION", "TECHNICAL_CANCEL"])


@TAKEN_BACK
def test_a_cancellation_reconciles_a_refusal_and_settles_an_unknown(api: Api, code: str) -> None:
    refused, unknown = declined(api), api.unknown(api.sent())

    book(api, webhook(refused, code, originalReference=refused["psp_reference"]))
    book(api, webhook(unknown, code, originalReference=psp()))

    assert believed(api, refused) == ("reconciled", "declined", None)
    assert believed(api, unknown) == ("reconciled", "declined", "books")


@TAKEN_BACK
def test_a_cancellation_of_a_charge_without_a_refund_of_ours_is_unknown_with_an_alarm(api: Api, code: str) -> None:
    payment = paid(api)

    book(api, webhook(payment, code, originalReference=payment["psp_reference"]))

    assert believed(api, payment) == ("unknown", None, "contradiction")
    assert alarms(api, payment) == ["contradiction"]
    assert kinds(api, payment) == ["state_differs"]


@pytest.mark.parametrize(
    ("code", "success", "kind"),
    [
        ("CAPTURE_FAILED", "true", "capture_failed"),
        ("CAPTURE", "false", "capture_failed"),
        ("EXPIRE", "true", "expired"),
        ("NOTIFICATION_OF_CHARGEBACK", "true", "chargeback"),
        ("CHARGEBACK", "true", "chargeback"),
        ("SECOND_CHARGEBACK", "true", "chargeback"),
        ("CHARGEBACK_REVERSED", "true", "chargeback"),
    ],
)
def test_what_happens_to_a_charge_later_is_a_difference_and_an_alarm_and_never_a_move(
    api: Api, code: str, success: str, kind: str
) -> None:
    payment = paid(api)
    item = webhook(payment, code, success=success, originalReference=payment["psp_reference"])

    book(api, item)

    assert believed(api, payment) == ("confirmed", "approved", None)
    assert alarms(api, payment) == ["books_differ"]
    (found,) = differences(api, payment_id=payment["id"])
    assert (found["kind"], found["theirs"]["state"], found["psp_reference"]) == (kind, code, payment["psp_reference"])
    assert kept(api, item)["became"] == "recorded"


def test_a_chargeback_that_is_closed_opens_again_when_it_is_reversed(api: Api) -> None:
    payment = paid(api)
    book(api, webhook(payment, "CHARGEBACK", originalReference=payment["psp_reference"]))
    api.rows.execute("UPDATE differences SET state = 'closed' WHERE payment_id = %s", [payment["id"]])

    book(api, webhook(payment, "CHARGEBACK_REVERSED", originalReference=payment["psp_reference"]))

    (found,) = differences(api, payment_id=payment["id"])
    assert (found["state"], found["theirs"]["state"]) == ("open", "CHARGEBACK_REVERSED")


@pytest.mark.parametrize(
    ("code", "success"),
    [("CAPTURE", "true"), ("AUTHORISATION_ADJUSTMENT", "true"), ("CHARGEBACK", "false"), ("SOME_FUTURE_EVENT", "true")],
)
def test_what_says_nothing_of_the_money_is_stored_and_moves_nothing(api: Api, code: str, success: str) -> None:
    payment = paid(api)
    before = api.row(payment["id"])
    item = webhook(payment, code, success=success, originalReference=payment["psp_reference"])

    book(api, item)

    assert api.row(payment["id"]) == before
    assert kept(api, item)["became"] == ("unknown" if code == "SOME_FUTURE_EVENT" else "noted")


# -- paid back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["REFUND", "CANCEL_OR_REFUND"])
def test_a_refund_made_elsewhere_is_a_difference_and_lowers_what_is_left_to_refund(api: Api, code: str) -> None:
    payment = paid(api)
    some = {"currency": "EUR", "value": 400}
    item = webhook(payment, code, originalReference=payment["psp_reference"], merchantReference="R-1", amount=some)

    book(api, item)
    book(api, item)

    assert believed(api, payment) == ("confirmed", "approved", None)
    assert api.row(payment["id"])["refunded_minor"] == 400
    assert alarms(api, payment) == ["books_differ"]
    (found,) = differences(api, payment_id=payment["id"])
    assert (found["kind"], found["psp_reference"]) == ("refund_elsewhere", item["pspReference"])

    failed = webhook(payment, "REFUND_FAILED", originalReference=payment["psp_reference"], amount=some)
    book(api, {**failed, "pspReference": item["pspReference"]})
    assert api.row(payment["id"])["refunded_minor"] == 0


@pytest.mark.parametrize("code", ["REFUND", "CANCEL_OR_REFUND", "CANCELLATION", "TECHNICAL_CANCEL"])
def test_a_refund_elsewhere_that_was_refused_changes_nothing(api: Api, code: str) -> None:
    payment = paid(api)
    before = api.row(payment["id"])

    book(api, webhook(payment, code, success="false", originalReference=payment["psp_reference"]))

    assert api.row(payment["id"]) == before
    assert kinds(api, payment) == []


# -- the latest effective fact -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_latest_effective_fact_is_the_books_word_in_whatever_order_it_comes(
    api: Api, order: tuple[int, ...]
) -> None:
    """Declined at the terminal, refused, authorised after all, and taken back again."""
    payment = declined(api)
    own = payment["psp_reference"]
    facts = [
        webhook(payment, success="false", pspReference=own, eventDate=at(-30)),
        webhook(payment, pspReference=own, eventDate=at(-20)),
        webhook(payment, "TECHNICAL_CANCEL", originalReference=own, eventDate=at(-10)),
    ]

    for place in order:
        book(api, facts[place])

    state, outcome, _ = believed(api, payment)
    assert (state, outcome) == ("reconciled", "declined")
    assert api.row(payment["id"])["books"]["authorised"] is False


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_old_authorisation_does_not_undo_a_cancellation(api: Api, order: tuple[int, int]) -> None:
    payment = paid(api)
    own = payment["psp_reference"]
    facts = [
        webhook(payment, pspReference=own, eventDate=at(-20)),
        webhook(payment, "CANCELLATION", originalReference=own, eventDate=at(-10)),
    ]

    book(api, *(facts[place] for place in order))

    assert believed(api, payment) == ("unknown", None, "contradiction")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_within_one_second_an_authorisation_comes_before_what_takes_it_back(api: Api, order: tuple[int, int]) -> None:
    payment = declined(api)
    own, same = payment["psp_reference"], "2026-03-14T10:00:40+01:00"
    facts = [
        webhook(payment, pspReference=own, eventDate=same),
        webhook(payment, "TECHNICAL_CANCEL", originalReference=own, eventDate=same),
    ]

    for place in order:
        book(api, facts[place])

    assert believed(api, payment)[:2] == ("reconciled", "declined")


def test_a_date_in_the_future_is_no_word_for_ever(api: Api) -> None:
    payment = paid(api)
    own = payment["psp_reference"]
    book(api, webhook(payment, pspReference=own, eventDate=at(10**8)))

    book(api, webhook(payment, "CANCELLATION", originalReference=own, eventDate=at()))

    assert believed(api, payment) == ("unknown", None, "contradiction")


# -- which payment -------------------------------------------------------------------------------------------------


def test_of_two_tries_of_a_sale_the_one_without_a_psp_reference_is_meant(api: Api) -> None:
    first = declined(api)
    second = asked(api, api.unknown(api.sent(reference=first["reference"])))

    book(api, webhook(second))

    assert believed(api, second) == ("reconciled", "approved", "books")
    assert believed(api, first) == ("confirmed", "declined", None)


def two_unknowns(api: Api, **changes: Any) -> tuple[Json, Json]:
    first = asked(api, api.unknown(api.sent()))
    override = {"override_by": "jo", "override_reason": "the shopper insists"}
    second = api.sent(reference=first["reference"], **override, **changes)
    return first, asked(api, api.unknown(second))


def test_several_candidates_are_a_difference_and_never_a_guess(api: Api) -> None:
    first, second = two_unknowns(api)
    item = webhook(first)

    book(api, item)

    assert {believed(api, each)[0] for each in (first, second)} == {"unknown"}
    (found,) = differences(api, reference=first["reference"])
    assert (found["kind"], found["payment_id"]) == ("ambiguous", None)
    assert kept(api, item)["became"] == "difference"
    assert "books_differ" in alarms(api)


def test_the_terminal_that_is_named_chooses_among_several(api: Api) -> None:
    first, second = two_unknowns(api)

    book(api, webhook(first, additionalData={"terminalId": second["poi_id"]}))

    assert believed(api, second) == ("reconciled", "approved", "books")
    assert believed(api, first)[0] == "unknown"


def test_another_terminal_than_the_payments_is_another_payment(api: Api) -> None:
    payment = asked(api, api.unknown(api.sent()))

    book(api, webhook(payment, additionalData={"terminalId": "V400m-999999999"}))

    assert believed(api, payment)[0] == "unknown"
    (found,) = differences(api, reference=payment["reference"])
    assert found["kind"] == "missing_here"


def test_less_than_was_asked_for_is_believed_of_the_terminal_that_is_named_alone(api: Api) -> None:
    less = {"currency": "EUR", "value": 600}
    named, bare = (asked(api, api.unknown(api.sent())) for _ in range(2))

    book(api, webhook(named, amount=less, additionalData={"terminalId": named["poi_id"]}))
    book(api, webhook(bare, amount=less))

    assert believed(api, named) == ("reconciled", "partially_approved", "books")
    assert believed(api, bare)[0] == "unknown"
    assert [row["kind"] for row in differences(api, reference=bare["reference"])] == ["missing_here"]


def test_a_second_charge_of_a_sale_that_was_paid_is_a_difference(api: Api) -> None:
    payment = paid(api)

    book(api, webhook(payment))

    assert believed(api, payment) == ("confirmed", "approved", None)
    (found,) = differences(api, reference=payment["reference"])
    assert found["kind"] == "missing_here"


def test_another_merchant_accounts_webhook_is_not_applied(api: Api) -> None:
    payment = paid(api)
    before = api.row(payment["id"])
    item = webhook(
        payment, "CANCELLATION", originalReference=payment["psp_reference"], merchantAccountCode=OTHER_MERCHANT
    )

    book(api, item)

    assert api.row(payment["id"]) == before


def test_a_charge_on_a_terminal_of_ours_that_nobody_knows_is_an_orphan(api: Api) -> None:
    item = webhook(additionalData={"terminalId": api.terminal()}, merchantReference="BY-HAND-1")

    book(api, item)

    (found,) = differences(api, psp_reference=item["pspReference"])
    assert (found["kind"], found["reference"], found["ours"]) == ("orphan", "BY-HAND-1", None)
    assert "books_differ" in alarms(api)


def test_a_charge_in_person_for_an_unknown_merchant_account_is_an_orphan(api: Api) -> None:
    item = webhook(merchantAccountCode="NobodyKnows", additionalData={"tenderReference": "BV5k001764061234003"})

    book(api, item)

    (found,) = differences(api, psp_reference=item["pspReference"])
    assert (found["kind"], found["merchant_account"]) == ("orphan", "NobodyKnows")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"merchantAccountCode": "NobodyKnows"},
        {"additionalData": {"terminalId": "P400-000000001"}},
        {"success": "false"},
        {"eventCode": "REFUND", "originalReference": "KLT3W9RSV5JCFQ41"},
        {"eventCode": "CHARGEBACK", "originalReference": "KLT3W9RSV5JCFQ41"},
    ],
)
def test_webhooks_of_online_payments_and_of_foreign_terminals_are_ignored_politely(
    api: Api, changes: dict[str, Any]
) -> None:
    before = api.count("differences"), api.count("journal")
    api.terminal()  # the merchant account is known
    item = webhook(**changes)

    book(api, item)

    assert (api.count("differences"), api.count("journal")) == before
    assert kept(api, item)["became"] == "ignored"


# -- the rest of the body ------------------------------------------------------------------------------------------


def test_a_webhook_of_the_other_environment_is_stored_and_not_applied(api: Api) -> None:
    payment = paid(api)
    before = api.row(payment["id"])
    item = webhook(payment, pspReference=payment["psp_reference"])

    answer = post(api, body(signed(item), live="true"))

    assert (answer.status_code, answer.text) == (200, "[accepted]")
    assert api.row(payment["id"]) == before
    assert kept(api, item)["became"] == "misdirected"
    assert "webhook_misdirected" in alarms(api)


def test_every_item_of_a_body_counts(api: Api) -> None:
    payments = [paid(api) for _ in range(3)]

    book(api, *(webhook(each, pspReference=each["psp_reference"]) for each in payments))

    assert {believed(api, each) for each in payments} == {("reconciled", "approved", None)}


def test_a_report_that_is_ready_is_kept_with_its_name_and_place(api: Api) -> None:
    url = "https://ca-test.adyen.com/reports/download/x/settlement_detail_report_batch_12.csv"
    item = webhook(
        code="REPORT_AVAILABLE", pspReference="settlement_detail_report_batch_12.csv", reason=url, merchantReference=""
    )

    book(api, item)

    row = kept(api, item)
    assert (row["became"], row["reason"]) == ("noted", url)


def test_what_settles_nothing_at_the_terminal_lets_an_authorisation_stand(api: Api) -> None:
    """The fence never beats the books, also when they come first over HTTP."""
    payment = api.unknown(api.sent())
    book(api, webhook(payment))

    record(api, payment, NotFoundReported())

    assert believed(api, payment) == ("reconciled", "approved", "books")
