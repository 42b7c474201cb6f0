"""Traces: one from the caller's request to the callback, also across the wait and a restart. Off unless configured.

A payment's row keeps where its trace began (``trace``, a W3C ``traceparent``), because what happens next is a command
in the database and not a message. Each later step is a span below it, in whatever process and however much later.

While traces are off every function here is one comparison, and nothing of OpenTelemetry is imported. A span says what
``ATTRIBUTES`` lists, card numbers masked, and never a payload or an error's text. The telemetry that FastAPI brings is
switched off: it would send query strings and the texts of exceptions.

Nothing here stands in the way of what it tells of: a trace that fails is mentioned in the log, and the payment goes on.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Final, Literal

import structlog

from orchestrator.cards import mask_card_numbers
from orchestrator.errors import ConfigurationError
from orchestrator.log_context import About, about, identity_of

log = structlog.get_logger()

#: What a span may say, and under which name. ``docs/traces.md`` explains each; a test compares.
ATTRIBUTES: Final[Mapping[str, str]] = {
    "payment": "counterfoil.payment.id",
    "refund": "counterfoil.refund.id",
    "reference": "counterfoil.reference",
    "terminal": "counterfoil.poi_id",
    "transport": "counterfoil.transport",
    "command": "counterfoil.command",
    "evidence": "counterfoil.evidence",
    "event": "counterfoil.event",
    "state": "counterfoil.state",
    "outcome": "counterfoil.outcome",
    "reason": "counterfoil.reason",
    "why": "counterfoil.why",
    "callback": "counterfoil.callback.id",
    "attempt": "counterfoil.callback.attempt",
    "task": "celery.task_id",
    "request": "counterfoil.request.id",
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "host": "server.address",
    "error": "error.type",
}

Kind = Literal["internal", "server", "client", "producer", "consumer"]

#: W3C Trace Context, version 00; a later version begins in the same way.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

#: A collector that is away holds the end of a process up no longer than this, and is mentioned no more often.
_STOP_WITHIN_S: Final = 2.0
_COMPLAIN_EVERY_S: Final = 60.0

#: For one batch of spans, repetitions included: a collector is near, or spans are better dropped.
_EXPORT_TIMEOUT_S: Final = 5.0

_NOWHERE: Final[AbstractContextManager[None]] = nullcontext()
_NANOSECONDS: Final = 1_000_000_000


class _Harmless:
    """Keeps what fails in a trace away from what the trace is about: an answer that is in hand has to be recorded."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        log.warning("trace_failed", error=type(error).__name__, remedy="a defect of ours; payments are not touched")
        return True


_HARMLESS: Final = _Harmless()


class _CalmExporter:
    """Sends spans, and mentions now and then that it cannot, in place of what the library says of each try."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        self._complained_at_s = float("-inf")
        self._lost = 0
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[Any]) -> Any:
        """Send these, or lose them: nobody waits for them."""
        result = self._exporter.export(spans)
        if result.name != "SUCCESS":
            self._lost += len(spans)
            if time.monotonic() - self._complained_at_s > _COMPLAIN_EVERY_S:
                self._complained_at_s = time.monotonic()
                log.warning("traces_lost", spans=self._lost, remedy="see COUNTERFOIL_TRACES; payments are not touched")
                self._lost = 0
        return result

    def shutdown(self) -> None:
        """Stop, and wait for nobody."""
        self._exporter.shutdown()

    def force_flush(self, timeout_ms: int = 0) -> bool:
        """Nothing waits here."""
        return True


class _Live:
    """OpenTelemetry, once it is wanted. Its provider is ours alone: nobody else's spans go through it."""

    def __init__(self, url: str, sample: float, service: str) -> None:
        from opentelemetry import context, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.trace, self.context = trace, context
        self.propagator = TraceContextTextMapPropagator()
        self.provider = TracerProvider(
            sampler=ParentBasedTraceIdRatio(sample),
            resource=Resource.create({SERVICE_NAME: service}),
            shutdown_on_exit=False,  # whoever started it stops it, and does not wait for a collector that is away
        )
        self.exporter = _CalmExporter(OTLPSpanExporter(f"{url.rstrip('/')}/v1/traces", timeout=_EXPORT_TIMEOUT_S))
        self.provider.add_span_processor(BatchSpanProcessor(self.exporter))  # type: ignore[arg-type]  # it is one by what it does
        self.tracer = self.provider.get_tracer("counterfoil")

    def below(self, traceparent: str) -> Any:
        """The context of spans below another process's; an empty one when it is none."""
        known = _TRACEPARENT.fullmatch(traceparent) is not None
        return self.propagator.extract({"traceparent": traceparent} if known else {}, self.context.Context())

    @contextmanager
    def open(
        self, name: str, kind: Kind, context: Any, said: Mapping[str, Any], links: Sequence[Any] = ()
    ) -> Iterator[None]:
        """A span around what is done; of an error its kind alone is told."""
        begun = self._begin(name, kind, context, said, links)
        if begun is None:
            yield
            return
        span, token = begun
        try:
            with about(trace=f"{span.get_span_context().trace_id:032x}"):
                yield
        except BaseException as error:
            with _HARMLESS:
                span.set_attribute(ATTRIBUTES["error"], type(error).__name__)
                span.set_status(self.trace.StatusCode.ERROR)
            raise
        finally:
            with _HARMLESS:
                self.context.detach(token)
                span.end()

    def _begin(
        self, name: str, kind: Kind, context: Any, said: Mapping[str, Any], links: Sequence[Any]
    ) -> tuple[Any, Any] | None:
        with _HARMLESS:
            span = self.tracer.start_span(
                name,
                context,
                kind=self.trace.SpanKind[kind.upper()],
                attributes=_spelled(said),
                links=links,
                record_exception=False,
                set_status_on_exception=False,
            )
            return span, self.context.attach(self.trace.set_span_in_context(span))
        return None


