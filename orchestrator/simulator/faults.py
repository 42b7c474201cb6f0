"""Faults of the whole cloud, switched on and off while it runs.

`POST /faults` takes a JSON object with any of these members; they replace what was set, and `{}` heals everything:

- `http_status` (integer): every terminal message is answered with this status and not taken
- `hang_up` (boolean): every terminal message ends in a closed connection and is not taken
- `delay_s` (number): every answer waits so long after the message was taken
- `unreachable` (list of POIIDs): these terminals are not connected
- `terminals_down` (boolean): no terminal is connected
- `certificates` (object): what is wrong with the certificate of a terminal's own port, by POIID: one of those that
  `counterfoil simulate --help` names
- `states` (object): what a terminal is occupied with, by POIID: `busy` (somebody else's dialogue), `maintenance`, or
  `no-host` (it cannot reach the platform); Diagnosis says so, and payments are refused
- `lose_notifications` (boolean): nothing is pushed; every attempt is counted as lost
- `lose_webhooks` (boolean): the same for webhooks, which then never come
- `for_s` (number): heal by itself after so many seconds; real ones, never scaled
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from orchestrator.simulator.certificates import FAULTS as CERTIFICATE_FAULTS

STATES = ("busy", "maintenance", "no-host")


@dataclass(frozen=True, slots=True)
class Faults:
    """What is broken. Instances are replaced whole."""

    http_status: int = 0
    hang_up: bool = False
    delay_s: float = 0.0
    unreachable: frozenset[str] = frozenset()
    terminals_down: bool = False
    certificates: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    lose_notifications: bool = False
    lose_webhooks: bool = False
    until: float = float("inf")
    """Monotonic time at which everything is healed."""

    @classmethod
    def parse(cls, wanted: Mapping[str, Any]) -> Faults:
        """Faults from a JSON object; ValueError names an unknown member or a wrong type."""
        allowed = {name: type(value) for name, value in asdict(cls()).items() if name != "until"}
        values = dict(wanted)
        for_s = values.pop("for_s", None)
        for name, value in values.items():
            if name not in allowed:
                message = f"unknown member {name!r}; there are {', '.join([*allowed, 'for_s'])}"
                raise ValueError(message)
            values[name] = allowed[name](value)
        _demand_known("certificates", values, tuple(CERTIFICATE_FAULTS))
        _demand_known("states", values, STATES)
        until = float("inf") if for_s is None else time.monotonic() + float(for_s)
        return cls(**values, until=until)

    def now(self) -> Faults:
        """These faults, or none once their time is over."""
        return self if time.monotonic() < self.until else HEALTHY

    def to_json(self) -> dict[str, Any]:
        """What is set, without defaults."""
        shown = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "until"}
        return {name: sorted(value) if name == "unreachable" else value for name, value in shown.items() if value}


def _demand_known(member: str, values: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for said in values.get(member, {}).values():
        if said not in known:
            message = f"{member}: there is no {said!r}; there are {', '.join(known)}"
            raise ValueError(message)


HEALTHY = Faults()
