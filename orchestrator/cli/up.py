"""``counterfoil up``: the whole product on one machine, against the simulator, until stopped."""

import contextlib
import os
import secrets
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from config.logs import configure_logs
from config.settings import Settings, child_environment, environment_name, settings, split_address
from config.values import HMAC_KEY_BYTES
from orchestrator.bootstrap import Urls
from orchestrator.cli.crew import Crew
from orchestrator.cli.output import say
from orchestrator.cli.root import Exit, app
from orchestrator.cli.stopping import Stop
from orchestrator.embedded import EmbeddedError, EmbeddedServers
from orchestrator.errors import ConfigurationError
from orchestrator.ids import new_id
from orchestrator.keys import Role, digest_of, make_key
from orchestrator.policy import Policy
from orchestrator.processes import Processes, wait_until_ready
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.keys import KeyStore
from orchestrator.store.terminals import TerminalStore

_MERCHANT: Final = "DemoMerchant"
_TERMINAL: Final = "V400m-324688170"
_SIMULATOR_PORT: Final = 8090
_ENVIRONMENT: Final = "environment"
#: Settings that differ from run to run, and are nobody's secrets.
_FOR_A_SHELL: Final = (
    *("merchant_account", "data_dir", "cloud_url", "api_key"),
    *("notification_username", "notification_password", "hmac_keys"),
)
_ENDS_WITHIN_S: Final = 15.0  # a process with nothing in hand, on a busy machine
_SECRET_BYTES: Final = 24
_NAME_CHARACTERS: Final = 11


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run works with: the settings of its children, and where its own files are."""

    settings: Settings
    environment: dict[str, str]
    urls: Urls
    folder: Path
    commands: dict[str, tuple[str, ...]]


@app.command()
def up(
    simulator: Annotated[
        bool, typer.Option("--simulator/--no-simulator", help="Run a fake cloud, unless a cloud is configured.")
    ] = True,
    flower: Annotated[
        bool, typer.Option("--flower/--no-flower", help="Run Flower, the monitor of the workers.")
    ] = True,
) -> int:
    """Run the whole product here, until stopped: servers, API, worker, beat, Flower, and a simulator of the cloud.

    PostgreSQL and Redis come from packages unless the settings name others. Everything is kept in the data folder.
    """
    configure_logs(settings().log_format)
    stop = Stop()
    stop.listen()
    _refuse_taken_ports(flower)
    with _servers(settings()) as (urls, look_after):
        if stop.asked is None:
            run = _prepare(settings(), urls, simulator=_simulates(settings(), simulator), flower=flower)
            _run(run, stop, look_after)
    tell("counterfoil", "stopped")
    return Exit.DONE


def tell(name: str, event: str) -> None:
    """One line for one event."""
    say(f"{time.strftime('%H:%M:%S')}  {name:<{_NAME_CHARACTERS}}  {event}")


def _run(run: _Run, stop: Stop, look_after: Callable[[], None]) -> None:
    with Processes(run.environment, run.folder) as processes:
        tell("counterfoil", f"logs are in {run.folder}")
        crew = Crew(processes, run.commands, tell)
        url = f"http://{_reachable(run.settings.listen)}"
        greeting = _Greeting(url, lambda: _explain(run, url))

        def also() -> None:
            look_after()
            greeting.look()

        try:
            crew.watch(stop, also)
            why = stop.asked.name if stop.asked else "the end"
            tell("counterfoil", f"{why}: stopping when what is in hand is done; a second Ctrl-C ends it now")
        finally:
            # What terminals hold is answered to the worker; cut off, it would have to be asked about.
            crew.stop(stop, patience_s(run.settings), last=["simulator"])


def patience_s(chosen: Settings) -> float:
    """How long a worker may take to end: as long as a terminal may hold the last request that it sent."""
    return Policy.scaled(chosen.time_scale).sync_read_timeout_s + _ENDS_WITHIN_S


class _Greeting:
    """Says how to pay, once, as soon as the API is ready."""

    def __init__(self, url: str, greet: Callable[[], None]) -> None:
        self._url = url
        self._greet = greet
        self._done = False

    def look(self) -> None:
        if self._done:
            return
        with contextlib.suppress(TimeoutError):
            wait_until_ready(self._url, within_s=0.3)
            self._done = True
            self._greet()


@contextlib.contextmanager
def _servers(chosen: Settings) -> Iterator[tuple[Urls, Callable[[], None]]]:
    """The servers' URLs, and what to do now and then to keep ours alive. Ours are stopped last."""
    if chosen.database_url and chosen.broker_url:
        yield Urls(chosen.database_url, chosen.broker_url), lambda: None
        return
    tell("servers", f"starting PostgreSQL and Redis in {chosen.data_dir}")
    embedded = EmbeddedServers(chosen.data_dir)
    _start(embedded)

    def look_after() -> None:
        if not embedded.running():
            tell("servers", "a server ended; starting it again")
            _start(embedded)

    try:
        tell("servers", "ready")
        yield (
            Urls(chosen.database_url or embedded.database_url, chosen.broker_url or embedded.broker_url),
            look_after,
        )
    finally:
        tell("servers", "stopping")
        embedded.stop()