_live: _Live | None = None


def check(url: str | None) -> None:
    """Find out early whether traces that are wanted can be sent; imports nothing of what sends them.

    Raises:
        ConfigurationError: the extra that sends traces is not installed.
    """
    if url is not None and not all(map(_is_there, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"))):
        message = (
            "COUNTERFOIL_TRACES is set, and what sends traces is not installed; "
            "run `pip install counterfoil[otel]`, or leave COUNTERFOIL_TRACES out"
        )
        raise ConfigurationError(message)


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package around it is missing
        return False


def start(url: str | None, sample: float, service: str) -> None:
    """Send this process's traces to an OTLP/HTTP endpoint; do nothing without one.

    ``sample`` is the share of traces that begin here and are sent; what a caller began is decided by the caller.
    """
    global _live  # noqa: PLW0603  -- one per process, as the log is
    if url is not None and _live is None:
        _live = _Live(url, sample, service)


def stop() -> None:
    """Send what waits, and stop; soon, whether the collector is there or not."""
    global _live
    live, _live = _live, None
    if live is not None:
        sending = threading.Thread(target=live.provider.shutdown, name="traces", daemon=True)
        sending.start()
        sending.join(_STOP_WITHIN_S)
        if sending.is_alive():
            live.exporter.shutdown()  # which ends its waiting for the next try


def is_on() -> bool:
    """Whether this process sends traces."""
    return _live is not None


def traceparent() -> str | None:
    """Where the span that is open here is, as another process may go on from it; None when there is none."""
    live = _live
    if live is None:
        return None
    with _HARMLESS:
        here = live.trace.get_current_span().get_span_context()
        return f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}" if here.is_valid else None
    return None


def door(name: str, kind: Kind, parent: str | None = None, **said: object) -> AbstractContextManager[None]:
    """A span where work comes in: below the caller's own, if it named one, else the first of a new trace."""
    live = _live
    if live is None:
        return _NOWHERE
    with _HARMLESS:
        return live.open(name, kind, live.below(parent or ""), said)
    return _NOWHERE


def step(name: str, row: Mapping[str, Any], kind: Kind = "internal", **said: object) -> AbstractContextManager[None]:
    """What is done for a payment or a refund: a span below where its trace began, and log lines that name it.

    Where a span of the same trace is open already, that one says it; where one of another trace is, it is linked. A row
    that was accepted while traces were off has no span.
    """
    identity = identity_of(row)
    if "command" in said:
        identity["command"] = said["command"]
    live, parent = _live, row.get("trace")
    if live is None or parent is None:
        return About(identity)
    with _HARMLESS:
        here = live.trace.get_current_span().get_span_context()
        if here.is_valid and f"{here.trace_id:032x}" == _trace_id(parent):
            note(**said)
            return About(identity)
        links = [live.trace.Link(here)] if here.is_valid else []
        span = live.open(name, kind, live.below(parent), {**identity, **said}, links)
        return _both(About(identity), span)
    return About(identity)


@contextmanager
def _both(outer: AbstractContextManager[None], inner: AbstractContextManager[None]) -> Iterator[None]:
    with outer, inner:
        yield


def _trace_id(traceparent: str) -> str:
    return traceparent.split("-")[1]


def part(name: str, kind: Kind, **said: object) -> AbstractContextManager[None]:
    """A span inside the one that is open; none where none is."""
    live = _live
    if live is None:
        return _NOWHERE
    with _HARMLESS:
        if live.trace.get_current_span().get_span_context().is_valid:
            return live.open(name, kind, None, said)
    return _NOWHERE


def passed(name: str, row: Mapping[str, Any], began_at: datetime, ended_at: datetime, **said: object) -> None:
    """A span of something that is over, by the database's clock, below where the row's trace began."""
    live, parent = _live, row.get("trace")
    if live is None or parent is None:
        return
    with _HARMLESS:
        began_ns, ended_ns = (int(at.timestamp() * _NANOSECONDS) for at in (began_at, ended_at))
        everything = _spelled({**identity_of(row), **said})
        span = live.tracer.start_span(name, live.below(parent), attributes=everything, start_time=began_ns)
        span.end(ended_ns)


def note(**said: object) -> None:
    """Have the span that is open say this too."""
    live = _live
    if live is not None:
        with _HARMLESS:
            live.trace.get_current_span().set_attributes(_spelled(said))


def rename(name: str) -> None:
    """Call the span that is open by a name that was not known when it began."""
    live = _live
    if live is not None:
        with _HARMLESS:
            live.trace.get_current_span().update_name(name)


def failed(why: str) -> None:
    """Have the span that is open say that what it tried did not succeed."""
    live = _live
    if live is not None:
        with _HARMLESS:
            span = live.trace.get_current_span()
            span.set_attribute(ATTRIBUTES["why"], why)
            span.set_status(live.trace.StatusCode.ERROR)


def _spelled(said: Mapping[str, Any]) -> dict[str, Any]:
    """By their names, masked as in the log; what is None is not said."""
    return {
        ATTRIBUTES[name]: value if isinstance(value, int) else mask_card_numbers(str(value))
        for name, value in said.items()
        if value is not None
    }
