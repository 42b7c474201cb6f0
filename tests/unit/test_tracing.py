"""Traces: nothing while they are off, what is listed and nothing else while they are on, and never in the way."""

import ast
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from config.logs import configure_logs
from config.settings import Settings
from orchestrator import tracing
from orchestrator.bootstrap import Counterfoil
from orchestrator.errors import ConfigurationError
from orchestrator.log_context import bound
from orchestrator.web.services import NO_TELEMETRY
from tests.integration.traces_support import Collector

ROOT = Path(__file__).parents[2]
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
ROW = {"id": uuid4(), "reference": "ORDER-1", "poi_id": "V400m-1", "trace": PARENT}
VISA = "4111111111111111"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as opened:
        yield opened


@pytest.fixture
def traced(collector: Collector) -> Iterator[Collector]:
    tracing.start(collector.url, 1.0, "counterfoil-test")
    yield collector
    tracing.stop()


#: What sends traces. The Redis client imports the SDK's metrics for itself, where they are installed.
SENDERS = "('opentelemetry.sdk.trace', 'opentelemetry.exporter', 'opentelemetry.proto')"


def test_while_traces_are_off_the_api_imports_nothing_that_sends_them_and_records_nothing() -> None:
    program = f"""
import sys
from config.settings import load_settings
from orchestrator import tracing
from orchestrator.bootstrap import Counterfoil
counterfoil = Counterfoil(load_settings({{"COUNTERFOIL_DATABASE_URL": "postgresql+psycopg://x@127.0.0.1:1/x",
    "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0", "COUNTERFOIL_API_KEY": "K"}}))
import orchestrator.web.app, orchestrator.perform, orchestrator.tell
counterfoil.start_traces("api")
row = {{"id": 1, "reference": "r", "poi_id": "t", "trace": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}}
with tracing.door("a", "server"), tracing.step("b", row), tracing.part("c", "client"):
    assert tracing.traceparent() is None
print(*(name for name in sys.modules if name.startswith({SENDERS})))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COUNTERFOIL_")}
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == ""


def test_while_traces_are_off_the_worker_imports_nothing_that_sends_them() -> None:
    imports = "import sys, tasks, tasks.payments, tasks.callbacks, tasks.doorbell"
    program = f"{imports}; print(*(name for name in sys.modules if name.startswith({SENDERS})))"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("COUNTERFOIL_")},
        "COUNTERFOIL_DATABASE_URL": "postgresql+psycopg://x@127.0.0.1:1/x",
        "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == ""


def test_the_module_itself_imports_nothing_of_opentelemetry() -> None:
    program = "import sys; from orchestrator import tracing; print(*(n for n in sys.modules if 'opentelemetry' in n))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_traces_without_the_extra_stop_the_start_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_is_there", lambda module: not module.startswith("opentelemetry.sdk"))
    settings: dict[str, Any] = {
        "database_url": "postgresql+psycopg://x@127.0.0.1:1/x",
        "broker_url": "redis://127.0.0.1:1/0",
    }
    Counterfoil(Settings(**settings))
    with pytest.raises(ConfigurationError, match=re.escape("pip install counterfoil[otel]")):
        Counterfoil(Settings(**settings, traces="http://127.0.0.1:4318"))


def test_the_look_for_the_extra_finds_what_is_there_and_misses_what_is_not() -> None:
    assert tracing._is_there("opentelemetry.sdk")
    assert not tracing._is_there("opentelemetry.nowhere.at_all")
    assert not tracing._is_there("nowhere.at_all")


def test_a_step_is_below_its_rows_trace_and_a_part_below_the_step(traced: Collector) -> None:
    with tracing.step("send", ROW, "consumer", command="send"):
        assert bound()["trace"] == "a" * 32
        with tracing.part("terminal async", "client", terminal="V400m-1"):
            tracing.note(status=200)
    tracing.stop()

    send, request = traced.of("a" * 32)
    assert (send.parent_id, request.parent_id) == ("b" * 16, send.span_id)
    assert request.attributes == {"counterfoil.poi_id": "V400m-1", "http.response.status_code": 200}
    assert not bound()


def test_a_step_inside_a_step_of_the_same_trace_is_said_by_that_one(traced: Collector) -> None:
    with tracing.step("notification", ROW), tracing.step("evidence result", ROW, evidence="result"):
        tracing.note(outcome="approved")
    tracing.stop()

    [span] = traced.of("a" * 32)
    assert span.attributes["counterfoil.evidence"] == "result"
    assert span.attributes["counterfoil.outcome"] == "approved"


def test_a_row_of_a_time_without_traces_has_no_span_and_its_lines_name_it(traced: Collector) -> None:
    with tracing.step("send", {**ROW, "trace": None}):
        assert bound()["payment"] == ROW["id"]
        assert tracing.traceparent() is None
        with tracing.part("terminal async", "client"):
            pass
    tracing.stop()
    assert traced.spans == []


def test_a_wait_that_is_over_lasts_as_long_as_the_database_says(traced: Collector) -> None:
    ended = datetime.now(UTC)
    tracing.passed("wait for an answer", ROW, ended - timedelta(seconds=150), ended)
    tracing.stop()
    [span] = traced.of("a" * 32)
    assert span.lasted_s == pytest.approx(150, abs=0.001)


def test_an_error_is_told_by_its_kind_and_never_by_its_text(traced: Collector) -> None:
    def fail() -> None:
        raise LookupError("canary")

    with pytest.raises(LookupError), tracing.step("send", ROW):
        fail()
    tracing.stop()

    [span] = traced.of("a" * 32)
    assert span.is_error
    assert span.attributes["error.type"] == "LookupError"
    assert not span.says_more
    assert b"canary" not in b"".join(traced.raw)


def test_card_numbers_are_masked_as_in_the_log(traced: Collector) -> None:
    with tracing.step("send", {**ROW, "reference": VISA}):
        pass
    tracing.stop()
    assert traced.spans[0].attributes["counterfoil.reference"] == "************1111"
    assert VISA.encode() not in b"".join(traced.raw)


def test_an_attribute_that_is_not_listed_is_not_said(traced: Collector) -> None:
    done = False
    with tracing.step("send", ROW, payload="canary"):
        done = True
    tracing.stop()
    assert done
    assert b"canary" not in b"".join(traced.raw)


class Broken:
    """Whatever is asked of it fails, as where a thread finds traces stopped between two of its steps."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def everything_that_code_asks_of_traces() -> int:
    """Go through all of it; return how often what was inside was done."""
    done = 0
    at = datetime.now(UTC)
    for opened in (
        tracing.door("GET", "server", PARENT),
        tracing.step("send", ROW, "consumer", command="send"),
        tracing.part("terminal async", "client"),
    ):
        with opened:
            done += 1
            tracing.note(status=200)
            tracing.failed("timeout")
            tracing.rename("other")
            tracing.traceparent()
            tracing.passed("wait", ROW, at, at)
    return done


