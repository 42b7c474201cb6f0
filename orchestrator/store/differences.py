"""Differences between our rows and the platform's books: opened once, explained and closed by people.

Whoever finds one again (the next run, a webhook that comes twice) finds the same row. One that a person closed stays
closed until what the books say about it changes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from orchestrator.cards import mask_card_numbers
from orchestrator.model import Money
from orchestrator.store.database import Database
from orchestrator.store.rows import Row
from orchestrator.store.words import DifferenceKind, DifferenceState

#: What a difference is about, as a digest: the same for whoever finds it. A refund that is known by its own PSP
#: reference has other references in a webhook than in a report; one without is told from others by its amount.
_IDENTITY: Final = """
encode(sha256(convert_to(concat_ws('|', f.merchant_account, f.kind, coalesce(f.payment_id::text, ''),
    coalesce(f.refund_id::text, ''), coalesce(f.psp_reference, ''),
    CASE WHEN f.psp_reference IS NULL OR coalesce(f.payment_id, f.refund_id) IS NULL
    THEN coalesce(f.reference, '') ELSE '' END,
    CASE WHEN f.kind = 'refund_elsewhere' AND f.psp_reference IS NULL THEN f.theirs ->> 'amount' END), 'UTF8')), 'hex')
"""
#: What has to change for a closed one to open: the amount, and of what happens later to a payment, which of it did.
#: A webhook and a report name the same thing differently, so the word does not count elsewhere.
_FACTS: Final = """
encode(sha256(convert_to(concat_ws('|', coalesce(f.theirs ->> 'amount', ''),
    CASE WHEN f.kind IN ('chargeback', 'refund_elsewhere', 'refund_differs')
    THEN regexp_replace(lower(f.theirs ->> 'state'), '[^a-z]', '', 'g') END), 'UTF8')), 'hex')
"""

#: Open what ``f`` holds; what is known stays as it is, unless the books say what they have not said of it before.
#: ``found`` is to be selected from: one row for each that was opened, or opened again.
OPEN_FOUND: Final = f"""
INSERT INTO differences AS d (identity, facts, merchant_account, kind, payment_id, refund_id, psp_reference,
    reference, ours, theirs, source)
SELECT {_IDENTITY}, {_FACTS}, f.merchant_account, f.kind, f.payment_id, f.refund_id, f.psp_reference, f.reference,
    f.ours, f.theirs, f.source
FROM {{found}} AS f
ON CONFLICT (identity) DO UPDATE SET facts = excluded.facts, ours = excluded.ours, theirs = excluded.theirs,
    source = excluded.source, state = 'open', changed_at = now(), changed_by = NULL, note = NULL,
    history = d.history || jsonb_build_array(jsonb_build_object('at', now(), 'state', 'open', 'before', d.facts))
WHERE d.facts <> excluded.facts AND NOT d.history @> jsonb_build_array(jsonb_build_object('before', excluded.facts))
RETURNING d.id, d.identity
"""

IDENTITY_OF_FOUND: Final = _IDENTITY

_OPEN_ONE: Final = OPEN_FOUND.format(
    found="""(SELECT %(merchant_account)s::text AS merchant_account, %(kind)s::text AS kind,
    %(payment_id)s::uuid AS payment_id, %(refund_id)s::uuid AS refund_id, %(psp_reference)s::text AS psp_reference,
    %(reference)s::text AS reference, %(ours)s::jsonb AS ours, %(theirs)s::jsonb AS theirs,
    %(source)s::text AS source)"""
)

_CHANGE: Final = """
UPDATE differences SET state = %(state)s::text, changed_at = now(), changed_by = %(by)s::text, note = %(note)s::text,
    history = history || jsonb_build_array(jsonb_build_object(
        'at', now(), 'state', %(state)s::text, 'by', %(by)s::text, 'note', %(note)s::text))
