"""Charts: what became of payments over time, added up in the database, shown as tables that scripts draw."""

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from orchestrator.store import charts
from orchestrator.store.charts import ChartStore, Period
from orchestrator.web.console.rendering import STATIC
from tests.integration.console_support import text_of, visitor
from tests.integration.http_support import Api, served

pytestmark = pytest.mark.integration
_merchants, _numbers = itertools.count(1), itertools.count(1)


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


class Shop:
    """A merchant account of a test's own."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.merchant = f"ChartShop{next(_merchants)}"
        self.poi_id = api.terminal(self.merchant)

    def paid(self, at: datetime, took_s: float = 5.0, outcome: str | None = "approved", poi_id: str = "") -> None:
        """A payment that was taken in at an instant, as its row says it by now."""
        number = next(_numbers)
        values = {
            "id": UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 0b10 << 62 | number),
            "merchant": self.merchant,
            "poi_id": poi_id or self.poi_id,
            "number": str(number),
            "at": at,
            "state": "confirmed" if outcome else "unknown",
            "outcome": outcome,
            "reason": None if outcome else "no_answer",
            "ended": at + timedelta(seconds=took_s) if outcome else None,
            "until": at + timedelta(seconds=150),
            "minor": 1099 if outcome == "approved" else None,
        }
        self.api.rows.execute(_PAID, values)

    def totals(self, period: Period = Period.DAY) -> charts.Totals:
        return ChartStore(self.api.database).totals(self.merchant, period)


_PAID = """
INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id, service_id,
    transport, currency, amount_minor, send_by, created_at, state, outcome, reason, sent_at, answer_by, concluded_at,
    authorised_minor, journal_hash)
VALUES (%(id)s, %(merchant)s, %(number)s, '', %(number)s, %(poi_id)s, 'till', %(number)s, 'async', 'EUR', 1099,
    %(until)s, %(at)s, %(state)s, %(outcome)s, %(reason)s, %(at)s, %(until)s, %(ended)s, %(minor)s, '')