def test_traces_that_fail_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_live", Broken())
    assert everything_that_code_asks_of_traces() == 3


@pytest.mark.parametrize("broken", ["tracer", "propagator", "trace", "context"])
def test_a_part_of_opentelemetry_that_fails_stops_nothing(
    broken: str, traced: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing._live, broken, Broken())
    assert everything_that_code_asks_of_traces() == 3


def test_a_span_that_cannot_be_ended_loses_no_answer(traced: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracing._live is not None
    processor = tracing._live.provider._active_span_processor
    monkeypatch.setattr(processor, "on_end", Broken().__getattr__)
    assert everything_that_code_asks_of_traces() == 3
    with pytest.raises(LookupError), tracing.step("send", ROW):
        raise LookupError


def test_a_row_whose_trace_is_none_of_ours_is_gone_on_with(traced: Collector) -> None:
    done = False
    with tracing.door("GET", "server"), tracing.step("send", {**ROW, "trace": "torn"}):
        done = True
    assert done


@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_the_share_decides_about_traces_that_begin_here_alone(collector: Collector, sample: float) -> None:
    tracing.start(collector.url, sample, "counterfoil-test")
    with tracing.door("GET", "server", PARENT):
        pass
    with tracing.door("GET", "server"):
        pass
    tracing.stop()
    assert [span.parent_id for span in collector.spans] == (["b" * 16, ""] if sample else ["b" * 16])


@pytest.mark.parametrize("answer", ["refused", "silent"])
def test_a_collector_that_is_away_delays_nobody_and_is_mentioned_once(answer: str) -> None:
    stream = StringIO()
    configure_logs("json", stream)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if answer == "refused":
            listener.close()
        tracing.start(url, 1.0, "counterfoil-test")
        began_s = time.monotonic()
        for _ in range(3000):
            with tracing.step("send", ROW):
                pass
        assert time.monotonic() - began_s < 5
        began_s = time.monotonic()
        tracing.stop()
        assert time.monotonic() - began_s < 4
    actions = [line.split('"action":"')[1].split('"')[0] for line in stream.getvalue().splitlines()]
    assert set(actions) <= {"traces_lost"}
    assert len(actions) <= 1


# -- what the code says ------------------------------------------------------------------------------------------------

#: Words of these functions that are no attribute.
OTHERS = {"name", "row", "kind", "parent", "began_at", "ended_at"}


def test_every_attribute_in_the_code_is_listed_and_every_listed_one_is_used() -> None:
    used: set[str] = set()
    for package in ("orchestrator", "tasks"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                function = getattr(node, "func", None)
                if not isinstance(function, ast.Attribute) or getattr(function.value, "id", "") != "tracing":
                    continue
                if function.attr in {"door", "step", "part", "passed", "note"}:
                    assert isinstance(node, ast.Call)
                    used |= {word.arg for word in node.keywords if word.arg}
    assert used - OTHERS <= set(tracing.ATTRIBUTES)
    said_by_others = {"payment", "refund", "reference", "why", "error", "callback", "attempt", "host"}
    assert set(tracing.ATTRIBUTES) - used <= said_by_others | {"event", "state", "outcome", "reason"}


def test_the_documentation_lists_exactly_the_attributes_of_spans() -> None:
    text = (ROOT / "docs" / "traces.md").read_text()
    section = text.split("\n## What a span says\n", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `([a-z._]+)`", section, re.MULTILINE)) == set(tracing.ATTRIBUTES.values())


def test_the_frameworks_own_telemetry_is_off_in_every_application() -> None:
    made = [
        {word.arg: word.value for word in node.keywords}
        for path in (ROOT / "orchestrator" / "web").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "FastAPI"
    ]
    assert made
    assert {getattr(each.get("telemetry"), "id", None) for each in made} == {"NO_TELEMETRY"}
    assert not any(NO_TELEMETRY.values())


def test_no_attribute_could_hold_a_payload() -> None:
    assert not [name for name in tracing.ATTRIBUTES if re.search(r"body|payload|card|pan|secret|key|token|query", name)]