def _start(embedded: EmbeddedServers) -> None:
    try:
        embedded.start()
    except EmbeddedError as error:
        raise ConfigurationError(str(error)) from None


def _prepare(chosen: Settings, urls: Urls, *, simulator: bool, flower: bool) -> _Run:
    """Bring the schema up to date, make what a first run needs, and decide who is started."""
    tell("database", f"schema at revision {schema.upgrade(urls.database)}")
    folder = chosen.data_dir.absolute() / "up"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    merchant = chosen.merchant_account or _MERCHANT
    _first_run(urls.database, merchant, folder / "api-key", register=simulator)
    overrides: dict[str, object] = {
        "database_url": urls.database,
        "broker_url": urls.broker,
        "merchant_account": merchant,
        "data_dir": chosen.data_dir,
    }
    commands: dict[str, tuple[str, ...]] = {}
    if simulator:
        # Made up for each run, also where real ones are configured: those are nobody's business but the platform's.
        made_up = {name: secrets.token_hex(_SECRET_BYTES) for name in ("api_key", "notification_password")}
        made_up["hmac_keys"] = secrets.token_hex(HMAC_KEY_BYTES)
        cloud = _free_address(_SIMULATOR_PORT)
        overrides |= made_up | {"notification_username": "simulator", "cloud_url": f"http://{cloud}"}
        commands["simulator"] = _simulator_command(chosen, folder, cloud, merchant, made_up)
    commands |= {"api": ("serve",), "worker": ("worker",), "beat": ("beat",)}
    if flower:
        commands["flower"] = ("flower",)
        if not chosen.flower_user:
            overrides |= {"flower_user": "counterfoil", "flower_password": _kept(folder / "flower-password")}
    environment = child_environment(chosen, **overrides)
    _leave_environment(folder / _ENVIRONMENT, environment if simulator else None)
    return _Run(chosen, environment, urls, folder, commands)


def _leave_environment(file: Path, environment: dict[str, str] | None) -> None:
    """Leave what was made up for the simulator where a shell can read it, so that a doctor sees what a worker sees."""
    if environment is None:
        file.unlink(missing_ok=True)
        return
    names = (environment_name(field) for field in _FOR_A_SHELL)
    _keep(file, "\n".join(f"export {name}={shlex.quote(environment[name])}" for name in names))


def _simulator_command(
    chosen: Settings, folder: Path, cloud: str, merchant: str, made_up: dict[str, str]
) -> tuple[str, ...]:
    ours = f"http://{_reachable(chosen.listen)}"
    return (
        *("simulate", "--listen", cloud, "--any-terminal", "--ledger", str(folder / "ledger.jsonl")),
        *("--api-key", made_up["api_key"], "--time-scale", str(chosen.time_scale)),
        *("--notify", f"{ours}/notifications/terminal", "--display"),
        *("--username", "simulator", "--password", made_up["notification_password"]),
        *("--webhook", f"{ours}/webhooks/standard", "--hmac-key", made_up["hmac_keys"], "--merchant", merchant),
    )


