"""A day of payments whose answers get lost and whose books lie: everyone ends where its evidence says."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gauntlet import books
from gauntlet.books_judge import verdict

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(800)]

#: A run takes a minute or two, and webhooks are dated up to a minute ahead.
BEFORE_THE_END, AFTER_THE_END = timedelta(minutes=6), timedelta(minutes=2)


def test_a_day_of_lies_ends_where_its_evidence_says(tmp_path: Path, postgres_url: str) -> None:
    away_from_the_days_end()
    folder = tmp_path / "day"

    books.run(books.plan_of(200, 7, 45.0, postgres_url), folder, print)

    said = verdict(folder)
    assert not said["violations"], books.table(said)
    # Which of them had to be found, and which only could be, depends on whose word came first: never most of them.
    assert 2 * said["must_be_found"] > sum(said["planted"].values()), books.table(said)
    assert {"charged", "refused", "report: missing", "report: state"} <= said["classes"].keys()
    overlooked(folder)


def away_from_the_days_end() -> None:
    """The reports' day ends at 23:00 UTC, and payments beside its end belong to two reports: wait until it is over."""
    now = datetime.now(UTC)
    end = now.replace(hour=23, minute=0, second=0, microsecond=0)
    if end - BEFORE_THE_END < now < end + AFTER_THE_END:
        time.sleep((end + AFTER_THE_END - now).total_seconds())


def overlooked(folder: Path) -> None:
    """A judge that overlooks what is doctored proves nothing."""
    path = folder / "second.json"
    whole = json.loads(path.read_text())
    extra = next(each for each in whole["differences"] if each["kind"] == "orphan")
    others = [each for each in whole["differences"] if each is not extra]
    charged = [each | {"state": "reconciled", "outcome": "declined"} for each in whole["payments"]]
    doctored = {
        "not found": whole | {"differences": others},
        "invented": whole | {"differences": [*others, extra, extra | {"reference": "nobody's"}]},
        "payment": whole | {"payments": charged},
        "second run": whole | {"books_lines": whole["books_lines"] + 1},
    }
    for rule, said in doctored.items():
        path.write_text(json.dumps(said))
        assert any(each.startswith(f"{rule}: ") for each in verdict(folder)["violations"]), rule
