"""Retention as operators meet it: the command, the nightly task, the setting, and what `journal verify` says after."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.celery import celery_app
from config.settings import Settings, load_settings
from orchestrator.errors import ConfigurationError
from orchestrator.evidence import AbortAsked
from orchestrator.store.retention import RetentionStore
from tests.integration.cli_support import ROOT, Desk
from tests.integration.store_support import Shop, shop_in

pytestmark = [pytest.mark.integration, pytest.mark.slow]

NO_BROKER = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def desk(shop: Shop, tmp_path: Path) -> Desk:
    """A command line that knows the shop's database, and keeps payloads for 30 days."""
    environment = {
        "COUNTERFOIL_DATABASE_URL": shop.url,
        "COUNTERFOIL_BROKER_URL": NO_BROKER,
        "COUNTERFOIL_RETENTION_DAYS": "30",
        "HOME": str(tmp_path),
    }
    return Desk(environment, None)  # type: ignore[arg-type]  # nothing runs beside it


def strays(shop: Shop, count: int) -> None:
    """Messages that could not be placed, 31 days ago."""
    for _ in range(count):
        shop.sql(
            "INSERT INTO strays (digest, why, last_at) VALUES (%s, 'x', now() - interval '31 days')",
            secrets.token_hex(32),
        )


def test_a_dry_run_says_what_would_go_and_a_run_lets_it_go(shop: Shop, desk: Desk) -> None:
    strays(shop, 2)

    assert "2 strays would go" in desk.told("retention", "run", "--dry-run")
    would = desk.json("retention", "run", "--dry-run")
    done = desk.json("retention", "run")

    assert (would["dry_run"], would["expunged"]["strays"]) == (True, 2)
    assert (done["dry_run"], done["expunged"], done["broken"]) == (False, would["expunged"], [])
    assert shop.sql("SELECT 1 FROM strays") == []


def test_the_task_does_the_same(shop: Shop, desk: Desk) -> None:
    strays(shop, 1)
    call = "from tasks import app; app.loader.import_default_modules(); app.tasks['tasks.retention.run']()"

    done = subprocess.run(
        [sys.executable, "-c", call], env={**desk.environment, "PATH": "/usr/bin:/bin"}, cwd=ROOT, check=True,
        capture_output=True, text=True,
    )  # fmt: skip

    assert "strays=1" in done.stdout + done.stderr
    (row,) = shop.sql("SELECT * FROM retention_runs ORDER BY id DESC LIMIT 1")
    assert (row["started_by"], row["expunged"]["strays"]) == ("beat", 1)


def test_without_the_setting_it_says_so_and_keeps_everything(shop: Shop, desk: Desk) -> None:
    strays(shop, 1)
    del desk.environment["COUNTERFOIL_RETENTION_DAYS"]

    told = desk.told("retention", "run")

    assert "COUNTERFOIL_RETENTION_DAYS is not set" in told
    assert len(shop.sql("SELECT 1 FROM strays")) == 1


def test_verifying_says_which_lines_are_known_by_their_hash_alone(shop: Shop, desk: Desk) -> None:
    payment = shop.pay(shop.terminal())
    shop.recorder.record(payment, AbortAsked(asked_by="till"))
    whole = {"verified": 1, "broken": {}, "expunged": 0, "expunged_lines": {}}
    assert desk.json("journal", "verify", "--payment", str(payment)) == whole

    RetentionStore(shop.database).run(-1, "test")

    expunged = {"expunged": 2, "expunged_lines": {str(payment): [1, 2]}}
    assert desk.json("journal", "verify", "--payment", str(payment)) == whole | expunged
    assert f"{payment}: lines 1, 2" in desk.told("journal", "verify", "--payment", str(payment))
    assert "expunged what 2 lines rest on" in desk.told("journal", "verify", "--all")
    assert desk.json("journal", "verify", "--all")["expunged_lines"] is None


def test_a_broken_journal_is_named_and_ends_with_30(shop: Shop, desk: Desk) -> None:
    payment = shop.pay(shop.terminal())
    shop.recorder.record(payment, AbortAsked(asked_by="till"))
    shop.sql("UPDATE journal_details SET detail = '{}' WHERE payment_id = %s", payment)
    shop.sql("UPDATE payments SET concluded_at = now() - interval '31 days' WHERE id = %s", payment)
    # Its id says that it was accepted today; nothing younger than a day more than the setting is looked at.
    older = f"{'0' * 8}-0000-7000-8000-{secrets.token_hex(6)}"
    for statement in (
        "ALTER TABLE journal DISABLE TRIGGER ALL; ALTER TABLE payments DISABLE TRIGGER ALL",
        f"UPDATE journal_details SET payment_id = '{older}' WHERE payment_id = '{payment}'",
        f"UPDATE journal SET payment_id = '{older}' WHERE payment_id = '{payment}'",
        f"UPDATE payments SET id = '{older}' WHERE id = '{payment}'",
        "ALTER TABLE journal ENABLE TRIGGER ALL; ALTER TABLE payments ENABLE TRIGGER ALL",
    ):
        shop.sql(statement)

    done = desk.run("retention", "run")

    assert done.returncode == 30
    assert f"{older}: its journal is broken" in done.stdout
    assert desk.run("retention", "run", "--json").returncode == 30


@pytest.mark.parametrize("days", ["29", "0", "-1", "36501", "a year"])
def test_a_setting_that_would_hurt_is_refused(days: str) -> None:
    with pytest.raises(ConfigurationError, match="COUNTERFOIL_RETENTION_DAYS"):
        load_settings({"COUNTERFOIL_RETENTION_DAYS": days})


def test_beat_rings_each_night() -> None:
    entry = celery_app(Settings(database_url="postgresql+psycopg://x/y"), NO_BROKER).conf.beat_schedule["retention"]

    assert (entry["task"], entry["options"]["queue"]) == ("tasks.retention.run", "reconciliation")
    assert len(entry["schedule"].hour) == 1
    assert len(entry["schedule"].day_of_week) == 7
