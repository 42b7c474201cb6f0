"""The console's terminals: what stands on the pages, who may hold and release, and asking which are connected."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from orchestrator.web.console.terminals import PAGE_ROWS
from tests.integration.console_support import Visitor, notice_of, text_of, visitor
from tests.integration.http_support import MERCHANT, OTHER_MERCHANT, Api, served
from tests.integration.plan_support import CSRF, consoled

pytestmark = pytest.mark.integration

HOSTILE = "<script>alert(1)</script>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


class Cloud:
    """The cloud's list of connected terminals, and nothing else."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self.asked: list[str] = []
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                cloud.asked.append(self.path)
                known = self.path == "/connectedTerminals"
                body = json.dumps({"uniqueTerminalIds": cloud.connected}).encode()
                self.send_response(200 if known else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    opened = Cloud()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory, cloud: Cloud) -> Iterator[Api]:
    settings = {"COUNTERFOIL_API_KEY": "a-key", "COUNTERFOIL_CLOUD_URL": cloud.url}
    with served(postgres_url, tmp_path_factory.mktemp("logs"), **settings) as api:
        yield api


def showed(api: Api, poi_id: str, name: str, kind: str = "display", detail: Any = None) -> None:
    api.rows.execute(
        "INSERT INTO terminal_events (poi_id, kind, name, detail) VALUES (%s, %s, %s, %s)",
        [poi_id, kind, name, Jsonb(detail or {})],
    )


def row(api: Api, poi_id: str) -> dict[str, Any]:
    found = api.rows.execute("SELECT * FROM terminals WHERE poi_id = %s", [poi_id]).fetchone()
    assert found
    return found


# -- what the pages show -----------------------------------------------------------------------------------------------


def test_a_terminals_page_says_what_it_runs_what_waits_what_is_unknown_and_what_it_shows(api: Api) -> None:
    poi_id = api.terminal()
    unknown = api.unknown(api.sent(poi_id=poi_id))
    api.rows.execute("UPDATE payments SET asked_since_unknown = true WHERE id = %s", [unknown["id"]])
    running, waiting = api.sent(poi_id=poi_id), api.accepted(poi_id=poi_id)
    showed(api, poi_id, "WAIT_FOR_PIN")
    showed(api, poi_id, "OutOfOrder", "event")

    answer = visitor(api).get(f"/console/terminals/{poi_id}")

    said = text_of(answer)
    assert f"{poi_id} takes a payment" in said
    assert "1 more waits behind it" in said
    assert "Waiting for the PIN" in said
    assert "Out of order" in said
    for payment in (unknown, running, waiting):
        assert payment["reference"] in said
        assert f'href="/console/payments/{payment["id"]}"' in answer.text
    listed = text_of(visitor(api).get(f"/console/terminals?begins={poi_id}"))
    assert re.search(rf"{poi_id} Running {running['reference']} 10.99 EUR , .* 1 1 Waiting for the PIN", listed)


def test_a_terminal_that_said_that_something_is_wrong_is_shown_so(api: Api) -> None:
    poi_id = api.terminal()
    api.rows.execute("UPDATE terminals SET trouble = 'tampered', trouble_at = now() WHERE poi_id = %s", [poi_id])

    assert f"{poi_id}: security alarm" in text_of(visitor(api).get(f"/console/terminals/{poi_id}"))
    assert "Security alarm" in text_of(visitor(api).get(f"/console/terminals?begins={poi_id}"))


def test_what_a_terminal_showed_for_another_merchant_is_not_shown(api: Api) -> None:
    poi_id = api.terminal(OTHER_MERCHANT)
    showed(api, poi_id, "WAIT_FOR_PIN")
    api.terminals.put({"poi_id": poi_id, "merchant_account": MERCHANT, "transport": "async"})

    assert "Waiting for the PIN" not in text_of(visitor(api).get(f"/console/terminals/{poi_id}"))
    assert "Waiting for the PIN" not in text_of(visitor(api).get(f"/console/terminals?begins={poi_id}"))


def test_another_merchants_terminal_does_not_exist(api: Api) -> None:
    poi_id = api.terminal(OTHER_MERCHANT)
    somebody = visitor(api, "admin")

    assert somebody.get(f"/console/terminals/{poi_id}").status_code == 404
    assert somebody.get(f"/console/terminals/{poi_id}/events").status_code == 404
    for act in ("hold", "release", "look"):
        answer = somebody.post(f"/console/terminals/{poi_id}/{act}", {"reason": "because"})
        assert answer.status_code == 404
    assert poi_id not in text_of(somebody.get(f"/console/terminals?begins={poi_id}"))
    assert row(api, poi_id)["held_at"] is None


