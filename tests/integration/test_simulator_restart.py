"""A killed simulator forgets nothing: its terminals remember what the ledger says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.simulator.__main__ import main
from orchestrator.simulator.process import SimulatorProcess
from tests.integration.simulator_support import Asked, Receiver, Till, eventually, status_word


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def simulator(tmp_path: Path, receiver: Receiver) -> Iterator[SimulatorProcess]:
    arguments = ["--any-terminal", "--time-scale", "200", "--notify", receiver.url]
    simulator = SimulatorProcess(tmp_path / "ledger.jsonl", arguments)
    simulator.start()
    yield simulator
    simulator.stop()


def _inner(till: Till, asked: Asked) -> object:
    body = till.status(asked).json()["SaleToPOIResponse"]["TransactionStatusResponse"]
    return body["RepeatedMessageResponse"]["RepeatedResponseMessageBody"]["PaymentResponse"]


def test_terminals_repeat_after_kill_9_exactly_what_they_said_before(simulator: SimulatorProcess) -> None:
    till = Till(simulator.url)
    names = ["approve", "decline", "cancel", "partial", "tip", "busy", "busy-bare"]
    payments = [Asked(f"BEFORE-{name}", acquirer_data="metadata.counterfoil_tag=abc") for name in names]
    for asked in payments:
        till.pay(asked, "/sync")
    before = [_inner(till, asked) for asked in payments]
    lines = len(simulator.ledger())

    simulator.kill()
    simulator.start()

    assert [_inner(till, asked) for asked in payments] == before
    assert [line["n"] for line in simulator.ledger()] == list(range(1, lines + 2 * len(names) + 1))


def test_a_payment_from_before_the_kill_is_not_charged_again(simulator: SimulatorProcess) -> None:
    till, asked = Till(simulator.url), Asked("ONCE-approve")
    till.pay(asked, "/sync")

    simulator.kill()
    simulator.start()
    again = till.pay(asked, "/sync").json()["SaleToPOIResponse"]["PaymentResponse"]["Response"]

    assert again["ErrorCondition"] == "NotAllowed"
    assert len(simulator.ledger("charge")) == 1


def test_a_dialogue_that_a_kill_interrupted_goes_on_and_is_prompted_once(
    simulator: SimulatorProcess, receiver: Receiver
) -> None:
    till, asked = Till(simulator.url), Asked("INTERRUPTED-overdue")
    till.pay(asked)

    simulator.kill()
    simulator.start()

    assert status_word(till.status(asked)) == "InProgress"
    eventually(lambda: len(receiver.responses(asked)) == 1)
    assert len(simulator.ledger("prompt")) == len(simulator.ledger("charge")) == 1


def test_a_request_under_way_at_the_kill_arrives_later(simulator: SimulatorProcess, receiver: Receiver) -> None:
    till, asked = Till(simulator.url), Asked("TRAVELLING-starts-late")
    till.pay(asked)

    simulator.kill()
    simulator.start()

    assert status_word(till.status(asked)) == "NotFound"
    eventually(lambda: len(receiver.responses(asked)) == 1)


def test_what_was_forgotten_stays_forgotten(simulator: SimulatorProcess) -> None:
    till, asked, after = Till(simulator.url), Asked("GONE-forgets"), Asked("LATER-approve")
    till.pay(asked)

    simulator.kill()
    simulator.start()

    assert status_word(till.status(asked)) == "NotFound"
    till.pay(after, "/sync")
    assert simulator.ledger("prompt", service_id=asked.service) == []


def test_status_checks_are_counted_across_a_kill(simulator: SimulatorProcess) -> None:
    till, asked = Till(simulator.url), Asked("COUNTED-unreachable")
    till.pay(asked)
    simulator.wait_for(lambda _: bool(simulator.ledger("charge")))
    first = [status_word(till.status(asked)) for _ in range(2)]

    simulator.kill()
    simulator.start()

    then = [status_word(till.status(asked)) for _ in range(2)]
    assert first + then == ["UnreachableHost"] * 3 + ["Repeated Success"]


def test_every_acknowledged_request_is_on_disk_at_a_kill(simulator: SimulatorProcess) -> None:
    till = Till(simulator.url)
    payments = [Asked(f"DISK-{number}") for number in range(20)]
    for asked in payments:
        till.pay(asked)

    simulator.kill()

    on_disk = {line["service_id"] for line in simulator.ledger("request")}
    assert on_disk == {asked.service for asked in payments}


def test_a_line_torn_by_a_crash_is_cut_off_and_the_numbers_go_on(simulator: SimulatorProcess) -> None:
    till = Till(simulator.url)
    till.pay(Asked("WHOLE-approve"), "/sync")
    simulator.kill()
    whole = simulator.ledger()
    with simulator.ledger_path.open("ab") as file:
        file.write(b'{"n":5,"at":"2026')

    simulator.start()
    till.pay(Asked("NEXT-approve"), "/sync")

    lines = simulator.ledger()
    assert lines[: len(whole)] == whole
    assert [line["n"] for line in lines] == list(range(1, len(lines) + 1))


def test_an_address_that_is_taken_is_said_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status = main(["--listen", address, "--ledger", str(tmp_path / "ledger.jsonl"), "--any-terminal"])

    assert status == 1
    assert capsys.readouterr().err == f"simulate: something listens on {address} already; choose another --listen\n"
