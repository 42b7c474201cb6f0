"""A fault of our own is loud, and loses nothing: whoever brought the message is answered, and a person is alarmed."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from orchestrator.errors import Defect
from orchestrator.evidence import Evidence
from orchestrator.intake import Intake
from orchestrator.receive import Receiver
from orchestrator.store.live import LiveStore
from orchestrator.store.rows import Loaded
from orchestrator.submissions import submit_by_task
from orchestrator.terminal_api import strict_json, tag
from tests.integration.servers import shop as shop  # noqa: PLC0414  # a fixture
from tests.integration.store_support import Shop

pytestmark = pytest.mark.integration


class _Broken:
    """A recorder whose table has a hole."""

    def record(self, _: UUID, __: Evidence, ___: Loaded | None = None) -> None:
        raise Defect("this cannot happen")


class _BrokenIntake(Intake):
    def submit(self, *_: Any, **__: Any) -> Any:
        raise Defect("this cannot happen")


def test_a_message_that_meets_a_defect_is_kept_and_alarms(shop: Shop) -> None:
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    row = shop.row(payment)
    receiver = Receiver(shop.store, _Broken(), lambda: [b"k" * 32], LiveStore(shop.database))  # type: ignore[arg-type]

    kind = receiver.receive(_approval(row, [b"k" * 32], shop))

    assert kind == "stray"
    assert [alarm["name"] for alarm in shop.sql("SELECT name FROM alarms WHERE payment_id = %s", payment)] == ["defect"]
    assert shop.sql("SELECT why FROM strays WHERE service_id = %s", row["service_id"]) == [{"why": "unprocessed"}]


def test_a_submission_by_task_that_meets_a_defect_is_found_among_the_rejections(shop: Shop) -> None:
    intake = _BrokenIntake(shop.store, lambda _: None, "KASSA-07", None)
    submission = {"merchant_account": "HarbourBakery", "idempotency_key": "defect-1", "reference": "defect-1"}

    told = submit_by_task(intake, shop.store, submission)

    assert told["rejected"] == "submission-rejected"
    kept = shop.sql("SELECT reference, detail FROM rejections WHERE idempotency_key = 'defect-1'")
    assert kept[0]["reference"] == "defect-1"
    assert "noted" in kept[0]["detail"]


def _approval(row: dict[str, Any], keys: Sequence[bytes], shop: Shop) -> bytes:
    loaded = shop.store.load(row["id"])
    assert loaded is not None
    header = {
        "ProtocolVersion": "3.0", "MessageClass": "Service", "MessageCategory": "Payment", "MessageType": "Response",
        "SaleID": row["sale_id"], "ServiceID": row["service_id"], "POIID": row["poi_id"],
    }  # fmt: skip
    additional = f"metadata.counterfoil_tag={tag.sign(keys[0], loaded.transaction)}"
    response = {
        "Response": {"Result": "Success", "AdditionalResponse": additional},
        "SaleData": {"SaleTransactionID": {"TransactionID": row["reference"], "TimeStamp": "2026-01-31T12:00:00Z"}},
        "PaymentResult": {"AmountsResp": {"AuthorizedAmount": Decimal("10.99"), "Currency": row["currency"]}},
    }
    return strict_json.dumps({"SaleToPOIResponse": {"MessageHeader": header, "PaymentResponse": response}})
