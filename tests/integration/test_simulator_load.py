"""At load the simulator loses and doubles nothing. The rate that it reached is reported, not judged."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

from orchestrator.simulator.delivery import Poster
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.simulator.server import Reply, Request, listen
from tests.integration.simulator_support import Asked

_PAYMENTS = 900
_OFFERED_PER_S = 300.0


async def _run(ledger: Path) -> tuple[Counter[str], list[float], float, SimulatorProcess]:
    """ServiceIDs as they were pushed, seconds to each acknowledgement, seconds in all."""
    pushed: Counter[str] = Counter()
    all_pushed = asyncio.Event()
    waits_s: list[float] = []

    async def receive(request: Request) -> Reply:
        pushed[json.loads(request.body)["SaleToPOIResponse"]["MessageHeader"]["ServiceID"]] += 1
        if len(pushed) == _PAYMENTS:
            all_pushed.set()
        return Reply(200, b"[accepted]")

    receiver = await listen("127.0.0.1", 0, receive)
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/"
    arguments = ["--any-terminal", "--time-scale", "20", "--notify", url]
    with SimulatorProcess(ledger, arguments) as simulator:
        till = Poster(f"{simulator.url}/async", "", "")
        started = time.monotonic()

        async def pay(number: int) -> None:
            await asyncio.sleep(max(0.0, started + number / _OFFERED_PER_S - time.monotonic()))
            sent = time.monotonic()
            assert await till.post(json.dumps(Asked(f"LOAD-{number}").body()).encode()) == 200
            waits_s.append(time.monotonic() - sent)

        await asyncio.gather(*(pay(number) for number in range(_PAYMENTS)))
        async with asyncio.timeout(30):
            await all_pushed.wait()
        took_s = time.monotonic() - started
        till.close()
    receiver.close()
    await receiver.wait_closed()
    return pushed, sorted(waits_s), took_s, simulator


def test_every_payment_at_300_a_second_is_charged_and_pushed_once(tmp_path: Path) -> None:
    pushed, waits_s, took_s, simulator = asyncio.run(_run(tmp_path / "ledger.jsonl"))

    charged = Counter(line["service_id"] for line in simulator.ledger("charge"))
    p99_ms = waits_s[len(waits_s) * 99 // 100] * 1000
    sys.stdout.write(f"simulator: {_PAYMENTS / took_s:.0f} payments/s, acknowledged in {p99_ms:.0f} ms at p99\n")
    assert set(pushed.values()) == set(charged.values()) == {1}
    assert len(pushed) == len(charged) == _PAYMENTS
