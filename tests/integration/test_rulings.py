"""A person settles an unknown: on what they saw, on record, and above a limit not alone."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.http_support import MERCHANT, OTHER_MERCHANT, Api, Json, assert_problem, served

pytestmark = pytest.mark.integration

REASON = "The customer showed the debit in her banking app"


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Two people have to agree above 20.00 EUR."""
    with served(postgres_url, tmp_path_factory.mktemp("rulings"), COUNTERFOIL_RULING_SECOND_ABOVE="EUR:2000") as opened:
        yield opened


@pytest.fixture(scope="module")
def finance(api: Api) -> str:
    return api.make_key(MERCHANT, "finance")


def unknown(api: Api, minor: int = 1099) -> Json:
    payment = api.unknown(api.sent(amount={"currency": "EUR", "value": minor}))
    found: Json = api.get(f"/v1/payments/{payment['id']}").json()
    return found


def rule(api: Api, payment: Json, key: str, **changes: Any) -> Any:
    body = {"outcome": "approved", "reason": REASON, "sequence": payment["sequence"], **changes}
    return api.send("POST", f"/v1/payments/{payment['id']}/ruling", body, key)


def test_a_ruling_reconciles_and_stays_on_record(api: Api, finance: str) -> None:
    payment = unknown(api)

    ruled = rule(api, payment, finance)

    assert ruled.status_code == 200
    shown = ruled.json()
    assert (shown["state"], shown["outcome"], shown["reason"]) == ("reconciled", "approved", "ruled")
    assert shown["authorised_amount"] == {"currency": "EUR", "value": 1099}
    line = api.get(f"/v1/payments/{payment['id']}/journal").json()["data"][-1]
    assert line["evidence"] == "ruled"
    assert line["detail"]["reason"] == REASON
    assert line["detail"]["ruled_by"].startswith("key ")


def test_what_contradicts_a_ruling_opens_it_again(api: Api, finance: str) -> None:
    payment = unknown(api)
    assert rule(api, payment, finance, outcome="declined").json()["charged"] is False

    api.push(api.result(payment))

    shown = api.get(f"/v1/payments/{payment['id']}").json()
    assert (shown["state"], shown["reason"], shown["charged"]) == ("unknown", "contradiction", None)


def test_above_the_limit_one_person_is_not_enough_however_often(api: Api, finance: str) -> None:
    payment = unknown(api, 2001)

    answers = [rule(api, payment, finance) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json()["status"] == "pending-second-person"
    assert api.row(payment["id"])["state"] == "unknown"


def test_a_second_person_who_sends_the_same_settles_it(api: Api, finance: str) -> None:
    payment = unknown(api, 2001)
    assert rule(api, payment, finance).status_code == 202

    second = rule(api, payment, api.make_key(MERCHANT, "finance"))

    assert (second.status_code, second.json()["state"]) == (200, "reconciled")
    detail = api.get(f"/v1/payments/{payment['id']}/journal").json()["data"][-1]["detail"]
    assert detail["ruled_by"] != detail["second"]


def test_a_second_person_who_sees_it_differently_settles_nothing(api: Api, finance: str) -> None:
    payment, other = unknown(api, 2001), api.make_key(MERCHANT, "finance")
    assert rule(api, payment, finance).status_code == 202

    assert rule(api, payment, other, outcome="declined").status_code == 202
    assert api.row(payment["id"])["state"] == "unknown"
    # the newest proposal stands, and the first person may come round to it
    assert rule(api, payment, finance, outcome="declined").json()["outcome"] == "declined"


def test_a_ruling_on_what_one_did_not_see_is_refused(api: Api, finance: str) -> None:
    payment = unknown(api)
    api.send("POST", f"/v1/payments/{payment['id']}/status-checks", {})

    assert_problem(rule(api, payment, finance), 409, "ruling-stale", "sequence")
    assert api.row(payment["id"])["state"] == "unknown"


def test_only_an_unknown_is_ruled_on(api: Api, finance: str) -> None:
    payment = api.sent()

    assert_problem(rule(api, payment, finance, sequence=2), 409, "not-unknown")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"outcome": "paid"}, "outcome"),
        ({"reason": "no"}, "reason"),
        ({"reason": "two\nlines"}, "reason"),
        ({"sequence": "2"}, "sequence"),
        ({"outcome": "declined", "authorised_amount": {"currency": "EUR", "value": 1}}, "authorised_amount"),
        ({"outcome": "partially_approved"}, "authorised_amount"),
        (
            {"outcome": "partially_approved", "authorised_amount": {"currency": "EUR", "value": 1099}},
            "authorised_amount",
        ),
        ({"authorised_amount": {"currency": "EUR", "value": 1}}, "authorised_amount"),
        ({"authorised_amount": {"currency": "USD", "value": 1099}}, "authorised_amount.currency"),
        ({"mood": "good"}, "mood"),
    ],
)
def test_a_ruling_that_cannot_be_is_refused_by_its_field(
    api: Api, finance: str, changes: dict[str, Any], field: str
) -> None:
    payment = unknown(api)

    assert_problem(rule(api, payment, finance, **changes), 422, "invalid-field", field)
    assert api.row(payment["id"])["state"] == "unknown"


def test_only_finance_rules_and_only_on_its_own(api: Api) -> None:
    payment = unknown(api)

    assert_problem(rule(api, payment, api.make_key(MERCHANT, "operate")), 403, "forbidden")
    assert_problem(rule(api, payment, api.make_key(OTHER_MERCHANT, "finance")), 404, "not-found")


def test_a_charge_that_is_said_to_be_above_the_limit_needs_two_as_well(api: Api, finance: str) -> None:
    payment = unknown(api)

    ruled = rule(api, payment, finance, authorised_amount={"currency": "EUR", "value": 9_999_999})

    assert ruled.status_code == 202
    assert api.get(f"/v1/payments/{payment['id']}").json()["state"] == "unknown"


def test_a_card_number_in_a_reason_is_not_kept(api: Api, finance: str) -> None:
    payment = unknown(api)

    assert rule(api, payment, finance, reason="the receipt of 4111 1111 1111 1111").status_code == 200

    line = api.get(f"/v1/payments/{payment['id']}/journal").json()["data"][-1]
    assert line["detail"]["reason"].endswith("************1111")
