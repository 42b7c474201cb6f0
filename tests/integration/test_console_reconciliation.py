"""The console's books: a day is closed from its page alone, by whoever may, and every step is recorded by name."""

import csv
import io
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from orchestrator.reconciliation.sources import of_merchant
from orchestrator.reconciliation.summary import what_to_do
from orchestrator.store.differences import DifferenceFilter, Side
from orchestrator.store.words import DifferenceKind, RunState
from orchestrator.web.console.reconciliation import DIFFERENCE_ROWS, RUN_ROWS, where_seen
from tests.integration.books_support import DAY, Office, line
from tests.integration.console_support import Visitor, notice_of, text_of, visitor
from tests.integration.http_support import OTHER_MERCHANT, Api, served
from tests.integration.plan_support import CSRF, MERCHANT, consoled
from tests.integration.store_support import Shop
from tests.services import fresh_redis

pytestmark = pytest.mark.integration

PAGE = "/console/reconciliation"
HOSTILE = "<script>alert(1)</script>"
REASON = {"reason": "a tip, as the receipt shows"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def api(postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Api]:
    with fresh_redis(redis_url) as broker_url:
        settings = {"COUNTERFOIL_BROKER_URL": broker_url, "COUNTERFOIL_REPORTS_DIR": str(folder)}
        with served(postgres_url, tmp_path_factory.mktemp("logs"), **settings) as api:
            yield api


@pytest.fixture(scope="module")
def shop(api: Api) -> Iterator[Shop]:
    opened = Shop(api.database_url, connections=4)
    yield opened
    opened.close()


@pytest.fixture
def office(shop: Shop, folder: Path) -> Office:
    """A merchant account of the test's own, and its part of the folder."""
    merchant = f"Merchant{uuid4().hex[:12]}"
    mine = of_merchant(folder, merchant)
    mine.mkdir()
    made = Office(shop, mine, merchant)
    made.reconciler = type(made.reconciler)(
        made.runs, shop.recorder, made.reconciler.booker, made.reconciler.policy, folder, lambda _number: None
    )
    return made


@pytest.fixture
def finance(api: Api, office: Office) -> Visitor:
    return visitor(api, "finance", office.merchant)


def day_page(day: date = DAY) -> str:
    return f"{PAGE}?day={day}"


def upload(
    somebody: Visitor, name: str, content: bytes, *, csrf: str | None = None, day: str = str(DAY), **headers: str
) -> httpx.Response:
    """Send the day's page's form with a file, as a browser does: its fields first."""
    fields = {"csrf": somebody.csrf if csrf is None else csrf, "day": day}
    files = {"report": (name, content, "text/csv")}
    origin = {"origin": somebody.api.url, **headers}
    return somebody.http.post(f"{PAGE}/reports", data=fields, files=files, headers=origin)


def report(office: Office, *lines: str) -> tuple[str, bytes]:
    """A report that nobody has put anywhere."""
    path = office.accounting(lines)
    content = path.read_bytes()
    path.unlink()
    return path.name, content


def differing(office: Office) -> tuple[dict[str, Any], UUID]:
    """A run that found one difference, and that."""
    office.accounting([line(office.charged(), minor=1)])
    run = office.run()
    (difference,) = office.differences.every(DifferenceFilter(run_id=run["id"]))
    return run, difference["id"]


# -- a day is closed from its page -------------------------------------------------------------------------------------


def test_a_days_books_are_closed_from_its_page_alone(office: Office, finance: Visitor) -> None:
    wrong, unknown = office.charged(), office.unknown()
    accepted_on = office.shop.row(unknown.id)["created_at"].date()
    said = text_of(finance.get(day_page()))
    assert "No report that can concern it is here" in said
    assert "No run has held it against our payments" in said
    assert "Not signed off" in said
    assert "1 payment of the day is not known yet" in text_of(finance.get(day_page(accepted_on)))

    name, content = report(office, line(wrong, minor=1), line(unknown, "Refused"))
    kept = finance.follow(upload(finance, name, content))
    assert f"{name} is kept: 2 lines of yours" in text_of(kept)
    assert "Reports that can concern it are here" in text_of(kept)

    started = finance.post(f"{PAGE}/runs", {"first_day": str(DAY), "last_day": str(DAY)})
    going = finance.follow(started)
    assert "waits for its turn" in text_of(going)
    assert 'hx-trigger="every 2s"' in going.text
    run_id = started.headers["location"].rpartition("/")[2]
    assert office.reconciler.by_task(run_id=run_id) == [{"id": run_id, "state": "done"}]

    said = text_of(finance.get(day_page()))
    assert "1 difference is open" in said
    run_page = finance.get(f"{PAGE}/{run_id}?state=open")
    assert "1 difference needs a person" in text_of(run_page)
    assert "No payment of the day is unknown" in text_of(finance.get(day_page(accepted_on)))
    refused = finance.follow(finance.post(f"{PAGE}/{run_id}/sign-off"))
    assert "Not signed. The run has open differences" in text_of(refused)
    (difference,) = office.differences.every(DifferenceFilter(run_id=UUID(run_id)))
    back = {"back": f"{PAGE}/{run_id}?state=open"}
    closed = finance.post(f"/console/differences/{difference['id']}/close", {**REASON, **back})
    assert closed.headers["location"] == back["back"]
    signed = finance.follow(finance.post(f"{PAGE}/{run_id}/sign-off"))
    assert f"{DAY} is signed off" in text_of(signed)
    assert f"Signed off by user {finance.name}" in text_of(finance.get(day_page()))
    row = office.runs.one(UUID(run_id), None)
    assert row
    assert (row["started_by"], row["signed_by"], row["signed_open"]) == (*[f"user {finance.name}"] * 2, 0)
    assert row["signed_own"] == 1


def test_a_run_is_signed_over_open_differences_only_with_a_reason_that_is_shown(
    office: Office, finance: Visitor
) -> None:
    run, _ = differing(office)

    signed = finance.follow(finance.post(f"{PAGE}/{run['id']}/sign-off", {"reason": "booked on Monday"}))

    said = text_of(signed)
    assert "over 1 open difference" in said
    assert "booked on Monday" in said
    again = finance.follow(finance.post(f"{PAGE}/{run['id']}/sign-off"))
    assert "Not signed. The run was signed off before" in text_of(again)


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.DONE])
def test_a_run_that_is_not_done_offers_no_sign_off(office: Office, finance: Visitor, state: RunState) -> None:
    run = office.runs.ask(office.merchant, DAY, DAY, "Ann")
    office.shop.sql("UPDATE reconciliation_runs SET state = %s WHERE id = %s", state.value, run["id"])

    for page in (f"{PAGE}/{run['id']}", day_page()):
        assert "/sign-off" not in finance.get(page).text
    answer = finance.follow(finance.post(f"{PAGE}/{run['id']}/sign-off", REASON))
    assert "Not signed. Only a run that is done" in text_of(answer)


