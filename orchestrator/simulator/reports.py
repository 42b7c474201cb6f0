"""The platform's three reports, streamed: payment accounting, settlement details, received payments.

Columns as in the platform's standard reports. Amounts are in major units; times are the office's, whose zone is in a
column of its own.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TextIO

from orchestrator.simulator.encoding import decimals
from orchestrator.simulator.stories import Later, Planted, Story, can_differ, choose, with_differences
from orchestrator.simulator.webhooks import OFFICE_TIME

COMPANY = "ExampleCompany"
_ZONE = "CET"
_WHO = "Company Account,Merchant Account,Psp Reference,Merchant Reference,Payment Method"
_ACCOUNTING = (
    f"{_WHO},Booking Date,TimeZone,Main Currency,Main Amount,Record Type,Payment Currency,Received (PC),"
    "Authorised (PC),Captured (PC),Settlement Currency,Payable (SC),Commission (SC),Markup (SC),Scheme Fees (SC),"
    "Interchange (SC),Processing Fee Currency,Processing Fee (FC),User Name,Payment Method Variant,"
    "Modification Merchant Reference"
)
_SETTLEMENT = (
    f"{_WHO},Creation Date,TimeZone,Type,Modification Reference,Gross Currency,Gross Debit (GC),Gross Credit (GC),"
    "Exchange Rate,Net Currency,Net Debit (NC),Net Credit (NC),Commission (NC),Markup (NC),Scheme Fees (NC),"
    "Interchange (NC),Payment Method Variant,Modification Merchant Reference,Batch Number,Reserved4,Reserved5,"
    "Reserved6,Reserved7,Reserved8,Reserved9,Reserved10"
)
_RECEIVED = f"{_WHO},Creation Date,TimeZone,Currency,Amount,Type,Risk Scoring,Shopper Name"
# Fees in minor units, and interchange in thousandths, about as the sample has them.
_MARKUP_MINOR, _SCHEME_MINOR, _INTERCHANGE_PER_MILLE, _PROCESSING_MINOR = 5, 6, 2, 10
_SETTLED_AT = time(4)
_DEBITS = ("Refunded", "Chargeback")
_CREDITS = ("RefundedReversed",)

Row = list[str]


def _major(minor: int, currency: str) -> str:
    """An amount in major units with the currency's decimals, as text; empty for nothing."""
    places = decimals(currency)
    if not minor or not places:
        return str(minor) if minor else ""
    sign, digits = "-" if minor < 0 else "", f"{abs(minor):0{places + 1}d}"
    return f"{sign}{digits[:-places]}.{digits[-places:]}"


def _local(at: datetime) -> str:
    return at.astimezone(OFFICE_TIME).strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True)
class Period:
    """The day and the account that reports are about."""

    day: date
    merchant: str

    def covers(self, at: datetime) -> bool:
        """Whether this instant is on the day, by the office's clock."""
        return at.astimezone(OFFICE_TIME).date() == self.day

    def who(self, story: Story) -> Row:
        """The columns that say whose line it is."""
        return [COMPANY, story.merchant or self.merchant, story.psp_reference, story.reference, "mc"]

    @property
    def batch(self) -> int:
        """The number of the day's batch."""
        return self.day.toordinal()


# -- payment accounting: every step, on the day of the step --


@dataclass(frozen=True, slots=True)
class _Step:
    """One booking: what moves between Received, Authorised, Captured and Payable, in minor units."""

    record: str
    at: datetime
    amount_minor: int
    received: int = 0
    authorised: int = 0
    captured: int = 0
    payable: int = 0
    costs: bool = False
    reference: str = ""


