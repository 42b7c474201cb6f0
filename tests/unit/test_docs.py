"""The documents say what is so: each command, setting, route, metric, alert, task, target, file and link is there."""

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from config.settings import Settings, load_settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.cli import reference
from orchestrator.metrics.catalogue import FAMILIES, Kind
from orchestrator.web.app import web_app
from tests.documents import Facts, anchors_of, code_of, faults, links_of

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    {ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")}
    | {ROOT / folder / "README.md" for folder in ("bench", "fuzz", "gauntlet")}
)
#: What others answer: the simulator, by its own page; and whoever takes traces, by the protocol's standard path.
ELSEWHERE = {"/v1/traces": {"POST"}}
SIMULATOR = {
    "/v1/merchants/{merchant}/devices/{POIID}/async": {"POST"},
    "/v1/merchants/{merchant}/devices/{POIID}/sync": {"POST"},
    "/v1/merchants/{merchant}/devices/{POIID}/status": {"GET"},
    "/v1/merchants/{merchant}/connectedDevices": {"GET"},
    "/webhooks/send": {"POST"},
}
#: Words that begin like a metric, and are the names of other things.
NOT_METRICS = {"counterfoil_test"}


def routes_of(routes: Iterable[Any]) -> dict[str, set[str]]:
    """Every path of an application with its methods, also of routers within it."""
    found: dict[str, set[str]] = {}
    for route in routes:
        if inner := getattr(route, "original_router", None):
            within = routes_of(inner.routes)
        elif getattr(route, "methods", None):
            within = {route.path: set(route.methods)}
        elif path := getattr(route, "path", None):  # a folder of files
            within = {f"{path}/{{name:path}}": {"GET"}}
        else:
            continue
        for path, methods in within.items():
            found.setdefault(path, set()).update(methods)
    return found


def applications(asgi: object) -> Iterator[FastAPI]:
    """The framework's applications behind whatever stands before them."""
    if isinstance(asgi, FastAPI):
        yield asgi
    elif type(asgi).__module__.startswith("orchestrator.web"):
        for inner in vars(asgi).values():
            yield from applications(inner)


@cache
def product_routes() -> dict[str, set[str]]:
    nowhere = {"DATABASE_URL": "postgresql+psycopg://nowhere/none", "BROKER_URL": "redis://nowhere/0"}
    chosen = load_settings({f"COUNTERFOIL_{name}": value for name, value in nowhere.items()})
    return routes_of(route for app in applications(web_app(Counterfoil(chosen))) for route in app.routes)


def registered_tasks() -> set[str]:
    return {
        str(keyword.value.value)
        for file in (ROOT / "tasks").glob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
    }


def told_metrics() -> set[str]:
    """Names as a scrape shows them: a histogram has three more."""
    histograms = [family.full_name for family in FAMILIES if family.kind is Kind.HISTOGRAM]
    parts = {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    return {family.full_name for family in FAMILIES} | parts


def known_settings() -> set[str]:
    tested = set(re.findall(r"COUNTERFOIL_TEST_[A-Z]+", (ROOT / "tests" / "services.py").read_text()))
    return {f"COUNTERFOIL_{name.upper()}" for name in Settings.model_fields} | tested


@cache
def facts() -> Facts:
    makefile = (ROOT / "Makefile").read_text()
    return Facts(
        root=ROOT,
        commands=dict(reference.commands()),
        settings=known_settings(),
        routes=product_routes() | SIMULATOR | ELSEWHERE,
        tasks=registered_tasks(),
        targets=set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)),
        variables=set(re.findall(r"^([A-Z]+) *\?=", makefile, re.MULTILINE)),
        metrics=told_metrics() | NOT_METRICS,
        alerts=set(re.findall(r"alert: (\w+)", (ROOT / "config" / "prometheus" / "alerts.yml").read_text())),
    )


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_everything_that_a_page_says_in_code_is_so_and_its_links_lead_somewhere(page: Path) -> None:
    assert faults(page.read_text(encoding="utf-8"), page, facts()) == []