def test_the_days_say_where_each_stands(office: Office, finance: Visitor) -> None:
    run, _ = differing(office)
    today = day_page(DAY + timedelta(1))
    assert re.search(rf"{DAY:%a} {DAY:%d %b} differs", text_of(finance.get(today)))
    finance.post(f"{PAGE}/{run['id']}/sign-off", REASON)
    assert re.search(rf"{DAY:%a} {DAY:%d %b} signed", text_of(finance.get(today)))
    before = DAY - timedelta(1)
    assert re.search(rf"{before:%a} {before:%d %b} no run", text_of(finance.get(today)))


@pytest.mark.parametrize("day", ["yesterday", "2025-13-01", "<b>", "0"])
def test_a_day_that_is_none_is_refused(finance: Visitor, day: str) -> None:
    assert finance.get(f"{PAGE}?day={day}").status_code == 422


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", ""])
def test_any_day_has_a_page(finance: Visitor, day: str) -> None:
    assert finance.get(f"{PAGE}?day={day}").status_code == 200


# -- starting a run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last"), [("", ""), ("soon", "2025-11-25"), ("2025-11-25", "2025-11-24"), ("2024-01-01", "2025-11-25")]
)
def test_a_wrong_period_starts_nothing_and_says_why(office: Office, finance: Visitor, first: str, last: str) -> None:
    answer = finance.follow(finance.post(f"{PAGE}/runs", {"first_day": first, "last_day": last}))

    assert "No run was started" in text_of(answer)
    assert office.runs.many(office.merchant, None, 10) == []


