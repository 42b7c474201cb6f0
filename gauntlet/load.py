"""Callers: they submit over HTTP and by task, repeat with the same key until they are answered, and log what they got.

One JSON object per line in the client's log: ``answered`` (a submission over HTTP and its status), ``enqueued`` (a
submission by task that the broker took), ``aborted``, ``gave_up``.
"""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
from celery import Celery
from kombu.exceptions import OperationalError

from gauntlet.options import Plan
from gauntlet.stack import MERCHANT, Stack

_CALLERS = 24
_BY_TASK_SHARE = 0.2
_REPEATED_SHARE = 0.1
_CLASH_SHARE = 0.02
_RIVAL_SHARE = 0.03
_ABORTED_SHARE = 0.03
_HURRIED_SHARE = 0.05
_HURRIED_S = 5
"""The shortest ``send_by_s`` that the product takes: what queues behind something slow, or meets an outage, expires."""
_PATIENT_S = 900
_HTTP_WITHIN_S = 10.0
_GIVES_UP_AFTER_S = 180.0
_ENQUEUES_AGAIN_AFTER_S = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """One sale, and how its caller behaves."""

    key: str
    body: dict[str, Any]
    by_task: bool
    times: int
    clashes: bool
    has_rival: bool
    is_aborted: bool


def orders(plan: Plan, terminals: list[str]) -> list[Order]:
    """The seeded sales of a run."""
    chance = random.Random(plan.seed)

    def happens(share: float) -> bool:
        return chance.random() < share

    made = []
    for number in range(plan.payments):
        body = {
            "reference": f"sale-{plan.seed}-{number:06d}",
            "poi_id": chance.choice(terminals),
            "amount": {
                "currency": chance.choice(("EUR", "EUR", "GBP", "JPY")),
                "value": chance.randrange(100, 100_000),
            },
            "send_by_s": _HURRIED_S if happens(_HURRIED_SHARE) else _PATIENT_S,
        }
        by_task = happens(_BY_TASK_SHARE)
        times = chance.choice((2, 3)) if happens(_REPEATED_SHARE) else 1
        clashes, rival, aborted = happens(_CLASH_SHARE), happens(_RIVAL_SHARE), happens(_ABORTED_SHARE)
        made.append(
            Order(f"key-{plan.seed}-{number:06d}", body, by_task, times, clashes and not by_task, rival and not by_task,
                  aborted and not by_task)
        )  # fmt: skip
    return made


class ClientLog:
    """What the callers saw, line by line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, kind: str, **fields: Any) -> None:
        """Add a line."""
        line = json.dumps({"at": datetime.now(UTC).isoformat(), "kind": kind, **fields}, separators=(",", ":"))
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Load:
    """Plays a run's callers."""

    def __init__(self, stack: Stack, log: ClientLog) -> None:
        self._plan, self._urls, self._log = stack.plan, stack.urls, log
        self._http = httpx.Client(
            headers={"authorization": f"Bearer {stack.api_key}"}, trust_env=False, timeout=_HTTP_WITHIN_S
        )
        self._celery = Celery("caller", broker=stack.broker_url, set_as_current=False)
        self._celery.conf.update(task_ignore_result=True, task_publish_retry=False)
        timeouts = {"socket_timeout": 5, "socket_connect_timeout": 5}
        is_redis = stack.broker_url.startswith("redis")
        self._celery.conf.broker_transport_options = timeouts if is_redis else {"confirm_publish": True}
        self.enqueued_again = 0

    def run(self, sales: list[Order]) -> None:
        """Submit them at a steady rate; return when every caller has its answer or gave up."""
        started_s, step_s = time.monotonic(), self._plan.load_s / max(len(sales), 1)
        with ThreadPoolExecutor(_CALLERS) as callers:
            running = []
            for number, order in enumerate(sales):
                time.sleep(max(0.0, started_s + number * step_s - time.monotonic()))
                running.append(callers.submit(self._play, order))
            for future in running:
                future.result()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
        self._celery.close()

    # -- one caller --

    def _play(self, order: Order) -> None:
        if order.by_task:
            submission = self._submission(order)
            for _ in range(order.times):
                self._enqueue(order, submission)
            return
        payment_id = None
        for _ in range(order.times):
            payment_id = self._submit(order.key, order.body, "submission") or payment_id
        if order.is_aborted and payment_id:
            self._abort(payment_id)
        if order.clashes and payment_id:
            amount = order.body["amount"] | {"value": order.body["amount"]["value"] + 1}
            self._submit(order.key, order.body | {"amount": amount}, "clash")
        if order.has_rival:
            self._submit(f"rival-{order.key}", order.body, "rival")

    def _submit(self, key: str, body: dict[str, Any], role: str) -> str | None:
        """Post until somebody answers; the payment's id when it was taken."""
        give_up_s, pause_s, tries = time.monotonic() + _GIVES_UP_AFTER_S, 0.05, 0
        while time.monotonic() < give_up_s:
            url = self._urls[(crc32(key.encode()) + tries) % len(self._urls)]
            tries += 1
            try:
                answer = self._http.post(f"{url}/v1/payments", json=body, headers={"idempotency-key": key})
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code < 500:
                said = answer.json()
                self._log.write(
                    "answered", role=role, key=key, status=answer.status_code, id=said.get("id"), tries=tries,
                    problem=str(said.get("type", "")).rpartition("/")[2] or None, asked=body,
                )  # fmt: skip
                return said.get("id") if answer.status_code in (200, 201) else None
            time.sleep(pause_s)
            pause_s = min(1.0, pause_s * 2)
        self._log.write("gave_up", role=role, key=key, asked=body)
        return None

    def _abort(self, payment_id: str) -> None:
        try:
            answer = self._http.post(f"{self._urls[0]}/v1/payments/{payment_id}/abort", json={})
        except httpx.HTTPError:
            return
        self._log.write("aborted", id=payment_id, status=answer.status_code)

    # -- by task --

    def _submission(self, order: Order) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat()
        return order.body | {"merchant_account": MERCHANT, "idempotency_key": order.key, "submitted_at": now}

    def _enqueue(self, order: Order, submission: dict[str, Any]) -> None:
        give_up_s = time.monotonic() + _GIVES_UP_AFTER_S
        while time.monotonic() < give_up_s:
            try:
                self._celery.send_task("tasks.payments.submit", kwargs={"submission": submission}, queue="payments")
            except (OperationalError, OSError):
                time.sleep(0.5)
                continue
            self._log.write("enqueued", key=order.key, asked=order.body)
            return
        self._log.write("gave_up", role="task", key=order.key, asked=order.body)

    def confirm_tasks(self, sales: list[Order], within_s: float) -> None:
        """Ask after what was enqueued, and enqueue again what nobody knows: Redis loses what a worker took and died."""
        missing = {order.key: order for order in sales if order.by_task}
        deadline_s, again_s = time.monotonic() + within_s, time.monotonic() + _ENQUEUES_AGAIN_AFTER_S
        while missing and time.monotonic() < deadline_s:
            missing = {key: order for key, order in missing.items() if not self._is_known(order)}
            if missing and time.monotonic() >= again_s:
                again_s = time.monotonic() + _ENQUEUES_AGAIN_AFTER_S
                for order in missing.values():
                    self.enqueued_again += 1
                    self._enqueue(order, self._submission(order))
            time.sleep(0.2)

    def _is_known(self, order: Order) -> bool:
        try:
            answer = self._http.get(f"{self._urls[0]}/v1/payments", params={"reference": order.body["reference"]})
            return answer.status_code == 200 and bool(answer.json()["data"])
        except httpx.HTTPError:
            return False