def test_every_page_is_found_from_the_readme_or_the_index() -> None:
    reached: set[Path] = set()
    ahead = [ROOT / "README.md", ROOT / "docs" / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        targets = (link.partition("#")[0] for link in links_of(page.read_text()) if not re.match(r"[a-z]+:", link))
        ahead += [(page.parent / target).resolve() for target in targets if target]

    assert set(PAGES) <= reached


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("`counterfoil pya`", "no command `pya`"),
        ("`counterfoil terminals ad V400m-1`", "no command `terminals ad`"),
        ("`counterfoil show PAYMENT --jornal`", "no option --jornal"),
        ("`counterfoil list --state gone`", "--state takes no `gone`"),
        ("`counterfoil serve now`", "takes no `now`"),
        ("```\ncounterfoil check PAYMENT\n```", "NAME missing"),
        ("```console\n$ X=1 counterfoil check --as Ann\n```", "ID|REFERENCE missing"),
        ("```\ndocker compose exec api counterfoil docter\n```", "no command `docter`"),
        ("```\nKEY=$(counterfoil keys creat)\n```", "no command `keys creat`"),
        ("`counterfoil\npya`", "no command `pya`"),
        ("text\n\n    counterfoil pya\n\ntext", "no command `pya`"),
        ("`COUNTERFOIL_REGOIN`", "no setting"),
        ("COUNTERFOIL_TEST_MYSQL", "no setting"),
        ("`GET /v1/payment/{id}`", "no route /v1/payment/{id}"),
        ("`PATCH /v1/payments/{id}`", "takes no PATCH"),
        ("`https://<you>/notifications/terminals`", "no route"),
        ("`curl http://127.0.0.1:8080/v1/refundz?x=1`", "no route /v1/refundz"),
        ("`tasks.payments.sned`", "no task"),
        ("`counterfoil_paymets_total`", "no metric"),
        ("`counterfoil_payments_total_bucket`", "no metric"),
        ("`CounterfoilUnknwon`", "no alert"),
        ("`GET /metrics/payments`", "no route"),
        ("`make tset`", "no target tset"),
        ("`make test ARG=-x`", "knows no ARG"),
        ("`python -m bench.liv`", "no module"),
        ("`tests/unit/test_dosc.py`", "no such file"),
        ("`tests/unit/test_docs.py::test_nothing`", "no such test"),
        ("[page](docs/nowhere.md)", "no such file"),
        ("[page](README.md#nowhere)", "no such heading"),
        ("[page](#nowhere)", "no such heading"),
        ('<img src="docs/nowhere.png">', "no such file"),
    ],
)
def test_a_fault_in_a_page_is_found(text: str, why: str) -> None:
    found = faults(f"{text}\n", ROOT / "README.md", facts())

    assert len(found) == 1
    assert why in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "`counterfoil`, `counterfoil COMMAND --help`, `counterfoil terminals key`",
        "`counterfoil refund PAYMENT --amount 4.50 --reference R-1 --as NAME`",
        "```console\n$ counterfoil show order-1 --journal | less   # why\n```",
        "```\ncounterfoil keys create --merchant M --role submit > key\n```",
        "```python\ncounterfoil = Counterfoil(url, key)\n```",
        "`GET /v1/payments/{id}/refunds`, `/v1/payments/$ID/events`, `POST /v1/payments?wait=30`",
        "`tasks.payments.submit` and `make test ARGS=-x` and [it](docs/why.md#decisions)",
    ],
)
def test_what_is_so_is_no_fault(text: str) -> None:
    assert faults(f"{text}\n", ROOT / "README.md", facts()) == []


def test_code_and_headings_are_read_as_the_renderers_read_them() -> None:
    text = "# A `b`: c\n\n## a-b c\n\nSee ``x`y`` and `one\ntwo`.\n\n```console\n$ a \\\n  b\n```\n"

    assert anchors_of(text) == {"a-b-c", "a-b-c-1"}
    assert [code.text for code in code_of(text)] == ["$ a    b", "b", "x`y", "one two"]


def test_the_simulators_page_and_this_test_agree_on_its_routes() -> None:
    page = (ROOT / "docs" / "simulator.md").read_text()
    for path in SIMULATOR:
        assert path.removesuffix("/sync") in page


def test_the_picture_shows_every_part_and_every_arrow_of_its_source() -> None:
    source = (ROOT / "docs" / "architecture.mmd").read_text()
    shown = " ".join(re.findall(r"<text [^>]+>([^<]+)</text>", (ROOT / "docs" / "architecture.svg").read_text()))
    parts = re.findall(r"\[\(?([\w ,]+)\)?\]", source)
    arrows = re.findall(r"-- (.+) -->", source)

    assert len(parts) == 14
    assert [name for name in parts + arrows if name.lower() not in shown.lower()] == []


def test_every_version_of_python_in_the_documents_is_the_projects() -> None:
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"].removeprefix(">=")

    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        assert f"Python {oldest} or newer" in page.read_text()
