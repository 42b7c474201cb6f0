"""One lane: a database, a broker, a simulator and every process of the product, for one payment at a time."""

import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import httpx
import psycopg
from psycopg.rows import dict_row

from crash import judge
from crash.processes import Following, Launched, Launcher
from crash.seams import Mode, Part, Result, Story, Try
from crash.trap import Trap
from orchestrator.ids import new_id
from orchestrator.keys import make_key
from orchestrator.simulator.ledger import read_lines
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.keys import KeyStore
from orchestrator.store.terminals import TerminalStore
from tests.services import libpq_url

#: The window of 150 s becomes 1.5 s; below that, a busy machine would turn answers into late ones.
TIME_SCALE: Final = 100

#: A seam that nobody reaches: counts, and kills nobody.
NEVER: Final = 2**62

_READY_WITHIN_S: Final = 60.0
#: The slowest way back is a command whose ring died with the sweep: it is rung again after 30 s, and may have to wait
#: for another one of that kind behind it.
_ENDS_WITHIN_S: Final = 100.0
#: A send that expires is followed for so long before; until then every sweep is idle. To begin takes up to three
#: seconds where tests run beside it; begun too late, nothing is counted.
_FOLLOWED_FOR_S: Final = 5
#: What a victim still does after the payment has ended, such as answering the platform.
_AFTERMATH_S: Final = 0.5
_LOOK_EVERY_S: Final = 0.02

_COMMANDS: Final = {
    "api": ("serve",),
    "receiver": ("serve",),
    "worker": ("worker", "--queues", "payments,held,status,callbacks", "--concurrency", "4", "--name", "worker@%h"),
    "sweep": ("worker", "--queues", "timers,reconciliation", "--concurrency", "2", "--name", "sweep@%h"),
    "beat": ("beat",),
}


class Armed:
    """A process that is to die at a seam, from `begin` on."""

    def __init__(self, mode: Mode, pid: int, trap: Trap, seam: int) -> None:
        self._mode, self._pid, self._trap, self._seam = mode, pid, trap, seam
        self._following: Following | None = None

    def begin(self) -> None:
        """Count from now on."""
        if self._mode is Mode.LINES:
            self._trap.arm(self._seam)
        else:
            self._following = Following(self._pid, self._seam)

    def end(self) -> tuple[int, str]:
        """Let it live; return how many seams were passed, and where it died, if it did."""
        if self._following:
            return self._following.end()
        self._trap.disarm()
        return self._trap.count, self._trap.place


