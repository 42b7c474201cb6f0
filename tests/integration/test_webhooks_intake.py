"""The endpoint of standard webhooks: who is believed, what is stored before an answer, and that nothing is lost."""

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.booking import Booked, BookEntry, Booker
from orchestrator.errors import Defect, StoreUnavailable
from orchestrator.refund_record import RefundRecorder
from orchestrator.store import schema
from orchestrator.store.database import connect_arguments
from orchestrator.store.differences import DifferenceStore
from orchestrator.store.links import LinkStore
from orchestrator.store.refunds import RefundStore
from orchestrator.store.webhooks import WebhookStore
from orchestrator.webhook_intake import WebhookIntake
from orchestrator.webhooks import signatures
from orchestrator.webhooks.effects import EFFECTS
from tests import protocol_vectors
from tests.integration.http_support import Api, Json, assert_problem, serving
from tests.integration.webhook_support import (
    FOREIGN_KEY,
    KEY,
    OLD_KEY,
    alarms,
    believed,
    body,
    book,
    kept,
    paid,
    post,
    psp,
    signed,
    webhook,
    with_keys,
)
from tests.services import Embedded, fresh_database, libpq_url

pytestmark = pytest.mark.integration

VECTOR_KEY = bytes.fromhex("5A1C0D7EB2F94638A7C1E0D9B8F7A6C5D4E3F2A1B0C9D8E7F6A5B4C3D2E1F001")
BODIES = [name for name in protocol_vectors.ENTRIES if name.startswith("webhooks/")]


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with with_keys(database_url, tmp_path_factory.mktemp("logs")) as api:
            yield api


def intake(api: Api, *keys: bytes, booker: Any = None) -> WebhookIntake:
    """The intake of another process on the same database."""
    refunds = RefundStore(api.database)
    refund_recorder = RefundRecorder(refunds, api.recorder.policy, lambda _rings: None)
    made = Booker(LinkStore(api.database), DifferenceStore(api.database), api.recorder, refunds, refund_recorder)
    return WebhookIntake(WebhookStore(api.database), booker or made, keys, live=False)


