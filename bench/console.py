"""``python -m bench.console``: how fast the console's pages are with a million payments behind them.

The payments are written into a database of its own by the server itself (``tests.crowd``), with journals, cards,
callbacks, refunds, alarms and webhooks. The API runs as a process of its own; somebody logs in, and each page and each
kind of search is asked for over HTTP, one request after the other, each about another payment. Prints a table, and one
JSON object last.
"""

import argparse
import json
import os
import platform
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus

import httpx
import psycopg
from psycopg.rows import dict_row

from bench.report import Report
from orchestrator.ids import new_id
from orchestrator.passwords import hash_password
from orchestrator.processes import Processes, wait_until_ready
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.people import PeopleStore
from tests.crowd import MERCHANT, TERMINALS, crowd
from tests.services import default_postgres_url, fresh_database, libpq_url

#: What search and payment pages stay under, in the middle, with a million payments behind them.
MEDIAN_MS: Final = 100.0
_NAME: Final = "bench"
_PASSWORD: Final = "a long random text"  # noqa: S105  -- of a database that is gone in a minute
#: A month of a busy chain: a million payments, one every 2.6 s.
_MONTH_S: Final = 30 * 86_400.0

Address = Callable[[int], str]


def searches(last: int) -> dict[str, Address]:
    """Kinds of search, each about payment ``n``; ``last`` is the newest one's number."""

    def card(n: int) -> str:
        return f"{n % 9973:04d}"

    def typed(words: Callable[[int], str]) -> Address:
        return lambda n: f"/console?q={quote_plus(words(n))}"

    def amount(n: int) -> str:
        return f"{(100 + (n * 37) % 9000) / 100:.2f}"

    return {
        "the newest": lambda _: "/console",
        "a reference, which leads to its payment": typed(lambda n: f"r-{n}"),
        "how a reference begins, some thousand": typed(lambda n: f"r-{n // 1000}*"),
        "how a reference begins, all": typed(lambda _: "r-*"),
        "a PSP reference": typed(lambda n: f"PSP{n:013d}"),
        "a tender reference": typed(lambda n: f"BV0q{n:015d}"),
        "a ServiceID": typed(lambda n: f"service:{n:010d}"),
        "a payment's id that is not there": typed(lambda _: str(new_id())),
        "a sale": typed(lambda n: f"sale:basket-{n // 4}"),
        "last four": typed(lambda n: f"last4:{card(n)}"),
        "last four and amount": typed(lambda n: f"last4:{card(n)} {amount(n)}"),
        "a terminal": typed(lambda n: f"V400m-{n % TERMINALS:09d}"),
        "a terminal, declined": typed(lambda n: f"V400m-{n % TERMINALS:09d} declined"),
        "a terminal by its serial number, today": typed(lambda n: f"terminal:{n % TERMINALS:09d} on:today"),
        "an amount": typed(amount),
        "an amount on a day": typed(lambda n: f"{amount(n)} on:yesterday"),
        "an amount that there is not": typed(lambda _: "99999.99 EUR"),
        "unknown": typed(lambda _: "unknown"),
        "unknown, on a day": typed(lambda _: "unknown on:yesterday"),
        "declined": typed(lambda _: "declined"),
        "pending, of which there is none": typed(lambda _: "pending"),
        "a day of three weeks ago": typed(lambda _: f"on:{datetime.now(UTC).date() - timedelta(days=21)}"),
        "four words that do not go together": typed(lambda n: f"r-{n} last4:0000 charged on:today"),
        "a page far down": lambda n: f"/console?before={n % last}",
        "a file of one card": lambda n: f"/console/payments.csv?q=last4:{card(n)}",
    }


def pages(examples: Mapping[str, Sequence[Any]]) -> dict[str, Address]:
    """The other pages; of those that are about one thing, each time another."""

    def of(kind: str, path: str) -> Address:
        return lambda n: path.format(examples[kind][n % len(examples[kind])])

    return {
        "a payment": of("payments", "/console/payments/{}"),
        "an unknown payment": of("unknown", "/console/payments/{}"),
        "needs attention": lambda _: "/console/attention",
        "terminals": lambda _: "/console/terminals",
        "a terminal's page": of("terminals", "/console/terminals/{}"),
        "reconciliation": lambda _: "/console/reconciliation",
        "differences": lambda _: "/console/differences",
        "callbacks": lambda _: "/console/callbacks",
        "parked callbacks": lambda _: "/console/callbacks?state=parked",
        "a callback": of("tellings", "/console/callbacks/{}"),
        "health": lambda _: "/console/health",
        "charts": lambda _: "/console/charts",
    }


