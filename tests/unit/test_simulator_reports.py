"""The platform's reports: the recorded columns, sums that come out, and exactly the differences that were planted."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulator import report_command
from orchestrator.simulator.reports import KINDS, Period, Written, write
from orchestrator.simulator.stories import DISCREPANCIES, Later, Story, from_ledger, made_up

_DAY = date(2025, 11, 25)
_PERIOD = Period(_DAY, "ShopBerlin")
_NOON = datetime(2025, 11, 25, 11, 0, tzinfo=UTC)
_VECTORS = Path(__file__).parents[1] / "vectors" / "reports"

Row = dict[str, str]


def rows(folder: Path, written: Written, kind: str) -> list[Row]:
    with (folder / written.files[kind]).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def story(**changes: Any) -> Story:
    fields: dict[str, Any] = {
        "psp_reference": "QX7TPL4M2ZCN8V65", "reference": "ORDER-1", "currency": "EUR", "amount_minor": 1099,
        "at": _NOON,
    }  # fmt: skip
    return Story(**fields | changes)


def of(folder: Path, *stories: Story, kind: str = "accounting", day: date = _DAY) -> list[Row]:
    written = write(folder, list(stories), Period(day, "ShopBerlin"), kinds=[kind])
    return rows(folder, written, kind)


@pytest.mark.parametrize(
    ("kind", "vector"),
    [
        ("accounting", "payments_accounting_report_2025_11_26.csv"),
        ("settlement", "settlement_detail_report_batch_12.csv"),
        ("received", "received_payments_report_2025_11_25.csv"),
    ],
)
def test_a_report_has_the_recorded_columns_and_as_many_fields_in_each_line(
    kind: str, vector: str, tmp_path: Path
) -> None:
    written = write(tmp_path, list(made_up(40, seed=1, day=_DAY)), _PERIOD, kinds=[kind])
    with (_VECTORS / vector).open(newline="") as recorded, (tmp_path / written.files[kind]).open(newline="") as ours:
        expected, lines = next(csv.reader(recorded)), list(csv.reader(ours))

    assert lines[0] == expected
    assert {len(line) for line in lines} == {len(expected)}
    assert written.lines == {kind: len(lines) - 1}


def test_an_approval_is_booked_step_by_step_as_recorded(tmp_path: Path) -> None:
    at = datetime(2025, 11, 25, 9, 0, 34, tzinfo=UTC)
    with (_VECTORS / "payments_accounting_report_2025_11_26.csv").open(newline="") as file:
        recorded = [row for row in csv.DictReader(file) if row["Record Type"] in ("Received", "Authorised")][:2]

    ours = of(tmp_path, story(at=at, reference="ORDER-20251125-0001"))

    assert [row["Record Type"] for row in ours] == ["Received", "Authorised", "SentForSettle"]
    assert ours[:2] == [row | {"Merchant Account": "ShopBerlin"} for row in recorded]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["Received", "Authorised", "SentForSettle"]),
        ({"type": "Refused"}, ["Received", "Refused"]),
        ({"type": "Cancelled"}, ["Received", "Authorised", "Cancelled"]),
        ({"type": "PaidOut"}, ["SentForRefund", "Refunded"]),
        (
            {"later": (Later("Refunded", _NOON, 450, "W6BT9RRD3M2XQK41", "REFUND-3"),)},
            ["Received", "Authorised", "SentForSettle", "SentForRefund", "Refunded"],
        ),
        (
            {"later": (Later("CaptureFailed", _NOON, 1099, "W6BT9RRD3M2XQK41", ""),)},
            ["Received", "Authorised", "CaptureFailed"],
        ),
        (
            {"later": (Later("Chargeback", _NOON + timedelta(days=30), 1099, "W6BT9RRD3M2XQK41", ""),)},
            ["Received", "Authorised", "SentForSettle"],
        ),
    ],
)
def test_every_fate_of_a_payment_has_its_records(changes: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    assert [row["Record Type"] for row in of(tmp_path, story(**changes))] == expected


def test_a_step_is_in_the_report_of_its_own_day(tmp_path: Path) -> None:
    refunded = Later("Refunded", _NOON + timedelta(days=2), 450, "W6BT9RRD3M2XQK41", "REFUND-3")

    by_day = [of(tmp_path, story(later=(refunded,)), day=_DAY + timedelta(days=n)) for n in range(4)]

    assert [[row["Record Type"] for row in day] for day in by_day] == [
        ["Received", "Authorised", "SentForSettle"],
        ["Settled"],
        ["SentForRefund", "Refunded"],
        [],
    ]


def test_the_day_ends_at_midnight_of_the_office(tmp_path: Path) -> None:
    late = story(at=datetime(2025, 11, 24, 23, 30, tzinfo=UTC))  # half past midnight on the 25th

    assert [row["Creation Date"] for row in of(tmp_path, late, kind="received")] == ["2025-11-25 00:30:00"]
    assert of(tmp_path, late, kind="received", day=_DAY - timedelta(days=1)) == []


@pytest.mark.parametrize(
    ("currency", "minor", "major"),
    [("EUR", 5, "0.05"), ("JPY", 1200, "1200"), ("KWD", 1234, "1.234"), ("ISK", 7, "0.07")],
)
def test_amounts_are_in_major_units_with_the_decimals_of_the_currency(
    currency: str, minor: int, major: str, tmp_path: Path
) -> None:
    [row] = of(tmp_path, story(currency=currency, amount_minor=minor), kind="received")

    assert (row["Currency"], row["Amount"]) == (currency, major)


def test_a_batch_comes_out_at_nothing_in_each_currency(tmp_path: Path) -> None:
    refunded = Later("Refunded", _NOON, 450, "W6BT9RRD3M2XQK41", "REFUND-3")
    euros = [*made_up(50, seed=1, day=_DAY), story(later=(refunded,))]
    pounds = list(made_up(5, seed=2, day=_DAY, currency="GBP"))

    found = of(tmp_path, *euros, *pounds, kind="settlement")

    sums: dict[str, Decimal] = defaultdict(Decimal)
    for row in found:
        sums[row["Net Currency"]] += Decimal(row["Net Credit (NC)"] or 0) - Decimal(row["Net Debit (NC)"] or 0)
        if row["Type"] == "Settled":
            fees = sum(Decimal(row[name] or 0) for name in ("Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)"))
            assert Decimal(row["Gross Credit (GC)"]) - fees == Decimal(row["Net Credit (NC)"])
    assert sums == {"EUR": 0, "GBP": 0}
    [refund] = [row for row in found if row["Type"] == "Refunded"]
    assert (refund["Psp Reference"], refund["Modification Reference"]) == ("QX7TPL4M2ZCN8V65", "W6BT9RRD3M2XQK41")
    assert (refund["Modification Merchant Reference"], refund["Gross Debit (GC)"]) == ("REFUND-3", "4.50")


# -- from a ledger --


def _lines(*endings: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A ledger of one payment for each, whose number is its PSP reference, with more lines about it."""
    lines: list[dict[str, Any]] = []
    for number, (kind, more) in enumerate(endings):
        ids = {"poi_id": "T", "sale_id": "K", "service_id": str(number), "reference": f"R-{number}"}
        asked = {
            "currency": "EUR",
            "amount_minor": 1099,
            "payment_type": "Normal",
            "category": "Payment",
            "taken": True,
        }
        lines.append({"kind": "request"} | ids | asked)
        ended = {"psp_reference": f"P{number}", "ended_at": "2025-11-25T11:00:00.000Z"}
        amount = {"amount_minor": 659} if kind == "charge" else {}
        lines.append({"kind": kind} | ids | ended | amount)
        if more:
            about = {"effective_at": "2025-11-25T11:01:00.000Z", "reference": f"R-{number}", "currency": "EUR"}
            refs = {"psp_reference": f"M{number}", "original_psp": f"P{number}", "amount_minor": 659}
            lines.append(about | refs | more)
    return lines


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        ("charge", {}, ("Authorised", 659, [])),
        ("no_charge", {}, ("Refused", 1099, [])),
        ("charge", {"kind": "cancellation"}, ("Cancelled", 659, [])),
        ("no_charge", {"kind": "cancellation"}, ("Cancelled", 1099, [])),
        ("charge", {"kind": "charge_refused", "psp_reference": "P0", "original_psp": ""}, ("Refused", 659, [])),
        ("charge", {"kind": "refund", "outcome": "done"}, ("Authorised", 659, ["Refunded"])),
        ("charge", {"kind": "refund", "outcome": "declined"}, ("Authorised", 659, [])),
        ("charge", {"kind": "refund", "outcome": "voided"}, ("Authorised", 659, [])),
        ("charge", {"kind": "refund", "outcome": "cancelled"}, ("Cancelled", 659, [])),
        ("charge", {"kind": "refund", "outcome": "failed"}, ("Authorised", 659, ["RefundFailed"])),
        ("charge", {"kind": "refund", "outcome": "reversed"}, ("Authorised", 659, ["RefundedReversed"])),
        ("charge", {"kind": "chargeback"}, ("Authorised", 659, ["Chargeback"])),
        ("charge", {"kind": "capture_failed"}, ("Authorised", 659, ["CaptureFailed"])),
        ("charge", {"kind": "expiry"}, ("Authorised", 659, ["Expired"])),
    ],
)
def test_a_ledger_is_read_as_the_books_have_it(
    kind: str, more: dict[str, Any], expected: tuple[str, int, list[str]]
) -> None:
    [found] = from_ledger(_lines((kind, more)))

    assert (found.type, found.amount_minor, [later.record for later in found.later]) == expected


