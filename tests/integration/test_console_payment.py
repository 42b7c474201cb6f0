"""The page of one payment: what it says of each kind, what it lets whom do, and what it leaves on record."""

import re
import secrets
from collections.abc import Iterator
from html import unescape
from typing import Any
from uuid import UUID

import httpx
import pytest

from orchestrator.evidence import Exchange
from orchestrator.refund_record import RefundRecorder
from orchestrator.refunds.evidence import RefundBooked, RefundEntry
from orchestrator.store.database import Database
from orchestrator.store.one_payment import OnePaymentStore
from orchestrator.store.refunds import RefundStore
from tests import factories
from tests.integration.console_support import Visitor, text_of, visitor
from tests.integration.http_support import MERCHANT, OTHER_MERCHANT, Api, Json, served
from tests.integration.live_support import display
from tests.integration.plan_support import asked

pytestmark = pytest.mark.integration

HOSTILE = "<script>alert('till')</script>\"'&"


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Receipts are kept, callers are told, and two people have to agree above 20.00 EUR."""
    settings = {
        "COUNTERFOIL_RULING_SECOND_ABOVE": "EUR:2000",
        "COUNTERFOIL_RECEIPTS": "true",
        "COUNTERFOIL_FLOWER_URL": "http://127.0.0.1:5555/tools",
        "COUNTERFOIL_CALLBACK_URL": "https://till.example/hooks?secret=4711",
    }
    with served(postgres_url, tmp_path_factory.mktemp("console-payment"), **settings) as opened:
        yield opened


@pytest.fixture(scope="module")
def operator(api: Api) -> Visitor:
    return visitor(api, "operate")


@pytest.fixture(scope="module")
def finance(api: Api) -> Visitor:
    return visitor(api, "finance")


@pytest.fixture(scope="module")
def viewer(api: Api) -> Visitor:
    return visitor(api)


def path(payment: Json, act: str = "") -> str:
    return f"/console/payments/{payment['id']}" + (f"/{act}" if act else "")


def learn(api: Api, payment: Json, *evidence: Any) -> Json:
    for each in evidence:
        api.recorder.record(UUID(payment["id"]), each)
    return payment


def charged(api: Api, **changes: Any) -> Json:
    payment = api.sent(**changes)
    api.concluded(payment)
    return payment


def unknown(api: Api, minor: int = 1099) -> Json:
    return api.unknown(api.sent(amount={"currency": "EUR", "value": minor}))


def disputed(api: Api) -> Json:
    payment = charged(api)
    psp_reference = api.row(payment["id"])["psp_reference"]
    return learn(api, payment, factories.authorisation(success=False, psp_reference=psp_reference))


def lines(api: Api, payment: Json) -> list[Json]:
    found: list[Json] = api.get(f"/v1/payments/{payment['id']}/journal").json()["data"]
    return found


def refunds(api: Api, payment: Json) -> list[Json]:
    found: list[Json] = api.get(f"/v1/payments/{payment['id']}/refunds").json()["data"]
    return found


def hidden(page: httpx.Response, form: str) -> dict[str, str]:
    """The hidden fields of a form, by where it goes."""
    body = page.text.partition(f'action="{form}"')[2].partition("</form>")[0]
    assert body, f"there is no form {form}"
    return {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', body)}


def values(page: httpx.Response, form: str) -> dict[str, str]:
    """Every field of a form as it is filled in already."""
    body = page.text.partition(f'action="{form}"')[2].partition("</form>")[0]
    typed = dict(re.findall(r'<input name="(\w+)"[^>]* value="([^"]*)"', body))
    typed |= dict(re.findall(r'<textarea name="(\w+)"[^>]*>([^<]*)<', body))
    return {**hidden(page, form), **{name: unescape(value) for name, value in typed.items()}}


def said(answer: httpx.Response) -> str:
    """The notice of a page."""
    return text_of(answer)


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_charged_payment_says_so_first_with_its_card_and_its_proof(api: Api, viewer: Visitor) -> None:
    payment = charged(api, reference="ORDER-charged", operator_id="Mira")

    page = viewer.get(path(payment))

    text = text_of(page)
    assert page.status_code == 200
    assert "<h1>Charged 10.99 EUR</h1>" in page.text
    assert "The sale is paid. Do not take the payment again." in text
    for fact in ("mc …9999", "123456", payment["poi_id"], payment["service_id"], "Mira", "Contactless"):
        assert fact in text
    assert "The terminal reported: approved, 10.99 EUR" in text
    assert "3 lines, chain verified" in text
    assert "Customer's copy" in text
    assert "http-equiv" not in page.text
    assert "data-live" not in page.text


@pytest.mark.parametrize(
    ("make", "verdict"),
    [
        (lambda api: api.accepted(), "Waiting for its turn: do not take the payment again"),
        (lambda api: api.sent(), "Running at the terminal now: do not take the payment again"),
        (unknown, "Not known yet: do not take the payment again"),
        (disputed, "Not known: do not take the payment again"),
        (lambda api: learn(api, api.sent(), factories.failed("Refusal")), "Not charged"),
        (
            lambda api: learn(api, api.sent(), factories.approved(700, result="Partial")),
            "Charged only 7.00 EUR of 10.99 EUR",
        ),
    ],
    ids=["queued", "running", "unknown", "disputed", "declined", "partly"],
)
def test_each_kind_of_payment_has_its_verdict(api: Api, viewer: Visitor, make: Any, verdict: str) -> None:
    payment = make(api)

    page = viewer.get(path(payment))

    assert f"<h1>{verdict}</h1>" in page.text
    is_open = api.row(payment["id"])["outcome"] is None
    assert ("data-live" in page.text) is is_open
    assert ('<noscript><meta http-equiv="refresh" content="10"></noscript>' in page.text) is is_open
    assert "http-equiv" not in viewer.get(path(payment) + "?still=yes").text


def test_a_queued_payment_names_what_it_waits_for(api: Api, viewer: Visitor) -> None:
    first = api.sent()
    second = api.accepted(poi_id=first["poi_id"])
    assert "behind one other payment" in text_of(viewer.get(path(second)))

    api.send("POST", f"/v1/terminals/{first['poi_id']}/hold", {"reason": "paper is out"})
    assert "holds back" in text_of(viewer.get(path(second)))


def test_the_other_payments_of_a_sale_are_listed_and_two_charges_are_warned_of(api: Api, viewer: Visitor) -> None:
    reference = f"SALE-{secrets.token_hex(4)}"
    first = charged(api, reference=reference)
    second = charged(api, reference=reference, override_by="Jo", override_reason="two cakes")

    page = viewer.get(path(second))

    assert path(first) in page.text
    assert "This sale is charged 2 times: 10.99 EUR beside this payment." in text_of(page)
    assert "Jo let the sale be paid again: “two cakes”." in text_of(page)
    third = learn(api, api.sent(reference=reference, override_by="Jo", override_reason="x x"), factories.failed())
    assert "Another payment of this sale is charged: 21.98 EUR." in text_of(viewer.get(path(third)))


def test_an_alarm_comes_with_its_section_of_the_runbook(api: Api, viewer: Visitor) -> None:
    text = text_of(viewer.get(path(disputed(api))))
    assert "Alarm: contradiction" in text
    assert "Do: treat the sale as unpaid goods on hold" in text


@pytest.mark.parametrize("role", ["operator", "finance"])
def test_an_alarm_is_closed_where_it_is_read(
    api: Api, viewer: Visitor, role: str, request: pytest.FixtureRequest
) -> None:
    closer: Visitor = request.getfixturevalue(role)
    payment = disputed(api)
    assert "/close" not in viewer.get(path(payment)).text
    page = closer.get(path(payment))
    form = re.findall(r'action="(/console/alarms/\d+/close)"', page.text)[0]

    after = closer.follow(closer.post(form, {**hidden(page, form), "reason": "the platform was called"}))

    assert str(after.url).endswith(path(payment))
    assert "Alarm: contradiction" not in text_of(after)
    assert "Alarms of before" in text_of(after)


def test_finance_is_offered_no_alarm_that_is_not_about_money(api: Api, finance: Visitor) -> None:
    payment = charged(api)
    (row,) = api.rows.execute(
        "INSERT INTO alarms (name, payment_id) VALUES ('defect', %s) RETURNING id", [payment["id"]]
    ).fetchall()
    form = f"/console/alarms/{row['id']}/close"

    assert form not in finance.get(path(payment)).text
    assert form not in finance.get("/console/attention").text
    refused = finance.post(form, {"reason": "the platform was called"})

    assert refused.status_code == 403
    assert "This needs the role operate, and yours is finance" in text_of(refused)


def test_what_is_hostile_is_shown_and_does_nothing(api: Api, viewer: Visitor) -> None:
    reference = "ORDER-<b>\"'&amp;"
    payment = charged(api, reference=reference, metadata={"note": HOSTILE}, operator_id=HOSTILE)

    page = viewer.get(path(payment))

    assert "<script>alert" not in page.text
    assert "ORDER-<b>" not in page.text
    assert HOSTILE in text_of(page) or HOSTILE in unescape(page.text)
    assert reference in unescape(page.text)


def test_a_journal_that_somebody_changed_is_not_shown_as_proof(api: Api, viewer: Visitor) -> None:
    payment = charged(api)
    with api.rows.transaction():
        api.rows.execute("SET LOCAL session_replication_role = replica")
        api.rows.execute(
            'UPDATE journal_details SET detail = detail || \'{"auth_code": "999999"}\''
            " WHERE payment_id = %s AND sequence = 3",
            [payment["id"]],
        )

    text = text_of(viewer.get(path(payment)))

    assert "chain broken" in text
    assert "Line 3 was given another detail after it was written." in text


def test_what_the_terminal_shows_stands_beside_the_verdict(api: Api, viewer: Visitor) -> None:
    payment = api.sent()
    api.push(display(payment["poi_id"], "WAIT_FOR_PIN", service_id=payment["service_id"]))
    assert "The terminal shows: Waiting for the PIN" in text_of(viewer.get(path(payment)))


def test_status_checks_and_what_is_planned_are_listed(api: Api, viewer: Visitor) -> None:
    payment = learn(api, unknown(api), factories.missing(Exchange.STATUS), factories.missing(Exchange.STATUS))
    text = text_of(viewer.get(path(payment)))
    assert "2 answers" in text
    assert "Ask the terminal what became of it" in text


def test_the_receipts_are_a_page_to_print(api: Api, viewer: Visitor) -> None:
    page = viewer.get(path(charged(api), "receipts"))
    assert page.status_code == 200
    assert page.text.count('<pre class="mono receipt">') == 2


def test_a_callbacks_address_is_shown_by_its_host_alone(api: Api, viewer: Visitor) -> None:
    page = viewer.get(path(charged(api)))
    assert "payment.confirmed" in text_of(page)
    assert "till.example" in page.text
    assert "4711" not in page.text


def test_the_page_is_read_in_one_round_trip_of_three_statements(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one more says who is logged in; what the planner makes of them, the plans of all pages say."""
    payment = charged(api)
    calls: list[Any] = []

    def counted(database: Any, statements: Any) -> Any:
        calls.append(statements)
        return each_of(database, statements)

    each_of = Database.each_of
    monkeypatch.setattr(Database, "each_of", counted)

    with asked() as found:
        one = OnePaymentStore(api.database).read(UUID(payment["id"]), MERCHANT)

    assert one is not None
    assert len(calls) == 1
    assert len(found.sent) == 3


