"""Submitting over HTTP and by task: once per key, never a second charge for a sale, and nothing half accepted."""

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from orchestrator.intake import Intake
from orchestrator.store.rows import Ring
from orchestrator.submissions import submit_by_task
from tests.integration.http_support import MERCHANT, OTHER_MERCHANT, SALE_ID, Api, assert_problem, served

pytestmark = pytest.mark.integration

AT_ONCE = 20
ROUNDS = 15


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


def at_once(act: Callable[[int], httpx.Response], times: int = AT_ONCE) -> list[httpx.Response]:
    """Do it from as many threads, all starting together."""
    gate = threading.Barrier(times)

    def one(number: int) -> httpx.Response:
        gate.wait(10)
        return act(number)

    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(one, range(times)))


def rows_of(api: Api, reference: str) -> int:
    row = api.rows.execute("SELECT count(*) AS n FROM payments WHERE reference = %s", [reference]).fetchone()
    assert row
    return int(row["n"])


# -- idempotency -------------------------------------------------------------------------------------------------------


def test_an_accepted_payment_is_shown_whole_and_found_where_it_says(api: Api) -> None:
    body = api.submission(metadata={"till": "7"}, send_by_s=30)

    answer = api.submit(body)

    assert answer.status_code == 201
    payment = answer.json()
    assert api.get(answer.headers["location"]).json() == payment
    assert {name: payment[name] for name in ("reference", "poi_id", "amount")} == {
        name: body[name] for name in ("reference", "poi_id", "amount")
    }
    nothing_yet = ("outcome", "charged", "reason", "authorised_amount", "psp_reference", "sent_at", "concluded_at")
    assert [payment[name] for name in nothing_yet] == [None] * len(nothing_yet)
    assert (payment["state"], payment["sequence"], payment["merchant_account"]) == ("pending", 1, MERCHANT)
    window = datetime.fromisoformat(payment["send_by"]) - datetime.fromisoformat(payment["created_at"])
    assert window == timedelta(seconds=30)


def test_the_same_key_and_body_is_the_same_payment_however_it_is_spelled(api: Api) -> None:
    body = api.submission()
    key = secrets.token_hex(8)
    first = api.submit(body, key)

    again = api.submit(dict(reversed(body.items())), key)
    defaults = api.submit({**body, "send_by_s": 60, "metadata": {}, "tender_options": [], "callback_url": None}, key)

    assert (first.status_code, again.status_code, defaults.status_code) == (201, 200, 200)
    assert first.json() == again.json() == defaults.json()


@pytest.mark.parametrize(
    "change",
    [
        {"amount": {"currency": "EUR", "value": 1100}},
        {"amount": {"currency": "USD", "value": 1099}},
        {"reference": "ANOTHER"},
        {"send_by_s": 61},
        {"metadata": {"a": "b"}},
        {"tender_options": ["MOTO"]},
        {"callback_url": "https://shop.example/"},
        {"override_by": "Ann", "override_reason": "asked to"},
    ],
)
def test_the_same_key_with_another_body_is_a_conflict_that_names_the_first(api: Api, change: dict[str, Any]) -> None:
    body, key = api.submission(), secrets.token_hex(8)
    first = api.submit(body, key).json()
    before = api.counts()

    document = assert_problem(api.submit({**body, **change}, key), 409, "idempotency-conflict", "Idempotency-Key")

    assert document["payment_id"] == first["id"]
    assert api.counts() == before


def test_a_key_belongs_to_its_merchant_account(api: Api) -> None:
    key = secrets.token_hex(8)
    ours = api.submit(api.submission(), key)
    theirs = api.submit(api.submission(poi_id=api.terminal(OTHER_MERCHANT)), key, api_key=api.other_key)

    assert (ours.status_code, theirs.status_code) == (201, 201)
    assert ours.json()["id"] != theirs.json()["id"]


def test_the_same_submission_many_times_at_once_is_one_payment(api: Api) -> None:
    for _ in range(ROUNDS):
        body, key = api.submission(), secrets.token_hex(8)

        answers = at_once(lambda _n, body=body, key=key: api.submit(body, key))  # type: ignore[misc]

        assert Counter(answer.status_code for answer in answers) == {201: 1, 200: AT_ONCE - 1}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert rows_of(api, body["reference"]) == 1


def test_one_key_for_different_sales_at_once_accepts_one_of_them(api: Api) -> None:
    for _ in range(ROUNDS):
        key, poi_id = secrets.token_hex(8), api.terminal()
        bodies = [api.submission(poi_id=poi_id) for _ in range(AT_ONCE)]

        answers = at_once(lambda n, bodies=bodies, key=key: api.submit(bodies[n], key))  # type: ignore[misc]

        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: AT_ONCE - 1}
        assert sum(rows_of(api, body["reference"]) for body in bodies) == 1
        accepted = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
        assert {answer.json()["payment_id"] for answer in answers if answer.status_code == 409} == {accepted}


# -- never a second charge for a sale ----------------------------------------------------------------------------------


