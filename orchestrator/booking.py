"""An entry in the platform's books, whoever brought it: find what of ours it is about, and record it there.

A payment is found by its PSP reference, or by its sale and amount when one payment alone can be meant. What is not
signed in a webhook (the terminal, the tender reference) never links by itself: it only chooses among payments of the
merchant account and the sale that are. Several that fit are a difference, and never a guess.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from orchestrator.decide import Decision
from orchestrator.evidence import BooksEntry, BooksReported
from orchestrator.meaning import Alarm
from orchestrator.model import Money, Transaction
from orchestrator.record import Recorder
from orchestrator.refund_record import RefundRecorder
from orchestrator.refunds.evidence import RefundBooked, RefundEntry
from orchestrator.refunds.transitions import RefundEvent
from orchestrator.store.differences import DifferenceStore, Side
from orchestrator.store.links import LinkStore
from orchestrator.store.refunds import RefundStore
from orchestrator.store.rows import Loaded
from orchestrator.store.words import Became, DifferenceKind
from orchestrator.transitions import Event
from orchestrator.webhooks.effects import Effect

#: What a refund that did not last takes back from what was paid back elsewhere.
_LASTED_NOT: Final = frozenset({RefundEntry.FAILED, RefundEntry.REVERSED, RefundEntry.VOIDED})


#: No clock and no time zone is wrong by more.
_CLOCKS_APART_MAX: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookEntry:
    """What the books say. ``psp_reference`` is the payment's, ``own_psp_reference`` that of a modification of it.

    ``source`` is ``webhook:<event code>`` or ``report:<record type>``; ``effective_at`` as ``views.instant`` spells it.
    """

    effect: Effect
    source: str
    digest: str
    merchant_account: str
    psp_reference: str | None = None
    own_psp_reference: str | None = None
    reference: str | None = None
    amount: Money | None = None
    effective_at: str | None = None
    terminal_id: str | None = None
    tender_reference: str | None = None

    @property
    def says(self) -> str:
        """The platform's own word for it."""
        return self.source.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Booked:
    """What became of an entry, and what it is about."""

    became: Became
    payment_id: UUID | None = None
    refund_id: UUID | None = None


def fitting(entry: BookEntry, candidates: Sequence[Transaction]) -> list[Transaction]:
    """Of the payments that share the PSP reference or the sale: which it can be. One is the answer, several are none.

    The one that has this PSP reference is it. Else it has to be of the sale, sent no more than a day after the entry
    took effect, and on the terminal where one is named; where none is, of the amount, and without a PSP reference of
    its own. Of several, those are left that fit best: that the books named before, that have no other PSP reference,
    that were sent at all, that have the tender reference.
    """
    same = [tx for tx in candidates if entry.psp_reference is not None and tx.psp_reference == entry.psp_reference]
    if same:
        return same
    left = [tx for tx in candidates if _fits(entry, tx)]
    closeness: tuple[Callable[[BookEntry, Transaction], int], ...] = (_by_psp_reference, _by_sending, _by_tender)
    for of in closeness:
        nearest = max((of(entry, tx) for tx in left), default=0)
        left = [tx for tx in left if of(entry, tx) == nearest]
    return left


def effective_at(entry: BookEntry) -> str | None:
    """When an entry took effect on its payment. The platform's times are whole seconds, and a terminal may take back an
    authorisation within the same one: what is taken back was there before.
    """
    at = entry.effective_at
    if at is None or entry.effect.payment is not BooksEntry.CANCELLED or not at.endswith(".000000Z"):
        return at
    return at.replace(".000000Z", ".000001Z")


def _fits(entry: BookEntry, tx: Transaction) -> bool:
    if entry.reference != tx.reference or entry.terminal_id not in {None, tx.poi_id} or _before_it_was_sent(entry, tx):
        return False
    named = entry.terminal_id is not None or (
        entry.tender_reference is not None and entry.tender_reference == tx.tender_reference
    )
    amounts = {tx.amount.minor, tx.authorised_minor}
    same_amount = entry.amount is None or (
        entry.amount.currency == tx.amount.currency and entry.amount.minor in amounts
    )
    return named or (same_amount and tx.psp_reference is None)


