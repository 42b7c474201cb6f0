"""Logs: one line per event, nothing secret in it, and never a reason for the work to fail."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import uuid4

import pytest
import structlog

from config.logs import QUIET_LIBRARIES, REDACTED, configure_logs, mask_card_numbers

log = structlog.get_logger()
VISA, AMEX, MAESTRO_19 = "4111111111111111", "378282246310005", "6304000000000000000"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    yield
    structlog.configure(**configuration)
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    target = io.StringIO()
    configure_logs("json", target)
    return target


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_its_action_its_level_its_utc_time_and_the_fields_as_given(stream: io.StringIO) -> None:
    payment = uuid4()
    log.info("decided", payment=payment, event="answer", before="pending", after="confirmed", do=["TELL_CALLER"])
    (line,) = lines(stream)
    at = datetime.fromisoformat(line.pop("at"))
    assert at.utcoffset() == UTC.utcoffset(None)
    assert line == {
        "level": "info",
        "action": "decided",
        "payment": str(payment),
        "event": "answer",
        "before": "pending",
        "after": "confirmed",
        "do": ["TELL_CALLER"],
    }


@pytest.mark.parametrize(
    "name",
    (
        "password passphrase api_key X-Api-Key apiKey Authorization client_secret token body request_payload "
        "hmac_keys tag_keys cookie notification_password"
    ).split(),
)
def test_a_value_under_a_secret_name_never_appears_at_any_depth(stream: io.StringIO, name: str) -> None:
    log.info("called", **{name: "canary"}, headers={name: "canary"}, items=[{name: ["canary"]}])
    assert "canary" not in stream.getvalue()
    assert lines(stream)[0][name] == REDACTED


def test_names_that_only_look_alike_keep_their_values(stream: io.StringIO) -> None:
    log.info("concluded", authorised_amount=1050, idempotency_key="k-1", key_identifier="mykey", panel="a")
    line = lines(stream)[0]
    assert (line["authorised_amount"], line["idempotency_key"], line["panel"]) == (1050, "k-1", "a")


@pytest.mark.parametrize("number", [VISA, AMEX, MAESTRO_19, "4222222222222"])
@pytest.mark.parametrize("around", ["{}", "card {}.", "x{}y", "({})", "{} 12", "12 {}", "{} exp 12/28", "n={};"])
def test_a_card_number_is_masked_to_its_last_four_wherever_it_stands(number: str, around: str) -> None:
    masked = mask_card_numbers(around.format(number))
    assert number not in masked
    assert masked == around.format("*" * (len(number) - 4) + number[-4:])


@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005"])
def test_a_card_number_in_groups_is_masked_too(number: str) -> None:
    assert re.search(r"\d{5}|\d{4}[ -]\d{4}", mask_card_numbers(f"card {number} 12/28")) is None


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # fails the check digit
        "411111111111",  # twelve digits
        "79927398713",  # passes it, and is too short
        "2026-11-20T13:40:28.349271Z",
        "41111111-1111-1111-1111-111111111111",
        "V400m-324000123",
    ],
)
def test_what_is_no_card_number_is_left_whole(text: str) -> None:
    assert mask_card_numbers(text) == text


def test_card_numbers_are_masked_in_every_kind_of_value(stream: io.StringIO) -> None:
    class Word(StrEnum):
        CARD = VISA

    class Thing:
        def __str__(self) -> str:
            return VISA

    action = f"paid by {VISA}"
    log.info(action, number=int(VISA), items=(VISA, {"n": VISA}), word=Word.CARD, thing=Thing(), raw=b"1")
    try:
        int(f"x{VISA}")
    except ValueError:
        log.exception("failed")
    assert VISA not in stream.getvalue()
    assert lines(stream)[0]["raw"] == REDACTED


def test_the_platforms_reference_is_left_whole_even_where_it_passes_the_check(stream: io.StringIO) -> None:
    log.info("concluded", psp_reference=VISA)
    assert lines(stream)[0]["psp_reference"] == VISA


def fail_beside_a_secret() -> None:
    passphrase = "canary"
    raise ValueError(len(passphrase))


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variable(log_format: Literal["json", "console"]) -> None:
    stream = io.StringIO()
    configure_logs(log_format, stream)
    try:
        fail_beside_a_secret()
    except ValueError:
        log.exception("failed")
    assert "ValueError: 6" in stream.getvalue()
    assert "canary" not in stream.getvalue()


def test_what_libraries_say_comes_out_the_same_way_from_warning_on(stream: io.StringIO) -> None:
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("card %s", VISA)
    found = lines(stream)
    assert [line["logger"] for line in found] == list(QUIET_LIBRARIES)
    assert {line["action"] for line in found} == {"card ************1111"}
    assert {line["level"] for line in found} == {"warning"}


def test_beat_says_in_one_line_that_the_broker_is_away(stream: io.StringIO) -> None:
    logger, error = logging.getLogger("celery.beat"), ConnectionError("refused")
    logger.error("Message Error: %s\n%s", error, ["a stack\n"], exc_info=error)  # as celery does
    (line,) = lines(stream)
    assert line["action"] == "refused"
    assert "exception" not in line


def test_python_warnings_are_lines_too(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logs("json", stream)
        warnings.warn("old", UserWarning, stacklevel=1)
    assert lines(stream)[0]["logger"] == "py.warnings"


def test_a_level_that_is_off_looks_at_nothing() -> None:
    class Costly:
        def __str__(self) -> str:
            raise AssertionError("was rendered")

    stream = io.StringIO()
    configure_logs("json", stream)
    log.debug("seen", thing=Costly())
    configure_logs("json", stream, logging.DEBUG)
    log.debug("seen")
    assert [line["action"] for line in lines(stream)] == ["seen"]


def test_configuring_again_moves_loggers_that_exist(stream: io.StringIO) -> None:
    log.info("first")
    second = io.StringIO()
    configure_logs("json", second)
    log.info("second")
    assert ([line["action"] for line in lines(stream)], [line["action"] for line in lines(second)]) == (
        ["first"],
        ["second"],
    )


def test_a_log_that_cannot_be_written_fails_nothing() -> None:
    stream = io.StringIO()
    configure_logs("json", stream)
    stream.close()
    log.info("decided", event="answer")
    logging.getLogger("celery").error("too")


def test_a_value_cannot_forge_a_line_on_the_console() -> None:
    stream = io.StringIO()
    configure_logs("console", stream)
    log.info("submitted", reference="a\n2026 [info] decided after=confirmed\x1b[31m")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_what_is_nested_without_end_is_cut(stream: io.StringIO) -> None:
    endless: list[Any] = []
    endless.append(endless)
    log.info("seen", endless=endless, amount=float("nan"))
    assert lines(stream)[0]["amount"] == "nan"