"""


def test_each_payment_is_in_the_step_in_which_it_was_taken_and_no_step_is_missing(api: Api) -> None:
    shop, now = Shop(api), datetime.now(UTC)
    for hours in (0, 0, 1, 5):
        shop.paid(now - timedelta(hours=hours))
    found = shop.totals()
    assert len(found.steps) == 24
    hour = now.replace(minute=0, second=0, microsecond=0)
    taken = {at: each.payments for at, each in found.steps if each.payments}
    assert taken == {hour: 2, hour - timedelta(hours=1): 1, hour - timedelta(hours=5): 1}
    assert found.whole.payments == 4


@pytest.mark.parametrize(("period", "steps"), [(Period.DAY, 24), (Period.WEEK, 28), (Period.MONTH, 30)])
def test_a_period_ends_now_and_what_is_older_is_left_out(api: Api, period: Period, steps: int) -> None:
    shop, now = Shop(api), datetime.now(UTC)
    shop.paid(now)
    shop.paid(now - period.span - period.step)
    found = shop.totals(period)
    assert (len(found.steps), found.whole.payments) == (steps, 1)
    assert found.steps[-1][1].payments == 1


def test_outcomes_are_told_apart_and_add_up_to_all(api: Api) -> None:
    shop, now = Shop(api), datetime.now(UTC)
    for outcome in ("approved", "approved", "declined", "cancelled", "aborted", "not_performed", None):
        shop.paid(now, outcome=outcome)
    whole = shop.totals().whole
    parts = (whole.charged, whole.declined, whole.cancelled, whole.not_performed, whole.pending, whole.unknown)
    assert parts == (2, 1, 2, 1, 0, 1)
    assert sum(parts) == whole.payments


def test_a_payment_counts_as_unknown_for_good_when_its_result_came_after_its_window(api: Api) -> None:
    shop, now = Shop(api), datetime.now(UTC)
    for took_s in (5, 10, 151):
        shop.paid(now, took_s=took_s)
    shop.paid(now, outcome=None)
    whole = shop.totals().whole
    assert (whole.unknown, whole.was_unknown, whole.unknown_share) == (1, 2, 0.5)


def test_time_to_result_is_from_the_request_to_the_conclusion_of_what_was_performed(api: Api) -> None:
    shop, now = Shop(api), datetime.now(UTC)
    for took_s in (2, 4, 6, 8, 100):
        shop.paid(now, took_s=took_s)
    shop.paid(now, took_s=140, outcome="not_performed")
    took_s = shop.totals().whole.took_s
    assert took_s
    assert took_s == pytest.approx((6.0, 81.6))


def test_terminals_are_listed_busiest_first(api: Api) -> None:
    shop, now = Shop(api), datetime.now(UTC)
    second = api.terminal(shop.merchant)
    for poi_id in (shop.poi_id, second, second):
        shop.paid(now, poi_id=poi_id)
    assert [(poi_id, each.payments) for poi_id, each in shop.totals().terminals] == [(second, 2), (shop.poi_id, 1)]


def test_nobody_sees_what_another_merchant_account_took(api: Api) -> None:
    shop, other = Shop(api), Shop(api)
    shop.paid(datetime.now(UTC))
    assert other.totals().whole.payments == 0
    page = visitor(api, merchant_account=other.merchant).get("/console/charts")
    assert "No payments in the last 24 hours" in text_of(page)
    assert shop.poi_id not in page.text


def test_a_chart_adds_up_a_bounded_number_of_payments_and_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, now = Shop(api), datetime.now(UTC)
    for minutes in range(4):
        shop.paid(now - timedelta(minutes=minutes))
    monkeypatch.setattr(charts, "_TOTALS", charts._TOTALS.replace(f"LIMIT {charts.ROWS_MAX}", "LIMIT 3"))
    monkeypatch.setattr(charts, "ROWS_MAX", 3)
    found = shop.totals()
    assert found.whole.payments == 3
    assert found.cut_at
    assert abs(found.cut_at - (now - timedelta(minutes=2))) < timedelta(seconds=1)


def test_what_is_read_is_bounded_by_an_index(api: Api) -> None:
    values = {"merchant_account": "X", "step": Period.DAY.step, "span": Period.DAY.span, "limit": 10}
    plan = "\n".join(row["QUERY PLAN"] for row in api.database.all(f"EXPLAIN {charts._TOTALS}", values))
    assert "Seq Scan on payments" not in plan
    assert re.search(r"Index Cond: .*\(id >=|Index Cond: .*merchant_account", plan)


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_the_page_holds_every_figure_as_a_table_for_who_has_no_scripts(api: Api, period: str) -> None:
    shop = Shop(api)
    shop.paid(datetime.now(UTC))
    answer = visitor(api, merchant_account=shop.merchant).get(f"/console/charts?period={period}")
    assert answer.status_code == 200
    assert answer.text.count('<details class="more" open>') == answer.text.count("data-chart=") == 3
    steps = {"day": 24, "week": 28, "month": 30}[period]
    assert answer.text.count("data-at=") == 3 * steps
    assert "100.0 %" in text_of(answer)


def test_a_period_that_there_is_not_is_refused_with_a_page(api: Api) -> None:
    answer = visitor(api).get("/console/charts?period=century")
    assert answer.status_code == 422
    assert "period" in text_of(answer)


def test_every_colour_that_a_chart_names_is_one_that_the_style_has(api: Api) -> None:
    shop = Shop(api)
    shop.paid(datetime.now(UTC))
    named = set(
        re.findall(r'data-colour="(\w+)"', visitor(api, merchant_account=shop.merchant).get("/console/charts").text)
    )
    style = (STATIC / "charts.css").read_text()
    light, _, dark = style.partition("prefers-color-scheme: dark")
    assert named
    assert all(f"--chart-{name}:" in part for name in named for part in (light, dark))
