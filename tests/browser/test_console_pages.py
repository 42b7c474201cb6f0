"""Every page of the console in a real browser: readable by everybody, at any size, by day and by night."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NARROW, WIDE, Scheme, Visit, log_in
from tests.browser.shop import PASSWORD, PEOPLE, Shop, a_day

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

#: Where an address holds what it is about: one page of each kind is enough.
_KINDS = re.compile(r"/[0-9a-f]{8}-[0-9a-f-]{27}|/V400m-\d+|/\d+")
#: What a browser keeps or streams instead of showing.
_NO_PAGE = re.compile(r"\.csv$|/(?:events|logout)$|^/console/static/")
_LOGIN = re.compile(r"/console/login")
VIEWS = {"/console", "/console/attention", "/console/terminals", "/console/reconciliation", "/console/callbacks",
         "/console/health", "/console/charts", "/console/payments/…", "/console/terminals/…"}  # fmt: skip
IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
PICTURE: Final = {"width": 1280, "height": 800}
PICTURES: Final[dict[str, tuple[str, Scheme]]] = {
    "console-search": ("/console", "light"),
    "console-payment": ("/console/payments/{unknown}", "light"),
    "console-attention": ("/console/attention", "dark"),
}
#: What a picture shows that does not change with the day: titles, columns, terms and buttons.
_OUTLINE: Final = """() => [...document.querySelectorAll("nav a, h1, h2, th[scope=col], dt, .button")]
    .filter((each) => each.checkVisibility()).map((each) => each.innerText.trim()).filter(Boolean)"""
LOOKS = [("light", WIDE), ("dark", NARROW)]  # colours and sizes are independent of each other


@pytest.fixture(scope="module")
def day(shop: Shop) -> dict[str, Any]:
    return a_day(shop)


def kind_of(path: str) -> str:
    return _KINDS.sub("/…", path)


def walk(page: Page) -> Iterator[str]:
    """Follow the console's links from the page that is open; each kind of page once, open when it is named."""
    seen, ahead = {kind_of(urlsplit(page.url).path)}, []
    while True:
        yield kind_of(urlsplit(page.url).path)
        for link in page.locator("main a[href^='/console'], nav a[href^='/console']").all():
            path = urlsplit(link.get_attribute("href") or "").path
            if kind_of(path) not in seen and not _NO_PAGE.search(path):
                seen.add(kind_of(path))
                ahead.append(path)
        if not ahead:
            return
        page.goto(ahead.pop(0))


def wrong_with(page: Page, axe: str) -> list[str]:
    """What a reader would stumble over."""
    wrong = []
    if page.locator("h1:visible").count() != 1:
        wrong.append("there is not one heading of the first level")
    if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
        wrong.append("the page is wider than its window")
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    wrong += [f"{each['id']}: {each['nodes'][0]['html'][:160]}" for each in found["violations"]]
    return wrong


@pytest.mark.parametrize(("scheme", "size"), LOOKS)
@pytest.mark.usefixtures("day")
def test_every_page_can_be_read_by_everybody(visit: Visit, axe: str, scheme: Scheme, size: dict[str, int]) -> None:
    page = visit("admin", scheme=scheme, size=size)

    wrong = {path: wrong_with(page, axe) for path in walk(page)}

    assert wrong.keys() >= VIEWS
    assert {path: what for path, what in wrong.items() if what} == {}


@pytest.mark.usefixtures("day")
def test_every_page_says_the_same_without_scripts(visit: Visit) -> None:
    page = visit("admin", scripts=False)

    headings = {path: page.locator("h1").inner_text() for path in walk(page)}

    assert headings.keys() >= VIEWS
    assert all(headings.values())


def test_a_reference_that_looks_like_markup_is_shown_as_it_is(visit: Visit, day: dict[str, Any]) -> None:
    page = visit("viewer", f"/console/payments/{day['foreign looks']['id']}")
    expect(page.locator("main")).to_contain_text("<b>'&\"</b>")
    assert page.locator("main b", has_text="'&").count() == 0


def test_a_reader_is_offered_nothing_that_they_may_not_do(visit: Visit, day: dict[str, Any]) -> None:
    page = visit("viewer", f"/console/payments/{day['unknown']['id']}")
    assert page.locator("main form[method=post]").count() == 0
    page = visit("admin", f"/console/payments/{day['unknown']['id']}")
    assert page.locator("main form[method=post]").count() > 0


# -- logging in, as a person does it --


def test_who_is_not_logged_in_comes_back_to_the_page_they_wanted(visit: Visit) -> None:
    page = visit(None, "/console/terminals")
    expect(page).to_have_url(_LOGIN)
    page.get_by_label("Name").fill(PEOPLE["viewer"])
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/console/terminals")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_the_keyboard_alone_logs_in_and_out(visit: Visit, *, scripts: bool) -> None:
    page = visit(None, "/console/login", scripts=scripts)
    page.get_by_label("Name").focus()
    page.keyboard.type(PEOPLE["viewer"])
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "/login" not in url)

    page.get_by_role("button", name="Log out").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(_LOGIN)
    page.goto("/console")
    expect(page).to_have_url(_LOGIN)


def test_a_wrong_password_says_so_and_keeps_the_name(visit: Visit) -> None:
    page = visit(None, "/console/login")
    page.get_by_label("Name").fill("nobody-here")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("nobody-here")
    log_in(page, PEOPLE["viewer"])


def test_a_link_on_another_site_arrives_for_who_is_logged_in(visit: Visit) -> None:
    page = visit("viewer", "/console/health")
    link = f'<a href="{page.url}">the console</a>'
    page.route("http://chat.example/", lambda route: route.fulfill(content_type="text/html", body=link))
    page.goto("http://chat.example/")

    page.get_by_role("link").click()

    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/console/health$"))


def test_charts_are_drawn_from_their_tables_and_the_tables_stay_at_hand(visit: Visit, day: dict[str, Any]) -> None:
    page = visit("viewer", "/console/charts")
    expect(page.locator("[data-chart] canvas")).to_have_count(3)
    table = page.locator("[data-chart] details table").first
    expect(table).to_be_hidden()
    page.get_by_text("Figures").first.click()
    expect(table).to_be_visible()
    expect(page.locator(".figure-value").first).not_to_have_text("0")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("[data-chart] canvas")).to_have_count(3)  # drawn anew, in the colours of the night

    without = visit("viewer", "/console/charts", scripts=False)
    expect(without.locator("[data-chart] details table").first).to_be_visible()


# -- the pictures of the documents --


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_a_picture_in_the_documents_shows_what_the_console_shows(visit: Visit, day: dict[str, Any], name: str) -> None:
    path, scheme = PICTURES[name]
    page = visit("finance", path.format(unknown=day["unknown"]["id"]), scheme=scheme, size=PICTURE)
    page.mouse.move(0, 0)
    outline = list(dict.fromkeys(page.evaluate(_OUTLINE)))
    picture, outlined = IMAGES / f"{name}.png", IMAGES / f"{name}.json"
    if os.environ.get("COUNTERFOIL_TEST_PICTURES") == "write":
        IMAGES.mkdir(exist_ok=True)
        page.screenshot(path=picture)
        outlined.write_text(json.dumps(outline, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    assert picture.is_file()
    assert outline == json.loads(outlined.read_text(encoding="utf-8")), "the picture is old: `make pictures`"
