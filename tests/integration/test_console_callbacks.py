"""The console's callbacks: what stands on the pages, telling again, and the quarantine of webhooks."""

import hashlib
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Json

from orchestrator.store.webhooks import WebhookStore
from orchestrator.web.console.callbacks import PAGE_ROWS
from orchestrator.webhook_intake import WebhookIntake
from tests.integration.console_support import Visitor, text_of, visitor
from tests.integration.http_support import MERCHANT, OTHER_MERCHANT, Api, served, serving
from tests.integration.webhook_support import FOREIGN_KEY, body, signed, signing, webhook

pytestmark = pytest.mark.integration

HOSTILE = "</pre><script>alert(1)</script>"
SECRET = "https://till.example/told?token=s3cret"


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs"), **signing()) as api:
        yield api


def told(api: Api, merchant: str = MERCHANT, **changes: Any) -> UUID:
    """A callback of a payment that nobody else has; delivered, unless something else is said."""
    payment = None if merchant != MERCHANT else api.accepted()["id"]
    row = {
        "payment_id": payment, "merchant_account": merchant, "sequence": payment and 7, "type": "payment.confirmed",
        "url": SECRET, "data": Json({"reference": "SALE-1"}), "attempts": 1, "state": "delivered", "last_status": 200,
        "last_error": None, **changes,
    }  # fmt: skip
    found = api.rows.execute(
        "INSERT INTO tellings (payment_id, merchant_account, sequence, type, at, url, data, attempts, delivered_at,"
        " parked_at, last_status, last_error) VALUES (%(payment_id)s, %(merchant_account)s, %(sequence)s, %(type)s,"
        " now(), %(url)s, %(data)s, %(attempts)s, CASE WHEN %(state)s = 'delivered' THEN now() END,"
        " CASE WHEN %(state)s = 'parked' THEN now() END, %(last_status)s, %(last_error)s) RETURNING id",
        row,
    ).fetchone()
    assert found
    return UUID(str(found["id"]))


def row(api: Api, telling_id: UUID) -> dict[str, Any]:
    found = api.rows.execute("SELECT * FROM tellings WHERE id = %s", [telling_id]).fetchone()
    assert found
    return found


def links(text: str) -> list[str]:
    return re.findall(r'href="/console/callbacks/([0-9a-f-]{36})"', text)


# -- lists -------------------------------------------------------------------------------------------------------------


def test_a_list_says_what_became_of_each_and_is_narrowed_by_state_type_and_payment(api: Api) -> None:
    merchant = f"Merchant{secrets.token_hex(6)}"
    delivered = told(api, merchant)
    parked = told(api, merchant, state="parked", attempts=20, last_status=None, last_error="connect_timeout")
    waiting = told(api, merchant, state="waiting", type="reconciliation.completed", attempts=0, last_status=None)
    somebody = visitor(api, merchant_account=merchant)

    def found(query: str) -> list[str]:
        return links(somebody.get(f"/console/callbacks?{query}").text)

    assert found("") == [str(waiting), str(parked), str(delivered)]
    assert (found("state=waiting"), found("state=parked")) == ([str(waiting)], [str(parked)])
    assert (found("state=delivered"), found("type=reconciliation.completed")) == ([str(delivered)], [str(waiting)])
    assert found("state=parked&type=reconciliation.completed") == []
    assert "connect timeout" in text_of(somebody.get("/console/callbacks?state=parked"))
    assert "No callback is like that." in text_of(somebody.get("/console/callbacks?type=refund.unknown"))


def test_the_callbacks_of_one_payment_are_found_by_its_id(api: Api) -> None:
    mine = told(api)
    told(api)
    payment = row(api, mine)["payment_id"]

    assert links(visitor(api).get(f"/console/callbacks?payment= {payment} ").text) == [str(mine)]


@pytest.mark.parametrize("query", ["state=gone", "type=payment.lost", "payment=42", "before=-1", "before=x"])
def test_an_address_that_asks_for_what_there_is_not_is_refused(api: Api, query: str) -> None:
    assert visitor(api).get(f"/console/callbacks?{query}").status_code == 422


def test_a_thousand_are_paged_through_each_once_and_newest_first(api: Api) -> None:
    merchant = f"Merchant{secrets.token_hex(6)}"
    api.rows.execute(
        "INSERT INTO tellings (merchant_account, type, at, url, data, delivered_at)"
        " SELECT %s, 'reconciliation.completed', now(), 'https://till.example', '{}', now()"
        " FROM generate_series(1, 1000)",
        [merchant],
    )
    somebody, found, page = visitor(api, merchant_account=merchant), [], "/console/callbacks?state=delivered"
    while page:
        text = somebody.get(page).text
        assert len(links(text)) <= PAGE_ROWS
        found += links(text)
        forward = re.search(r'href="([^"]+)" rel="next"', text)
        page = forward[1].replace("&amp;", "&") if forward else ""
    newest = api.rows.execute(
        "SELECT id FROM tellings WHERE merchant_account = %s ORDER BY number DESC", [merchant]
    ).fetchall()
    assert found == [str(each["id"]) for each in newest]


