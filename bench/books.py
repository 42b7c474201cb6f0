"""``python -m bench.books``: a reconciliation run over many payments and a report of as many lines.

The payments are put into a database of its own by the server itself, each with the three journal lines of a good day;
the report has an authorised line for each, but for a few that are planted to be found. What is measured is a whole run:
reading, matching, recording, comparing. Memory is that of this process and of the server's processes that work for it.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any, Final

import psycopg

from config.logs import configure_logs
from config.settings import Settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.reconciliation.run import Wish
from orchestrator.store import schema
from tests.services import default_postgres_url, fresh_database, libpq_url

MERCHANT: Final = "HarbourBakery"
DAY: Final = datetime(2025, 11, 25, 12, tzinfo=UTC)
_HEADER: Final = (
    "Company Account,Merchant Account,Psp Reference,Merchant Reference,Payment Method,Booking Date,TimeZone,"
    "Main Currency,Main Amount,Record Type,Payment Currency,Received (PC),Authorised (PC),Captured (PC),"
    "Settlement Currency,Payable (SC),Commission (SC),Markup (SC),Scheme Fees (SC),Interchange (SC),"
    "Processing Fee Currency,Processing Fee (FC),User Name,Payment Method Variant,Modification Merchant Reference\n"
)
#: One of so many lines has another amount, and one of so many is missing.
_WRONG_EVERY: Final = 1000
_MISSING_EVERY: Final = 2000

_PAYMENTS: Final = """
INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference, poi_id, sale_id, service_id,
    transport, currency, amount_minor, send_by, created_at, sent_at, answer_by, state, outcome, concluded_at,
    authorised_minor, psp_reference, sequence, journal_hash)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000'
        || lpad(to_hex(i), 12, '0'))::uuid,
    %(merchant)s, 'key-' || i, repeat('0', 64), 'ORDER-' || i, 'V400m-' || lpad((i %% 500)::text, 9, '0'), 'Till',
    lpad(i::text, 10, '0'), 'async', 'EUR', 100 + i %% 9000, at, at, at, at, 'confirmed', 'approved', at,
    100 + i %% 9000, 'PSP' || lpad(i::text, 13, '0'), 3, repeat('0', 64)
