"""Requests to terminals, through the cloud or on the local network. Whatever happens becomes evidence.

Which way a request goes is its terminal's transport; whether it is sealed, and whether a clear answer is believed, its
keys'. An answer that cannot be opened is a missing one: the status is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from orchestrator import tracing
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.evidence import Evidence, Exchange, NotDelivered
from orchestrator.model import Transaction, Transport
from orchestrator.policy import ASYNC_READ_TIMEOUT_S, CONNECT_TIMEOUT_S, LOOK_TIMEOUT_S, Policy
from orchestrator.terminal_api import endpoints, interpret, inventory, messages, service_ids
from orchestrator.terminal_api.protection import KeyRing, ProtectionError, SharedKey, open_answer, seal
from orchestrator.wire import MAX_CONNECTIONS, Answer, CloudWire, Failure, LocalWire

log = structlog.get_logger()

_DEFAULTS = Policy()

_UNAUTHORISED = 401  # what a terminal answers to a message that it cannot open


class Rings(Protocol):
    """The keys that terminals share with us, and what is learned of them by using them."""

    def __call__(self, poi_id: str, merchant_account: str, store: str | None) -> KeyRing:
        """Return the keys that a terminal may have; raises ConfigurationError or StoreUnavailable."""

    def worked(self, poi_id: str, key: SharedKey) -> None:
        """Hear that the terminal opened what this key sealed."""

    def refused(self, poi_id: str, ring: KeyRing) -> None:
        """Hear that it did not open what the ring's sealing key sealed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAccess:
    """How we come to the platform's cloud."""

    environment: str  # "test" or "live"
    api_key: str = field(repr=False)
    family: str  # "terminal" or "device"
    cloud_url: str | None = None
    region: str | None = None
    sealed: bool = False  # messages of the device API go sealed where a key is known

    def __post_init__(self) -> None:
        """Refuse a key that no header can hold, before an encoding error quotes it."""
        if not self.api_key or not self.api_key.isascii() or not self.api_key.isprintable():
            raise ConfigurationError("the API key must be printable ASCII")


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalRoute:
    """Which terminal, and how it is reached; None takes the access's own choice."""

    poi_id: str
    merchant_account: str
    transport: Transport
    region: str | None = None
    family: str | None = None
    address: str | None = None
    store: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAccess:
    """How we come to terminals on the local network."""

    wire: LocalWire
    plaintext_allowed: bool  # in test, to a terminal that has no key


