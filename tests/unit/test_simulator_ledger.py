"""The ledger is on disk before anybody may speak, in order, and continues after a crash."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from orchestrator.simulator.ledger import Ledger, read_lines


def test_a_line_is_on_disk_when_durable_returns(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.jsonl")
        ledger.write("prompt", reference="A")

        await ledger.durable()

        assert [line["reference"] for line in read_lines(ledger.path)] == ["A"]
        ledger.close()

    asyncio.run(story())


def test_many_writers_share_a_few_fsyncs_and_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsyncs = []
    real = os.fsync

    def counted(fd: int) -> None:
        fsyncs.append(fd)
        real(fd)

    monkeypatch.setattr(os, "fsync", counted)

    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.jsonl")

        async def write(number: int) -> None:
            ledger.write("prompt", number=number)
            await ledger.durable()
            assert any(line["number"] == number for line in read_lines(ledger.path))

        await asyncio.gather(*(write(number) for number in range(200)))

        lines = list(read_lines(ledger.path))
        assert [line["n"] for line in lines] == list(range(1, 201))
        assert [line["number"] for line in lines] == list(range(200))
        assert len(fsyncs) < 20
        ledger.close()

    asyncio.run(story())


def test_a_writer_is_not_kept_waiting_by_those_who_come_later(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.jsonl")
        stop = False

        async def write_for_ever() -> None:
            while not stop:
                ledger.write("prompt")
                await asyncio.sleep(0)

        others = asyncio.create_task(write_for_ever())
        ledger.write("charge")
        async with asyncio.timeout(5):
            await ledger.durable()
        stop = True
        await others
        ledger.close()

    asyncio.run(story())


def test_an_existing_ledger_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"

    async def write_one() -> None:
        ledger = Ledger(path)
        ledger.write("prompt")
        ledger.close()

    for _ in range(3):
        asyncio.run(write_one())

    assert [line["n"] for line in read_lines(path)] == [1, 2, 3]