def test_a_broker_that_is_away_leaves_the_run_waiting_and_says_so(postgres_url: str) -> None:
    with consoled(postgres_url, payments=0) as console:
        form = {"csrf": CSRF, "first_day": "2025-11-25", "last_day": "2025-11-25"}
        answer = console.http.post(f"{PAGE}/runs", data=form)
        assert "the broker did not take the message" in notice_of(answer)
        assert "waits for its turn" in console.get(answer.headers["location"])
        rows = console.sql("SELECT state, merchant_account, started_by FROM reconciliation_runs")
        assert rows == [{"state": "queued", "merchant_account": MERCHANT, "started_by": "user on call"}]


def test_a_run_that_goes_on_says_how_far_it_is_and_one_that_failed_says_why(office: Office, finance: Visitor) -> None:
    run = office.runs.ask(office.merchant, DAY, DAY, "Ann")
    office.runs.begin(run["id"])
    office.runs.progress(run["id"], {"step": "payments matched", "done": 1500, "of": 30000})
    assert "payments matched: 1,500 of 30,000" in text_of(finance.get(f"{PAGE}/{run['id']}"))

    problem = {"file": "x.csv", "line": 3, "problem": HOSTILE}
    office.runs.finish(run["id"], RunState.REFUSED, problems=[problem])
    refused = finance.get(f"{PAGE}/{run['id']}")
    assert "x.csv , line 3:" in text_of(refused)
    assert HOSTILE not in refused.text
    assert "hx-trigger" not in refused.text


# -- reports -----------------------------------------------------------------------------------------------------------


def test_a_report_that_cannot_be_read_is_refused_by_its_line_and_not_kept(office: Office, finance: Visitor) -> None:
    name, content = report(office, line(office.stranger()), "cut off")

    answer = finance.follow(upload(finance, name, content))

    assert "The report was not kept. line 3:" in text_of(answer)
    assert list(office.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["notes.csv", "../payments_accounting_report.csv", "payments_accounting.exe", HOSTILE])
def test_a_file_that_is_no_report_by_its_name_is_not_kept(office: Office, finance: Visitor, name: str) -> None:
    answer = finance.follow(upload(finance, name, b"x"))

    assert "The report was not kept. name:" in text_of(answer)
    assert HOSTILE not in answer.text
    assert list(office.folder.iterdir()) == []


def test_whoever_puts_another_days_report_there_goes_on_with_that_day(office: Office, finance: Visitor) -> None:
    name, content = report(office, line(office.charged()))

    assert upload(finance, name, content, day=str(DAY)).headers["location"] == day_page(DAY)
    assert upload(finance, name, content, day=str(DAY + timedelta(5))).headers["location"] == day_page(DAY)


def test_a_large_report_arrives_whole(office: Office, finance: Visitor) -> None:
    name, content = report(office, *[line(office.stranger(), "Refused") for _ in range(3)])
    header, first, *rest = content.splitlines(keepends=True)
    whole = header + first * 20_000 + b"".join(rest)
    assert len(whole) > 2_000_000

    assert "20,002 lines of yours" in text_of(finance.follow(upload(finance, name, whole)))
    assert (office.folder / name).read_bytes() == whole