def _steps(story: Story) -> Iterator[_Step]:
    if story.type == "PaidOut":
        yield from _refund_steps(Later("Refunded", story.at, story.amount_minor, "", ""))
        return
    amount = story.amount_minor
    yield _Step("Received", story.at, amount, received=amount)
    if story.type == "Refused":
        yield _Step("Refused", story.at, amount, received=-amount, costs=True)
        return
    yield _Step("Authorised", story.at, amount, received=-amount, authorised=amount, costs=True)
    if story.type == "Cancelled":
        yield _Step("Cancelled", story.at + timedelta(minutes=1), amount, authorised=-amount)
        return
    failed = next((later for later in story.later if later.record in ("CaptureFailed", "Expired")), None)
    if failed is not None:
        yield _Step(failed.record, failed.at, amount, authorised=-amount)
        return
    day = story.at.astimezone(OFFICE_TIME).date()
    yield _Step(
        "SentForSettle", datetime.combine(day, time.max, OFFICE_TIME), amount, authorised=-amount, captured=amount
    )
    settled_at = datetime.combine(day + timedelta(days=1), _SETTLED_AT, OFFICE_TIME)
    yield _Step("Settled", settled_at, amount, captured=-amount, payable=amount)
    for later in story.later:
        yield from _refund_steps(later)


def _refund_steps(later: Later) -> Iterator[_Step]:
    amount, reference = later.amount_minor, later.modification_reference
    if later.record == "Refunded":
        yield _Step("SentForRefund", later.at, amount, captured=-amount, costs=True, reference=reference)
        yield _Step("Refunded", later.at, amount, captured=amount, payable=-amount, reference=reference)
    else:
        payable = -amount if later.record in _DEBITS else amount
        yield _Step(later.record, later.at, amount, payable=payable, reference=reference)


def _accounting(story: Story, period: Period) -> Iterator[Row]:
    money = story.currency
    for step in _steps(story):
        if period.covers(step.at):
            yield [
                *period.who(story), _local(step.at), _ZONE, money, _major(step.amount_minor, money), step.record, money,
                _major(step.received, money), _major(step.authorised, money), _major(step.captured, money),
                money if step.payable else "", _major(step.payable, money), "", "", "", "",
                "EUR", _major(_PROCESSING_MINOR, "EUR") if step.costs else "", "system", "mc", step.reference,
            ]  # fmt: skip


# -- settlement details: what the day's batch pays out --


