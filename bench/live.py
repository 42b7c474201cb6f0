"""How soon tills see what their terminals show, and what it costs that they watch: ``python -m bench.live``.

Each till follows its terminal as server-sent events, spread over the API processes. Every terminal has a payment that
runs. Latency: from the POST of the notification to the event in the till's hands, on one machine and one clock.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg

from bench import rows
from bench.contenders import MERCHANT, free_port
from bench.latency import spread_ms
from bench.servers import Postgres, cpu_s, rss_bytes, servers
from orchestrator.ids import new_id
from orchestrator.keys import make_key
from orchestrator.processes import Processes, wait_until_ready
from orchestrator.store import schema

_LOGIN: Final = ("platform", "bench")
_SETTLE_S: Final = 3.0


class Till:
    """Follows one terminal over a plain socket; knows when each event came."""

    def __init__(self, poi_id: str, port: int, key: str) -> None:
        self.poi_id = poi_id
        self.seen: dict[str, float] = {}
        self._port = port
        self._key = key
        self._came = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None

    async def follow(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        head = f"GET /v1/terminals/{self.poi_id}/events HTTP/1.1", "Host: bench", f"Authorization: Bearer {self._key}"
        self._writer.write("\r\n".join([*head, "", ""]).encode())
        try:
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    found = json.loads(line[6:])
                    self.seen[found.get("name", "state")] = time.monotonic()
                    self._came.set()
        except OSError:
            return

    async def has_seen(self, name: str, within_s: float = 20.0) -> float:
        async with asyncio.timeout(within_s):
            while name not in self.seen:
                self._came.clear()
                await self._came.wait()
        return self.seen[name]

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


async def _measure(
    tills: Sequence[Till], ports: Sequence[int], pids: Sequence[int], postgres: Postgres, options: Any
) -> dict[str, Any]:
    before = [rss_bytes(pid) for pid in pids]
    tasks = [asyncio.create_task(till.follow()) for till in tills]
    for till in tills:
        await till.has_seen("state")
    await asyncio.sleep(_SETTLE_S)
    after = [rss_bytes(pid) for pid in pids]
    found: dict[str, Any] = {
        "kb_per_stream": [
            round((late - early) / 1000 / (len(tills) / len(pids)), 1)
            for early, late in zip(before, after, strict=True)
        ]
    }
    spent, spent_there = [cpu_s(pid) for pid in pids], postgres.cpu_s() or 0.0
    await asyncio.sleep(options.seconds)
    found["idle_cpu_percent"] = [
        round((cpu_s(pid) - early) / options.seconds * 100, 2) for pid, early in zip(pids, spent, strict=True)
    ]
    found["idle_cpu_percent_of_the_database"] = round(
        ((postgres.cpu_s() or 0.0) - spent_there) / options.seconds * 100, 2
    )
    async with httpx.AsyncClient(trust_env=False, auth=_LOGIN, timeout=20) as http:
        found["steady"] = await _push(http, tills, ports, "STEADY", apart_s=options.seconds / len(tills))
        found["all_at_once"] = await _push(http, tills, ports, "AT_ONCE", apart_s=0.0)
    for till in tills:
        till.close()
    await asyncio.gather(*tasks)
    return found


async def _push(
    http: httpx.AsyncClient, tills: Sequence[Till], ports: Sequence[int], name: str, *, apart_s: float
) -> dict[str, Any]:
    """One display notification for each till's terminal; a till's notification goes to the other process than it."""

    async def one(number: int, till: Till) -> float:
        await asyncio.sleep(number * apart_s)
        began_s = time.monotonic()
        url = f"http://127.0.0.1:{ports[(number + 1) % len(ports)]}/notifications/terminal"
        (await http.post(url, json=_display(till.poi_id, name))).raise_for_status()
        return await till.has_seen(name) - began_s

    return spread_ms(await asyncio.gather(*(one(number, till) for number, till in enumerate(tills))))


def _display(poi_id: str, name: str) -> dict[str, Any]:
    header = {"MessageClass": "Device", "MessageCategory": "Display", "MessageType": "Request", "POIID": poi_id}
    reference = f"TransactionID=BV5k{poi_id[-9:]}&TimeStamp=2026-11-21T09%3a00%3a32.000Z&event={name}"
    output = {"OutputContent": {"OutputFormat": "MessageRef", "PredefinedContent": {"ReferenceID": reference}}}
    display = {"Device": "CashierDisplay", "InfoQualify": "Status", **output}
    return {"SaleToPOIRequest": {"MessageHeader": header, "DisplayRequest": {"DisplayOutput": [display]}}}


def _run(postgres: Postgres, options: Any, folder: Path) -> dict[str, Any]:
    database = postgres.make("live")
    schema.upgrade(postgres.url(database))
    rows.insert_waiting(postgres.plain_url(database), 1, options.tills)
    key, digest = make_key()
    with psycopg.connect(postgres.plain_url(database), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO api_keys (id, key_hash, merchant_account, role, created_by)"
            " VALUES (%s, %s, %s, 'viewer', 'bench')",
            [new_id(), digest, MERCHANT],
        )
    ports = [free_port() for _ in range(options.processes)]
    with ExitStack() as stack:
        pids = [_start(stack, postgres.url(database), port, folder) for port in ports]
        poi_ids = [f"S1F2-{number:09d}" for number in range(1, options.tills + 1)]
        tills = [Till(poi_id, ports[number % len(ports)], key) for number, poi_id in enumerate(poi_ids)]
        return asyncio.run(_measure(tills, ports, pids, postgres, options))


def _start(stack: ExitStack, database_url: str, port: int, folder: Path) -> int:
    """Start an API process and have it work a little: what it keeps from that is not a stream's cost."""
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "COUNTERFOIL_DATABASE_URL": database_url,
        "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0",
        "COUNTERFOIL_LISTEN": f"127.0.0.1:{port}",
        "COUNTERFOIL_NOTIFICATION_USERNAME": _LOGIN[0],
        "COUNTERFOIL_NOTIFICATION_PASSWORD": _LOGIN[1],
    }
    process = stack.enter_context(Processes(environment, folder / f"api-{port}")).start("api", "serve")
    url = f"http://127.0.0.1:{port}"
    wait_until_ready(url)
    with httpx.Client(trust_env=False, auth=_LOGIN) as http:
        for _ in range(50):
            http.post(f"{url}/notifications/terminal", json=_display("S1F2-000000001", "WARM_UP")).raise_for_status()
    return process.pid


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--tills", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the idle and the steady stretch")
    parser.add_argument("--database", help="a PostgreSQL server; one of its own otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cf-") as name:
        folder = Path(name)
        with servers(options.database, None, folder) as (postgres, _):
            found = _run(postgres, options, folder)
    print(json.dumps({"tills": options.tills, "processes": options.processes, **found}, indent=2))


if __name__ == "__main__":
    main()