WHERE id = %(id)s AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
RETURNING *
"""

_MANY: Final = """
SELECT d.* FROM differences d
WHERE (%(merchant_account)s::text IS NULL OR d.merchant_account = %(merchant_account)s)
    AND (%(state)s::text IS NULL OR d.state = %(state)s)
    AND (%(kind)s::text IS NULL OR d.kind = %(kind)s)
    AND (%(payment_id)s::uuid IS NULL OR d.payment_id = %(payment_id)s)
    AND (%(run_id)s::uuid IS NULL
         OR EXISTS (SELECT 1 FROM reconciliation_found f WHERE f.run_id = %(run_id)s AND f.difference_id = d.id))
    AND d.number > %(after)s
ORDER BY d.number LIMIT %(limit)s
"""

_ONE: Final = """
SELECT * FROM differences
WHERE id = %(id)s AND (%(merchant_account)s::text IS NULL OR merchant_account = %(merchant_account)s)
"""

#: Differences that an export reads at once.
_PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side says: where it stands, in a word, and the amount."""

    state: str | None = None
    amount: Money | None = None

    def json(self) -> dict[str, Any]:
        """Spell it as the row keeps it; what is not said is left out."""
        said: dict[str, Any] = {} if self.state is None else {"state": self.state}
        if self.amount is not None:
            said["amount"] = {"currency": self.amount.currency, "value": self.amount.minor}
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceFilter:
    """What a list of differences is narrowed to; None does not narrow."""

    merchant_account: str | None = None
    state: DifferenceState | None = None
    kind: DifferenceKind | None = None
    payment_id: UUID | None = None
    run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class DifferenceStore:
    """Opens, lists, explains and closes differences."""

    database: Database

    def open(
        self,
        *,
        merchant_account: str,
        kind: DifferenceKind,
        source: str,
        payment_id: UUID | None = None,
        refund_id: UUID | None = None,
        psp_reference: str | None = None,
        reference: str | None = None,
        ours: Side | None = None,
        theirs: Side | None = None,
    ) -> bool:
        """Open a difference; false when it is known, open or not, with the same facts.

        It is the same one for the same merchant account, kind, payment, refund and references: name each of them
        whenever it is known. ``source`` says where it was seen, such as ``webhook:CHARGEBACK``; it is not part of it.
        """
        values = {
            "merchant_account": merchant_account,
            "kind": kind.value,
            "source": source[:200],
            "payment_id": payment_id,
            "refund_id": refund_id,
            "psp_reference": psp_reference and psp_reference[:64],
            "reference": _kept(reference, ours_by_id=(payment_id or refund_id) is not None),
            "ours": Jsonb(ours.json()) if ours else None,
            "theirs": Jsonb(theirs.json()) if theirs else None,
        }
        return self.database.one(_OPEN_ONE, values) is not None

    def change(
        self, difference_id: UUID, state: DifferenceState, *, by: str, note: str, merchant_account: str | None = None
    ) -> Row | None:
        """Explain, close, or open again, by a named person and with a note; None when there is no such difference."""
        values = {"id": difference_id, "state": state.value, "by": by[:120], "note": mask_card_numbers(note)[:500]}
        return self.database.one(_CHANGE, {**values, "merchant_account": merchant_account})

    def one(self, difference_id: UUID, merchant_account: str | None) -> Row | None:
        """Read a difference."""
        return self.database.one(_ONE, {"id": difference_id, "merchant_account": merchant_account})

    def many(self, narrowed: DifferenceFilter, after: int, limit: int) -> list[dict[str, Any]]:
        """Read differences, oldest first, after number ``after``."""
        return self.database.all(_MANY, {**_values(narrowed), "after": after, "limit": limit})

    def every(self, narrowed: DifferenceFilter) -> Iterator[Row]:
        """Read all of them, some in memory at a time."""
        after = 0
        while page := self.many(narrowed, after, _PAGE):
            yield from page
            after = page[-1]["number"]


def _kept(reference: str | None, *, ours_by_id: bool) -> str | None:
    """A reference of ours was looked at when it was accepted; anybody else's may be anything."""
    return reference and (reference if ours_by_id else mask_card_numbers(reference))[:80]


def _values(narrowed: DifferenceFilter) -> Mapping[str, Any]:
    return {name: getattr(narrowed, name) for name in DifferenceFilter.__dataclass_fields__}
