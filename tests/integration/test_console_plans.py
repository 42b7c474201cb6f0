"""No page of the console reads a table that grows from end to end: the planner is asked about each of its statements.

Every route that answers a GET is asked for, so that a new page is judged without being listed here; one with a new kind
of parameter says so.
"""

import re
from collections.abc import Iterator

import pytest
from starlette.routing import Route

from orchestrator.web.console.desk import Desk
from orchestrator.web.console.routes import VIEWS
from orchestrator.web.services import Services
from tests.crowd import MERCHANT
from tests.integration.plan_support import Console, consoled

pytestmark = pytest.mark.integration

#: Streams end when their reader goes; what they read is tested with them. Logging in needs no list.
NOT_PAGES = re.compile(r"/(events|stream|live|login|logout)$|^/console/static/")

#: What stands in an address, by the parameter's name: a column that has some.
EXAMPLES = {
    "payment_id": "id FROM payments",
    "refund_id": "id FROM refunds",
    "poi_id": "poi_id AS id FROM terminals",
    "callback_id": "id FROM tellings",
    "difference_id": "id FROM differences",
    "run_id": "id FROM reconciliation_runs",
}


@pytest.fixture(scope="module")
def console(postgres_url: str) -> Iterator[Console]:
    with consoled(postgres_url) as opened:
        yield opened


def pages_of(console: Console) -> list[str]:
    """Every page, an example of each where it has a parameter that there is one for."""
    desk = Desk(Services(console.counterfoil))
    paths = {
        route.path
        for view in VIEWS
        for route in view.router(desk).routes
        if isinstance(route, Route) and "GET" in (route.methods or ()) and not NOT_PAGES.search(route.path)
    }
    found = []
    for path in sorted(paths):
        for name in re.findall(r"{(\w+)(?::\w+)?}", path):
            assert name in EXAMPLES, f"{path}: add an example of {name} to EXAMPLES"
            row = console.sql(f"SELECT {EXAMPLES[name]} WHERE merchant_account = %s ORDER BY 1 LIMIT 1", MERCHANT)[0]
            path = re.sub(rf"{{{name}(:\w+)?}}", str(row["id"]), path)  # noqa: PLW2901  -- filled in
        found.append(path)
    return found


def test_no_page_reads_a_growing_table_from_end_to_end(console: Console) -> None:
    trouble = {page: console.trouble_of(page) for page in pages_of(console)}

    assert {page: why for page, why in trouble.items() if why} == {}


@pytest.mark.parametrize(
    ("statement", "finds"),
    [
        ("SELECT * FROM payments WHERE amount_minor = 5", "payments"),
        ("SELECT count(*) FROM journal", "journal"),
        ("SELECT * FROM tellings WHERE last_error IS NOT NULL ORDER BY number", "tellings"),
        ("SELECT * FROM (SELECT * FROM payments ORDER BY number DESC LIMIT 10) AS newest", None),
        ("SELECT count(*) FROM payments WHERE state = 'unknown'", None),
        ("SELECT * FROM payments WHERE reference = 'r-1' AND merchant_account = 'HarbourBakery'", None),
        ("SELECT * FROM terminals", None),
    ],
)
def test_the_planner_is_understood(console: Console, statement: str, finds: str | None) -> None:
    trouble = console.planner.trouble(statement, None)

    assert (finds in trouble[0].split()) if finds else (trouble == [])
