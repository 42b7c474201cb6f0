"""``python -m bench``: measure everything, side by side, and say what falls short. See ``README.md``."""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bench import kills, latency, throughput, waiting
from bench.contenders import CLOUD_KEY, PASSWORD, USERNAME, Contender, Ground, durable, free_port, naive, ours
from bench.report import (
    Report,
    judge_latency,
    judge_throughput,
    print_kills,
    print_latency,
    print_throughput,
    print_waiting,
)
from bench.servers import Broker, Postgres, RabbitBroker, rabbit_trouble, servers
from orchestrator.simulator.process import SimulatorProcess

_RABBITMQ: Final = "amqp://guest:guest@127.0.0.1:5672//"
_LIBRARIES: Final = ("celery", "kombu", "redis", "dbos", "fastapi", "httpx", "psycopg", "sqlmodel", "uvicorn")

#: Memory that a process may grow by for reasons of its own, spread over the waiting payments: 2 MB of 20,000.
_NO_MEMORY_BYTES: Final = 100


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    rounds: int = 3
    tills: int = 64
    warmup_s: float = 3.0
    measure_s: float = 8.0
    latency_s: float = 12.0
    waiting: int = 20_000
    pending: int = 100_000
    due_per_s: float = 50.0
    due_s: float = 20.0
    idle_s: float = 8.0
    kill_payments: int = 300
    kills: int = 6
    settle_s: float = 45.0


QUICK: Final = Sizes(
    rounds=1,
    tills=16,
    warmup_s=1.0,
    measure_s=2.0,
    latency_s=2.0,
    waiting=500,
    pending=2_000,
    due_s=4.0,
    idle_s=1.0,
    kill_payments=50,
    kills=2,
    settle_s=20.0,
)


@dataclass
class Bench:
    """One run."""

    sizes: Sizes
    seed: int
    report: Report
    folder: Path

    def leg(self, postgres: Postgres, broker: Broker, others: Sequence[Contender], *, whole: bool) -> dict[str, Any]:
        """Everything on one broker; what does not depend on the broker only where ``whole``."""
        found: dict[str, Any] = {}
        product = ours()
        with self._ground(postgres, broker) as (ground, simulator):
            found["throughput"] = self._throughput([product, *others], ground, simulator)
            found["latency"] = self._latency([product, others[0]], ground, simulator, found["throughput"])
            found["kills"] = self._kills([product, others[0]], ground, simulator)
            if whole:
                found |= self._waiting(product, others[0], ground)
        return found

    @contextmanager
    def _ground(self, postgres: Postgres, broker: Broker) -> Iterator[tuple[Ground, SimulatorProcess]]:
        # The answer window of 150 s becomes 5 s: inside a round the baseline's countdowns run out as they come in, as
        # they do in the long run.
        scale, port = 30.0, free_port()
        logs = self.folder / f"logs-{broker.name.lower()}"
        logs.mkdir(parents=True)
        arguments = ["--any-terminal", "--mix", "clean", "--shopper-time-s", "0", "--seed", str(self.seed)]
        arguments += ["--notify", f"http://127.0.0.1:{port}/notifications/terminal", "--api-key", CLOUD_KEY]
        arguments += ["--username", USERNAME, "--password", PASSWORD, "--time-scale", f"{scale:g}"]
        with SimulatorProcess(self.folder / f"ledger-{broker.name.lower()}.jsonl", arguments) as simulator:
            yield Ground(postgres, broker, simulator.url, port, logs, 32, scale), simulator

    def _throughput(
        self, contenders: Sequence[Contender], ground: Ground, simulator: SimulatorProcess
    ) -> dict[str, Any]:
        name = ground.broker.name
        self.report.section(f"{name}: {self.sizes.tills} tills, {self.sizes.rounds} rounds in turn")
        rounds: dict[str, list[throughput.Round]] = {contender.name: [] for contender in contenders}
        for _ in range(self.sizes.rounds):
            for contender in contenders:
                rounds[contender.name].append(
                    throughput.one_round(
                        contender, ground, simulator,
                        tills=self.sizes.tills, warmup_s=self.sizes.warmup_s, measure_s=self.sizes.measure_s,
                    )
                )  # fmt: skip
        found = {name: throughput.summary(measured) for name, measured in rounds.items()}
        print_throughput(self.report, found)
        judge_throughput(self.report, name, found)
        return found

    def _latency(
        self, contenders: Sequence[Contender], ground: Ground, simulator: SimulatorProcess, rates: dict[str, Any]
    ) -> dict[str, Any]:
        self.report.section(f"{ground.broker.name}: latency at half of our measured rate")
        rate = max(1.0, rates["ours"]["payments_per_s"] / 2)
        sizes = {"rate_per_s": rate, "warmup_s": self.sizes.warmup_s, "measure_s": self.sizes.latency_s}
        found = {c.name: latency.half_load(c, ground, simulator, **sizes) for c in contenders}
        print_latency(self.report, found)
        judge_latency(self.report, ground.broker.name, found["ours"])
        return found

    def _kills(self, contenders: Sequence[Contender], ground: Ground, simulator: SimulatorProcess) -> dict[str, Any]:
        sizes = self.sizes
        self.report.section(
            f"{ground.broker.name}: {sizes.kill_payments} payments, {sizes.kills} SIGKILLs of the worker"
        )
        found = {
            c.name: kills.kill_run(
                c, ground, simulator, payments=sizes.kill_payments, kills=sizes.kills, settle_s=sizes.settle_s
            )
            for c in contenders
        }
        print_kills(self.report, found)
        wrong = found["ours"]["requests_repeated"] + found["ours"]["outcome_disagrees"]
        self.report.goal(
            f"{ground.broker.name}: repeated requests and wrong outcomes of ours", wrong, 0, at_least=False
        )
        return found

    def _waiting(self, product: Contender, baseline: Contender, ground: Ground) -> dict[str, Any]:
        sizes = self.sizes
        self.report.section(f"{sizes.waiting} payments waiting")
        memory = waiting.memory(product, baseline, ground, sizes.waiting)
        print_waiting(self.report, memory)
        grown = memory["ours"]["bytes_per_payment"]["worker"]
        if sizes.waiting >= Sizes.waiting:
            self.report.goal(
                "memory of a worker per waiting payment", grown, _NO_MEMORY_BYTES, at_least=False, unit="bytes"
            )
        self.report.section(f"timers, {sizes.pending} pending")
        idle, timers = waiting.idle_and_timers(
            product, ground, pending=sizes.pending, first=sizes.waiting + 1, idle_s=sizes.idle_s,
            per_s=sizes.due_per_s, due_s=sizes.due_s,
        )  # fmt: skip
        used = ", ".join(f"{name} {ms:g}" for name, ms in idle["cpu_ms_per_s"].items())
        self.report.line(f"  idle, CPU ms a second: {used}")
        self.report.line(
            f"  a sweep that finds nothing due: {idle['sweep_ms']} ms, {idle['sweep_server_cpu_ms']} ms of server CPU"
        )
        self.report.line(
            f"  {timers['found']} of {timers['fell_due']} at {timers['per_s']:g} a second: "
            f"late by p50 {timers['p50_s']} s, p99 {timers['p99_s']} s, at most {timers['max_s']} s"
        )
        self.report.goal("timers, p99 late", timers["p99_s"], 1.5, at_least=False, unit="s")
        return {"memory": memory, "idle": idle, "timers": timers}


