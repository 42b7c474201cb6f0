"""The tills, in a process of their own: ``python -m bench.load '<Load as JSON>'``.

Prints ``measuring`` when the warm-up is over and ``measured`` at the end of the window, so that the parent reads its
counters there, and leaves one JSON object in a file. Closed loop: each till submits, waits for the outcome, reads it,
and goes on. Open loop: submissions start at a fixed rate, whatever became of those before.
"""

import asyncio
import json
import resource
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import uvloop

from bench.wire import Caller

_PENDING = b'"state":"pending"'


@dataclass(frozen=True)
class Load:
    """What to do. A ``rate_per_s`` of 0 is a closed loop of ``tills``."""

    host: str
    port: int
    headers: dict[str, str]
    database: str
    run: str
    result_file: str
    tills: int
    warmup_s: float
    measure_s: float
    rate_per_s: float = 0.0
    look_every_s: float = 0.01
    outcome_within_s: float = 20.0
    terminals: int = 1

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Watch:
    """Sees outcomes where they are readable, in the database: one query for all that wait, not one poll each."""

    database: str
    every_s: float
    loop: asyncio.AbstractEventLoop
    waiting: dict[UUID, asyncio.Future[float]] = field(default_factory=dict)
    queries: int = 0
    backend_pid: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._over.set()

    def _look(self) -> None:
        statement = "SELECT id FROM payments WHERE id = ANY(%s) AND state <> 'pending'"
        with psycopg.connect(self.database, autocommit=True) as connection:
            self.backend_pid = connection.info.backend_pid
            while not self._over.wait(self.every_s):
                asked = list(self.waiting)
                if not asked:
                    continue
                self.queries += 1
                found = connection.execute(statement, (asked,)).fetchall()
                if found:
                    self.loop.call_soon_threadsafe(self._tell, [row[0] for row in found], time.time())

    def _tell(self, found: list[UUID], at: float) -> None:
        for payment_id in found:
            future = self.waiting.pop(payment_id, None)
            if future is not None and not future.done():
                future.set_result(at)


@dataclass
class Tills:
    """One run."""

    load: Load
    caller: Caller
    watch: Watch
    number: int = 0
    done: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)

    async def pay(self, terminal: int) -> None:
        """One payment, from the submission to its outcome in the caller's hands."""
        self.number += 1
        reference = f"{self.load.run}-{self.number}"
        poi_id = f"V400m-{terminal:09d}"
        body = {"reference": reference, "poi_id": poi_id, "amount": {"currency": "EUR", "value": 1050}}
        began = time.time()
        try:
            status, text = await self.caller.post("/v1/payments", json.dumps(body).encode(), reference)
            if status != 201:
                self._fail(f"POST {status}")
                return
            accepted = time.time()
            payment_id = json.loads(text)["id"]
            seen = await self._outcome(UUID(payment_id))
            status, text = await self.caller.get(f"/v1/payments/{payment_id}")
        except (OSError, TimeoutError) as error:
            self._fail(type(error).__name__)
            return
        if status != 200 or _PENDING in text.replace(b" ", b""):
            self._fail(f"GET {status}")
            return
        self.done.append(
            {"reference": reference, "began": began, "accepted": accepted, "seen": seen, "read": time.time()}
        )

    async def _outcome(self, payment_id: UUID) -> float:
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.watch.waiting[payment_id] = future
        try:
            async with asyncio.timeout(self.load.outcome_within_s):
                return await future
        finally:
            self.watch.waiting.pop(payment_id, None)

    def _fail(self, why: str) -> None:
        self.failed[why] = self.failed.get(why, 0) + 1

    async def closed(self, until: float) -> None:
        async def till(terminal: int) -> None:
            while time.time() < until:
                failures = sum(self.failed.values())
                await self.pay(terminal)
                if sum(self.failed.values()) > failures:
                    await asyncio.sleep(0.1)

        await asyncio.gather(*(till(number) for number in range(self.load.tills)))

    async def open(self, until: float) -> None:
        started = time.time()
        tasks: set[asyncio.Task[None]] = set()
        count = 0
        while time.time() < until:
            await asyncio.sleep(max(0.0, started + count / self.load.rate_per_s - time.time()))
            task = asyncio.create_task(self.pay(count % self.load.terminals))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            count += 1
        await asyncio.gather(*tasks)


async def run(load: Load) -> dict[str, Any]:
    caller = Caller(load.host, load.port, load.headers)
    watch = Watch(load.database, load.look_every_s, asyncio.get_running_loop())
    looking = watch.start()
    tills = Tills(load, caller, watch)
    start = time.time() + load.warmup_s
    end = start + load.measure_s
    marks = asyncio.create_task(_mark(start, end, watch))
    await (tills.open(end) if load.rate_per_s else tills.closed(end))
    await marks
    watch.stop()
    looking.join()
    caller.close()
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "start": start,
        "end": end,
        "payments": tills.done,
        "failed": tills.failed,
        "watch_queries": watch.queries,
        "cpu_s": used.ru_utime + used.ru_stime,
    }


async def _mark(start: float, end: float, watch: Watch) -> None:
    await asyncio.sleep(max(0.0, start - time.time()))
    sys.stdout.write(f"measuring {watch.backend_pid} {watch.queries}\n")
    sys.stdout.flush()
    await asyncio.sleep(max(0.0, end - time.time()))
    sys.stdout.write(f"measured {watch.backend_pid} {watch.queries}\n")
    sys.stdout.flush()


def main() -> None:
    load = Load(**json.loads(sys.argv[1]))
    result = uvloop.run(run(load))
    Path(load.result_file).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
