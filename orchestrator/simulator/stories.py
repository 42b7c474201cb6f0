"""What the platform's books say of each payment: from a ledger, made up, or changed to plant a difference."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from orchestrator.simulator.encoding import Json, timestamp
from orchestrator.simulator.payment import psp_reference
from orchestrator.simulator.webhooks import OFFICE_TIME

# Of what a later line of the ledger says: the record type that reports have for it.
_RECORDS = {
    "chargeback": "Chargeback",
    "capture_failed": "CaptureFailed",
    "expiry": "Expired",
    "done": "Refunded",
    "failed": "RefundFailed",
    "reversed": "RefundedReversed",
}
#: How often a made-up payment is refused.
REFUSED_EVERY = 20
_OPENS, _OPEN_S = time(8), 14 * 3_600  # made-up shops sell from 8 to 22


@dataclass(frozen=True, slots=True)
class Later:
    """A later record about a payment. The amount is in minor units."""

    record: str
    at: datetime
    amount_minor: int
    modification: str
    modification_reference: str


@dataclass(frozen=True, slots=True)
class Story:
    """One payment, or unreferenced refund, as the books have it. The amount is in minor units.

    `type` is `Authorised`, `Refused`, `Cancelled` (authorised first) or `PaidOut`.
    """

    psp_reference: str
    reference: str
    currency: str
    amount_minor: int
    at: datetime
    type: str = "Authorised"
    later: tuple[Later, ...] = ()
    merchant: str = ""
    """Empty: the account that the report is for."""

    def happened_on(self, day: date) -> bool:
        """Whether anything of it is booked on this day of the office."""
        return day in {at.astimezone(OFFICE_TIME).date() for at in (self.at, *(later.at for later in self.later))}


def from_ledger(lines: Iterable[Json]) -> list[Story]:
    """Every payment of a ledger that has a PSP reference, in the order in which they ended."""
    asked: dict[tuple[str, str, str], Json] = {}
    stories: dict[str, Story] = {}
    for line in lines:
        if line["kind"] == "request" and line["category"] == "Payment" and line["taken"]:
            asked.setdefault(_key(line), line)
        elif line["kind"] in ("charge", "no_charge") and line.get("psp_reference"):
            request = asked[_key(line)]
            if request["payment_type"] == "Normal":
                stories[line["psp_reference"]] = _ended(line, request)
        elif "effective_at" in line:
            _learn(line, stories)
    return list(stories.values())


def _key(line: Json) -> tuple[str, str, str]:
    return line["poi_id"], line["sale_id"], line["service_id"]


def _ended(line: Json, request: Json) -> Story:
    charged = line["kind"] == "charge"
    return Story(
        line["psp_reference"],
        line["reference"],
        request["currency"],
        line["amount_minor"] if charged else request["amount_minor"],
        datetime.fromisoformat(line["ended_at"]),
        "Authorised" if charged else "Refused",
    )


def _learn(line: Json, stories: dict[str, Story]) -> None:
    """Take in what the books learnt after a payment's end."""
    kind, outcome, psp = line["kind"], line.get("outcome", ""), line["psp_reference"]
    at, original = datetime.fromisoformat(line["effective_at"]), line["original_psp"]
    if kind == "earlier_try":
        stories[psp] = Story(psp, line["reference"], line["currency"], line["amount_minor"], at, "Refused")
    elif kind == "charge_refused":
        stories[psp] = replace(stories[psp], type="Refused")
    elif kind == "cancellation" or outcome == "cancelled":
        stories[original] = replace(stories[original], type="Cancelled")
    elif kind == "refund" and not original and outcome == "done":
        stories[psp] = Story(psp, line["reference"], line["currency"], line["amount_minor"], at, "PaidOut")
    elif (record := _RECORDS.get(outcome or kind)) is not None:
        about = original if original in stories else psp
        own_reference = line["reference"] if kind == "refund" else ""
        later = Later(record, at, line["amount_minor"], psp, own_reference)
        stories[about] = replace(stories[about], later=(*stories[about].later, later))


