"""What metrics count is counted once, whatever commits late, is expunged, or counts at the same time."""

import re
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from orchestrator.evidence import (
    AnswerMissing,
    AnswerWindowPassed,
    Exchange,
    InProgressReported,
    NotDelivered,
    NotFoundReported,
    RequestRejected,
)
from orchestrator.meaning import Alarm
from orchestrator.metrics import collector
from orchestrator.store import schema
from orchestrator.store.figures import _FIGURES, FigureStore
from orchestrator.store.retention import RetentionStore
from orchestrator.store.tallies import _CONFLICTS, _COUNTS, _DELIVERED, _NEWEST, RESULT_BUCKETS_S, TallyStore
from tests.crowd import crowd
from tests.factories import approved, failed
from tests.integration.metrics_support import Scraped, Series, scraped
from tests.integration.plan_support import Planner
from tests.integration.store_support import MERCHANT, all_at_once
from tests.services import fresh_database, libpq_url

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def opened(postgres_url: str) -> Iterator[Scraped]:
    with scraped(postgres_url) as shop:
        yield shop


@pytest.fixture
def shop(opened: Scraped, monkeypatch: pytest.MonkeyPatch) -> Scraped:
    monkeypatch.setattr(collector, "FRESH_FOR_S", 0.0)
    return opened


class Rise:
    """What counters rose by since this was made."""

    def __init__(self, shop: Scraped) -> None:
        self.shop = shop
        self.before = told(shop.scrape())

    def __call__(self) -> dict[str, float]:
        now = told(self.shop.scrape())
        assert [name for name, value in self.before.items() if now[name] < value] == [], "a counter fell"
        return {name: value - self.before.get(name, 0) for name, value in now.items() if value != self.before.get(name)}


def told(series: Series) -> dict[str, float]:
    """The counters, without the labels that each series has."""
    spelled = {re.sub(r'(, )?(instance|job)="[^"]*"', "", name).replace("{, ", "{"): v for name, v in series.items()}
    names = {name.removeprefix("counterfoil_").replace("{}", ""): value for name, value in spelled.items()}
    return {name: value for name, value in names.items() if "_total" in name or "_count" in name}


def sent(shop: Scraped) -> Any:
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    return payment


def digest() -> str:
    return secrets.token_hex(32)


# -- what is counted ---------------------------------------------------------------------------------------------------


def test_a_payment_that_ends_is_counted_by_its_outcome_and_by_what_told_us(shop: Scraped) -> None:
    rise = Rise(shop)

    shop.approve(sent(shop))
    shop.recorder.record(sent(shop), failed("Refusal", digest=digest()))
    shop.recorder.record(sent(shop), NotDelivered(why="connect-refused"))

    rose = rise()
    assert rose.pop("time_to_result_seconds_count") == 3
    assert rose == {
        'payments_accepted_total{transport="async"}': 3,
        'payments_total{currency="EUR", outcome="approved", source="connection"}': 1,
        'payments_total{currency="EUR", outcome="declined", source="connection"}': 1,
        'payments_total{currency="EUR", outcome="not_performed", source="connection"}': 1,
        'requests_failed_total{op="payment", result="not_delivered"}': 1,
    }


def test_status_checks_are_counted_by_what_they_brought(shop: Scraped) -> None:
    payment = sent(shop)
    shop.recorder.record(payment, AnswerWindowPassed())
    rise = Rise(shop)

    shop.recorder.record(payment, InProgressReported(digest=digest()))
    shop.recorder.record(payment, NotFoundReported(digest=digest()))
    shop.recorder.record(payment, AnswerMissing(exchange=Exchange.STATUS, why="http-503", digest=digest()))
    shop.recorder.record(payment, RequestRejected(exchange=Exchange.STATUS, refusal="http-401", digest=digest()))

    assert rise() == {
        'status_checks_total{result="in_progress"}': 1,
        'status_checks_total{result="not_found"}': 1,
        'status_checks_total{result="no_answer"}': 1,
        'status_checks_total{result="refused"}': 1,
        'requests_failed_total{op="status", result="no_answer"}': 1,
        'requests_failed_total{op="status", result="refused"}': 1,
    }


def test_what_is_in_doubt_late_or_contradicted_is_counted_and_alarmed(shop: Scraped) -> None:
    contradicted, late = sent(shop), sent(shop)
    rise = Rise(shop)

    shop.approve(contradicted)
    shop.recorder.record(contradicted, failed("Refusal", digest=digest()))
    shop.recorder.record(late, NotDelivered(why="connect-refused"))
    shop.recorder.record(late, approved(digest=digest()))

    rose = rise()
    assert {name: rose[name] for name in rose if "payments" not in name and "time" not in name} == {
        "unknown_total": 1,
        "conflicting_evidence_total": 1,
        "late_results_total": 1,
        'alarms_raised_total{name="contradiction"}': 1,
        'alarms_raised_total{name="late_approval"}': 1,
        'requests_failed_total{op="payment", result="not_delivered"}': 1,
    }


