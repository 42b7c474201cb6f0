"""One run, step by step. Reading comes first, and nothing is recorded before every report was read to its end.

Every step may be repeated: evidence is known by its digest, a difference by what it is about. A run whose process died
is begun anew, and two runs of one period end alike.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import structlog

from orchestrator.booking import Booker
from orchestrator.errors import InvalidSubmission, OrchestratorError
from orchestrator.evidence import CheckAsked, Evidence
from orchestrator.meaning import Alarm
from orchestrator.policy import Policy
from orchestrator.reconciliation.entries import entry, silence, word
from orchestrator.reconciliation.sources import NoSuchReport, Source, in_folder, named
from orchestrator.reconciliation.summary import summarise
from orchestrator.record import Recorder
from orchestrator.store.matching import Busy, Matching, Period, matching
from orchestrator.store.reconciliation import RunStore
from orchestrator.store.rows import Row
from orchestrator.store.words import RunState
from orchestrator.subscription import COMPLETED
from orchestrator.views import run_json

log = structlog.get_logger()

#: Payments that are recorded in one database transaction: beyond this, larger ones gain nothing (docs, "measured").
_BATCH: Final = 500

#: Deciding and writing take turns on two cores; a third thread finds nothing left.
_THREADS: Final = 2

#: A run by the clock looks back this far: settlements come days after their payments.
NIGHTLY_DAYS: Final = 7

#: A run over more days than a year has would hold too much at once; ask for one after the other.
PERIOD_DAYS_MAX: Final = 366

#: How often progress is written, and answers to status checks are looked for.
_PROGRESS_EVERY_S: Final = 1.0

#: A terminal's answer is waited for this long beyond its own time-out: for the worker that asks.
_ANSWER_MARGIN_S: Final = 3.0

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a run is to do. Without ``reports`` it takes those of the folder; without days, those of the reports."""

    merchant_account: str
    first_day: date | None = None
    last_day: date | None = None
    reports: tuple[Path, ...] = ()
    ask: bool = True  # terminals first, about what is open or unknown


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Goes through runs."""

    runs: RunStore
    recorder: Recorder
    booker: Booker
    policy: Policy
    folder: Path
    process_webhook: Callable[[int], object]  # once more, by its number
    callback_url: str | None = None

    def ask(self, wish: Wish, started_by: str) -> Row:
        """Keep a run that somebody asks for.

        Raises:
            NoSuchReport: a report that is named is not there, or none tells which days are meant.
        """
        first_day, last_day = wish.first_day, wish.last_day
        if first_day is None or last_day is None:
            first_day, last_day = _days_of(wish)
        return self.runs.ask(wish.merchant_account, first_day, last_day, started_by)

    def go(self, run_id: UUID, wish: Wish, on_progress: Progress | None = None) -> Row | None:
        """Go through a run that was asked for; None when it has ended already.

        Raises:
            Busy: another run of the merchant account is going on; this one stays as it is.
            StoreUnavailable: the database did not answer; the run may be gone through again.
        """
        with matching(self.runs.database, wish.merchant_account) as sets:
            run = self.runs.begin(run_id)
            if run is None:
                return None
            going = _Going(self, run, wish, sets, _Reported(self.runs, run_id, on_progress))
            try:
                going.through()
            except Exception as error:
                self._failed(run_id, error)
                raise
        return self.runs.one(run_id, wish.merchant_account)

    def by_task(
        self,
        *,
        run_id: str | None = None,
        merchant_account: str | None = None,
        first_day: str | None = None,
        last_day: str | None = None,
    ) -> list[dict[str, str]]:
        """Go through a run that waits; or one of a merchant account and a period; or the clock's, of every account.

        Returns what became of each. One that cannot begin, since another of its account is going on, waits for that.
        What fails is raised when the other accounts had their turn.

        Raises:
            InvalidSubmission: a day is none, or only one of the two is named.
        """
        if run_id is not None:
            run = self.runs.one(UUID(run_id), None)
            return self._in_turn(run["merchant_account"]) if run else []
        accounts = [merchant_account] if merchant_account else self.runs.merchant_accounts()
        days = period_of(first_day, last_day)
        ended: list[dict[str, str]] = []
        failed: Exception | None = None
        for account in accounts:
            self.runs.ask(account, *(days or self._nightly()), started_by="task" if days else "clock")
            try:
                ended += self._in_turn(account)
            except Exception as error:  # noqa: BLE001  -- its run says why, and it is raised below
                failed = error
        if failed is not None:
            raise failed
        return ended

    def _nightly(self) -> tuple[date, date]:
        """What the clock asks for: the days up to yesterday, so that what came late is found."""
        today = datetime.now(UTC).date()
        return today - timedelta(NIGHTLY_DAYS), today - timedelta(1)

    def _in_turn(self, merchant_account: str) -> list[dict[str, str]]:
        """Go through what waits. Who finds another run going on may leave: that one looks again when it has ended."""
        ended: list[dict[str, str]] = []
        while queued := self.runs.next_queued(merchant_account):
            wish = Wish(merchant_account=merchant_account, first_day=queued["first_day"], last_day=queued["last_day"])
            try:
                run = self.go(queued["id"], wish)
            except Busy:
                return ended
            if run is not None:
                ended.append({"id": str(run["id"]), "state": run["state"]})
        return ended

    def _failed(self, run_id: UUID, error: Exception) -> None:
        """Say why, in words of ours; another error's own may quote what it stumbled over."""
        why = str(error) if isinstance(error, OrchestratorError) else f"it ended by {type(error).__name__}"
        log.error("reconciliation_failed", run=str(run_id), error=type(error).__name__)
        problem = {"file": None, "line": None, "problem": why}
        self.runs.finish(run_id, RunState.FAILED, problems=[problem], alarm=Alarm.RECONCILIATION_FAILED)


