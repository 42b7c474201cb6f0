"""Reports are read by header name, exactly, line by line; what cannot be read is named by its line, never quoted."""

import gzip
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from orchestrator.reports.layout import ENTRIES, LAYOUTS, ZONES, Entry, ReportKind
from orchestrator.reports.reading import PROBLEMS_MAX, Line, Problem, read_report

SAMPLES = Path(__file__).parents[1] / "vectors" / "reports"
ACCOUNTING = (SAMPLES / "payments_accounting_report_2025_11_26.csv").read_text()
RECEIVED = (SAMPLES / "received_payments_report_2025_11_25.csv").read_text()
SETTLEMENT = (SAMPLES / "settlement_detail_report_batch_12.csv").read_text()
SECRET = "QX7TPL4M2ZCN8V65"


def read(text: str | bytes) -> list[Line | Problem]:
    return list(read_report(io.BytesIO(text.encode() if isinstance(text, str) else text)))


def lines(text: str | bytes) -> list[Line]:
    found = read(text)
    assert all(isinstance(each, Line) for each in found), found
    return [each for each in found if isinstance(each, Line)]


def problems(text: str | bytes) -> list[Problem]:
    found = [each for each in read(text) if isinstance(each, Problem)]
    assert found
    assert not any(SECRET in problem.problem for problem in found), "a value was quoted"
    return found


def changed(text: str, line: int, old: str, new: str) -> str:
    """The report with one text on one line replaced."""
    rows = text.splitlines(keepends=True)
    assert old in rows[line - 1]
    rows[line - 1] = rows[line - 1].replace(old, new, 1)
    return "".join(rows)


def test_an_accounting_report_says_what_happened_to_each_payment() -> None:
    found = lines(ACCOUNTING)

    authorised = found[1]
    assert authorised == Line(
        3, ReportKind.ACCOUNTING, "Authorised", Entry.AUTHORISED, "ExampleMerchantPOS", SECRET, "ORDER-20251125-0001",
        None, None, date(2025, 11, 25), 60, datetime(2025, 11, 25, 9, 0, 34, tzinfo=UTC), "EUR", 1099, None,
    )  # fmt: skip
    assert [line.entry for line in found[3:]] == [
        Entry.REFUSED, Entry.SETTLED, Entry.SETTLED, Entry.REFUND_RECEIVED, Entry.REFUNDED,
    ]  # fmt: skip
    assert found[-1].modification_reference == "REFUND-0003"


def test_a_settlement_report_takes_credit_or_debit_whichever_is_filled() -> None:
    found = lines(SETTLEMENT)

    assert [(line.entry, line.currency, line.minor) for line in found[:5]] == [
        (Entry.SETTLED, "EUR", 1099),
        (Entry.SETTLED, "EUR", 14950),
        (Entry.SETTLED, "JPY", 1200),
        (Entry.REFUNDED, "EUR", 450),
        (Entry.CHARGEBACK, "EUR", 4200),
    ]
    assert (found[3].modification, found[3].modification_reference) == ("W6BT9RRD3M2XQK41", "REFUND-0003")
    assert {line.entry for line in found[5:]} == {Entry.NOTED}


def test_a_received_payments_report_lists_every_attempt() -> None:
    assert [(line.entry, line.minor) for line in lines(RECEIVED)] == [
        (Entry.AUTHORISED, 1099), (Entry.REFUSED, 2500), (Entry.AUTHORISED, 14950), (Entry.AUTHORISED, 1200),
    ]  # fmt: skip


def test_columns_are_read_by_name_wherever_they_stand_and_unknown_ones_are_not_looked_at() -> None:
    rows = [row.split(",") for row in RECEIVED.splitlines()]
    shuffled = "\n".join(",".join(["x;\"'" if n else "Shopper Mood", *reversed(row)]) for n, row in enumerate(rows))

    assert lines(shuffled.replace("x;\"'", "fine") + "\n") == lines(RECEIVED)


def test_a_mark_windows_line_ends_quotes_and_gzip_change_nothing() -> None:
    quoted = "".join(f'"{row.replace(",", chr(34) + "," + chr(34))}"\r\n' for row in RECEIVED.splitlines())

    assert lines(b"\xef\xbb\xbf" + quoted.encode()) == lines(RECEIVED)
    assert lines(gzip.compress(RECEIVED.encode())) == lines(RECEIVED)


@pytest.mark.parametrize(
    ("zone", "utc"), [("CET", "09:00:34"), ("CEST", "08:00:34"), ("UTC", "10:00:34"), ("PST", "18:00:34")]
)
def test_times_are_in_the_zone_that_the_line_names(zone: str, utc: str) -> None:
    found = lines(changed(RECEIVED, 2, ",CET,", f",{zone},"))[0]

    assert f"{found.at:%H:%M:%S}" == utc
    assert found.day == date(2025, 11, 25)


def test_a_terminal_column_tells_terminals_payments_from_others() -> None:
    with_column = "".join(
        f"{row},{cell}\n"
        for row, cell in zip(RECEIVED.splitlines(), ["Terminal ID", "V400m-324688170", "", "", ""], strict=True)
    )

    assert [line.terminal for line in lines(with_column)] == ["V400m-324688170", "", "", ""]


def test_a_type_that_is_not_known_is_told_from_one_that_says_nothing() -> None:
    assert lines(changed(RECEIVED, 2, "Authorised", "Teleported"))[0].entry is Entry.OTHER


def test_every_entry_is_said_by_some_type() -> None:
    assert set(ENTRIES.values()) == set(Entry) - {Entry.OTHER}
    assert len({layout.kind for layout in LAYOUTS.values()}) == len(ReportKind)
    assert all(-12 <= hours <= 14 for hours in ZONES.values())


