"""The judge of a day of books: from the simulator's ledger and from what was planted, and by nothing of the product.

Of each payment it says from the ledger what was true, what its terminal told, what signed webhooks told and what the
report says; and from these where it may have ended and which differences must, or may, be found.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from gauntlet.checker import CHARGED, Key, Violation, World
from gauntlet.dump import Row, read_lines

Found = tuple[str, str]
"""A difference: its kind, and the reference that it names."""

_KINDS = {
    "missing": "missing_there", "duplicate": "duplicate_line", "amount": "amount_differs",
    "currency": "currency_differs", "state": "state_differs", "extra": "orphan",
}  # fmt: skip
_TAKEN_BACK = {"CANCELLATION", "TECHNICAL_CANCEL"}
_BESIDE = timedelta(seconds=1)


@dataclass(slots=True)
class Case:
    """A payment, by the ledger. Amounts in minor units."""

    row: Row
    heard_at: str
    """When the terminal's result first reached the product, by the ledger's clock; empty when it never did."""
    end: Row | None
    """The charge or its refusal; None when the terminal never played it."""
    is_offline: bool
    """Whether the terminal approved it without the issuer, whose first word is then the books'."""
    told: list[Row] = field(default_factory=list)
    """Webhooks about it that were signed with a key and accepted, in order."""
    refused_later: bool = False
    cancelled: bool = False
    planted: str = ""
    says: str = ""
    """What the report says: Authorised, Refused or Cancelled; empty when no line is about it."""

    @property
    def reference(self) -> str:
        """The caller's."""
        return str(self.row["reference"])

    @property
    def heard(self) -> bool:
        """Whether the terminal's result reached the product."""
        return bool(self.heard_at)

    @property
    def was_charged(self) -> bool:
        """Whether the terminal approved it."""
        return self.end is not None and self.end["kind"] == "charge"

    @property
    def is_charged(self) -> bool:
        """Whether money moved in the end."""
        return self.was_charged and not self.refused_later and not self.cancelled

    @property
    def minor(self) -> int:
        """What the terminal charged, else what was asked for."""
        return int(self.end["amount_minor"] if self.end is not None and self.was_charged else self.row["amount_minor"])

    def authorisations(self) -> Iterator[Row]:
        """What webhooks of the right account said of it."""
        return (line for line in self.told if line["event_code"] == "AUTHORISATION" and self.is_own(line))

    def is_own(self, line: Row) -> bool:
        """Whether a webhook names the merchant account of the payment."""
        return bool(line["merchant"] == self.row["merchant_account"])

    def is_true(self, line: Row) -> bool:
        """Whether an AUTHORISATION says what happened at the issuer."""
        happened = (self.was_charged and not self.refused_later) or self.cancelled
        same = (line["amount_minor"], line["currency"]) == (self.minor, self.row["currency"])
        return bool(line["success"] == happened and (same or not happened))

    @property
    def lied_to(self) -> bool:
        """Whether a webhook said charged for refused, or the other way round."""
        happened = (self.was_charged and not self.refused_later) or self.cancelled
        return any(line["success"] != happened for line in self.authorisations())

    @property
    def books_agree(self) -> bool:
        """Whether a webhook or the report says truly that it was charged."""
        line = self.says == "Authorised" and self.planted in {"", "duplicate"}
        return self.is_charged and (line or any(self.is_true(each) for each in self.authorisations()))


def cases(snapshot: Row, ledger: Sequence[Row], planted: Sequence[Row]) -> list[Case]:
    """Every payment of the product beside what the ledger has of it."""
    data = {"payments": snapshot["payments"], "journal": [], "commands": [], "alarms": snapshot["alarms"]}
    world = World([], data, ledger)
    told: dict[str, list[Row]] = defaultdict(list)
    refused, cancelled = set(), set()
    for line in ledger:
        if line["kind"] == "webhook" and line["status"] // 100 == 2 and line["signing"] != "WRONG_KEY":
            told[line["original_psp"] or line["psp_reference"]].append(line)
        elif line["kind"] == "charge_refused":
            refused.add(line["psp_reference"])
        elif line["kind"] == "cancellation":
            cancelled.add(line["original_psp"])
    kinds = {each["psp_reference"]: each["kind"] for each in planted if each["kind"] not in {"extra", "other-merchant"}}
    made = []
    for row in snapshot["payments"]:
        key = (row["poi_id"], row["service_id"])
        end = next(iter([*world.charges[key], *world.no_charges[key]]), None)
        psp = (end or {}).get("psp_reference") or ""
        offline = any(line["scenario"].startswith("offline") for line in world.requests[key])
        case = Case(
            row, _heard_at(world, key), end, offline, told[psp] if psp else [], psp in refused, psp in cancelled
        )
        case.planted = kinds.get(psp, "")
        case.says = _line(case) if psp else ""
        made.append(case)
    return made


