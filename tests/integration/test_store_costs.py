"""What a payment and an idle second cost the database, and that it stays so however many payments there are."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from orchestrator.commands import CommandKind
from orchestrator.store import statements
from orchestrator.store.database import Database
from orchestrator.store.pages import Pages, PaymentFilter
from tests.integration.store_support import MERCHANT, Shop, shop_in
from tests.services import Embedded, libpq_url

pytestmark = pytest.mark.integration


def next_xid(shop: Shop) -> int:
    """Database transactions of the whole server that took an xid, counted by the next one to be given."""
    return int(shop.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid")[0]["xid"])


@pytest.fixture(scope="module")
def counted(embedded: Embedded) -> Iterator[Shop]:
    """Xids can be counted only where nobody else takes any: on a server that these tests started themselves."""
    with shop_in(embedded.servers().database_url) as opened:
        opened.sql("ALTER SYSTEM SET autovacuum = off")
        opened.sql("SELECT pg_reload_conf()")
        yield opened
        opened.sql("ALTER SYSTEM RESET autovacuum")
        opened.sql("SELECT pg_reload_conf()")


def test_the_happy_path_writes_three_database_transactions_and_sends_one_message(counted: Shop) -> None:
    poi_id = counted.terminal()
    counted.rung.clear()
    before = next_xid(counted)

    payment = counted.pay(poi_id)
    [ring] = counted.rung
    counted.performer.perform(ring.command_id, ring.kind)
    counted.approve(payment)

    assert next_xid(counted) - before == 3
    assert counted.rung == [ring]
    assert counted.row(payment)["outcome"] == "approved"


def test_a_sweep_that_finds_nothing_due_writes_nothing(counted: Shop) -> None:
    counted.sql("DELETE FROM commands")
    counted.pay(counted.terminal())
    before = next_xid(counted)

    for _ in range(5):
        assert counted.performer.sweep() == 0

    assert next_xid(counted) == before


def test_a_message_that_is_delivered_again_writes_nothing(counted: Shop) -> None:
    payment = counted.pay(counted.terminal())
    command = counted.command(payment)
    counted.send(payment)
    before = next_xid(counted)

    counted.performer.perform(command, CommandKind.SEND)

    assert next_xid(counted) == before


# -- and it stays so ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowded(embedded: Embedded) -> Iterator[Shop]:
    """A shop with 50,000 payments behind it, 500 terminals, and as many commands for later."""
    with shop_in(embedded.servers().database_url) as opened:
        template = opened.pay(opened.terminal())
        opened.sql(
            "WITH copies AS (INSERT INTO payments (id, merchant_account, idempotency_key, fingerprint, reference,"
            " poi_id, sale_id, service_id, transport, currency, amount_minor, send_by, journal_hash, state, outcome,"
            " concluded_at, sent_at, answer_by) SELECT gen_random_uuid(), merchant_account, n::text, '', 'sale-' || n,"
            " 'V400m-' || mod(n, 500), sale_id, substr(md5(n::text), 1, 10), transport, currency, 1, now(), '',"
            " 'confirmed', 'declined', now(), now(), now()"
            " FROM payments, generate_series(1, 50000) n WHERE id = %s RETURNING id)"
            " INSERT INTO commands (payment_id, kind, due_at, ring_at) SELECT id, 'check_status',"
            " now() + interval '1 day', now() + interval '1 day' FROM copies",
            template,
        )
        opened.sql("ANALYZE")
        yield opened


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, from the top."""
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)


def plan_of(shop: Shop, statement: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """What the planner would do, by its own judgement: on a connection without our settings."""
    with psycopg.connect(libpq_url(shop.url), row_factory=dict_row) as connection:
        row = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), parameters).fetchone()
    return list(nodes(next(iter((row or {}).values()))[0]["Plan"]))


def statements_of_a_payment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, dict[str, Any]]]:
    """The hot path's statements with the parameters of a payment that goes through."""
    seen: dict[str, tuple[str, dict[str, Any]]] = {}
    names = {getattr(statements, name): name for name in HOT}

    def remember(method: Callable[..., Any]) -> Callable[..., Any]:
        def remembering(database: Any, statement: Any, *parameters: Any) -> Any:
            for text, values in [(statement, *parameters)] if isinstance(statement, str) else statement:
                if text in names:
                    seen[names[text]] = (text, values)
            return method(database, statement, *parameters)

        return remembering

    for method in ("one", "all", "run", "last_of"):
        monkeypatch.setattr(Database, method, remember(getattr(Database, method)))
    poi_id = shop.terminal()
    payment, waiting = shop.pay(poi_id), shop.pay(poi_id)
    shop.send(payment)
    shop.send(waiting)
    shop.make_due(payment, CommandKind.EXPECT_ANSWER)
    shop.performer.sweep()
    shop.store.load_by_service_id(poi_id, shop.row(payment)["service_id"])
    shop.approve(payment)
    monkeypatch.undo()
    return seen


HOT = ("ACCEPT", "CLAIM", "PARK_SEND", "LOAD", "LOAD_BY_SERVICE_ID", "LOAD_FOR_COMMAND", "RECORD", "RING_DUE")


def test_every_statement_of_the_hot_path_reads_the_large_tables_by_an_index(
    crowded: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = statements_of_a_payment(crowded, monkeypatch)
    assert set(seen) == set(HOT)

    for name, (statement, parameters) in seen.items():
        scans = [node for node in plan_of(crowded, statement, parameters) if node["Node Type"] == "Seq Scan"]
        assert [scan["Relation Name"] for scan in scans if scan["Relation Name"] in LARGE] == [], name


LARGE = {"payments", "commands", "journal", "journal_details"}


def test_the_parts_of_a_split_sale_are_read_by_an_index(crowded: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(_: Database, statement: str, parameters: dict[str, Any]) -> list[Any]:
        asked.append((statement, parameters))
        return []

    monkeypatch.setattr(Database, "all", ask)
    Pages(crowded.database).payments(PaymentFilter(merchant_account=MERCHANT, sale_reference_id="BASKET-1"), None, 50)
    monkeypatch.undo()

    [(statement, parameters)] = asked
    assert "payments_sale_reference" in {node.get("Index Name") for node in plan_of(crowded, statement, parameters)}


def test_a_plan_made_while_the_tables_were_small_stays_good(counted: Shop) -> None:
    """A connection keeps its plan; one that read a small table whole would go on doing so for every payment."""
    row = counted.database.one(f"EXPLAIN (FORMAT JSON) {statements.LOAD}", {"id": counted.pay(counted.terminal())})

    plan = next(iter((row or {}).values()))[0]["Plan"]
    assert plan["Node Type"] == "Index Scan"
