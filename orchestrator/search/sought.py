"""A search: what payments are narrowed to."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from orchestrator.model import Outcome, State

CHARGED_WORDS: Final = ("yes", "no", "unknown")


@dataclass(frozen=True, slots=True)
class AmountSought:
    """An amount in minor units, of these currencies; None is every currency."""

    minor: int
    currencies: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What payments are narrowed to; None does not narrow. Instants: ``created_from`` is included, the other is not."""

    payment_id: UUID | None = None
    psp_reference: str | None = None
    tender_reference: str | None = None
    service_id: str | None = None
    reference: str | None = None
    reference_start: str | None = None
    sale_reference_id: str | None = None
    last4: str | None = None
    poi_id: str | None = None
    amounts: tuple[AmountSought, ...] = ()
    state: State | None = None
    outcome: Outcome | None = None
    charged: str | None = None  # of CHARGED_WORDS; unknown is without an outcome
    created_from: datetime | None = None
    created_to: datetime | None = None

    @property
    def names_one(self) -> bool:
        """Whether this asks for one payment by its name, so that whoever finds it alone may go there."""
        return any((self.payment_id, self.psp_reference, self.reference, self.tender_reference, self.service_id))
