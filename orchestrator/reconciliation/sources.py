"""Which reports a run reads: those that are named, else those of the folder that can concern its period."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from orchestrator.errors import OrchestratorError
from orchestrator.reports.reading import PROBLEMS_MAX, Line, Problem, read_report

#: What the platform calls its reports; other files of the folder are nobody's business.
NAME: Final = re.compile(
    r"(?:settlement_detail|payments?_accounting|received_payments?)[A-Za-z0-9_.-]{0,100}\.csv(?:\.gz)?\Z"
)
_DATE: Final = re.compile(r"([0-9]{4})[_-]([0-9]{2})[_-]([0-9]{2})")

#: A report of a day is made in the night after it, and named for either; a manual one may be a day later.
_NAMED_WITHIN_DAYS: Final = 3

#: A merchant account's lines that are another's: so many are named, the rest are counted.
_FOREIGN_SHOWN_MAX: Final = 20


class NoSuchReport(OrchestratorError):
    """There is no such report."""


@dataclass(slots=True)
class Source:
    """One report, and what was seen of it while it was read."""

    path: Path
    merchant_account: str
    kind: str | None = None
    lines: int = 0
    first_day: date | None = None
    last_day: date | None = None
    foreign: int = 0
    foreign_lines: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's name, without its folder."""
        return self.path.name

    def read(self) -> Iterator[Line]:
        """Read the lines of the merchant account, from the first on; what cannot be read is kept as a problem.

        Raises:
            NoSuchReport: the file cannot be opened.
        """
        try:
            stream = self.path.open("rb")
        except OSError as error:
            raise NoSuchReport(f"{self.name} cannot be read: {error.strerror or 'it cannot be opened'}") from None
        with stream:
            for each in read_report(stream):
                if isinstance(each, Problem):
                    self.problems.append(each)
                    continue
                self.kind = each.kind.value
                if each.merchant_account != self.merchant_account:
                    self._foreign(each)
                    continue
                self.lines += 1
                self.first_day = min(self.first_day or each.day, each.day)
                self.last_day = max(self.last_day or each.day, each.day)
                yield each

    def _foreign(self, line: Line) -> None:
        self.foreign += 1
        if len(self.foreign_lines) < _FOREIGN_SHOWN_MAX:
            self.foreign_lines.append(line.number)

    def json(self) -> dict[str, Any]:
        """Say what was read, for the run's row."""
        return {
            "name": self.name,
            "kind": self.kind,
            "lines": self.lines,
            "first_day": self.first_day and self.first_day.isoformat(),
            "last_day": self.last_day and self.last_day.isoformat(),
            "other_merchant_lines": self.foreign,
            "other_merchant_line_numbers": self.foreign_lines,
        }

    def problems_json(self) -> list[dict[str, Any]]:
        """Say why it cannot be used, line by line."""
        found = [{"file": self.name, "line": each.line, "problem": each.problem} for each in self.problems]
        more = {"file": self.name, "line": None, "problem": "there may be more; nothing was read after these"}
        return [*found, more] if len(found) >= PROBLEMS_MAX else found


def of_merchant(folder: Path, merchant_account: str) -> Path:
    """The part of the folder that a merchant account's own keys may write to; nobody can put reports before others."""
    return folder / f"merchant-{quote(merchant_account, safe='')}"


def in_folder(folder: Path, merchant_account: str, first_day: date, last_day: date) -> list[Path]:
    """Name the reports that can concern a period, in order: those for all, and the merchant account's own."""
    folders = (folder, of_merchant(folder, merchant_account))
    return sorted(
        path
        for each in folders
        if each.is_dir()
        for path in each.iterdir()
        if NAME.match(path.name) and path.is_file() and _may_concern(path, first_day, last_day)
    )


def _may_concern(path: Path, first_day: date, last_day: date) -> bool:
    """By the day in its name. One without (a batch of settlements) tells nothing of days after it was written."""
    match = _DATE.search(path.name)
    try:
        day = date(*map(int, match.groups())) if match else None
    except ValueError:
        day = None
    if day is None:
        written_on = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
        return written_on >= first_day - timedelta(1)
    return first_day - timedelta(_NAMED_WITHIN_DAYS) <= day <= last_day + timedelta(_NAMED_WITHIN_DAYS)


def named(paths: Sequence[Path]) -> list[Path]:
    """The reports that somebody named, each once.

    Raises:
        NoSuchReport: one is not there.
    """
    for path in paths:
        if not path.is_file():
            raise NoSuchReport(f"there is no file {path.name}; name reports by their paths")
    return list(dict.fromkeys(paths))