def _heard_at(world: World, key: Key) -> str:
    """A line is written when its answer is known, so what it tells was there before."""
    pushed = (line for line in world.pushes[key] if line["what"] == "PaymentResponse" and line["status"] // 100 == 2)
    asked = (line for line in world.checks[key] if line["answer"].startswith("repeated"))
    return min((str(line["at"]) for line in (*pushed, *asked)), default="")


def _line(case: Case) -> str:
    if case.planted == "missing":
        return ""
    if case.cancelled:
        return "Cancelled"
    is_authorised = case.is_charged is not (case.planted == "state")
    return "Authorised" if is_authorised else "Refused"


# -- where a payment may have ended --


def class_of(case: Case) -> str:
    """What kind of trouble it had; the worst of several."""
    if case.planted:
        return f"report: {case.planted}"
    if case.end is None:
        return "never performed"
    if case.cancelled and case.was_charged:
        return "cancelled in the back office"
    if case.cancelled:
        return "refused by the card"
    if case.refused_later:
        return "offline, refused later"
    if case.lied_to:
        return "webhook contradicts"
    if not all(case.is_true(line) for line in case.authorisations()):
        return "webhook of another amount or currency"
    if not case.heard:
        return "terminal never told"
    return "charged" if case.was_charged else "refused"


def ended_wrongly(case: Case, alarms: Iterable[str]) -> str:
    """Why a payment is not where its evidence says; empty when it is."""
    state, outcome, alarms = case.row["state"], case.row["outcome"], set(alarms)
    if state == "pending":
        return "is still pending"
    if state == "unknown":
        return _unknown_wrongly(case, alarms)
    charged = outcome in CHARGED
    if must_be_unknown(case):
        if not charged and "contradiction" in alarms and _refused_twice(case):
            return ""
        return f"is {state} {outcome} though the books contradict the terminal"
    if charged != case.is_charged:
        return "" if _only_a_lie_was_heard(case, charged) else f"is {outcome}, and charged is {case.is_charged}"
    disputed = case.lied_to and case.planted == "amount" and "amount_above_request" in alarms
    if charged and case.heard and case.row["authorised_minor"] != case.minor and not disputed:
        return f"has {case.row['authorised_minor']} authorised, and {case.minor} was"
    if case.books_agree and state != "reconciled":
        return f"is {state} though the books agree"
    if charged and state == "reconciled" and not case.books_agree and case.heard and not disputed:
        return "is reconciled though no books agree"
    if not charged and not case.was_charged and state != "reconciled" and case.row["sent_at"]:
        return f"is {state} though the books of its day know no charge"
    return ""


def must_be_unknown(case: Case) -> bool:
    """Whether the terminal and the last word of the books contradict each other."""
    if not case.heard:
        return False
    if case.is_offline:
        said = {line["success"] for line in case.authorisations() if line["currency"] == case.row["currency"]}
        return bool(said) and case.says != "" and (case.says == "Authorised") not in said
    return (case.was_charged and case.cancelled) or case.planted == "state"


def _refused_twice(case: Case) -> bool:
    """Whether a webhook told what the report says too: an alarm was raised, and the books have the last word."""
    taken_back = any(line["event_code"] in _TAKEN_BACK for line in case.told)
    return case.says != "Authorised" and (taken_back or any(not line["success"] for line in case.authorisations()))


def _unknown_wrongly(case: Case, alarms: set[str]) -> str:
    if must_be_unknown(case) or (case.lied_to and case.says == ""):
        return "" if "contradiction" in alarms else "is unknown by a contradiction, and nobody was alarmed"
    if case.heard:
        return "is unknown though its terminal told"
    if case.books_agree:
        return "is unknown though the books agree"
    return ""


def _only_a_lie_was_heard(case: Case, charged: bool) -> bool:
    """No terminal or issuer told, and what ended it is the books' word, which was false."""
    said = [line["success"] for line in case.authorisations()]
    return (not case.heard or case.is_offline) and (charged in said or (case.says == "Authorised") == charged)


# -- which differences there are --


def differences(made: Sequence[Case], ledger: Sequence[Row], planted: Sequence[Row]) -> tuple[set[Found], set[Found]]:
    """Those that must be found, and those that may be: what depends on which word came first."""
    must: set[Found] = {("orphan", each["reference"]) for each in planted if each["kind"] == "extra"}
    may: set[Found] = set()
    own = {(case.end or {}).get("psp_reference") for case in made}
    for each in planted:  # about an earlier try of a dialogue, which has a PSP reference of its own
        if each["psp_reference"] not in own and each["kind"] == "duplicate":
            must.add(("duplicate_line", each["reference"]))
        elif each["psp_reference"] not in own and each["kind"] == "state":
            may.add(("missing_here", each["reference"]))
    for case in made:
        for kind in _of_report(case):
            certain = (case.heard and not case.lied_to and not case.is_offline) or kind == "duplicate_line"
            (must if certain else may).add((kind, case.reference))
        for kind, line in _of_webhooks(case):
            (must if case.heard and _surely_before(case.heard_at, line["at"]) else may).add((kind, case.reference))
        if must_be_unknown(case):
            (may if _books_spoke_first(case) else must).add(("state_differs", case.reference))
    for line in ledger:
        if line["kind"] == "refund" and line.get("outcome") == "done":
            must.add(("refund_elsewhere", line["reference"]))
        if line["kind"] == "webhook" and line["reference"].endswith("-unknown") and line["status"] // 100 == 2:
            must.add(("orphan", line["reference"]))
    return must, may - must


def _surely_before(heard_at: str, told_at: str) -> bool:
    """Lines are written some time after or before what they tell: beside each other, either may have been first."""
    return datetime.fromisoformat(told_at) - datetime.fromisoformat(heard_at) > _BESIDE


def _books_spoke_first(case: Case) -> bool:
    """A terminal's result that contradicts what webhooks told before raises an alarm, and opens no difference."""
    return any(line["at"] < case.heard_at for line in case.told if line["event_code"] in _TAKEN_BACK)


def _of_report(case: Case) -> Iterator[str]:
    if case.planted and (case.planted != "missing" or case.is_charged):
        yield _KINDS[case.planted]


def _of_webhooks(case: Case) -> Iterator[tuple[str, Row]]:
    """Each webhook that differs from what the terminal told, and how; a second one may find the payment settled."""
    taken_back = False
    for line in case.told:
        is_own, success = case.is_own(line), line["success"]
        if line["event_code"] in _TAKEN_BACK and case.was_charged:
            yield "state_differs", line
        elif line["event_code"] != "AUTHORISATION" or taken_back:  # what was taken back is told too late to count
            taken_back = taken_back or line["event_code"] in _TAKEN_BACK
        elif not is_own:
            if success:
                yield "orphan", line
        elif success and line["currency"] != case.row["currency"]:
            yield "currency_differs", line
        elif success != case.was_charged:
            if success or not case.is_offline:
                yield "state_differs", line
        elif success and line["amount_minor"] != case.minor:
            yield "amount_differs", line


# -- the verdict --


def verdict(folder: Path) -> Row:
    """Judge what a run left in its folder."""
    figures, first, second, report = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("books.json", "first.json", "second.json", "reports/planted.json")
    )
    ledger, planted = read_lines(folder / "ledger.jsonl"), report["planted"]
    made = cases(second, ledger, planted)
    must, may = differences(made, ledger, planted)
    found = [(each["kind"], each["reference"]) for each in second["differences"]]
    violations = [*_payments(made, second, set(found)), *_differences(set(found), must, may), *_ledger(made, ledger)]
    violations += [*_twice(figures, first, second), *_torn(figures)]
    return {
        "plan": figures["plan"],
        "versions": figures["versions"],
        "seconds": {name: figures[name] for name in ("load_s", "settled_after_s", "took_s")}
        | {name: figures[name]["took_s"] for name in ("first", "second")},
        "payments": len(made),
        "classes": _classes(made),
        "planted": Counter(each["kind"] for each in planted),
        "differences": Counter(kind for kind, _ in found),
        "must_be_found": len(must),
        "found_that_may_be": len(set(found) & may),
        "alarmed_alone": sorted(case.reference for case in made if _alarmed_alone(case, set(found))),
        "webhooks": {"taken": second["webhooks"], "in the quarantine": second["quarantine"]},
        "journal_lines_of_the_second_run": second["journal_lines"] - first["journal_lines"],
        "violations": [str(each) for each in violations],
    }