class Lane:
    """Started once; then one try after the other."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, launcher: Launcher) -> None:
        folder.mkdir(parents=True)
        self._folder, self._launcher = folder, launcher
        self._database_url, self._broker_url = database_url, broker_url
        self._ports = {"api": _free_port(), "receiver": _free_port()}
        self._ledger = folder / "ledger.jsonl"
        self._traps = {name: Trap(folder / f"{name}.trap") for name in _COMMANDS}
        self._processes: dict[str, Launched] = {}
        self._traced = False
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            schema.upgrade(self._database_url)
            self._database = Database(self._database_url, connections=1)
            opened.callback(self._database.close)
            self._connection: psycopg.Connection[dict[str, Any]] = opened.enter_context(
                psycopg.connect(libpq_url(self._database_url), autocommit=True, row_factory=dict_row)
            )
            key, digest = make_key()
            KeyStore(self._database).create(new_id(), digest, "Shop", "admin", "crash test")
            notify = f"http://127.0.0.1:{self._ports['receiver']}/notifications/terminal"
            self._simulator = opened.enter_context(
                SimulatorProcess(
                    self._ledger,
                    ["--notify", notify, "--username", "platform", "--password", "crash", "--api-key", "crash",
                     "--time-scale", str(TIME_SCALE), "--any-terminal"],
                )
            )  # fmt: skip
            self._http = opened.enter_context(
                httpx.Client(
                    base_url=f"http://127.0.0.1:{self._ports['api']}",
                    headers={"authorization": f"Bearer {key}"},
                    trust_env=False,
                    timeout=10,
                )
            )
            opened.callback(self._end_processes)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    # -- processes --

    def _environment(self, name: str) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._folder),
            "COUNTERFOIL_DATABASE_URL": self._database_url,
            "COUNTERFOIL_BROKER_URL": self._broker_url,
            "COUNTERFOIL_CLOUD_URL": self._simulator.url,
            "COUNTERFOIL_API_KEY": "crash",
            "COUNTERFOIL_NOTIFICATION_USERNAME": "platform",
            "COUNTERFOIL_NOTIFICATION_PASSWORD": "crash",
            "COUNTERFOIL_TIME_SCALE": str(TIME_SCALE),
            "COUNTERFOIL_LOG_FORMAT": "json",
            "COUNTERFOIL_LISTEN": f"127.0.0.1:{self._ports.get(name, 0) or 1}",
        }

    def _start(self, name: str) -> None:
        request = {
            "command": _COMMANDS[name],
            "environment": self._environment(name),
            "log": str(self._folder / f"{name}.log"),
            "trace": self._traced and name != "beat",
        }
        self._processes[name] = Launched(self._launcher, request, self._traps[name])

    def _end_processes(self) -> None:
        for process in self._processes.values():
            process.end()
        self._processes.clear()

    def _tend(self) -> None:
        """Start again what has died."""
        for name, process in list(self._processes.items()):
            if not process.is_alive:
                process.end()
                self._start(name)

    def _prepare(self, part: Part) -> None:
        """Have everything run, traced where lines count, and serve; the victim starts afresh: tries are alike."""
        if self._traced != (part.mode is Mode.LINES):
            self._end_processes()
        self._traced = part.mode is Mode.LINES
        if used := self._processes.pop(part.victim, None):
            used.end()
        for name in _COMMANDS:
            if name not in self._processes:
                self._start(name)
        self._wait(lambda: all(map(self._is_ready, _COMMANDS)), _READY_WITHIN_S, "the processes did not come up")

    def _is_ready(self, name: str) -> bool:
        if name not in self._ports:
            return self._traps[name].is_ready
        try:
            return httpx.get(f"http://127.0.0.1:{self._ports[name]}/readyz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _wait(self, holds: Callable[[], bool], within_s: float, otherwise: str) -> None:
        deadline_s = time.monotonic() + within_s
        while not holds():
            self._tend()
            if time.monotonic() > deadline_s:
                message = f"{otherwise} within {within_s:.0f} s"
                raise TimeoutError(message)
            time.sleep(_LOOK_EVERY_S)

    # -- one try --

    def run(self, tried: Try) -> Result:
        """Play the story, kill the victim at the seam, start it again, wait for the end, and judge."""
        part = tried.part
        self._prepare(part)
        reference, poi_id = f"{uuid4().hex[:12]}-{part.story.scenario}", f"V400m-{uuid4().hex[:12]}"
        TerminalStore(self._database).put({"poi_id": poi_id, "merchant_account": "Shop", "transport": "async"})
        victim = self._processes[part.victim]
        armed = Armed(part.mode, victim.pid, self._traps[part.victim], tried.seam or NEVER)
        began_s = time.monotonic()
        try:
            trouble = self._play(part.story, reference, poi_id, armed)
            took_s = time.monotonic() - began_s
            self._aftermath(victim)
        finally:
            count, place = armed.end()
            self._processes["worker"].send(signal.SIGCONT)
        self._tend()
        found = judge.violations(self._connection, reference, list(read_lines(self._ledger)))
        if not tried.seam and not count:
            trouble.append("no seam was counted: nothing of this part would be tried")
        return Result(tried, bool(place), count, place, took_s, (*trouble, *found))

    def _play(self, story: Story, reference: str, poi_id: str, armed: Armed) -> list[str]:
        """The story, up to the payment's end; what went wrong with it."""
        try:
            if story.worker_sleeps:
                self._processes["worker"].send(signal.SIGSTOP)
            else:
                armed.begin()
            amount = {"currency": "EUR", "value": 1050}
            body = {"reference": reference, "poi_id": poi_id, "amount": amount, "send_by_s": story.send_by_s}
            payment = self._post("/v1/payments", body, reference)
            if story.aborts:
                self._wait(lambda: self._was_claimed(reference), _ENDS_WITHIN_S, "not sent")
                self._post(f"/v1/payments/{payment['id']}/abort", {}, reference)
            if story.worker_sleeps:
                time.sleep(story.send_by_s - _FOLLOWED_FOR_S)
                armed.begin()
            self._wait(lambda: judge.has_ended(self._connection, reference), _ENDS_WITHIN_S, "the payment did not end")
        except (TimeoutError, ValueError) as trouble:
            return [str(trouble)]
        return []

    def _post(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        """What a caller does: the same request with the same key, until there is an answer."""
        answers: list[httpx.Response] = []

        def answered() -> bool:
            try:
                answer = self._http.post(path, json=body, headers={"idempotency-key": key})
            except httpx.TransportError:
                return False
            if answer.status_code < 500:
                answers.append(answer)
            return bool(answers)

        self._wait(answered, _READY_WITHIN_S, f"no answer to POST {path}")
        if answers[0].is_error:
            message = f"POST {path} answered {answers[0].status_code}: {answers[0].text}"
            raise ValueError(message)
        payment: dict[str, Any] = answers[0].json()
        return payment

    def _was_claimed(self, reference: str) -> bool:
        query = "SELECT 1 FROM payments WHERE reference = %s AND (sent_at IS NOT NULL OR state <> 'pending')"
        return self._connection.execute(query, [reference]).fetchone() is not None

    def _aftermath(self, victim: Launched) -> None:
        deadline_s = time.monotonic() + _AFTERMATH_S
        while victim.is_alive and time.monotonic() < deadline_s:
            time.sleep(_LOOK_EVERY_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
