"""The simulator as a subprocess, for tests, the demo and the benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestrator.simulator.encoding import Json
from orchestrator.simulator.ledger import read_lines

_STARTS_WITHIN_S = 20.0
_STOPS_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.01
_IMPORT_ROOT = Path(__file__).parents[2]  # where `-m orchestrator.simulator` is found, installed or not


class SimulatorProcess:
    """Starts `python -m orchestrator.simulator` with these arguments, on a free port unless they say otherwise.

    >>> with SimulatorProcess(ledger=Path("ledger.jsonl"), arguments=["--any-terminal"]) as simulator:
    ...     simulator.url
    """

    def __init__(self, ledger: Path, arguments: Sequence[str] = (), listen: str = "127.0.0.1:0") -> None:
        self.ledger_path = ledger.resolve()
        self.url = ""
        self._arguments = [*arguments, "--ledger", str(self.ledger_path)]
        self._listen = listen
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it and wait until it listens; RuntimeError when it ends instead."""
        command = [sys.executable, "-m", "orchestrator.simulator", "--listen", self._listen, *self._arguments]
        self._process = subprocess.Popen(command, cwd=_IMPORT_ROOT, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None:
            raise RuntimeError("no standard output")
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            self.kill()
            message = f"the simulator did not start: {line!r}"
            raise RuntimeError(message)
        self.url = line.split()[-1]
        self._listen = self.url.removeprefix("http://")  # a restart comes back at the same address
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    def stop(self) -> None:
        """End it in order."""
        self._end(graceful=True)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(graceful=False)

    def _end(self, *, graceful: bool) -> None:
        if self._process is None:
            return
        if graceful:
            self._process.terminate()
        else:
            self._process.kill()
        try:
            self._process.wait(_STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def ledger(self, kind: str | None = None, **having: object) -> list[Json]:
        """The lines in the file, in order; of one kind, and with these members, where given."""
        return [
            line
            for line in read_lines(self.ledger_path)
            if kind in (None, line["kind"]) and all(line.get(name) == value for name, value in having.items())
        ]

    def terminals(self) -> dict[str, tuple[str, int]]:
        """Host and port of each terminal that has a port of its own, by POIID."""
        with _open(urllib.request.Request(f"{self.url}/terminals")) as response:  # noqa: S310 - our own URL
            return {line["poi_id"]: (line["address"], line["port"]) for line in json.load(response) if line["port"]}

    def wait_for(self, found: Callable[[list[Json]], bool], within_s: float = 10.0) -> list[Json]:
        """The ledger, once the condition holds for it; TimeoutError when it does not in time."""
        end = time.monotonic() + within_s
        while not found(lines := self.ledger()):
            if time.monotonic() > end:
                message = f"not in the ledger after {within_s} s; it ends with {lines[-5:]}"
                raise TimeoutError(message)
            time.sleep(_LOOK_EVERY_S)
        return lines

    def post_scenario(self, scenario: str, *, reference: str = "", terminal: str = "") -> None:
        """Play the scenario for a reference, or for every payment of a terminal."""
        about = {"reference": reference} if reference else {"terminal": terminal}
        self._post("/scenario", about | {"scenario": scenario})

    def post_faults(self, **faults: object) -> None:
        """Break something (see `faults`); without arguments, heal everything."""
        self._post("/faults", faults)

    def post_event(self, terminal: str, event: str, details: str = "") -> None:
        """Let the terminal report an event, and return when it was pushed."""
        self._post("/events", {"terminal": terminal, "event": event, "details": details})

    def send_webhook(self, **wanted: object) -> int:
        """Let a webhook be posted now (see `by_hand`); the HTTP status that it was answered, 0 for none."""
        return int(self._post("/webhooks/send", wanted)["status"])

    def write_reports(self, day: date, **wanted: object) -> Json:
        """Write the platform's reports of this day (see `reports`): `files`, `lines` and what was `planted`."""
        return self._post("/reports", {"day": day.isoformat()} | wanted)

    def _post(self, path: str, body: dict[str, object] | dict[str, str]) -> Json:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), method="POST")  # noqa: S310 - our own URL
        with _open(request) as response:
            answer: Json = json.load(response)
        return answer


def _open(request: urllib.request.Request) -> Any:
    """The answer, from the simulator itself and through no proxy."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_STARTS_WITHIN_S)
