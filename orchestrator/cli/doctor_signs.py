"""The doctor's look at signs of life and at what waits for a person: beat, queues, webhooks, alarms."""

from collections.abc import Iterator, Sequence
from typing import Final

from config.settings import Settings
from orchestrator.cli.findings import Finding, fail, ok, warn
from orchestrator.store.database import Database
from orchestrator.store.health import Doors
from orchestrator.store.pulses import SWEEP, Pulse, PulseStore

#: The sweep says each 10 s that it ran, and canaries come each 30 s: the alerts stand at the same.
BEAT_SILENT_AFTER_S: Final = 60.0
QUEUE_STUCK_AFTER_S: Final = 90.0


def life(chosen: Settings, database: Database) -> Iterator[Finding]:
    """Whether beat ticks, and whether each queue is served."""
    pulses = PulseStore(database).read()
    sweep = next((pulse for pulse in pulses if pulse.name == SWEEP), None)
    if sweep is None:
        yield warn("beat", "no sweep was seen yet; start `counterfoil beat`, and a worker that serves timers")
    elif sweep.age_s > BEAT_SILENT_AFTER_S:
        yield fail(
            "beat",
            f"the sweep has not run for {sweep.age_s:.0f} s; start `counterfoil beat`, and see that the broker is up "
            "and a worker serves timers",
        )
    else:
        yield ok("beat", f"the sweep ran {sweep.age_s:.0f} s ago")
        if chosen.canaries:
            yield from _queues([pulse for pulse in pulses if pulse.name != SWEEP])


def _queues(pulses: Sequence[Pulse]) -> Iterator[Finding]:
    stuck = [pulse for pulse in pulses if pulse.age_s > QUEUE_STUCK_AFTER_S]
    if stuck:
        named = ", ".join(f"{pulse.name} for {pulse.age_s:.0f} s (last: {pulse.worker or 'nobody'})" for pulse in stuck)
        yield fail(
            "queues",
            f"nothing was taken from {named}; restart the worker that serves it, or start one with "
            f"--queues {','.join(pulse.name for pulse in stuck)}",
        )
    else:
        yield ok("queues", f"{', '.join(pulse.name for pulse in pulses) or 'none asked yet'}")


def doors(chosen: Settings, found: Doors) -> Iterator[Finding]:
    """Whether webhooks are believed and processed, and what waits for a person."""
    if not chosen.hmac_keys:
        yield warn("webhooks", "no key, so all get 401; set COUNTERFOIL_HMAC_KEYS to the Customer Area's HMAC key")
    elif found.quarantined:
        yield fail(
            "webhooks",
            f"{found.quarantined} of the last hour carry no signature that our keys make; put the Customer Area's HMAC "
            "key first in COUNTERFOIL_HMAC_KEYS, restart the API, then `counterfoil webhooks replay`",
        )
    elif found.unprocessed:
        yield warn(
            "webhooks", f"{found.unprocessed} are stored and not processed; `counterfoil webhooks replay`, and the log"
        )
    else:
        yield ok("webhooks", "those that came were signed and processed")
    if found.alarms:
        yield warn("alarms", f"{found.alarms} open; `counterfoil alarms list`, and the runbook's section of each")
    else:
        yield ok("alarms", "none open")
