"""The one path: everything learned about a transaction enters here, and nothing else moves one.

Load, decide, write; when somebody moved the row in between, load and decide again. The write is one database
transaction: row (compare-and-set), journal line, commands. What is due at once is rung after the commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from orchestrator import tracing
from orchestrator.decide import Decision, decide
from orchestrator.errors import NotFound, StoreUnavailable
from orchestrator.evidence import Evidence, ResultReported, kind_of
from orchestrator.model import Stage
from orchestrator.policy import Policy
from orchestrator.store.batches import Batches, parameters
from orchestrator.store.database import Conflict
from orchestrator.store.races import settled
from orchestrator.store.rows import Loaded, Ring, shown_after, speaks_for_itself
from orchestrator.store.store import Store
from orchestrator.subscription import Announce, unheard
from orchestrator.terminal_api.receipts import read_receipts

log = structlog.get_logger()

Bell = Callable[[list[Ring]], None]


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records evidence. ``bell`` rings commands after the commit; its failure is nobody's: the sweep is there.

    ``announce`` is told what the caller is told, and what the books merely confirmed. ``keep_receipts`` has what a
    terminal wants printed stored with its result.
    """

    store: Store
    policy: Policy
    bell: Bell
    announce: Announce = unheard
    keep_receipts: bool = False

    def record(self, payment_id: UUID, evidence: Evidence, loaded: Loaded | None = None) -> Decision | None:
        """Record one piece of evidence about a payment; None when the journal had this very evidence already.

        ``loaded`` is the payment as it was read just now, and saves reading it once more.

        Raises:
            NotFound: there is no such payment.
            StoreUnavailable: the database did not answer; the evidence may or may not be stored.
            Defect: the table says that this cannot happen; nothing was stored.
        """
        return self._again(payment_id, evidence, None, None, loaded)

    def record_seen(self, seen: Loaded, evidence: Evidence) -> Decision:
        """Record evidence about a payment that must not have moved since somebody looked at it.

        Raises:
            ConcurrentUpdate: it has.
        """
        return self._once(seen, evidence, None, None)

    def conclude_command(self, command_id: int, loaded: Loaded, evidence: Evidence) -> Decision | None:
        """Record the evidence that a command ended with; the command is gone with it, or planned anew."""
        return self._again(loaded.transaction.id, evidence, loaded, command_id)

    def record_many(self, evidence: Mapping[UUID, Evidence]) -> int:
        """Record one piece of evidence about each of many payments; return of how many it was news.

        As ``record`` would, but in one database transaction, and unannounced: the run tells of them as a whole.
        Evidence that a journal has already is left alone, and not counted: whoever calls this reads the same books
        again. What asks for more than a row and a line, and what lost a race, is recorded on its own.

        Raises:
            StoreUnavailable: the database did not answer; some of it may be stored, and all may be recorded again.
            Defect: the table says that this cannot happen; what was recorded before it is stored.
        """
        batches = Batches(self.store.database)
        known = batches.known(evidence)
        news = {payment_id: each for payment_id, each in evidence.items() if payment_id not in known}
        together: dict[UUID, dict[str, Any]] = {}
        for loaded in batches.load(list(news)):
            said = news[loaded.transaction.id]
            decision = decide(loaded.transaction, said, loaded.read_at, self.policy)
            spelled = parameters(decision, said, loaded, self.store.subscription)
            if spelled is not None:
                together[loaded.transaction.id] = spelled
        moved = self._together(batches, together)
        log.info("decided_together", payments=len(moved), alone=len(news) - len(moved), known=len(known))
        for payment_id in news.keys() - moved:
            self.record(payment_id, news[payment_id])
        return len(news)

    @staticmethod
    def _together(batches: Batches, spelled: Mapping[UUID, Mapping[str, Any]]) -> set[UUID]:
        try:
            return batches.record(spelled.values()) if spelled else set()
        except (Conflict, StoreUnavailable):  # a deadlock too: one by one is slower, and always right
            return set()

    def _again(
        self,
        payment_id: UUID,
        evidence: Evidence,
        done: Loaded | None,
        done_id: int | None,
        fresh: Loaded | None = None,
    ) -> Decision | None:
        def once() -> Decision:
            nonlocal fresh
            loaded, fresh = fresh or self.store.load(payment_id), None
            if loaded is None:
                raise NotFound
            return self._once(loaded, evidence, done, done_id)

        return settled(once)

    def _once(self, loaded: Loaded, evidence: Evidence, done: Loaded | None, done_id: int | None) -> Decision:
        kind = kind_of(evidence)
        with tracing.step(f"evidence {kind}", loaded.row, evidence=kind):
            return self._decided(loaded, evidence, done, done_id)

    def _decided(self, loaded: Loaded, evidence: Evidence, done: Loaded | None, done_id: int | None) -> Decision:
        decision = decide(loaded.transaction, evidence, loaded.read_at, self.policy)
        receipts = self._receipts(decision, evidence)
        rings = self.store.record(decision, evidence, loaded, done, done_id, receipts=receipts)
        _tell_log(decision)
        _tell_trace(decision, loaded)
        if rings:
            self.bell(rings)
        if decision.told:
            shown = partial(shown_after, decision, evidence, loaded)
            self.announce(f"payment.{decision.after.state.value}", loaded.read_at, shown)
        return decision

    def _receipts(self, decision: Decision, evidence: Evidence) -> list[dict[str, Any]]:
        if not self.keep_receipts or not isinstance(evidence, ResultReported):
            return []
        return read_receipts(evidence.receipts) if speaks_for_itself(decision, evidence) else []


def _tell_log(decision: Decision) -> None:
    after = decision.after
    log.info(
        "decided",
        payment=str(after.id),
        reference=after.reference,
        terminal=after.poi_id,
        event=decision.event.value,
        before=decision.before.stage.value,
        after=after.stage.value,
        do=[plan.kind.value for plan in decision.commands],
    )
    if decision.alarm is not None:
        log.warning("alarm", alarm=decision.alarm.value, payment=str(after.id), runbook=f"#{decision.alarm.value}")


def _tell_trace(decision: Decision, loaded: Loaded) -> None:
    before, after = decision.before, decision.after
    said = {"event": decision.event, "state": after.state, "outcome": after.outcome, "reason": after.reason}
    tracing.note(**said)
    if before.stage is Stage.SENT and after.stage is not Stage.SENT and before.sent_at is not None:
        tracing.passed("wait for an answer", loaded.row, before.sent_at, loaded.read_at, **said)