class Terminals:
    """Everything that can be asked of a terminal. Safe to share between threads; every call blocks."""

    def __init__(
        self,
        access: CloudAccess | None,
        local: LocalAccess | None = None,
        rings: Rings | None = None,
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        async_read_timeout_s: float = ASYNC_READ_TIMEOUT_S,
        sync_read_timeout_s: float = _DEFAULTS.sync_read_timeout_s,
        local_read_timeout_s: float = _DEFAULTS.local_read_timeout_s,
        status_read_timeout_s: float = _DEFAULTS.status_read_timeout_s,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._access = access
        self._local = local
        self._rings = rings
        self._read_timeouts_s: Mapping[Transport, float] = {
            Transport.ASYNC: async_read_timeout_s,
            Transport.SYNC: sync_read_timeout_s,
            Transport.LOCAL: local_read_timeout_s,
        }
        self._status_read_timeout_s = status_read_timeout_s
        self._cloud = CloudWire(access.api_key, connect_timeout_s, max_connections) if access else None

    def pay(self, tx: Transaction, route: TerminalRoute, body: bytes, may_send: Callable[[], bool]) -> Evidence | None:
        """Send a payment request once. ``may_send`` is asked just before its first byte. None: taken, result later."""
        kind = _kind(route.transport)
        sent = self.request(route, kind, body, self._read_timeouts_s[route.transport], may_send)
        if isinstance(sent, Answer):
            return interpret.read_payment_answer(sent.status, sent.body, tx, expects_result=kind == "sync")
        if sent.delivered:
            return interpret.missing(Exchange.PAYMENT, sent.why, tx.service_id)
        return NotDelivered(why=sent.why)

    def check(self, tx: Transaction, route: TerminalRoute) -> Evidence:
        """Ask the terminal what became of the transaction. Always over /sync: the answer is wanted here."""
        service_id = service_ids.random_service_id("status")
        body = messages.status_request(tx, service_id=service_id)
        sent = self.request(route, "sync", body, self._status_read_timeout_s)
        if isinstance(sent, Answer):
            return interpret.read_status_answer(sent.status, sent.body, tx, status_service_id=service_id)
        return interpret.missing(Exchange.STATUS, sent.why, service_id)

    def abort(self, tx: Transaction, route: TerminalRoute) -> Evidence:
        """Ask the terminal to stop the transaction."""
        service_id = service_ids.random_service_id("abort")
        body = messages.abort_request(tx, service_id=service_id)
        sent = self.request(route, _kind(route.transport), body, self._status_read_timeout_s)
        if isinstance(sent, Answer):
            return interpret.read_abort_answer(sent.status, sent.body)
        return interpret.missing(Exchange.ABORT, sent.why, service_id)

    def connected(self, merchant_account: str, region: str | None, family: str | None) -> frozenset[str] | None:
        """The POIIDs that the cloud is connected to; None when it does not say."""
        found = self.listed(merchant_account, region, family)
        return inventory.read_listing(found.status, found.body) if isinstance(found, Answer) else None

    def listed(self, merchant_account: str, region: str | None, family: str | None) -> Answer | Failure:
        """Ask the cloud which terminals of a merchant account it is connected to."""
        access = self._access
        if access is None or self._cloud is None:
            return Failure("no-api-key", delivered=False)
        asked = inventory.listing(family or access.family, merchant_account)
        base = endpoints.cloud_base(
            access.environment, region or access.region, family or access.family, access.cloud_url
        )
        return self._cloud.ask(asked.method, base + asked.path, asked.body, LOOK_TIMEOUT_S)

    def diagnose(self, route: TerminalRoute, sale_id: str) -> inventory.Health:
        """Ask a terminal how it is. It answers while it takes a payment too."""
        service_id = service_ids.random_service_id("diagnosis")
        body = messages.diagnosis_request(route.poi_id, sale_id, service_id=service_id)
        sent = self.request(route, "sync", body, LOOK_TIMEOUT_S)
        if isinstance(sent, Answer):
            return inventory.read_diagnosis(sent.status, sent.body, poi_id=route.poi_id, service_id=service_id)
        condition = inventory.Condition.NOT_KNOWN if sent.delivered else inventory.Condition.AWAY
        return inventory.Health(condition, why=sent.why)

    def request(
        self,
        route: TerminalRoute,
        kind: endpoints.Kind,
        body: bytes,
        read_timeout_s: float,
        may_send: Callable[[], bool] = lambda: True,
    ) -> Answer | Failure:
        """Post one message and read what comes back on the connection, sealed and opened where the terminal has keys.

        ``kind`` is for the cloud: on the local network the answer always comes on the connection.
        """
        way = "local" if route.transport is Transport.LOCAL else kind
        with tracing.part(f"terminal {way}", "client", terminal=route.poi_id):
            sent = self._request(route, kind, body, read_timeout_s, may_send)
            if isinstance(sent, Answer):
                tracing.note(status=sent.status)
            else:
                tracing.failed(sent.why)
            return sent

    def _request(
        self,
        route: TerminalRoute,
        kind: endpoints.Kind,
        body: bytes,
        read_timeout_s: float,
        may_send: Callable[[], bool],
    ) -> Answer | Failure:
        is_local = route.transport is Transport.LOCAL
        rings = self._rings if is_local or self._seals_for_cloud(route) else None
        try:
            ring = rings(route.poi_id, route.merchant_account, route.store) if rings else KeyRing()
        except (ConfigurationError, StoreUnavailable):  # a transaction that was claimed still needs its end
            log.exception("shared_keys_unavailable", terminal=route.poi_id)
            return Failure("no-shared-key", delivered=False)
        key = ring.sealing
        out = body if key is None else seal(body, key)
        if is_local:
            sent = self._post_local(route, out, read_timeout_s, may_send, sealed=key is not None)
        else:
            sent = self._post_cloud(route, kind, out, read_timeout_s, may_send)
        if rings is None or key is None or isinstance(sent, Failure):
            return sent
        return _opened(route.poi_id, sent, ring, rings)

    def close(self) -> None:
        """Close idle connections; requests that are under way end first."""
        if self._cloud is not None:
            self._cloud.close()

    def _seals_for_cloud(self, route: TerminalRoute) -> bool:
        return self._access is not None and self._access.sealed and self._family(route) == "device"

    def _family(self, route: TerminalRoute) -> str:
        return route.family or (self._access.family if self._access else "")

    def _post_local(
        self, route: TerminalRoute, body: bytes, read_timeout_s: float, may_send: Callable[[], bool], *, sealed: bool
    ) -> Answer | Failure:
        if self._local is None:
            return Failure("no-terminal-root", delivered=False)
        if not sealed and not self._local.plaintext_allowed:
            return Failure("no-shared-key", delivered=False)
        if route.address is None:
            return Failure("no-address", delivered=False)
        return self._local.wire.post(route.address, route.poi_id, body, read_timeout_s, may_send)

    def _post_cloud(
        self,
        route: TerminalRoute,
        kind: endpoints.Kind,
        body: bytes,
        read_timeout_s: float,
        may_send: Callable[[], bool],
    ) -> Answer | Failure:
        access = self._access
        if access is None or self._cloud is None:
            return Failure("no-api-key", delivered=False)
        try:
            url = endpoints.cloud_url(
                access.environment,
                route.region or access.region,
                self._family(route),
                kind=kind,
                merchant=route.merchant_account,
                poi_id=route.poi_id,
                override=access.cloud_url,
            )
        except ConfigurationError:  # of this one terminal: a transaction that was claimed still needs its end
            return Failure("no-endpoint", delivered=False)
        return self._cloud.post(url, body, read_timeout_s, may_send)


def _opened(poi_id: str, sent: Answer, ring: KeyRing, rings: Rings) -> Answer | Failure:
    """Open a sealed answer. What is no envelope passes only where it says nothing of a charge."""
    if sent.status == _UNAUTHORISED:
        rings.refused(poi_id, ring)
    try:
        opened = open_answer(sent.body, ring)
    except ProtectionError as error:
        log.warning("sealed_answer_refused", terminal=poi_id, why=error.problem)
        return Failure(f"sealed-{error.problem}", delivered=True)
    if opened is not sent.body:
        rings.worked(poi_id, ring.keys[0])
    return Answer(sent.status, opened)


def _kind(transport: Transport) -> endpoints.Kind:
    return "async" if transport is Transport.ASYNC else "sync"
