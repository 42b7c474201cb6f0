"""What the installation's figures mean: sentences for whoever is on call, each with what to do. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from orchestrator.store.pulses import SWEEP, Pulse
from orchestrator.store.vitals import Commands, Vitals

#: The sweep runs once a second and a command is rung at once: work that is this old is late, and this old is stuck.
#: As ``counterfoil doctor`` has it.
LATE_AFTER_S: Final = 10.0
STUCK_AFTER_S: Final = 120.0
#: Beat's tick is kept every ten seconds: three that are missing are no accident, six an outage.
TICK_LATE_S: Final = 30.0
TICK_GONE_S: Final = 60.0
#: A canary goes into each queue every 30 s: three that nobody took.
CANARY_GONE_S: Final = 90.0
#: Of the connections that the server lets in: a rolling start needs as many again for a moment.
CONNECTIONS_FULL: Final = 0.8
#: Shops are closed at night; over a whole day with payments, somebody would have notified.
SILENT_AFTER: Final = timedelta(days=1)
#: The windows are measured by the database's clock; logs and notifications by this machine's.
SKEW_MAX: Final = timedelta(seconds=2)


class Mark(StrEnum):
    """How a check ended; the words are the classes of badges."""

    GOOD = "good"
    DOUBT = "doubt"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Sign:
    """One check: what was found, what to do, where to look, and the runbook's section."""

    name: str
    mark: Mark
    text: str
    remedy: str = ""
    page: str | None = None
    section: str | None = None


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker, as far as it answers: what it is, and how many messages wait in each queue."""

    version: str | None
    lengths: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was read for one page."""

    vitals: Vitals
    commands: Sequence[Commands]
    pulses: Sequence[Pulse]
    broker: Broker
    newest_revision: str | None
    here_at: datetime
    may_be_notified: bool
    may_be_told: bool


def signs(seen: Seen) -> list[Sign]:
    """Every check, what is worst first."""
    found = [*_work(seen), *_receivers(seen), *_people(seen.vitals), *_database(seen)]
    order = [Mark.BAD, Mark.DOUBT, Mark.GOOD]
    return sorted(found, key=lambda sign: order.index(sign.mark))


def duration(seconds: float) -> str:
    """A duration in one unit that a reader can picture."""
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def _work(seen: Seen) -> Iterator[Sign]:
    oldest_s = max((each.oldest_due_s or 0.0 for each in seen.commands), default=0.0)
    if oldest_s > STUCK_AFTER_S:
        remedy = "Nobody works: see that `counterfoil worker` and `counterfoil beat` run, and that the broker answers."
        text = f"The oldest due command waits for {duration(oldest_s)}."
        yield Sign("Progress", Mark.BAD, text, remedy, section="CounterfoilWorkLate")
    elif oldest_s > LATE_AFTER_S:
        remedy = "Watch it for a minute. If it grows, add workers, or look at what they wait for."
        text = f"The oldest due command waits for {duration(oldest_s)}."
        yield Sign("Progress", Mark.DOUBT, text, remedy, section="CounterfoilWorkLate")
    else:
        yield Sign("Progress", Mark.GOOD, "What is due is done within seconds.")
    if seen.broker.version is None:
        remedy = (
            "Start it, or mend the network. Payments wait, and go out when workers have found it again, within half a "
            "minute; those past their `send_by` end as not performed."
        )
        yield Sign("Broker", Mark.BAD, "The broker does not answer.", remedy, section="CounterfoilWorkLate")
    else:
        yield Sign("Broker", Mark.GOOD, f"{seen.broker.version} answers.")
    yield from _pulses(seen.pulses)


def _pulses(pulses: Sequence[Pulse]) -> Iterator[Sign]:
    beat = next((pulse for pulse in pulses if pulse.name == SWEEP), None)
    if beat is None:
        remedy = "Start `counterfoil beat` and a worker for the queue timers."
        yield Sign("Beat", Mark.BAD, "The sweep has never run here.", remedy, section="CounterfoilBeatSilent")
    elif beat.age_s > TICK_LATE_S:
        mark = Mark.BAD if beat.age_s > TICK_GONE_S else Mark.DOUBT
        remedy = "See that `counterfoil beat` runs, and a worker that serves the queue timers."
        yield Sign(
            "Beat", mark, f"The last sweep was {duration(beat.age_s)} ago.", remedy, section="CounterfoilBeatSilent"
        )
    else:
        yield Sign("Beat", Mark.GOOD, "The sweep runs.")
    silent = [pulse for pulse in pulses if pulse.name != SWEEP and pulse.age_s > CANARY_GONE_S]
    for pulse in silent:
        text = f"Nobody has taken anything from the queue {pulse.name} for {duration(pulse.age_s)}."
        remedy = f"Start a worker for it: `counterfoil worker --queues {pulse.name}`; restart one that takes nothing."
        yield Sign(f"Queue {pulse.name}", Mark.BAD, text, remedy, section="CounterfoilQueueStuck")
    served = len(pulses) - len(silent) - (beat is not None)
    if served and not silent:
        yield Sign("Queues", Mark.GOOD, f"All {served} are served.")


