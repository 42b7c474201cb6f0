"""A shop with payments of known fates, reports about them, and runs over both."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from orchestrator.booking import Booker
from orchestrator.evidence import AnswerWindowPassed
from orchestrator.model import Money
from orchestrator.policy import Policy
from orchestrator.reconciliation.run import Reconciler, Wish
from orchestrator.refund_record import RefundRecorder
from orchestrator.reports.layout import ZONES
from orchestrator.store.differences import DifferenceFilter, DifferenceStore
from orchestrator.store.links import LinkStore
from orchestrator.store.reconciliation import RunStore
from orchestrator.store.refunds import RefundStore
from orchestrator.store.terminals import TerminalStore
from orchestrator.store.webhooks import WebhookStore
from orchestrator.webhook_intake import WebhookIntake
from tests.factories import approved, failed
from tests.integration.store_support import MERCHANT, Shop
from tests.services import libpq_url

#: A zone in which it is about noon now, so that no test is near midnight; its word, and its hours from UTC.
ZONE, _HOURS = min(ZONES.items(), key=lambda zone: abs((datetime.now(UTC) + timedelta(hours=zone[1])).hour - 12))
#: Now there, and its day.
HERE = datetime.now(timezone(timedelta(hours=_HOURS)))
DAY = HERE.date()


def at(*, days: int = 0, minutes: float = 1) -> str:
    """A time as reports have it."""
    return f"{HERE + timedelta(days=days, minutes=minutes):%Y-%m-%d %H:%M:%S}"


ACCOUNTING = (
    "Company Account,Merchant Account,Psp Reference,Merchant Reference,Payment Method,Booking Date,TimeZone,"
    "Main Currency,Main Amount,Record Type,Modification Merchant Reference"
)
SETTLEMENT = (
    "Company Account,Merchant Account,Psp Reference,Merchant Reference,Creation Date,TimeZone,Type,"
    "Modification Reference,Gross Currency,Gross Debit (GC),Gross Credit (GC),Modification Merchant Reference"
)


@dataclass(frozen=True)
class Paid:
    """A payment and what reports call it."""

    id: UUID
    reference: str
    psp: str
    minor: int = 1099
    merchant: str = MERCHANT


class Office:
    """Whoever keeps the books of a merchant account."""

    def __init__(self, shop: Shop, folder: Path, merchant: str = MERCHANT) -> None:
        self.shop = shop
        self.merchant = merchant
        self.folder = folder
        self.runs = RunStore(shop.database)
        self.differences = DifferenceStore(shop.database)
        self.refunds = RefundStore(shop.database)
        refund_recorder = RefundRecorder(self.refunds, shop.policy, shop.rung.extend)
        booker = Booker(LinkStore(shop.database), self.differences, shop.recorder, self.refunds, refund_recorder)
        policy = Policy.scaled(1000)
        self.webhooks = WebhookIntake(WebhookStore(shop.database), booker, [], live=False)
        again = self.webhooks.process_again
        self.reconciler = Reconciler(self.runs, shop.recorder, booker, policy, folder, again)

    # -- payments ------------------------------------------------------------------------------------------------------

    def sent(self) -> Paid:
        sale, poi_id = secrets.token_hex(8), f"V400m-{secrets.randbelow(10**9):09d}"
        TerminalStore(self.shop.database).put(
            {"poi_id": poi_id, "merchant_account": self.merchant, "transport": "async"}
        )
        body = {"reference": sale, "poi_id": poi_id, "amount": {"currency": "EUR", "value": 1099}}
        envelope = {"merchant_account": self.merchant, "idempotency_key": sale}
        payment = UUID(str(self.shop.intake.submit(body, envelope).row["id"]))
        self.shop.send(payment)
        return Paid(payment, sale, secrets.token_hex(8).upper(), merchant=self.merchant)

    def stranger(self) -> Paid:
        """A payment that is nobody's."""
        psp = secrets.token_hex(8).upper()
        return Paid(UUID(int=0), f"STRANGER-{secrets.token_hex(6)}", psp, merchant=self.merchant)

    def moved(self, paid: Paid, when: datetime) -> None:
        """As if it had been sent then. Its journal says otherwise."""
        with psycopg.connect(libpq_url(self.shop.url), autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("UPDATE payments SET sent_at = %s WHERE id = %s", (when, paid.id))

    def charged(self) -> Paid:
        paid = self.sent()
        self.shop.recorder.record(paid.id, approved(paid.minor, psp_reference=paid.psp))
        return paid

    def declined(self, **changes: Any) -> Paid:
        paid = self.sent()
        self.shop.recorder.record(paid.id, failed(**({"condition": "Refusal"} | changes)))
        return paid

    def unknown(self) -> Paid:
        paid = self.sent()
        self.shop.recorder.record(paid.id, AnswerWindowPassed())
        return paid

    def states(self, *payments: Paid) -> list[tuple[str, str | None]]:
        rows = [self.shop.row(paid.id) for paid in payments]
        return [(row["state"], row["outcome"]) for row in rows]

    # -- reports -------------------------------------------------------------------------------------------------------

    def accounting(self, lines: Iterable[str], day: date = DAY, name: str = "") -> Path:
        return self.report(name or f"payments_accounting_report_{day:%Y_%m_%d}.csv", ACCOUNTING, lines)

    def settlement(self, lines: Iterable[str], batch: int = 1) -> Path:
        return self.report(f"settlement_detail_report_batch_{batch}.csv", SETTLEMENT, lines)

    def report(self, name: str, header: str, lines: Iterable[str]) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in [header, *lines]))
        return path

    # -- runs ----------------------------------------------------------------------------------------------------------

    def run(self, first: date = DAY, last: date | None = None, *reports: Path, ask: bool = False) -> dict[str, Any]:
        wish = Wish(
            merchant_account=self.merchant, first_day=first, last_day=last or first, reports=tuple(reports), ask=ask
        )
        run = self.reconciler.ask(wish, "Ann")
        ended = self.reconciler.go(run["id"], wish)
        assert ended
        return dict(ended)

    def found(self, run: dict[str, Any]) -> list[tuple[str, str | None]]:
        """The differences of a run: kind and reference."""
        rows = self.differences.every(DifferenceFilter(run_id=run["id"]))
        return sorted((row["kind"], row["reference"]) for row in rows)


def line(
    paid: Paid,
    record_type: str = "Authorised",
    *,
    minor: int | None = None,
    currency: str = "EUR",
    when: str = "",
    psp: str | None = None,
    reference: str | None = None,
    merchant: str | None = None,
    modification: str = "",
) -> str:
    """One line of an accounting report."""
    amount = f"{(paid.minor if minor is None else minor) / 100:.2f}"
    return (
        f"Co,{merchant or paid.merchant},{psp or paid.psp},{reference or paid.reference},mc,{when or at()},{ZONE},"
        f"{currency},{amount},{record_type},{modification}"
    )


def settled(paid: Paid, record_type: str, money: Money, modification: str, reference: str = "") -> str:
    """One line of a settlement report."""
    major = f"{money.minor / 100:.2f}"
    debit, credit = ("", major) if record_type == "Settled" else (major, "")
    return (
        f"Co,{paid.merchant},{paid.psp},{paid.reference},{at(minutes=30)},{ZONE},{record_type},{modification},"
        f"{money.currency},{debit},{credit},{reference}"
    )