BAD_LINES = {
    "a negative amount": (changed(RECEIVED, 4, "149.50", "-149.50"), 4, "negative"),
    "a decimal comma": (changed(RECEIVED, 4, "149.50", '"149,50"'), 4, "amount"),
    "thousands": (changed(RECEIVED, 4, "149.50", "1 149.50"), 4, "amount"),
    "letters for an amount": (changed(RECEIVED, 4, "149.50", "abc"), 4, "amount"),
    "more decimals than the currency has": (changed(RECEIVED, 5, "1200", "1200.5"), 5, "amount"),
    "no amount": (changed(RECEIVED, 4, "149.50", ""), 4, "no Amount"),
    "letters in a column of bookings": (changed(ACCOUNTING, 3, "-10.99,10.99", "-10.99,ten"), 3, "amount"),
    "a currency that is none": (changed(RECEIVED, 3, "EUR", "EUX"), 3, "currency"),
    "no PSP reference": (changed(RECEIVED, 2, SECRET, ""), 2, "Psp Reference"),
    "no time": (changed(RECEIVED, 2, "2025-11-25 10:00:34", "25/11/2025"), 2, "Creation Date"),
    "before the calendar": (changed(RECEIVED, 2, "2025-11-25 10:00:34", "0001-01-01 00:00:00"), 2, "Creation Date"),
    "a day that does not exist": (changed(RECEIVED, 2, "2025-11-25", "2025-02-30"), 2, "Creation Date"),
    "a zone that is none": (changed(RECEIVED, 2, "CET", "Mars"), 2, "TimeZone"),
    "a column too few": (changed(RECEIVED, 3, "ExampleCompany,", ""), 3, "11 columns and the header 12"),
    "a column too many": (changed(RECEIVED, 3, "0,", "0,,"), 3, "13 columns"),
    "a truncated last line": (RECEIVED[:-30], 5, "cut off"),
    "an unclosed quote": (changed(RECEIVED, 5, "ORDER", '"ORDER'), 5, "quote"),
}


@pytest.mark.parametrize(("text", "line", "says"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_line_that_is_wrong_is_named_by_its_number(text: str, line: int, says: str) -> None:
    (problem,) = problems(text)

    assert problem.line == line
    assert says in problem.problem


BAD_FILES = {
    "empty": (b"", 1, "none of the three reports"),
    "another table": (b"Date,Turnover\n2025-11-25,100\n", 1, "none of the three reports"),
    "a column missing": (RECEIVED.replace("Psp Reference", "Reference of PSP").encode(), 1, "without the column"),
    "a column twice": (RECEIVED.replace("Shopper Name", "Amount").encode(), 1, "twice"),
    "semicolons": (RECEIVED.replace(",", ";").encode(), 1, "semicolons"),
    "tabs": (RECEIVED.replace(",", "\t").encode(), 1, "tabs"),
    "UTF-16": (RECEIVED.encode("utf-16"), 1, "UTF-8"),
    "Latin-1": (changed(RECEIVED, 3, "ORDER", "ÖRDER").encode("latin-1"), 3, "UTF-8"),
    "zero bytes": (changed(RECEIVED, 3, "ORDER", "\0").encode(), 3, "UTF-8"),
    "a cut gzip": (gzip.compress(RECEIVED.encode())[:-20], None, "cut off or damaged"),
    "a damaged gzip": (b"\x1f\x8b" + b"nonsense" * 10, 1, "cut off or damaged"),
    "a line without end": (b"Amount," + b"x" * 70_000, 1, "longer than"),
}


@pytest.mark.parametrize(("content", "line", "says"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_is_no_report_is_refused_with_the_line_and_a_remedy(
    content: bytes, line: int | None, says: str
) -> None:
    problem = problems(content)[0]

    assert line in {None, problem.line}  # None: how far the packer's blocks let one read
    assert says in problem.problem


def test_every_bad_line_is_told_up_to_a_limit() -> None:
    two = changed(changed(RECEIVED, 2, "10.99", "x"), 4, "149.50", "y")
    assert [problem.line for problem in problems(two)] == [2, 4]

    header, row = RECEIVED.splitlines(keepends=True)[:2]
    assert len(problems(header + row.replace("10.99", "x") * 1000)) == PROBLEMS_MAX


def test_somebody_elses_strange_reference_refuses_nothing() -> None:
    found = lines(changed(RECEIVED, 2, "ORDER-20251125-0001", "caf\u00e9\u00a0\u202e" + "x" * 100))[0]

    assert found.reference.startswith("café??x")
    assert len(found.reference) == 80


def test_lines_come_while_the_file_is_read() -> None:
    """Whatever its length, one line is held."""

    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.parts: Iterator[bytes] = self._parts()
            self.at_start = True

        @staticmethod
        def _parts() -> Iterator[bytes]:
            rows = RECEIVED.splitlines(keepends=True)
            yield rows[0].encode()
            while True:
                yield rows[1].encode()

        def read(self, size: int = -1) -> bytes:
            return b"Co"

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def readline(self, size: int | None = -1) -> bytes:
            return next(self.parts)

    stream = read_report(Endless())  # type: ignore[arg-type]
    assert sum(isinstance(next(stream), Line) for _ in range(5000)) == 5000


def test_a_row_without_end_is_refused_before_it_fills_memory() -> None:
    (problem,) = problems(RECEIVED.splitlines()[0] + '\n"\n' + '","\n' * 50_000)

    assert "is longer than 65536 bytes" in problem.problem
    assert problem.line < 50_000


def test_a_time_with_spaces_without_end_is_none() -> None:
    (problem,) = problems(changed(RECEIVED, 2, " 10:", " " * 5_000 + "10:"))

    assert "is no time" in problem.problem