def test_an_upload_that_is_not_ours_is_not_kept(api: Api, office: Office, finance: Visitor) -> None:
    name, content = report(office, line(office.stranger()))

    assert upload(finance, name, content, csrf="another").status_code == 403
    assert upload(finance, name, content, csrf="").status_code == 403
    assert upload(finance, name, content, origin="https://elsewhere.example").status_code == 403
    assert upload(Visitor(api, csrf="x"), name, content).headers["location"].startswith("/console/login")
    for role in ("viewer", "submit", "operate"):
        assert upload(visitor(api, role, office.merchant), name, content).status_code == 403
    assert list(office.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "content", "status"),
    [
        ("text/csv", b"x", 400),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"no such boundary", 400),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\n' + b"x" * 9000,
            413,
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nx-long: " + b"x" * 3000, 413),
    ],
)
def test_a_form_that_no_page_of_ours_sends_is_refused(finance: Visitor, kind: str, content: bytes, status: int) -> None:
    headers = {"origin": finance.api.url, "content-type": kind}
    assert finance.http.post(f"{PAGE}/reports", content=content, headers=headers).status_code == status


def test_a_file_that_was_cut_off_is_not_kept(office: Office, finance: Visitor) -> None:
    name, content = report(office, line(office.stranger()))
    begun = (
        f'--b\r\ncontent-disposition: form-data; name="csrf"\r\n\r\n{finance.csrf}\r\n'
        f'--b\r\ncontent-disposition: form-data; name="report"; filename="{name}"\r\n\r\n'
    ).encode()
    headers = {"origin": finance.api.url, "content-type": "multipart/form-data; boundary=b"}

    answer = finance.http.post(f"{PAGE}/reports", content=begun + content, headers=headers)

    assert answer.status_code == 400
    assert list(office.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("report:payments_accounting_report_2025_11_25.csv:23", "payments_accounting_report_2025_11_25.csv, line 23"),
        ("report:2025-11-25/2025-11-25", "the reports of 2025-11-25"),
        ("report:2025-11-24/2025-11-25", "the reports of 2025-11-24 to 2025-11-25"),
        ("webhook:CHARGEBACK", "the webhook CHARGEBACK"),
        ("elsewhere", "elsewhere"),
    ],
)
def test_where_a_difference_was_seen_is_said_as_one_would_look_it_up(source: str, where: str) -> None:
    assert where_seen(source) == where


# -- differences -------------------------------------------------------------------------------------------------------


def test_a_difference_has_both_sides_and_is_explained_closed_and_opened_by_name(
    office: Office, finance: Visitor
) -> None:
    run, difference = differing(office)
    page = finance.get(f"{PAGE}/{run['id']}")
    row = office.differences.one(difference, None)
    assert row
    assert re.search(r"We say 10\.99 EUR .* The books say 0\.01 EUR", text_of(page))
    assert f'href="/console/payments/{row["payment_id"]}"' in page.text

    for act, state in (("explain", "explained"), ("close", "closed"), ("reopen", "open")):
        note = {"reason": f"because of {act}", "back": f"{PAGE}/{run['id']}"}
        said = text_of(finance.follow(finance.post(f"/console/differences/{difference}/{act}", note)))
        row = office.differences.one(difference, None)
        assert row
        assert (row["state"], row["changed_by"], row["note"]) == (state, f"user {finance.name}", note["reason"])
        assert note["reason"] in said
    assert [each["state"] for each in row["history"]] == ["explained", "closed", "open"]


@pytest.mark.parametrize("reason", ["", "ok", "x" * 501])
def test_a_difference_is_settled_only_with_a_reason(office: Office, finance: Visitor, reason: str) -> None:
    _, difference = differing(office)

    assert finance.post(f"/console/differences/{difference}/close", {"reason": reason}).status_code == 422
    assert (office.differences.one(difference, None) or {})["state"] == "open"


def test_nobody_is_sent_elsewhere_after_an_act(office: Office, finance: Visitor) -> None:
    _, difference = differing(office)

    for back in ("https://elsewhere.example", "//elsewhere.example", "/v1/payments"):
        answer = finance.post(f"/console/differences/{difference}/explain", {**REASON, "back": back})
        assert answer.headers["location"] == "/console"


