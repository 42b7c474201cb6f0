"""The workflow and its queue. A step that ran is not run again; the wait for the notification survives a restart."""

from datetime import UTC, datetime
from uuid import UUID

from dbos import DBOS, DBOSConfig
from sqlmodel import Session

from bench import plain
from bench.plain import Payment, apply

TOPIC = "result"

QUEUE = "payments"

#: A workflow keeps its place while it waits for the shopper, so it has more of them than a worker has threads.
WORKFLOWS = plain.CONCURRENCY * 4

#: The default of 1 s would add half a second to each payment; oftener than this costs more than it brings.
POLL_EVERY_S = 0.02

CONFIG: DBOSConfig = {
    "name": "bench",
    "system_database_url": plain.DATABASE_URL,
    "sys_db_pool_size": plain.CONNECTIONS,
    "enable_otlp": False,
    "log_level": "WARNING",
    "application_version": "bench",
    "max_executor_threads": WORKFLOWS + 16,
}


@DBOS.step()
def send(payment_id: str) -> None:
    with Session(plain.engine) as session:
        payment = session.get_one(Payment, UUID(payment_id))
        plain.send(payment)
        payment.sent_at = datetime.now(UTC)
        session.add(payment)
        session.commit()


@DBOS.step(retries_allowed=True, max_attempts=10, interval_seconds=plain.ANSWER_WINDOW_S / 10)
def ask(payment_id: str) -> dict[str, object]:
    with Session(plain.engine) as session:
        response = plain.ask_status(session.get_one(Payment, UUID(payment_id)))
    if response is None:
        raise RuntimeError("the terminal has no answer yet")
    return response


@DBOS.step()
def conclude(payment_id: str, response: dict[str, object]) -> None:
    with Session(plain.engine) as session:
        payment = session.get_one(Payment, UUID(payment_id))
        apply(payment, response)
        session.add(payment)
        session.commit()


@DBOS.workflow()
def pay(payment_id: str) -> None:
    send(payment_id)
    response = DBOS.recv(TOPIC, timeout_seconds=plain.ANSWER_WINDOW_S)
    conclude(payment_id, response if response is not None else ask(payment_id))
