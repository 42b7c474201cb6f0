"""The tasks: ``celery -A bench.naive.tasks worker``. Settings are those of the product wherever both have one."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from celery import Celery
from sqlmodel import Session

from bench import plain
from bench.plain import Payment, apply

app = Celery("naive", broker=plain.BROKER_URL)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_pool="threads",
    worker_concurrency=plain.CONCURRENCY,
    worker_send_task_events=True,
    broker_connection_retry_on_startup=True,
    # The 600 s of the product, when its own longest wait would allow no less.
    broker_transport_options={} if plain.BROKER_URL.startswith("amqp") else {"visibility_timeout": 600},
)


@app.task(bind=True, autoretry_for=(Exception,), retry_backoff=True, max_retries=5)
def send_payment(self: Any, payment_id: str) -> None:
    """POST the payment, and ask for its status when no notification came in time."""
    with Session(plain.engine) as session:
        payment = session.get_one(Payment, UUID(payment_id))
        plain.send(payment)
        payment.sent_at = datetime.now(UTC)
        session.add(payment)
        session.commit()
    check_status.apply_async(args=(payment_id,), countdown=plain.ANSWER_WINDOW_S)


@app.task(bind=True, autoretry_for=(Exception,), retry_backoff=True, max_retries=20)
def check_status(self: Any, payment_id: str) -> None:
    """Ask the terminal, unless the outcome is known."""
    with Session(plain.engine) as session:
        payment = session.get_one(Payment, UUID(payment_id))
        if payment.state != "pending":
            return
        response = plain.ask_status(payment)
        if response is None:
            raise self.retry(countdown=plain.ANSWER_WINDOW_S / 10)
        apply(payment, response)
        session.add(payment)
        session.commit()
