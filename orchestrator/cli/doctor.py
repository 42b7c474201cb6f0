"""``counterfoil doctor``: is everything there that payments need, and does the work get done?"""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.text import Text

from config.logs import configure_logs
from config.settings import Settings, settings
from orchestrator.bootstrap import Counterfoil, Urls, urls
from orchestrator.cli import doctor_signs, doctor_ways
from orchestrator.cli.brokers import Worker, broker_version, workers
from orchestrator.cli.findings import Finding, Verdict, fail, ok, warn
from orchestrator.cli.output import console, emit
from orchestrator.cli.product import Json
from orchestrator.cli.root import Exit, app
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.model import Transport
from orchestrator.store import health, revisions
from orchestrator.store.database import Database
from orchestrator.store.rows import Row
from orchestrator.store.terminals import TerminalStore

_PAGE: Final = 500
_POSTGRES_MIN: Final = 15
#: The windows are measured by the database's clock; logs and notifications by this machine's.
_SKEW_MAX_S: Final = 2.0
#: The sweep runs once a second and a command is rung at once: work that is this old is late, and this old is stuck.
_LATE_AFTER_S: Final = 10.0
_STUCK_AFTER_S: Final = 120.0


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Only the database, the broker and progress.")] = False,
    as_json: Json = False,
) -> int:
    """Check what payments need, one line each, with the remedy; exit status 1 when something fails."""
    configure_logs(settings().log_format, level=logging.CRITICAL)
    logging.disable(logging.ERROR)  # what the libraries would complain of is said by the findings
    findings: list[Finding] = []
    for finding in _examine(settings(), quick=quick):
        findings.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        emit([asdict(finding) for finding in findings])
    return Exit.ERROR if any(finding.verdict is Verdict.FAIL for finding in findings) else Exit.DONE


def _print(finding: Finding) -> None:
    colour = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}[finding.verdict]
    console().print(Text.assemble((f"{finding.verdict:<5}", colour), f" {finding.check}: {finding.text}"))


def _examine(chosen: Settings, *, quick: bool) -> Iterator[Finding]:
    if not quick:
        yield from _settings(chosen)
    try:
        found = urls(chosen)
    except ConfigurationError as error:
        yield fail("servers", str(error))
        return
    work: health.Work | None = None
    with contextlib.closing(Database(found.database, connections=1)) as database:
        try:
            server = health.server(database)
            yield from _database(server)
            if revisions.serves(server.revision):
                work = health.work(database)
                yield from _work(chosen, work, quick=quick)
                yield from doctor_signs.life(chosen, database)
                if not quick:
                    yield from doctor_signs.doors(chosen, health.doors(database))
        except StoreUnavailable:
            yield fail("database", "does not answer; start it, or correct COUNTERFOIL_DATABASE_URL")
    if work is not None and not quick:
        yield from _ways(chosen)
    broker = _broker(chosen, found)
    yield broker
    if not quick and broker.verdict is Verdict.OK:
        yield from _workers(chosen, found, work)


def _settings(chosen: Settings) -> Iterator[Finding]:
    given = sum(each.origin != "default" for each in chosen.describe())
    yield ok("settings", f"{given} given, the rest by default; environment {chosen.environment}")
    if chosen.api_key is None and chosen.transport is Transport.LOCAL:
        yield ok("api key", "none: terminals are called on the local network alone")
    elif chosen.api_key is None:
        yield fail("api key", "none: nothing can be sent; set COUNTERFOIL_API_KEY")
    else:
        yield ok("api key", "set")
    if chosen.notification_username is None or chosen.notification_password is None:
        yield warn(
            "notifications",
            "no login, so all get 401 and every result waits for a status check; set "
            "COUNTERFOIL_NOTIFICATION_USERNAME and _PASSWORD, and the same at the platform",
        )
    else:
        yield ok("notifications", f"login of {chosen.notification_username} set")