def test_its_tasks_are_searched_for_in_flower(api: Api, viewer: Visitor) -> None:
    """Flower's page of tasks reads ``name`` from its address, and searches for what else stands in it."""
    payment = charged(api)
    address = f"http://127.0.0.1:5555/tools/tasks?name=tasks.%20kwargs%3A{payment['id']}"
    assert f'href="{address}"' in viewer.get(path(payment)).text


# -- who sees and does what --------------------------------------------------------------------------------------------


def test_another_merchants_payment_is_not_there(api: Api) -> None:
    payment = unknown(api)
    stranger = visitor(api, "admin", OTHER_MERCHANT)

    assert stranger.get(path(payment)).status_code == 404
    assert stranger.get(path(payment, "events")).status_code == 404
    assert stranger.get(path(payment, "receipts")).status_code == 404
    for act in ("check", "abort", "refund", "rule"):
        assert stranger.post(path(payment, act)).status_code == 404
    assert len(lines(api, payment)) == 3


def test_nobody_sees_anything_without_a_login(api: Api) -> None:
    payment = charged(api)
    for each in (path(payment), path(payment, "events"), path(payment, "receipts")):
        answer = Visitor(api).get(each)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/console/login")


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("viewer", set()),
        ("submit", set()),
        ("operate", {"check", "abort"}),
        ("finance", {"refund", "rule"}),
    ],
)
def test_each_role_does_its_own_and_nothing_else(api: Api, role: str, allowed: set[str]) -> None:
    payment, somebody = unknown(api), visitor(api, role)

    for act in {"check", "abort", "refund", "rule"} - allowed:
        assert somebody.post(path(payment, act)).status_code == 403
    page = somebody.get(path(payment))
    shown = set(re.findall(rf'action="{path(payment)}/(\w+)"', page.text))
    assert shown <= allowed
    assert len(lines(api, payment)) == 3


