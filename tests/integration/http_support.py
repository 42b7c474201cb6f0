"""The product's HTTP side as callers and the platform see it: a real server process on a real database, no broker."""

import base64
import itertools
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from psycopg.rows import dict_row

from config.logs import configure_logs
from orchestrator.evidence import AnswerWindowPassed
from orchestrator.ids import new_id
from orchestrator.keys import make_key
from orchestrator.model import Money, Transaction
from orchestrator.policy import Policy
from orchestrator.processes import Processes, wait_until_ready
from orchestrator.record import Recorder
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.keys import KeyStore
from orchestrator.store.store import Store
from orchestrator.store.terminals import TerminalStore
from orchestrator.terminal_api import money, tag
from tests import protocol_vectors
from tests.services import fresh_database, libpq_url

MERCHANT, OTHER_MERCHANT = "HarbourBakery", "HillsideBooks"
USERNAME, PASSWORD = "platform", "a long random text"
SALE_ID = "KASSA-07"
PROBLEM = "application/problem+json"
_numbers = itertools.count(1)

Json = dict[str, Any]


class Api:
    """One server and its database. Each test uses terminals and references of its own, so that none is in the way."""

    def __init__(self, url: str, database_url: str) -> None:
        self.url = url
        self.database_url = database_url
        self.database = Database(database_url, connections=4)
        self.store = Store(self.database)
        self.recorder = Recorder(self.store, Policy(), lambda _rings: None)
        self.terminals = TerminalStore(self.database)
        self.rows = psycopg.connect(libpq_url(database_url), autocommit=True, row_factory=dict_row)
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=30)
        self.key = self.make_key(MERCHANT, "admin")
        self.other_key = self.make_key(OTHER_MERCHANT, "admin")

    def close(self) -> None:
        self.http.close()
        self.rows.close()
        self.database.close()

    # -- what there is ---------------------------------------------------------------------------------------------

    def make_key(self, merchant_account: str, role: str) -> str:
        key, digest = make_key()
        KeyStore(self.database).create(new_id(), digest, merchant_account, role, "test")
        return key

    def terminal(self, merchant_account: str = MERCHANT) -> str:
        poi_id = f"V400m-{next(_numbers):09d}"
        self.terminals.put({"poi_id": poi_id, "merchant_account": merchant_account, "transport": "async"})
        return poi_id

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        names = self.rows.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {n["tablename"]: self.count(n["tablename"]) for n in names}

    def count(self, table: str) -> int:
        row = self.rows.execute(f"SELECT count(*) AS n FROM {table}").fetchone()
        assert row
        return int(row["n"])

    def row(self, payment_id: str) -> Json:
        row = self.rows.execute("SELECT * FROM payments WHERE id = %s", [payment_id]).fetchone()
        assert row
        return row

    # -- what callers do -------------------------------------------------------------------------------------------

    def submission(self, **changes: Any) -> Json:
        """A body that is accepted, but for what is changed."""
        body: Json = {"reference": f"ORDER-{next(_numbers)}", "amount": {"currency": "EUR", "value": 1099}}
        return {**body, "poi_id": changes.get("poi_id") or self.terminal(), **changes}

    def submit(
        self, body: Any, key: str | None = None, *, api_key: str | None = None, query: str = ""
    ) -> httpx.Response:
        headers = {"idempotency-key": key or secrets.token_hex(8), "authorization": f"Bearer {api_key or self.key}"}
        return self.http.post(f"/v1/payments{query}", content=json.dumps(body), headers=headers)

    def accepted(self, **changes: Any) -> Json:
        answer = self.submit(self.submission(**changes))
        assert answer.status_code == 201, answer.text
        found: Json = answer.json()
        return found

    def get(self, path: str, api_key: str | None = None, **query: Any) -> httpx.Response:
        return self.http.get(path, params=query, headers={"authorization": f"Bearer {api_key or self.key}"})

    def send(self, method: str, path: str, body: Any = None, api_key: str | None = None) -> httpx.Response:
        content = None if body is None else json.dumps(body)
        return self.http.request(
            method, path, content=content, headers={"authorization": f"Bearer {api_key or self.key}"}
        )

    # -- what happens to payments ----------------------------------------------------------------------------------

    def claim(self, payment: Json) -> Json:
        """As a worker does before the first byte."""
        command = self.rows.execute(
            "SELECT id FROM commands WHERE payment_id = %s AND kind = 'send'", [payment["id"]]
        ).fetchone()
        assert command
        assert self.store.claim(command["id"], uuid4(), 150.0)
        return payment

    def sent(self, **changes: Any) -> Json:
        return self.claim(self.accepted(**changes))

    def unknown(self, payment: Json) -> Json:
        self.recorder.record(UUID(payment["id"]), AnswerWindowPassed())
        assert self.row(payment["id"])["state"] == "unknown"
        return payment

    def transaction(self, payment: Json) -> Transaction:
        loaded = self.store.load(UUID(payment["id"]))
        assert loaded
        return loaded.transaction

    def tag_key(self) -> bytes:
        return self.store.tag_keys()[0]

    # -- what the platform does ------------------------------------------------------------------------------------

    def push(self, body: bytes | Json, login: tuple[str, str] | None = (USERNAME, PASSWORD)) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if login is None else {"authorization": basic(*login)}
        return self.http.post("/notifications/terminal", content=content, headers=headers)

    def result(self, payment: Json, *, approved: int | None = None, tagged: bool = True) -> Json:
        """The pushed result of a payment: approved in full or for less, or refused when ``approved`` is 0."""
        tx = self.transaction(payment)
        approved = tx.amount.minor if approved is None else approved
        name = "async_payment_response" if approved else "async_payment_refused"
        whole: Json = json.loads(protocol_vectors.body(f"notifications/{name}"))
        answer = whole["SaleToPOIResponse"]
        answer["MessageHeader"] |= {"SaleID": tx.sale_id, "ServiceID": tx.service_id, "POIID": tx.poi_id}
        paid = answer["PaymentResponse"]
        paid["SaleData"]["SaleTransactionID"]["TransactionID"] = tx.reference
        additional = {"merchantReference": tx.reference, "pspReference": secrets.token_hex(8).upper()}
        if approved:
            major = money.to_major(Money(tx.amount.currency, approved))
            paid["PaymentResult"]["AmountsResp"] = {"AuthorizedAmount": float(major), "Currency": tx.amount.currency}
            paid["Response"]["Result"] = "Success" if approved == tx.amount.minor else "Partial"
        if tagged:
            additional[f"metadata.{tag.METADATA_NAME}"] = tag.sign(self.tag_key(), tx)
        paid["Response"]["AdditionalResponse"] = "&".join(f"{name}={value}" for name, value in additional.items())
        return whole

    def concluded(self, payment: Json, approved: int | None = None) -> Json:
        answer = self.push(self.result(payment, approved=approved))
        assert (answer.status_code, answer.text) == (200, "[accepted]")
        return self.get(f"/v1/payments/{payment['id']}").json()  # type: ignore[no-any-return]


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def served(postgres_url: str, folder: Path, **settings: str) -> Iterator[Api]:
    """Serve on a database of one's own, with an unreachable broker: nothing here may need one."""
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with serving(database_url, folder, **settings) as api:
            yield api


