"""What the planner would do with every statement that a page runs, in tables with thousands of rows.

A page is asked for in this process; every statement that it sends to the database is noted with its parameters, and
explained on a connection that is set as the product's are. A statement fails when it reads a table that grows from end
to end: by a sequential scan, or through an index without a condition where no LIMIT ends it.

    with consoled(postgres_url) as console:
        assert console.trouble_of("/console/attention") == []
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, Final
from unittest import mock

import httpx
import psycopg
import uvicorn
from psycopg.rows import dict_row

from config.logs import configure_logs
from config.settings import Settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.ids import new_id
from orchestrator.keys import digest_of
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.people import PeopleStore
from orchestrator.web.app import web_app
from orchestrator.web.console.who import COOKIE
from tests.crowd import MERCHANT, crowd
from tests.services import fresh_database, libpq_url

#: What has a row for each payment, for each thing learned, or for each day of business; the others stay as they are.
GROWING: Final = frozenset(
    {
        "alarms", "commands", "differences", "journal", "journal_details", "journal_repeats", "payments", "receipts",
        "reconciliation_found", "refund_journal", "refund_journal_details", "refund_journal_repeats", "refunds",
        "rejections", "tellings", "terminal_events", "webhooks",
    }
)  # fmt: skip

#: Payments in the tables: enough for the planner to mind reading them all.
PAYMENTS: Final = 6_000

_TOKEN: Final = "a-token-that-only-tests-have"
CSRF: Final = "a-form-of-ours"
#: Nodes that read everything below them before they give anything on: a LIMIT above does not end the reading.
_BLOCKING: Final = ("Aggregate", "Sort", "Hash", "WindowAgg", "Materialize", "Unique", "SetOp", "Recursive Union")

#: Partial indexes that have few of their table's rows: reading one whole is what they are for.
_SMALL_INDEXES: Final = """
SELECT i.relname AS name FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
WHERE x.indpred IS NOT NULL AND i.reltuples <= t.reltuples / 5
"""


@dataclass
class Asked:
    """Statements that were sent, with their parameters."""

    sent: list[tuple[str, Any]] = field(default_factory=list)


@contextmanager
def asked() -> Iterator[Asked]:
    """Note every statement that this process sends, on whatever connection."""
    found = Asked()
    execute = psycopg.Cursor.execute

    def noting(cursor: Any, query: Any, params: Any = None, **options: Any) -> Any:
        found.sent.append((query if isinstance(query, str) else query.decode(), params))
        return execute(cursor, query, params, **options)

    with mock.patch.object(psycopg.Cursor, "execute", noting):
        yield found


class Planner:
    """PostgreSQL's planner, set as the product's connections are."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(libpq_url(url), autocommit=True, row_factory=dict_row)
        # VACUUM leaves the row counts of indexes to its own chance; ANALYZE alone estimates them anew.
        self._connection.execute("ANALYZE; SET enable_seqscan = off; SET jit = off")
        self._small = {row["name"] for row in self._connection.execute(_SMALL_INDEXES.encode())}

    def close(self) -> None:
        self._connection.close()

    def plan(self, statement: str, parameters: Any, *, analyze: bool = False) -> dict[str, Any]:
        """The plan's top node; with ``analyze`` the statement is run, and undone."""
        options = "ANALYZE, FORMAT JSON" if analyze else "FORMAT JSON"
        with self._connection.transaction(force_rollback=True):
            row = self._connection.execute(f"EXPLAIN ({options}) {statement}".encode(), parameters).fetchone()
        return dict(next(iter((row or {}).values()))[0]["Plan"])

    def trouble(self, statement: str, parameters: Any) -> list[str]:
        """Each growing table that a statement would read from end to end, and how."""
        if not statement.lstrip().upper().startswith(("SELECT", "WITH", "UPDATE", "DELETE", "INSERT")):
            return []
        plan = self.plan(statement, parameters)
        said = " ".join(statement.split())[:200]
        return [f"{why}: {said}" for why in self._found(plan, ended=False)]

    def _found(self, node: Mapping[str, Any], *, ended: bool, table: str | None = None) -> Iterator[str]:
        kind = node["Node Type"]
        ended = kind == "Limit" or (ended and not any(word in kind for word in _BLOCKING))
        table = node.get("Relation Name", table if kind.startswith("Bitmap") else None)
        if table in GROWING and kind == "Seq Scan":
            yield f"reads all of {table}"
        walks = "Index Cond" not in node and node.get("Index Name") not in self._small
        if table in GROWING and "Index" in kind and walks and (not ended or kind.startswith("Bitmap")):
            yield f"walks all of {table} by {node['Index Name']}"
        for inner in node.get("Plans", []):
            yield from self._found(inner, ended=ended, table=table)


class Console:
    """The console in this process, somebody with every role logged in, on a database full of payments."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url, connections=4)
        self.planner = Planner(url)
        self._log_in()
        self.counterfoil = Counterfoil(Settings(database_url=url, broker_url="redis://127.0.0.1:1/0"))
        config = uvicorn.Config(web_app(self.counterfoil), port=0, log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self.http = self._served()

    def _log_in(self) -> None:
        people = PeopleStore(self.database)
        user_id = new_id()
        person = {
            "id": user_id, "name": "on call", "merchant_account": MERCHANT, "role": "admin", "password_hash": "none",
            "form_secret": "none", "created_by": "test",
        }  # fmt: skip
        people.add(person)
        assert people.open_session(digest_of(_TOKEN), user_id, "none", CSRF)

    def _served(self) -> httpx.Client:
        self._thread.start()
        give_up_at_s = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < give_up_at_s, "the server did not start"
            time.sleep(0.01)
        origin = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"
        headers = {"origin": origin, "cookie": f"{COOKIE}={_TOKEN}"}
        return httpx.Client(base_url=origin, headers=headers, trust_env=False, timeout=30)

    def close(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join(20)
        self.planner.close()
        self.database.close()

    def get(self, address: str, status: int = 200) -> str:
        """A page's text, or for 303 where it leads to."""
        answer: httpx.Response = self.http.get(address)
        assert answer.status_code == status, (address, answer.status_code, answer.text[:2000])
        return answer.headers["location"] if status == 303 else answer.text

    def post(self, address: str, **fields: str) -> str:
        """Send a form of a page; where it leads to."""
        answer: httpx.Response = self.http.post(address, data={"csrf": CSRF, **fields})
        assert answer.status_code == 303, (address, answer.status_code, answer.text[:2000])
        return str(answer.headers["location"])

    def trouble_of(self, address: str) -> list[str]:
        """What the planner says of the statements of a page; a page without one was not looked at."""
        with asked() as found:
            answer: httpx.Response = self.http.get(address)
        assert answer.status_code in {200, 303}, (address, answer.status_code, answer.text[:2000])
        assert found.sent, f"{address} asked the database nothing"
        return [why for statement, parameters in found.sent for why in self.planner.trouble(statement, parameters)]

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """What raw SQL says."""
        with psycopg.connect(libpq_url(self.url), autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def consoled(postgres_url: str, payments: int = PAYMENTS) -> Iterator[Console]:
    """A console of one's own, and as many payments."""
    configure_logs("json", StringIO())
    with fresh_database(postgres_url) as url:
        schema.upgrade(url)
        if payments:
            crowd(url, payments)
        console = Console(url)
        try:
            yield console
        finally:
            console.close()
