"""Reports of what a running simulator did: written on demand, fetched by their announced URL, planted as asked."""

from __future__ import annotations

import csv
import io
import json
import urllib.error
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulator.__main__ import main
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.simulator.webhooks import OFFICE_TIME
from tests.integration.simulator_support import Asked, Json, Receiver, Till, eventually, message

_KEY = "report-user"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def simulator(tmp_path: Path, receiver: Receiver) -> Iterator[SimulatorProcess]:
    arguments = ["--any-terminal", "--time-scale", "500", "--webhook", receiver.url, "--hmac-key", "0f" * 32]
    more = ["--reports-dir", str(tmp_path / "reports"), "--api-key", _KEY, "--merchant", "ShopBerlin"]
    with SimulatorProcess(tmp_path / "ledger.jsonl", [*arguments, *more]) as simulator:
        yield simulator


@pytest.fixture
def till(simulator: SimulatorProcess) -> Till:
    return Till(simulator.url, _KEY)


def pay(till: Till, reference: str) -> Json:
    found: Json = till.pay(Asked(reference), "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]
    return found


def day_of(simulator: SimulatorProcess) -> Any:
    """The office's day of the first payment; a run around midnight is too short to matter."""
    [first, *_] = simulator.ledger("request")
    return datetime.fromisoformat(first["at"]).astimezone(OFFICE_TIME).date()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_reports_say_what_the_ledger_says(till: Till, simulator: SimulatorProcess) -> None:
    payments = {name: pay(till, f"SALE-{name}") for name in ("approve", "decline", "partial", "cancel", "chip-refuses")}
    body = {
        "OriginalPOITransaction": {"POITransactionID": payments["approve"]["POIData"]["POITransactionID"]},
        "ReversalReason": "MerchantCancel",
        "SaleData": {"SaleTransactionID": {"TransactionID": "REFUND", "TimeStamp": "2025-11-25T10:14:00Z"}},
    }
    till.post("/sync", message("Reversal", body, "V400m-1", "r000000001"))
    eventually(lambda: len(simulator.ledger("refund")) == len(simulator.ledger("cancellation")) == 1)

    written = simulator.write_reports(day_of(simulator))

    received = rows(till.call("GET", f"/reports/{written['files']['received']}").text)
    assert {(row["Merchant Reference"], row["Type"], row["Amount"]) for row in received} == {
        ("SALE-approve", "Authorised", "10.99"),
        ("SALE-decline", "Refused", "10.99"),
        ("SALE-partial", "Authorised", "6.59"),
        ("SALE-chip-refuses", "Cancelled", "10.99"),
    }
    settled = rows(till.call("GET", f"/reports/{written['files']['settlement']}").text)
    assert [(row["Type"], row["Modification Merchant Reference"]) for row in settled if row["Psp Reference"]] == [
        ("Settled", ""),
        ("Refunded", "REFUND"),
        ("Settled", ""),
    ]
    [refund] = simulator.ledger("refund_requested")
    assert {row["Modification Reference"] for row in settled} >= {refund["psp_reference"]}
    accounting = rows(till.call("GET", f"/reports/{written['files']['accounting']}").text)
    assert [row["Record Type"] for row in accounting if row["Merchant Reference"] == "SALE-chip-refuses"] == [
        "Received",
        "Authorised",
        "Cancelled",
    ]
    assert {row["Merchant Account"] for row in accounting} == {"ShopBerlin"}


def test_a_report_is_announced_and_fetched_with_the_key(
    till: Till, simulator: SimulatorProcess, receiver: Receiver
) -> None:
    pay(till, "SALE")

    written = simulator.write_reports(day_of(simulator), kinds=["received"])
    eventually(lambda: any(_item(body)["eventCode"] == "REPORT_AVAILABLE" for body in list(receiver.bodies)))

    [item] = [_item(b) for b in receiver.bodies if _item(b)["eventCode"] == "REPORT_AVAILABLE"]
    assert (item["pspReference"], item["amount"]["value"]) == (written["files"]["received"], 0)
    assert item["reason"] == f"{simulator.url}/reports/{item['pspReference']}"
    fetched = till.call("GET", item["reason"].removeprefix(simulator.url))
    assert (fetched.status, fetched.content_type) == (200, "text/csv")
    assert Till(simulator.url, "wrong").call("GET", f"/reports/{item['pspReference']}").status == 401


def _item(body: Json) -> Json:
    item: Json = body["notificationItems"][0]["NotificationRequestItem"]
    return item


def test_differences_are_planted_as_asked(till: Till, simulator: SimulatorProcess, tmp_path: Path) -> None:
    for number in range(6):
        pay(till, f"SALE-{number}")

    written = simulator.write_reports(day_of(simulator), discrepancies={"missing": 1, "amount": 2, "extra": 1}, seed=3)

    assert sorted(each["kind"] for each in written["planted"]) == ["amount", "amount", "extra", "missing"]
    assert json.loads((tmp_path / "reports" / "planted.json").read_text())["planted"] == written["planted"]
    received = rows(till.call("GET", f"/reports/{written['files']['received']}").text)
    missing = next(each["reference"] for each in written["planted"] if each["kind"] == "missing")
    assert {row["Merchant Reference"] for row in received} == {f"SALE-{n}" for n in range(6)} - {missing} | {
        "EXTRA-3-0000"
    }


def test_the_command_writes_the_same_from_the_ledger_alone(
    till: Till, simulator: SimulatorProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("approve", "decline"):
        pay(till, f"SALE-{name}")
    written = simulator.write_reports(day_of(simulator), discrepancies={"state": 1}, seed=3)

    arguments = ["--day", str(day_of(simulator)), "--out", str(tmp_path / "again"), "--merchant", "ShopBerlin"]
    main(["--write-reports", str(simulator.ledger_path), *arguments, "--plant", "state=1", "--seed", "3"])

    assert json.loads(capsys.readouterr().out)["lines"] == written["lines"]
    for name in [*written["files"].values(), "planted.json"]:
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "reports" / name).read_text()


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"day": "today"}, "day"),
        ({"day": "2025-11-25", "kinds": ["no-such"]}, "no-such"),
        ({"day": "2025-11-25", "discrepancies": {"no-such": 1}}, "no-such"),
        ({"day": "2025-11-25", "discrepancies": {"missing": 1}}, "1 payments"),
        ({"day": "2025-11-25", "no-such": 1}, "no-such"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(wanted: Json, named: str, till: Till) -> None:
    refused = till.post("/reports", wanted)

    assert refused.status == 422
    assert named in refused.json()["error"]


@pytest.mark.parametrize("path", ["/reports/no-such.csv", "/reports/../ledger.jsonl", "/reports/planted.json"])
def test_only_reports_are_served(path: str, till: Till, simulator: SimulatorProcess) -> None:
    simulator.write_reports(datetime.now(UTC).date())

    assert till.call("GET", path).status == 404


def test_without_a_folder_no_report_is_written(tmp_path: Path) -> None:
    with SimulatorProcess(tmp_path / "other.jsonl") as simulator, pytest.raises(urllib.error.HTTPError) as refused:
        simulator.write_reports(datetime.now(UTC).date())

    assert "--reports-dir" in json.load(refused.value)["error"]