def test_nobody_was_told_anything_is_said(api: Api) -> None:
    assert "Nobody was told anything yet." in text_of(visitor(api, merchant_account="Nobody").get("/console/callbacks"))


def test_addresses_are_shown_by_their_host_alone_and_hostile_text_is_text(api: Api) -> None:
    merchant = f"Merchant{secrets.token_hex(6)}"
    data = Json({"reference": HOSTILE, "because": HOSTILE})
    one = told(api, merchant, state="parked", data=data, last_error=HOSTILE[:40], type=HOSTILE[:40])
    told(api, merchant, state="parked", url="http://[broken", data=data)
    somebody = visitor(api, merchant_account=merchant)

    for page in ("/console/callbacks", f"/console/callbacks/{one}"):
        answer = somebody.get(page)
        assert answer.status_code == 200
        assert "till.example" in answer.text
        assert "s3cret" not in answer.text
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert" in answer.text


def test_another_merchants_callback_does_not_exist(api: Api) -> None:
    theirs = told(api, OTHER_MERCHANT, state="parked")
    somebody = visitor(api, "admin")

    assert somebody.get(f"/console/callbacks/{theirs}").status_code == 404
    assert somebody.post(f"/console/callbacks/{theirs}/redeliver").status_code == 404
    assert str(theirs) not in somebody.get("/console/callbacks?state=parked").text
    assert row(api, theirs)["parked_at"] is not None


# -- telling again -----------------------------------------------------------------------------------------------------


def test_whoever_operates_has_one_told_again_under_its_old_id(api: Api) -> None:
    parked, somebody = told(api, state="parked", attempts=20), visitor(api, "operate")
    assert "Given up" in text_of(somebody.get(f"/console/callbacks/{parked}"))

    answer = somebody.post(f"/console/callbacks/{parked}/redeliver")

    assert "It is told again now" in text_of(somebody.follow(answer))
    kept = row(api, parked)
    assert (kept["parked_at"], kept["attempts"]) == (None, 0)
    rung = api.rows.execute(
        "SELECT due_at <= now() AS due FROM commands WHERE payment_id = %s AND kind = 'tell_caller'",
        [kept["payment_id"]],
    ).fetchone()
    assert rung == {"due": True}


def test_one_that_retention_emptied_cannot_be_told_again(api: Api) -> None:
    emptied, somebody = told(api, state="parked", data=Json({})), visitor(api, "operate")

    assert "nothing left to tell" in text_of(somebody.get(f"/console/callbacks/{emptied}"))
    assert somebody.post(f"/console/callbacks/{emptied}/redeliver").status_code == 409


def test_all_parked_of_one_address_are_told_again_and_no_others(api: Api) -> None:
    merchant = f"Merchant{secrets.token_hex(6)}"
    mine = [told(api, merchant, state="parked") for _ in range(3)]
    elsewhere = told(api, merchant, state="parked", url="https://till.example/told?token=another")
    theirs = told(api, f"Merchant{secrets.token_hex(6)}", state="parked")
    somebody = visitor(api, "operate", merchant)
    receiver = hashlib.sha256(SECRET.encode()).hexdigest()
    page = somebody.get("/console/callbacks")
    assert f'value="{receiver}"' in page.text
    assert "till.example 3 parked" in text_of(page)

    answer = somebody.post("/console/callbacks/redeliver-parked", {"receiver": receiver})

    assert "3 callbacks are told again now." in text_of(somebody.follow(answer))
    assert [row(api, each)["parked_at"] for each in mine] == [None] * 3
    assert row(api, elsewhere)["parked_at"] is not None
    assert row(api, theirs)["parked_at"] is not None
    again = somebody.post("/console/callbacks/redeliver-parked", {"receiver": receiver})
    assert "Nothing is parked for that address any more" in text_of(somebody.follow(again))


@pytest.mark.parametrize("receiver", ["", "x", "0" * 63, "' OR 1=1 --"])
def test_an_address_that_is_no_digest_is_refused(api: Api, receiver: str) -> None:
    answer = visitor(api, "operate").post("/console/callbacks/redeliver-parked", {"receiver": receiver})
    assert answer.status_code == 422