def test_hostile_text_is_text(api: Api) -> None:
    poi_id = api.terminal()
    api.rows.execute(
        "UPDATE terminals SET store = %s, held_at = now(), held_by = %s, hold_reason = %s, looked_at = now(), look = %s"
        " WHERE poi_id = %s",
        [HOSTILE, HOSTILE, HOSTILE, Jsonb(dict.fromkeys(("condition", "battery", "printer", "why"), HOSTILE)), poi_id],
    )
    showed(api, poi_id, HOSTILE)
    somebody = visitor(api)

    for page in (
        f"/console/terminals/{poi_id}",
        "/console/terminals?store=" + HOSTILE,
        f"/console/terminals?begins={HOSTILE}",
    ):
        answer = somebody.get(page)
        assert answer.status_code == 200
        assert HOSTILE not in answer.text
        assert ESCAPED in answer.text


@pytest.mark.parametrize("query", ["begins=%00", "after=%00", "store=" + "x" * 81, "begins=%0a"])
def test_an_address_that_no_page_of_ours_has_is_refused(api: Api, query: str) -> None:
    assert visitor(api).get(f"/console/terminals?{query}").status_code in {400, 422}


def test_a_thousand_terminals_are_paged_through_each_once_and_in_order(api: Api) -> None:
    api.rows.execute(
        "INSERT INTO terminals (poi_id, merchant_account, store, transport)"
        " SELECT (ARRAY['M400', 'P400Plus', 'S1E2'])[1 + n % 3] || '-' || lpad(n::text, 9, '0'), 'Thousands',"
        " 'Quay ' || n % 10, 'async' FROM generate_series(1, 1000) AS n"
    )
    somebody = visitor(api, merchant_account="Thousands")
    assert somebody.get("/console/terminals").text.count('href="/console/terminals/') == PAGE_ROWS

    def through(page: str | None) -> list[str]:
        found: list[str] = []
        while page:
            text = somebody.get(page).text
            found += re.findall(r'href="/console/terminals/([^"]+)"', text)
            forward = re.search(r'href="([^"]+)" rel="next"', text)
            page = forward[1].replace("&amp;", "&") if forward else None
        return found

    every = through("/console/terminals")
    assert len(every) == len(set(every)) == 1000
    assert every == sorted(every)
    assert through("/console/terminals?begins=M400-") == [each for each in every if each.startswith("M400-")]
    assert len(through("/console/terminals?store=Quay 3")) == 100
    assert through("/console/terminals?store=Quay") == []


def test_a_merchant_without_terminals_is_told_how_to_register_one(api: Api) -> None:
    assert "counterfoil terminals add" in text_of(visitor(api, merchant_account="Nobody").get("/console/terminals"))


# -- hold and release --------------------------------------------------------------------------------------------------


def test_whoever_operates_holds_with_a_reason_and_is_named_until_somebody_releases(api: Api) -> None:
    poi_id, somebody = api.terminal(), visitor(api, "operate")

    held = somebody.post(f"/console/terminals/{poi_id}/hold", {"reason": " its printer\r\nis being swapped "})

    said = text_of(somebody.follow(held))
    assert f"{poi_id} is held" in said
    kept = row(api, poi_id)
    assert (kept["held_by"], kept["hold_reason"]) == (f"user {somebody.name}", "its printer is being swapped")
    assert f"user {somebody.name}" in said
    waiting = api.accepted(poi_id=poi_id)
    assert api.row(waiting["id"])["sent_at"] is None
    released = somebody.post(f"/console/terminals/{poi_id}/release")
    assert "The payment that waited first starts now" in text_of(somebody.follow(released))
    assert row(api, poi_id)["held_at"] is None
    due = api.rows.execute(
        "SELECT due_at <= now() AS due FROM commands WHERE payment_id = %s AND kind = 'send'", [UUID(waiting["id"])]
    )
    assert due.fetchone() == {"due": True}


@pytest.mark.parametrize("reason", ["", "  ", "ok", "x" * 501, "\x00\x01\x02"])
def test_a_hold_without_a_sensible_reason_is_refused(api: Api, reason: str) -> None:
    poi_id = api.terminal()

    answer = visitor(api, "operate").post(f"/console/terminals/{poi_id}/hold", {"reason": reason})
    assert answer.status_code in {400, 422}
    assert row(api, poi_id)["held_at"] is None


def test_a_card_number_in_a_reason_is_not_kept(api: Api) -> None:
    poi_id = api.terminal()

    visitor(api, "operate").post(f"/console/terminals/{poi_id}/hold", {"reason": "took 4111 1111 1111 1111 twice"})

    assert "4111 1111 1111 1111" not in row(api, poi_id)["hold_reason"]


