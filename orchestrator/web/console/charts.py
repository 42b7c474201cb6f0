"""``/console/charts``: what became of payments over time. The tables are the data; scripts draw them."""

import threading
import time
from collections import OrderedDict
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from orchestrator.store.charts import ROWS_MAX, ChartStore, Period, Totals
from orchestrator.web.console.desk import Desk, Person

#: Adding up a busy month takes a second: those who look within a minute share one look.
_FRESH_S: Final = 60.0
#: Merchant accounts times periods that are remembered; each is some kilobytes.
_REMEMBERED_MAX: Final = 300

_WORDS: Final = {period.word: period for period in Period}
_SHOWN: Final = {"day": "24 hours", "week": "7 days", "month": "30 days"}


class SharedTotals:
    """Adds up once a minute for all who look; one at a time, so that many who come at once cost one."""

    def __init__(self, store: ChartStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, Period], tuple[float, Totals]] = OrderedDict()

    def __call__(self, merchant_account: str, period: Period) -> Totals:
        """The totals, at most a minute old."""
        key = (merchant_account, period)
        with self._lock:
            known = self._seen.get(key)
            if known is not None and time.monotonic() - known[0] < _FRESH_S:
                return known[1]
            totals = self._store.totals(merchant_account, period)
            self._seen[key] = (time.monotonic(), totals)
            self._seen.move_to_end(key)
            while len(self._seen) > _REMEMBERED_MAX:
                self._seen.popitem(last=False)
            return totals


def router(desk: Desk) -> APIRouter:
    """Make the route."""
    routes = APIRouter(include_in_schema=False)
    totals = SharedTotals(ChartStore(desk.services.counterfoil.database))

    @routes.get("/console/charts")
    def charts(
        request: Request,
        person: Annotated[Person, Depends(desk.sees())],
        period: Annotated[str, Query(pattern="^(day|week|month)$")] = "day",
    ) -> Response:
        """A day by hours, a week by quarters of days, a month by days."""
        found = totals(person.merchant_account, _WORDS[period])
        return desk.page(
            request,
            person,
            "charts.html",
            totals=found,
            period=period,
            periods=_SHOWN,
            rows_max=ROWS_MAX,
            step_s=int(_WORDS[period].step.total_seconds()),
            by_day=period == "month",
        )

    return routes
