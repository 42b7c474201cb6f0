"""A person settles an unknown, with a reason, on what they saw; above a limit a second person has to agree."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orchestrator.cards import mask_card_numbers
from orchestrator.decide import Decision
from orchestrator.errors import ConcurrentUpdate, InvalidSubmission, NotFound, NotUnknown, RulingStale
from orchestrator.evidence import Ruled
from orchestrator.model import Outcome, State
from orchestrator.record import Recorder
from orchestrator.store.rows import Loaded
from orchestrator.store.rulings import RulingStore


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a person decides about a payment that they saw at ``sequence``; the amount in minor units if it charged."""

    outcome: Outcome
    reason: str
    sequence: int
    authorised_minor: int | None = None

    @property
    def fingerprint(self) -> str:
        """Equal for the same verdict, however many spaces are in its reason: a form has only one between words."""
        reason = " ".join(mask_card_numbers(self.reason).split())
        parts = (self.outcome.value, reason, str(self.sequence), str(self.authorised_minor))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def proposal(self) -> dict[str, Any]:
        """What a second person is shown, and agrees to by sending it again, verbatim."""
        return {
            "outcome": self.outcome.value,
            "reason": mask_card_numbers(self.reason),
            "sequence": self.sequence,
            "authorised_minor": self.authorised_minor,
        }


@dataclass(frozen=True, slots=True)
class Person:
    """Who decides: ``identity`` tells two persons apart, ``name`` is what the journal says."""

    identity: str
    name: str


@dataclass(frozen=True, slots=True)
class Rulings:
    """Takes rulings. ``second_above`` has, by currency, the amount in minor units above which two must agree."""

    store: RulingStore
    recorder: Recorder
    second_above: Mapping[str, int]

    def rule(self, payment_id: UUID, verdict: Verdict, person: Person) -> Decision | None:
        """Settle a payment; None when a second person has to send the same before it counts.

        Raises:
            NotFound: there is no such payment.
            NotUnknown: it has an outcome, or can still get one by itself.
            RulingStale: it moved since the person saw it.
            InvalidSubmission: the amount does not fit the outcome.
        """
        loaded = self.recorder.store.load(payment_id)
        if loaded is None:
            raise NotFound
        _check(loaded, verdict)
        ruled_by, second = person.name, None
        if self._needs_two(loaded, verdict):
            first = self.store.propose(payment_id, verdict.fingerprint, person.identity, person.name, verdict.proposal)
            if first is None:
                return None
            ruled_by, second = first, person.name
        evidence = Ruled(
            outcome=verdict.outcome,
            ruled_by=ruled_by,
            reason=mask_card_numbers(verdict.reason),
            second=second,
            authorised_minor=verdict.authorised_minor,
        )
        try:
            return self.recorder.record_seen(loaded, evidence)
        except ConcurrentUpdate:
            raise RulingStale(field="sequence") from None

    def _needs_two(self, loaded: Loaded, verdict: Verdict) -> bool:
        """By what was asked for or, where that is more, by what is said to have been charged."""
        amount = loaded.transaction.amount
        minor = max(amount.minor, verdict.authorised_minor or 0)
        limit_minor = self.second_above.get(amount.currency, self.second_above.get("*"))
        return limit_minor is not None and minor > limit_minor


def _check(loaded: Loaded, verdict: Verdict) -> None:
    tx = loaded.transaction
    if tx.state is not State.UNKNOWN:
        raise NotUnknown
    if tx.sequence != verdict.sequence:
        raise RulingStale(field="sequence")
    minor, whole = verdict.authorised_minor, tx.amount.minor
    if not verdict.outcome.charged and minor is not None:
        raise InvalidSubmission("authorised_amount: belongs to a charge; leave it out", field="authorised_amount")
    if verdict.outcome is Outcome.PARTIALLY_APPROVED and (minor is None or not 0 < minor < whole):
        raise InvalidSubmission(
            "authorised_amount: a partial approval names an amount below the requested one", field="authorised_amount"
        )
    if verdict.outcome is Outcome.APPROVED and minor is not None and minor < whole:
        raise InvalidSubmission(
            "authorised_amount: is below the requested amount; that is partially_approved", field="authorised_amount"
        )