def _receivers(seen: Seen) -> Iterator[Sign]:
    vitals = seen.vitals
    if not seen.may_be_notified:
        text = "Notifications of terminals get 401: no login for them is set, so every result has to be asked for."
        remedy = "Set COUNTERFOIL_NOTIFICATION_USERNAME and _PASSWORD, and the same at the platform."
        yield Sign("Notifications", Mark.DOUBT, text, remedy)
    elif _silent(vitals, vitals.notified_at):
        text = "No terminal has notified for a day, while payments were taken; each result is asked for instead."
        remedy = "See that the platform reaches /notifications/terminal, and with the right login."
        yield Sign("Notifications", Mark.DOUBT, text, remedy, section="CounterfoilManyUnknown")
    else:
        yield Sign("Notifications", Mark.GOOD, "Terminals may notify.")
    if vitals.quarantined:
        count = f"{vitals.quarantined} webhook" + "s" * (vitals.quarantined > 1)
        text = f"{count} could not be believed: no key of ours signed what they say."
        remedy = (
            "Payments go on. Put the Customer Area's key first in COUNTERFOIL_HMAC_KEYS, restart `counterfoil serve`, "
            "then replay them, at the link or by `counterfoil webhooks replay`."
        )
        page = "/console/callbacks/quarantine"
        yield Sign("Webhooks", Mark.BAD, text, remedy, page=page, section="webhook_signature")
    elif not seen.may_be_told:
        text = "Webhooks get 401: no HMAC key is set, so what the books say comes by report alone."
        yield Sign("Webhooks", Mark.DOUBT, text, "Set COUNTERFOIL_HMAC_KEYS to the keys of the Customer Area.")
    elif vitals.webhooks_unprocessed > 1:
        text = f"{vitals.webhooks_unprocessed} webhooks are stored and not processed."
        yield Sign(
            "Webhooks",
            Mark.DOUBT,
            text,
            "The sweep tries them again; look at the log of the worker.",
            section="CounterfoilWebhooksUnprocessed",
        )
    else:
        yield Sign("Webhooks", Mark.GOOD, "None waits, none is in quarantine.")


def _silent(vitals: Vitals, last_at: datetime | None) -> bool:
    recent = vitals.payment_at is not None and vitals.at - vitals.payment_at < SILENT_AFTER
    return recent and last_at is not None and vitals.at - last_at > SILENT_AFTER


def _people(vitals: Vitals) -> Iterator[Sign]:
    if vitals.alarms_open:
        count = "One alarm is" if vitals.alarms_open == 1 else f"{vitals.alarms_open} alarms are"
        yield Sign(
            "Alarms",
            Mark.DOUBT,
            f"{count} open.",
            "A person has to look at each.",
            page="/console/attention",
            section="CounterfoilAlarmsOpen",
        )
    else:
        yield Sign("Alarms", Mark.GOOD, "None is open.")
    if vitals.callbacks_parked:
        count = f"{vitals.callbacks_parked} callback" + "s" * (vitals.callbacks_parked > 1)
        text = f"{count} could not be delivered for a day."
        remedy = "Mend the caller's receiver, then have them delivered again."
        yield Sign("Callbacks", Mark.DOUBT, text, remedy, page="/console/callbacks", section="callback_parked")
    else:
        yield Sign("Callbacks", Mark.GOOD, "None was given up.")
    if vitals.terminals_in_trouble:
        text = f"{vitals.terminals_in_trouble} of {vitals.terminals} terminals report trouble."
        yield Sign(
            "Terminals",
            Mark.DOUBT,
            text,
            "Have the shop look at them.",
            page="/console/terminals",
            section="CounterfoilTerminalInTrouble",
        )
    else:
        held = f"; {vitals.terminals_held} held" if vitals.terminals_held else ""
        yield Sign("Terminals", Mark.GOOD, f"{vitals.terminals} registered{held}, none in trouble.")


def _database(seen: Seen) -> Iterator[Sign]:
    vitals = seen.vitals
    if vitals.revision != seen.newest_revision:
        text = f"The schema is at {vitals.revision}, and this release was made for {seen.newest_revision}."
        yield Sign("Schema", Mark.DOUBT, text, "Run `counterfoil db upgrade`, or bring every process to one release.")
    if vitals.connections > CONNECTIONS_FULL * vitals.connections_max:
        text = f"{vitals.connections} of {vitals.connections_max} connections of the database are in use."
        remedy = "Raise max_connections, or run fewer processes; each holds up to twenty."
        yield Sign("Database", Mark.DOUBT, text, remedy, section="CounterfoilDatabaseConnections")
    else:
        version = f"PostgreSQL {vitals.server_version // 10_000}.{vitals.server_version % 10_000}"
        yield Sign("Database", Mark.GOOD, f"{version} answers.")
    skew = seen.here_at - vitals.at
    if abs(skew) > SKEW_MAX:
        text = f"This machine's clock is {skew.total_seconds():+.0f} s from the database's."
        yield Sign("Clock", Mark.DOUBT, text, "Have both machines keep time by NTP.")
