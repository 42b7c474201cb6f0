"""``counterfoil webhooks``: what came, what nobody could believe, and having it again once the key is right."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.store import schema
from tests.integration.cli_support import Desk
from tests.integration.http_support import Api
from tests.integration.webhook_support import (
    FOREIGN_KEY,
    believed,
    body,
    book,
    kept,
    paid,
    post,
    signed,
    signing,
    webhook,
    with_keys,
)
from tests.services import fresh_database

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with fresh_database(postgres_url) as database_url:
        schema.upgrade(database_url)
        with with_keys(database_url, tmp_path_factory.mktemp("logs")) as api:
            yield api


@pytest.fixture
def desk(api: Api, tmp_path: Path) -> Desk:
    """A command line that knows the database of the server."""
    environment = {
        "COUNTERFOIL_DATABASE_URL": api.database_url,
        "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0",
        "HOME": str(tmp_path),
        **signing(),
    }
    return Desk(environment, None)  # type: ignore[arg-type]  # nothing runs beside it


def test_webhooks_are_listed_with_what_became_of_them(api: Api, desk: Desk) -> None:
    payment = paid(api)
    item = webhook(payment, pspReference=payment["psp_reference"])
    book(api, item, webhook())

    shown = {row["event_code"] + row["became"]: row for row in desk.json("webhooks", "list")}

    found = shown["AUTHORISATIONrecorded"]
    assert (found["payment_id"], found["amount"]) == (payment["id"], payment["amount"])
    assert [row["became"] for row in desk.json("webhooks", "list", "--became", "ignored")] == ["ignored"]
    assert desk.json("webhooks", "list", "--merchant", "NobodyKnows") == []
    assert desk.json("webhooks", "list", "--unprocessed") == []
    assert payment["reference"] in desk.told("webhooks", "list")


def test_the_quarantine_is_shown_without_its_bodies_and_replayed_once_the_key_is_known(api: Api, desk: Desk) -> None:
    payment = paid(api)
    post(api, body(signed(webhook(payment, pspReference=payment["psp_reference"]), FOREIGN_KEY)))

    (held,) = desk.json("webhooks", "quarantine")
    assert (held["times"], held["replayable"]) == (1, True)
    assert "body" not in held
    assert payment["reference"] not in desk.told("webhooks", "quarantine")
    assert desk.told("webhooks", "replay").startswith("0 of 1 bodies")
    desk.environment |= signing(old=FOREIGN_KEY)

    assert desk.told("webhooks", "replay").startswith("1 of 1 bodies")

    assert believed(api, payment)[0] == "reconciled"
    assert desk.told("webhooks", "quarantine").startswith("The quarantine is empty")


def test_one_webhook_is_processed_again_by_its_number(api: Api, desk: Desk) -> None:
    item = webhook()
    book(api, item)
    number = kept(api, item)["number"]

    assert desk.told("webhooks", "replay", str(number)) == f"webhook {number} was processed\n"

    refused = desk.run("webhooks", "replay", "999999")
    assert refused.returncode == 1
    assert "webhooks list" in refused.stderr