@contextmanager
def serving(database_url: str, folder: Path, **settings: str) -> Iterator[Api]:
    """Serve a database that is there."""
    configure_logs("json", StringIO())
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COUNTERFOIL_", "ADYEN_"))},
        "COUNTERFOIL_DATABASE_URL": database_url,
        "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0",
        "COUNTERFOIL_LISTEN": f"127.0.0.1:{port}",
        "COUNTERFOIL_LOG_FORMAT": "json",
        "COUNTERFOIL_SALE_ID": SALE_ID,
        "COUNTERFOIL_NOTIFICATION_USERNAME": USERNAME,
        "COUNTERFOIL_NOTIFICATION_PASSWORD": PASSWORD,
        "COUNTERFOIL_CALLBACK_SECRETS": "whsec_" + "QUFB" * 8,
        **settings,
    }
    with Processes(environment, folder) as processes:
        processes.start("api", "serve")
        wait_until_ready(f"http://127.0.0.1:{port}")
        api = Api(f"http://127.0.0.1:{port}", database_url)
        try:
            yield api
        finally:
            api.close()


def assert_problem(answer: httpx.Response, status: int, slug: str, field: str | None = None) -> Mapping[str, Any]:
    """A whole problem document: its type, a sentence, and the field."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    document: Json = answer.json()
    assert document["type"] == f"urn:counterfoil:problem:{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document.get("field") == field
    return document
