"""What lines are about: bound where work comes in, and never another's in a pool's thread or an event loop's task."""

import ast
import asyncio
import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog

from config.logs import configure_logs
from orchestrator.log_context import FIELDS, about, bound, bound_of, carried, identity_of

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
log = structlog.get_logger()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    target = io.StringIO()
    configure_logs("json", target)
    yield target
    structlog.configure(**configuration)
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_what_is_bound_around_it_and_nothing_afterwards(stream: io.StringIO) -> None:
    with about(task="t-1", payment=None):
        with about(payment="p-1"):
            log.info("inner")
        log.info("outer")
    log.info("after")

    inner, outer, after = lines(stream)
    assert (inner["task"], inner["payment"]) == ("t-1", "p-1")
    assert (outer["task"], "payment" in outer) == ("t-1", False)
    assert "task" not in after


def test_a_lines_own_field_goes_before_a_bound_one(stream: io.StringIO) -> None:
    with about(payment="bound"):
        log.info("said", payment="own")
    assert lines(stream)[0]["payment"] == "own"


def test_what_is_bound_is_redacted_like_any_field(stream: io.StringIO) -> None:
    with about(reference="4111111111111111"):
        log.info("said")
    assert lines(stream)[0]["reference"] == "************1111"


def test_a_library_s_line_says_it_too(stream: io.StringIO) -> None:
    with about(payment="p-1"):
        logging.getLogger("celery.worker").warning("slow")
    assert lines(stream)[0]["payment"] == "p-1"


def fail() -> None:
    with about(payment="p-1"):
        raise LookupError


def test_an_exception_that_is_logged_further_out_still_names_what_it_was_about(stream: io.StringIO) -> None:
    with about(task="t-1"):
        try:
            fail()
        except LookupError:
            log.exception("failed")
            logging.getLogger("celery.app.trace").exception("task raised")

    assert [(line["task"], line["payment"]) for line in lines(stream)] == [("t-1", "p-1")] * 2


def test_the_innermost_binding_of_an_exception_is_kept_while_it_passes_outer_ones() -> None:
    with pytest.raises(LookupError) as caught, about(payment="outer", task="t-1"):
        fail()
    assert bound_of(caught.value) == {"payment": "p-1", "task": "t-1"}


def test_an_exception_that_takes_no_attributes_passes_as_it_is() -> None:
    class Slotted(Exception):
        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    with pytest.raises(Slotted), about(payment="p-1"):
        raise Slotted


def test_a_pools_thread_carries_nothing_from_one_task_to_the_next_whatever_becomes_of_it() -> None:
    def task(number: int) -> dict[str, Any]:
        found = dict(bound())
        with about(task=number):
            if number % 3 == 0:
                raise RuntimeError
        return found

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(task, number) for number in range(40)]
    assert [future.result() for future in futures if future.exception() is None] == [{}] * 26


def test_tasks_that_run_at_once_in_threads_each_say_their_own() -> None:
    together = threading.Barrier(8)

    def task(number: int) -> bool:
        with about(task=number):
            together.wait(10)
            with about(payment=number):
                together.wait(10)
                return dict(bound()) == {"task": number, "payment": number}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(task, range(8)))


def test_tasks_of_an_event_loop_that_take_turns_each_say_their_own() -> None:
    async def request(number: int) -> bool:
        with about(request=number):
            for _ in range(5):
                await asyncio.sleep(0)
                if dict(bound()) != {"request": number}:
                    return False
        return not bound()

    async def many() -> list[bool]:
        return await asyncio.gather(*(request(number) for number in range(50)))

    assert all(asyncio.run(many()))


def test_work_handed_to_a_thread_takes_along_what_is_bound_and_leaves_nothing_there() -> None:
    with ThreadPoolExecutor(1) as pool:
        with about(request="r-1"):
            taken = pool.submit(carried(lambda: dict(bound())))
        assert taken.result() == {"request": "r-1"}
        assert pool.submit(lambda: dict(bound())).result() == {}


def test_a_payments_row_names_the_payment_and_a_refunds_row_both() -> None:
    payment, refund = uuid4(), uuid4()
    row = {"id": payment, "reference": "ORDER-1", "poi_id": "V400m-1"}
    assert identity_of(row) == {"payment": payment, "reference": "ORDER-1", "terminal": "V400m-1"}
    of_payment = identity_of({**row, "id": refund, "payment_id": payment})
    assert (of_payment["payment"], of_payment["refund"]) == (payment, refund)
    assert "payment" not in identity_of({**row, "id": refund, "payment_id": None})


# -- the documentation -------------------------------------------------------------------------------------------------


@cache
def calls() -> list[tuple[str, ast.Call]]:
    """Every log line in the product, and every binding, with the name of what is called."""
    files = [path for package in ("orchestrator", "tasks", "config") for path in (ROOT / package).rglob("*.py")]
    found = [node for path in files for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [(str(getattr(node.func, "attr", None) or getattr(node.func, "id", "")), node) for node in found]
    return [(name, node) for name, node in named if name in LEVELS or name == "about"]


def logged() -> set[str]:
    """The actions that the product logs."""
    return {
        value.value
        for name, call in calls()
        if name in LEVELS and getattr(getattr(call.func, "value", None), "id", "") == "log" and call.args
        for value in ast.walk(call.args[0])
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and re.fullmatch(r"[a-z_]+", value.value)
    }


def table(title: str) -> set[str]:
    """The names in the first column of the table under a heading of docs/logs.md."""
    text = (ROOT / "docs" / "logs.md").read_text()
    section = text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `([a-z_]+)`", section, re.MULTILINE))


def test_the_documentation_lists_exactly_the_fields_that_are_bound() -> None:
    assert table("What a line is about") == set(FIELDS)


def test_nothing_is_bound_that_is_not_listed() -> None:
    named = {word.arg for name, call in calls() if name == "about" for word in call.keywords if word.arg}
    assert named <= set(FIELDS)
    assert {"request", "task", "task_name", "callback", "trace", "webhook"} <= named


def test_the_documentation_lists_exactly_the_actions_that_are_logged() -> None:
    assert table("Actions") == logged() | {"broker_away", "announcements_dropped"}


def own_fields() -> dict[str, set[str]]:
    """What each action says beside what it is about; of one that takes over a whole mapping, nothing is known."""
    found: dict[str, set[str]] = {}
    taken_over = set()
    for action in logged():
        for name, call in calls():
            is_log = name in LEVELS and getattr(getattr(call.func, "value", None), "id", "") == "log" and call.args
            if is_log and action in {getattr(value, "value", None) for value in ast.walk(call.args[0])}:
                found.setdefault(action, set()).update(word.arg for word in call.keywords if word.arg)
                taken_over |= {action for word in call.keywords if word.arg is None}
    return {action: fields - set(FIELDS) for action, fields in found.items() if action not in taken_over}


def test_the_documentation_lists_exactly_the_fields_of_each_action() -> None:
    text = (ROOT / "docs" / "logs.md").read_text().split("\n## Actions\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `([a-z_]+)` \|.*\|(.*)\|$", text, re.MULTILINE)
    listed = {action: set(re.findall(r"`([a-z_]+)`", fields)) for action, fields in rows if "the same" not in fields}
    own = own_fields()

    assert len(own) > 40
    about_too = set(FIELDS)
    both = listed.keys() & own.keys()
    wrong = {action: (sorted(listed[action] - about_too), sorted(own[action])) for action in both}
    assert not {action: each for action, each in wrong.items() if each[0] != each[1]}