class Broken:
    """A booker that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def apply(self, _entry: BookEntry) -> Booked:
        raise self.error


def quarantined(api: Api) -> int:
    return api.count("webhook_quarantine")


def empty_quarantine(api: Api) -> None:
    api.rows.execute("DELETE FROM webhook_quarantine")


# -- who is believed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [KEY, OLD_KEY], ids=["current", "previous"])
def test_the_current_and_the_previous_key_are_believed(api: Api, key: bytes) -> None:
    payment = paid(api)

    book(api, webhook(payment, pspReference=payment["psp_reference"]), key=key)

    assert believed(api, payment)[0] == "reconciled"


@pytest.mark.parametrize(
    "make",
    [
        lambda item: item,
        lambda item: signed(item, FOREIGN_KEY),
        lambda item: {**signed(item), "success": "false"},
        lambda item: {**signed(item), "amount": {"currency": "EUR", "value": 1}},
        lambda item: {**item, "additionalData": {"hmacSignature": "ü" * 44}},
        lambda item: {**item, "additionalData": {"hmacSignature": ""}},
        lambda item: {**item, "additionalData": None},
    ],
)
def test_what_is_not_signed_is_401_and_has_no_effect(api: Api, make: Any) -> None:
    payment = paid(api)
    before, stored, held = api.row(payment["id"]), api.count("webhooks"), quarantined(api)

    answer = post(api, body(make(webhook(payment, pspReference=payment["psp_reference"]))))

    assert_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "HmacSHA256"
    assert (api.row(payment["id"]), api.count("webhooks")) == (before, stored)
    assert quarantined(api) == held + 1
    assert "webhook_signature" in alarms(api)


def test_without_a_key_nobody_is_believed(postgres_url: str, tmp_path: Path) -> None:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with serving(database_url, tmp_path) as closed:
            empty = signatures.sign(b"", signatures.signed_text(webhook()) or b"")
            for item in (webhook(), signed(webhook()), signed(webhook(), b"\0" * 32)):
                assert_problem(post(closed, body(item)), 401, "unauthorized")
            assert_problem(post(closed, b"{}", HmacSignature=empty), 401, "unauthorized")
            assert closed.count("webhooks") == 0


@pytest.mark.parametrize("name", BODIES)
def test_each_composed_body_is_accepted_with_its_key(api: Api, name: str) -> None:
    taken = intake(api, VECTOR_KEY).receive(protocol_vectors.body(name), None)

    assert taken
    assert not intake(api, KEY).receive(protocol_vectors.body(name), None)


def test_one_bad_item_does_not_keep_the_good_one_from_its_effect_and_the_body_comes_again(api: Api) -> None:
    empty_quarantine(api)
    good, bad = paid(api), paid(api)
    items = [webhook(each, pspReference=each["psp_reference"]) for each in (good, bad)]
    content = body(signed(items[0]), signed(items[1], FOREIGN_KEY))

    assert_problem(post(api, content), 401, "unauthorized")
    assert_problem(post(api, content), 401, "unauthorized")

    assert (believed(api, good)[0], believed(api, bad)[0]) == ("reconciled", "confirmed")
    assert kept(api, items[0])["times"] == 2
    assert quarantined(api) == 1


# -- the newer kind ----------------------------------------------------------------------------------------------------

EVENT = b'{"type": "terminalSettings.modified", "environment": "test", "data": {"merchantId": "HarbourBakery"}}'


def test_a_signed_body_of_the_newer_kind_is_stored_and_moves_no_money(api: Api) -> None:
    journal = api.count("journal")

    answer = post(api, EVENT, HmacSignature=signatures.sign(KEY, EVENT), Protocol="HmacSHA256")

    assert (answer.status_code, answer.text) == (200, "[accepted]")
    row = api.rows.execute("SELECT * FROM webhooks WHERE event_code = 'terminalSettings.modified'").fetchone()
    assert row
    assert (row["became"], row["merchant_account"], row["live"]) == ("noted", "HarbourBakery", False)
    assert api.count("journal") == journal


@pytest.mark.parametrize("content", [EVENT + b"\n", EVENT.replace(b": ", b":"), b"{}"])
def test_another_body_than_was_signed_is_401(api: Api, content: bytes) -> None:
    before = api.count("webhooks")

    assert_problem(post(api, content, HmacSignature=signatures.sign(KEY, EVENT)), 401, "unauthorized")

    assert api.count("webhooks") == before


def test_a_signature_over_the_body_does_not_vouch_for_items(api: Api) -> None:
    payment = paid(api)
    content = body(webhook(payment, "CANCELLATION", originalReference=payment["psp_reference"]))

    answer = post(api, content, HmacSignature=signatures.sign(KEY, content))

    assert answer.status_code == 200
    assert believed(api, payment) == ("confirmed", "approved", None)


# -- stored, counted, and not lost -------------------------------------------------------------------------------------


def test_a_webhook_that_comes_many_times_at_once_is_journalled_once_and_counted(api: Api) -> None:
    for _ in range(5):
        payment = paid(api)
        item = webhook(payment, pspReference=payment["psp_reference"])
        content, gate = body(signed(item)), threading.Barrier(8)

        def push(_n: int, content: bytes = content, gate: threading.Barrier = gate) -> int:
            gate.wait(10)
            return post(api, content).status_code

        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(push, range(8))) == {200}
        row = kept(api, item)
        assert (row["times"], row["became"]) == (8, "recorded")
        lines = api.rows.execute(
            "SELECT count(*) AS n FROM journal WHERE payment_id = %s AND evidence = 'books_reported'", [payment["id"]]
        ).fetchone()
        assert lines == {"n": 1}


def test_nothing_of_a_body_is_stored_beyond_the_allow_list(api: Api) -> None:
    canary = "4111111111111111"
    payment = paid(api)
    item = webhook(payment, pspReference=payment["psp_reference"], reason=f"123456:{canary}:02/2028", shopper=canary)

    answer = post(api, body(signed(item, KEY, cardSummary=canary, expiryDate="02/2028", alias=canary)))

    assert answer.status_code == 200
    assert canary not in json.dumps(kept(api, item), default=str)
    detail = api.rows.execute(
        "SELECT detail FROM journal_details WHERE payment_id = %s ORDER BY sequence DESC LIMIT 1", [payment["id"]]
    ).fetchone()
    assert detail
    assert set(detail["detail"]) == {"entry", "source", "psp_reference", "amount", "effective_at", "covers_day"}


def test_a_defect_keeps_the_webhook_alarms_and_lets_the_next_one_pass(api: Api) -> None:
    payment = paid(api)
    item = webhook(payment, pspReference=payment["psp_reference"])
    before = alarms(api).count("defect")

    assert intake(api, KEY, booker=Broken(Defect("no such cell"))).receive(body(signed(item)), None)

    assert (kept(api, item)["became"], alarms(api).count("defect")) == (None, before + 1)
    book(api, webhook())  # the next one passes, and does not try the broken one again
    assert kept(api, item)["became"] is None

    assert intake(api, KEY).replay().processed == 1
    assert kept(api, item)["became"] == "recorded"
    assert believed(api, payment)[0] == "reconciled"


@pytest.mark.parametrize("sent_again", [True, False])
def test_what_was_stored_and_not_processed_is_finished_when_it_or_another_one_comes(api: Api, sent_again: bool) -> None:
    payment = paid(api)
    item = webhook(payment, pspReference=payment["psp_reference"])
    with pytest.raises(StoreUnavailable):
        intake(api, KEY, booker=Broken(StoreUnavailable())).receive(body(signed(item)), None)
    assert kept(api, item)["became"] is None

    if not sent_again:
        api.rows.execute("UPDATE webhooks SET received_at = now() - interval '2 minutes' WHERE became IS NULL")
    book(api, item if sent_again else webhook())

    assert kept(api, item)["became"] == "recorded"
    assert believed(api, payment)[0] == "reconciled"


def test_what_was_recorded_and_not_marked_is_recorded_once(api: Api) -> None:
    payment = paid(api)
    item = webhook(payment, "REFUND", originalReference=payment["psp_reference"])
    book(api, item)
    number, before = kept(api, item)["number"], api.row(payment["id"])
    api.rows.execute("UPDATE webhooks SET became = NULL, processed_at = NULL WHERE number = %s", [number])

    assert intake(api, KEY).process_again(number)

    assert api.row(payment["id"]) == before
    assert kept(api, item)["became"] == "recorded"
    assert intake(api, KEY).process_again(10**9) is None


def test_a_webhook_that_could_not_be_stored_is_answered_503_until_it_can(postgres_url: str, tmp_path: Path) -> None:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with with_keys(database_url, tmp_path) as api:
            payment = paid(api)
            content = body(signed(webhook(payment, pspReference=payment["psp_reference"])))
            name = connect_arguments(database_url)["dbname"]
            with psycopg.connect(libpq_url(postgres_url), autocommit=True) as server:
                server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
                server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
                assert_problem(post(api, content), 503, "store-unavailable")
                server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
            deadline = time.monotonic() + 20
            while post(api, content).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            shown = api.get(f"/v1/payments/{payment['id']}").json()
            assert shown["state"] == "reconciled"


# -- the quarantine ----------------------------------------------------------------------------------------------------


def test_a_body_under_an_unknown_key_is_replayed_once_the_key_is_known(api: Api) -> None:
    empty_quarantine(api)
    payment = paid(api)
    content = body(signed(webhook(payment, pspReference=payment["psp_reference"]), FOREIGN_KEY))
    event = signatures.sign(FOREIGN_KEY, EVENT)
    assert_problem(post(api, content), 401, "unauthorized")
    assert_problem(post(api, content), 401, "unauthorized")
    assert_problem(post(api, EVENT, HmacSignature=event), 401, "unauthorized")
    held = api.rows.execute("SELECT times FROM webhook_quarantine ORDER BY times").fetchall()
    assert [row["times"] for row in held] == [1, 2]

    still = intake(api, KEY, OLD_KEY).replay()
    assert (still.released, still.refused) == (0, 2)
    fixed = intake(api, FOREIGN_KEY, KEY).replay()

    assert (fixed.released, fixed.refused) == (2, 0)
    assert believed(api, payment)[0] == "reconciled"
    assert quarantined(api) == 0
    assert intake(api, FOREIGN_KEY).replay().released == 0


def test_a_body_without_a_signature_counts_and_its_bytes_are_not_kept(api: Api) -> None:
    empty_quarantine(api)
    content = body(webhook())

    post(api, content)
    post(api, content)

    row = api.rows.execute("SELECT body, size_bytes, times FROM webhook_quarantine").fetchone()
    assert row == {"body": None, "size_bytes": 0, "times": 2}


@pytest.mark.parametrize(("bodies_max", "bytes_max", "left"), [(3, 10**6, 3), (100, 4_500, 4)])
def test_the_quarantine_is_capped_by_count_and_bytes_and_the_oldest_go(
    api: Api, bodies_max: int, bytes_max: int, left: int
) -> None:
    empty_quarantine(api)
    store = WebhookStore(api.database)
    for number in range(8):
        store.quarantine(
            digest=f"{number}", size_bytes=1_000, header=None, body=b"x", bodies_max=bodies_max, bytes_max=bytes_max
        )

    found = [row["digest"] for row in store.quarantined(100)]
    assert found == [str(number) for number in reversed(range(8 - left, 8))]


def test_many_strangers_at_once_fill_no_more_than_the_quarantine(api: Api) -> None:
    empty_quarantine(api)
    store = WebhookStore(api.database)

    def intrude(number: int) -> None:
        store.quarantine(digest=f"{number}", size_bytes=9, header=None, body=b"x", bodies_max=5)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(intrude, range(100)))
    intrude(100)

    assert quarantined(api) <= 5


def test_a_flood_raises_one_alarm(api: Api) -> None:
    api.rows.execute("DELETE FROM alarms WHERE name = 'webhook_signature'")

    for _ in range(5):
        post(api, body(signed(webhook(), FOREIGN_KEY)))

    assert alarms(api).count("webhook_signature") == 1


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "status", "slug"),
    [
        (b"", 400, "malformed-body"),
        (b"not json", 400, "malformed-body"),
        (b"{}", 400, "malformed-body"),
        (b'{"notificationItems": []}', 400, "malformed-body"),
        (b'{"notificationItems": [{}]}', 400, "malformed-body"),
        (b'{"a": 1, "a": 2}', 400, "malformed-body"),
        (b"[" * 100_000 + b"]" * 100_000, 400, "malformed-body"),
        (b" " * 262_145, 413, "body-too-large"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_webhook_or_no_size_is_refused_and_stores_nothing(
    api: Api, content: bytes, status: int, slug: str
) -> None:
    before = api.counts()

    answer = post(api, content)

    assert answer.status_code == status
    assert answer.json()["type"].endswith(slug)
    assert api.counts() == before


def test_a_full_body_of_items_is_taken_within_the_platforms_patience(api: Api) -> None:
    payment = paid(api)
    items = [signed(webhook(payment, "CHARGEBACK", originalReference=payment["psp_reference"])) for _ in range(400)]
    content = body(*items)
    assert len(content) < 262_144

    answer = post(api, content)

    assert answer.status_code == 200
    assert answer.elapsed.total_seconds() < 8


TEXTS = st.text(max_size=300) | st.text("\x00\x1f\ud800é漢🙂:\\", max_size=90)
INTEGERS = st.integers(-(2**63), 2**63)  # longer ones are not JSON that is taken
VALUES = TEXTS | st.none() | st.booleans() | INTEGERS | st.lists(INTEGERS, max_size=2)
DATES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-12))])).map(datetime.isoformat)
CODES = st.sampled_from(sorted({code for code, _ in EFFECTS}))
ODD = st.fixed_dictionaries(
    {"eventCode": CODES | VALUES, "success": st.sampled_from(["true", "false", True, "x", None])},
    optional={
        "eventDate": DATES | VALUES,
        "pspReference": VALUES,
        "originalReference": VALUES,
        "merchantReference": VALUES,
        "merchantAccountCode": VALUES,
        "amount": VALUES | st.fixed_dictionaries({"value": VALUES, "currency": st.just("EUR") | VALUES}),
        "reason": VALUES,
        "additionalData": st.dictionaries(
            st.sampled_from(["terminalId", "tenderReference", "modification.action"]), VALUES
        ),
    },
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=ODD)
def test_whatever_the_platform_signs_is_taken_and_holds_nothing_back(api: Api, changes: dict[str, Any]) -> None:
    """Nothing that the right key signed may ever be a failure: the platform would send it again for a month."""
    item = {**webhook(pspReference=psp()), **changes}
    item["additionalData"] = changes.get("additionalData") or {}
    text = signatures.signed_text(item)
    if text is not None:
        assert intake(api, KEY).receive(body(signed(item)), None)

    assert api.rows.execute("SELECT 1 FROM webhooks WHERE failed_at IS NOT NULL").fetchone() is None


# -- what it costs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "writes"), [("CAPTURE", 1), ("AUTHORISATION", 3)])
def test_a_webhook_costs_one_writing_database_transaction_and_three_when_it_moves_something(
    embedded: Embedded, tmp_path: Path, code: str, writes: int
) -> None:
    """Counted on a server of our own, where nobody else takes a number."""
    with fresh_database(embedded.servers().database_url) as database_url:
        schema.upgrade(database_url)
        with with_keys(database_url, tmp_path) as api:
            payment = paid(api)
            item = webhook(payment, code, pspReference=payment["psp_reference"])
            book(api, webhook(payment, "CAPTURE", pspReference=psp()))  # whatever is made at first use is made
            api.rows.execute("CHECKPOINT")
            before = next_xid(api)

            book(api, item)

            assert next_xid(api) - before == writes


def next_xid(api: Api) -> int:
    row = api.rows.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid").fetchone()
    assert row
    return int(row["xid"])


def test_what_a_webhook_says_survives_its_way_through_the_table(api: Api) -> None:
    payment: Json = paid(api)
    item = webhook(payment, "CAPTURE", originalReference=payment["psp_reference"], reason="why", merchantReference="R")
    book(api, item)
    store = WebhookStore(api.database)

    found = store.one(kept(api, item)["number"])

    assert found
    stored = dataclasses.asdict(found.item)
    assert (stored["psp_reference"], stored["original_reference"]) == (item["pspReference"], payment["psp_reference"])
    assert (stored["reason"], stored["reference"], stored["success"]) == ("why", "R", True)
    assert stored["amount"] == {"currency": "EUR", "minor": 1099}
    assert stored["happened_at"].endswith("Z")