def _database(server: health.Server) -> Iterator[Finding]:
    version = f"PostgreSQL {server.version // 10_000}.{server.version % 10_000}"
    if server.version // 10_000 < _POSTGRES_MIN:
        yield fail("database", f"{version} is too old; use PostgreSQL {_POSTGRES_MIN} or newer")
    else:
        yield ok("database", version)
    if revisions.is_later(server.revision):
        later = f"revision {server.revision}, later than this release's {revisions.newest()}: we run on it"
        yield ok("schema", f"{later}; bring this process up to date too")
    elif revisions.serves(server.revision):
        yield ok("schema", f"revision {server.revision}")
    else:
        yield fail(
            "schema", f"revision {server.revision}, needed is {revisions.newest()}; run `counterfoil db upgrade`"
        )
    skew_s = (datetime.now(UTC) - server.at).total_seconds()
    if abs(skew_s) > _SKEW_MAX_S:
        yield warn("clock", f"{skew_s:+.1f} s from the database's; have both machines keep time by NTP")
    else:
        yield ok("clock", "agrees with the database's")


def _work(chosen: Settings, work: health.Work, *, quick: bool) -> Iterator[Finding]:
    age_s = work.oldest_due_s or 0.0
    late = f"the oldest due command waits for {age_s:.0f} s"
    if age_s > _STUCK_AFTER_S:
        yield fail("progress", f"{late}; nobody works: start `counterfoil worker` and `counterfoil beat`")
    elif age_s > _LATE_AFTER_S:
        yield warn(
            "progress", f"{late}; are `counterfoil worker` and `counterfoil beat` running, and is the broker up?"
        )
    else:
        yield ok("progress", late if work.oldest_due_s is not None else "nothing is overdue")
    if quick:
        return
    if chosen.tag_keys or work.tag_keys:
        yield ok("tag key", "from the settings" if chosen.tag_keys else "in the database")
    else:
        yield fail("tag key", "none: no result could be recognised; run `counterfoil db upgrade`, which makes one")
    if work.terminals:
        yield ok("terminals", f"{work.terminals} registered")
    else:
        yield warn("terminals", "none registered; register one with `counterfoil terminals add`")


def _ways(chosen: Settings) -> Iterator[Finding]:
    with contextlib.closing(Counterfoil(chosen)) as counterfoil:
        store, rows = TerminalStore(counterfoil.database), list[Row]()
        while page := store.many(None, rows[-1]["poi_id"] if rows else "", _PAGE):
            rows += page
        if chosen.transport is not Transport.LOCAL or any(row["transport"] != Transport.LOCAL for row in rows):
            yield from doctor_ways.cloud(chosen, counterfoil, rows)
        yield from doctor_ways.local(chosen, counterfoil, rows)
    if chosen.time_scale != 1:
        yield warn(
            "time-outs", f"divided by {chosen.time_scale:g} (COUNTERFOIL_TIME_SCALE); never against real terminals"
        )


def _broker(chosen: Settings, found: Urls) -> Finding:
    try:
        return ok("broker", broker_version(chosen, found.broker))
    except Exception as error:  # noqa: BLE001  -- each broker's library raises its own
        why = type(error).__name__
        return fail(
            "broker", f"does not answer ({why}), so payments are late; start it, or correct COUNTERFOIL_BROKER_URL"
        )


def _workers(chosen: Settings, found: Urls, work: health.Work | None) -> Iterator[Finding]:
    running = workers(chosen, found.broker)
    if not running:
        yield warn("workers", "none answers; start `counterfoil worker`")
        return
    served = sorted({queue for worker in running for queue in worker.queues})
    missing = sorted({"payments", "status", "timers"} - set(served))
    if missing:
        yield warn("workers", f"nobody serves {', '.join(missing)}; start a worker with --queues {','.join(missing)}")
    else:
        yield ok("workers", f"{len(running)} serve {', '.join(served)}")
    if work is not None and work.held_terminals:
        yield from _held(running)


def _held(running: list[Worker]) -> Iterator[Finding]:
    """Calls that are held open must not fill the threads that answer everything else."""
    mixed = [worker.name for worker in running if "held" in worker.queues and len(worker.queues) > 1]
    if not any("held" in worker.queues for worker in running):
        yield warn("held calls", "nobody serves the queue held, and there are sync terminals; start a worker for it")
    elif mixed:
        yield warn(
            "held calls",
            f"{', '.join(mixed)} serves held beside other queues; give held calls a worker of their own: --queues held",
        )