def test_a_payment_without_a_psp_reference_is_in_no_report() -> None:
    lines = _lines(("no_charge", {}))
    lines[-1]["psp_reference"] = ""

    assert from_ledger(lines) == []


# -- planted --


@pytest.mark.parametrize("kind", DISCREPANCIES)
def test_a_planted_difference_is_the_only_one(kind: str, tmp_path: Path) -> None:
    stories = list(made_up(200, seed=3, day=_DAY))
    clean = write(tmp_path / "clean", stories, _PERIOD)

    planted = write(tmp_path / "planted", stories, _PERIOD, plant={kind: 3}, seed=9)

    assert Counter(each.kind for each in planted.planted) == {kind: 3}
    psps = {each.psp_reference for each in planted.planted}
    for report in KINDS:
        before = Counter(_facts(row) for row in rows(tmp_path / "clean", clean, report) if row["Psp Reference"])
        after = Counter(_facts(row) for row in rows(tmp_path / "planted", planted, report) if row["Psp Reference"])
        differing = {facts[0] for facts in (before - after) + (after - before)}
        assert differing <= psps
        assert differing == psps or report == "settlement"  # what was refused in both is in no batch


def _facts(row: Row) -> tuple[str, ...]:
    return row["Psp Reference"], *row.values()


def test_what_was_planted_is_listed_with_the_truth_and_what_was_written(tmp_path: Path) -> None:
    plant = dict.fromkeys(DISCREPANCIES, 1)

    written = write(tmp_path, list(made_up(50, seed=3, day=_DAY)), _PERIOD, plant=plant, seed=4)

    listed = json.loads((tmp_path / "planted.json").read_text())
    assert (listed["day"], listed["merchant"], listed["files"]) == ("2025-11-25", "ShopBerlin", written.files)
    by_kind = {each["kind"]: each for each in listed["planted"]}
    assert set(by_kind) == set(DISCREPANCIES)
    truth, wrote = by_kind["amount"]["truth"], by_kind["amount"]["written"]
    assert wrote["amount_minor"] - truth["amount_minor"] == 100
    assert (by_kind["currency"]["truth"], by_kind["currency"]["written"]) == ({"currency": "EUR"}, {"currency": "USD"})
    assert by_kind["missing"]["written"] == by_kind["extra"]["truth"] == {}
    assert by_kind["other-merchant"]["written"]["merchant"] not in ("", "ShopBerlin")


