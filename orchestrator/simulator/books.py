"""The platform's own books: what became of each charge and refund, and the webhooks that tell of it.

What happens in the books is in the ledger, on disk, before a webhook says so; a misbehaving webhook changes what is
told, never what is true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from orchestrator.simulator.aftermath import (
    AN_ORDINARY_REFUND,
    AUTHORISED,
    CANCEL_OR_REFUND,
    REFUNDS,
    REFUSED,
    Fact,
    RefundScenario,
    Signing,
    WebhookBehaviour,
)
from orchestrator.simulator.choice import Choice, played
from orchestrator.simulator.encoding import Json, now, timestamp
from orchestrator.simulator.ledger import Ledger
from orchestrator.simulator.options import Options
from orchestrator.simulator.payment import Asked, Ending, Payment, psp_reference
from orchestrator.simulator.reversal import Reversal, ReversalAsked
from orchestrator.simulator.sender import MAX_ATTEMPTS, Sender
from orchestrator.simulator.tasks import Tasks
from orchestrator.simulator.terminal import Terminal
from orchestrator.simulator.webhooks import Item

Key = tuple[str, str, str]  # event code, PSP reference, PSP reference of the payment
_NO_BALANCE = "Insufficient balance on payment"
_CARD = {"authCode": "123456", "cardSummary": "9999", "expiryDate": "2/2028", "posEntryMode": "CLESS_CHIP"}


@dataclass(eq=False, slots=True)
class Sale:
    """An approved payment. `refunded_minor` counts what was paid back and not undone."""

    asked: Asked
    ending: Ending
    refunded_minor: int = 0
    cancelled: bool = False

    @property
    def left_minor(self) -> int:
        """What can still be refunded, in minor units."""
        return 0 if self.cancelled else self.ending.authorised_minor - self.refunded_minor


@dataclass(frozen=True, slots=True)
class Subject:
    """What facts are about: a payment, a refund of one, or an unreferenced refund."""

    reference: str
    psp_reference: str
    amount_minor: int
    currency: str
    additional: dict[str, str]
    sale: Sale | None = None
    is_refund: bool = False
    refund_of: str = ""
    """PSP reference of the payment that is refunded."""
    reason: str = ""
    at: str = ""
    """When it ended at the terminal."""


@dataclass(eq=False)
class Books:
    """Follows every payment and refund after the terminal's part in it has ended."""

    options: Options
    ledger: Ledger
    choice: Choice
    tasks: Tasks
    wait: Callable[[float], Awaitable[None]]
    sender: Sender | None = None
    """None: nobody is told."""
    sales: dict[str, Sale] = field(default_factory=dict)
    """Approved payments by POITransactionID."""
    subjects: dict[str, Subject] = field(default_factory=dict)
    """Whatever has a PSP reference, by the reference of whoever asked; the latest."""
    happened: dict[Key, str] = field(default_factory=dict)
    """The outcome, empty for none, of what the ledger holds already."""
    told: set[Key] = field(default_factory=set)
    """What was accepted, or given up."""

    def resume(self, lines: Iterable[Json], terminals: Iterable[Terminal]) -> None:
        """After a restart: what has happened and was told stays so, and everything else goes on."""
        for line in lines:
            if line["kind"] == "webhook":
                if line["status"] // 100 == 2 or line["error"] == "lost" or line["attempt"] == MAX_ATTEMPTS:
                    self.told.add((line["event_code"], line["psp_reference"], line["original_psp"]))
            elif "effective_at" in line:
                key = (line["event_code"], line["psp_reference"], line["original_psp"])
                self.happened[key] = line.get("outcome", "")
        for terminal in terminals:
            for payment in terminal.seen.values():
                self.payment_ended(payment)
        for terminal in terminals:
            for reversal in terminal.reversals.values():
                if reversal is not None:
                    self.reversal_answered(reversal)

    # -- payments --

    def payment_ended(self, payment: Payment) -> None:
        """Book a payment, or an unreferenced refund, that has just ended; what follows happens in its own time."""
        if payment.ending is None or not payment.ending.psp_reference:
            return
        asked, ending = payment.asked, payment.ending
        behaviour = self.choice.behaviour(asked.reference)
        subject = self._of_payment(asked, ending)
        self.subjects[asked.reference] = subject
        if asked.payment_type == "Refund":
            if ending.is_charge:
                self._follow_later(subject, _unreferenced(self.choice.refund(asked.reference)), behaviour)
            return
        if subject.sale is not None:
            self.sales[f"{ending.tender_reference}.{ending.psp_reference}"] = subject.sale
        own = played(payment.scenario).facts or ((AUTHORISED if ending.is_charge else REFUSED),)
        then = behaviour.then if ending.is_charge else ()
        self._follow_later(subject, (*behaviour.before, *own, *then), behaviour)

    def _of_payment(self, asked: Asked, ending: Ending) -> Subject:
        additional = {"tenderReference": ending.tender_reference, "terminalId": asked.poi_id, "store": "ExampleStore"}
        if ending.is_charge:
            additional |= _CARD
        if ending.tip_minor:
            additional["extraCostsValueGratuity"] = str(ending.tip_minor)
        is_sale = ending.is_charge and asked.payment_type == "Normal"
        return Subject(
            asked.reference,
            ending.psp_reference,
            ending.authorised_minor if ending.is_charge else asked.amount_minor,
            asked.currency,
            additional | asked.acquirer.metadata,
            sale=Sale(asked, ending) if is_sale else None,
            is_refund=asked.payment_type == "Refund",
            reason="" if ending.is_charge else ending.refusal_reason,
            at=ending.ended_at,
        )

    # -- refunds --

    def answer_reversal(self, asked: ReversalAsked, scenario: str, *, busy: bool) -> Reversal:
        """Decide what a ReversalRequest is answered, and write it down. The refund itself follows in its own time."""
        sale = self.sales.get(asked.original_id)
        known = sale is not None and sale.ending.ended_at == asked.original_at
        planned = REFUNDS[scenario].error_condition if scenario else ""
        condition = planned or _objection(asked, sale if known else None, busy=busy)
        amount_minor = asked.amount_minor
        if amount_minor is None:
            amount_minor = sale.ending.authorised_minor if sale else 0
        reversal = Reversal(
            asked,
            scenario,
            condition,
            psp_reference=psp_reference(
                f"{self.options.seed}:reversal:{asked.poi_id}:{asked.sale_id}:{asked.service_id}"
            ),
            original_psp=asked.original_id.rpartition(".")[2],
            original_reference=sale.asked.reference if sale else "",
            amount_minor=amount_minor,
            currency=sale.asked.currency if sale else asked.currency,
            answered_at=timestamp(now()),
        )
        kind = "refund_refused" if condition else "refund_requested"
        self.ledger.write(kind, **reversal.ledger_fields())
        self.reversal_answered(reversal)
        return reversal

    def reversal_answered(self, reversal: Reversal) -> None:
        """Follow a refund that was received."""
        if reversal.error_condition:
            return
        asked = reversal.asked
        subject = Subject(
            asked.reference or reversal.original_reference,
            reversal.psp_reference,
            reversal.amount_minor,
            reversal.currency,
            {},
            sale=self.sales.get(asked.original_id),
            is_refund=True,
            refund_of=reversal.original_psp,
            at=reversal.answered_at,
        )
        self.subjects[subject.reference] = subject
        facts = _refund(reversal.scenario).facts
        self._follow_later(subject, facts, self.choice.behaviour(asked.reference))

    # -- what follows --

    def _follow_later(self, subject: Subject, facts: Sequence[Fact], behaviour: WebhookBehaviour) -> None:
        """Let these facts happen, unless nobody would notice."""
        if self.sender is not None or any(fact.truth for fact in facts):
            self.tasks.spawn(self._follow(subject, facts, behaviour))

    async def _follow(self, subject: Subject, facts: Sequence[Fact], behaviour: WebhookBehaviour) -> None:
        passed_s, held = 0.0, []
        before: asyncio.Task[None] | None = None
        for fact in facts:
            if _key(self._item(fact, subject)) not in self.happened:
                await self.wait(max(0.0, fact.after_s - passed_s))
                passed_s = max(passed_s, fact.after_s)
            happened = self._happen(fact, subject)
            await self.ledger.durable()
            item = self._item(happened, subject)
            if behaviour.backwards or behaviour.together:
                held.append(item)
            else:
                before = self.tasks.spawn(self._tell([item], behaviour, before))
            if happened.outcome == "declined":
                break
        if behaviour.together:
            await self._tell(held, behaviour)
        else:
            for item in reversed(held):
                await self._tell([item], behaviour)

    def _happen(self, fact: Fact, subject: Subject) -> Fact:
        """Write the fact down once, as it really turns out: there may be too little left to refund."""
        item = self._item(fact, subject)
        key, sale = _key(item), subject.sale
        if not fact.truth:
            return fact
        too_much = fact.outcome == "done" and sale is not None and subject.amount_minor > sale.left_minor
        if self.happened.get(key, "declined" if too_much else "") == "declined" != fact.outcome:
            fact = replace(fact, outcome="declined", success=False, reason=_NO_BALANCE)
        if key not in self.happened:
            self._write(fact, subject, item)
            self.happened[key] = fact.outcome
        if sale is not None:
            apply(fact.truth, fact.outcome, subject.amount_minor, sale)
        return fact

    def _write(self, fact: Fact, subject: Subject, item: Item) -> None:
        fields = {"event_code": fact.code, "psp_reference": item.psp_reference, "original_psp": item.original_reference}
        amount = {"amount_minor": subject.amount_minor, "currency": subject.currency}
        outcome = {"outcome": fact.outcome} if fact.outcome else {}
        about = {"reference": subject.reference, "effective_at": timestamp(item.at)}
        self.ledger.write(fact.truth, **about, **fields, **amount, **outcome)

    def _item(self, fact: Fact, subject: Subject) -> Item:
        own = fact.code == "AUTHORISATION" or subject.is_refund
        psp, original = subject.psp_reference, subject.refund_of
        if not own:
            psp, original = "" if fact.code == "EXPIRE" else psp_reference(f"{fact.code}:{psp}"), psp
        elif fact.truth == "earlier_try":
            psp = psp_reference(f"earlier:{psp}")
        # In unscaled time, so that facts of a scaled run keep the order and the distance of their dates.
        after_s = 0.0 if fact.code == "AUTHORISATION" else fact.after_s
        additional = dict(subject.additional) if own else {}
        if fact.code == CANCEL_OR_REFUND:
            additional["modification.action"] = fact.action
        approved = "123456:9999:02/2028" if fact.code == "AUTHORISATION" and fact.success else ""
        return Item(
            fact.code,
            psp,
            subject.reference,
            subject.amount_minor,
            subject.currency,
            fact.success,
            datetime.fromisoformat(subject.at) + timedelta(seconds=after_s),
            self.options.merchant_account,
            original_reference=original,
            reason=approved or fact.reason or subject.reason,
            additional=additional,
        )

    # -- telling --

    def announce_report(self, name: str, url: str) -> None:
        """Tell that a report can be fetched."""
        if self.sender is not None:
            item = Item("REPORT_AVAILABLE", name, "", 0, "EUR", True, now(), self.options.merchant_account, reason=url)
            self.tasks.spawn(self.sender.deliver([item]))

    async def _tell(
        self, items: Sequence[Item], behaviour: WebhookBehaviour, before: asyncio.Task[None] | None = None
    ) -> None:
        """Send the items as the behaviour says, after what else is told of the same payment or refund."""
        if before is not None:
            await asyncio.wait([before])
        sender = self.sender
        untold = [item for item in items if _key(item) not in self.told]
        if sender is None or not untold or not behaviour.copies:
            return
        await self.wait(behaviour.delay_s)
        if behaviour.forges:
            await sender.once([_opposite(item) for item in untold], Signing.WRONG_KEY)
        for _ in range(behaviour.copies):
            await sender.deliver([_distorted(item, behaviour) for item in untold], behaviour.signing)
        if behaviour.orphan:
            for orphan in _orphans(untold):
                await sender.deliver([orphan])


