"""Scrapes of the product, and what the rules make of them."""

import asyncio
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from config.celery import QUEUES
from config.settings import load_settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.store import schema
from orchestrator.store.pulses import PulseStore
from orchestrator.web.app import web_app
from tests.integration.store_support import MERCHANT, Shop
from tests.services import fresh_database

RULES: Final = Path(__file__).parents[2] / "config" / "prometheus" / "alerts.yml"
HMAC_KEY: Final = "5A" * 32
#: Counting waits for whoever writes: nobody does for long.
_COUNTED_WITHIN_S: Final = 30.0
_DATABASE_GONE: Final = 503

#: A minute between samples; the healthy scrape for twenty minutes, then what came of it for forty.
_HEALTHY_MINUTES: Final = 20
_AFTER_MINUTES: Final = 40

_HEALED: Final = (
    "UPDATE pulses SET at = now()",
    "UPDATE payments SET created_at = now()",
    """UPDATE payments SET state = 'confirmed', outcome = 'declined', reason = NULL, concluded_at = now(),
    holds_terminal = NULL WHERE outcome IS NULL""",
    "DELETE FROM commands",
    "DELETE FROM tellings",
    "DELETE FROM differences",
    "DELETE FROM webhook_quarantine",
    "UPDATE webhooks SET became = 'noted', processed_at = now() WHERE became IS NULL",
    "UPDATE alarms SET closed_at = now()",
    "UPDATE terminals SET trouble = NULL",
    "UPDATE reconciliation_runs SET state = 'done', finished_at = now()",
)

Series = dict[str, float]


class Scraped(Shop):
    """A shop whose metrics are read through its API."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        given = {"DATABASE_URL": url, "BROKER_URL": "redis://127.0.0.1:1", "HMAC_KEYS": HMAC_KEY}
        chosen = load_settings({f"COUNTERFOIL_{name}": value for name, value in given.items()})
        self.counterfoil = Counterfoil(chosen)
        self.app = web_app(self.counterfoil)

    def close(self) -> None:
        self.counterfoil.close()
        super().close()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask the API, without a socket in between; done when what it does behind its answer is."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://api:8000") as client:
                return await client.request(method, path, **options)

        return asyncio.run(asked())

    def scrape(self) -> Series:
        """What is told once all has been counted. None at all when the API does not answer for its database."""
        until_s = time.monotonic() + _COUNTED_WITHIN_S
        while True:
            if self.ask("GET", "/metrics").status_code == _DATABASE_GONE:  # it counts behind its answer
                return {}
            answer = self.ask("GET", "/metrics")
            found = series(answer.text)
            steps = self.sql("SELECT count(*) AS n FROM tally_steps")[0]["n"]
            if not steps and not any(value for name, value in found.items() if "uncounted_rows" in name):
                return found
            assert time.monotonic() < until_s, "it was not counted in time"

    def heal(self) -> None:
        """Let all be well again, whatever happened; what was counted stays."""
        pulses = PulseStore(self.database)
        pulses.tick(QUEUES)
        for queue in QUEUES:
            pulses.answer(queue, "a worker")
        for statement in _HEALED:
            self.sql(statement)


def make_well(url: str) -> None:
    """What a day leaves behind on which all was well: a payment, and a reconciliation."""
    schema.upgrade(url)
    shop = Shop(url)
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    shop.approve(payment)
    shop.sql(
        "INSERT INTO reconciliation_runs (id, merchant_account, first_day, last_day, started_by, state, finished_at)"
        " VALUES (gen_random_uuid(), %s, current_date - 1, current_date - 1, 'beat', 'done', now())",
        MERCHANT,
    )
    shop.sql("DELETE FROM commands")
    shop.close()


@contextmanager
def scraped(server_url: str) -> Iterator[Scraped]:
    """A shop on which all was well for a day."""
    with fresh_database(server_url) as url:
        make_well(url)
        shop = Scraped(url)
        try:
            yield shop
        finally:
            shop.close()


def series(text: str) -> Series:
    """The samples of a scrape, as Prometheus would store them."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {**sample.labels, "instance": "api:8000", "job": "counterfoil"}
            spelled = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
            found[f"{sample.name}{{{spelled}}}"] = sample.value
    return found


def fired(promtool: str, folder: Path, before: Series, after: Series) -> set[str]:
    """Which alerts fire within an hour of which the first third was as ``before``, and the rest as ``after``."""
    at_s = datetime.now(UTC).timestamp()
    ups = {'up{instance="api:8000", job="counterfoil"}': (1.0, 1.0 if after else 0.0)}
    asked = set(re.findall(r"counterfoil_\w+", RULES.read_text()))
    told = {name: (before.get(name), after.get(name)) for name in before | after if name.partition("{")[0] in asked}
    rows = [
        {"series": name, "values": _values(name, first, _HEALTHY_MINUTES, at_s) + " " + _values(name, then, 40, at_s)}
        for name, (first, then) in (told | ups).items()
    ]
    firing = 'count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1h]))'
    expectation: Mapping[str, Any] = {"expr": firing, "eval_time": "59m", "exp_samples": []}
    test = {"interval": "1m", "input_series": rows, "promql_expr_test": [expectation]}
    file = folder / "rules_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    ran = subprocess.run(
        [promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    found = set(re.findall(r'alertname="(\w+)"', ran.stdout + ran.stderr))
    assert found or "SUCCESS" in ran.stdout, ran.stdout + ran.stderr
    return found


def _values(name: str, value: float | None, minutes: int, at_s: float) -> str:
    """A value for so many minutes, in promtool's notation; its clock begins at 0, so that instants are moved there."""
    if value is None:
        return f"_x{minutes}"
    if "_timestamp_seconds{" in name:
        value = (_HEALTHY_MINUTES + _AFTER_MINUTES) * 60 - (at_s - value)
    return f"{value}+0x{minutes - 1}"
