"""Templates of the console: nothing in them runs or is styled in place, and every value is escaped."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.web.console import rendering
from orchestrator.web.console.guard import from_here
from orchestrator.web.console.notices import inside
from orchestrator.web.console.rendering import STATIC, environment

TEMPLATES = sorted((Path(rendering.__file__).parent / "templates").glob("*.html"))
by_template = pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.name))


@by_template
def test_no_template_holds_a_style_or_a_script_of_its_own(template: Path) -> None:
    text = template.read_text()
    assert not re.search(r"<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:|hx-on|hx-vals=['\"]js:", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)


@by_template
def test_no_template_switches_escaping_off(template: Path) -> None:
    assert not re.search(r"\|\s*safe|autoescape|Markup", template.read_text())


@by_template
def test_every_static_file_that_a_template_names_is_there(template: Path) -> None:
    named = re.findall(r"static\('([^']+)'\)", template.read_text())
    assert not [name for name in named if not (STATIC / name).is_file()]


@by_template
def test_every_template_is_well_formed(template: Path) -> None:
    environment().get_template(template.name)


def test_what_a_shopper_or_a_till_wrote_is_shown_and_never_run() -> None:
    made = environment().from_string('{{ a }}<a title="{{ a }}">').render(a='"><script>alert(1)</script>')
    assert "<script>" not in made
    assert 'title="&#34;&gt;' in made


def test_no_style_loads_anything_from_elsewhere() -> None:
    for path in STATIC.rglob("*.css"):
        assert not re.search(r"@import|https?://|url\((?!['\"]?data:)", path.read_text()), path.name


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "just now"), (30, "30 s ago"), (-90, "in 1 min"), (3700, "1 h ago"), (200_000, "2 d ago")],
)
def test_how_long_ago_is_said_in_one_unit(seconds: int, text: str) -> None:
    assert rendering.ago_text(datetime.now(UTC) - timedelta(seconds=seconds + 0.5 * (seconds > 0))) == text


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (1050, "EUR", "10.50 EUR"),
        (123456789, "USD", "1,234,567.89 USD"),
        (500, "JPY", "500 JPY"),
        (5, "XXX", "5 minor units of XXX"),
    ],
)
def test_money_is_shown_in_the_units_of_its_currency(minor: int, currency: str, text: str) -> None:
    assert rendering.amount_text(minor, currency) == text


@pytest.mark.parametrize(
    "url", ["/console", "/console/payments/1?x=y#z", "/console?reference=A%20B", "/console?q=/..&at=%2E"]
)
def test_a_way_inside_is_kept(url: str) -> None:
    assert inside(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "/", "//evil/console", "/console\\@evil", "https://evil/console", "/con\tsole", "/console/\n"),
        *("/console/../v1/payments", "/console/%2e%2E/v1/payments", "/console/.%2e/v1/payments"),
    ],
)
def test_a_way_out_leads_to_the_first_page(url: str) -> None:
    assert inside(url) == "/console"


def test_a_form_is_ours_only_by_the_word_of_a_browser() -> None:
    class Said(dict[str, str]):
        """Headers."""

    assert from_here(Said(host="a.example", origin="https://a.example"))  # type: ignore[arg-type]
    assert not from_here(Said(host="", origin=""))  # type: ignore[arg-type]
    assert not from_here(Said(host="a.example"))  # type: ignore[arg-type]
    assert not from_here(Said(host="a.example", origin="https://a.example.evil"))  # type: ignore[arg-type]
    assert not from_here(Said(host="a.example", origin="https://a.example@evil"))  # type: ignore[arg-type]
    assert not from_here(Said(host="a.example", origin="https://[a.example"))  # type: ignore[arg-type]