def test_a_form_that_is_not_this_persons_does_nothing(api: Api, operator: Visitor) -> None:
    payment = unknown(api)
    assert operator.post(path(payment, "check"), {"csrf": "guessed"}).status_code == 403
    assert operator.post(path(payment, "check"), origin="https://elsewhere.example").status_code == 403
    assert len(lines(api, payment)) == 3


# -- asking ------------------------------------------------------------------------------------------------------------


def test_a_check_is_on_record_by_the_persons_name(api: Api, operator: Visitor) -> None:
    payment = unknown(api)

    page = operator.follow(operator.post(path(payment, "check")))

    line = lines(api, payment)[-1]
    assert (line["evidence"], line["detail"]) == ("check_asked", {"asked_by": f"user {operator.name}"})
    assert "The terminal is asked now." in said(page)
    assert f"user {operator.name} asked what became of it." in text_of(page)


def test_an_abort_of_what_was_not_sent_ends_it(api: Api, operator: Visitor) -> None:
    payment = api.accepted()

    page = operator.follow(operator.post(path(payment, "abort")))

    assert lines(api, payment)[-1]["detail"] == {"asked_by": f"user {operator.name}"}
    assert "<h1>Not charged</h1>" in page.text
    assert api.row(payment["id"])["outcome"] == "aborted"