def test_a_sale_is_taken_once_at_a_time_however_many_ask_at_once(api: Api) -> None:
    poi_id = api.terminal()
    for number in range(ROUNDS):
        body = api.submission(poi_id=poi_id, reference=f"RACE-{number}-{secrets.token_hex(4)}")

        answers = at_once(lambda _n, body=body: api.submit(body))  # type: ignore[misc]  # a key each

        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: AT_ONCE - 1}
        assert rows_of(api, body["reference"]) == 1


@pytest.mark.parametrize("stage", ["queued", "sent", "unknown"])
def test_an_open_payment_blocks_its_sale_and_is_named(api: Api, stage: str) -> None:
    payment = api.accepted()
    if stage != "queued":
        api.claim(payment)
    if stage == "unknown":
        api.unknown(payment)
    before = api.counts()

    answer = api.submit(api.submission(poi_id=payment["poi_id"], reference=payment["reference"]))

    assert assert_problem(answer, 409, "payment-open", "reference")["payment_id"] == payment["id"]
    assert api.counts() == before


def test_a_charged_sale_is_refused_and_the_payment_named(api: Api) -> None:
    payment = api.concluded(api.sent())
    assert payment["charged"] is True

    answer = api.submit(api.submission(reference=payment["reference"]))

    assert assert_problem(answer, 409, "already-charged", "reference")["payment_id"] == payment["id"]


def test_a_declined_payment_frees_its_sale(api: Api) -> None:
    payment = api.concluded(api.sent(), approved=0)
    assert (payment["outcome"], payment["charged"]) == ("declined", False)

    assert api.submit(api.submission(reference=payment["reference"])).status_code == 201


def test_another_merchants_payment_of_the_same_reference_is_another_sale(api: Api) -> None:
    payment = api.accepted()
    theirs = api.submission(poi_id=api.terminal(OTHER_MERCHANT), reference=payment["reference"])

    assert api.submit(theirs, api_key=api.other_key).status_code == 201


def test_what_a_partial_approval_left_may_be_paid_and_no_more(api: Api) -> None:
    payment = api.concluded(api.sent(), approved=600)
    assert (payment["outcome"], payment["authorised_amount"]["value"]) == ("partially_approved", 600)
    reference = payment["reference"]

    def rest(value: int, currency: str = "EUR") -> httpx.Response:
        return api.submit(api.submission(reference=reference, amount={"currency": currency, "value": value}))

    assert_problem(rest(500), 409, "already-charged", "reference")
    assert_problem(rest(499, "USD"), 409, "already-charged", "reference")
    assert rest(499).status_code == 201
    assert_problem(rest(1), 409, "payment-open", "reference")


def test_an_override_passes_and_stays_on_record(api: Api) -> None:
    payment = api.concluded(api.sent())
    body = api.submission(reference=payment["reference"], override_by="Zoë Adler", override_reason="zweite Flasche")

    again = api.submit(body).json()

    line = api.get(f"/v1/payments/{again['id']}/journal").json()["data"][0]
    assert line["detail"].items() >= {"override_by": "Zoë Adler", "override_reason": "zweite Flasche"}.items()
    row = api.row(again["id"])
    assert (row["override_by"], row["override_reason"]) == ("Zoë Adler", "zweite Flasche")


# -- how long a shopper waits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("send_by_s", [5, 3600])
def test_the_bounds_of_send_by_are_allowed(api: Api, send_by_s: int) -> None:
    assert api.submit(api.submission(send_by_s=send_by_s)).status_code == 201


# -- by task -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rung() -> list[Ring]:
    return []


@pytest.fixture
def by_task(api: Api, rung: list[Ring]) -> Callable[[Any], dict[str, Any]]:
    intake = Intake(api.store, rung.extend, SALE_ID)
    return lambda submission: submit_by_task(intake, api.store, submission)


def enveloped(api: Api, **changes: Any) -> dict[str, Any]:
    envelope = {"merchant_account": MERCHANT, "idempotency_key": secrets.token_hex(8)}
    return {**api.submission(), **envelope, **changes}


def test_a_task_and_a_request_with_one_key_are_one_payment(
    api: Api, by_task: Callable[[Any], dict[str, Any]], rung: list[Ring]
) -> None:
    submission = enveloped(api)
    by_http = {name: submission[name] for name in ("reference", "poi_id", "amount")}

    first = by_task(submission)
    again = api.submit(by_http, submission["idempotency_key"])

    assert first["state"] == "pending"
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    assert [str(ring.payment_id) for ring in rung] == [first["id"]]


def test_a_submission_that_is_read_late_prompts_nobody(api: Api, by_task: Callable[[Any], dict[str, Any]]) -> None:
    late = datetime.now(UTC) - timedelta(seconds=61)
    accepted = by_task(enveloped(api, submitted_at=late.isoformat()))

    row = api.row(accepted["id"])
    assert row["send_by"] == late + timedelta(seconds=60)
    with pytest.raises(AssertionError):
        api.claim(accepted)


