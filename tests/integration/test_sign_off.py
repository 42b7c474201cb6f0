"""A run is signed off once, by name, when nothing is open or a note says why: over HTTP, by command, and in the row."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jsonschema
import psycopg
import pytest

from orchestrator.errors import AlreadySigned, DifferencesOpen, NotFound, RunNotDone
from orchestrator.ids import new_id
from orchestrator.keys import make_key
from orchestrator.reconciliation.sign_off import sign_off
from orchestrator.store.differences import DifferenceFilter
from orchestrator.store.keys import KeyStore
from orchestrator.store.words import DifferenceState, RunState
from tests.integration.books_support import DAY, Office, line
from tests.integration.http_support import Api, assert_problem, serving
from tests.integration.store_support import Shop, all_at_once, shop_in

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with serving(shop.url, tmp_path_factory.mktemp("logs")) as api:
        yield api


@pytest.fixture
def office(shop: Shop, tmp_path: Path) -> Office:
    """A merchant account of the test's own."""
    return Office(shop, tmp_path, f"Merchant{uuid4().hex[:12]}")


def agreeing(office: Office) -> UUID:
    """A run that found nothing."""
    office.accounting([line(office.charged())])
    run: UUID = office.run()["id"]
    return run


def differing(office: Office) -> tuple[UUID, UUID]:
    """A run that found one difference, and that."""
    office.accounting([line(office.charged(), minor=1)])
    run = office.run()
    (difference,) = office.differences.every(DifferenceFilter(run_id=run["id"]))
    return run["id"], difference["id"]


def key(shop: Shop, role: str, merchant: str) -> str:
    secret, digest = make_key()
    KeyStore(shop.database).create(new_id(), digest, merchant, role, "test")
    return secret


def test_a_run_without_open_differences_is_signed_by_name_and_once(office: Office) -> None:
    run = agreeing(office)

    signed = sign_off(office.runs, run, office.merchant, by="Ann", note=None)

    assert (signed["signed_by"], signed["sign_note"], signed["signed_open"], signed["signed_own"]) == (
        "Ann",
        None,
        0,
        0,
    )
    with pytest.raises(AlreadySigned):
        sign_off(office.runs, run, office.merchant, by="Bob", note="again")
    assert (office.runs.one(run, None) or {})["signed_by"] == "Ann"


def test_open_differences_are_signed_over_only_with_a_reason(office: Office) -> None:
    run, _ = differing(office)

    with pytest.raises(DifferencesOpen):
        sign_off(office.runs, run, office.merchant, by="Ann", note=None)
    signed = sign_off(office.runs, run, office.merchant, by="Ann", note="booked on Monday, card 4111 1111 1111 1111")

    assert signed["signed_open"] == 1
    assert "4111 1111" not in signed["sign_note"]


def test_whoever_settled_a_difference_may_sign_and_that_is_kept(office: Office) -> None:
    run, difference = differing(office)
    office.differences.change(difference, DifferenceState.CLOSED, by="Ann", note="a tip")

    signed = sign_off(office.runs, run, office.merchant, by="Ann", note=None)

    assert (signed["signed_open"], signed["signed_own"]) == (0, 1)


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.DONE])
def test_a_run_that_is_not_done_is_never_signed(office: Office, state: RunState) -> None:
    run = office.runs.ask(office.merchant, DAY, DAY, "Ann")["id"]
    office.shop.sql("UPDATE reconciliation_runs SET state = %s WHERE id = %s", state.value, run)

    with pytest.raises(RunNotDone):
        sign_off(office.runs, run, office.merchant, by="Ann", note="all the same")


def test_another_merchants_run_is_not_there_to_be_signed(office: Office) -> None:
    run = agreeing(office)

    with pytest.raises(NotFound):
        sign_off(office.runs, run, "Another", by="Ann", note=None)
    assert (office.runs.one(run, None) or {})["signed_at"] is None


def test_of_two_who_sign_at_once_one_does(office: Office) -> None:
    run = agreeing(office)

    def by(name: str) -> Any:
        return lambda: office.runs.sign_off(run, office.merchant, by=name, note=None)

    assert sum(row is not None for row in all_at_once(by("Ann"), by("Bob"))) == 1


@pytest.mark.parametrize(
    "change",
    [
        "signed_at = now()",
        "signed_at = now(), signed_by = 'Ann', signed_open = 1, signed_own = 0",
        "signed_at = now(), signed_by = 'Ann', signed_open = 0, signed_own = 0, state = 'failed'",
    ],
)
def test_the_schema_refuses_half_a_sign_off(office: Office, change: str) -> None:
    run = agreeing(office)

    with pytest.raises(psycopg.errors.CheckViolation):
        office.shop.sql(f"UPDATE reconciliation_runs SET {change} WHERE id = %s", run)


def test_http_signs_for_finance_alone_and_shows_who_did(api: Api, office: Office) -> None:
    run, difference = differing(office)
    path = f"/v1/reconciliations/{run}/sign-off"
    finance = key(office.shop, "finance", office.merchant)

    for role in ("viewer", "submit", "operate"):
        assert_problem(api.send("POST", path, {}, key(office.shop, role, office.merchant)), 403, "forbidden")
    assert_problem(api.send("POST", path, {}, key(office.shop, "admin", "Another")), 404, "not-found")
    assert_problem(api.send("POST", path, {}, finance), 409, "differences-open", "note")
    assert_problem(api.send("POST", path, {"note": "x"}, finance), 422, "invalid-field", "note")
    assert_problem(api.send("POST", path, {"because": "x"}, finance), 422, "invalid-field", "because")
    api.send("POST", f"/v1/differences/{difference}/close", {"note": "a tip"}, finance)
    answer = api.send("POST", path, None, finance)

    assert answer.status_code == 200, answer.text
    shown = answer.json()["sign_off"]
    assert (shown["by"].partition(" ")[0], shown["note"], shown["open_differences"]) == ("key", None, 0)
    assert shown["own_differences"] == 1
    assert_problem(api.send("POST", path, {}, finance), 409, "already-signed")
    description = api.http.get("/openapi.json").json()
    whole = {**description, "$ref": "#/components/schemas/Reconciliation"}
    jsonschema.Draft202012Validator(whole).validate(api.get(f"/v1/reconciliations/{run}", finance).json())
    assert f"{path.partition(str(run))[0]}{{run_id}}/sign-off" in description["paths"]


def counterfoil(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERFOIL_", "ADYEN_"))}
    environment = kept | {"COUNTERFOIL_DATABASE_URL": shop.url, "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0"}
    command = [sys.executable, "-m", "orchestrator.cli", "reconcile", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_signs_by_name_and_says_why_it_does_not(office: Office) -> None:
    run, _ = differing(office)

    refused = counterfoil(office.shop, "sign-off", str(run), "--as", "Ann")
    done = counterfoil(office.shop, "sign-off", str(run), "--as", "Ann", "--note", "booked on Monday", "--json")
    missing = counterfoil(office.shop, "sign-off", str(uuid4()), "--as", "Ann")

    assert (refused.returncode, done.returncode, missing.returncode) == (1, 0, 1)
    assert "open differences" in refused.stderr
    assert "there is no run" in missing.stderr
    assert json.loads(done.stdout)["sign_off"]["note"] == "booked on Monday"
    assert "signed off by Ann" in counterfoil(office.shop, "show", str(run)).stdout
