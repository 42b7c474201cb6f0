"""What terminals show and say, kept and followed live: nothing lost, nothing twice, nobody else's."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from orchestrator.keys import digest_of
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import live, schema
from tests.integration.http_support import MERCHANT, PASSWORD, USERNAME, Api, Json, assert_problem, served, serving
from tests.integration.live_support import display, event, following
from tests.integration.simulator_support import Asked, Till
from tests.services import fresh_database

pytestmark = pytest.mark.integration

DIALOGUE = ["TENDER_CREATED", "CARD_INSERTED", "WAIT_FOR_PIN", "PIN_ENTERED", "CARD_REMOVED", "TENDER_FINAL"]


@pytest.fixture(scope="module")
def database_url(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        schema.upgrade(url)
        yield url


@pytest.fixture(scope="module")
def pair(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Api]]:
    """Two API processes on one database."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(serving(database_url, tmp_path_factory.mktemp("logs"))) for _ in range(2))
        yield one, two


@pytest.fixture
def api(pair: tuple[Api, Api]) -> Api:
    return pair[0]


def show(api: Api, payment: Json, *names: str) -> None:
    for name in names:
        answer = api.push(display(payment["poi_id"], name, service_id=payment["service_id"]))
        assert (answer.status_code, answer.text) == (200, "[accepted]")


def kept(api: Api, poi_id: str) -> list[Json]:
    return api.rows.execute("SELECT * FROM terminal_events WHERE poi_id = %s ORDER BY id", [poi_id]).fetchall()


# -- a payment ---------------------------------------------------------------------------------------------------------


def test_a_payment_is_followed_from_now_to_its_outcome_through_another_process(pair: tuple[Api, Api]) -> None:
    one, two = pair
    payment = one.sent()

    with following(two.url, f"/v1/payments/{payment['id']}/events", two.key) as stream:
        [now] = stream.until(1)
        show(one, payment, *DIALOGUE)
        stream.until(7)
        concluded = one.concluded(payment)
        stream.eventually(lambda: stream.events[-1].name == "payment.confirmed")

    assert (now.name, now.data["sequence"]) == ("payment.pending", 2)
    assert stream.names() == DIALOGUE
    assert stream.events[-1].data == concluded
    assert stream.retries_ms
    shown = stream.events[4].data
    assert (shown["name"], shown["text"], shown["payment_id"]) == ("PIN_ENTERED", "PIN entered", payment["id"])
    assert (shown["terminal_at"], shown["tender_reference"]) == ("2025-11-25T09:00:32.000Z", "BV5k001764061234003")


def test_who_resumes_loses_nothing_and_hears_nothing_twice(pair: tuple[Api, Api]) -> None:
    one, two = pair
    payment = one.sent()
    path = f"/v1/payments/{payment['id']}/events"
    with following(one.url, path, one.key) as first:
        first.until(1)
        show(one, payment, *DIALOGUE[:3])
        first.until(4)

    show(one, payment, *DIALOGUE[3:5])  # while nobody listens
    with following(two.url, path, two.key, last_event_id=first.last_id()) as second:
        second.until(2)
        show(one, payment, DIALOGUE[5])
        second.until(3)
    one.concluded(payment)
    with following(one.url, path, one.key, after=second.last_id()) as third:
        third.until(1)
        time.sleep(0.6)  # two looks more

    assert first.names() + second.names() + third.names() == DIALOGUE
    assert [event.name for event in second.events + third.events if event.name.startswith("payment.")] == [
        "payment.confirmed"
    ]
    ids = [event.id for stream in (first, second, third) for event in stream.events]
    assert len(set(ids)) == len(ids)


def test_who_joins_late_is_told_the_state_first_and_then_what_stands_on_the_screen(api: Api) -> None:
    payment = api.sent()
    show(api, payment, *DIALOGUE[:4])

    with following(api.url, f"/v1/payments/{payment['id']}/events", api.key) as stream:
        stream.until(2)
        time.sleep(0.6)

    assert [(event.name, event.data.get("name")) for event in stream.events] == [
        ("payment.pending", None),
        ("terminal.display", "PIN_ENTERED"),
    ]