def test_callbacks_arrive_or_are_given_up_and_one_that_is_told_again_counts_once(shop: Scraped) -> None:
    rise = Rise(shop)
    row = (
        "INSERT INTO tellings (merchant_account, type, at, url, data, delivered_at, parked_at) VALUES"
        " (%s, 'payment.rejected', now(), 'https://till.example', '{}', %s::timestamptz, %s::timestamptz) RETURNING id"
    )
    [delivered] = shop.sql(row, MERCHANT, "now", None)
    [waiting] = shop.sql(row, MERCHANT, None, None)
    assert rise() == {'callbacks_total{result="delivered"}': 1}

    shop.sql("UPDATE tellings SET delivered_at = NULL WHERE id = %s", delivered["id"])  # it is told again
    shop.scrape()
    shop.sql("UPDATE tellings SET delivered_at = now() WHERE id = ANY (%s)", [delivered["id"], waiting["id"]])
    assert rise() == {'callbacks_total{result="delivered"}': 2}


def test_pushed_messages_that_are_kept_apart_are_counted_though_the_same_comes_again(shop: Scraped) -> None:
    rise = Rise(shop)

    for _ in range(3):
        shop.store.keep_stray(digest="same", why="no-such-payment", poi_id=None, sale_id=None, service_id=None)

    assert rise() == {'inbox_rejected_total{reason="no-such-payment"}': 3}


def test_nothing_that_names_a_payment_a_terminal_or_a_merchant_is_told(shop: Scraped) -> None:
    poi_id = shop.terminal()
    payment = shop.pay(poi_id, reference="REF-THAT-NOBODY-SEES")
    shop.send(payment)
    shop.approve(payment)
    shop.scrape()

    answer = shop.ask("GET", "/metrics")

    assert answer.status_code == 200
    for secret in ("REF-THAT-NOBODY-SEES", poi_id, str(payment), MERCHANT):
        assert secret not in answer.text


