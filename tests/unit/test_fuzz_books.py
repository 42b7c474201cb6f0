"""Every reader of the platform's books, webhooks and reports, on spoiled real ones: kept or refused, no more."""

import base64
import csv
import gzip
import io
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import RemoteProtocolError
from orchestrator.reports.reading import PROBLEMS_MAX, Line, Problem, read_report
from orchestrator.terminal_api.money import CURRENCIES
from orchestrator.webhooks import signatures
from orchestrator.webhooks.effects import effect_of
from orchestrator.webhooks.items import Item, read_event, read_item, read_notification_items
from tests.mangling import CARD_NUMBERS, TEXTS, bodies_of, single_changes, spoiled
from tests.protocol_vectors import VECTORS, load

fuzzed = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
KEY = bytes(range(32))

# -- webhooks ----------------------------------------------------------------------------------------------------------

WEBHOOKS = bodies_of("webhooks/")
EVENTS = [
    json.loads(base64.b64decode(each["body_b64"]))
    for each in load("webhook-hmac.json")["vectors"]
    if each["kind"] == "payload" and each["valid"] and base64.b64decode(each["body_b64"])[:1] == b"{"
]
SIGNED = (
    "pspReference",
    "originalReference",
    "merchantAccountCode",
    "merchantReference",
    "amount",
    "eventCode",
    "success",
)

#: References as the platform gives them, verbatim: what links a webhook to a payment.
VERBATIM = {"psp_reference", "original_reference", "reference", "merchant_account", "terminal_id", "tender_reference",
            "event_code", "digest", "happened_at"}  # fmt: skip


def assert_item(item: Item) -> None:
    for name in Item.__dataclass_fields__:
        text = getattr(item, name)
        if not isinstance(text, str):
            continue
        text.encode("utf-8")
        assert "\x00" not in text, name
        assert len(text) <= 300, name
        if name not in VERBATIM:
            assert not any(number in text for number in CARD_NUMBERS), name
    if item.amount is not None:
        assert item.amount.currency in CURRENCIES
        assert 0 <= item.amount.minor < 10**15
    assert item.happened_at is None or item.happened_at.endswith("Z")
    if item.unreadable:
        assert effect_of(item) is None, "half of it would be a guess"


def check_webhooks(body: bytes) -> list[Item]:
    try:
        live, raw = read_notification_items(body)
    except RemoteProtocolError as error:
        refused = str(error)
        raw = []
        live = None
        assert not any(number in refused for number in CARD_NUMBERS)
    items = [read_item(each, live) for each in raw]
    for each, item in zip(raw, items, strict=True):
        assert_item(item)
        assert not signatures.item_is_signed(each, [KEY]), "nobody has this key"
    return items


@fuzzed
@given(spoiled(WEBHOOKS) | st.binary(max_size=40))
def test_spoiled_webhooks_are_kept_as_they_may_be_or_refused(body: bytes) -> None:
    check_webhooks(body)


def test_each_single_change_of_a_webhook_is_kept_as_it_may_be_or_refused() -> None:
    read = sum(bool(check_webhooks(body)) for webhook in WEBHOOKS[:4] for _, body in single_changes(webhook))
    assert read > 1_000


@fuzzed
@given(st.sampled_from(WEBHOOKS), st.sampled_from(SIGNED), st.data())
def test_no_change_of_what_is_signed_goes_unnoticed(webhook: Any, name: str, data: st.DataObject) -> None:
    item = webhook["notificationItems"][0]["NotificationRequestItem"]
    text = signatures.signed_text(item)
    assert text is not None
    item = {**item, "additionalData": {"hmacSignature": signatures.sign(KEY, text)}}
    assert signatures.item_is_signed(item, [KEY])

    instead: Any = data.draw(st.sampled_from([*TEXTS, None, 7, {"value": 7, "currency": "EUR"}, [], True]))
    changed = {**item, name: instead}

    if signatures.signed_text(changed) != text:
        assert not signatures.item_is_signed(changed, [KEY])


