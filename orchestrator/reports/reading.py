"""Reports from bytes to lines. What cannot be read is a problem with its line number, and never quoted."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import BinaryIO, Final, NamedTuple, cast

from orchestrator.errors import OrchestratorError
from orchestrator.reports.layout import (
    ABOUT_MONEY,
    ENTRIES,
    LAYOUTS,
    MODIFICATION_REFERENCE,
    TERMINAL,
    ZONES,
    Entry,
    Layout,
    ReportKind,
)
from orchestrator.terminal_api import money

#: A line of the widest report with every optional column has some 2 kB.
_LINE_BYTES_MAX: Final = 65_536

#: After this many problems nobody reads on, and the report is refused anyway.
PROBLEMS_MAX: Final = 20

#: Letters and digits, sixteen of them today.
_PSP_REFERENCE: Final = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)

#: The platform's own limits of its references.
_PSP_CHARS_MAX: Final = 64
_REFERENCE_CHARS_MAX: Final = 80

_GZIP_MAGIC: Final = b"\x1f\x8b"
_SIGNED: Final = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?", re.ASCII)
_INSTANT: Final = "%Y-%m-%d %H:%M:%S"
_INSTANT_CHARS: Final = len("2025-11-25 10:00:34")
_OTHER_SEPARATORS: Final = {";": "semicolons", "\t": "tabs", "|": "bars"}


class Line(NamedTuple):
    """One line about a payment or a refund. ``day`` is in the report's zone, ``at`` the same instant in UTC."""

    number: int
    kind: ReportKind
    record_type: str
    entry: Entry
    merchant_account: str
    psp_reference: str
    reference: str
    modification: str | None  # the modification's own PSP reference
    modification_reference: str | None  # the reference that was given to the modification
    day: date
    offset_minutes: int  # of the report's zone from UTC
    at: datetime
    currency: str | None
    minor: int | None
    terminal: str | None  # empty where the column is there and the payment had none; None without the column


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a report cannot be used: at which line, what is wrong, and what would be right. Never what was there."""

    line: int
    problem: str


class _Unreadable(OrchestratorError):
    """A line cannot be read."""


class _Broken(_Unreadable):
    """Nothing can be read from here on."""


def read_report(stream: BinaryIO) -> Iterator[Line | Problem]:
    """Read a report, plain or compressed by gzip, from its first byte on.

    Yields every line, and a problem in the place of one that cannot be read; ends after the header, or after
    ``PROBLEMS_MAX`` problems, when there is no sense in reading on.
    """
    taken_bytes = [0]  # of the row that is being read
    rows = csv.reader(_texts(stream, taken_bytes), strict=True)
    problems = 0
    columns: _Columns | None = None
    while problems < PROBLEMS_MAX:
        try:
            taken_bytes[0] = 0
            row = next(rows, None)
            if columns is None:
                columns = _Columns(row or [])
            elif row is None:
                return
            elif row:
                yield columns.line(rows.line_num, row)
        except _Broken as error:
            yield Problem(rows.line_num + 1, str(error))
            return
        except csv.Error:
            yield Problem(
                rows.line_num, "is not CSV: a quote is not closed, or text follows one; fetch the report again"
            )
            return
        except _Unreadable as error:
            yield Problem(max(rows.line_num, 1), str(error))
            problems += 1
            if columns is None:
                return


def _texts(stream: BinaryIO, taken_bytes: list[int]) -> Iterator[str]:
    """Lines as text, each decoded on its own so that a problem has its place. No quote opens an endless row."""
    source = _unpacked(stream)
    encoding = "utf-8-sig"  # some tools put a mark before the first line
    while raw := _read_line(source):
        taken_bytes[0] += len(raw)
        if taken_bytes[0] > _LINE_BYTES_MAX:
            raise _Broken(f"is longer than {_LINE_BYTES_MAX} bytes; this is no report")
        if b"\0" in raw:
            raise _Broken("has a zero byte: it is not UTF-8; have the report made in UTF-8")
        try:
            yield raw.decode(encoding)
        except UnicodeDecodeError:
            raise _Broken("is not UTF-8; have the report made in UTF-8") from None
        encoding = "utf-8"


def _unpacked(stream: BinaryIO) -> BinaryIO:
    compressed = stream.read(2) == _GZIP_MAGIC
    stream.seek(0)
    return cast("BinaryIO", gzip.GzipFile(fileobj=stream)) if compressed else stream


def _read_line(source: BinaryIO) -> bytes:
    try:
        return source.readline(_LINE_BYTES_MAX + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise _Broken("the compressed file is cut off or damaged; fetch the report again") from None


class _Columns:
    """Where the header has what."""

    def __init__(self, header: Sequence[str]) -> None:
        """Take the header.

        Raises:
            _Unreadable: it is none of the three reports, or a column is missing or there twice.
        """
        names = [name.strip() for name in header]
        self.width = len(names)
        self.layout = _layout_of(names)
        twice = [name for name in self.layout.needed if names.count(name) > 1]
        if twice:
            raise _Unreadable(f"has the column {twice[0]!r} twice")
        missing = [name for name in self.layout.needed if name not in names]
        if missing:
            raise _Unreadable(
                f"is a {self.layout.kind} report without the column {missing[0]!r}; add it to the report's columns"
            )
        places = {name: place for place, name in enumerate(names)}
        self._merchant, self._psp = places["Merchant Account"], places["Psp Reference"]
        self._reference, self._zone = places["Merchant Reference"], places["TimeZone"]
        self._at, self._type = places[self.layout.at], places[self.layout.type]
        self._currency = places[self.layout.currency]
        self._amounts = [places[name] for name in self.layout.amounts]
        self._signed = [places[name] for name in self.layout.signed if name in places]
        self._modification = places.get(self.layout.modification or "")
        self._modification_reference = places.get(MODIFICATION_REFERENCE)
        self._terminal = next((places[name] for name in TERMINAL if name in places), None)

    def line(self, number: int, row: Sequence[str]) -> Line:
        """Read one line.

        Raises:
            _Unreadable: a field is wrong.
        """
        if len(row) != self.width:
            raise _Unreadable(
                f"has {len(row)} columns and the header {self.width}: it is cut off, or separated by another sign;"
                " fetch the report again"
            )
        record_type = row[self._type]
        entry = ENTRIES.get(record_type, Entry.OTHER)
        day, offset_minutes, at = _when(row[self._at], row[self._zone], self.layout.at)
        for place in self._signed:
            if row[place] and not _SIGNED.fullmatch(row[place]):
                raise _Unreadable(_NO_AMOUNT)
        currency, minor = self._amount(row, entry)
        about_money = entry in ABOUT_MONEY
        psp_reference = row[self._psp]
        if not _PSP_REFERENCE.fullmatch(psp_reference):
            if about_money:
                raise _Unreadable("has no Psp Reference, or one that is none")
            psp_reference = ""
        return Line(
            number,
            self.layout.kind,
            _plain(record_type, _TYPE_CHARS_MAX),
            entry,
            row[self._merchant],
            psp_reference,
            _plain(row[self._reference], _REFERENCE_CHARS_MAX),
            _optional(row, self._modification, _PSP_CHARS_MAX) if about_money else None,
            _optional(row, self._modification_reference, _REFERENCE_CHARS_MAX),
            day,
            offset_minutes,
            at,
            currency,
            minor,
            None if self._terminal is None else _plain(row[self._terminal], _PSP_CHARS_MAX),
        )

    def _amount(self, row: Sequence[str], entry: Entry) -> tuple[str | None, int | None]:
        """The first amount that is filled; a line about money has one."""
        if entry not in ABOUT_MONEY:
            return None, None
        filled = next((row[place] for place in self._amounts if row[place]), None)
        if filled is None:
            raise _Unreadable(f"has no {' or '.join(self.layout.amounts)}")
        if filled.startswith("-"):
            raise _Unreadable(f"has a negative {self.layout.amounts[0]}; a report has amounts above zero there")
        return _minor(filled, row[self._currency])


_NO_AMOUNT: Final = "has an amount that is none; amounts are written like 10.50, without signs for thousands"
_TYPE_CHARS_MAX: Final = 40


def _layout_of(names: Sequence[str]) -> Layout:
    for column, layout in LAYOUTS.items():
        if column in names:
            return layout
    if len(names) == 1:
        sign = next((sign for sign in _OTHER_SEPARATORS if sign in names[0]), None)
        if sign is not None:
            raise _Unreadable(f"separates its columns by {_OTHER_SEPARATORS[sign]}; have the report made with commas")
    raise _Unreadable(f"is none of the three reports: it has no column {', '.join(map(repr, LAYOUTS))}")


def _optional(row: Sequence[str], place: int | None, longest: int) -> str | None:
    return _plain(row[place], longest) or None if place is not None else None


def _plain(text: str, longest: int) -> str:
    """Anybody's text: none of ours is longer or has signs that cannot be printed, so those may go."""
    if len(text) <= longest and text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "?" for sign in text[:longest])


