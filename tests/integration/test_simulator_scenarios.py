"""Every scenario does in the ledger and on the wire what its line says."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from orchestrator.simulator import verdicts
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.simulator.scenarios import SCENARIOS, Flaw
from tests.integration.simulator_support import Answer, Asked, Receiver, Till, eventually, status_word

_SCALE = 200  # the answer window of 150 s becomes 0.75 s


@dataclass(frozen=True)
class Expected:
    """What a payment of EUR 10.99 in a scenario must look like from outside."""

    post: str = "ok"
    prompted: bool = True
    charged_minor: int = 1099
    """0: not charged."""
    pushed: tuple[str, ...] = ("Success",)
    first_check: str = ""
    """What a status check right after the POST is told, where the scenario is about that."""
    checks: tuple[str, ...] = ("Repeated Success",)
    """What status checks are told once the payment has ended and everything was pushed."""
    ends: bool = True


_NOT_TAKEN = Expected(prompted=False, charged_minor=0, pushed=(), checks=("NotFound",), ends=False)
EXPECTED = {
    "approve": Expected(),
    "decline": Expected(charged_minor=0, pushed=("Failure Refusal",), checks=("Repeated Failure Refusal",)),
    "cancel": Expected(charged_minor=0, pushed=("Failure Cancel",), checks=("Repeated Failure Cancel",)),
    "wrong-pin": Expected(charged_minor=0, pushed=("Failure WrongPIN",), checks=("Repeated Failure WrongPIN",)),
    "device-out": Expected(charged_minor=0, pushed=("Failure DeviceOut",), checks=("Repeated Failure DeviceOut",)),
    "partial": Expected(charged_minor=659, pushed=("Partial",), checks=("Repeated Partial",)),
    "tip": Expected(charged_minor=1318),
    "cashback": Expected(charged_minor=1648),
    "surcharge": Expected(charged_minor=1120),
    "dcc": Expected(),
    "signature-paper": Expected(),
    "signature-screen": Expected(),
    "not-offered": Expected(charged_minor=0, pushed=("Failure NotAllowed",), checks=("Repeated Failure NotAllowed",)),
    "offline": Expected(),
    "offline-refused": Expected(),
    "chip-refuses": Expected(charged_minor=0, pushed=("Failure Refusal",), checks=("Repeated Failure Refusal",)),
    "displays": Expected(),
    "slow": Expected(first_check="InProgress"),
    "silent": Expected(pushed=()),
    "late": Expected(),
    "overdue": Expected(first_check="InProgress"),
    "twice": Expected(pushed=("Success",) * 2),
    "duplicate-notify": Expected(pushed=("Success",) * 3),
    "disorder": Expected(),
    "dies": Expected(pushed=(), checks=("UnreachableHost", "UnreachableHost", "Repeated Success")),
    "forgets": Expected(prompted=False, charged_minor=0, pushed=(), checks=("NotFound",) * 2),
    "withheld": Expected(pushed=(), checks=("UnreachableHost",) * 6),
    "busy": Expected(prompted=False, charged_minor=0, pushed=("Failure Busy",), checks=("Repeated Failure Busy",)),
    "busy-bare": Expected(prompted=False, charged_minor=0, pushed=("Failure Busy",), checks=("Repeated Failure Busy",)),
    "refuses-after": Expected(post="500"),
    "hangup-before": replace(_NOT_TAKEN, post="hang-up"),
    "hangup-after": Expected(post="hang-up"),
    "empty": Expected(post="empty"),
    "html": Expected(post="html"),
    "truncated": Expected(post="cut off"),
    "reject": Expected(post="message=Did+not+receive+a+response+from+the+POI."),
    "reject-not-connected": replace(
        _NOT_TAKEN,
        post="message=Failed+to+send+message+to+POI.+There+may+be+a+network+issue+"
        "or+it+may+not+have+the+websocket+connected.",
    ),
    "in-progress": Expected(pushed=(), first_check="InProgress"),
    "notfound-late": Expected(first_check="NotFound"),
    "starts-late": Expected(first_check="NotFound"),
    "starts-very-late": Expected(first_check="NotFound"),
    "unreachable": Expected(pushed=(), checks=("UnreachableHost",) * 3 + ("Repeated Success",)),
    "forged": Expected(charged_minor=0, pushed=("Success", "Failure Refusal"), checks=("Repeated Failure Refusal",)),
    "abortable": Expected(
        charged_minor=0, pushed=("Failure Cancel",), first_check="InProgress", checks=("Repeated Failure Cancel",)
    ),
    "timeout": Expected(
        charged_minor=0,
        pushed=("Failure Communication timeout",),
        first_check="InProgress",
        checks=("Repeated Failure Communication timeout",),
    ),
    "cut-after-approval": Expected(pushed=()),
}
# Flaws of sealed answers are told apart in their own test; a clear answer has none.
_DECLINED = Expected(charged_minor=0, pushed=("Failure Refusal",), checks=("Repeated Failure Refusal",))
EXPECTED |= {
    name: Expected() if scenario.verdict is verdicts.APPROVED else _DECLINED
    for name, scenario in SCENARIOS.items()
    if scenario.flaw is not Flaw.NONE
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[SimulatorProcess]:
    arguments = ["--any-terminal", "--time-scale", str(_SCALE), "--notify", receiver.url]
    ledger: Path = tmp_path_factory.mktemp("simulator") / "ledger.jsonl"
    with SimulatorProcess(ledger, arguments) as simulator:
        yield simulator


@pytest.fixture
def unhurried(tmp_path: Path, receiver: Receiver) -> Iterator[SimulatorProcess]:
    """For what must happen while something short lasts: 20 s become a whole second."""
    arguments = ["--any-terminal", "--time-scale", "20", "--notify", receiver.url]
    with SimulatorProcess(tmp_path / "ledger.jsonl", arguments) as simulator:
        yield simulator


def test_every_scenario_is_claimed_here() -> None:
    assert set(EXPECTED) == set(SCENARIOS)


def _kind(till: Till, asked: Asked) -> str:
    """How the POST was answered, in a word, or a Reject event's details."""
    try:
        answer: Answer = till.pay(asked)
    except http.client.RemoteDisconnected:
        return "hang-up"
    except http.client.IncompleteRead:
        return "cut off"
    if answer.status != 200:
        return str(answer.status)
    if answer.content_type == "text/html":
        return "html"
    if not answer.text or answer.text == "ok":
        return answer.text or "empty"
    return str(answer.json()["SaleToPOIRequest"]["EventNotification"]["EventDetails"])


