"""The health page on a real database: what is due, what came in, and what an unreachable broker looks like."""

from collections.abc import Iterator

import pytest

from orchestrator.store.pulses import PulseStore
from orchestrator.store.vitals import VitalStore
from tests.integration.console_support import Visitor, text_of, visitor
from tests.integration.http_support import Api, served

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


@pytest.fixture(scope="module")
def anna(api: Api) -> Visitor:
    return visitor(api)


def test_a_broker_that_does_not_answer_is_said_first_with_the_runbooks_words(anna: Visitor) -> None:
    text = text_of(anna.get("/console/health"))
    assert "The broker does not answer." in text
    assert "What the runbook says" in text
    assert "docs/runbook.md#CounterfoilWorkLate" in text


def test_a_sweep_that_never_ran_is_missed_and_one_that_runs_is_not(api: Api, anna: Visitor) -> None:
    assert "The sweep has never run here." in text_of(anna.get("/console/health"))
    PulseStore(api.database).tick(["payments", "timers"])
    PulseStore(api.database).answer("payments", "worker-7")
    text = text_of(anna.get("/console/health"))
    assert "The sweep runs." in text
    assert "payments" in text


def test_what_is_due_is_counted_by_kind_with_the_age_of_the_oldest(api: Api, anna: Visitor) -> None:
    made = api.accepted()
    api.rows.execute(
        "UPDATE commands SET due_at = now() - interval '300 s', ring_at = now() - interval '300 s' "
        "WHERE payment_id = %s AND kind = 'send'",
        [made["id"]],
    )
    send = next(each for each in VitalStore(api.database).commands() if each.kind == "send")
    assert send.due == 1
    assert send.oldest_due_s == pytest.approx(300, abs=5)
    assert "The oldest due command waits for 5 min." in text_of(anna.get("/console/health"))
    api.rows.execute("UPDATE commands SET ring_at = now() + interval '1 min' WHERE payment_id = %s", [made["id"]])
    assert "What is due is done within seconds." in text_of(anna.get("/console/health"))


def test_the_last_word_of_a_terminal_and_the_last_webhook_are_known(api: Api) -> None:
    store = VitalStore(api.database)
    before = store.read()
    assert before.webhook_at is None
    made = api.accepted()
    assert store.read().notified_at == before.notified_at
    api.rows.execute("UPDATE payments SET sent_at = now(), answer_by = now() WHERE id = %s", [made["id"]])
    api.concluded(made)
    after = store.read()
    assert after.notified_at is not None
    assert (after.at - after.notified_at).total_seconds() < 30


def test_the_figures_are_read_by_indexes_from_tables_that_grow(api: Api) -> None:
    from orchestrator.store import vitals

    growing = "payments", "journal", "journal_details", "webhooks", "tellings", "commands", "terminal_events"
    for statement in (vitals._VITALS, vitals._COMMANDS):
        plan = "\n".join(row["QUERY PLAN"] for row in api.database.all(f"EXPLAIN {statement}", {}))
        assert not [name for name in growing if f"Seq Scan on {name} " in plan], plan


def test_the_page_asks_anew_for_itself_alone(anna: Visitor) -> None:
    page = anna.get("/console/health").text
    assert 'hx-get="/console/health" hx-trigger="every 5s" hx-select="#health"' in page
    assert 'id="health"' in anna.get("/console/health", **{"hx-request": "true"}).text
