"""What happens at the terminals: a payment arrives, the shopper pays or not, the result is pushed.

Everything that matters is in the ledger, on disk, before it can be seen from outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace

from orchestrator.simulator import messages, verdicts
from orchestrator.simulator.books import Books
from orchestrator.simulator.choice import played, verdict
from orchestrator.simulator.delivery import Delivery
from orchestrator.simulator.encoding import AcquirerData, Json, to_form
from orchestrator.simulator.ledger import Ledger
from orchestrator.simulator.options import Options
from orchestrator.simulator.payment import Asked, Ending, Payment, Verdict, end, psp_reference, to_fields
from orchestrator.simulator.scenarios import LONGEST_DIALOGUE_S, Scenario
from orchestrator.simulator.terminal import Terminal

_HELD_UNTIL_NEXT_S = 20.0  # how long a result waits for a next payment that may never come
_SOMEBODY_ELSES = "oth0000009"  # the ServiceID of a dialogue that is not ours


@dataclass(eq=False)
class Dialogues:
    """Runs payments at terminals, each in a task of its own."""

    options: Options
    ledger: Ledger
    delivery: Delivery
    state: Callable[[str], str]
    """What the terminal of this POIID is occupied with, of `faults.STATES`; empty for nothing."""
    books: Books

    async def wait(self, protocol_s: float) -> None:
        """Wait for so many protocol seconds, divided by the time scale."""
        await asyncio.sleep(protocol_s / self.options.time_scale)

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Run this beside everything else."""
        self.books.tasks.spawn(work)

    def take(self, terminal: Terminal, payment: Payment) -> None:
        """The request is with the platform: remember it, and let the payment happen."""
        terminal.seen[payment.asked.header.key] = payment
        scenario = played(payment.scenario)
        if not scenario.starts_after_s:
            self._arrive(terminal, payment, scenario)
        else:
            self.spawn(self._travel(terminal, payment, scenario))

    def resume(self, terminal: Terminal, payment: Payment) -> None:
        """After a restart: a payment that had begun goes on, one that was under way arrives."""
        if payment.known and terminal.running is None:
            terminal.begin(payment)
            self.spawn(self._pay(terminal, payment, played(payment.scenario)))
        else:
            self.spawn(self._travel(terminal, payment, played(payment.scenario)))

    async def _travel(self, terminal: Terminal, payment: Payment, scenario: Scenario) -> None:
        await self.wait(scenario.starts_after_s)
        self._arrive(terminal, payment, scenario)

    def _arrive(self, terminal: Terminal, payment: Payment, scenario: Scenario) -> None:
        """At the terminal: forgotten, refused at once, or a dialogue begins."""
        if scenario.forgets:
            self.ledger.write("no_charge", **payment.ledger_fields(), cause="forgotten")
            self.spawn(self._answer_held(payment, scenario))
        elif payment.asked.payment_type not in ("Normal", "Refund"):
            self._refuse(terminal, payment, verdicts.NOT_OFFERED, "")
        elif scenario.busy_elsewhere:
            self._refuse(terminal, payment, verdict(payment.scenario, payment.asked), _SOMEBODY_ELSES)
        elif state := self.state(terminal.poi_id):
            self._refuse(terminal, payment, verdicts.BY_STATE[state], _SOMEBODY_ELSES if state == "busy" else "")
        elif terminal.running is not None:
            self._refuse(terminal, payment, verdicts.BUSY, terminal.running.asked.service_id)
        else:
            terminal.begin(payment)
            self.ledger.write("prompt", **payment.ledger_fields())
            self.spawn(self._pay(terminal, payment, scenario))

    def _refuse(self, terminal: Terminal, payment: Payment, refusal: Verdict, blocker: str) -> None:
        terminal.learn(payment)
        if blocker:
            self.ledger.write("busy", **payment.ledger_fields(), blocker=blocker)
        self._end(terminal, payment, refusal, blocker if not refusal.bare else "")
        self.spawn(self._push(terminal, payment, played(payment.scenario)))

    async def _pay(self, terminal: Terminal, payment: Payment, scenario: Scenario) -> None:
        """The dialogue, from prompt to result."""
        await self.ledger.durable()
        self._show(payment, "TENDER_CREATED")
        if scenario.forges:
            self.spawn(self._forge(payment))
        aborted = await self._shop(payment, scenario)
        if not aborted:
            self._show(payment, *scenario.shows)
        self._end(terminal, payment, verdicts.ABORTED if aborted else verdict(payment.scenario, payment.asked))
        terminal.running = None
        if scenario.offline_s:
            terminal.offline_until = asyncio.get_running_loop().time() + scenario.offline_s / self.options.time_scale
        await self._push(terminal, payment, scenario)

    async def _shop(self, payment: Payment, scenario: Scenario) -> bool:
        """Wait for the shopper, and for status checks where the scenario does; True when an abort came first."""
        loop = asyncio.get_running_loop()
        paid_at = loop.time() + self._shopper_s(payment, scenario) / self.options.time_scale
        given_up_at = paid_at + LONGEST_DIALOGUE_S / self.options.time_scale
        while not payment.abort_asked:
            checked = payment.status_checks >= scenario.waits_for_checks
            until = paid_at if checked else given_up_at
            if loop.time() >= until:
                return False
            payment.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await payment.changed.wait()
        return True

    def _shopper_s(self, payment: Payment, scenario: Scenario) -> float:
        if scenario.shopper_from_window_s is not None:
            return payment.window_s + scenario.shopper_from_window_s
        return self.options.shopper_time_s if scenario.shopper_s is None else scenario.shopper_s

    def _end(self, terminal: Terminal, payment: Payment, as_: Verdict, blocker: str = "") -> None:
        ending = end(payment.asked, as_, seed=self.options.seed, counter=terminal.number_tender(), blocker=blocker)
        payment.ending = ending
        kind = ("charge" if payment.asked.payment_type == "Normal" else "refund_requested") if ending.is_charge else ""
        amounts: Json = {"amount_minor": ending.authorised_minor, "currency": payment.asked.currency}
        fields = payment.ledger_fields() | (amounts if kind else {}) | to_fields(ending)
        self.ledger.write(kind or "no_charge", **fields)
        self.books.payment_ended(payment)

    async def _push(self, terminal: Terminal, payment: Payment, scenario: Scenario) -> None:
        """Answer: on the held-open connection, or by notifications at the scenario's times."""
        next_began = terminal.next_began
        await self.ledger.durable()
        if scenario.held_until_next:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HELD_UNTIL_NEXT_S / self.options.time_scale):
                    await next_began.wait()
        if payment.held:
            await self._answer_held(payment, scenario)
            return
        for pause_s in scenario.notify_after_s:
            self.spawn(self._push_later(payment, pause_s))
        if scenario.notify_after_s:
            self._show(payment, "TENDER_FINAL")
        if scenario.display_after_result:
            await self.wait(1)
            self.spawn(self._display(payment, "WAIT_FOR_PIN"))

    async def _push_later(self, payment: Payment, pause_s: float) -> None:
        await self.wait(pause_s)
        await self.delivery.response(self.answer(payment), what="PaymentResponse", **self._about(payment))

    async def _answer_held(self, payment: Payment, scenario: Scenario) -> None:
        """The first push is the answer; with none, the connection is held to the end of the window and dropped."""
        future = payment.answer
        if future is None:
            return
        if not scenario.cuts:
            await self.wait(scenario.notify_after_s[0] if scenario.notify_after_s else payment.window_s)
        body = self.answer(payment) if scenario.notify_after_s else None
        if not future.done():
            future.set_result(body)

    def answer(self, payment: Payment) -> Json:
        """The payment's answer, once it has ended."""
        return messages.payment_response(payment.asked, self.ending(payment), self.options.merchant_account)

    @staticmethod
    def ending(payment: Payment) -> Ending:
        """How it ended; a payment without an ending must not be asked for one."""
        if payment.ending is None:
            message = "the payment has not ended"
            raise RuntimeError(message)
        return payment.ending

    @staticmethod
    def _about(payment: Payment) -> Json:
        ending = payment.ending
        said = {"result": ending.result, "error_condition": ending.error_condition} if ending else {}
        return payment.ledger_fields() | said

    async def _forge(self, payment: Payment) -> None:
        """A success that nobody approved: right identifiers, wrong tag, and a reference of its own."""
        asked = payment.asked
        body = self.forgery(replace(asked, acquirer_data=_with_wrong_metadata(asked.acquirer)), asked.service_id)
        self.ledger.write("forged", **payment.ledger_fields(), psp_reference=_forged_reference(asked))
        await self.ledger.durable()
        await self.delivery.event(body, what="forged", **payment.ledger_fields(), result="Success", error_condition="")

    def forgery(self, asked: Asked, service_id: str) -> Json:
        """The approval of a payment like this one, under this ServiceID, that never was."""
        ending = end(asked, verdicts.APPROVED, seed=self.options.seed, counter=0)
        ending = replace(ending, psp_reference=_forged_reference(asked))
        return messages.payment_response(replace(asked, service_id=service_id), ending, self.options.merchant_account)

    async def report(self, poi_id: str, event: str, details: str = "") -> None:
        """Push an event of this terminal."""
        await self.delivery.event(messages.event(poi_id, event, details), what=f"event {event}", poi_id=poi_id)

    def _show(self, payment: Payment, *events: str) -> None:
        if self.options.display and events:
            self.spawn(self._display(payment, *events))

    async def _display(self, payment: Payment, *events: str) -> None:
        """Push these steps of the payment, one after the other."""
        tender = payment.ending.tender_reference if payment.ending else "BV5k000000000000000"
        for event in events:
            body = messages.display(payment.asked.header, tender, event)
            await self.delivery.event(body, what=f"display {event}", **payment.ledger_fields())


def _forged_reference(asked: Asked) -> str:
    return psp_reference(f"forged:{asked.reference}")


def _with_wrong_metadata(sent: AcquirerData) -> str:
    """SaleToAcquirerData whose metadata values are reversed, and differ from what was sent in any case."""
    return to_form({key: f"{value[::-1]}0" for key, value in sent.metadata.items()})