def _result(response: dict[str, dict[str, str]]) -> str:
    said = response["Response"]
    return f"{said['Result']} {said.get('ErrorCondition', '')}".strip()


def _push_another(till: Till, receiver: Receiver) -> None:
    """A whole payment elsewhere: had there been one more push before it, it would have come by now."""
    another = Asked("BARRIER-approve")
    till.pay(another)
    eventually(lambda: len(receiver.responses(another)) == 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_does_what_its_line_says(name: str, simulator: SimulatorProcess, receiver: Receiver) -> None:
    expected, till, asked = EXPECTED[name], Till(simulator.url), Asked(f"SALE-{name}")

    assert _kind(till, asked) == expected.post
    if expected.first_check:
        assert status_word(till.status(asked)) == expected.first_check
    if name == "in-progress":
        for _ in range(2):
            assert status_word(till.status(asked)) == "InProgress"
    ours = {"service_id": asked.service}
    if expected.ends:
        simulator.wait_for(lambda _: bool(simulator.ledger("charge", **ours) + simulator.ledger("no_charge", **ours)))
    eventually(lambda: len(receiver.responses(asked)) >= len(expected.pushed))
    _push_another(till, receiver)
    if name == "dies":
        eventually(lambda: status_word(till.status(asked)) == "UnreachableHost")
        expected_checks = expected.checks[1:]
    else:
        expected_checks = expected.checks

    assert [status_word(till.status(asked)) for _ in expected_checks] == list(expected_checks)
    assert sorted(map(_result, receiver.responses(asked))) == sorted(expected.pushed)
    charges = simulator.ledger("charge", **ours)
    assert [line["amount_minor"] for line in charges] == ([expected.charged_minor] if expected.charged_minor else [])
    assert len(simulator.ledger("prompt", **ours)) == expected.prompted
    [request] = simulator.ledger("request", **ours)
    assert (request["taken"], request["scenario"]) == (SCENARIOS[name].takes, name)


def test_a_late_answer_comes_after_the_window(simulator: SimulatorProcess) -> None:
    asked = Asked("ANOTHER-late")
    Till(simulator.url).pay(asked)

    pushed = {"kind": "notification", "service_id": asked.service}
    lines = simulator.wait_for(lambda lines: any(pushed.items() <= line.items() for line in lines))

    [request, prompt, charge, notification] = [line for line in lines if line.get("service_id") == asked.service]
    assert [prompt["kind"], charge["kind"]] == ["prompt", "charge"]
    assert _seconds(request["at"], notification["at"]) >= 150 / _SCALE


def test_a_disordered_answer_comes_after_the_next_payment_began(
    unhurried: SimulatorProcess, receiver: Receiver
) -> None:
    simulator = unhurried
    first, second = Asked("FIRST-disorder", poi_id="P400-1"), Asked("SECOND-approve", poi_id="P400-1")
    till = Till(simulator.url)
    till.pay(first)
    simulator.wait_for(lambda _: bool(simulator.ledger("charge", service_id=first.service)))
    till.pay(second)

    eventually(lambda: len(receiver.responses(first)) == 1 and receiver.displays(first) == ["WAIT_FOR_PIN"])

    pushed = {"kind": "notification", "what": "PaymentResponse", "service_id": first.service}
    simulator.wait_for(lambda lines: any(pushed.items() <= line.items() for line in lines))
    told = [line for line in simulator.ledger() if pushed.items() <= line.items()]
    [prompt] = simulator.ledger("prompt", service_id=second.service)
    assert told[0]["n"] > prompt["n"]


def test_a_forged_success_has_the_right_ids_and_the_wrong_tag(simulator: SimulatorProcess, receiver: Receiver) -> None:
    asked = Asked("TAGGED-forged", acquirer_data="metadata.counterfoil_tag=0123456789abcdef")

    Till(simulator.url).pay(asked)
    eventually(lambda: len(receiver.responses(asked)) == 2)

    by_result = {response["Response"]["Result"]: response for response in receiver.responses(asked)}
    forged, real = by_result["Success"], by_result["Failure"]
    assert "metadata.counterfoil_tag=" in forged["Response"]["AdditionalResponse"]
    assert "metadata.counterfoil_tag=0123456789abcdef" not in forged["Response"]["AdditionalResponse"]
    assert "metadata.counterfoil_tag=0123456789abcdef" in real["Response"]["AdditionalResponse"]
    assert forged["SaleData"]["SaleTransactionID"]["TransactionID"] == asked.reference
    assert len(simulator.ledger("forged", service_id=asked.service)) == 1


def test_an_abort_ends_a_dialogue_that_waits_for_it(simulator: SimulatorProcess, receiver: Receiver) -> None:
    till, asked = Till(simulator.url), Asked("WAITS-abortable")
    till.pay(asked)

    assert till.abort(asked).text == "ok"
    eventually(lambda: len(receiver.responses(asked)) == 1)

    assert _result(receiver.responses(asked)[0]) == "Failure Aborted"
    assert [line["effect"] for line in simulator.ledger("abort", service_id=asked.service)] == ["aborts"]


def test_an_abort_before_its_payment_or_after_its_end_is_ignored(
    simulator: SimulatorProcess, receiver: Receiver
) -> None:
    till, asked = Till(simulator.url), Asked("TOO-EARLY-approve")

    till.abort(asked)
    till.pay(asked)
    eventually(lambda: len(receiver.responses(asked)) == 1)
    till.abort(asked)

    assert _result(receiver.responses(asked)[0]) == "Success"
    assert status_word(till.status(asked)) == "Repeated Success"
    assert [line["effect"] for line in simulator.ledger("abort", service_id=asked.service)] == ["ignored", "ignored"]


def test_a_dead_terminal_takes_nobody_else_for_a_while(unhurried: SimulatorProcess) -> None:
    simulator, till = unhurried, Till(unhurried.url)
    dead, next_one = Asked("DEAD-dies", poi_id="P400-2"), Asked("NEXT-approve", poi_id="P400-2")
    till.pay(dead)
    simulator.wait_for(lambda _: bool(simulator.ledger("charge", service_id=dead.service)))

    rejected = till.pay(next_one).json()

    assert rejected["SaleToPOIRequest"]["EventNotification"]["EventToNotify"] == "Reject"
    assert simulator.ledger("request", service_id=next_one.service)[0]["taken"] is False


def _seconds(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()