def test_who_asks_for_everything_gets_everything_that_is_kept(api: Api) -> None:
    payment = api.sent()
    names = [f"STEP_{number}" for number in range(2 * live.BATCH_MAX + 7)]
    show(api, payment, *names)

    with following(api.url, f"/v1/payments/{payment['id']}/events", api.key, after="0") as stream:
        stream.until(len(names) + 1)

    assert stream.names() == names


def test_a_place_ahead_of_a_restored_database_does_not_keep_news_back(api: Api) -> None:
    payment = api.sent()
    show(api, payment, "TENDER_CREATED")
    ahead = "999999999999999999.999999999"

    with following(api.url, f"/v1/payments/{payment['id']}/events", api.key, last_event_id=ahead) as stream:
        stream.until(1)
        show(api, payment, "PIN_ENTERED")
        stream.until(2)

    assert [event.name for event in stream.events] == ["payment.pending", "terminal.display"]


# -- nothing is skipped, and nobody waits ------------------------------------------------------------------------------


def test_what_was_numbered_first_and_committed_last_is_not_skipped(api: Api) -> None:
    payment = api.sent()
    parameters = {"kind": "display", "name": "CARD_INSERTED", "detail": "{}", "poi_id": payment["poi_id"],
        "sale_id": None, "service_id": payment["service_id"], "trouble": None, "tells_trouble": False,
        "alarm": None, "told": None, "callback_url": None}  # fmt: skip
    with (
        following(api.url, f"/v1/terminals/{payment['poi_id']}/events", api.key) as stream,
        psycopg.connect(api.rows.info.dsn) as slow,
        ThreadPoolExecutor(1) as threads,
    ):
        stream.until(1)
        slow.execute(live._TAKE_TURN, parameters)
        slow.execute(live._KEEP, parameters)  # has its number, and is not committed
        later = threads.submit(show, api, payment, "PIN_ENTERED")
        time.sleep(0.6)
        seen_before = stream.names()
        slow.commit()
        later.result(5)
        stream.until(3)

    assert seen_before == []
    assert stream.names() == ["CARD_INSERTED", "PIN_ENTERED"]


def test_a_long_write_elsewhere_in_the_database_delays_nothing(api: Api) -> None:
    """Which is why no reader waits for the oldest database transaction that runs."""
    payment = api.sent()
    with (
        following(api.url, f"/v1/terminals/{payment['poi_id']}/events", api.key) as stream,
        psycopg.connect(api.rows.info.dsn) as slow,
    ):
        stream.until(1)
        slow.execute("INSERT INTO strays (digest, why) VALUES (%s, 'a long write')", [payment["id"].replace("-", "")])
        show(api, payment, "PIN_ENTERED")
        stream.until(2, within_s=1.0)

    assert stream.names() == ["PIN_ENTERED"]


def test_a_burst_from_many_threads_arrives_whole_and_once_at_every_watcher(pair: tuple[Api, Api]) -> None:
    one, two = pair
    payments = [one.sent() for _ in range(4)]
    each = [f"BURST_{number}" for number in range(15)]
    with ExitStack() as stack:
        streams = {}
        for payment in payments:
            for api in pair:
                path = f"/v1/terminals/{payment['poi_id']}/events"
                streams[payment["id"], api.url] = stack.enter_context(following(api.url, path, api.key))
        with ThreadPoolExecutor(12) as threads:
            jobs = [
                threads.submit(show, pair[number % 2], payment, name)
                for number, name in enumerate(each)
                for payment in payments
            ]
            for job in jobs:
                job.result(30)
        for stream in streams.values():
            stream.eventually(lambda stream=stream: len(stream.names()) >= len(each))

    for payment in payments:
        stored = [row["name"] for row in kept(one, payment["poi_id"])]
        assert sorted(stored) == sorted(each)
        for api in (one, two):
            assert streams[payment["id"], api.url].names() == stored


