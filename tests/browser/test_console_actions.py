"""What people do in the console, in a real browser: each act with its confirmation, and what it leaves on record."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, Visit
from tests.browser.shop import PEOPLE, Shop

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

_LIVE_WITHIN_MS = 15_000


def says(page: Page, text: str) -> None:
    """The notice that a page shows once after an act."""
    expect(page.locator(".notice")).to_contain_text(text)


def confirm(page: Page, summary: str, button: str, **fields: str) -> None:
    """Open a confirmation, fill it in by its labels, and confirm."""
    page.locator("summary", has_text=summary).click()
    opened = page.locator("details.confirm[open]")
    for label, text in fields.items():
        opened.get_by_label(label.replace("_", " ")).fill(text)
    opened.get_by_role("button", name=button).click()


def journal(shop: Shop, payment_id: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = shop.api.get(f"/v1/payments/{payment_id}/journal").json()["data"]
    return lines


def test_a_payment_page_tells_the_outcome_without_being_loaded_again(visit: Visit, shop: Shop) -> None:
    page = visit("viewer")
    payment = shop.pay("live-1-late", terminal=0)
    page.goto(f"/console/payments/{payment['id']}")
    expect(page.locator("#payment-verdict")).not_to_contain_text("Charged")
    page.evaluate("window.sameDocument = true")

    shop.until(payment["id"], lambda now: now["charged"] is True)

    expect(page.locator("#payment-verdict")).to_contain_text("Charged", timeout=_LIVE_WITHIN_MS)
    assert page.evaluate("window.sameDocument"), "the page was loaded again"


def test_a_terminals_page_follows_what_runs_on_it(visit: Visit, shop: Shop) -> None:
    page = visit("viewer", f"/console/terminals/{shop.terminals[1]}")
    expect(page.locator("h1")).to_contain_text("is free")

    payment = shop.pay("live-2-slow", terminal=1)

    expect(page.locator("h1")).to_contain_text("takes a payment", timeout=_LIVE_WITHIN_MS)
    expect(page.locator("#now")).to_contain_text("live-2-slow")
    shop.until(payment["id"], lambda now: now["outcome"] is not None)
    expect(page.locator("h1")).to_contain_text("is free", timeout=_LIVE_WITHIN_MS)


def test_the_search_finds_a_receipt_by_what_stands_on_it(visit: Visit, shop: Shop) -> None:
    paid = shop.paid("receipt-77", 7777, terminal=2)
    page = visit("viewer")
    page.get_by_label("Find payments").fill(paid["psp_reference"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/console/payments/{paid['id']}")
    expect(page.locator("h1")).to_contain_text("Charged 77.77 EUR")

    page.goto("/console")
    page.get_by_label("Find payments").fill("77.77 EUR")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("receipt-77")
    assert page.url.endswith("/console?q=77.77+EUR")  # no field that was left empty


@pytest.mark.parametrize("scripts", [True, False])
def test_a_part_is_paid_back_once_and_the_journal_names_who_did_it(visit: Visit, shop: Shop, *, scripts: bool) -> None:
    paid = shop.paid(f"back-{scripts}", 5000, terminal=3)
    page = visit("finance", f"/console/payments/{paid['id']}", scripts=scripts)
    page.get_by_text("Pay back", exact=True).click()
    form = page.locator("form[action$='/refund']")
    form.get_by_label("Amount in EUR").fill("20.00")
    form.get_by_label("Reason").fill("goods returned")
    form.get_by_role("button").click()

    expect(page.locator(".notice")).to_be_visible()
    refunds = shop.api.get(f"/v1/payments/{paid['id']}/refunds").json()["data"]
    assert [each["amount"]["value"] for each in refunds] == [2000]
    assert refunds[0]["asked_by"] == f"user {PEOPLE['finance']}"


def test_too_much_is_refused_in_a_sentence_and_nothing_typed_is_lost(visit: Visit, shop: Shop) -> None:
    paid = shop.paid("back-too-much", 1000, terminal=3)
    page = visit("finance", f"/console/payments/{paid['id']}")
    confirm(page, "Pay back", "Pay it back", Amount_in_EUR="99.00", Reason="goods returned")

    expect(page.get_by_role("alert").first).to_be_visible()
    expect(page.locator("form[action$='/refund']").get_by_label("Amount in EUR")).to_have_value("99.00")
    expect(page.locator("form[action$='/refund']").get_by_label("Reason")).to_have_value("goods returned")


def test_an_unknown_payment_is_asked_about_and_ruled_on_with_a_reason(visit: Visit, shop: Shop) -> None:
    lost = shop.pay("lost-withheld", 3300, terminal=4)
    shop.until(lost["id"], lambda now: now["state"] == "unknown")
    page = visit("operate", f"/console/payments/{lost['id']}")
    confirm(page, "Check now", "Ask the terminal")
    says(page, "")
    assert page.get_by_text("Rule on it").count() == 0

    page = visit("finance", f"/console/payments/{lost['id']}")
    page.locator("summary", has_text="Rule on it").click()
    form = page.locator("form[action$='/rule']")
    form.get_by_label("What became of the money").select_option("declined")
    form.get_by_label("Reason").fill("the Customer Area has no such payment")
    form.get_by_role("button").click()
    # A status check may have come to nothing since the page was made. Then it is shown anew, with what was typed.
    while form.get_by_role("alert").filter(has_text="Nothing was done").count():
        form.get_by_role("button").click()

    ruled = shop.until(lost["id"], lambda now: now["state"] == "reconciled")
    assert (ruled["outcome"], ruled["charged"]) == ("declined", False)
    expect(page.locator("h1")).to_contain_text("Not charged")
    ruling = next(line for line in journal(shop, lost["id"]) if line["evidence"] == "ruled")
    assert ruling["detail"]["ruled_by"] == f"user {PEOPLE['finance']}"


def test_a_payment_that_runs_is_aborted_on_a_telephone(visit: Visit, shop: Shop) -> None:
    page = visit("operate", size=NARROW)
    payment = shop.pay("stop-me-abortable", terminal=5)
    shop.until(payment["id"], lambda now: now["sent_at"] is not None)
    page.goto(f"/console/payments/{payment['id']}")
    confirm(page, "Abort", "Stop this payment")

    ended = shop.until(payment["id"], lambda now: now["outcome"] is not None)
    assert ended["charged"] is False
    expect(page.locator("h1")).to_contain_text("Not charged", timeout=_LIVE_WITHIN_MS)


def test_a_terminal_is_held_and_released_with_the_keyboard_alone(visit: Visit, shop: Shop) -> None:
    page = visit("operate", f"/console/terminals/{shop.terminals[6]}")
    page.locator("summary", has_text="Hold it").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.type("the printer is being changed")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("is held")
    held = shop.api.get(f"/v1/terminals/{shop.terminals[6]}").json()["held"]
    assert held["by"] == f"user {PEOPLE['operate']}"
    assert held["reason"] == "the printer is being changed"

    page.locator("summary", has_text="Release it").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("is free")
    assert shop.api.get(f"/v1/terminals/{shop.terminals[6]}").json()["held"] is None


def test_a_confirmation_closes_with_escape_and_does_nothing(visit: Visit, shop: Shop) -> None:
    paid = shop.paid("left-alone", terminal=7)
    page = visit("finance", f"/console/payments/{paid['id']}")
    page.locator("summary", has_text="Pay back").click()
    expect(page.locator("details.confirm[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("details.confirm[open]")).to_have_count(0)
    assert shop.api.get(f"/v1/payments/{paid['id']}/refunds").json()["data"] == []


# -- news about a payment, and whoever is at work on it --


def unknown(shop: Shop, reference: str, terminal: int) -> str:
    """A payment that stays unknown for as long as nobody rules on it; its id."""
    payment = shop.pay(f"{reference}-withheld", terminal=terminal)
    return str(shop.until(payment["id"], lambda now: now["state"] == "unknown")["id"])


def rule(shop: Shop, payment_id: str) -> None:
    """Somebody else settles it; until that is on what is known, since checks go on meanwhile."""
    for _ in range(20):
        seen = shop.api.get(f"/v1/payments/{payment_id}").json()
        body = {"outcome": "approved", "reason": "seen at the platform", "sequence": seen["sequence"]}
        if shop.api.post(f"/v1/payments/{payment_id}/ruling", json=body).status_code == 200:
            return
    pytest.fail("the payment never stood still for a ruling")


def test_news_neither_closes_a_form_nor_moves_the_focus_and_catches_up_afterwards(visit: Visit, shop: Shop) -> None:
    payment_id = unknown(shop, "form-open", terminal=0)
    page = visit("admin", f"/console/payments/{payment_id}")
    page.locator("#line-1-more").click()
    page.locator("summary", has_text="Abort").click()

    rule(shop, payment_id)

    expect(page.locator("h1")).to_contain_text("Charged", timeout=_LIVE_WITHIN_MS)

    # the verdict is new, and the form is as it was
    expect(page.get_by_role("button", name="Stop this payment")).to_be_visible()
    expect(page.locator("#line-1")).to_have_attribute("open", "")
    # once it is closed, what can be done is what can be done now
    page.get_by_role("button", name="Stop this payment").press("Escape")
    expect(page.locator("#payment-actions")).to_contain_text("Pay back")
    expect(page.locator("#payment-actions")).not_to_contain_text("Abort")
    expect(page.locator("[data-live]")).to_have_count(0)


def test_what_is_read_stays_open_and_in_focus_while_news_comes(visit: Visit, shop: Shop) -> None:
    payment_id = unknown(shop, "reading", terminal=1)
    page = visit("viewer", f"/console/payments/{payment_id}")
    page.locator("#line-1-more").focus()
    page.keyboard.press("Enter")

    rule(shop, payment_id)

    expect(page.locator("h1")).to_contain_text("Charged", timeout=_LIVE_WITHIN_MS)
    expect(page.locator("#journal")).to_contain_text("seen at the platform")
    expect(page.locator("#line-1")).to_have_attribute("open", "")
    expect(page.locator("#line-1-more")).to_be_focused()
