"""Debian's Chromium in front of the product's real processes. What a page's scripts complain about fails the test."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NoReturn

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, sync_playwright

from tests.browser.shop import PASSWORD, PEOPLE, Shop
from tests.node import installed
from tests.services import in_ci

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
#: Pages come from this machine; what takes longer is broken.
_WITHIN_MS = 15_000

Scheme = Literal["light", "dark"]
Visit = Callable[..., Page]


def _missing() -> NoReturn:
    text = "there is no Chromium; install one (Debian: apt-get install chromium)"
    if in_ci():
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser; each visitor has a context of their own in it.

    A module's own: while Playwright runs, its thread has an event loop, and no other test could start one.
    """
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        _missing()
    with sync_playwright() as playwright:
        # Without its sandbox, which cannot be had as root in a container; only our own pages are looked at.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The script that knows the rules of accessibility."""
    folder = installed(Path(__file__).parent, pytestconfig.rootpath / ".pytest_cache" / "axe")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Shop]:
    """A shop of the module's own, open and empty."""
    with Shop(tmp_path_factory.mktemp("shop"), postgres_url) as opened:
        yield opened


class Complaints(list[str]):
    """What a page's scripts, its policy and its parts complained about. A page itself may answer with an error."""

    def watch(self, page: Page) -> None:
        """Listen to a page."""
        page.on("pageerror", lambda error: self.append(f"{page.url}: {error}"))
        page.on("console", self._said)
        page.on("response", self._answered)

    def _said(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            self.append(said.text)

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.request.resource_type != "document":
            self.append(f"{response.url} answered {response.status}")


@pytest.fixture
def visit(chromium: Browser, shop: Shop) -> Iterator[Visit]:
    """Open the console as somebody: ``visit("finance", path, size=…, scheme=…, scripts=False)``."""
    opened: list[BrowserContext] = []
    complaints = Complaints()

    def open_page(
        role: str | None = "viewer",
        path: str = "/console",
        *,
        size: dict[str, int] = WIDE,
        scheme: Scheme = "light",
        scripts: bool = True,
    ) -> Page:
        context = chromium.new_context(
            base_url=shop.url,
            viewport=size,  # type: ignore[arg-type]  # a dictionary with just these two keys
            color_scheme=scheme,
            java_script_enabled=scripts,
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="Europe/Amsterdam",
        )
        context.set_default_timeout(_WITHIN_MS)
        opened.append(context)
        page = context.new_page()
        complaints.watch(page)
        if role is not None:
            log_in(page, PEOPLE[role])
        page.goto(path)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert not complaints, complaints


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """Log in, as a person does."""
    page.goto("/console/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "/login" not in url)