@pytest.mark.parametrize("role", ["viewer", "submit", "finance"])
def test_other_roles_see_no_such_form_and_are_refused(api: Api, role: str) -> None:
    parked, somebody = told(api, state="parked"), visitor(api, role)
    receiver = {"receiver": hashlib.sha256(SECRET.encode()).hexdigest()}

    for page in (f"/console/callbacks/{parked}", "/console/callbacks", "/console/callbacks/quarantine"):
        assert "/redeliver" not in somebody.get(page).text
    assert somebody.post(f"/console/callbacks/{parked}/redeliver").status_code == 403
    assert somebody.post("/console/callbacks/redeliver-parked", receiver).status_code == 403
    assert somebody.post("/console/callbacks/quarantine/replay").status_code == 403
    assert row(api, parked)["parked_at"] is not None


def test_a_form_that_is_not_ours_does_nothing(api: Api) -> None:
    parked, somebody = told(api, state="parked"), visitor(api, "operate")
    receiver = hashlib.sha256(SECRET.encode()).hexdigest()

    for path in (f"/console/callbacks/{parked}/redeliver", "/console/callbacks/redeliver-parked",
                 "/console/callbacks/quarantine/replay"):  # fmt: skip
        fields = {"receiver": receiver}
        assert somebody.post(path, {**fields, "csrf": "another"}).status_code == 403
        assert somebody.post(path, fields, origin="https://elsewhere.example").status_code == 403
        assert Visitor(api).post(path, fields).status_code == 303
    assert row(api, parked)["parked_at"] is not None


def test_a_callback_that_is_not_there_is_not_found(api: Api) -> None:
    somebody = visitor(api, "operate")

    assert somebody.get(f"/console/callbacks/{uuid4()}").status_code == 404
    assert somebody.post(f"/console/callbacks/{uuid4()}/redeliver").status_code == 404


# -- the quarantine ----------------------------------------------------------------------------------------------------


def test_what_came_under_a_wrong_key_is_counted_and_taken_once_the_key_is_right(api: Api, tmp_path: Path) -> None:
    answer = api.http.post("/webhooks/standard", content=body(signed(webhook(), FOREIGN_KEY)))
    assert answer.status_code == 401
    api.http.post("/webhooks/standard", content=body(webhook(merchantReference=HOSTILE)))
    somebody = visitor(api, "operate")
    page = somebody.get("/console/callbacks/quarantine")
    said = text_of(page)
    assert "2 webhooks in quarantine" in said
    assert "signed with a key that is not ours" in said
    assert "1 has no signature at all" in said
    assert HOSTILE not in page.text
    assert "Webhooks in quarantine: 2" in text_of(somebody.get("/console/callbacks"))
    nothing = somebody.follow(somebody.post("/console/callbacks/quarantine/replay"))
    assert "0 of 1 are signed with a key of now" in text_of(nothing)
    assert "notice-failed" in nothing.text

    with serving(api.database_url, tmp_path, **signing(FOREIGN_KEY)) as right:
        somebody = visitor(right, "operate")
        done = somebody.follow(somebody.post("/console/callbacks/quarantine/replay"))
        assert "1 of 1 are signed with a key of now and were taken" in text_of(done)
        assert "1 webhook in quarantine" in text_of(done)
        assert right.count("webhooks") == 1


def test_the_quarantine_is_paged_newest_first_each_once_and_a_replay_ends_in_time(api: Api) -> None:
    api.rows.execute(
        "INSERT INTO webhook_quarantine (digest, size_bytes, header, body, last_at)"
        " SELECT md5(n::text) || md5(n::text), 3, 'x', 'abc', now() - n / 10 * interval '1 minute'"
        " FROM generate_series(1, 120) AS n"
    )
    somebody, found, page = visitor(api), [], "/console/callbacks/quarantine"
    while page:
        text = somebody.get(page).text
        found += re.findall(r'title="([0-9a-f]{64})"', text)
        forward = re.search(r'href="([^"]+)" rel="next"', text)
        page = forward[1].replace("&amp;", "&") if forward else ""
    newest = api.rows.execute("SELECT digest FROM webhook_quarantine ORDER BY last_at DESC, digest DESC").fetchall()
    assert found == [each["digest"] for each in newest]
    nobody: Any = None  # nothing is signed, so nothing is booked
    intake = WebhookIntake(WebhookStore(api.database), nobody, [], live=False)
    hurried, whole = intake.replay(0.0), intake.replay()
    assert (hurried.whole, hurried.refused) == (False, 0)
    assert whole.whole
    assert whole.refused >= 120
    api.rows.execute("DELETE FROM webhook_quarantine")
    assert "The quarantine is empty." in text_of(somebody.get("/console/callbacks/quarantine"))