def _before_it_was_sent(entry: BookEntry, tx: Transaction) -> bool:
    """What took effect long before is about an earlier sale of that name, which may be nobody's of ours."""
    if entry.effective_at is None or tx.sent_at is None:
        return False
    return datetime.fromisoformat(entry.effective_at) < tx.sent_at - _CLOCKS_APART_MAX


def _by_psp_reference(entry: BookEntry, tx: Transaction) -> int:
    """A payment that has its own reference is another one, as long as one without is there."""
    known = tx.psp_reference or (tx.books.psp_reference if tx.books else None)
    return 1 if known is None else 2 if known == entry.psp_reference else 0


def _by_sending(_: BookEntry, tx: Transaction) -> int:
    return int(tx.sent_at is not None)


def _by_tender(entry: BookEntry, tx: Transaction) -> int:
    return 2 if tx.tender_reference == entry.tender_reference else int(tx.tender_reference is None)


@dataclass(frozen=True, slots=True)
class Booker:
    """Applies entries. Safe to repeat: evidence is known by its digest, a difference by what it is about."""

    links: LinkStore
    differences: DifferenceStore
    recorder: Recorder
    refunds: RefundStore
    refund_recorder: RefundRecorder

    def apply(self, entry: BookEntry) -> Booked:
        """Find what an entry is about, and record it there.

        Raises:
            StoreUnavailable: the database did not answer; nothing or a part of it is stored, and it has to be repeated.
            Defect: the table says that this cannot happen; nothing was stored.
        """
        if entry.effect.refund is not None:
            refund_ids = self._refunds(entry)
            if len(refund_ids) > 1:
                return self._differs(entry, DifferenceKind.AMBIGUOUS)
            if refund_ids:
                return self._record_refund(entry, refund_ids[0])
        if entry.effect.payment is None:
            return self._without_payment(entry)
        candidates = self.links.candidates(entry.merchant_account, entry.psp_reference, entry.reference)
        left = fitting(entry, [loaded.transaction for loaded in candidates])
        if len(left) == 1:
            return self._record(entry, next(one for one in candidates if one.transaction.id == left[0].id))
        return self._unlinked(entry, sale_is_ours=bool(candidates), several=bool(left))

    # -- refunds -------------------------------------------------------------------------------------------------------

    def _refunds(self, entry: BookEntry) -> list[UUID]:
        return self.refunds.find(
            entry.merchant_account,
            psp_reference=entry.own_psp_reference,
            reference=entry.reference,
            original_psp=entry.psp_reference,
            amount=entry.amount,
        )

    def _record_refund(self, entry: BookEntry, refund_id: UUID) -> Booked:
        effect = entry.effect
        if effect.refund is None:
            return Booked(Became.NOTED)
        evidence = RefundBooked(
            entry=effect.refund,
            source=entry.source,
            psp_reference=entry.own_psp_reference,
            amount=entry.amount,
            effective_at=entry.effective_at,
            digest=entry.digest,
        )
        decision = self.refund_recorder.record(refund_id, evidence)
        if decision is not None and decision.event is RefundEvent.BOOKS_DIFFER:
            refund = decision.before
            ours = Side(state=refund.outcome or refund.state, amount=refund.amount)
            self._open(entry, DifferenceKind.REFUND_DIFFERS, ours=ours, refund_id=refund_id)
        return Booked(Became.RECORDED, refund_id=refund_id)

    # -- payments ------------------------------------------------------------------------------------------------------

    def _record(self, entry: BookEntry, loaded: Loaded) -> Booked:
        effect, tx = entry.effect, loaded.transaction
        if effect.payment is None:
            return Booked(Became.NOTED)
        evidence = BooksReported(
            entry=effect.payment,
            source=entry.source,
            psp_reference=entry.psp_reference,
            amount=entry.amount,
            effective_at=effective_at(entry),
            digest=entry.digest,
        )
        decision = self.recorder.record(tx.id, evidence, loaded)
        if effect.differs == DifferenceKind.REFUND_ELSEWHERE:
            self._paid_back_elsewhere(entry, tx)
        kind = _difference(entry, decision)
        if kind is not None:
            ours = decision.before if decision else tx
            self._open(entry, kind, ours=_side(ours), payment_id=tx.id)
        return Booked(Became.RECORDED, payment_id=tx.id)

    def _paid_back_elsewhere(self, entry: BookEntry, tx: Transaction) -> None:
        """Lower what is left to refund, or raise it again when that did not last."""
        if entry.own_psp_reference is None or entry.amount is None or entry.amount.minor == 0:
            return
        if entry.amount.currency == tx.amount.currency:
            self.refunds.made_elsewhere(
                tx.id,
                entry.own_psp_reference,
                entry.amount.minor,
                paid_back=entry.effect.refund not in _LASTED_NOT,
                effective_at=entry.effective_at,
            )

    def _unlinked(self, entry: BookEntry, *, sale_is_ours: bool, several: bool) -> Booked:
        """No payment, or more than one. Only what says that money moved is worth a person's time."""
        if entry.effect.payment is BooksEntry.REFUSED:
            return Booked(Became.IGNORED)
        if several:
            return self._differs(entry, DifferenceKind.AMBIGUOUS)
        if sale_is_ours:
            charged = entry.effect.payment is BooksEntry.AUTHORISED
            return self._differs(entry, DifferenceKind.MISSING_HERE if charged else _kind(entry.effect))
        return self._without_payment(entry)

    def _without_payment(self, entry: BookEntry) -> Booked:
        """Nothing of ours, unless it happened on a terminal of ours, or for an account that nobody told us of."""
        merchant_is_known, terminal_is_ours = self.links.known(entry.merchant_account, entry.terminal_id)
        in_person = entry.terminal_id is not None or entry.tender_reference is not None
        moved = entry.effect.payment not in {None, BooksEntry.REFUSED} or entry.effect.differs is not None
        if moved and (terminal_is_ours or (in_person and not merchant_is_known)):
            return self._differs(entry, _kind(entry.effect))
        return Booked(Became.IGNORED)

    def _differs(self, entry: BookEntry, kind: DifferenceKind) -> Booked:
        self._open(entry, kind)
        return Booked(Became.DIFFERENCE)

    def _open(
        self,
        entry: BookEntry,
        kind: DifferenceKind,
        *,
        ours: Side | None = None,
        payment_id: UUID | None = None,
        refund_id: UUID | None = None,
    ) -> None:
        of_refund = kind in {DifferenceKind.REFUND_ELSEWHERE, DifferenceKind.REFUND_DIFFERS}
        self.differences.open(
            merchant_account=entry.merchant_account,
            kind=kind,
            source=entry.source,
            payment_id=payment_id,
            refund_id=refund_id,
            psp_reference=entry.own_psp_reference if of_refund else entry.psp_reference,
            reference=entry.reference,
            ours=ours,
            theirs=Side(state=entry.says, amount=entry.amount),
        )