def test_a_clock_that_runs_ahead_prolongs_nothing(api: Api, by_task: Callable[[Any], dict[str, Any]]) -> None:
    accepted = by_task(enveloped(api, submitted_at="2999-01-01T00:00:00Z"))

    row = api.row(accepted["id"])
    assert row["send_by"] == row["created_at"] + timedelta(seconds=60)


def test_a_refusal_by_task_is_stored_told_and_leaves_the_key_free(
    api: Api, by_task: Callable[[Any], dict[str, Any]]
) -> None:
    good = enveloped(api)
    wrong = {**good, "amount": {"currency": "EUR", "value": 10.5}}
    payments = api.count("payments")

    refused = by_task(wrong)

    assert (refused["rejected"], refused["field"]) == ("invalid-field", "amount.value")
    assert api.count("payments") == payments
    shown = api.get("/v1/rejections", limit=1).json()["data"][0]
    assert shown["problem"] == "invalid-field"
    assert shown["field"] == "amount.value"
    assert shown["detail"] == refused["detail"]
    assert (shown["reference"], shown["idempotency_key"]) == (good["reference"], good["idempotency_key"])
    assert by_task(good)["state"] == "pending"


def test_a_conflict_by_task_names_the_payment_that_is_in_the_way(
    api: Api, by_task: Callable[[Any], dict[str, Any]]
) -> None:
    payment = api.accepted()

    refused = by_task(enveloped(api, poi_id=payment["poi_id"], reference=payment["reference"]))

    assert refused["rejected"] == "payment-open"
    assert api.get("/v1/rejections", limit=1).json()["data"][0]["payment_id"] == payment["id"]


def test_refusals_are_paged_scoped_and_shown_for_thirty_days(
    api: Api, by_task: Callable[[Any], dict[str, Any]]
) -> None:
    api.rows.execute("DELETE FROM rejections")
    for number in range(5):
        by_task(enveloped(api, reference=f"REFUSED-{number}", amount=number))
    by_task(enveloped(api, merchant_account=OTHER_MERCHANT, amount=1))
    api.rows.execute("UPDATE rejections SET at = now() - interval '31 days' WHERE reference = 'REFUSED-0'")

    first = api.get("/v1/rejections", limit=3).json()
    second = api.get("/v1/rejections", limit=3, cursor=first["next_cursor"]).json()

    shown = [refusal["reference"] for refusal in first["data"] + second["data"]]
    assert shown == ["REFUSED-4", "REFUSED-3", "REFUSED-2", "REFUSED-1"]
    assert second["next_cursor"] is None
    assert len(api.get("/v1/rejections", api.other_key).json()["data"]) == 1


GARBAGE: list[Any] = [
    None, True, 0, -1.5, "", "text", [], [[]], {}, {"a": None}, {"submission": {}}, b"bytes", object(), float("nan"),
    {"merchant_account": None}, {"merchant_account": MERCHANT}, {"merchant_account": "x" * 10_000},
    {"merchant_account": "\x00"}, {"idempotency_key": "\ud800", "reference": "\x00" * 100},
    {"reference": "\udfff\x00", "poi_id": object()}, {1: 2}, {None: None}, {("a",): 1}, {"x" * 100_000: "y"},
    {"\x00": 1}, {"\ud800": 1}, {"metadata": {"\ud800": "x"}}, {"metadata": {1: 2}}, {"amount": float("inf")},
    {"amount": {"currency": "EUR", "value": float("nan")}}, {"amount": {"currency": ["EUR"], "value": 10**400}},
    {"submitted_at": "yesterday"}, {"submitted_at": 10**400}, {"submitted_at": "0001-01-01T00:00:00+14:00"},
    {"submitted_at": "9999-12-31T23:59:59-14:00"}, {"submitted_at": float("nan")}, {"submitted_at": []},
    {"submitted_at": datetime(2026, 1, 1)},  # noqa: DTZ001  -- without a zone, as a careless caller has it
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda value: repr(value).partition(" at 0x")[0][:30])
@pytest.mark.parametrize("around", [False, True], ids=["alone", "in a submission"])
def test_garbage_by_task_is_a_stored_refusal_and_never_an_error(
    api: Api, by_task: Callable[[Any], dict[str, Any]], garbage: Any, around: bool
) -> None:
    submission = {**enveloped(api), **garbage} if around and isinstance(garbage, dict) else garbage
    if around and submission == enveloped(api):
        pytest.fail("nothing is wrong with this one")
    rejections = api.count("rejections")

    answer = by_task(submission)

    if (around and isinstance(garbage, dict) and garbage in ({}, {"merchant_account": MERCHANT})) or (
        around and garbage == {"submitted_at": "9999-12-31T23:59:59-14:00"}
    ):
        assert answer["state"] == "pending"
    else:
        assert answer["rejected"] == "invalid-field"
        assert answer["detail"].isprintable()
        assert api.count("rejections") == rejections + 1
