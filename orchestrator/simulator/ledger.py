"""The ledger: what really happened, as JSON lines in a file that only grows.

Each line has `n` (from 1, without gaps), `at` (ISO 8601 UTC) and `kind`. Lines are written in groups: whoever must not
speak before its lines are on disk awaits `durable()`, and everybody who waits at the same time shares one fsync.

What the kinds mean: `request` (a message came; `taken` says whether it reached the terminal, `cause` why not: `crypto
error`, or `another terminal's`, with the one whose port it `came_to`), `prompt` (the shopper was
asked to pay), `charge` and `no_charge` (how it ended), `busy`, `refused` (a repeated ServiceID), `abort` (and its
`effect`), `status` (and its `answer`), `forged`, `notification` (one attempt to push, with the HTTP status that came
back, 0 for none), `answer` (given on a held-open connection; `flaw` says what was wrong with its seal).

Of money that goes back: `refund_requested` (a reversal was received, or a shopper paid out; `amount_minor` of the
`original_psp`), `refund_refused` (a reversal was not, by its `error_condition`), and `refund` (what became of it, by
its `outcome`: done, declined, cancelled, voided; failed or reversed after done). What the platform's books learn
otherwise: `cancellation`, `charge_refused` (an offline approval), `earlier_try`, `capture_failed`, `expiry`,
`chargeback`. These have `effective_at`, which is not scaled. `webhook` is one attempt to tell, with the HTTP status
that came back; what is told may be wrong where a behaviour says so, the other lines never are.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.simulator.encoding import Json, now, timestamp


class Ledger:
    """Appends to one file. Belongs to one event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _cut_torn_line(path)
        self._count = sum(1 for _ in read_lines(path))
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._on_disk = self._count
        self._waiting: list[bytes] = []
        self._flush: asyncio.Task[None] | None = None

    def write(self, kind: str, **fields: Any) -> None:
        """Put a line in order; it is on disk only after the next `durable()`."""
        self._count += 1
        line: Json = {"n": self._count, "at": timestamp(now()), "kind": kind, **fields}
        self._waiting.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    async def durable(self) -> None:
        """Return once every line written so far is on disk."""
        wanted = self._count
        while self._on_disk < wanted:
            if self._flush is None:
                self._flush = asyncio.create_task(self._write_group())
            await asyncio.shield(self._flush)

    async def _write_group(self) -> None:
        await asyncio.sleep(0)  # lets everybody who speaks in this tick join the group
        group, self._waiting = b"".join(self._waiting), []
        count = self._count
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._to_disk, group)
            self._on_disk = count
        finally:
            self._flush = None

    def _to_disk(self, group: bytes) -> None:
        rest = memoryview(group)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        os.fsync(self._fd)

    def close(self) -> None:
        """Put what is left on disk and close the file."""
        self._to_disk(b"".join(self._waiting))
        self._waiting = []
        os.close(self._fd)


def read_lines(path: Path) -> Iterator[Json]:
    """The lines of a ledger file, in order; a last line that a crash left unfinished is not one."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield json.loads(line)


def _cut_torn_line(path: Path) -> None:
    """Remove an unfinished last line: nobody was told of it, and the next line must start at a line's start."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
