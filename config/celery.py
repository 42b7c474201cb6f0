"""Celery's own settings, a reason on each line. The database is the truth; a message only says "perform this now"."""

from typing import Any, Final

from celery import Celery
from celery.schedules import crontab
from kombu import Exchange, Queue

from config.settings import Settings

#: The queues, as a default Celery client declares them, so that a plain ``send_task`` from elsewhere just works.
QUEUES: Final = ("payments", "held", "status", "callbacks", "timers", "reconciliation")

#: A socket that is silent for this long is dead; without it a publish on Redis can block for ever (kombu 5.7).
_SOCKET_TIMEOUT_S: Final = 10

#: How often the sweep looks for what is due.
SWEEP_EVERY_S: Final = 1.0

#: When retention runs, in UTC: while shops in Europe are closed, and away from full hours.
_RETENTION_CRON: Final = "20 2 * * *"


def celery_app(settings: Settings, broker_url: str) -> Celery:
    """Make the Celery application for these settings. It connects when it is first used."""
    app = Celery("counterfoil", set_as_current=False)
    app.conf.update(
        broker_url=broker_url,
        result_backend=settings.result_backend,
        task_ignore_result=settings.result_backend is None,  # no money path reads a result
        accept_content=["json"],  # a pickle from the broker would be code
        task_serializer="json",
        result_serializer="json",
        task_queues=[_queue(name, settings, broker_url) for name in QUEUES],
        task_default_queue="payments",
        task_create_missing_queues=False,  # a misspelt queue is an error, not a queue that nobody reads
        task_acks_late=True,  # harmless, because of the one-way claim
        task_reject_on_worker_lost=True,  # likewise
        task_acks_on_failure_or_timeout=True,  # the command row is what is tried again, not the message
        worker_prefetch_multiplier=1,  # a message in hand of a busy worker is late
        worker_cancel_long_running_tasks_on_connection_loss=False,  # raising inside a commit would lose its answer
        worker_pool="threads",  # the work waits on HTTP and on the database
        worker_concurrency=settings.worker_concurrency,
        worker_send_task_events=settings.task_events,  # what Flower reads
        worker_enable_remote_control=True,  # Flower inspects; it is read-only there
        worker_consumer="tasks.consumer:Consumer",  # looks at each message first, and outlives a broker that goes away
        worker_hijack_root_logger=False,  # logging is ours
        worker_redirect_stdouts=False,  # likewise
        worker_soft_shutdown_timeout=0.0,  # a warm shutdown waits for sends by itself
        broker_connection_retry_on_startup=True,  # a broker that is away means late, not lost
        broker_connection_max_retries=None,  # for as long as it takes
        broker_transport_options=_transport_options(broker_url),
        broker_heartbeat=0 if broker_url.startswith("redis") else 30,
        task_publish_retry=False,  # the sweep rings again
        event_queue_expires=60,  # a monitor that went away leaves nothing behind
        beat_schedule=_beat_schedule(settings),
        beat_scheduler="celery.beat:Scheduler",  # no file to keep or to fight over
        beat_max_loop_interval=SWEEP_EVERY_S,
        timezone="UTC",
        enable_utc=True,
    )
    return app


def _beat_schedule(settings: Settings) -> dict[str, Any]:
    """What the clock asks for."""
    return {
        "sweep": {
            "task": "tasks.timers.sweep",
            "schedule": SWEEP_EVERY_S,
            # One that waited longer than a second is pointless: the next one finds the same.
            "options": {
                "queue": "timers",
                "expires": 1.0,
                "ignore_result": True,
                # Beat keeps one connection, and on RabbitMQ only a retry replaces one that broke.
                "retry": True,
                "retry_policy": {"max_retries": 2, "interval_start": 0, "interval_step": 0.2},
            },
        },
        "reconciliation": {
            "task": "tasks.reconciliation.run",
            "schedule": _at(settings.reconcile_cron),
            # A run is worth having until the next one; a repeated message finds it done, or going on.
            "options": {"queue": "reconciliation", "expires": 12 * 3600.0, "ignore_result": True, "retry": True},
        },
        "retention": {
            "task": "tasks.retention.run",
            "schedule": _at(_RETENTION_CRON),
            "options": {"queue": "reconciliation", "expires": 12 * 3600.0, "ignore_result": True, "retry": True},
        },
    }


def _at(cron: str) -> crontab:
    """Five fields of numbers, as the settings have checked them."""
    minute, hour, day_of_month, month, day_of_week = cron.split()
    return crontab(minute=minute, hour=hour, day_of_month=day_of_month, month_of_year=month, day_of_week=day_of_week)


def _queue(name: str, settings: Settings, broker_url: str) -> Queue:
    """Declare a queue as Celery does by default: an exchange of its own name, so that nothing is copied to another."""
    return Queue(name, Exchange(name), routing_key=name, **_queue_arguments(settings, broker_url))


def _queue_arguments(settings: Settings, broker_url: str) -> dict[str, Any]:
    if settings.quorum_queues and broker_url.startswith("amqp"):
        return {"queue_arguments": {"x-queue-type": "quorum"}}
    return {}


def _transport_options(broker_url: str) -> dict[str, Any]:
    if broker_url.startswith("amqp"):
        # Without these a worker can wait for ever on a connection that was cut. No confirms: each task event would
        # wait for one, and a ring that is lost is rung again.
        return {"read_timeout": _SOCKET_TIMEOUT_S, "write_timeout": _SOCKET_TIMEOUT_S}
    return {
        "socket_timeout": _SOCKET_TIMEOUT_S,
        "socket_connect_timeout": _SOCKET_TIMEOUT_S / 2,
        "socket_keepalive": True,
        "health_check_interval": _SOCKET_TIMEOUT_S,
        # Our longest task is a held send; what is redelivered after this is dropped by the claim.
        "visibility_timeout": 600,
    }
