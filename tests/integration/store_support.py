"""A shop on a real database: terminals, payments and whoever performs their commands, without a broker."""

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from config.logs import configure_logs
from orchestrator.commands import CommandKind
from orchestrator.evidence import Evidence
from orchestrator.intake import Intake
from orchestrator.perform import Performer
from orchestrator.policy import Policy
from orchestrator.record import Recorder
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.rows import Loaded, Ring
from orchestrator.store.store import Store
from orchestrator.store.terminals import TerminalStore
from orchestrator.terminal import TerminalRoute
from tests.factories import approved
from tests.services import fresh_database, libpq_url

MERCHANT = "HarbourBakery"

Answer = Callable[[Loaded], Evidence | None]


@dataclass
class Counter:
    """A terminal client that puts nothing on a wire: it counts what it is asked to send, and says what it is told."""

    answer: Callable[[UUID], Evidence | None] = lambda _payment: None
    sent: list[UUID] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def pay(self, tx: Any, route: TerminalRoute, body: bytes, may_send: Callable[[], bool]) -> Evidence | None:
        with self._lock:
            self.sent.append(tx.id)
        return self.answer(tx.id)


class Shop:
    """The store and the shell around it. ``rung`` is what the broker would have got, ``counter`` has what was sent."""

    def __init__(self, url: str, policy: Policy | None = None, *, connections: int = 20) -> None:
        self.log = StringIO()
        configure_logs("json", self.log)
        self.url = url
        self.policy = policy or Policy()
        self.database = Database(url, connections=connections)
        self.database.open()
        self.store = Store(self.database)
        self.rung: list[Ring] = []
        self.told: list[int] = []
        self.recorder = Recorder(self.store, self.policy, self.rung.extend)
        self.intake = Intake(self.store, self.rung.extend, "Till4")
        self.counter = Counter()
        self.performer = self._performer(self.store, [b"k" * 32])

    def _performer(self, store: Any, keys: list[bytes]) -> Performer:
        recorder = Recorder(store, self.policy, self.rung.extend)
        client: Any = self.counter  # the part of the client that a send uses
        return Performer(store, recorder, client, self.policy, lambda: keys, lambda _command: None)

    def with_store(self, store: Any) -> Performer:
        """A performer whose store misbehaves."""
        return self._performer(store, [b"k" * 32])

    def with_keys(self, keys: list[bytes]) -> Performer:
        """A performer with these tag keys."""
        return self._performer(self.store, keys)

    def terminal(self) -> str:
        """Register a terminal of its own."""
        poi_id = f"V400m-{secrets.randbelow(10**9):09d}"
        TerminalStore(self.database).put({"poi_id": poi_id, "merchant_account": MERCHANT, "transport": "async"})
        return poi_id

    def pay(self, poi_id: str, **body: Any) -> UUID:
        """Accept a payment of a sale of its own."""
        sale = secrets.token_hex(8)
        fields = {"reference": sale, "poi_id": poi_id, "amount": {"currency": "EUR", "value": 1099}}
        accepted = self.intake.submit(fields | body, {"merchant_account": MERCHANT, "idempotency_key": sale})
        return UUID(str(accepted.row["id"]))

    def command(self, payment_id: UUID, kind: CommandKind = CommandKind.SEND) -> int:
        """The id of the open command of this kind."""
        row = self.sql("SELECT id FROM commands WHERE payment_id = %s AND kind = %s", payment_id, kind.value)
        return int(row[0]["id"])

    def kinds(self, payment_id: UUID) -> set[str]:
        """The kinds of its open commands."""
        return {row["kind"] for row in self.sql("SELECT kind FROM commands WHERE payment_id = %s", payment_id)}

    def send(self, payment_id: UUID) -> None:
        """Perform its SEND, as a message would."""
        self.performer.perform(self.command(payment_id), CommandKind.SEND)

    def claim(self, payment_id: UUID) -> Loaded | None:
        """Claim it, and send nothing."""
        return self.store.claim(self.command(payment_id), uuid4(), self.policy.answer_window_s)

    def approve(self, payment_id: UUID) -> None:
        """Its terminal says that it was paid."""
        self.recorder.record(payment_id, approved(digest=secrets.token_hex(32)))

    def make_due(self, payment_id: UUID, kind: CommandKind, *, and_ring: bool = True) -> None:
        """Let time pass for one command."""
        self.sql(
            "UPDATE commands SET due_at = now() - interval '1 second',"
            " ring_at = CASE WHEN %s THEN now() ELSE ring_at END WHERE payment_id = %s AND kind = %s RETURNING id",
            and_ring, payment_id, kind.value,
        )  # fmt: skip

    def row(self, payment_id: UUID) -> dict[str, Any]:
        """The payment."""
        return dict(self.store.row(payment_id))

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """What raw SQL says, beside the product's own connections."""
        with psycopg.connect(libpq_url(self.url), autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def drain(self) -> None:
        """Do what was rung until nothing is."""
        while self.rung:
            ring = self.rung.pop(0)
            self.performer.perform(ring.command_id, ring.kind)

    def close(self) -> None:
        self.database.close()


@contextmanager
def shop_in(server_url: str, policy: Policy | None = None) -> Iterator[Shop]:
    """A shop with a database of its own, brought up to date."""
    with fresh_database(server_url) as url:
        schema.upgrade(url)
        shop = Shop(url, policy)
        try:
            yield shop
        finally:
            shop.close()


def all_at_once(*jobs: Callable[[], Any]) -> list[Any]:
    """Run these at the same instant, each in a thread of its own; what each returned."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        barrier.wait(10)
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))