def period_of(first_day: str | None, last_day: str | None) -> tuple[date, date] | None:
    """Read the days of a period; None when neither is named.

    Raises:
        InvalidSubmission: a day is none, only one is named, or they are too far apart.
    """
    if first_day is None and last_day is None:
        return None
    first, last = _day(first_day, "from"), _day(last_day, "to")
    if not first <= last <= first + timedelta(PERIOD_DAYS_MAX - 1):
        raise InvalidSubmission(f"to: is from the day of `from` to {PERIOD_DAYS_MAX - 1} days later", field="to")
    return first, last


def _day(text: str | None, field: str) -> date:
    try:
        return date.fromisoformat(text or "")
    except (ValueError, TypeError):
        raise InvalidSubmission(f"{field}: is a day, written like 2025-11-25", field=field) from None


def _days_of(wish: Wish) -> tuple[date, date]:
    """The days that the named reports are about."""
    days: list[date] = []
    for path in named(wish.reports):
        source = Source(path, wish.merchant_account)
        for _ in source.read():
            pass
        days += [day for day in (source.first_day, source.last_day) if day]
    if not days:
        raise NoSuchReport("no report says which days are meant; name them")
    return min(days), max(days)


@dataclass(slots=True)
class _Reported:
    """Tells how far a run has come: its row once a second, and whoever watches."""

    runs: RunStore
    run_id: UUID
    watch: Progress | None
    _written_at_s: float = field(default=float("-inf"))

    def __call__(self, step: str, done: int, of: int | None = None) -> None:
        if self.watch:
            self.watch(step, done, of)
        if time.monotonic() - self._written_at_s >= _PROGRESS_EVERY_S:
            self._written_at_s = time.monotonic()
            self.runs.progress(self.run_id, {"step": step, "done": done, "of": of})


