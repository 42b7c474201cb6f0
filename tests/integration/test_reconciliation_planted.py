"""The simulator writes reports with differences planted in them: a run finds each of these, and no other."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from orchestrator.simulator import reports, stories
from orchestrator.simulator.stories import Story
from tests.integration.books_support import Office
from tests.integration.store_support import MERCHANT, Shop, shop_in
from tests.services import libpq_url

pytestmark = pytest.mark.integration

DAY = date(2025, 11, 25)
COUNT = 600
PLANTED = {"missing": 12, "duplicate": 9, "amount": 11, "currency": 7, "state": 10, "extra": 8, "other-merchant": 5}
#: What a run calls them.
KINDS = {
    "missing": "missing_there",
    "duplicate": "duplicate_line",
    "amount": "amount_differs",
    "currency": "currency_differs",
    "state": "state_differs",
    "extra": "orphan",
}
_INSERT = """
INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id, service_id,
    transport, currency, amount_minor, send_by, created_at, sent_at, answer_by, state, outcome, concluded_at,
    authorised_minor, psp_reference, journal_hash)
VALUES (%s, %s, %s, repeat('0', 64), %s, 'V400m-000000001', 'Till', %s, 'async', %s, %s, %s, %s, %s, %s, 'confirmed',
    %s, %s, %s, %s, repeat('0', 64))
"""


def row(number: int, story: Story) -> tuple[Any, ...]:
    """What we know of it: the truth, but that every other refusal came without a PSP reference."""
    charged, at = story.type == "Authorised", story.at
    known = story.psp_reference if charged or number % 2 else None
    return (
        UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | number), MERCHANT, story.reference,
        story.reference, f"{number:010d}", story.currency, story.amount_minor, at, at, at, at,
        "approved" if charged else "declined", at, story.amount_minor if charged else None, known,
    )  # fmt: skip


@pytest.fixture
def shop(postgres_url: str) -> Iterator[Shop]:
    """A day's payments, which the platform has as we do."""
    with shop_in(postgres_url) as opened:
        fill(opened, COUNT)
        yield opened


def fill(shop: Shop, count: int) -> None:
    rows = [row(number, story) for number, story in enumerate(stories.made_up(count, seed=4, day=DAY))]
    with psycopg.connect(libpq_url(shop.url), autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany(_INSERT, rows)


@pytest.mark.parametrize("kinds", [("accounting",), ("received",), reports.KINDS], ids="+".join)
def test_each_planted_difference_is_found_and_none_is_made_up(
    shop: Shop, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    office = Office(shop, tmp_path)
    planted = reports.write(
        tmp_path,
        lambda: stories.made_up(COUNT, seed=4, day=DAY),
        reports.Period(DAY, MERCHANT),
        kinds=kinds,
        plant=PLANTED,
        seed=4,
        count=COUNT,
    ).planted

    run = office.run(DAY)

    # What was not charged and is in no report is no difference: it is reconciled by its absence.
    wanted = sorted(
        (KINDS[each.kind], each.reference)
        for each in planted
        if each.kind in KINDS and (each.kind, each.truth.get("type")) != ("missing", "Refused")
    )
    assert office.found(run) == wanted
    assert len(wanted) > sum(PLANTED.values()) - PLANTED["other-merchant"] - PLANTED["missing"]
    files = [report["other_merchant_lines"] for report in run["reports"]]
    assert len(files) == len(kinds)
    assert all(found >= PLANTED["other-merchant"] for found in files)

    agreed = {"missing", "amount", "currency", "state"}
    expected = {each.reference for each in planted if each.kind in agreed and each.truth.get("type") != "Refused"}
    left = shop.sql("SELECT reference FROM payments WHERE state <> 'reconciled' AND outcome = 'approved'")
    assert {each["reference"] for each in left} <= expected

    again = office.run(DAY)
    assert office.found(again) == wanted
    assert again["summary"] == run["summary"]


def test_a_run_that_is_killed_in_the_middle_is_repeated_and_ends_as_if_it_had_not(
    postgres_url: str, tmp_path: Path
) -> None:
    count = 6000
    with shop_in(postgres_url) as shop:
        fill(shop, count)
        reports.write(
            tmp_path,
            lambda: stories.made_up(count, seed=4, day=DAY),
            reports.Period(DAY, MERCHANT),
            kinds=("accounting",),
            plant={"missing": 3, "extra": 2},
            seed=4,
            count=count,
        )
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COUNTERFOIL_", "ADYEN_"))},
            "COUNTERFOIL_DATABASE_URL": shop.url,
            "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0",
            "COUNTERFOIL_REPORTS_DIR": str(tmp_path),
        }
        command = ["reconcile", "run", "--merchant", MERCHANT, "--from", DAY.isoformat(), "--no-ask"]
        process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.cli", *command],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        reconciled = "SELECT count(*) AS n FROM payments WHERE state = 'reconciled'"
        try:
            while not shop.sql(reconciled)[0]["n"]:
                assert process.poll() is None, "the run ended before it was killed"
        finally:
            process.kill()
            process.wait()
        assert 0 < shop.sql(reconciled)[0]["n"] < count

        office = Office(shop, tmp_path)
        assert [ended["state"] for ended in office.reconciler.by_task(run_id=the_run(shop))] == ["done"]

        run = office.runs.one(UUID(the_run(shop)), MERCHANT)
        assert run
        kinds = [kind for kind, _ in office.found(dict(run))]
        left = shop.sql("SELECT count(*) AS n FROM payments WHERE state <> 'reconciled'")[0]["n"]
        assert (kinds.count("orphan"), kinds.count("missing_there"), len(kinds)) == (2, left, 2 + left)
        lines = shop.sql("SELECT max(n) AS most FROM (SELECT count(*) AS n FROM journal GROUP BY payment_id) AS lines")
        assert lines[0]["most"] == 1


def the_run(shop: Shop) -> str:
    (run,) = shop.sql("SELECT id FROM reconciliation_runs")
    return str(run["id"])
