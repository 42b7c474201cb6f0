"""A collector that keeps the spans it is sent, and the product beside it: API, worker and beat as real processes."""

import itertools
import json
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx
from celery import Celery
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from orchestrator.ids import new_id
from orchestrator.keys import make_key
from orchestrator.processes import Processes, wait_until_ready
from orchestrator.simulator.process import SimulatorProcess
from orchestrator.store import schema
from orchestrator.store.database import Database
from orchestrator.store.keys import KeyStore
from orchestrator.store.terminals import TerminalStore
from tests.integration.callback_support import Receiver, new_secret
from tests.integration.celery_support import wait_for
from tests.integration.http_support import free_port
from tests.services import fresh_database

MERCHANT = "HarbourBakery"
API_KEY, PASSWORD = "platform-key-canary", "notification-password-canary"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Span:
    """One span, as a collector has it."""

    name: str
    kind: int
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Mapping[str, Any]
    links: tuple[str, ...]
    is_error: bool
    began_ns: int
    ended_ns: int
    says_more: bool

    @property
    def lasted_s(self) -> float:
        return (self.ended_ns - self.began_ns) / 1e9


class Collector:
    """OTLP over HTTP: keeps every span, and the bytes that it came in."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                collector.raw.append(raw)
                collector.spans += read_spans(raw)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def of(self, trace_id: str) -> list[Span]:
        """The spans of a trace so far, by when they began."""
        return sorted((span for span in list(self.spans) if span.trace_id == trace_id), key=lambda span: span.began_ns)

    def named(self, trace_id: str, name: str, count: int = 1, within_s: float = 60.0) -> list[Span]:
        """The spans of a trace with this name, once there are so many."""

        def found() -> list[Span]:
            spans = [span for span in self.of(trace_id) if span.name == name]
            return spans if len(spans) >= count else []

        spans: list[Span] = wait_for(found, within_s)
        return spans

    def one(self, trace_id: str, name: str) -> Span:
        """The one span of a trace with this name."""
        [span] = self.named(trace_id, name)
        return span


def read_spans(raw: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(raw).resource_spans:
        service = plain(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    service=service,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=plain(span.attributes),
                    links=tuple(link.trace_id.hex() for link in span.links),
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                    began_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                    says_more=bool(span.events or span.status.message or span.trace_state),
                )


def plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class Traced:
    """The product as processes, and whoever calls it."""

    def __init__(self, database_url: str, processes: Processes, url: str, collector: Collector) -> None:
        self.database_url, self.processes, self.url, self.collector = database_url, processes, url, collector
        self.secret = ""
        self.broker_url = ""
        self.database = Database(database_url, connections=1)
        key, digest = make_key()
        KeyStore(self.database).create(new_id(), digest, MERCHANT, "admin", "test")
        self.key = key
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=60, headers={"authorization": f"Bearer {key}"})

    def terminal(self) -> str:
        poi_id = f"V400m-{secrets.randbelow(10**9):09d}"
        TerminalStore(self.database).put({"poi_id": poi_id, "merchant_account": MERCHANT, "transport": "async"})
        return poi_id

    def body(self, scenario: str) -> dict[str, Any]:
        amount = {"currency": "EUR", "value": 1099}
        return {"reference": f"SALE-{next(_numbers)}-{scenario}", "poi_id": self.terminal(), "amount": amount}

    def pay(self, scenario: str, **headers: str) -> dict[str, Any]:
        """Submit a payment; the simulator plays the scenario."""
        key = {"idempotency-key": secrets.token_hex(8)}
        answer = self.http.post("/v1/payments", json=self.body(scenario), headers={**key, **headers})
        assert answer.status_code == 201, answer.text
        payment: dict[str, Any] = answer.json()
        return payment

    def enqueue(self, submission: dict[str, Any], **headers: str) -> None:
        """Enqueue a submission as somebody else's backend does."""
        with Celery("somebody-elses", broker=self.broker_url, set_as_current=False) as client:
            client.send_task(
                "tasks.payments.submit", kwargs={"submission": submission}, queue="payments", headers=headers
            )

    def read(self, payment: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(f"/v1/payments/{payment['id']}").json()
        return found

    def lines(self, process: str) -> list[dict[str, Any]]:
        """What a process has logged."""
        written = (self.processes.logs / f"{process}.log").read_text().splitlines()
        return [json.loads(line) for line in written if line.startswith("{")]

    def close(self) -> None:
        self.http.close()
        self.database.close()


def traceparent() -> tuple[str, str, str]:
    """A caller's own: trace id, span id, and the header."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    return trace_id, span_id, f"00-{trace_id}-{span_id}-01"


@contextmanager
def traced_product(postgres_url: str, broker_url: str, folder: Path, caller: Receiver) -> Iterator[Traced]:
    """The product with traces on, its callbacks told to ``caller``."""
    listen = f"127.0.0.1:{free_port()}"
    arguments = ["--any-terminal", "--api-key", API_KEY, "--time-scale", "50", "--seed", "1"]
    arguments += ["--notify", f"http://{listen}/notifications/terminal", "--username", "adyen", "--password", PASSWORD]
    with (
        fresh_database(postgres_url) as url,
        SimulatorProcess(folder / "ledger", arguments) as simulator,
        Collector() as collector,
    ):
        schema.upgrade(url)
        environment = {
            "COUNTERFOIL_DATABASE_URL": url,
            "COUNTERFOIL_BROKER_URL": broker_url,
            "COUNTERFOIL_CLOUD_URL": simulator.url,
            "COUNTERFOIL_API_KEY": API_KEY,
            "COUNTERFOIL_TIME_SCALE": "50",
            "COUNTERFOIL_WORKER_CONCURRENCY": "4",
            "COUNTERFOIL_LOG_FORMAT": "json",
            "COUNTERFOIL_LISTEN": listen,
            "COUNTERFOIL_NOTIFICATION_USERNAME": "adyen",
            "COUNTERFOIL_NOTIFICATION_PASSWORD": PASSWORD,
            "COUNTERFOIL_CALLBACK_URL": caller.url,
            "COUNTERFOIL_CALLBACK_SECRETS": caller.secret,
            "COUNTERFOIL_CALLBACK_ALLOW_PRIVATE": "true",
            "COUNTERFOIL_TRACES": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds; a person waits for five seconds, a test does not
            "HOME": str(folder),
        }
        with Processes(environment, folder / "logs") as processes:
            for name, command in (("api", "serve"), ("worker", "worker"), ("beat", "beat")):
                processes.start(name, command)
            wait_until_ready(f"http://{listen}")
            product = Traced(url, processes, f"http://{listen}", collector)
            product.broker_url, product.secret = broker_url, caller.secret
            try:
                yield product
            finally:
                product.close()


__all__ = ["Collector", "Receiver", "Span", "Traced", "new_secret", "traced_product", "traceparent"]