def _kind(effect: Effect) -> DifferenceKind:
    """The difference that an effect always is, else that of a charge which nobody knows."""
    return DifferenceKind(effect.differs) if effect.differs else DifferenceKind.ORPHAN


def _side(tx: Transaction) -> Side:
    minor = tx.amount.minor if tx.authorised_minor is None else tx.authorised_minor
    return Side(state=tx.outcome or tx.state, amount=Money(tx.amount.currency, minor))


def _difference(entry: BookEntry, decision: Decision | None) -> DifferenceKind | None:
    """Which difference an entry is, now that it was recorded; None when the books and we agree."""
    if entry.effect.differs is not None:
        return DifferenceKind(entry.effect.differs)
    if decision is None:  # it was recorded before, with its difference
        return None
    if decision.alarm is Alarm.CONTRADICTION:
        return DifferenceKind.STATE_DIFFERS
    if decision.event is not Event.BOOKS_DIFFER:
        return None
    tx = decision.before
    if entry.amount is not None and entry.amount.currency != tx.amount.currency:
        return DifferenceKind.CURRENCY_DIFFERS
    another = tx.psp_reference is not None and entry.psp_reference not in {None, tx.psp_reference}
    return DifferenceKind.MISSING_HERE if another else DifferenceKind.AMOUNT_DIFFERS