@pytest.mark.parametrize("role", ["viewer", "submit", "finance"])
def test_other_roles_see_no_such_form_and_are_refused(api: Api, role: str) -> None:
    poi_id, somebody = api.terminal(), visitor(api, role)

    assert f"/console/terminals/{poi_id}/hold" not in somebody.get(f"/console/terminals/{poi_id}").text
    assert somebody.post(f"/console/terminals/{poi_id}/hold", {"reason": "because"}).status_code == 403
    assert somebody.post(f"/console/terminals/{poi_id}/release").status_code == 403
    assert row(api, poi_id)["held_at"] is None


@pytest.mark.parametrize("act", ["hold", "release", "look"])
def test_a_form_that_is_not_ours_does_nothing(api: Api, act: str) -> None:
    poi_id, somebody = api.terminal(), visitor(api, "operate")
    path, fields = f"/console/terminals/{poi_id}/{act}", {"reason": "because"}

    assert somebody.post(path, {**fields, "csrf": "another"}).status_code == 403
    assert somebody.post(path, fields, origin="https://elsewhere.example").status_code == 403
    assert Visitor(api).post(path, fields).headers["location"].startswith("/console/login")
    assert (row(api, poi_id)["held_at"], row(api, poi_id)["looked_at"]) == (None, None)


# -- connected ---------------------------------------------------------------------------------------------------------


def test_which_are_connected_is_asked_on_demand_and_shown_with_its_age(api: Api, cloud: Cloud) -> None:
    here, away = api.terminal(), api.terminal()
    for poi_id in (here, away):
        api.terminals.put({"poi_id": poi_id, "merchant_account": MERCHANT, "transport": "async", "store": "Looked at"})
    somebody = visitor(api)
    cloud.asked.clear()
    assert "not looked" in text_of(somebody.get("/console/terminals?store=Looked at"))
    assert cloud.asked == []
    cloud.connected = [here]

    answer = somebody.post("/console/terminals/look", {"store": "Looked at"})

    assert "Asked the cloud: 1 connected, 1 away." in text_of(somebody.follow(answer))
    assert re.search(r"Connected (just now|\d+ s ago)", text_of(somebody.get(f"/console/terminals?begins={here}")))
    assert re.search(r"Away (just now|\d+ s ago)", text_of(somebody.get(f"/console/terminals?begins={away}")))
    assert cloud.asked == ["/connectedTerminals"]


def test_who_looks_just_after_somebody_else_asks_nobody(api: Api, cloud: Cloud) -> None:
    poi_id, somebody = api.terminal(), visitor(api)
    api.rows.execute("UPDATE terminals SET looked_at = now(), look = '{}' WHERE poi_id = %s", [poi_id])
    cloud.asked.clear()

    for path in ("/console/terminals/look", f"/console/terminals/{poi_id}/look"):
        said = text_of(somebody.follow(somebody.post(path, {"begins": poi_id})))
        assert "Somebody looked a moment ago" in said
    assert cloud.asked == []


def test_one_terminal_is_asked_itself(api: Api, cloud: Cloud) -> None:
    poi_id, somebody = api.terminal(), visitor(api)
    cloud.connected = []

    answer = somebody.post(f"/console/terminals/{poi_id}/look")

    assert "Asked: away." in text_of(somebody.follow(answer))
    assert row(api, poi_id)["look"]["condition"] == "away"


def test_a_product_without_a_way_to_the_cloud_says_so_and_shows_the_page(postgres_url: str) -> None:
    with consoled(postgres_url, payments=0) as keyless:
        keyless.sql(
            "INSERT INTO terminals (poi_id, merchant_account, transport) VALUES ('V400m-1', 'HarbourBakery', 'async')"
        )
        for path in ("/console/terminals/look", "/console/terminals/V400m-1/look"):
            answer = keyless.http.post(path, data={"csrf": CSRF})
            assert "cannot be asked from here: COUNTERFOIL_API_KEY is not set" in notice_of(answer)
            assert "V400m-1" in keyless.get(answer.headers["location"])


# -- live --------------------------------------------------------------------------------------------------------------


def test_a_session_follows_its_terminal_and_nobody_else_does(api: Api) -> None:
    poi_id, somebody = api.terminal(), visitor(api)
    showed(api, poi_id, "CARD_INSERTED")

    with somebody.http.stream("GET", f"/console/terminals/{poi_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        seen = ""
        for part in stream.iter_text():
            seen += part
            if "terminal.display" in seen and "terminal.state" in seen:
                break
    assert "Card inserted" in seen
    assert Visitor(api).get(f"/console/terminals/{poi_id}/events").status_code == 303