def test_an_abort_of_what_runs_asks_the_terminal(api: Api, operator: Visitor) -> None:
    payment = api.sent()
    page = operator.follow(operator.post(path(payment, "abort")))
    assert "Only the payment's own result says whether it was stopped." in said(page)
    assert api.row(payment["id"])["abort_asked"]


@pytest.mark.parametrize(
    ("make", "act", "sentence"),
    [
        (charged, "abort", "It has ended: there is nothing left to stop."),
        (disputed, "abort", "it is settled by a ruling, not by stopping it."),
        (lambda api: api.accepted(), "check", "It was never sent, so there is no terminal to ask."),
        (unknown, "refund", "It is not known to be charged, so there is nothing to pay back yet."),
        (charged, "rule", "It has an outcome; only what is unknown is ruled on."),
        (lambda api: api.sent(), "rule", "It can still end by itself; only what is unknown is ruled on."),
    ],
)
def test_what_makes_no_sense_any_more_is_neither_offered_nor_done(api: Api, make: Any, act: str, sentence: str) -> None:
    payment, somebody = make(api), visitor(api, "admin")
    before = len(lines(api, payment))

    answer = somebody.post(path(payment, act), {"reason": "because", "key": "k"})

    assert f'action="{path(payment, act)}"' not in somebody.get(path(payment)).text
    assert answer.status_code == 409
    assert sentence in text_of(answer)
    assert len(lines(api, payment)) == before
    assert not refunds(api, payment)


# -- paying back -------------------------------------------------------------------------------------------------------


