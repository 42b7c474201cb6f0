"""What was done is said once, on a page of ours, and only what we said ourselves."""

from http.cookies import SimpleCookie

import pytest
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.web.console.notices import COOKIE, Notice, Notices

KEY = b"k" * 32


def notices(key: bytes = KEY, *, secure: bool = False) -> Notices:
    return Notices(lambda: [key], secure=secure)


def said(response: Response) -> str:
    """The cookie's value as a browser sends it back."""
    return SimpleCookie(response.headers["set-cookie"])[COOKIE].value


def with_cookie(value: str) -> Request:
    return Request({"type": "http", "headers": [(b"cookie", f"{COOKIE}={value}".encode())]})


@pytest.mark.parametrize("failed", [True, False])
def test_what_was_said_is_read_on_the_next_page(failed: bool) -> None:
    text = 'Refunded 10.50 EUR; "thank you", <b>Zoë</b>'
    response = notices().redirect("/console/payments/1", text, failed=failed)
    assert (response.status_code, response.headers["location"]) == (303, "/console/payments/1")
    assert notices().read(with_cookie(said(response))) == Notice(text, failed)


def test_what_was_said_is_kept_for_a_minute_from_scripts_and_other_sites() -> None:
    kept = notices(secure=True).redirect("/console", "Done", failed=False).headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/console", "Max-Age=60", "Secure"} <= set(kept.split("; "))


def test_a_long_text_still_fits_into_a_cookie() -> None:
    response = notices().redirect("/console", "💳" * 10_000, failed=False)
    assert len(response.headers["set-cookie"]) < 4_096
    read = notices().read(with_cookie(said(response)))
    assert read
    assert read.said == "💳" * 500


@pytest.mark.parametrize("change", ["x{}", "{}x", "", ".", "{}.", "abc"])
def test_what_was_changed_on_the_way_is_not_said(change: str) -> None:
    value = said(notices().redirect("/console", "Done", failed=False))
    assert notices().read(with_cookie(change.format(value))) is None


def test_what_was_signed_with_another_key_is_not_said() -> None:
    value = said(notices(b"o" * 32).redirect("/console", "Done", failed=False))
    assert notices().read(with_cookie(value)) is None


def test_it_is_forgotten_once_it_was_said() -> None:
    response = Response()
    notices().forget(response)
    assert "Max-Age=0" in response.headers["set-cookie"]


def test_nobody_is_redirected_out_of_the_console() -> None:
    response = notices().redirect("https://elsewhere.example/console", "Done", failed=False)
    assert response.headers["location"] == "/console"
