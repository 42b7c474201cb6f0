"""``python -m bench.metrics``: what a scrape costs, what counting costs, and what lines cost that are counted later."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg
from prometheus_client import generate_latest

from config.celery import QUEUES
from orchestrator.metrics.collector import Metrics
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.figures import FigureStore
from orchestrator.store.pulses import PulseStore
from orchestrator.store.tallies import TallyStore
from tests.crowd import crowd
from tests.services import default_postgres_url, fresh_database, libpq_url

_SCRAPES: Final = 40
_LINES: Final = 100_000
_ROUNDS: Final = 5

#: One payment's line, over and over, as the hot path writes it; the table is a copy that nobody refers to.
_LINE: Final = """
INSERT INTO {table} (payment_id, sequence, at, evidence, event, before, after, digest, detail_hash, hash)
SELECT gen_random_uuid(), 3, now(), 'result_reported', 'charged', 'pending', 'confirmed', md5(n::text) || md5(n::text),
    repeat('0', 64), repeat('0', 64) FROM generate_series(1, {lines}) AS n
"""
_COUNTED: Final = "CREATE TABLE counted (LIKE journal INCLUDING ALL)"
_PLAIN: Final = """
CREATE TABLE plain (LIKE journal INCLUDING ALL);
ALTER TABLE plain ALTER COLUMN number DROP DEFAULT;
DROP INDEX plain_number_idx
"""


def milliseconds(work: Callable[[], Any], times: int) -> dict[str, float]:
    """Median and worst."""
    taken = []
    for _ in range(times):
        began_s = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began_s) * 1000)
    return {"median_ms": round(statistics.median(taken), 2), "worst_ms": round(max(taken), 2)}


def counted_all(tallies: TallyStore) -> dict[str, float]:
    """Count everything, as after a day on which nobody looked; the rows of an hour alone are no load at all."""
    began_s, calls, done = time.perf_counter(), 0, False
    while not done:
        done, calls = tallies.count(), calls + 1
    return {"seconds": round(time.perf_counter() - began_s, 1), "calls": calls}


def line_costs(url: str) -> dict[str, float]:
    """What a line costs with its number and without, in turns; the best of them, since others use the machine too."""
    taken: dict[str, list[float]] = {"counted": [], "plain": []}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_COUNTED)
        for statement in _PLAIN.split(";"):
            connection.execute(statement.encode())
        for _ in range(_ROUNDS):
            for table, costs in taken.items():
                began_s = time.perf_counter()
                connection.execute(_LINE.format(table=table, lines=_LINES).encode())
                costs.append((time.perf_counter() - began_s) / _LINES * 1e6)
        connection.execute("DROP TABLE counted, plain")
    return {f"{table}_us": round(min(costs), 2) for table, costs in taken.items()}


def measured(url: str, payments: int) -> dict[str, Any]:
    """Everything, on one database."""
    schema.upgrade(url)
    crowd(url, payments)
    database = Database(url, connections=2)
    tallies, pulses = TallyStore(database), PulseStore(database)

    def scrape() -> None:
        metrics = Metrics(tallies, FigureStore(database), "bench", canaries=True)
        generate_latest(metrics.registry())

    found: dict[str, Any] = {"payments": payments, "scrape_before_counting": milliseconds(scrape, _SCRAPES)}
    found["count_all"] = counted_all(tallies)
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        row = connection.execute("SELECT count(*), count(*) FILTER (WHERE state = 'unknown') FROM payments").fetchone()
        found["rows"], found["unknown"] = row or (0, 0)
        connection.execute("VACUUM ANALYZE")
    found["scrape"] = milliseconds(scrape, _SCRAPES)
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        connection.execute(
            "UPDATE payments SET state = 'confirmed', outcome = 'declined', reason = NULL, concluded_at = now()"
            " WHERE state = 'unknown' AND number % 5000 <> 0"
        )
        connection.execute("VACUUM ANALYZE payments")
    found["scrape_when_few_are_unknown"] = milliseconds(scrape, _SCRAPES)
    found["count_nothing"] = milliseconds(tallies.count, _SCRAPES)
    found["tick_nothing"] = milliseconds(lambda: pulses.tick(QUEUES), _SCRAPES)
    found["canary"] = milliseconds(lambda: pulses.answer("payments", "bench"), _SCRAPES)
    found["line"] = line_costs(libpq_url(url))
    database.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=1_000_000)
    payments = parser.parse_args().payments
    with fresh_database(default_postgres_url()) as url:
        print(json.dumps(measured(url, payments), indent=2))


if __name__ == "__main__":
    main()
