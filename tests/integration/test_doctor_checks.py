"""Each check of the doctor's complains when what it looks at is wrong; and the code has no check that none tests.

Those that look at the ways to terminals are made to in ``test_doctor_ways``.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from config.settings import Settings, load_settings
from orchestrator.bootstrap import urls
from orchestrator.cli import doctor
from orchestrator.cli.brokers import Worker
from orchestrator.cli.findings import Finding, Verdict
from orchestrator.store import revisions
from orchestrator.store.health import Server, Work
from tests.integration import test_doctor_ways
from tests.integration.doctor_support import NOWHERE, Patient, patient_on, verdicts_by_check
from tests.services import libpq_url

pytestmark = pytest.mark.integration

WARN, FAIL = Verdict.WARN, Verdict.FAIL
WORK = Work(oldest_due_s=None, terminals=1, held_terminals=0, tag_keys=1)


@pytest.fixture(scope="module")
def opened(postgres_url: str) -> Iterator[Patient]:
    with patient_on(postgres_url) as patient:
        yield patient


@pytest.fixture
def patient(opened: Patient) -> Patient:
    opened.sql("DELETE FROM commands")
    opened.sql("DELETE FROM pulses")
    opened.sql("DELETE FROM webhook_quarantine")
    opened.sql("DELETE FROM webhooks")
    opened.sql("UPDATE alarms SET closed_at = now()")
    opened.sql("INSERT INTO pulses (name, asked_at, at) VALUES ('sweep', NULL, now()), ('payments', now(), now())")
    return opened


def server(**changed: Any) -> Server:
    return Server(**{"version": 180_000, "at": datetime.now(UTC), "revision": revisions.newest(), **changed})


def of_server(**changed: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in doctor._database(server(**changed))}


def of_work(**changed: Any) -> dict[str, Finding]:
    return {finding.check: finding for finding in doctor._work(settings(), replace(WORK, **changed), quick=False)}


def settings() -> Settings:
    return load_settings({"COUNTERFOIL_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"})


# -- settings and servers ----------------------------------------------------------------------------------------------


def servers_that_are_not_named(patient: Patient) -> dict[str, Finding]:
    return patient.examined(DATABASE_URL=None, BROKER_URL=None, DATA_DIR=f"/nowhere/{uuid4()}")


def no_api_key(patient: Patient) -> dict[str, Finding]:
    return patient.examined(API_KEY=None)


def no_login_for_notifications(patient: Patient) -> dict[str, Finding]:
    return patient.examined(NOTIFICATION_USERNAME=None, NOTIFICATION_PASSWORD=None)


def a_time_scale(patient: Patient) -> dict[str, Finding]:
    return patient.examined(TIME_SCALE="50")


def an_old_postgres(_: Patient) -> dict[str, Finding]:
    return of_server(version=140_012)


def a_database_that_is_away(patient: Patient) -> dict[str, Finding]:
    return patient.examined(quick=True, DATABASE_URL="postgresql+psycopg://postgres@127.0.0.1:1/none")


def an_empty_database(_: Patient) -> dict[str, Finding]:
    return of_server(revision=None)


def a_clock_that_is_wrong(_: Patient) -> dict[str, Finding]:
    return of_server(at=datetime.now(UTC) - timedelta(minutes=3))


def a_broker_that_is_away(patient: Patient) -> dict[str, Finding]:
    return patient.examined(quick=True, BROKER_URL=NOWHERE)


# -- the work ----------------------------------------------------------------------------------------------------------


def work_that_is_late(_: Patient) -> dict[str, Finding]:
    return of_work(oldest_due_s=30.0)


def work_that_nobody_does(_: Patient) -> dict[str, Finding]:
    return of_work(oldest_due_s=300.0)


def no_tag_key(_: Patient) -> dict[str, Finding]:
    return of_work(tag_keys=0)


def no_terminals(patient: Patient) -> dict[str, Finding]:
    return patient.examined()


def a_beat_that_died(patient: Patient) -> dict[str, Finding]:
    patient.sql("UPDATE pulses SET at = now() - interval '2 minutes' WHERE name = 'sweep'")
    return patient.examined(quick=True)


def a_beat_that_was_never_started(patient: Patient) -> dict[str, Finding]:
    patient.sql("DELETE FROM pulses")
    return patient.examined(quick=True)


def a_worker_that_is_up_and_takes_nothing(patient: Patient) -> dict[str, Finding]:
    patient.sql("UPDATE pulses SET at = now() - interval '2 minutes', worker = 'w@till' WHERE name = 'payments'")
    return patient.examined(quick=True)


# -- doors -------------------------------------------------------------------------------------------------------------


def no_hmac_key(patient: Patient) -> dict[str, Finding]:
    return patient.examined(HMAC_KEYS=None)


def a_wrong_hmac_key(patient: Patient) -> dict[str, Finding]:
    patient.sql("INSERT INTO webhook_quarantine (digest, size_bytes, header, body) VALUES ('d', 1, 's', 'b')")
    return patient.examined()


def a_webhook_that_nobody_processes(patient: Patient) -> dict[str, Finding]:
    patient.sql(
        "INSERT INTO webhooks (digest, event_code, unreadable, received_at)"
        " VALUES ('d', 'AUTHORISATION', false, now() - interval '1 hour')"
    )
    return patient.examined()


def an_alarm_that_waits(patient: Patient) -> dict[str, Finding]:
    patient.sql("INSERT INTO alarms (name) VALUES ('defect')")
    return patient.examined()


#: What goes wrong, which check sees it, and how bad it calls it.
TROUBLES = [
    (servers_that_are_not_named, "servers", FAIL),
    (no_api_key, "api key", FAIL),
    (no_login_for_notifications, "notifications", WARN),
    (a_time_scale, "time-outs", WARN),
    (an_old_postgres, "database", FAIL),
    (a_database_that_is_away, "database", FAIL),
    (an_empty_database, "schema", FAIL),
    (a_clock_that_is_wrong, "clock", WARN),
    (a_broker_that_is_away, "broker", FAIL),
    (work_that_is_late, "progress", WARN),
    (work_that_nobody_does, "progress", FAIL),
    (no_tag_key, "tag key", FAIL),
    (no_terminals, "terminals", WARN),
    (a_beat_that_died, "beat", FAIL),
    (a_beat_that_was_never_started, "beat", WARN),
    (a_worker_that_is_up_and_takes_nothing, "queues", FAIL),
    (no_hmac_key, "webhooks", WARN),
    (a_wrong_hmac_key, "webhooks", FAIL),
    (a_webhook_that_nobody_processes, "webhooks", WARN),
    (an_alarm_that_waits, "alarms", WARN),
]
#: In functions of their own, below.
WORKERS = {"workers": WARN, "held calls": WARN}
#: Says how many were given, and no more.
TELLS = {"settings"}


@pytest.mark.parametrize(("trouble", "check", "verdict"), TROUBLES, ids=lambda each: getattr(each, "__name__", None))
def test_the_doctor_sees_it_and_says_what_to_do(patient: Patient, trouble: Any, check: str, verdict: Verdict) -> None:
    finding = trouble(patient)[check]

    assert finding.verdict is verdict, finding.text
    assert any(sign in finding.text for sign in (";", "?", ":")), "what to do follows what is wrong"


def test_a_check_that_no_test_makes_fail_is_found_here() -> None:
    can_complain = {check for check, verdicts in verdicts_by_check().items() if verdicts & {WARN, FAIL}}
    made_to = {check for _, check, _ in TROUBLES} | set(WORKERS) | test_doctor_ways.MADE_TO_FAIL
    assert can_complain == made_to
    assert set(verdicts_by_check()) - can_complain == TELLS


def test_every_verdict_that_a_check_can_come_to_is_tested() -> None:
    for check, verdicts in verdicts_by_check().items():
        tested = {verdict for _, seen, verdict in TROUBLES if seen == check}
        if tested:
            assert tested == verdicts - {Verdict.OK}, check


def test_where_nothing_is_wrong_these_checks_are_content(patient: Patient) -> None:
    found = {**patient.examined(), **of_server(), **of_work()}

    for check in {check for _, check, _ in TROUBLES} - {"servers", "time-outs", "broker"}:
        assert found[check].verdict is Verdict.OK, found[check]


def test_a_wrong_key_a_stuck_queue_and_a_dead_beat_are_named_with_the_command_that_mends_them(patient: Patient) -> None:
    assert "counterfoil webhooks replay" in a_wrong_hmac_key(patient)["webhooks"].text
    stuck = a_worker_that_is_up_and_takes_nothing(patient)["queues"].text
    assert "w@till" in stuck
    assert "--queues payments" in stuck
    assert "counterfoil beat" in a_beat_that_died(patient)["beat"].text


def test_a_dead_beat_is_not_also_called_a_stuck_queue(patient: Patient) -> None:
    """No canary is sent without it: every queue would look stuck."""
    patient.sql("UPDATE pulses SET at = now() - interval '1 hour'")
    assert "queues" not in patient.examined(quick=True)


# -- workers -----------------------------------------------------------------------------------------------------------


def workers_found(patient: Patient, running: list[Worker], monkeypatch: pytest.MonkeyPatch) -> dict[str, Finding]:
    monkeypatch.setattr(doctor, "workers", lambda *_: running)
    chosen = load_settings({"COUNTERFOIL_DATABASE_URL": patient.url, "COUNTERFOIL_BROKER_URL": NOWHERE})
    found = doctor._workers(chosen, urls(chosen), replace(WORK, held_terminals=1))
    return {finding.check: finding for finding in found}


def worker(*queues: str) -> Worker:
    return Worker("w@till", frozenset(queues))


@pytest.mark.parametrize(
    ("running", "check", "says"),
    [
        ([], "workers", "start `counterfoil worker`"),
        ([worker("payments", "held")], "workers", "nobody serves status, timers"),
        ([worker("payments", "status", "timers")], "held calls", "nobody serves the queue held"),
        ([worker("payments", "status", "timers", "held")], "held calls", "a worker of their own"),
    ],
)
def test_queues_that_no_worker_serves_are_named(
    patient: Patient, monkeypatch: pytest.MonkeyPatch, running: list[Worker], check: str, says: str
) -> None:
    finding = workers_found(patient, running, monkeypatch)[check]
    assert finding.verdict is WORKERS[check]
    assert says in finding.text


def test_a_broker_without_workers_is_asked_for_them(patient: Patient, redis_broker_url: str) -> None:
    found = patient.examined(BROKER_URL=redis_broker_url)
    assert found["broker"].verdict is Verdict.OK
    assert found["workers"].verdict is WARN
    assert libpq_url(patient.url) not in str(found)