def made_up(count: int, *, seed: int, day: date, currency: str = "EUR") -> Iterator[Story]:
    """So many payments of one day, the same for the same seed, in order of time; nothing is kept in memory."""
    opens = datetime.combine(day, _OPENS, OFFICE_TIME)
    for number in range(count):
        reference = f"MADE-{seed}-{number:07d}"
        yield Story(
            psp_reference(f"{seed}:made-up:{number}"),
            reference,
            currency,
            100 + number * 37 % 20_000,
            opens + timedelta(seconds=number * _OPEN_S // max(count, 1)),
            "Refused" if number % REFUSED_EVERY == REFUSED_EVERY - 1 else "Authorised",
        )


# -- planted differences --

#: What can be planted, and what it means.
DISCREPANCIES: Mapping[str, str] = {
    "missing": "a payment without any line",
    "duplicate": "a payment whose lines come twice",
    "amount": "a payment with 1.00 more",
    "currency": "a payment in another currency",
    "state": "a payment refused where it was authorised, or the other way round",
    "extra": "a payment that nobody took",
    "other-merchant": "a payment of another merchant account",
}
_ABOUT_REAL_ONES = ("missing", "duplicate", "amount", "currency", "state")
_OTHER_MERCHANT = "SomebodyElsesMerchant"


@dataclass(frozen=True, slots=True)
class Planted:
    """One planted difference: `truth` and `written` hold what differs, empty where there is nothing to say."""

    kind: str
    psp_reference: str
    reference: str
    truth: Json
    written: Json


def choose(wanted: Mapping[str, int], eligible: Sequence[int], seed: int) -> dict[int, str]:
    """Which stories, by number, get which difference; ValueError for an unknown kind or too few stories."""
    if unknown := wanted.keys() - DISCREPANCIES.keys():
        message = f"no discrepancy is called {min(unknown)!r}; there are {', '.join(DISCREPANCIES)}"
        raise ValueError(message)
    kinds = [kind for kind in _ABOUT_REAL_ONES for _ in range(wanted.get(kind, 0))]
    if len(kinds) > len(eligible):
        message = f"{len(kinds)} payments are wanted to differ, and there are {len(eligible)} that can"
        raise ValueError(message)
    return dict(zip(random.Random(seed).sample(eligible, len(kinds)), kinds, strict=True))


def can_differ(story: Story, day: date) -> bool:
    """Whether a difference planted here is the only one that it makes: an unchanged payment of this very day."""
    on_the_day = story.at.astimezone(OFFICE_TIME).date() == day
    return on_the_day and not story.later and story.type in ("Authorised", "Refused")


def with_differences(
    stories: Iterable[Story],
    chosen: Mapping[int, str],
    wanted: Mapping[str, int],
    *,
    seed: int,
    day: date,
    planted: list[Planted],
) -> Iterator[Story]:
    """The stories with these differences; `planted` is told of each."""
    for number, story in enumerate(stories):
        kind = chosen.get(number, "")
        written = _changed(story, kind)
        if kind:
            planted.append(_planted(kind, story, written))
        yield from [story, story] if kind == "duplicate" else [written] if written else []
    noon = datetime.combine(day, time(12), OFFICE_TIME)
    for kind in ("extra", "other-merchant"):
        for number in range(wanted.get(kind, 0)):
            name = f"{seed}:{kind}:{day}:{number}"
            merchant = _OTHER_MERCHANT if kind == "other-merchant" else ""
            reference = f"{kind.upper()}-{seed}-{number:04d}"
            story = Story(psp_reference(name), reference, "EUR", 4_200 + number, noon, merchant=merchant)
            planted.append(_planted(kind, None, story))
            yield story


def _changed(story: Story, kind: str) -> Story | None:
    if kind == "missing":
        return None
    if kind == "amount":
        return replace(story, amount_minor=story.amount_minor + 100)
    if kind == "currency":
        return replace(story, currency="USD" if story.currency != "USD" else "EUR")
    if kind == "state":
        return replace(story, type="Refused" if story.type == "Authorised" else "Authorised")
    return story


def _planted(kind: str, truth: Story | None, written: Story | None) -> Planted:
    about = truth or written
    if about is None:
        raise RuntimeError("a difference between nothing and nothing")
    true, wrote = (_facts(story) for story in (truth, written))
    if true and wrote and kind != "duplicate":
        names = [name for name in true if true[name] != wrote[name]]
        true, wrote = ({name: side[name] for name in names} for side in (true, wrote))
    return Planted(kind, about.psp_reference, about.reference, true, wrote)


def _facts(story: Story | None) -> Json:
    if story is None:
        return {}
    fields = asdict(story)
    kept = {name: fields[name] for name in ("currency", "amount_minor", "type", "merchant")}
    return kept | {"at": timestamp(story.at.astimezone(UTC))}