@fuzzed
@given(spoiled(EVENTS) | st.binary(max_size=40))
def test_a_spoiled_event_of_the_newer_kind_is_kept_as_it_may_be(body: bytes) -> None:
    assert_item(read_event(body))


# -- reports -----------------------------------------------------------------------------------------------------------

REPORTS = [list(csv.reader(io.StringIO(path.read_text()))) for path in sorted((VECTORS / "reports").glob("*.csv"))]
CELLS = [*TEXTS, "10.50", "-10.50", "1,050.00", "10,50", "1e3", "2025-02-30 10:00:00", "0001-01-01 00:00:00",
         "9999-12-31 23:59:59", "CET", "XYZ", "Settled", "Refunded", "Chargeback", "SentForSettle", '"', "a,b", "\n",
         "\r\n", ";", "=1+1", "KWD"]  # fmt: skip
cells = st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(CELLS))
ends = st.sampled_from(["\n", "\r\n", "\r"])


def spelled(rows: Sequence[Sequence[str]], separator: str, end: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end).writerows(rows)
    return out.getvalue()


@st.composite
def spoiled_reports(draw: st.DrawFn) -> bytes:
    """A report with other cells, rows and columns moved, lost or doubled; then cut, flipped or packed."""
    rows = [list(row) for row in draw(st.sampled_from(REPORTS))]
    for row, column, text in draw(st.lists(cells, max_size=4)):
        chosen = rows[row % len(rows)]
        chosen[column % len(chosen)] = text
    match draw(st.sampled_from("none none drop double shorter longer reorder".split())):
        case "drop":
            del rows[draw(st.integers(0, len(rows) - 1))]
        case "double":
            rows.append(rows[draw(st.integers(0, len(rows) - 1))])
        case "shorter":
            rows[draw(st.integers(0, len(rows) - 1))].pop()
        case "longer":
            rows[draw(st.integers(0, len(rows) - 1))].append("x")
        case "reorder":
            order = draw(st.permutations(range(len(rows[0]))))
            rows = [[row[place] for place in order] if len(row) == len(order) else row for row in rows]
        case _:
            pass
    text = spelled(rows, draw(st.sampled_from(",,,,;\t")), draw(ends))
    report = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf"])) + text.encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        report = gzip.compress(report, mtime=0)
    if draw(st.integers(0, 3)) == 0:
        report = report[: draw(st.integers(0, len(report)))]
    if report and draw(st.integers(0, 3)) == 0:
        flipped = bytearray(report)
        flipped[draw(st.integers(0, len(report) - 1))] ^= 1 << draw(st.integers(0, 7))
        report = bytes(flipped)
    return report


@fuzzed
@given(spoiled_reports() | st.binary(max_size=60))
def test_a_spoiled_report_gives_lines_that_can_be_booked_or_problems_that_quote_nothing(report: bytes) -> None:
    found = list(read_report(io.BytesIO(report)))

    problems = [each for each in found if isinstance(each, Problem)]
    assert len(problems) <= PROBLEMS_MAX
    for problem in problems:
        assert problem.line >= 1
        assert not any(number in problem.problem for number in (*CARD_NUMBERS, "ORDER-2025", "QX7TPL4M2ZCN8V65"))
    for line in (each for each in found if isinstance(each, Line)):
        assert (line.currency is None) is (line.minor is None)
        assert line.minor is None or 0 <= line.minor < 10**15
        assert line.currency is None or line.currency in CURRENCIES
        assert line.at.utcoffset() == timedelta(0)
        assert len(line.psp_reference) <= 64
        for text in (line.record_type, line.psp_reference, line.reference, line.modification or "",
                     line.modification_reference or "", line.terminal or ""):  # fmt: skip
            assert len(text) <= 80
            assert text.isprintable()
