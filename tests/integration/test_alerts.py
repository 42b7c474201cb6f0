"""Each alert fires when what it is about has happened, and on an installation that is well none does.

The condition is made in a real database, ``/metrics`` is read through the API before and after, and promtool evaluates
the rules over what was read.
"""

import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import yaml

from orchestrator.evidence import AnswerWindowPassed, NotDelivered
from orchestrator.meaning import Alarm
from orchestrator.metrics import collector
from tests.factories import failed
from tests.integration.metrics_support import RULES, Scraped, fired, scraped
from tests.integration.store_support import MERCHANT
from tests.integration.webhook_support import FOREIGN_KEY, body, signed, webhook
from tests.services import Embedded, in_ci, libpq_url

pytestmark = pytest.mark.integration

NAMES = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None and in_ci():
        pytest.fail("no promtool; it is in Debian's package prometheus", pytrace=False)
    if found is None:
        pytest.skip("no promtool, so no rule is evaluated; it is in Debian's package prometheus")
    return found


@pytest.fixture(scope="module")
def opened(postgres_url: str) -> Iterator[Scraped]:
    with scraped(postgres_url) as shop:
        yield shop


@pytest.fixture
def shop(opened: Scraped, monkeypatch: pytest.MonkeyPatch) -> Scraped:
    """One in which all is well."""
    monkeypatch.setattr(collector, "FRESH_FOR_S", 0.0)
    opened.heal()
    return opened


def unknown(shop: Scraped) -> UUID:
    """A payment whose answer window passed; its status checks wait."""
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    shop.recorder.record(payment, AnswerWindowPassed())
    shop.sql("UPDATE commands SET due_at = now() + interval '1 day', ring_at = due_at WHERE payment_id = %s", payment)
    return payment


def alarm(shop: Scraped, name: Alarm) -> None:
    shop.sql("INSERT INTO alarms (name) VALUES (%s)", name.value)


# -- what happened, by the alert that tells of it ----------------------------------------------------------------------


def a_terminal_that_never_answers(shop: Scraped) -> None:
    shop.sql("UPDATE payments SET created_at = now() - interval '11 minutes' WHERE id = %s", unknown(shop))


def notifications_that_do_not_come(shop: Scraped) -> None:
    for _ in range(6):
        unknown(shop)


def a_terminal_that_says_both(shop: Scraped) -> None:
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    shop.approve(payment)
    shop.recorder.record(payment, failed("Refusal", digest=secrets.token_hex(32)))
    assert shop.row(payment)["reason"] == "contradiction"


def an_approval_after_all(shop: Scraped) -> None:
    payment = shop.pay(shop.terminal())
    shop.send(payment)
    shop.recorder.record(payment, NotDelivered(why="connect-refused"))
    shop.approve(payment)
    assert shop.row(payment)["late"]


def two_days_of_checks_in_vain(shop: Scraped) -> None:
    unknown(shop)
    alarm(shop, Alarm.CHECKS_EXHAUSTED)


def nobody_works(shop: Scraped) -> None:
    shop.pay(shop.terminal())
    shop.sql("UPDATE commands SET due_at = now() - interval '90 seconds', ring_at = due_at")


def beat_died(shop: Scraped) -> None:
    shop.sql("UPDATE pulses SET at = now() - interval '2 minutes' WHERE name = 'sweep'")


def beat_was_never_started(shop: Scraped) -> None:
    shop.sql("DELETE FROM pulses")


def a_worker_that_takes_nothing(shop: Scraped) -> None:
    shop.sql("UPDATE pulses SET at = now() - interval '2 minutes' WHERE name = 'payments'")


def reports_that_stopped_coming(shop: Scraped) -> None:
    shop.sql("UPDATE reconciliation_runs SET finished_at = now() - interval '30 hours'")


def books_that_nobody_ever_read(shop: Scraped) -> None:
    shop.sql("UPDATE reconciliation_runs SET state = 'failed'")
    shop.sql("UPDATE payments SET created_at = now() - interval '30 hours'")


def a_line_that_is_not_ours(shop: Scraped) -> None:
    shop.sql(
        "INSERT INTO differences (identity, facts, merchant_account, kind, source)"
        " VALUES (repeat('a', 64), repeat('b', 64), %s, 'orphan', 'report')",
        MERCHANT,
    )


def a_receiver_that_takes_nothing(shop: Scraped) -> None:
    shop.sql(
        "INSERT INTO tellings (merchant_account, type, at, url, data, parked_at)"
        " VALUES (%s, 'payment.rejected', now(), 'https://till.example/told', '{}', now())",
        MERCHANT,
    )
    alarm(shop, Alarm.CALLBACK_PARKED)


def a_wrong_hmac_key(shop: Scraped) -> None:
    for _ in range(5):
        refused = shop.ask("POST", "/webhooks/standard", content=body(signed(webhook(), FOREIGN_KEY)))
        assert refused.status_code == 401