def test_twenty_tills_on_two_processes_each_see_their_own_display_within_a_second(pair: tuple[Api, Api]) -> None:
    tills = [(pair[number % 2], pair[0].sent()) for number in range(20)]
    with ExitStack() as stack:
        streams = [
            stack.enter_context(following(api.url, f"/v1/terminals/{payment['poi_id']}/events", api.key))
            for api, payment in tills
        ]
        for stream in streams:
            stream.until(1)
        pushed_at_s = []
        for _, payment in tills:
            pushed_at_s.append(time.monotonic())
            show(pair[0], payment, "PIN_ENTERED")
        for stream in streams:
            stream.until(2)

    for (_, payment), stream, at_s in zip(tills, streams, pushed_at_s, strict=True):
        assert stream.events[1].data["payment_id"] == payment["id"]
        assert stream.events[1].at_s - at_s < 1.0


def test_what_the_simulators_terminal_displays_arrives_at_the_till(pair: tuple[Api, Api], tmp_path: Path) -> None:
    one, two = pair
    payment = one.sent(reference=f"SALE-{time.monotonic_ns()}-displays")
    notify = ["--notify", f"{one.url}/notifications/terminal", "--username", USERNAME, "--password", PASSWORD]
    arguments = ["--any-terminal", "--display", "--time-scale", "100", "--shopper-time-s", "5", *notify]
    asked = Asked(payment["reference"], poi_id=payment["poi_id"], service_id=payment["service_id"])
    with (
        SimulatorProcess(tmp_path / "ledger", arguments) as simulator,
        following(two.url, f"/v1/payments/{payment['id']}/events", two.key) as stream,
    ):
        assert Till(simulator.url).pay(asked).text == "ok"
        stream.eventually(lambda: "TENDER_FINAL" in stream.names())
        displayed = [line["what"] for line in simulator.ledger("notification") if line["what"].startswith("display ")]

    assert {"TENDER_CREATED", "PIN_ENTERED", "TENDER_FINAL"} <= set(stream.names())
    assert sorted(stream.names()) == sorted(what.removeprefix("display ") for what in displayed)


# -- a terminal --------------------------------------------------------------------------------------------------------


def test_a_terminal_tells_what_runs_what_waits_what_it_shows_and_what_it_says(api: Api) -> None:
    poi_id = api.terminal()
    with following(api.url, f"/v1/terminals/{poi_id}/events", api.key) as stream:
        [idle] = stream.until(1)
        running = api.sent(poi_id=poi_id)
        stream.eventually(lambda: stream.events[-1].data.get("running") is not None)
        api.accepted(poi_id=poi_id)
        stream.eventually(lambda: stream.events[-1].data.get("queued") == 1)
        show(api, running, "PIN_ENTERED")
        api.push(event(poi_id, "CardRemoved"))
        stream.eventually(lambda: stream.events[-1].data.get("name") == "CardRemoved")

    assert idle.name == "terminal.state"
    assert (idle.data["running"], idle.data["queued"]) == (None, 0)
    card = stream.events[-1]
    assert (card.name, card.data["payment_id"], card.data["severity"]) == ("terminal.event", running["id"], "info")
    assert card.data["text"] == "Card removed"


def test_who_resumes_at_a_terminal_is_told_its_state_only_when_it_is_another(api: Api) -> None:
    payment = api.sent()
    path = f"/v1/terminals/{payment['poi_id']}/events"
    with following(api.url, path, api.key) as first:
        first.until(1)
    with following(api.url, path, api.key, last_event_id=first.last_id()) as second:
        time.sleep(0.6)
        show(api, payment, "PIN_ENTERED")
        second.until(1)

    assert [event.name for event in second.events] == ["terminal.display"]


def test_a_terminal_that_is_removed_ends_its_streams(api: Api) -> None:
    poi_id = api.terminal()
    with following(api.url, f"/v1/terminals/{poi_id}/events", api.key) as stream:
        stream.until(1)
        assert api.send("DELETE", f"/v1/terminals/{poi_id}").status_code == 204
        stream.eventually(lambda: stream.is_over)


# -- at the command line ----------------------------------------------------------------------------------------------


