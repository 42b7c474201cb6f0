"""The simulator's webhooks, well-behaved and not, on their way into the product: what each comes to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.simulator.aftermath import WEBHOOKS
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import schema
from tests.factories import approved
from tests.integration.http_support import MERCHANT, Api, Json
from tests.integration.simulator_support import Asked, Till, eventually
from tests.integration.webhook_support import KEY, OLD_KEY, alarms, believed, differences, kinds, record, with_keys
from tests.services import fresh_database

pytestmark = pytest.mark.integration

#: Divides the simulator's waits: a webhook comes a quarter of a second after the payment, so that the terminal's word
#: is recorded first; the latest, of ten minutes, after half a minute.
SCALE = 20

#: What each behaviour comes to: state, outcome, and the differences of the payment.
ENDS: dict[str, tuple[str, str | None, list[str]]] = {
    "webhook-missing": ("confirmed", "approved", []),
    "webhook-late": ("reconciled", "approved", []),
    "webhook-twice": ("reconciled", "approved", []),
    "webhook-disorder": ("reconciled", "approved", []),
    "webhook-batch": ("reconciled", "approved", []),
    "webhook-wrong-signature": ("confirmed", "approved", []),
    "webhook-forged": ("reconciled", "approved", []),
    "webhook-old-key": ("reconciled", "approved", []),
    "webhook-contradicts": ("unknown", None, ["state_differs"]),
    "webhook-other-amount": ("confirmed", "approved", ["amount_differs"]),
    "webhook-other-currency": ("confirmed", "approved", ["currency_differs"]),
    "webhook-other-merchant": ("confirmed", "approved", []),
    "webhook-orphan": ("reconciled", "approved", []),
    "webhook-second-try": ("reconciled", "approved", []),
    "webhook-cancelled": ("unknown", None, ["state_differs"]),
    "webhook-cancelled-disorder": ("unknown", None, ["state_differs"]),
    "webhook-refunded-elsewhere": ("reconciled", "approved", ["refund_elsewhere"]),
    "webhook-capture-failed": ("reconciled", "approved", ["capture_failed"]),
    "webhook-expired": ("reconciled", "approved", ["expired"]),
    "webhook-chargeback": ("reconciled", "approved", ["chargeback"]),
}


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with with_keys(database_url, tmp_path_factory.mktemp("logs")) as api:
            yield api


@pytest.fixture(scope="module")
def paid(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Json]]:
    """A payment for each behaviour, approved at the simulator and by what it answered; all of its webhooks follow."""
    ledger: Path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    keys = ["--hmac-key", KEY.hex(), "--hmac-key", OLD_KEY.hex(), "--merchant", MERCHANT]
    arguments = ["--any-terminal", "--time-scale", str(SCALE), "--webhook", f"{api.url}/webhooks/standard", *keys]
    with SimulatorProcess(ledger, arguments) as simulator:
        till = Till(simulator.url)
        yield {name: charged(api, till, name) for name in WEBHOOKS}


def charged(api: Api, till: Till, name: str) -> Json:
    payment = api.sent(reference=f"E2E-{name}")
    asked = Asked(payment["reference"], poi_id=payment["poi_id"], service_id=payment["service_id"])
    answer = till.pay(asked, "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]
    tender, _, own = answer["POIData"]["POITransactionID"]["TransactionID"].partition(".")
    return record(api, payment, approved(psp_reference=own, tender_reference=tender))


def test_every_behaviour_has_an_end_here() -> None:
    assert set(ENDS) == set(WEBHOOKS)


@pytest.mark.parametrize("name", ENDS)
def test_each_behaviour_of_the_webhooks_comes_to_what_its_evidence_says(
    api: Api, paid: dict[str, Json], name: str
) -> None:
    payment = paid[name]

    def has_ended() -> bool:
        return (*believed(api, payment)[:2], kinds(api, payment)) == ENDS[name]

    eventually(has_ended, within_s=60)


def test_what_is_about_nobody_or_somebody_else_is_a_difference_without_a_payment(
    api: Api, paid: dict[str, Json]
) -> None:
    orphan, other = (paid[f"webhook-{name}"]["reference"] for name in ("orphan", "other-merchant"))

    eventually(lambda: [row["kind"] for row in differences(api, reference=f"{orphan}-unknown")] == ["orphan"])
    eventually(lambda: [row["kind"] for row in differences(api, reference=other)] == ["orphan"])

    assert not differences(api, reference=orphan)
    assert differences(api, reference=other)[0]["merchant_account"] != MERCHANT


def test_forgeries_are_in_the_quarantine(api: Api, paid: dict[str, Json]) -> None:
    assert paid
    eventually(lambda: api.count("webhook_quarantine") == 2)
    assert "webhook_signature" in alarms(api)
