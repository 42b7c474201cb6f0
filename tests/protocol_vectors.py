"""The vectors of the protocol reference, and the transactions that their messages are about."""

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from orchestrator.model import Money, Transaction
from orchestrator.terminal_api import money

VECTORS = Path(__file__).parent / "vectors"
MESSAGES = VECTORS / "messages"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(), parse_float=Decimal)


ENTRIES: Mapping[str, Mapping[str, Any]] = {entry["id"]: entry for entry in load("messages/index.json")["entries"]}


def body(entry_id: str) -> bytes:
    return MESSAGES.joinpath(str(ENTRIES[entry_id]["file"])).read_bytes()


def message(entry_id: str) -> Any:
    return json.loads(body(entry_id), parse_float=Decimal)


def transaction(**changes: Any) -> Transaction:
    """The payment of ``requests/payment_basic``."""
    return Transaction(
        id=UUID("6f1c2d3e-0000-4000-8000-000000000001"),
        reference="ORDER-20251125-0001",
        merchant_account="ExampleMerchantPOS",
        poi_id="V400m-324000123",
        sale_id="KASSA-07",
        service_id="pay0000001",
        amount=Money("EUR", 1099),
    ).evolve(**changes)


def transaction_of(request_id: str) -> Transaction:
    """The transaction that a payment request of the vectors would be sent for."""
    request = message(request_id)["SaleToPOIRequest"]
    header, payment = request["MessageHeader"], request["PaymentRequest"]
    amounts = payment["PaymentTransaction"]["AmountsReq"]
    return transaction(
        reference=payment["SaleData"]["SaleTransactionID"]["TransactionID"],
        poi_id=header["POIID"],
        sale_id=header["SaleID"],
        service_id=header["ServiceID"],
        amount=money.from_major(amounts["RequestedAmount"], amounts["Currency"]),
    )