@lru_cache(maxsize=65_536)
def _minor(text: str, currency: str) -> tuple[str, int]:
    """Minor units; shops charge the same amounts again and again."""
    try:
        amount = money.from_major(text, currency)
    except money.InvalidAmount as error:
        wrong = "has a currency that the platform does not list" if error.problem == "unknown-currency" else _NO_AMOUNT
        raise _Unreadable(wrong) from None
    return amount.currency, amount.minor


def _no_time(column: str) -> str:
    return f"has a {column} that is no time; it is written like 2025-11-25 10:00:34"


@lru_cache(maxsize=65_536)
def _when(text: str, zone: str, column: str) -> tuple[date, int, datetime]:
    """The day in the report's zone, that zone's minutes from UTC, and the instant in UTC."""
    if len(text) > _INSTANT_CHARS:
        raise _Unreadable(_no_time(column))
    hours = ZONES.get(zone)
    if hours is None:
        raise _Unreadable("has a TimeZone that we do not know; it is a word such as CET or CEST")
    try:
        local = datetime.strptime(text, _INSTANT).replace(tzinfo=timezone(timedelta(hours=hours)))
        at = local.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter for the first and last hours of the calendar
        raise _Unreadable(_no_time(column)) from None
    return local.date(), round(hours * 60), at
