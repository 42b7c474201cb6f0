"""The doctor's look at the ways to terminals: the cloud's name, port and credential; local roots, keys, addresses."""

import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from config.settings import Settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.cli.findings import Finding, fail, ok, warn
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.inventory import route_of
from orchestrator.model import Transport
from orchestrator.policy import CONNECT_TIMEOUT_S
from orchestrator.store.rows import Row
from orchestrator.terminal_api.certificates import PUBLISHED_SHA256, load_roots
from orchestrator.terminal_api.endpoints import LOCAL_PORT, cloud_base
from orchestrator.terminal_api.inventory import Condition
from orchestrator.wire import NOT_TRUSTED, WRONG_NAME, Answer

#: Local terminals that are called: enough to see a wrong network, few enough for a doctor who is asked once a minute.
_CALLED_MAX: Final = 20
_AT_ONCE: Final = 10
_REFUSED: Final = {401, 403}


def cloud(chosen: Settings, counterfoil: Counterfoil, rows: Sequence[Row]) -> Iterator[Finding]:
    """The cloud: resolve, connect, and ask it something with our credential."""
    try:
        url = cloud_base(chosen.environment, chosen.region, chosen.cloud_api, chosen.cloud_url)
    except ConfigurationError as error:
        yield fail("cloud", str(error))
        return
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    trouble = _unreachable(host, port)
    if trouble is not None:
        yield trouble
        return
    yield ok("cloud", f"{host} resolves and takes connections on port {port}")
    merchant = chosen.merchant_account or next((row["merchant_account"] for row in rows), None)
    if chosen.api_key is not None and merchant is not None:
        yield _credential(counterfoil, merchant)


def _unreachable(host: str, port: int) -> Finding | None:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return warn(
            "cloud", f"the name {host} does not resolve; look at this machine's DNS and at COUNTERFOIL_CLOUD_URL"
        )
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT_S).close()
    except OSError:
        return warn(
            "cloud",
            f"{host} does not take connections on port {port}; allow this machine out to tcp/{port} of *.adyen.com and "
            "*.adyenpayments.com, by name and never by address: the addresses change",
        )
    return None


def _credential(counterfoil: Counterfoil, merchant_account: str) -> Finding:
    found = counterfoil.terminal.listed(merchant_account, None, None)
    if isinstance(found, Answer) and found.status in _REFUSED:
        return fail(
            "credential",
            f"the cloud answers {found.status} for {merchant_account}; COUNTERFOIL_API_KEY has to be of this "
            "environment, with the role for the Terminal API (Cloud Device API where that is set)",
        )
    if isinstance(found, Answer) and found.status == 200:
        return ok("credential", f"the cloud lists the terminals of {merchant_account}")
    why = f"status {found.status}" if isinstance(found, Answer) else found.why
    return warn("credential", f"the cloud's list of terminals was not to be had ({why}); try again")


def local(chosen: Settings, counterfoil: Counterfoil, rows: Sequence[Row]) -> Iterator[Finding]:
    """The local network: the root, each terminal's key, and whether the right one answers at its address."""
    ours = [row for row in rows if row["transport"] == Transport.LOCAL]
    if not ours:
        return
    try:
        root = load_roots(chosen.terminal_roots, chosen.environment)
    except ConfigurationError as error:
        yield fail("terminal root", str(error))
        return
    published = root.sha256 == PUBLISHED_SHA256[chosen.environment]
    yield ok("terminal root", f"{'the published' if published else 'another'} {chosen.environment} root, {root.source}")
    yield from _keys(chosen, counterfoil, ours)
    yield from _addresses(chosen, counterfoil, ours[:_CALLED_MAX])


def _keys(chosen: Settings, counterfoil: Counterfoil, rows: Sequence[Row]) -> Iterator[Finding]:
    clear: list[str] = []
    for row in rows:
        try:
            if not counterfoil.key_rings(row["poi_id"], row["merchant_account"], row["store"]):
                clear.append(row["poi_id"])
        except (ConfigurationError, StoreUnavailable) as error:
            yield fail("shared keys", f"{row['poi_id']}: {error}")
            return
    if not clear:
        yield ok("shared keys", f"each of {len(rows)} local terminals has one")
        return
    text = f"{_some(clear)} without one; set it with `counterfoil terminals key set`"
    yield (fail if chosen.environment == "live" else warn)("shared keys", text)


def _addresses(chosen: Settings, counterfoil: Counterfoil, rows: Sequence[Row]) -> Iterator[Finding]:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        asked = threads.map(lambda row: counterfoil.terminal.diagnose(route_of(row), chosen.sale_id), rows)
        healths = list(zip(rows, asked, strict=True))
    wrong = [row["poi_id"] for row, health in healths if health.why in {WRONG_NAME, NOT_TRUSTED}]
    away = [row["poi_id"] for row, health in healths if health.condition is Condition.AWAY and not health.why]
    away += [row["poi_id"] for row, health in healths if health.why and row["poi_id"] not in wrong]
    if wrong:
        yield fail("local terminals", f"another certificate answers at the address of {_some(wrong)}; see the runbook")
    if away:
        yield warn(
            "local terminals",
            f"{_some(away)} not to be reached; are they on, is the address still theirs, and is tcp/{LOCAL_PORT} to "
            "them allowed on this network?",
        )
    if not wrong and not away:
        yield ok("local terminals", f"{len(rows)} called, all answer as themselves")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
