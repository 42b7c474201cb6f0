"""What breaks, and when: a seeded plan, played against the stack beside the load."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gauntlet.options import Plan
from gauntlet.stack import Stack

_WEIGHTS = {"worker": 4.0, "api": 2.0, "beat": 1.0}
_LONGEST_PAUSE_S = 2.0
"""Below the answer window at the usual time scale: in real time the window is fifteen send leases long, and a pause
that outlives a scaled window would break an order of durations that the product rests on."""
_DOWN_S = (0.0, 0.5)
_RESTART_MODES = ("fast", "immediate")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, ``at_s`` after the load began. ``seconds`` is how long it lasts, where it lasts."""

    at_s: float
    kind: str
    target: str = ""
    seconds: float = 0.0


def planned(plan: Plan, names: list[str]) -> list[Fault]:
    """The seeded faults of a run, in order."""
    chance = random.Random(plan.seed * 7919 + 1)
    targets = [*names, *(["simulator"] if plan.kill_simulator else [])]
    weights = [_WEIGHTS.get(name.rstrip("0123456789"), 1.0) for name in targets]

    def moment() -> float:
        return chance.uniform(0.5, plan.load_s)

    workers = [name for name in names if name.startswith("worker")]
    faults = [
        Fault(moment(), "kill", chance.choices(targets, weights)[0], chance.uniform(*_DOWN_S))
        for _ in range(plan.kills)
    ]
    faults += [
        Fault(moment(), "pause", chance.choice(workers), chance.uniform(0.5, _LONGEST_PAUSE_S))
        for _ in range(plan.stops)
    ]
    if plan.broker_outage_s:
        away_s = (plan.load_s - plan.broker_outage_s) / 2
        faults += [Fault(away_s, "broker-away"), Fault(away_s + plan.broker_outage_s, "broker-back")]
    for number in range(plan.postgres_restarts):
        at_s = plan.load_s * (number + 1) / (plan.postgres_restarts + 1)
        faults.append(Fault(at_s, "postgres-restart", _RESTART_MODES[number % len(_RESTART_MODES)]))
    return sorted(faults, key=lambda fault: fault.at_s)


class Faults:
    """Plays the plan in a thread of its own."""

    def __init__(self, stack: Stack, plan: list[Fault], say: Callable[[str], None]) -> None:
        self._stack, self._plan, self._say = stack, plan, say
        self._thread = threading.Thread(target=self._play, name="faults")
        self.error: BaseException | None = None
        self.done: dict[str, int] = {}

    def start(self) -> None:
        """Begin; the clock of the plan starts now."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the last fault to be over; a fault that could not be played is raised here."""
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _play(self) -> None:
        started_s = time.monotonic()
        try:
            for fault in self._plan:
                time.sleep(max(0.0, started_s + fault.at_s - time.monotonic()))
                self._say(f"{time.monotonic() - started_s:6.1f} s  {fault.kind} {fault.target}")
                self._one(fault)
                name = f"{fault.kind} {fault.target.rstrip('0123456789')}".strip()
                self.done[name] = self.done.get(name, 0) + 1
        except BaseException as error:  # noqa: BLE001  -- handed to whoever joins
            self.error = error

    def _one(self, fault: Fault) -> None:
        stack = self._stack
        match fault.kind:
            case "kill" if fault.target == "simulator":
                stack.simulator.kill()
                time.sleep(fault.seconds)
                stack.simulator.start()
            case "kill":
                stack.kill(fault.target)
                time.sleep(fault.seconds)
                stack.start(fault.target)
            case "pause":
                stack.pause(fault.target, fault.seconds)
            case "broker-away":
                stack.stop_broker()
            case "broker-back":
                stack.start_broker()
            case "postgres-restart" if stack.postgres is not None:
                stack.postgres.restart(fault.target)