def test_openmetrics_is_told_to_who_asks_for_it(shop: Scraped) -> None:
    plain = shop.ask("GET", "/metrics")
    open_ = shop.ask("GET", "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert open_.headers["content-type"].startswith("application/openmetrics-text")
    assert open_.text.endswith("# EOF\n")


# -- counted once, and never less --------------------------------------------------------------------------------------


def raised(shop: Scraped) -> float:
    rows = TallyStore(shop.database).read()
    return float(sum(row["value"] for row in rows if row["name"] == "alarms_raised" and row["labels"] == ["defect"]))


RAISE = "INSERT INTO alarms (name) VALUES ('defect') RETURNING id"


def test_a_row_that_commits_after_one_with_a_higher_number_is_counted(shop: Scraped) -> None:
    shop.scrape()
    before = raised(shop)
    with psycopg.connect(libpq_url(shop.url)) as slow:
        lower = slow.execute(RAISE).fetchone()
        [higher] = shop.sql(RAISE)
        assert lower
        assert lower[0] < higher["id"]

        assert not TallyStore(shop.database).count()
        assert raised(shop) == before  # it waits for the one that is not committed

        slow.commit()
    assert TallyStore(shop.database).count()
    assert raised(shop) == before + 2


def test_a_row_that_is_rolled_back_holds_nothing_up(shop: Scraped) -> None:
    shop.scrape()
    before = raised(shop)
    with psycopg.connect(libpq_url(shop.url)) as gone:
        gone.execute(RAISE)
        shop.sql(RAISE)
        gone.rollback()

    assert TallyStore(shop.database).count()
    assert raised(shop) == before + 1


def test_who_writes_in_another_database_of_the_server_holds_nothing_up(shop: Scraped, empty_database_url: str) -> None:
    with psycopg.connect(libpq_url(empty_database_url)) as other:
        other.execute("CREATE TABLE somebody_elses (n int)")
        shop.sql(RAISE)

        assert TallyStore(shop.database).count()


def test_several_who_count_at_once_count_each_row_once(shop: Scraped) -> None:
    shop.scrape()
    before = raised(shop)
    shop.sql("INSERT INTO alarms (name) SELECT 'defect' FROM generate_series(1, 500)")

    all_at_once(*[lambda: TallyStore(shop.database).count(step_rows=7)] * 6)

    assert TallyStore(shop.database).count()
    assert raised(shop) == before + 500


def test_a_day_that_nobody_looked_at_is_counted_in_steps_and_in_bounded_time(shop: Scraped) -> None:
    shop.scrape()
    before = raised(shop)
    shop.sql("INSERT INTO alarms (name) SELECT 'defect' FROM generate_series(1, 20)")

    tallies = TallyStore(shop.database)
    assert not tallies.count(for_s=0, step_rows=5)  # one step, and the time is up
    assert raised(shop) == before + 5
    while not tallies.count(for_s=0, step_rows=5):
        pass
    assert raised(shop) == before + 20


def test_counters_stand_what_retention_expunges(shop: Scraped) -> None:
    shop.sql(
        "INSERT INTO rejections (merchant_account, idempotency_key, reference, problem, detail, at)"
        " VALUES (%s, 'k', 'r', 'payment-open', '', now() - interval '60 days')",
        MERCHANT,
    )
    rise = Rise(shop)
    assert rise.before['submissions_rejected_total{problem="payment-open"}'] == 1

    expunged = RetentionStore(shop.database).run(30, "a test").counts

    assert expunged["rejections"] == 1
    assert rise() == {}


def test_lines_that_were_there_before_the_counting_began_are_left_alone(shop: Scraped) -> None:
    rise = Rise(shop)
    payment = sent(shop)
    shop.sql("ALTER TABLE journal ALTER COLUMN number DROP DEFAULT")  # as a journal was written until then
    shop.approve(payment)
    shop.sql("ALTER TABLE journal ALTER COLUMN number SET DEFAULT nextval('journal_number')")

    assert rise() == {'payments_accepted_total{transport="async"}': 1}


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_counting_nothing_writes_nothing(shop: Scraped) -> None:
    shop.scrape()
    rows = "SELECT xmin::text, ctid::text FROM tallies UNION ALL SELECT xmin::text, ctid::text FROM tally_marks"
    before = shop.sql(rows)

    assert TallyStore(shop.database).count()

    assert shop.sql(rows) == before


CROWDED_TOO = (
    (
        "INSERT INTO rejections (merchant_account, idempotency_key, reference, problem, detail)"
        " SELECT 'm', n::text, 'r', 'payment-open', '' FROM generate_series(1, 2000) AS n"
    ),
    (
        "INSERT INTO refund_journal (refund_id, sequence, at, evidence, event, after, detail_hash, hash)"
        " SELECT id, n, now(), 'check_asked', 'check_asked', 'pending', '', '' FROM refunds, generate_series(1, 40) n"
    ),
    (
        "INSERT INTO refund_journal_details (refund_id, sequence, salt, detail)"
        " SELECT refund_id, sequence, '', '{}' FROM refund_journal"
    ),
    "ANALYZE",
)


def test_no_table_that_grows_is_read_from_end_to_end(postgres_url: str) -> None:
    values = {"canaries": True, "upto": 10**9, "limit": 100, "conflicts": _CONFLICTS, "buckets": list(RESULT_BUCKETS_S)}
    with fresh_database(postgres_url) as url:
        schema.upgrade(url)
        crowd(url, 5_000)
        with psycopg.connect(libpq_url(url), autocommit=True) as connection:
            for statement in CROWDED_TOO:
                connection.execute(statement.encode())
        planner = Planner(url)
        statements = [_FIGURES, _NEWEST, _DELIVERED, *_COUNTS.values()]
        found = [why for statement in statements for why in planner.trouble(statement, values)]
        planner.close()

    assert found == []


def test_the_figures_of_queues_are_left_out_where_no_canaries_go(shop: Scraped) -> None:
    shop.heal()
    named = {on: {row["name"] for row in FigureStore(shop.database).read(canaries=on)} for on in (True, False)}
    assert named[True] - named[False] == {"queue_canary_age_seconds"}


def test_an_open_alarm_of_every_name_is_told(shop: Scraped) -> None:
    shop.heal()
    shop.sql("INSERT INTO alarms (name) SELECT unnest(%s::text[])", [alarm.value for alarm in Alarm])
    rows = [row for row in FigureStore(shop.database).read(canaries=True) if row["name"] == "alarms_open"]
    assert {row["labels"][0]: row["value"] for row in rows} == dict.fromkeys([alarm.value for alarm in Alarm], 1.0)


def test_two_threads_that_scrape_and_count_never_fail(shop: Scraped) -> None:
    failures: list[int] = []

    def scrape() -> None:
        failures.extend(shop.ask("GET", "/metrics").status_code for _ in range(3))

    threads = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == [200] * 6
