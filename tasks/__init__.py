"""Doorbells: a task takes an id, makes one call, and holds no logic, payload or retry policy.

``celery -A tasks worker`` and ``celery -A tasks beat`` run this application.
"""

from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_init, worker_process_shutdown, worker_shutdown

from config.celery import celery_app
from config.logs import configure_logs
from config.settings import settings
from orchestrator.bootstrap import Counterfoil

counterfoil = Counterfoil(settings())
app: Celery = celery_app(counterfoil.settings, counterfoil.urls.broker)
app.task_cls = "tasks.doorbell:Doorbell"
app.set_current()
app.set_default()
app.conf.imports = (
    "tasks.callbacks",
    "tasks.payments",
    "tasks.reconciliation",
    "tasks.refunds",
    "tasks.retention",
    "tasks.status",
    "tasks.timers",
)


@setup_logging.connect
def _logs(**_: Any) -> None:
    configure_logs(counterfoil.settings.log_format)


@worker_init.connect
def _traces(**_: Any) -> None:
    counterfoil.start_traces("worker")


@worker_shutdown.connect
@worker_process_shutdown.connect
def _close(**_: Any) -> None:
    counterfoil.close()


__all__ = ["app", "counterfoil"]