@dataclass
class _Batch:
    """Sums of the batch, in minor units by currency."""

    net_minor: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    lines: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def rows(self, story: Story, period: Period) -> Iterator[Row]:
        """The payment itself, and what came back of it."""
        stays = not any(later.record in ("CaptureFailed", "Expired") for later in story.later)
        if story.type == "Authorised" and stays and period.covers(story.at):
            yield self._row(story, period, Later("Settled", story.at, story.amount_minor, story.psp_reference, ""))
        if story.type == "PaidOut" and period.covers(story.at):
            yield self._row(story, period, Later("Refunded", story.at, story.amount_minor, story.psp_reference, ""))
        for later in story.later:
            if later.record in (*_DEBITS, *_CREDITS) and period.covers(later.at):
                yield self._row(story, period, later)

    def _row(self, story: Story, period: Period, entry: Later) -> Row:
        money, gross = story.currency, entry.amount_minor
        debit = entry.record in _DEBITS
        fees = [_MARKUP_MINOR, *((0, 0) if debit else (_SCHEME_MINOR, gross * _INTERCHANGE_PER_MILLE // 1000))]
        net = gross + sum(fees) if debit else gross - sum(fees)
        self.net_minor[money] += -net if debit else net
        self.lines[money] += 1
        grosses, nets = ([_major(minor, money), ""] if debit else ["", _major(minor, money)] for minor in (gross, net))
        return [
            *period.who(story), _local(entry.at), _ZONE, entry.record, entry.modification, money, *grosses, "1",
            money, *nets, "", *(_major(minor, money) for minor in fees), "mc", entry.modification_reference,
            str(period.batch), *[""] * 7,
        ]  # fmt: skip

    def closing(self, period: Period) -> Iterator[Row]:
        """What is about no payment: fees, and the payout that brings each currency's sum to zero."""
        for money, lines in self.lines.items():
            fee = lines * 2
            yield self._account_row(period, "Fee", f"Transaction fees of {period.day}", money, -fee)
            left = self.net_minor[money] - fee
            kind = "MerchantPayout" if left >= 0 else "BalanceTransfer"
            yield self._account_row(period, kind, f"batch {period.batch}, {period.merchant}", money, -left)

    @staticmethod
    def _account_row(period: Period, kind: str, text: str, money: str, net_minor: int) -> Row:
        at = datetime.combine(period.day, time.max, OFFICE_TIME)
        nets = [_major(-net_minor, money), ""] if net_minor < 0 else ["", _major(net_minor, money)]
        return [
            COMPANY, period.merchant, "", "", "", _local(at), _ZONE, kind, text, money, "", "", "1", money, *nets,
            "", "", "", "", "", "", str(period.batch), *[""] * 7,
        ]  # fmt: skip


# -- received payments: one line per attempt --


def _received(story: Story, period: Period) -> Iterator[Row]:
    if story.type != "PaidOut" and period.covers(story.at):
        amount = _major(story.amount_minor, story.currency)
        yield [*period.who(story), _local(story.at), _ZONE, story.currency, amount, story.type, "0", ""]


# -- files --

KINDS = ("accounting", "settlement", "received")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: the files in the folder, their numbers of lines without headers, and what was planted."""

    files: dict[str, str]
    lines: dict[str, int]
    planted: list[Planted]


def file_name(kind: str, period: Period) -> str:
    """The platform's name for a report."""
    day = period.day.strftime("%Y_%m_%d")
    return {
        "accounting": f"payments_accounting_report_{day}.csv",
        "settlement": f"settlement_detail_report_batch_{period.batch}.csv",
        "received": f"received_payments_report_{day}.csv",
    }[kind]


def write(
    folder: Path,
    stories: Sequence[Story] | Callable[[], Iterable[Story]],
    period: Period,
    *,
    kinds: Sequence[str] = KINDS,
    plant: Mapping[str, int] | None = None,
    seed: int = 0,
    count: int = 0,
) -> Written:
    """Write the reports of one day, and `planted.json` beside them; ValueError for an unknown kind or difference.

    `stories` that are made up are called for, and `count` says how many there are: they are streamed, and any of them
    may get a difference. A file appears whole or not at all.
    """
    if unknown := set(kinds) - set(KINDS):
        message = f"no report is called {min(unknown)!r}; there are {', '.join(KINDS)}"
        raise ValueError(message)
    wanted = plant or {}
    if callable(stories):
        source = stories()
        eligible: Sequence[int] = range(count)
    else:
        source = stories
        eligible = [number for number, story in enumerate(stories) if can_differ(story, period.day)]
    planted: list[Planted] = []
    chosen = choose(wanted, eligible, seed)
    told = with_differences(source, chosen, wanted, seed=seed, day=period.day, planted=planted)
    folder.mkdir(parents=True, exist_ok=True)
    lines = _write_files(folder, told, period, kinds)
    written = Written({kind: file_name(kind, period) for kind in kinds}, lines, planted)
    document = {"day": period.day.isoformat(), "merchant": period.merchant, "seed": seed} | asdict(written)
    (folder / "planted.json").write_text(json.dumps(document, indent=1) + "\n")
    return written


def _write_files(folder: Path, stories: Iterable[Story], period: Period, kinds: Sequence[str]) -> dict[str, int]:
    batch, lines = _Batch(), dict.fromkeys(kinds, 0)
    rows: dict[str, Callable[[Story, Period], Iterator[Row]]] = {
        "accounting": _accounting, "settlement": batch.rows, "received": _received,
    }  # fmt: skip
    headers = {"accounting": _ACCOUNTING, "settlement": _SETTLEMENT, "received": _RECEIVED}
    unfinished = {kind: folder / f".{file_name(kind, period)}.part" for kind in kinds}
    with ExitStack() as stack:
        files: dict[str, TextIO] = {
            kind: stack.enter_context(path.open("w", encoding="utf-8", newline="")) for kind, path in unfinished.items()
        }
        writers = {kind: csv.writer(file, lineterminator="\n") for kind, file in files.items()}
        for kind in kinds:
            files[kind].write(headers[kind] + "\n")
        for story in stories:
            for kind, writer in writers.items():
                for row in rows[kind](story, period):
                    writer.writerow(row)
                    lines[kind] += 1
        if "settlement" in writers:
            closing = list(batch.closing(period))
            writers["settlement"].writerows(closing)
            lines["settlement"] += len(closing)
    for kind, path in unfinished.items():
        path.replace(folder / file_name(kind, period))
    return lines
