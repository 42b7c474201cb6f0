"""What waits for a person is counted, shown oldest first, and goes when somebody has seen to it, by every door."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.ids import new_id
from orchestrator.keys import Role, make_key
from orchestrator.meaning import Alarm
from orchestrator.store import attention
from orchestrator.store.attention import AttentionStore, Waiting
from orchestrator.store.keys import KeyStore
from orchestrator.store.reconciliation import RunStore
from orchestrator.store.words import RunState
from tests.crowd import MERCHANT, OTHER_MERCHANT
from tests.integration.plan_support import Console, consoled

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
#: Of the crowd: every hundredth is unknown, every thousandth of them a contradiction with an open alarm.
PAYMENTS = 3_000
REASON = "settled with the shop by telephone"


@pytest.fixture(scope="module")
def console(postgres_url: str) -> Iterator[Console]:
    with consoled(postgres_url, PAYMENTS) as opened:
        yield opened


def waiting(console: Console, limit: int = 10, merchant: str = MERCHANT) -> Waiting:
    return AttentionStore(console.database).waiting(merchant, limit)


def sums(console: Console, condition: str, minor: str, table: str = "payments") -> dict[str, int]:
    """The money that SQL finds which looks at every row."""
    found = console.sql(
        f"SELECT currency, sum({minor})::bigint AS minor FROM {table} WHERE merchant_account = %s AND ({condition})"
        " GROUP BY currency",
        MERCHANT,
    )
    return {row["currency"]: row["minor"] for row in found}


def raised(console: Console, name: Alarm, **about: Any) -> int:
    """Raise an alarm; its id."""
    names = ["name", *about]
    marks = ", ".join(["%s"] * len(names))
    statement = f"INSERT INTO alarms ({', '.join(names)}) VALUES ({marks}) RETURNING id"
    return int(console.sql(statement, name.value, *about.values())[0]["id"])


def alarm(console: Console, alarm_id: int) -> dict[str, Any]:
    return console.sql("SELECT * FROM alarms WHERE id = %s", alarm_id)[0]


def a_payment(console: Console, merchant: str = MERCHANT) -> dict[str, Any]:
    return console.sql("SELECT * FROM payments WHERE merchant_account = %s ORDER BY number LIMIT 1", merchant)[0]


# -- what waits --------------------------------------------------------------------------------------------------------


def test_each_kind_is_counted(console: Console) -> None:
    found = waiting(console)

    assert {kind: found.count(kind) for kind in ("unknown", "disputed", "late", "provisional")} == {
        "unknown": 27, "disputed": 3, "late": 6, "provisional": 6,
    }  # fmt: skip
    assert found.count("refund") == len(found.refunds) > 0


def test_the_money_in_doubt_is_every_unknown_late_and_offline_amount_by_currency(console: Console) -> None:
    unknown = sums(console, "state = 'unknown'", "amount_minor")
    charged = sums(console, "state = 'confirmed' AND (late OR provisional)", "authorised_minor - refunded_minor")
    refunds = sums(console, "state = 'unknown'", "amount_minor", "refunds")
    expected = {
        currency: sum(part.get(currency, 0) for part in (unknown, charged, refunds)) for currency in ("EUR", "GBP")
    }

    assert waiting(console).at_risk() == expected


def test_the_oldest_of_each_kind_stand_first_and_no_more_than_asked_for(console: Console) -> None:
    found = waiting(console, limit=4)

    assert [row["reference"] for row in found.of("unknown")] == ["r-100", "r-200", "r-300", "r-400"]
    assert [row["reference"] for row in found.of("disputed")] == ["r-1000", "r-2000", "r-3000"]


def test_what_is_too_much_to_sum_up_is_said_to_be_at_least(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Money in doubt, at least" not in console.get("/console/attention")
    statement = attention._PAYMENT_SUMS.replace(f"LIMIT {attention.SUMMED_MAX}", "LIMIT 20")
    monkeypatch.setattr(attention, "_PAYMENT_SUMS", statement)
    monkeypatch.setattr(attention, "SUMMED_MAX", 20)

    assert waiting(console).is_cut
    assert "Money in doubt, at least" in console.get("/console/attention")


def test_another_merchant_accounts_trouble_is_not_shown(console: Console) -> None:
    theirs = waiting(console, limit=1000, merchant=OTHER_MERCHANT)
    ours = waiting(console, limit=1000)

    assert {row["merchant_account"] for row in theirs.payments} == {OTHER_MERCHANT}
    assert {row["merchant_account"] for row in ours.payments} == {MERCHANT}


def test_the_page_says_what_is_in_doubt_why_and_what_to_do(console: Console) -> None:
    page = console.get("/console/attention")

    assert "Evidence contradicts itself" in page
    assert "r-1000" in page
    assert "rules on it here" in page
    assert "Late approvals" in page
    assert "Approved offline" in page
    assert "Refunds that are unknown" in page
    assert re.search(r'href="/console/differences\?state=open"><span class="strong">\d+', page)
    assert re.search(r'href="/console/callbacks\?state=parked"><span class="strong">\d+', page)
    assert re.search(r'href="/console/callbacks/quarantine"><span class="strong">20', page)
    assert "Two authentic pieces of evidence disagree" in page  # the runbook's own words
    assert console.trouble_of("/console/attention") == []


def test_a_console_without_payments_is_calm_and_says_what_can_be_typed(postgres_url: str) -> None:
    with consoled(postgres_url, 0) as empty:
        assert "Nothing waits for a person." in empty.get("/console/attention")
        page = empty.get("/console")
        assert "No payment was taken yet" in page
        assert "last:24h" in page
        assert empty.get("/console?q=from:today+unknown").count("No payment matches") == 1


# -- alarms, by the console --------------------------------------------------------------------------------------------


def test_closing_an_alarm_keeps_who_when_and_why_and_takes_it_off_the_page(console: Console) -> None:
    alarm_id = raised(console, Alarm.DEFECT, payment_id=a_payment(console)["id"])
    address = f"/console/alarms/{alarm_id}/close"
    assert address in console.get("/console/attention")

    assert console.post(address, reason=f"  {REASON}\n\n \x1bby 4111111111111111  ") == "/console/attention"

    row = alarm(console, alarm_id)
    assert (row["closed_by"], row["closed_reason"]) == ("user on call", f"{REASON} by ************1111")
    assert row["closed_at"] is not None
    assert address not in console.get("/console/attention")


def test_an_alarm_that_is_closed_stays_as_it_was_closed(console: Console) -> None:
    alarm_id = raised(console, Alarm.DEFECT)
    address = f"/console/alarms/{alarm_id}/close"
    console.post(address, reason="the first word")
    closed = alarm(console, alarm_id)

    console.post(address, reason="another word")

    assert alarm(console, alarm_id) == closed


@pytest.mark.parametrize("reason", ["", "  a ", "x" * 501])
def test_an_alarm_is_not_closed_without_a_reason(console: Console, reason: str) -> None:
    alarm_id = raised(console, Alarm.DEFECT)
    answer = console.http.post(f"/console/alarms/{alarm_id}/close", data={"csrf": "a-form-of-ours", "reason": reason})

    assert answer.status_code == 422
    assert alarm(console, alarm_id)["closed_at"] is None
    console.post(f"/console/alarms/{alarm_id}/close", reason=REASON)


def test_the_form_leads_back_to_the_page_that_it_was_on_and_nowhere_else(console: Console) -> None:
    payment = f"/console/payments/{a_payment(console)['id']}"
    first, second = raised(console, Alarm.DEFECT), raised(console, Alarm.DEFECT)

    assert console.post(f"/console/alarms/{first}/close", reason=REASON, back=payment) == payment
    assert "elsewhere" not in console.post(f"/console/alarms/{second}/close", reason=REASON, back="//elsewhere.test")


def test_another_merchant_accounts_alarm_is_neither_shown_nor_closed(console: Console) -> None:
    theirs = a_payment(console, OTHER_MERCHANT)
    terminal = console.sql("SELECT poi_id FROM terminals WHERE merchant_account = %s", OTHER_MERCHANT)[0]["poi_id"]
    for about in ({"payment_id": theirs["id"]}, {"poi_id": terminal}):
        alarm_id = raised(console, Alarm.DEFECT, **about)
        assert f"/console/alarms/{alarm_id}/close" not in console.get("/console/attention")

        console.post(f"/console/alarms/{alarm_id}/close", reason=REASON)

        assert alarm(console, alarm_id)["closed_at"] is None


def test_after_one_was_closed_the_next_of_the_same_name_is_raised(console: Console) -> None:
    runs = RunStore(console.database)

    def fail() -> list[int]:
        run = console.sql("SELECT id FROM reconciliation_runs LIMIT 1")[0]["id"]
        runs.finish(
            run, RunState.FAILED, reports=[], problems=[], summary=None, alarm=Alarm.RECONCILIATION_FAILED,
            callback_url=None, told=None,
        )  # fmt: skip
        name = Alarm.RECONCILIATION_FAILED.value
        return [row["id"] for row in console.sql("SELECT id FROM alarms WHERE name = %s ORDER BY id", name)]

    [first] = fail()
    assert fail() == [first]  # one until somebody has seen to it
    console.post(f"/console/alarms/{first}/close", reason=REASON)

    assert len(fail()) == 2


# -- alarms, over HTTP -------------------------------------------------------------------------------------------------


def bearer(console: Console, role: Role, merchant: str = MERCHANT) -> dict[str, str]:
    secret, digest = make_key()
    KeyStore(console.database).create(new_id(), digest, merchant, role.value, "test")
    return {"authorization": f"Bearer {secret}"}


def closed_over_http(console: Console, alarm_id: int, headers: dict[str, str], body: Any = None) -> httpx.Response:
    content = json.dumps({"reason": REASON} if body is None else body)
    return console.http.post(f"/v1/alarms/{alarm_id}/close", content=content, headers=headers)


def test_alarms_are_listed_newest_first_a_page_at_a_time(console: Console) -> None:
    headers = bearer(console, Role.VIEWER)
    raised(console, Alarm.WEBHOOK_SIGNATURE)
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query: dict[str, Any] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = console.http.get("/v1/alarms", params=query, headers=headers).json()
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert [each["id"] for each in found] == sorted({each["id"] for each in found}, reverse=True)
    assert all(each["closed_at"] is None and each["merchant_account"] in {MERCHANT, None} for each in found)
    assert {"contradiction", "webhook_signature"} <= {each["name"] for each in found}
    about = next(each for each in found if each["name"] == "contradiction")
    assert about["reference"].startswith("r-")
    assert about["payment_id"]


def test_closed_alarms_and_those_of_one_name_are_listed_on_demand(console: Console) -> None:
    headers = bearer(console, Role.VIEWER)
    query: dict[str, str | int] = {"closed": "true", "name": "checks_exhausted", "limit": 200}
    found = console.http.get("/v1/alarms", params=query, headers=headers).json()["data"]

    assert {each["name"] for each in found} == {"checks_exhausted"}
    assert {each["closed_reason"] for each in found} == {"settled with the shop"}


def test_whoever_operates_closes_an_alarm_and_a_viewer_may_not(console: Console) -> None:
    alarm_id = raised(console, Alarm.WEBHOOK_SIGNATURE)
    assert closed_over_http(console, alarm_id, bearer(console, Role.VIEWER)).status_code == 403

    answer = closed_over_http(console, alarm_id, bearer(console, Role.OPERATE))

    assert answer.status_code == 200
    assert answer.json()["closed_reason"] == REASON
    assert answer.json()["closed_by"].startswith("key ")
    again = closed_over_http(console, alarm_id, bearer(console, Role.OPERATE), {"reason": "another word"})
    assert again.json() == answer.json()


def test_finance_closes_the_alarms_about_money_and_no_other(console: Console) -> None:
    money, defect = raised(console, Alarm.DIFFERENCES_FOUND), raised(console, Alarm.DEFECT)
    headers = bearer(console, Role.FINANCE)

    assert closed_over_http(console, money, headers).json()["closed_reason"] == REASON
    refused = closed_over_http(console, defect, headers)

    assert (refused.status_code, "`operate`" in refused.json()["detail"]) == (403, True)
    assert alarm(console, defect)["closed_at"] is None


@pytest.mark.parametrize(
    "body", [{}, {"reason": "ab"}, {"reason": "a\nb c"}, {"reason": 7}, {"reason": REASON, "x": 1}, []]
)
def test_a_closing_that_says_nothing_is_refused(console: Console, body: Any) -> None:
    alarm_id = raised(console, Alarm.WEBHOOK_SIGNATURE)

    assert closed_over_http(console, alarm_id, bearer(console, Role.OPERATE), body).status_code in {400, 422}
    assert alarm(console, alarm_id)["closed_at"] is None


def test_another_merchants_alarm_does_not_exist(console: Console) -> None:
    alarm_id = raised(console, Alarm.DEFECT, payment_id=a_payment(console, OTHER_MERCHANT)["id"])
    headers = bearer(console, Role.ADMIN)

    assert closed_over_http(console, alarm_id, headers).status_code == 404
    assert closed_over_http(console, 10**15, headers).status_code == 404
    listed = console.http.get("/v1/alarms", params={"limit": 200}, headers=headers).json()["data"]
    assert alarm_id not in [each["id"] for each in listed]
    assert alarm(console, alarm_id)["closed_at"] is None


# -- alarms, by the command line ---------------------------------------------------------------------------------------


def counterfoil(console: Console, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COUNTERFOIL_", "ADYEN_"))},
        "COUNTERFOIL_DATABASE_URL": console.url,
        "COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0",
    }
    command = [sys.executable, "-m", "orchestrator.cli", "alarms", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_line_lists_alarms_and_closes_them_with_a_reason(console: Console) -> None:
    alarm_id = raised(console, Alarm.TERMINAL_TAMPERED, poi_id="V400m-000000001")
    listed = json.loads(counterfoil(console, "list", "--merchant", MERCHANT, "--json").stdout)
    [one] = [each for each in listed if each["id"] == alarm_id]
    assert (one["name"], one["poi_id"], one["closed_at"]) == ("terminal_tampered", "V400m-000000001", None)

    done = counterfoil(console, "close", str(alarm_id), "--as", "Ann", "--reason", "the terminal was replaced")

    assert done.returncode == 0, done.stderr
    row = alarm(console, alarm_id)
    assert (row["closed_by"], row["closed_reason"]) == ("Ann", "the terminal was replaced")