def test_a_refund_is_prefilled_with_what_is_left_and_on_record_with_its_reason(api: Api, finance: Visitor) -> None:
    payment = charged(api)
    form = values(finance.get(path(payment)), path(payment, "refund"))
    assert form["amount"] == "10.99"

    page = finance.follow(
        finance.post(path(payment, "refund"), {**form, "amount": "4.50", "reason": "cake\r\nwas burnt"})
    )

    [refund] = refunds(api, payment)
    assert refund["amount"] == {"currency": "EUR", "value": 450}
    assert refund["asked_by"] == f"user {finance.name}"
    assert refund["reference"] == f"{payment['reference']}-R1"
    journal = api.get(f"/v1/refunds/{refund['id']}/journal").json()["data"]
    assert journal[0]["detail"]["reason"] == "cake was burnt"
    assert "The refund of 4.50 EUR is taken." in said(page)
    assert "Reason: “cake was burnt”." in text_of(page)
    assert values(page, path(payment, "refund"))["amount"] == "6.49"


def test_a_second_press_of_the_same_form_pays_back_once(api: Api, finance: Visitor) -> None:
    payment = charged(api)
    form = values(finance.get(path(payment)), path(payment, "refund")) | {"reason": "returned"}

    first, second = (finance.post(path(payment, "refund"), form) for _ in range(2))

    assert (first.status_code, second.status_code) == (303, 303)
    assert "was taken already; nothing was done twice" in said(finance.follow(second))
    assert len(refunds(api, payment)) == 1
    # and a form that was opened anew is another refund, of which nothing is left
    assert f'action="{path(payment, "refund")}"' not in finance.get(path(payment)).text
    again = finance.post(path(payment, "refund"), {**form, "key": form["key"][:-1] + "2"})
    assert again.status_code == 409
    assert "0.00 EUR is left to pay back" in text_of(again)
    assert len(refunds(api, payment)) == 1


def test_two_people_who_look_at_the_same_page_pay_back_once(api: Api, finance: Visitor) -> None:
    payment, other = charged(api), visitor(api, "finance")
    first, second = (values(who.get(path(payment)), path(payment, "refund")) for who in (finance, other))
    part = {"amount": "4.50", "reason": "returned"}

    finance.follow(finance.post(path(payment, "refund"), {**first, **part}))
    same = other.follow(other.post(path(payment, "refund"), {**second, **part}))
    less = other.post(path(payment, "refund"), {**second, "amount": "2.00", "reason": "some of it"})

    assert "was taken already; nothing was done twice" in said(same)
    assert less.status_code == 409
    assert "Another refund was taken since you opened this page" in text_of(less)
    assert [refund["amount"]["value"] for refund in refunds(api, payment)] == [450]
    # that page shows the first one: who presses again means a second
    other.follow(other.post(path(payment, "refund"), values(less, path(payment, "refund"))))
    assert sorted(refund["amount"]["value"] for refund in refunds(api, payment)) == [200, 450]


def test_a_refund_over_http_since_the_page_was_opened_is_seen_before_another_one(api: Api, finance: Visitor) -> None:
    payment = charged(api)
    form = values(finance.get(path(payment)), path(payment, "refund"))
    body = {"reference": "BACK", "amount": {"currency": "EUR", "value": 300}}
    asked_over_http = api.http.post(
        f"/v1/payments/{payment['id']}/refunds",
        json=body,
        headers={"authorization": f"Bearer {api.key}", "idempotency-key": secrets.token_hex(8)},
    )
    assert asked_over_http.status_code == 201

    answer = finance.post(path(payment, "refund"), {**form, "amount": "3.00", "reason": "returned"})

    assert answer.status_code == 409
    assert "Another refund was taken since you opened this page" in text_of(answer)
    assert len(refunds(api, payment)) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"amount": "10,50"}, "write it like 10.99"),
        ({"amount": ""}, "say how much is to be paid back"),
        ({"amount": "0"}, "EUR above zero"),
        ({"amount": "10.999"}, "write it like 10.99"),
        ({"amount": "11.00"}, "10.99 EUR is left to pay back"),
        ({"reference": "no:colons"}, "reference"),
        ({"reason": " "}, "3 to 500 characters"),
        ({"reason": "x" * 501}, "3 to 500 characters"),
        ({"key": ""}, "Another refund was taken"),
        ({"key": "of another page"}, "Another refund was taken"),
    ],
)
def test_a_refund_that_is_refused_keeps_what_was_typed(
    api: Api, finance: Visitor, changes: dict[str, str], sentence: str
) -> None:
    payment = charged(api)
    key = hidden(finance.get(path(payment)), path(payment, "refund"))["key"]
    form = {"key": key, "amount": "3.00", "reference": "BACK-1", "reason": 'it "broke" <twice>', **changes}

    answer = finance.post(path(payment, "refund"), form)

    assert answer.status_code in {409, 422}
    assert sentence in text_of(answer)
    assert "Nothing was done." in text_of(answer)
    assert '<details class="confirm" open>' in answer.text
    kept = values(answer, path(payment, "refund"))
    assert {name: kept[name] for name in ("amount", "reference", "reason")} == {
        name: form[name] for name in ("amount", "reference", "reason")
    }
    assert not refunds(api, payment)
    assert "http-equiv" not in answer.text