def a_webhook_that_nobody_processed(shop: Scraped) -> None:
    shop.sql("INSERT INTO webhooks (digest, event_code, unreadable) VALUES ('d', 'AUTHORISATION', false)")


def a_terminal_with_a_paper_jam(shop: Scraped) -> None:
    poi_id = shop.terminal()
    shop.sql("UPDATE terminals SET trouble = 'out_of_order', trouble_at = now() WHERE poi_id = %s", poi_id)
    alarm(shop, Alarm.TERMINAL_OUT_OF_ORDER)


def a_command_that_fails_again_and_again(shop: Scraped) -> None:
    command = shop.command(shop.pay(shop.terminal()))
    shop.store.raise_alarm(command, Alarm.COMMAND_FAILS)
    shop.sql("DELETE FROM commands")


Happening = Callable[[Scraped], None]

#: What happens, which alert tells of it, and which others rightly do as well.
HAPPENINGS: list[tuple[Happening, str, set[str]]] = [
    (a_terminal_that_never_answers, "CounterfoilUnknown", set()),
    (notifications_that_do_not_come, "CounterfoilManyUnknown", set()),
    (a_terminal_that_says_both, "CounterfoilConflictingEvidence", set()),
    (an_approval_after_all, "CounterfoilMoneyAtRisk", set()),
    (two_days_of_checks_in_vain, "CounterfoilChecksExhausted", set()),
    (nobody_works, "CounterfoilWorkLate", set()),
    (beat_died, "CounterfoilBeatSilent", set()),
    (beat_was_never_started, "CounterfoilBeatSilent", set()),
    (a_worker_that_takes_nothing, "CounterfoilQueueStuck", set()),
    (reports_that_stopped_coming, "CounterfoilReconciliationMissing", set()),
    (books_that_nobody_ever_read, "CounterfoilReconciliationMissing", set()),
    (a_line_that_is_not_ours, "CounterfoilDifferencesOpen", set()),
    (a_receiver_that_takes_nothing, "CounterfoilCallbacksParked", set()),
    (a_wrong_hmac_key, "CounterfoilMessagesRefused", {"CounterfoilAlarmsOpen"}),
    (a_webhook_that_nobody_processed, "CounterfoilWebhooksUnprocessed", set()),
    (a_terminal_with_a_paper_jam, "CounterfoilTerminalInTrouble", set()),
    (a_command_that_fails_again_and_again, "CounterfoilAlarmsOpen", set()),
]
#: Those that take another server, below.
CROWDED, DOWN = "CounterfoilDatabaseConnections", "CounterfoilTargetDown"


def test_every_alert_has_a_test_that_makes_it_fire() -> None:
    assert {alert for _, alert, _ in HAPPENINGS} | {CROWDED, DOWN} == set(NAMES)


@pytest.mark.parametrize(("happens", "alert", "others"), HAPPENINGS, ids=lambda each: getattr(each, "__name__", None))
def test_an_alert_fires_when_it_happened(
    shop: Scraped, promtool: str, tmp_path: Path, happens: Happening, alert: str, others: set[str]
) -> None:
    before = shop.scrape()

    happens(shop)

    assert fired(promtool, tmp_path, before, shop.scrape()) == {alert} | others


def test_no_alert_fires_where_all_is_well(shop: Scraped, promtool: str, tmp_path: Path) -> None:
    well = shop.scrape()

    assert fired(promtool, tmp_path, well, well) == set()


def test_an_alert_fires_when_the_api_does_not_answer_for_its_database(
    shop: Scraped, promtool: str, tmp_path: Path
) -> None:
    before = shop.scrape()
    away = Scraped("postgresql+psycopg://postgres@127.0.0.1:1/none")

    after = away.scrape()

    away.close()
    assert fired(promtool, tmp_path, before, after) == {DOWN}


def test_an_alert_fires_when_the_database_server_takes_hardly_any_more_connections(
    embedded: Embedded, promtool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "FRESH_FOR_S", 0.0)
    with scraped(embedded.servers().database_url) as shop, ExitStack() as held:
        shop.heal()
        before = shop.scrape()
        limit = shop.sql("SELECT current_setting('max_connections')::int AS n")[0]["n"]
        for _ in range(int(limit * 0.87)):
            held.enter_context(psycopg.connect(libpq_url(shop.url), autocommit=True))

        assert fired(promtool, tmp_path, before, shop.scrape()) == {CROWDED}


def test_the_conditions_are_no_fiction_of_the_evaluator(shop: Scraped, promtool: str, tmp_path: Path) -> None:
    """What is read is what is evaluated: take the one sample away that changed, and nothing fires."""
    before = shop.scrape()
    a_receiver_that_takes_nothing(shop)
    after = {name: value for name, value in shop.scrape().items() if "callbacks_parked" not in name}

    assert fired(promtool, tmp_path, before, after) == set()
    assert json.dumps(before) != json.dumps(after)
