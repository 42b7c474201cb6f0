"""What a run is, from the command line."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run. Times in seconds of the wall clock; ``rate`` in payments per second."""

    payments: int = 300
    seed: int = 1
    broker: str = "redis"
    transport: str = "async"
    held_threads: int = 300
    """How many sends that hold their connection the one worker of the queue ``held`` has in hand; not with async."""
    kills: int = 10
    stops: int = 2
    rate: float = 20.0
    broker_outage_s: float = 0.0
    postgres_restarts: int = 0
    kill_simulator: bool = False
    terminals: int = 40
    apis: int = 2
    workers: int = 2
    beats: int = 2
    time_scale: float = 50.0
    mix: str = "default"
    settle_within_s: float = 150.0
    postgres_url: str | None = None
    """A server to make a throw-away database in; None: a private cluster."""
    rabbitmq_url: str = "amqp://guest:guest@127.0.0.1:5672//"

    @property
    def load_s(self) -> float:
        """How long the load lasts; an outage lies inside it, with as much again around it."""
        return max(self.payments / self.rate, 2 * self.broker_outage_s)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The command line: a run to make or a folder to judge again, and how to say it."""

    plan: Plan
    check: Path | None
    folder: Path | None
    as_json: bool


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gauntlet", description="Payments under load while everything is killed.")
    add = parser.add_argument
    add("--payments", type=int, default=300, metavar="N")
    add("--seed", type=int, default=1)
    add("--broker", choices=("redis", "rabbitmq"), default="redis")
    add("--transport", choices=("async", "sync", "local"), default="async")
    add("--held-threads", type=int, default=300, metavar="N", help="sync and local sends in hand at once")
    add("--kills", type=int, default=10, metavar="N", help="SIGKILLs of random processes of the product")
    add("--stops", type=int, default=2, metavar="N", help="SIGSTOPs of workers, each for a second or two")
    add("--rate", type=float, default=20.0, metavar="X", help="payments per second")
    add("--redis-outage-s", "--broker-outage-s", dest="broker_outage_s", type=float, default=0.0, metavar="S")
    add(
        "--postgres-restarts", type=int, default=0, metavar="N", help="on a private cluster, fast and immediate in turn"
    )
    add("--kill-simulator", action="store_true", help="SIGKILL the simulator too")
    add("--terminals", type=int, default=40)
    add("--time-scale", type=float, default=50.0, metavar="X")
    add("--mix", default="default", help="as the simulator takes it")
    add("--settle-within-s", type=float, default=150.0, metavar="S", help="the liveness clock, once all is healed")
    add("--postgres-url", metavar="URL", help="a server to make a throw-away database in; else a private cluster")
    add("--rabbitmq-url", default="amqp://guest:guest@127.0.0.1:5672//", metavar="URL")
    add("--folder", type=Path, metavar="DIR", help="where the logs go; else a new folder, which is named at the end")
    add("--check", type=Path, metavar="DIR", help="judge the logs of an earlier run again, and run nothing")
    add("--json", dest="as_json", action="store_true", help="print one JSON object last")
    return parser


def parse(argv: Sequence[str] | None) -> Chosen:
    """Read the command line; exits with a usage message when it is wrong."""
    values = vars(_parser().parse_args(argv))
    check, folder, as_json = values.pop("check"), values.pop("folder"), values.pop("as_json")
    return Chosen(Plan(**values), check, folder, as_json)
