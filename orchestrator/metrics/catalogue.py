"""Every metric: its name, kind, labels, and what it says. Nothing that is not here is told.

No label names a terminal, a reference, a payment or a merchant account: what is shown is small however large the shop.
Counters are kept in the database and only rise; a label whose values are known begins at 0, so that its first rise is
seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Final, TypeAlias

from orchestrator.commands import CommandKind
from orchestrator.meaning import Alarm
from orchestrator.model import Transport
from orchestrator.store.words import DifferenceKind
from orchestrator.terminal_api.shown import Trouble

PREFIX: Final = "counterfoil_"

Labels: TypeAlias = tuple[str, ...]


class Kind(StrEnum):
    """How Prometheus is to read it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. ``begin`` are label values that are shown as 0 while there is nothing; ``stored`` names its tally."""

    name: str
    kind: Kind
    says: str
    labels: Labels = ()
    begin: Sequence[Labels] = ()
    stored: str = ""

    @property
    def full_name(self) -> str:
        """The name as Prometheus has it."""
        return PREFIX + self.name + ("_total" if self.kind is Kind.COUNTER else "")


_STAGES: Final = (("pending", "queued"), ("pending", "sent"), ("unknown", "unknown"), ("unknown", "disputed"))
_STATES: Final = (("pending",), ("unknown",))
_CHECKS: Final = ("result", "in_progress", "not_found", "no_answer", "refused")
_FAILURES: Final = tuple(product(("payment", "refund", "status", "abort"), ("not_delivered", "no_answer", "refused")))
#: Why a pushed message was kept apart. What else a terminal's message may lack is named by a slug of its own.
REFUSED_PUSHES: Final = (
    "no-such-payment", "not-our-answer", "unprocessed", "unrecognised", "webhook-signature", "webhook-unsigned",
)  # fmt: skip
_NOTHING: Final[Sequence[Labels]] = ((),)


def _each(values: Sequence[str]) -> Sequence[Labels]:
    return [(str(value),) for value in values]


def _counter(
    name: str, says: str, labels: Labels = (), begin: Sequence[Labels] | None = None, stored: str = ""
) -> Family:
    begin = begin if begin is not None else () if labels else _NOTHING
    return Family(name, Kind.COUNTER, says, labels, begin, stored or name)


def _gauge(name: str, says: str, labels: Labels = (), begin: Sequence[Labels] = ()) -> Family:
    return Family(name, Kind.GAUGE, says, labels, begin)


PAYMENTS: Final = (
    _counter("payments_accepted", "Payments that were taken in.", ("transport",), _each(list(Transport))),
    _counter(
        "payments",
        "Payments that ended, by outcome and by what told us: the terminal on its connection, by notification or in a "
        "status check; a webhook, a report, a person; our own clock or a caller's abort. One that was thrown into "
        "doubt again and ended anew counts twice.",
        ("outcome", "currency", "source"),
    ),
    Family(
        "time_to_result_seconds",
        Kind.HISTOGRAM,
        "From a payment's acceptance to its end, the wait for its terminal included.",
        stored="time_to_result",
    ),
    _gauge("payments_open", "Payments that have not ended, by state and stage.", ("state", "stage"), _STAGES),
    _gauge(
        "payment_oldest_open_age_seconds",
        "Since the oldest of them was accepted; 0 when there is none.",
        ("state", "stage"),
        _STAGES,
    ),
    _gauge(
        "payments_unknown_amount_minor", "Money in unknown payments, in minor units of its currency.", ("currency",)
    ),
    _counter("unknown", "Payments that became unknown."),
    _counter("late_results", "Approvals that came for payments which had ended as not performed."),
    _counter("conflicting_evidence", "Payments about which authentic evidence contradicted itself."),
    _counter("submissions_rejected", "Submissions by task that were refused.", ("problem",)),
    _gauge("first_payment_timestamp_seconds", "When the first payment was accepted."),
)
REFUNDS: Final = (
    _counter("refunds_accepted", "Refunds that were taken in."),
    _counter(
        "refunds",
        "Refunds that ended, by outcome and by what told us.",
        ("outcome", "currency", "source"),
    ),
    _gauge("refunds_open", "Refunds that have not ended; the platform's books may take days.", ("state",), _STATES),
    _gauge(
        "refund_oldest_open_age_seconds",
        "Since the oldest of them was accepted; 0 when there is none.",
        ("state",),
        _STATES,
    ),
)
REQUESTS: Final = (
    _counter(
        "requests_failed",
        "Requests to terminals that did not reach them, had no usable answer, or were refused by the platform.",
        ("op", "result"),
        _FAILURES,
    ),
    _counter("status_checks", "Status checks, by what they brought.", ("result",), _each(_CHECKS)),
    _gauge("status_check_lag_seconds", "By how much the latest due status check is late.", (), _NOTHING),
)
INBOX: Final = (
    _counter("webhooks", "Standard webhooks that were stored, each once."),
    _counter(
        "inbox_rejected",
        "Pushed messages that were kept apart: not about a payment of ours, or a webhook whose signature is not ours.",
        ("reason",),
        _each(REFUSED_PUSHES),
    ),
    _gauge("inbox_unprocessed", "Webhooks that were stored and are not processed.", (), _NOTHING),
    _gauge("quarantined_webhooks", "Webhooks in the quarantine, for the right key to come.", (), _NOTHING),
)
WORK: Final = (
    _gauge("outbox_pending", "Commands that are due and not done.", ("kind",), _each(list(CommandKind))),
    _gauge("outbox_oldest_age_seconds", "Since the oldest of them is due; 0 when none is.", (), _NOTHING),
    _gauge(
        "beat_tick_age_seconds",
        "Since the sweep last said that it runs, which it does each 10 s: it needs beat, the broker, and a worker for "
        "the queue `timers`. Absent until the first one.",
    ),
    _gauge(
        "queue_canary_age_seconds",
        "Since a worker last took a canary from this queue; one goes in each 30 s. Absent where "
        "COUNTERFOIL_CANARIES is off, and for `held` where no terminal needs it.",
        ("queue",),
    ),
)
CALLERS: Final = (
    _counter(
        "callbacks",
        "Callbacks that arrived, or were given up.",
        ("result",),
        _each(("delivered", "parked")),
    ),
    _gauge("callbacks_pending", "Callbacks that are still to be delivered.", (), _NOTHING),
    _gauge("callbacks_parked", "Callbacks that were given up, and not told again.", (), _NOTHING),
)
BOOKS: Final = (
    _gauge(
        "reconciliation_last_success_timestamp_seconds",
        "When a reconciliation run last came to its end. Absent until the first one.",
    ),
    _gauge("reconciliation_differences", "Differences that are open.", ("kind",), _each(list(DifferenceKind))),
)
REST: Final = (
    _gauge("alarms_open", "Alarms that nobody closed, by name.", ("name",), _each(list(Alarm))),
    _counter("alarms_raised", "Alarms that were raised.", ("name",), _each(list(Alarm))),
    _gauge("terminals_registered", "Terminals, by transport.", ("transport",), _each(list(Transport))),
    _gauge("terminals_held", "Terminals that somebody holds.", (), _NOTHING),
    _gauge("terminals_in_trouble", "Terminals that said what is wrong with them.", ("trouble",), _each(list(Trouble))),
    _gauge("database_connections", "Connections to the database server, everybody's.", (), _NOTHING),
    _gauge("database_connections_max", "How many it takes from those who are no superusers.", (), _NOTHING),
    _gauge(
        "uncounted_rows",
        "About how many rows no counter knows of yet: of payments, journal lines and so on. They are counted behind "
        "each answer; a long writing database transaction holds that up.",
        ("feed",),
    ),
    _gauge("build_info", "1, with the release and the schema's revision.", ("version", "schema")),
)

#: In the order in which the documentation has them.
SECTIONS: Final[dict[str, Sequence[Family]]] = {
    "Payments": PAYMENTS,
    "Refunds": REFUNDS,
    "Requests to terminals": REQUESTS,
    "What is pushed to us": INBOX,
    "Work": WORK,
    "Callers": CALLERS,
    "The books": BOOKS,
    "The rest": REST,
}
FAMILIES: Final = tuple(family for families in SECTIONS.values() for family in families)
