"""The one path of refunds: everything learned about one enters here, and nothing else moves it.

As ``record`` does for payments: load, decide, write; when somebody moved the row in between, load and decide again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import structlog

from orchestrator import tracing
from orchestrator.errors import NotFound
from orchestrator.evidence import Evidence, kind_of
from orchestrator.policy import Policy
from orchestrator.refunds.decide import RefundDecision, decide
from orchestrator.store.races import settled
from orchestrator.store.refunds import LoadedRefund, RefundStore, shown_after
from orchestrator.store.rows import Ring
from orchestrator.subscription import Announce, unheard

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RefundRecorder:
    """Records evidence about refunds. ``bell`` rings commands after the commit; its failure is nobody's."""

    store: RefundStore
    policy: Policy
    bell: Callable[[list[Ring]], None]
    announce: Announce = unheard

    def record(self, refund_id: UUID, evidence: Evidence) -> RefundDecision | None:
        """Record one piece of evidence about a refund; None when the journal had this very evidence already.

        Raises:
            NotFound: there is no such refund.
            StoreUnavailable: the database did not answer; the evidence may or may not be stored.
            Defect: the table says that this cannot happen; nothing was stored.
        """
        return self._again(refund_id, evidence, None, None)

    def conclude_command(self, command_id: int, loaded: LoadedRefund, evidence: Evidence) -> RefundDecision | None:
        """Record the evidence that a command ended with; the command is gone with it, or planned anew."""
        return self._again(loaded.refund.id, evidence, loaded, command_id)

    def _again(
        self, refund_id: UUID, evidence: Evidence, done: LoadedRefund | None, done_id: int | None
    ) -> RefundDecision | None:
        def once() -> RefundDecision:
            loaded = self.store.load(refund_id)
            if loaded is None:
                raise NotFound
            return self._once(loaded, evidence, done, done_id)

        return settled(once)

    def _once(
        self, loaded: LoadedRefund, evidence: Evidence, done: LoadedRefund | None, done_id: int | None
    ) -> RefundDecision:
        kind = kind_of(evidence)
        with tracing.step(f"evidence {kind}", loaded.row, evidence=kind):
            return self._decided(loaded, evidence, done, done_id)

    def _decided(
        self, loaded: LoadedRefund, evidence: Evidence, done: LoadedRefund | None, done_id: int | None
    ) -> RefundDecision:
        decision = decide(loaded.refund, evidence, loaded.read_at, self.policy)
        rings = self.store.record(decision, evidence, loaded, done, done_id)
        _tell_log(decision)
        after = decision.after
        tracing.note(event=decision.event, state=after.state, outcome=after.outcome, reason=after.reason)
        if rings:
            self.bell(rings)
        if decision.told:
            state = decision.after.state.value
            self.announce(f"refund.{state}", loaded.read_at, partial(shown_after, decision, loaded))
        return decision


def _tell_log(decision: RefundDecision) -> None:
    after = decision.after
    log.info(
        "decided",
        refund=str(after.id),
        payment=str(after.payment_id) if after.payment_id else None,
        reference=after.reference,
        terminal=after.poi_id,
        event=decision.event.value,
        before=decision.before.stage.value,
        after=after.stage.value,
        do=[plan.kind.value for plan in decision.commands],
    )
    if decision.alarm is not None:
        log.warning("alarm", alarm=decision.alarm.value, refund=str(after.id), runbook=f"#{decision.alarm.value}")