def machine(postgres: Postgres, brokers: Sequence[Broker], load_before: float) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_before": round(load_before, 2),
        "postgresql": postgres.version,
        **{f"{broker.name.lower()}_server": broker.version for broker in brokers},
        **{name: version(name) for name in _LIBRARIES},
    }


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="counterfoil bench", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="everything once and small: does it run, not what does it cost")
    add("--json", action="store_true", help="print one JSON object last")
    add("--seed", type=int, default=1)
    add("--rounds", type=int, help="of the closed loop, for each contender")
    add("--database", metavar="URL", help="a PostgreSQL to share; without it one of our own from packages")
    add("--redis", metavar="URL", help="a Redis to share; without it one of our own")
    add("--rabbitmq", metavar="URL", default=_RABBITMQ, help="`none` leaves it out; needs rabbitmqctl")
    add("--keep", metavar="FOLDER", type=Path, help="keep logs and ledgers there")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; exit 0 whether or not a target was reached: a figure that falls short is published, not hidden."""
    options = _options(argv)
    sizes = QUICK if options.quick else Sizes()
    if options.rounds:
        sizes = Sizes(**{**sizes.__dict__, "rounds": options.rounds})
    folder = options.keep or Path(tempfile.mkdtemp(prefix="cf-bench-"))
    report, began, load_before = Report(), time.monotonic(), os.getloadavg()[0]
    found: dict[str, Any] = {}
    try:
        with servers(options.database, options.redis, folder / "data") as (postgres, redis_broker):
            bench = Bench(sizes, options.seed, report, folder)
            found["redis"] = bench.leg(postgres, redis_broker, [naive(), durable()], whole=True)
            trouble = "left out" if options.rabbitmq == "none" else rabbit_trouble(options.rabbitmq)
            brokers: list[Broker] = [redis_broker]
            if trouble is None:
                rabbit = RabbitBroker(options.rabbitmq)
                brokers.append(rabbit)
                try:
                    found["rabbitmq"] = bench.leg(postgres, rabbit, [naive()], whole=False)
                finally:
                    rabbit.close()
            else:
                report.section("RabbitMQ")
                report.line(f"  not measured: {trouble}")
            about = machine(postgres, brokers, load_before)
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    _end(report, time.monotonic() - began, about)
    if options.json:
        whole = {
            "machine": about,
            "seed": options.seed,
            "quick": options.quick,
            "figures": found,
            "goals": report.goals,
        }
        report.line(json.dumps(whole))
    return 0


def _end(report: Report, seconds: float, about: dict[str, Any]) -> None:
    report.section(f"after {seconds:.0f} s")
    report.line("  " + ", ".join(f"{name} {value}" for name, value in about.items()))
    short = report.short
    report.line(f"  SHORT of the target: {'; '.join(short)}" if short else "  every target was reached")


if __name__ == "__main__":
    sys.exit(main())
