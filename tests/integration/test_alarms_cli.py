"""Alarms at the command line: what waits for a person, and that one saw to it."""

import json
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from config.settings import settings
from orchestrator.cli import alarms as command
from orchestrator.meaning import Alarm
from orchestrator.store.alarms import AlarmStore
from tests.integration.store_support import Shop, shop_in

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def store(shop: Shop) -> AlarmStore:
    shop.sql("UPDATE alarms SET closed_at = now()")
    return AlarmStore(shop.database)


def test_an_open_alarm_is_listed_with_what_it_is_about(shop: Shop, store: AlarmStore) -> None:
    payment = shop.pay(shop.terminal(), reference="SALE-1")
    shop.store.raise_alarm(shop.command(payment), Alarm.COMMAND_FAILS)
    shop.sql("INSERT INTO alarms (name) VALUES ('webhook_signature')")

    newest, older = store.many(None, closed_too=False, limit=10)

    assert (newest["name"], newest["payment_id"]) == ("webhook_signature", None)
    assert (older["name"], older["payment_id"], older["reference"]) == ("command_fails", payment, "SALE-1")
    assert [row["name"] for row in store.many("command_fails", closed_too=False, limit=10)] == ["command_fails"]


def test_one_that_was_seen_to_is_closed_once_by_name_and_with_a_reason(shop: Shop, store: AlarmStore) -> None:
    [row] = shop.sql("INSERT INTO alarms (name) VALUES ('defect') RETURNING id")

    assert store.close([row["id"]], "Ann", "a bad release; rolled back") == [row["id"]]
    assert store.close([row["id"]], "Ben", None) == []

    assert store.many("defect", closed_too=False, limit=10) == []
    [closed] = [each for each in store.many("defect", closed_too=True, limit=10) if each["id"] == row["id"]]
    assert (closed["closed_by"], closed["closed_reason"]) == ("Ann", "a bad release; rolled back")


def test_the_command_lists_and_closes(shop: Shop, store: AlarmStore, monkeypatch: pytest.MonkeyPatch) -> None:
    [row] = shop.sql("INSERT INTO alarms (name) VALUES ('defect') RETURNING id")
    monkeypatch.setenv("COUNTERFOIL_DATABASE_URL", shop.url)
    monkeypatch.setenv("COUNTERFOIL_BROKER_URL", "redis://127.0.0.1:1/0")
    settings.cache_clear()
    run = CliRunner().invoke
    try:
        listed = json.loads(run(command.alarms, ["list", "--json"]).stdout)
        closed = run(command.alarms, ["close", str(row["id"]), "--as", "Ann", "--reason", "seen to"])
        again = run(
            command.alarms, ["close", str(row["id"]), "--as", "Ann", "--reason", "once more"], standalone_mode=False
        )
    finally:
        settings.cache_clear()

    assert [each["id"] for each in listed] == [row["id"]]
    assert closed.stdout.strip().endswith("1 closed by Ann")
    assert again.return_value == 1