def test_what_is_paid_back_whole_says_so_and_offers_no_more(api: Api, finance: Visitor) -> None:
    payment = charged(api)
    form = values(finance.get(path(payment)), path(payment, "refund")) | {"reason": "returned"}
    page = finance.follow(finance.post(path(payment, "refund"), form))
    assert "10.99 EUR is on its way back" in text_of(page)

    store = RefundStore(api.database)
    booked = RefundBooked(entry=RefundEntry.REFUNDED, source="webhook:REFUND", digest=secrets.token_hex(32))
    RefundRecorder(store, factories.POLICY, lambda _: None).record(UUID(refunds(api, payment)[0]["id"]), booked)

    page = finance.get(path(payment))
    assert "<h1>Charged 10.99 EUR, and all of it paid back</h1>" in page.text
    assert f'action="{path(payment, "refund")}"' not in page.text


# -- ruling ------------------------------------------------------------------------------------------------------------


def rule(who: Visitor, payment: Json, **fields: str) -> httpx.Response:
    """Fill in the form as the page gives it."""
    form = hidden(who.get(path(payment)), path(payment, "rule"))
    return who.post(path(payment, "rule"), {**form, "outcome": "approved", "reason": "seen in the books", **fields})


def test_a_ruling_settles_an_unknown_by_the_persons_name(api: Api, finance: Visitor) -> None:
    payment = unknown(api)

    page = finance.follow(rule(finance, payment))

    detail = lines(api, payment)[-1]["detail"]
    assert (detail["ruled_by"], detail["reason"]) == (f"user {finance.name}", "seen in the books")
    assert "<h1>Charged 10.99 EUR</h1>" in page.text
    assert "A person ruled so." in text_of(page)
    assert f"user {finance.name} ruled: charged. Reason: “seen in the books”." in text_of(page)


def test_above_the_limit_a_second_person_reads_and_agrees(api: Api, finance: Visitor) -> None:
    payment, second = unknown(api, 250_000), visitor(api, "finance")

    page = finance.follow(rule(finance, payment, outcome="declined", reason="no trace of it"))

    assert "Your ruling waits for a second person" in said(page)
    assert "That was you." in text_of(page)
    assert api.row(payment["id"])["state"] == "unknown"
    # once more by the same person changes nothing
    finance.follow(rule(finance, payment, outcome="declined", reason="no trace of it"))
    assert api.row(payment["id"])["state"] == "unknown"

    seen = second.get(path(payment))
    assert f"user {finance.name} proposes a ruling: Not charged: the card was declined." in text_of(seen)
    assert "“no trace of it”" in text_of(seen)
    agreed = second.follow(second.post(path(payment, "rule"), hidden(seen, path(payment, "rule"))))
    assert "<h1>Not charged</h1>" in agreed.text
    detail = lines(api, payment)[-1]["detail"]
    assert (detail["ruled_by"], detail["second"]) == (f"user {finance.name}", f"user {second.name}")