def test_the_same_seed_plants_the_same(tmp_path: Path) -> None:
    def planted(seed: int) -> list[str]:
        stories = list(made_up(500, seed=3, day=_DAY))
        return [p.psp_reference for p in write(tmp_path, stories, _PERIOD, plant={"missing": 5}, seed=seed).planted]

    assert planted(1) == planted(1) != planted(2)


def test_only_an_unchanged_payment_of_the_day_gets_a_difference(tmp_path: Path) -> None:
    refunded = story(psp_reference="A", later=(Later("Refunded", _NOON, 450, "W6BT9RRD3M2XQK41", "REFUND-3"),))
    yesterday = story(psp_reference="B", at=_NOON - timedelta(days=1))
    stories = [refunded, yesterday, story(psp_reference="C")]

    assert [p.psp_reference for p in write(tmp_path, stories, _PERIOD, plant={"missing": 1}).planted] == ["C"]
    with pytest.raises(ValueError, match="2 payments are wanted to differ, and there are 1"):
        write(tmp_path, stories, _PERIOD, plant={"missing": 2})


@pytest.mark.parametrize("wrong", [{"plant": {"no-such": 1}}, {"kinds": ["no-such"]}])
def test_what_does_not_exist_is_refused_before_anything_is_written(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no-such"):
        write(tmp_path, [story()], _PERIOD, **wrong)

    assert list(tmp_path.iterdir()) == []


def test_made_up_payments_are_streamed_and_unlike_each_other(tmp_path: Path) -> None:
    make_up = partial(made_up, 2_000, seed=5, day=_DAY)

    written = write(tmp_path, make_up, _PERIOD, plant={"missing": 1, "extra": 2}, count=2_000, seed=1)

    found = rows(tmp_path, written, "received")
    assert len(found) == 2_000 - 1 + 2
    assert len({row["Psp Reference"] for row in found}) == len({row["Merchant Reference"] for row in found}) == 2_001
    assert {row["Creation Date"][:10] for row in found} == {"2025-11-25"}


# -- the command --


def test_the_command_writes_and_says_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = report_command.main(
        ["--made-up-reports", "100", "--day", "2025-11-25", "--out", str(tmp_path), "--kind", "received",
         "--plant", "extra=2", "--merchant", "ShopBerlin"]
    )  # fmt: skip

    assert status == 0
    name = "received_payments_report_2025_11_25.csv"
    assert json.loads(capsys.readouterr().out) == {"files": [name], "lines": {"received": 102}, "planted": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["planted.json", name]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--write-reports", "/no/such/ledger", "--day", "2025-11-25"], "no ledger"),
        (["--made-up-reports", "1", "--day", "today"], "--day"),
        (["--made-up-reports", "1", "--day", "2025-11-25", "--plant", "no-such=1"], "no-such"),
        (["--made-up-reports", "1", "--day", "2025-11-25", "--plant", "missing=2"], "2 payments are wanted"),
        (["--made-up-reports", "-1", "--day", "2025-11-25"], "--made-up-reports"),
        (["--made-up-reports", "1", "--write-reports", "x", "--day", "2025-11-25"], "not allowed with"),
    ],
)
def test_a_wrong_command_is_a_usage_error(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        report_command.main([*arguments, "--out", str(tmp_path)])

    assert exit_.value.code == 2
    assert named in capsys.readouterr().err
