"""After a restart: what the terminals remember, rebuilt from the ledger."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from orchestrator.simulator.encoding import Json
from orchestrator.simulator.ledger import read_lines
from orchestrator.simulator.payment import Asked, Ending, Payment
from orchestrator.simulator.reversal import Reversal
from orchestrator.simulator.terminal import Terminal

_ASKED = [field.name for field in fields(Asked)]
_OF_PAYMENTS = ("prompt", "charge", "no_charge", "refund_requested", "status")
_ENDING = [field.name for field in fields(Ending)]


def rebuild(path: Path, terminals: dict[str, Terminal]) -> list[tuple[Terminal, Payment]]:
    """Fill the terminals from the ledger; returns the payments that had not ended, which are to go on."""
    forgotten: set[int] = set()
    for line in read_lines(path):
        if line["kind"] in ("refund_requested", "refund_refused") and "original_id" in line:
            reversal = Reversal.from_ledger(line)
            terminal = terminals.setdefault(line["poi_id"], Terminal(line["poi_id"]))
            terminal.reversals[reversal.asked.header.key] = reversal
            continue
        if line["kind"] == "request" and line["category"] == "Payment" and line["taken"]:
            _remember(line, terminals)
        payment = _payment_of(line, terminals)
        if payment is None:
            continue
        terminal = terminals[line["poi_id"]]
        if line["kind"] == "prompt" or "tender_reference" in line:
            terminal.learn(payment)
        if "tender_reference" in line:
            payment.ending = Ending(**{name: line[name] for name in _ENDING if name in line})
            terminal.number_tender()
        elif line.get("cause") == "forgotten":
            forgotten.add(id(payment))
        elif line["kind"] == "status" and line["answer"]:
            payment.status_checks += 1
    return [
        (terminal, payment)
        for terminal in terminals.values()
        for payment in terminal.seen.values()
        if payment.ending is None and id(payment) not in forgotten
    ]


def _remember(line: Json, terminals: dict[str, Terminal]) -> None:
    terminal = terminals.setdefault(line["poi_id"], Terminal(line["poi_id"]))
    key = (line["sale_id"], line["service_id"])
    if key not in terminal.seen:
        asked = Asked(**{name: line[name] for name in _ASKED if name in line})
        terminal.seen[key] = Payment(asked, line["scenario"], line["via"])


def _payment_of(line: Json, terminals: dict[str, Terminal]) -> Payment | None:
    terminal = terminals.get(line.get("poi_id", ""))
    if terminal is None or line["kind"] not in _OF_PAYMENTS:
        return None
    about = "about_" if line["kind"] == "status" else ""
    return terminal.find(line[f"{about}sale_id"], line[f"{about}service_id"])
