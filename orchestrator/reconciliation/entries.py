"""What a report line means for a payment or a refund, as evidence. The same effects as those of webhooks."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.booking import BookEntry
from orchestrator.evidence import BooksEntry, BooksReported, ReportSilent
from orchestrator.model import Money
from orchestrator.refunds.evidence import RefundEntry
from orchestrator.reports.layout import Entry
from orchestrator.store.matching import Period
from orchestrator.store.rows import Row
from orchestrator.views import instant
from orchestrator.webhooks.effects import Effect

#: Every entry that is looked at on its own. A cancellation may be a refund of ours, before the capture.
EFFECTS: Final[Mapping[Entry, Effect]] = {
    Entry.AUTHORISED: Effect(BooksEntry.AUTHORISED),
    Entry.CANCELLED: Effect(BooksEntry.CANCELLED, RefundEntry.CANCELLED),
    Entry.REFUND_RECEIVED: Effect(None, RefundEntry.RECEIVED),
    Entry.REFUNDED: Effect(BooksEntry.REFUNDED_ELSEWHERE, RefundEntry.REFUNDED, "refund_elsewhere"),
    Entry.REFUND_FAILED: Effect(BooksEntry.DIFFERENCE, RefundEntry.FAILED, "refund_elsewhere"),
    Entry.REFUND_REVERSED: Effect(BooksEntry.DIFFERENCE, RefundEntry.REVERSED, "refund_elsewhere"),
    Entry.EXPIRED: Effect(BooksEntry.DIFFERENCE, None, "expired"),
    Entry.CAPTURE_FAILED: Effect(BooksEntry.DIFFERENCE, None, "capture_failed"),
    Entry.CHARGEBACK: Effect(BooksEntry.DIFFERENCE, None, "chargeback"),
}

#: Of payments, by the hundred.
_WORDS: Final = {Entry.AUTHORISED: BooksEntry.AUTHORISED, Entry.REFUSED: BooksEntry.REFUSED}


def word(row: Row) -> BooksReported:
    """The last word of the books about a payment; reading it again gives the same digest."""
    covers_day = bool(row["covers_day"])
    return BooksReported(
        entry=_WORDS[Entry(row["entry"])],
        source=f"report:{row['type']}",
        psp_reference=row["psp"],
        amount=Money(row["currency"], row["minor"]),
        effective_at=instant(row["at"]),
        covers_day=covers_day,
        digest=_word_digest(row, covers_day=covers_day),
    )


def entry(row: Row, merchant_account: str) -> BookEntry:
    """A line that is looked at on its own. What modifies a payment is known by its own references."""
    of = Entry(row["entry"])
    about_payment = of in {Entry.AUTHORISED, Entry.CANCELLED}
    at = instant(row["at"])
    return BookEntry(
        effect=EFFECTS[of],
        source=f"report:{row['type']}",
        merchant_account=merchant_account,
        psp_reference=row["psp"],
        own_psp_reference=None if about_payment else row["modification"],
        reference=(row["modification_reference"] or row["reference"]) if not about_payment else row["reference"],
        amount=Money(row["currency"], row["minor"]),
        effective_at=at,
        digest=_word_digest(row, covers_day=False) if of is Entry.AUTHORISED else _modification_digest(row),
    )


def silence(period: Period) -> ReportSilent:
    """Reports that cover a payment's day say nothing of a charge."""
    days = f"{period.first_day.isoformat()}/{period.last_day.isoformat()}"
    return ReportSilent(source=f"report:{days}", digest=_digest("silent", days))


def _word_digest(row: Row, *, covers_day: bool) -> str:
    """One digest, by whichever way a charge was linked: once it is recorded, the next run links it by PSP reference."""
    return _digest(row["entry"], row["psp"], row["currency"], row["minor"], instant(row["at"]), covers_day)


def _modification_digest(row: Row) -> str:
    names = ("entry", "psp", "modification", "modification_reference", "currency", "minor")
    return _digest(*(row[name] for name in names), instant(row["at"]))


def _digest(*said: Any) -> str:
    text = "|".join("" if each is None else str(each) for each in said)
    return hashlib.sha256(f"report|{text}".encode()).hexdigest()