def _alarmed_alone(case: Case, found: set[Found]) -> bool:
    """What was told to a terminal's result beside it, or before it, and made no difference: then an alarm has to be."""
    kinds = {kind for kind, line in _of_webhooks(case) if line["success"] and kind != "orphan" and case.heard}
    if must_be_unknown(case):
        kinds.add("state_differs")
    return any((kind, case.reference) not in found for kind in kinds)


def _classes(made: Sequence[Case]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in made:
        counts[class_of(case)][f"{case.row['state']} {case.row['outcome'] or ''}".strip()] += 1
    return {name: dict(counts[name]) for name in sorted(counts)}


def _payments(made: Sequence[Case], snapshot: Row, found: set[Found]) -> Iterator[Violation]:
    alarms: dict[str, set[str]] = defaultdict(set)
    for alarm in snapshot["alarms"]:
        alarms[alarm["payment_id"]].add(alarm["name"])
    for case in made:
        if why := ended_wrongly(case, alarms[case.row["id"]]):
            yield Violation("payment", case.reference, f"{why} ({class_of(case)}, heard {case.heard})")
        if _alarmed_alone(case, found) and not alarms[case.row["id"]]:
            yield Violation("not found", case.reference, "no difference and no alarm")


def _differences(found: set[Found], must: set[Found], may: set[Found]) -> Iterator[Violation]:
    for kind, reference in sorted(must - found):
        yield Violation("not found", str(reference), kind)
    for kind, reference in sorted(found - must - may):
        yield Violation("invented", str(reference), kind)


def _ledger(made: Sequence[Case], ledger: Sequence[Row]) -> Iterator[Violation]:
    charges = {(line["poi_id"], line["service_id"]) for line in ledger if line["kind"] == "charge"}
    for poi_id, service_id in charges - {(case.row["poi_id"], case.row["service_id"]) for case in made}:
        yield Violation("payment", f"{poi_id} {service_id}", "was charged, and the product has no such payment")
    for line in ledger:
        if line["kind"] == "webhook" and line["signing"] == "WRONG_KEY" and line["status"] // 100 == 2:
            yield Violation("forged", line["reference"], "a webhook with a wrong signature was accepted")


def _twice(figures: Row, first: Row, second: Row) -> Iterator[Violation]:
    for name in ("differences", "books_lines"):
        if first[name] != second[name]:
            yield Violation("second run", name, "are not those of the first")
    was = {row["id"]: (row["state"], row["outcome"], row["reason"]) for row in first["payments"]}
    for row in second["payments"]:
        if was[row["id"]] != (row["state"], row["outcome"], row["reason"]):
            yield Violation("second run", row["reference"], f"moved from {was[row['id']]}")
    runs = [figures[name]["run"] for name in ("first", "second")]
    if [run["state"] for run in runs] != ["done", "done"] or runs[0]["summary"] != runs[1]["summary"]:
        yield Violation("second run", "summary", "is not that of the first")


def _torn(figures: Row) -> Iterator[Violation]:
    torn = figures["torn"]
    if torn["run"]["state"] != "refused" or torn["status"] != 1 or torn["changed"]:
        yield Violation("torn report", torn["run"]["state"], "was not refused, or something of it was recorded")
