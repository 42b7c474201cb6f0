"""A fake terminal: one dialogue at a time, and a memory of what it was asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from orchestrator.simulator.payment import Header, Payment
from orchestrator.simulator.reversal import Reversal


@dataclass(eq=False)
class Terminal:
    """One POIID."""

    poi_id: str
    running: Payment | None = None
    seen: dict[tuple[str, str], Payment] = field(default_factory=dict)
    """Every payment request that was taken, by (SaleID, ServiceID), also those still under way or forgotten."""
    reversals: dict[tuple[str, str], Reversal | None] = field(default_factory=dict)
    """Every reversal request that was taken, by (SaleID, ServiceID); None until it is answered."""
    last: Header | None = None
    """The latest payment request that the terminal itself knows of."""
    tenders: int = 0
    offline_until: float = 0.0
    """Loop time until which it is out of reach."""
    next_began: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced, each time a payment begins."""

    def learn(self, payment: Payment) -> None:
        """The request arrived at the terminal itself."""
        payment.known = True
        self.last = payment.asked.header

    def begin(self, payment: Payment) -> None:
        """The dialogue starts: the prompt is on the screen."""
        self.learn(payment)
        self.running = payment
        began, self.next_began = self.next_began, asyncio.Event()
        began.set()

    def find(self, sale_id: str, service_id: str) -> Payment | None:
        """The payment with these identifiers, whether or not the terminal knows of it."""
        return self.seen.get((sale_id, service_id))

    def number_tender(self) -> int:
        """The next tender's number."""
        self.tenders += 1
        return self.tenders