def test_an_open_difference_says_what_to_do_about_it(office: Office, finance: Visitor) -> None:
    run, difference = differing(office)
    page = f"{PAGE}/{run['id']}"

    assert what_to_do(DifferenceKind.AMOUNT_DIFFERS) in text_of(finance.get(page))
    finance.post(f"/console/differences/{difference}/close", REASON)
    assert what_to_do(DifferenceKind.AMOUNT_DIFFERS) not in text_of(finance.get(page))
    assert len({what_to_do(kind) for kind in DifferenceKind}) == len(DifferenceKind) - 1  # two of them come to the same


def test_many_differences_are_narrowed_and_paged_through_each_once(office: Office, finance: Visitor) -> None:
    run = office.runs.ask(office.merchant, DAY, DAY, "Ann")
    for number in range(2 * DIFFERENCE_ROWS + 3):
        kind = DifferenceKind.ORPHAN if number % 3 else DifferenceKind.MISSING_HERE
        office.differences.open(
            merchant_account=office.merchant, kind=kind, source="a.csv", psp_reference=f"PSP{number:05d}"
        )
    office.shop.sql(
        "INSERT INTO reconciliation_found SELECT %s, id FROM differences WHERE merchant_account = %s",
        run["id"], office.merchant,
    )  # fmt: skip

    def through(page: str) -> list[str]:
        found: list[str] = []
        while page:
            text = finance.get(page).text
            found += re.findall(r"PSP\d{5}", text)
            forward = re.search(r'href="([^"]+)" rel="next"', text)
            page = forward[1].replace("&amp;", "&") if forward else ""
        return found

    every = [f"PSP{number:05d}" for number in range(2 * DIFFERENCE_ROWS + 3)]
    for base in (f"{PAGE}/{run['id']}", "/console/differences"):
        assert through(base) == every
        assert through(f"{base}?kind=missing_here&state=open") == every[::3]
        assert through(f"{base}?state=closed") == []
        assert finance.get(f"{base}?kind=nonsense").status_code == 422
    table = finance.get(f"{PAGE}/{run['id']}/differences.csv?kind=missing_here")
    assert table.headers["content-disposition"].startswith("attachment")
    assert [row["psp_reference"] for row in csv.DictReader(io.StringIO(table.text))] == every[::3]


def test_hostile_text_of_the_books_is_text(office: Office, finance: Visitor) -> None:
    run = office.runs.ask(office.merchant, DAY, DAY, HOSTILE)
    office.differences.open(
        merchant_account=office.merchant, kind=DifferenceKind.ORPHAN, source=HOSTILE, reference=HOSTILE,
        psp_reference=HOSTILE, theirs=Side(state=HOSTILE),
    )  # fmt: skip
    office.shop.sql(
        "INSERT INTO reconciliation_found SELECT %s, id FROM differences WHERE merchant_account = %s",
        run["id"], office.merchant,
    )  # fmt: skip
    (difference,) = office.differences.every(DifferenceFilter(merchant_account=office.merchant))
    finance.post(f"/console/differences/{difference['id']}/explain", {"reason": HOSTILE})
    reports = [{"name": HOSTILE, "kind": HOSTILE, "lines": 1, "first_day": HOSTILE, "last_day": HOSTILE}]
    summary = {"differences": {"open": 1}, "payments": {}, "sentences": [HOSTILE]}
    office.runs.finish(run["id"], RunState.DONE, reports=reports, summary=summary)
    finance.post(f"{PAGE}/{run['id']}/sign-off", {"reason": HOSTILE})

    for page in (f"{PAGE}/{run['id']}", day_page(), "/console/differences"):
        answer = finance.get(page)
        assert answer.status_code == 200
        assert HOSTILE not in answer.text
        assert "&lt;script&gt;alert" in answer.text


# -- who may -----------------------------------------------------------------------------------------------------------