def _first_run(database_url: str, merchant: str, key_file: Path, *, register: bool) -> None:
    """Make an API key that is kept in a file, and a terminal of the simulator, unless they are there."""
    database = Database(database_url, connections=1)
    try:
        keys = KeyStore(database)
        if not key_file.exists() or keys.find(digest_of(key_file.read_text().strip())) is None:
            key, digest = make_key()
            _keep(key_file, key)
            keys.create(new_id(), digest, merchant, Role.ADMIN.value, "counterfoil up")
            tell("keys", f"made an API key for {merchant}, kept in {key_file}")
        terminals = TerminalStore(database)
        if register and not terminals.many(merchant, "", 1):
            terminals.put({"poi_id": _TERMINAL, "merchant_account": merchant, "transport": settings().transport.value})
            tell("terminals", f"registered {_TERMINAL} for {merchant}")
    finally:
        database.close()


def _explain(run: _Run, url: str) -> None:
    """Say how to pay."""
    merchant = run.environment["COUNTERFOIL_MERCHANT_ACCOUNT"]
    terminal = _a_terminal(run.urls.database, merchant)
    flower = f"http://{_reachable(run.settings.flower_listen)}"
    tell("counterfoil", f"ready: {url}, described at {url}/docs")
    login = f"{_program()} users add NAME --role admin --merchant {merchant}"
    tell("console", f"{url}/console, with a login from: {login}")
    if "flower" in run.commands and not run.settings.flower_user:
        tell("flower", f"{flower} as counterfoil, password in {run.folder / 'flower-password'}")
    if terminal is None:
        say(f"\nRegister a terminal first:  {_program()} terminals add POIID --merchant ACCOUNT\n")
        return
    body = f'{{"reference":"order-2","poi_id":"{terminal}","amount":{{"currency":"EUR","value":1050}}}}'
    say(f"""
Pay from another shell:
  {_program()} pay order-1 {terminal} 10.50 EUR --merchant {merchant} --as "$USER"

or over HTTP:
  curl '{url}/v1/payments?wait=30' -H "Authorization: Bearer $(cat {run.folder / "api-key"})" \\
    -H 'Idempotency-Key: order-2' -H 'Content-Type: application/json' -d '{body}'
{_how_to_see(run.folder / _ENVIRONMENT)}
Ctrl-C stops everything; what is stored stays.
""")


def _how_to_see(environment: Path) -> str:
    if not environment.exists():
        return ""
    return f"""
`doctor` and `terminals list --live` need what this run made up; in the other shell, first:
  . {environment}
"""


def _program() -> str:
    """How this program is called in another shell, also where its environment was not activated."""
    return "counterfoil" if shutil.which("counterfoil") else sys.argv[0]


def _a_terminal(database_url: str, merchant: str) -> str | None:
    database = Database(database_url, connections=1)
    try:
        rows = TerminalStore(database).many(merchant, "", 1)
    finally:
        database.close()
    return str(rows[0]["poi_id"]) if rows else None


def _simulates(chosen: Settings, wanted: bool) -> bool:
    """A simulator runs unless payments go elsewhere."""
    return wanted and chosen.cloud_url is None and chosen.environment == "test"


def _kept(file: Path) -> str:
    """A password that stays the same from run to run, in a file of its own."""
    if not file.exists():
        _keep(file, secrets.token_hex(_SECRET_BYTES))
    return file.read_text().strip()


def _keep(file: Path, secret: str) -> None:
    """Write a secret that nobody else on this machine can read."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as written:
        written.write(secret + "\n")


def _reachable(address: str) -> str:
    """The address as this machine reaches it."""
    host, port = split_address(address)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  -- recognised, not bound
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse_taken_ports(flower: bool) -> None:
    """Somebody else's port is found out before anything is started."""
    wanted = {"COUNTERFOIL_LISTEN": settings().listen}
    if flower:
        wanted["COUNTERFOIL_FLOWER_LISTEN"] = settings().flower_listen
    for name, address in wanted.items():
        host, port = split_address(address)
        if port and not _is_free(host, port):
            raise ConfigurationError(f"{address} is in use by another process; stop it, or set {name}")


def _free_address(port: int) -> str:
    """This port on loopback, or any free one."""
    if _is_free("127.0.0.1", port):
        return f"127.0.0.1:{port}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            return True
    except OSError:
        return False