@contextmanager
def command(database_url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {"PATH": os.defpath, "PYTHONUNBUFFERED": "1", "COUNTERFOIL_DATABASE_URL": database_url}
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        env={**environment, "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0"},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_terminal_is_watched_from_the_command_line_until_ctrl_c(api: Api, database_url: str) -> None:
    payment = api.sent()
    with command(database_url, "terminals", "watch", payment["poi_id"], "--json") as watching:
        assert watching.stdout
        told = [json.loads(watching.stdout.readline())]
        show(api, payment, "PIN_ENTERED")
        api.push(event(payment["poi_id"], "BeginMaintenance"))
        told += [json.loads(watching.stdout.readline()) for _ in range(3)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130

    assert told[0]["event"] == "terminal.state"
    assert told[0]["data"]["running"]["id"] == payment["id"]
    assert {line["data"].get("name") or line["data"]["trouble"] for line in told[1:]} == {
        "PIN_ENTERED",
        "BeginMaintenance",
        "maintenance",
    }


def test_a_payment_is_watched_with_what_its_terminal_shows(api: Api, database_url: str) -> None:
    payment = api.sent()
    with command(database_url, "watch", payment["id"]) as watching:
        assert watching.stdout
        first = watching.stdout.readline()
        show(api, payment, "CARD_INSERTED", "PIN_ENTERED")
        lines = [watching.stdout.readline() for _ in range(2)]
        api.concluded(payment)
        verdict = watching.stdout.readline()
        assert watching.wait(10) == 0

    assert payment["poi_id"] in first
    assert [line.partition(": ")[2] for line in lines] == ["Card inserted\n", "PIN entered\n"]
    assert verdict.startswith("Charged 10.99 EUR")


def test_a_terminal_that_is_not_registered_cannot_be_watched(database_url: str) -> None:
    with command(database_url, "terminals", "watch", "V400m-0") as watching:
        assert watching.wait(20) == 1


# -- which payment it is about -----------------------------------------------------------------------------------------


def test_a_display_text_finds_its_payment_by_service_id_then_tender_then_the_one_that_runs(api: Api) -> None:
    poi_id = api.terminal()
    first = api.sent(poi_id=poi_id)
    api.push(display(poi_id, "TENDER_CREATED", tender="BV5kTender1"))  # names no ServiceID of ours: the one that runs
    api.concluded(first)
    second = api.sent(poi_id=poi_id)
    api.push(display(poi_id, "TENDER_CREATED", tender="BV5kTender2"))
    api.push(display(poi_id, "CARD_REMOVED", tender="BV5kTender1"))  # late, of the first tender
    api.push(display(poi_id, "TENDER_FINAL", service_id=first["service_id"], tender="BV5kTender2"))
    api.push(display(poi_id, "CARD_INSERTED", tender="BV5kTender3"))

    found = [str(row["payment_id"]) for row in kept(api, poi_id)]

    assert found == [first["id"], second["id"], first["id"], first["id"], second["id"]]


def test_what_is_about_another_tills_dialogue_is_shown_for_the_terminal_alone(api: Api) -> None:
    payment = api.sent()
    foreign = display(payment["poi_id"], "PIN_ENTERED")
    foreign["SaleToPOIRequest"]["MessageHeader"]["SaleID"] = "SOMEBODY-ELSE"

    assert api.push(foreign).status_code == 200

    [row] = kept(api, payment["poi_id"])
    assert row["payment_id"] is None


def test_what_nobody_could_watch_is_acknowledged_and_not_kept(api: Api) -> None:
    before = api.counts()

    assert api.push(display("V400m-404040404", "PIN_ENTERED")).status_code == 200
    assert api.push(event("V400m-404040404", "CardInserted")).status_code == 200
    assert api.push(event("N/A", "SaleWakeUp")).status_code == 200

    assert api.counts() == before


# -- what an event says of its terminal --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "trouble", "alarm"),
    [
        ("OutOfOrder", "out_of_order", "terminal_out_of_order"),
        ("SecurityAlarm", "tampered", "terminal_tampered"),
        ("BeginMaintenance", "maintenance", None),
        ("NetworkDisconnected", "away", None),
        ("Shutdown", "away", None),
    ],
)
@pytest.mark.parametrize("cure", ["Initialised", "display"])
def test_what_is_wrong_with_a_terminal_is_shown_until_it_works_again(
    api: Api, name: str, trouble: str, alarm: str | None, cure: str
) -> None:
    poi_id = api.terminal()

    for _ in range(2):
        assert api.push(event(poi_id, name)).status_code == 200
    ill = api.get(f"/v1/terminals/{poi_id}").json()
    api.push(event(poi_id, cure) if cure != "display" else display(poi_id, "TENDER_CREATED"))
    well = api.get(f"/v1/terminals/{poi_id}").json()

    assert (ill["trouble"], well["trouble"], well["trouble_at"]) == (trouble, None, None)
    assert ill["trouble_at"] is not None
    alarms = api.rows.execute("SELECT name FROM alarms WHERE poi_id = %s", [poi_id]).fetchall()
    assert [row["name"] for row in alarms] == ([alarm] if alarm else [])


def test_an_alarm_names_the_payment_that_ran_and_comes_from_unregistered_terminals_too(api: Api) -> None:
    payment = api.sent()

    api.push(event(payment["poi_id"], "SecurityAlarm"))
    api.push(event("V400m-505050505", "SecurityAlarm"))

    rows = api.rows.execute(
        "SELECT poi_id, payment_id FROM alarms WHERE name = 'terminal_tampered' AND poi_id IN (%s, 'V400m-505050505')"
        " ORDER BY id",
        [payment["poi_id"]],
    ).fetchall()
    assert [(row["poi_id"], row["payment_id"]) for row in rows] == [
        (payment["poi_id"], UUID(payment["id"])),
        ("V400m-505050505", None),
    ]


# -- and it is forgotten -----------------------------------------------------------------------------------------------


def test_what_is_older_than_two_days_goes_with_what_comes_a_little_at_a_time(api: Api) -> None:
    payment = api.sent()
    old = api.terminal()
    api.rows.execute(
        "INSERT INTO terminal_events (poi_id, kind, name, at) SELECT %s, 'event', 'CardInserted',"
        " now() - make_interval(hours => 47 + n %% 3, mins => 1) FROM generate_series(1, 90) AS n",
        [old],
    )

    show(api, payment, "TENDER_CREATED")
    after_one = len(kept(api, old))
    show(api, payment, "CARD_INSERTED", "PIN_ENTERED", "TENDER_FINAL")

    assert after_one == 70
    assert len(kept(api, old)) == 30


# -- who may listen ----------------------------------------------------------------------------------------------------


def test_streams_want_a_key_and_hide_what_is_another_merchants(api: Api) -> None:
    payment = api.sent()
    for path in (f"/v1/payments/{payment['id']}/events", f"/v1/terminals/{payment['poi_id']}/events"):
        assert_problem(api.http.get(path), 401, "unauthorized")
        assert_problem(api.get(path, api.other_key), 404, "not-found")
    assert_problem(api.get("/v1/terminals/V400m-0/events"), 404, "not-found")


@pytest.mark.parametrize("bad", ["x", "1.g", "-1", "1.2.3", "9" * 19])
def test_a_place_that_is_none_names_its_field(api: Api, bad: str) -> None:
    payment = api.sent()
    path = f"/v1/payments/{payment['id']}/events"

    assert_problem(api.get(path, after=bad), 422, "invalid-field", "after")
    headers = {"authorization": f"Bearer {api.key}", "last-event-id": bad}
    assert_problem(api.http.get(path, headers=headers), 422, "invalid-field", "Last-Event-ID")


@pytest.mark.slow
def test_a_key_that_is_revoked_ends_its_streams_at_the_next_beat(api: Api) -> None:
    payment = api.sent()
    key = api.make_key(MERCHANT, "viewer")
    with following(api.url, f"/v1/payments/{payment['id']}/events", key) as stream:
        stream.until(1)
        api.rows.execute("UPDATE api_keys SET revoked_at = now() WHERE key_hash = %s", [digest_of(key)])
        stream.eventually(lambda: stream.is_over, within_s=25)

    assert stream.comments == []


# -- and it ends ------------------------------------------------------------------------------------


def test_a_server_that_stops_does_not_wait_for_its_streams(postgres_url: str, tmp_path: Path) -> None:
    with ExitStack() as server:
        api = server.enter_context(served(postgres_url, tmp_path))
        payment = api.sent()
        with following(api.url, f"/v1/payments/{payment['id']}/events", api.key) as stream:
            stream.until(1)
            stopping = time.monotonic()
            server.close()
            stopped_after_s = time.monotonic() - stopping
            stream.eventually(lambda: stream.is_over)

    assert stopped_after_s < 5.0