def acts(run_id: object, difference_id: object) -> dict[str, dict[str, str]]:
    """Each form of these pages, with what it takes."""
    return {
        f"{PAGE}/runs": {"first_day": "2025-11-25", "last_day": "2025-11-25"},
        f"{PAGE}/{run_id}/sign-off": REASON,
        **{f"/console/differences/{difference_id}/{act}": REASON for act in ("explain", "close", "reopen")},
    }


@pytest.mark.parametrize("role", ["viewer", "submit", "operate"])
def test_other_roles_read_everything_and_do_nothing(api: Api, office: Office, role: str) -> None:
    run, difference = differing(office)
    somebody = visitor(api, role, office.merchant)

    for page in (PAGE, day_page(), f"{PAGE}/{run['id']}", "/console/differences"):
        answer = somebody.get(page)
        assert answer.status_code == 200
        assert 'method="post" action="/console/recon' not in answer.text
        assert 'method="post" action="/console/diff' not in answer.text
    assert somebody.get(f"{PAGE}/{run['id']}/differences.csv").status_code == 200
    for path, fields in acts(run["id"], difference).items():
        assert somebody.post(path, fields).status_code == 403
    assert len(office.runs.many(office.merchant, None, 10)) == 1
    assert (office.differences.one(difference, None) or {})["state"] == "open"


def test_a_form_that_is_not_ours_does_nothing(api: Api, office: Office, finance: Visitor) -> None:
    run, difference = differing(office)

    for path, fields in acts(run["id"], difference).items():
        assert finance.post(path, {**fields, "csrf": "another"}).status_code == 403
        assert finance.post(path, fields, origin="https://elsewhere.example").status_code == 403
        assert Visitor(api).post(path, fields).headers["location"].startswith("/console/login")
    assert len(office.runs.many(office.merchant, None, 10)) == 1
    assert (office.differences.one(difference, None) or {})["state"] == "open"
    assert (office.runs.one(run["id"], None) or {})["signed_at"] is None


def test_another_merchants_books_do_not_exist(api: Api, office: Office) -> None:
    run, difference = differing(office)
    somebody = visitor(api, "admin", OTHER_MERCHANT)

    for page in (f"{PAGE}/{run['id']}", f"{PAGE}/{run['id']}/differences.csv"):
        assert somebody.get(page).status_code == 404
    theirs = {path: fields for path, fields in acts(run["id"], difference).items() if not path.endswith("/runs")}
    for path, fields in theirs.items():
        answer = somebody.post(path, fields)
        assert answer.status_code == 404
    assert str(run["id"]) not in somebody.get(PAGE).text
    assert str(difference) not in somebody.get("/console/differences").text
    assert (office.differences.one(difference, None) or {})["state"] == "open"


# -- empty and many ----------------------------------------------------------------------------------------------------


def test_where_nothing_was_reconciled_the_page_says_how_to_begin(finance: Visitor) -> None:
    assert "Nothing was reconciled yet." in text_of(finance.get(PAGE))
    assert "Our rows and the books agree." in text_of(finance.get("/console/differences"))


def test_many_runs_are_paged_through_each_once_and_newest_first(office: Office, finance: Visitor) -> None:
    office.shop.sql(
        "INSERT INTO reconciliation_runs (id, merchant_account, first_day, last_day, started_by, state)"
        " SELECT gen_random_uuid(), %s, date '2020-01-01' + n, date '2020-01-01' + n, 'clock', 'failed'"
        " FROM generate_series(1, 100) AS n",
        office.merchant,
    )
    found, page = [], PAGE
    while page:
        text = finance.get(page).text
        runs = re.findall(rf'<a href="{PAGE}/([0-9a-f-]{{36}})">', text.partition('id="runs"')[2])
        assert len(runs) <= RUN_ROWS
        found += runs
        forward = re.search(r'href="([^"]+)" rel="next"', text)
        page = forward[1].replace("&amp;", "&") if forward else ""
    assert found == [str(row["id"]) for row in office.runs.many(office.merchant, None, 200)]
    assert len(found) == 100