@dataclass(slots=True)
class _Going:
    """A run that goes on."""

    by: Reconciler
    run: Row
    wish: Wish
    sets: Matching
    report: _Reported

    def through(self) -> None:
        """Every step, to the end of the run."""
        sources = self._sources()
        self._read(sources)
        if any(source.problems for source in sources):
            self._refuse(sources)
            return
        period = self.sets.begin(self.run["first_day"], self.run["last_day"])
        if self.wish.ask:
            self._ask_terminals()
        for done, number in enumerate(self.sets.left_webhooks()):
            self.report("webhooks looked at again", done)
            self.by.process_webhook(number)
        of = self.sets.link()
        self._record("payments matched", ({r["payment_id"]: word(r) for r in page} for page in self.sets.words()), of)
        self._look_at_the_rest()
        silent = silence(period)
        self._record("payments without a charge", ({r["id"]: silent for r in p} for p in self.sets.silent()), None)
        self.report("differences", 0)
        self.sets.open_differences([source.name for source in sources])
        self.sets.keep_found(self.run["id"])
        self._finish(sources, period)

    def _sources(self) -> list[Source]:
        first_day, last_day = self.run["first_day"], self.run["last_day"]
        account = self.wish.merchant_account
        paths = (
            named(self.wish.reports) if self.wish.reports else in_folder(self.by.folder, account, first_day, last_day)
        )
        return [Source(path, account) for path in paths]

    def _read(self, sources: Sequence[Source]) -> None:
        for number, source in enumerate(sources):
            self.sets.stage(number, self._counted(source))

    def _counted(self, source: Source) -> Iterator[Any]:
        for line in source.read():
            if source.lines % _BATCH == 0:
                self.report(f"lines of {source.name}", source.lines)
            yield line

    def _refuse(self, sources: Sequence[Source]) -> None:
        problems = [problem for source in sources for problem in source.problems_json()]
        self.by.runs.finish(
            self.run["id"],
            RunState.REFUSED,
            reports=[source.json() for source in sources],
            problems=problems,
            alarm=Alarm.RECONCILIATION_FAILED,
        )

    def _ask_terminals(self) -> None:
        """Have what is open or unknown asked about, and wait a little: a terminal's own word is the best evidence."""
        payments = self.sets.open_payments()
        asked_at = self.sets.now()
        for done, payment_id in enumerate(payments):
            self.report("terminals asked", done, len(payments))
            self.by.recorder.record(payment_id, CheckAsked(asked_by="reconciliation"))
        give_up_at_s = time.monotonic() + self.by.policy.status_read_timeout_s + _ANSWER_MARGIN_S
        while payments and (left := self.sets.unanswered(payments, asked_at)) and time.monotonic() < give_up_at_s:
            self.report("terminals answered", len(payments) - left, len(payments))
            time.sleep(_PROGRESS_EVERY_S / 4)

    def _record(self, step: str, pages: Iterator[Mapping[UUID, Evidence]], of: int | None) -> None:
        """Record by the hundred, on two threads, with little waiting in memory."""
        done = 0
        going: set[Future[int]] = set()
        with ThreadPoolExecutor(_THREADS, "reconcile") as threads:
            for page in pages:
                for batch in _batches(page):
                    if len(going) > _THREADS:
                        ended, going = wait(going, return_when=FIRST_COMPLETED)
                        for future in ended:
                            future.result()
                    going.add(threads.submit(self.by.recorder.record_many, batch))
                    done += len(batch)
                    self.report(step, done, of)
            for future in going:
                future.result()

    def _look_at_the_rest(self) -> None:
        done = 0
        for page in self.sets.rest():
            for row in page:
                self.by.booker.apply(entry(row, self.wish.merchant_account))
                done += 1
                self.report("other lines", done)

    def _finish(self, sources: Sequence[Source], period: Period) -> None:
        differences = self.by.runs.difference_counts(self.run["id"])
        summary = summarise(self.sets.totals(), differences, self.sets.others(), sources, period)
        reports = [source.json() for source in sources]
        ended = {
            **self.run,
            "state": RunState.DONE,
            "summary": summary,
            "reports": reports,
            "finished_at": self.sets.now(),
        }
        rings = self.by.runs.finish(
            self.run["id"],
            RunState.DONE,
            reports=reports,
            summary=summary,
            alarm=Alarm.DIFFERENCES_FOUND if summary["differences"]["open"] else None,
            callback_url=self.by.callback_url,
            told=run_json(ended),
        )
        self.by.recorder.bell(rings)
        self.by.recorder.announce(COMPLETED, ended["finished_at"], lambda: run_json(ended))


def _batches(page: Mapping[UUID, Evidence]) -> Iterator[dict[UUID, Evidence]]:
    items = list(page.items())
    for start in range(0, len(items), _BATCH):
        yield dict(items[start : start + _BATCH])