FROM (SELECT i, %(day)s::timestamptz + make_interval(secs => i %% 20000) AS at FROM generate_series(1, %(n)s) AS i) AS s
"""
_LINES: Final = """
INSERT INTO journal (payment_id, sequence, at, evidence, event, before, after, detail_hash, hash)
SELECT id, s, sent_at, 'send_started', 'send_started', 'pending', 'pending', repeat('0', 64), repeat('0', 64)
FROM payments, generate_series(1, 3) AS s
"""
_DETAILS: Final = """
INSERT INTO journal_details (payment_id, sequence, salt, detail)
SELECT payment_id, sequence, repeat('0', 32), '{"channel": "connection", "result": "Success"}' FROM journal
"""


@dataclass
class Memory:
    """The most that this process and the server's processes for this database held at once, in bytes."""

    url: str
    ours: int = 0
    servers: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watched(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        yield
        self._over.set()
        thread.join()

    def _watch(self) -> None:
        with psycopg.connect(libpq_url(self.url), autocommit=True) as connection:
            while not self._over.wait(0.5):
                pids = connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
                self.servers = max(self.servers, sum(_anonymous_bytes(pid) for (pid,) in pids))
                self.ours = max(self.ours, _anonymous_bytes(os.getpid()))


def _anonymous_bytes(pid: int) -> int:
    """What a process holds for itself; the server's shared buffers are the machine's, whoever runs."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return sum(int(row.split()[1]) * 1024 for row in text.splitlines() if row.startswith("RssAnon:"))


def fill(url: str, payments: int) -> None:
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        connection.execute(_PAYMENTS, {"merchant": MERCHANT, "day": DAY, "n": payments})
        connection.execute(_LINES)
        connection.execute(_DETAILS)
        connection.execute("VACUUM ANALYZE")


def report(path: Path, payments: int) -> None:
    """An accounting report of the payments, streamed."""
    with path.open("w") as file:
        file.write(_HEADER)
        for i in range(1, payments + 1):
            if i % _MISSING_EVERY == 0:
                continue
            minor = 100 + i % 9000 + (i % _WRONG_EVERY == 1)
            amount = f"{minor // 100}.{minor % 100:02d}"
            seconds = i % 20000
            at = f"2025-11-25 {13 + seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
            file.write(
                f"Co,{MERCHANT},PSP{i:013d},ORDER-{i},mc,{at},CET,EUR,{amount},Authorised,EUR,-{amount},{amount},"
                ",,,,,,,EUR,0.10,system,mc,\n"
            )


def measure(payments: int, *, again: bool) -> dict[str, Any]:
    """One size: a run, and where asked for the same run once more."""
    with fresh_database(default_postgres_url()) as url, tempfile.TemporaryDirectory() as folder:
        schema.upgrade(url)
        fill(url, payments)
        path = Path(folder, "payments_accounting_report_2025_11_25.csv")
        report(path, payments)
        counterfoil = Counterfoil(Settings(database_url=url, broker_url="redis://127.0.0.1:1/0"))
        memory = Memory(url)
        steps: dict[str, float] = {}
        with memory.watched():
            runs = [_run(counterfoil, path, steps if n == 0 else {}) for n in range(2 if again else 1)]
        counterfoil.close()
    first = runs[0]
    found = first["summary"]["differences"]["by_kind"]
    assert found.get("amount_differs", {}).get("open", 0) == len(range(1, payments + 1, _WRONG_EVERY)), found
    assert found.get("missing_there", {}).get("open", 0) == payments // _MISSING_EVERY, found
    assert not again or runs[1]["summary"] == first["summary"]
    return {
        "payments": payments,
        "seconds": round(first["seconds"], 1),
        "us_per_payment": round(first["seconds"] / payments * 1e6),
        "again_seconds": round(runs[1]["seconds"], 1) if again else None,
        "steps_s": {step: round(seconds, 1) for step, seconds in steps.items()},
        "memory_mb": round((memory.ours + memory.servers) / 2**20),
        "memory_of_process_mb": round(memory.ours / 2**20),
        "max_rss_of_process_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _run(counterfoil: Counterfoil, path: Path, steps: dict[str, float]) -> dict[str, Any]:
    wish = Wish(merchant_account=MERCHANT, reports=(path,), first_day=DAY.date(), last_day=DAY.date(), ask=False)
    run = counterfoil.reconciler.ask(wish, "bench")
    since_s, going = time.monotonic(), "begin"

    def watch(step: str, done: int, of: int | None) -> None:
        nonlocal since_s, going
        now_s = time.monotonic()
        steps[going] = steps.get(going, 0.0) + now_s - since_s
        since_s, going = now_s, step.partition(" of ")[0]
        sys.stderr.write(f"\r{step}: {done}{f' of {of}' if of else ''}   ")

    started_s = time.monotonic()
    ended = counterfoil.reconciler.go(run["id"], wish, watch)
    watch("end", 0, None)
    assert ended
    assert ended["state"] == "done", ended["problems"]
    sys.stderr.write("\n")
    return {**ended, "seconds": time.monotonic() - started_s}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.books", description=__doc__)
    parser.add_argument("--payments", type=int, nargs="+", default=[10_000, 100_000], help="how many, once or often")
    parser.add_argument("--again", action="store_true", help="also the same run once more")
    options = parser.parse_args(arguments)
    configure_logs("json", StringIO(), level=30)
    figures = [measure(payments, again=options.again) for payments in options.payments]
    print(json.dumps({"machine": platform.machine(), "cores": os.cpu_count(), "runs": figures}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