def test_a_proposal_with_a_card_number_is_agreed_to_without_it(api: Api, finance: Visitor) -> None:
    payment, second = unknown(api, 250_000), visitor(api, "finance")
    rule(finance, payment, reason="the card 4111 1111 1111 1111 has it")

    seen = second.get(path(payment))
    assert "4111" not in seen.text
    second.post(path(payment, "rule"), hidden(seen, path(payment, "rule")))

    assert api.row(payment["id"])["state"] == "reconciled"


def test_a_proposal_over_http_is_agreed_to_here_whatever_spaces_its_reason_has(api: Api, finance: Visitor) -> None:
    payment = unknown(api, 250_000)
    sequence = api.row(payment["id"])["sequence"]
    body = {"outcome": "declined", "reason": " seen in the  books ", "sequence": sequence}
    key = api.make_key(MERCHANT, "finance")
    assert api.send("POST", f"/v1/payments/{payment['id']}/ruling", body, key).status_code == 202

    seen = finance.get(path(payment))
    finance.post(path(payment, "rule"), hidden(seen, path(payment, "rule")))

    assert api.row(payment["id"])["state"] == "reconciled"


def test_a_ruling_on_what_one_did_not_see_is_refused_with_the_payment_as_it_is(
    api: Api, finance: Visitor, operator: Visitor
) -> None:
    payment = unknown(api)
    form = hidden(finance.get(path(payment)), path(payment, "rule"))
    operator.post(path(payment, "check"))

    answer = finance.post(path(payment, "rule"), {**form, "outcome": "approved", "reason": "seen in the books"})

    assert answer.status_code == 409
    assert "The payment has changed since you saw it" in text_of(answer)
    assert ">seen in the books</textarea>" in answer.text
    assert '<option value="approved" selected>' in answer.text
    assert hidden(answer, path(payment, "rule"))["sequence"] == str(int(form["sequence"]) + 1)
    assert api.row(payment["id"])["state"] == "unknown"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"outcome": ""}, "Choose what became of the money."),
        ({"outcome": "paid"}, "Choose what became of the money."),
        ({"reason": ""}, "3 to 500 characters"),
        ({"outcome": "partially_approved"}, "a partial approval names an amount"),
        ({"authorised_amount": "ten"}, "write it like 10.99"),
        ({"outcome": "declined", "authorised_amount": "3.00"}, "belongs to a charge"),
        ({"sequence": "none"}, "sequence"),
    ],
)
def test_a_ruling_that_cannot_be_is_refused_with_a_sentence(
    api: Api, finance: Visitor, changes: dict[str, str], sentence: str
) -> None:
    payment = unknown(api)
    answer = rule(finance, payment, **changes)
    assert answer.status_code == 422
    assert sentence in text_of(answer)
    assert api.row(payment["id"])["state"] == "unknown"


# -- callbacks, live ---------------------------------------------------------------------------------------------------


def test_a_callback_is_told_again_from_the_payment_it_is_about(api: Api, operator: Visitor) -> None:
    payment, other = charged(api), charged(api)
    telling = api.rows.execute("SELECT id FROM tellings WHERE payment_id = %s", [payment["id"]]).fetchone()
    assert telling
    api.rows.execute("UPDATE tellings SET delivered_at = now() WHERE id = %s", [telling["id"]])
    form = f"callbacks/{telling['id']}/redeliver"

    assert operator.post(path(other, form)).status_code == 404
    page = operator.follow(operator.post(path(payment, form)))

    assert "It is told again now" in said(page)
    row = api.rows.execute("SELECT delivered_at FROM tellings WHERE id = %s", [telling["id"]]).fetchone()
    assert row
    assert row["delivered_at"] is None


def test_an_open_payment_is_followed_from_what_its_page_shows(api: Api, operator: Visitor) -> None:
    payment = api.sent()
    page = operator.get(path(payment))
    address = unescape(page.text.partition('data-live="')[2].partition('"')[0])
    assert address.startswith(path(payment, "events"))

    with operator.http.stream("GET", address, timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        learn(api, payment, factories.approved())
        events = (line for line in stream.iter_lines() if line.startswith("event: "))
        # nothing that the page shows already comes again: the first news is that it ended
        assert next(events) == "event: payment.confirmed"