def _key(item: Item) -> Key:
    return item.code, item.psp_reference, item.original_reference


def _refund(scenario: str) -> RefundScenario:
    return REFUNDS[scenario] if scenario else AN_ORDINARY_REFUND


def _unreferenced(scenario: str) -> tuple[Fact, ...]:
    """The facts of an unreferenced refund: told under a code of its own, with nothing to go back to."""
    facts = _refund(scenario).facts
    first = [replace(fact, code="REFUND_WITH_DATA", action="") for fact in facts[:1]]
    return (*first, *facts[1:])


def _objection(asked: ReversalAsked, sale: Sale | None, *, busy: bool) -> str:
    """The error condition of a request that cannot be received; what is left is looked at later, by the books."""
    if busy:
        return "Busy"
    if sale is None:
        return "NotFound"
    return "NotAllowed" if asked.currency not in ("", sale.asked.currency) else ""


def apply(truth: str, outcome: str, amount_minor: int, sale: Sale) -> None:
    """What a fact about a sale changes in what is left of it."""
    if truth == "cancellation" or outcome == "cancelled":
        sale.cancelled = True
    elif outcome == "done":
        sale.refunded_minor += amount_minor
    elif outcome in ("failed", "reversed"):
        sale.refunded_minor -= amount_minor


def _opposite(item: Item) -> Item:
    return replace(item, success=not item.success, reason="" if not item.success else "05 Do not honor")


def _distorted(item: Item, behaviour: WebhookBehaviour) -> Item:
    """The item with what the behaviour gets wrong."""
    if behaviour.contradicts:
        item = _opposite(item)
    if behaviour.other_currency:
        item = replace(item, currency="USD" if item.currency != "USD" else "EUR")
    if behaviour.other_merchant:
        item = replace(item, merchant="SomebodyElsesMerchant")
    return replace(item, amount_minor=item.amount_minor + behaviour.more_minor)


def _orphans(items: Sequence[Item]) -> Iterator[Item]:
    for item in items:
        if item.code == "AUTHORISATION":
            reference, psp = f"{item.reference}-unknown", psp_reference(f"orphan:{item.psp_reference}")
            where = {"terminalId": item.additional.get("terminalId", "")}
            yield replace(item, reference=reference, psp_reference=psp, success=True, additional=where)