def examples_of(url: str) -> dict[str, list[Any]]:
    """Things to ask about, from all over the tables."""
    mine = f"merchant_account = '{MERCHANT}'"
    wanted = {
        "payments": f"SELECT id FROM payments TABLESAMPLE SYSTEM (0.1) WHERE {mine} LIMIT 200",
        "unknown": f"SELECT id FROM payments WHERE {mine} AND state = 'unknown' LIMIT 200",
        "terminals": f"SELECT poi_id AS id FROM terminals WHERE {mine} LIMIT 200",
        "tellings": f"SELECT id FROM tellings WHERE {mine} ORDER BY number DESC LIMIT 200",
    }
    with psycopg.connect(libpq_url(url), row_factory=dict_row) as connection:
        found = {kind: connection.execute(query.encode()).fetchall() for kind, query in wanted.items()}
    return {kind: [row["id"] for row in rows] for kind, rows in found.items()}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def console(url: str, folder: Path) -> Iterator[httpx.Client]:
    """The API as a process, and somebody who is logged in."""
    database = Database(url, connections=1)
    PeopleStore(database).add(
        {
            "id": new_id(), "name": _NAME, "merchant_account": MERCHANT, "role": "admin",
            "password_hash": hash_password(_PASSWORD), "form_secret": "bench", "created_by": "bench",
        }
    )  # fmt: skip
    database.close()
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    settings = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COUNTERFOIL_", "ADYEN_"))},
        "COUNTERFOIL_DATABASE_URL": url,
        "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0",
        "COUNTERFOIL_LISTEN": f"127.0.0.1:{port}",
    }
    with Processes(settings, folder) as processes:
        processes.start("api", "serve")
        wait_until_ready(origin)
        with httpx.Client(base_url=origin, headers={"origin": origin}, trust_env=False, timeout=120) as client:
            answer = client.post("/console/login", data={"name": _NAME, "password": _PASSWORD})
            assert answer.status_code == 303, answer.text
            yield client


def measured(client: httpx.Client, address: Address, requests: int, last: int) -> dict[str, float]:
    """Milliseconds of one kind of page; the first request, which finds nothing prepared, counts as any other."""
    chance = random.Random(7)  # the same payments in every run
    took_ms = []
    for _ in range(requests):
        asked = address(chance.randrange(1, last))
        began_s = time.perf_counter()
        answer = client.get(asked)
        took_ms.append((time.perf_counter() - began_s) * 1e3)
        assert answer.status_code in {200, 303}, (asked, answer.status_code, answer.text[:500])
    took_ms.sort()
    return {
        "median_ms": round(statistics.median(took_ms), 1),
        "p95_ms": round(took_ms[int(0.95 * (len(took_ms) - 1))], 1),
        "worst_ms": round(took_ms[-1], 1),
    }


def measure(report: Report, payments: int, requests: int, postgres_url: str) -> dict[str, Any]:
    """Fill, serve, ask."""
    with fresh_database(postgres_url) as url, tempfile.TemporaryDirectory(prefix="console-") as folder:
        schema.upgrade(url)
        began_s = time.monotonic()
        crowd(url, payments, apart_s=_MONTH_S / payments)
        filled_s = time.monotonic() - began_s
        report.line(f"{payments:,} payments were written in {filled_s:.0f} s")
        found: dict[str, dict[str, float]] = {}
        with console(url, Path(folder)) as client:
            for kinds in (searches(payments), pages(examples_of(url))):
                report.line(f"\n  {'':44}{'median ms':>10}{'p95 ms':>10}{'worst ms':>10}")
                for name, address in kinds.items():
                    try:
                        found[name] = measured(client, address, requests, payments)
                    except AssertionError as error:
                        report.line(f"  {name:44}  {error}")
                        continue
                    report.line(f"  {name:44}" + "".join(f"{value:10.1f}" for value in found[name].values()))
    return {"payments": payments, "requests_each": requests, "fill_s": round(filled_s), "pages": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with these arguments; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    parser.add_argument("--payments", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=40, help="for each kind of page")
    parser.add_argument("--postgres-url", default=default_postgres_url())
    options = parser.parse_args(arguments)
    report = Report()
    found = measure(report, options.payments, options.requests, options.postgres_url)
    report.section(f"Targets, with {options.payments:,} payments")
    wanted = {*searches(options.payments), "a payment", "an unknown payment"}
    slowest = max((found["pages"][name]["median_ms"] for name in wanted if name in found["pages"]), default=None)
    report.goal("the slowest kind of search or payment page, median", slowest, MEDIAN_MS, at_least=False, unit="ms")
    machine = {"machine": platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({**machine, **found, "goals": report.goals}, indent=1))
    return 1 if report.short or wanted - set(found["pages"]) else 0


if __name__ == "__main__":
    sys.exit(main())
