"""Runs and differences over HTTP, on the command line and by task: for their merchant, by whoever may."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn

from config.celery import celery_app
from config.settings import Settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.errors import InvalidSubmission
from orchestrator.ids import new_id
from orchestrator.keys import Role, make_key
from orchestrator.reconciliation.sources import of_merchant
from orchestrator.store.differences import DifferenceFilter
from orchestrator.store.keys import KeyStore
from orchestrator.web.app import web_app
from tests.integration.books_support import DAY, Office, Paid, line
from tests.integration.store_support import MERCHANT, Shop, shop_in

pytestmark = pytest.mark.integration

NO_BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def office(shop: Shop, folder: Path) -> Iterator[Office]:
    yield Office(shop, folder)
    for path in folder.rglob("*.csv*"):
        path.unlink()
    shop.sql("UPDATE reconciliation_runs SET state = 'failed' WHERE state IN ('queued', 'running')")


@pytest.fixture(scope="module")
def product(shop: Shop, folder: Path) -> Counterfoil:
    return Counterfoil(Settings(database_url=shop.url, broker_url=NO_BROKER, reports_dir=folder, time_scale=1000))


@pytest.fixture(scope="module")
def api(product: Counterfoil) -> Iterator[httpx.Client]:
    """The application, served on a port of its own; what it would publish is kept."""
    server = uvicorn.Server(uvicorn.Config(web_app(product), port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    give_up_at_s = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < give_up_at_s, "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
        yield client
    server.should_exit = True
    thread.join(20)


def key(shop: Shop, role: Role, merchant: str = MERCHANT) -> dict[str, str]:
    secret, digest = make_key()
    KeyStore(shop.database).create(new_id(), digest, merchant, role.value, "test")
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
def differing(office: Office) -> tuple[dict[str, Any], Paid]:
    """A run that found one difference."""
    paid = office.charged()
    office.accounting([line(paid, minor=1)])
    return office.run(), paid


PERIOD = {"from": DAY.isoformat(), "to": DAY.isoformat()}


# -- HTTP --------------------------------------------------------------------------------------------------------------


def test_a_run_is_asked_for_once_and_shown(
    api: httpx.Client, shop: Shop, office: Office, product: Counterfoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(product, "start_run", started.append)
    finance = key(shop, Role.FINANCE)

    first = api.post("/v1/reconciliations", json=PERIOD, headers=finance)
    second = api.post("/v1/reconciliations", json=PERIOD, headers=finance)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    assert (first.json()["state"], first.json()["from"]) == ("queued", DAY.isoformat())
    assert [str(run["id"]) for run in started] == [first.json()["id"]] * 2
    shown = api.get(first.headers["location"], headers=key(shop, Role.VIEWER))
    assert shown.json() == first.json()
    listed = api.get("/v1/reconciliations?limit=1", headers=finance).json()["data"]
    assert listed == [first.json()]


def test_a_broker_that_is_away_is_said_and_the_run_waits(api: httpx.Client, shop: Shop, office: Office) -> None:
    answer = api.post("/v1/reconciliations", json=PERIOD, headers=key(shop, Role.FINANCE))

    assert (answer.status_code, answer.json()["type"]) == (503, "urn:counterfoil:problem:broker-unavailable")
    assert office.runs.next_queued(MERCHANT)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"from": "2025-11-25"}, "to"),
        ({"from": "yesterday", "to": "2025-11-25"}, "from"),
        ({"from": "2025-11-25", "to": "2025-11-24"}, "to"),
        ({"from": "2024-01-01", "to": "2025-11-24"}, "to"),
        ({"from": 5, "to": "2025-11-24"}, "from"),
        ({**PERIOD, "merchant": "x"}, "merchant"),
    ],
)
def test_a_wrong_period_is_refused_by_its_field(api: httpx.Client, shop: Shop, body: Any, field: str) -> None:
    answer = api.post("/v1/reconciliations", json=body, headers=key(shop, Role.FINANCE))

    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_who_may_not_reconcile_is_told_so(api: httpx.Client, shop: Shop) -> None:
    assert api.post("/v1/reconciliations", json=PERIOD).status_code == 401
    for role in (Role.VIEWER, Role.SUBMIT, Role.OPERATE):
        assert api.post("/v1/reconciliations", json=PERIOD, headers=key(shop, role)).status_code == 403
        assert api.put("/v1/reports/x.csv", content=b"", headers=key(shop, role)).status_code == 403


def test_differences_are_read_as_json_and_csv_and_settled_by_finance(
    api: httpx.Client, shop: Shop, differing: tuple[dict[str, Any], Paid]
) -> None:
    run, paid = differing
    viewer, finance = key(shop, Role.VIEWER), key(shop, Role.FINANCE)

    found = api.get(f"/v1/reconciliations/{run['id']}/differences?limit=200", headers=viewer).json()["data"]
    (shown,) = [each for each in found if each["payment_id"] == str(paid.id)]
    assert (shown["kind"], shown["state"]) == ("amount_differs", "open")
    table = api.get(f"/v1/reconciliations/{run['id']}/differences?format=csv", headers=viewer)
    assert table.headers["content-type"].startswith("text/csv")
    (row,) = [each for each in csv.DictReader(io.StringIO(table.text)) if each["id"] == shown["id"]]
    assert (row["payment_id"], row["our_value_minor"], row["their_value_minor"]) == (str(paid.id), "1099", "1")

    path = f"/v1/differences/{shown['id']}"
    assert api.post(f"{path}/close", json={"note": "seen"}, headers=viewer).status_code == 403
    assert api.post(f"{path}/close", json={}, headers=finance).json()["field"] == "note"
    assert api.post(f"{path}/forget", json={"note": "seen"}, headers=finance).status_code == 422
    assert api.post(f"{path}/explain", json={"note": "a tip"}, headers=finance).json()["state"] == "explained"
    closed = api.post(f"{path}/close", json={"note": "booked"}, headers=finance).json()
    assert (closed["state"], closed["note"], closed["changed_by"].partition(" ")[0]) == ("closed", "booked", "key")
    open_ones = api.get(f"/v1/differences?state=open&payment_id={paid.id}", headers=viewer).json()["data"]
    assert open_ones == []


def test_another_merchants_runs_and_differences_do_not_exist(
    api: httpx.Client, shop: Shop, differing: tuple[dict[str, Any], Paid], office: Office
) -> None:
    run, paid = differing
    other = key(shop, Role.ADMIN, "Another")
    (difference,) = office.differences.every(DifferenceFilter(payment_id=paid.id))

    assert api.get(f"/v1/reconciliations/{run['id']}", headers=other).status_code == 404
    assert api.get(f"/v1/reconciliations/{run['id']}/differences", headers=other).status_code == 404
    assert api.get("/v1/reconciliations", headers=other).json()["data"] == []
    assert api.get("/v1/differences", headers=other).json()["data"] == []
    path = f"/v1/differences/{difference['id']}/close"
    assert api.post(path, json={"note": "mine"}, headers=other).status_code == 404


def test_a_report_is_put_where_runs_of_its_merchant_find_it(
    api: httpx.Client, shop: Shop, office: Office, folder: Path
) -> None:
    paid = office.charged()
    made = office.accounting([line(paid)])
    content = made.read_bytes()
    made.unlink()
    name = made.name

    answer = api.put(f"/v1/reports/{name}", content=content, headers=key(shop, Role.FINANCE))

    assert answer.status_code == 201, answer.text
    assert (answer.json()["name"], answer.json()["lines"], answer.json()["kind"]) == (name, 1, "payment accounting")
    assert (of_merchant(folder, MERCHANT) / name).read_bytes() == content
    office.run()
    assert office.states(paid) == [("reconciled", "approved")]

    api.put(f"/v1/reports/{name}", content=content, headers=key(shop, Role.FINANCE, "../Another"))
    assert (of_merchant(folder, MERCHANT) / name).read_bytes() == content
    assert not (folder.parent / name).exists()


def test_a_report_that_cannot_be_read_is_refused_by_its_line_and_not_kept(
    api: httpx.Client, shop: Shop, office: Office, folder: Path
) -> None:
    content = office.accounting([line(office.stranger()), "cut off"]).read_bytes()
    (name,) = [path.name for path in folder.glob("*.csv")]
    (folder / name).unlink()

    answer = api.put(f"/v1/reports/{name}", content=content, headers=key(shop, Role.FINANCE))

    assert (answer.status_code, answer.json()["field"]) == (422, "line 3")
    assert list(folder.rglob("*.csv*")) == []


@pytest.mark.parametrize("name", ["notes.csv", "payments_accounting_report.exe", "..%2Fpayments_accounting.csv"])
def test_a_file_that_is_no_report_by_its_name_is_refused(api: httpx.Client, shop: Shop, name: str) -> None:
    assert api.put(f"/v1/reports/{name}", content=b"x", headers=key(shop, Role.FINANCE)).status_code in {404, 422}


def test_the_description_of_the_api_says_what_is_answered(
    api: httpx.Client, shop: Shop, differing: tuple[dict[str, Any], Paid]
) -> None:
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    viewer = key(shop, Role.VIEWER)
    run = api.get("/v1/reconciliations?limit=1", headers=viewer).json()["data"][0]
    (difference, *_) = api.get("/v1/differences", headers=viewer).json()["data"]

    assert set(run) == set(schemas["Reconciliation"]["properties"])
    assert set(run["reports"][0]) == set(schemas["Report"]["properties"])
    assert set(difference) == set(schemas["Difference"]["properties"])


# -- the command line --------------------------------------------------------------------------------------------------


def counterfoil(shop: Shop, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERFOIL_", "ADYEN_"))}
    environment = kept | {
        "COUNTERFOIL_DATABASE_URL": shop.url,
        "COUNTERFOIL_BROKER_URL": NO_BROKER,
        "COUNTERFOIL_REPORTS_DIR": str(folder),
        "COUNTERFOIL_TIME_SCALE": "1000",
    }
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "reconcile", *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_line_reconciles_and_its_exit_status_says_whether_anything_differs(
    shop: Shop, office: Office, folder: Path
) -> None:
    paid, wrong = office.charged(), office.charged()
    office.accounting([line(paid), line(wrong, minor=1)])
    period = ["--merchant", MERCHANT, "--from", DAY.isoformat(), "--no-ask"]

    ran = counterfoil(shop, folder, "run", *period)

    assert ran.returncode == 30, ran.stderr
    assert "of another amount in the books." in ran.stdout
    assert wrong.reference in ran.stdout
    run_id = json.loads(counterfoil(shop, folder, "list", "--json").stdout)[0]["id"]
    shown = json.loads(counterfoil(shop, folder, "show", run_id, "--json").stdout)
    mine = [d for d in shown["differences"] if d["reference"] == wrong.reference]
    (difference,) = mine

    note = ["--as", "Ann", "--note", "a tip"]
    assert counterfoil(shop, folder, "explain", difference["id"], *note).returncode == 0
    for each in shown["differences"]:
        assert counterfoil(shop, folder, "close", each["id"], *note).returncode == 0
    again = counterfoil(shop, folder, "run", *period)
    assert again.returncode == 0, again.stdout
    assert counterfoil(shop, folder, "reopen", difference["id"], *note).returncode == 0
    as_csv = counterfoil(shop, folder, "differences", "--state", "open", "--csv").stdout
    assert [row["id"] for row in csv.DictReader(io.StringIO(as_csv))] == [difference["id"]]


def test_a_report_that_cannot_be_read_is_named_with_its_line(shop: Shop, office: Office, folder: Path) -> None:
    paid = office.charged()
    report = office.accounting([line(paid), line(paid).replace("10.99", "-10.99")], name="any.csv")
    arguments = ["--merchant", MERCHANT, "--report", str(report), "--from", DAY.isoformat()]

    ran = counterfoil(shop, folder, "run", *arguments)

    assert ran.returncode == 1
    assert "any.csv:3: has a negative" in ran.stdout
    assert office.states(paid) == [("confirmed", "approved")]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["run", "--from", "soon"], 2, "is a day"),
        (["export"], 2, "--from"),
        (["show", str(uuid4())], 1, "there is no run"),
        (["close", str(uuid4()), "--as", "Ann", "--note", "x"], 1, "there is no difference"),
        (["run", "--merchant", "M", "--report", "/nowhere/x.csv"], 1, "there is no file x.csv"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    shop: Shop, folder: Path, arguments: list[str], status: int, says: str
) -> None:
    ran = counterfoil(shop, folder, *arguments)

    assert ran.returncode == status
    assert says in ran.stderr


def test_an_audit_takes_payments_and_their_evidence_along_and_twice_the_same(
    shop: Shop, office: Office, folder: Path
) -> None:
    paid = office.charged()
    today = f"{office.shop.row(paid.id)['created_at']:%Y-%m-%d}"
    arguments = ["export", "--from", today, "--to", today]

    exported = counterfoil(shop, folder, *arguments).stdout

    assert exported == counterfoil(shop, folder, *arguments).stdout
    payments = [json.loads(text) for text in exported.splitlines()]
    (payment,) = [each for each in payments if each["id"] == str(paid.id)]
    journal = payment["journal"]
    assert [each["evidence"] for each in journal] == ["submission_accepted", "send_started", "result_reported"]
    assert journal[-1]["detail"]["psp_reference"] == paid.psp
    rows = counterfoil(shop, folder, *arguments, "--format", "csv").stdout
    assert [row["reference"] for row in csv.DictReader(io.StringIO(rows))] == [each["reference"] for each in payments]
    lines = counterfoil(shop, folder, *arguments, "--format", "csv", "--what", "evidence").stdout
    assert len(list(csv.DictReader(io.StringIO(lines)))) == sum(len(each["journal"]) for each in payments)
    assert counterfoil(shop, folder, "export", "--from", "2020-01-01").stdout == ""


# -- by task -----------------------------------------------------------------------------------------------------------


def test_a_task_goes_through_what_waits_or_what_it_names(office: Office) -> None:
    paid = office.charged()
    office.accounting([line(paid)])

    days = {"first_day": DAY.isoformat(), "last_day": DAY.isoformat()}
    (ended,) = office.reconciler.by_task(merchant_account=MERCHANT, **days)

    assert ended["state"] == "done"
    assert office.states(paid) == [("reconciled", "approved")]
    asked = office.runs.ask(MERCHANT, DAY, DAY, "key 1")
    (by_id,) = office.reconciler.by_task(run_id=str(asked["id"]))
    assert by_id == {"id": str(asked["id"]), "state": "done"}
    assert office.reconciler.by_task(run_id=str(asked["id"])) == []
    with pytest.raises(InvalidSubmission):
        office.reconciler.by_task(merchant_account=MERCHANT, first_day="soon", last_day="later")


def test_the_clock_has_every_merchant_account_reconciled_over_the_last_days(office: Office) -> None:
    office.charged()

    ended = office.reconciler.by_task()

    assert [run["state"] for run in ended] == ["done"]
    (run, *_) = office.runs.many(MERCHANT, None, 1)
    assert run["started_by"] == "clock"
    assert (run["last_day"] - run["first_day"]).days == 6


def test_a_run_whose_process_died_is_taken_up_by_the_next_message(office: Office) -> None:
    asked = office.runs.ask(MERCHANT, DAY, DAY, "key 1")
    office.runs.begin(asked["id"])

    assert office.reconciler.by_task(run_id=str(asked["id"])) == [{"id": str(asked["id"]), "state": "done"}]


def test_beat_rings_by_the_setting() -> None:
    app = celery_app(Settings(database_url="postgresql+psycopg://x/y", reconcile_cron="30 5 * * 1-5"), NO_BROKER)

    entry = app.conf.beat_schedule["reconciliation"]

    assert (entry["task"], entry["options"]["queue"]) == ("tasks.reconciliation.run", "reconciliation")
    assert entry["schedule"].hour == {5}
    assert entry["schedule"].minute == {30}
    assert entry["schedule"].day_of_week == {1, 2, 3, 4, 5}
