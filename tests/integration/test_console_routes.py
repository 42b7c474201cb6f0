"""What holds for every page and every form of the console, found by walking its routes: a new view is in at once."""

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from fastapi.routing import APIRoute

from config.settings import Settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.keys import Role
from orchestrator.web.console.desk import Desk
from orchestrator.web.console.guard import HEADERS, NOT_KEPT, TAKES_FILES
from orchestrator.web.console.rendering import NAVIGATION, STATIC, static_url
from orchestrator.web.console.routes import VIEWS
from orchestrator.web.services import Services
from tests.integration.console_support import Visitor, visitor
from tests.integration.http_support import Api, served

pytestmark = pytest.mark.integration

#: Forms that change nothing of anybody's: everybody may send them.
HARMLESS = {"/console/logout", "/console/terminals/look", "/console/terminals/{poi_id}/look"}

#: A route without a login is one of these, or a mistake.
OPEN = {"/console/login", "/console/static/{name:path}"}


def walked() -> list[APIRoute]:
    """The routes of every view, to be looked at: no database is asked for that."""
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    settings = Settings(database_url=nowhere, broker_url="redis://127.0.0.1:1/0")
    desk = Desk(Services(Counterfoil(settings)))
    return [route for view in VIEWS for route in view.router(desk).routes if isinstance(route, APIRoute)]


ROUTES = walked()
PAGES = sorted({route.path for route in ROUTES if "GET" in (route.methods or ())})
FORMS = sorted({route.path for route in ROUTES if (route.methods or set()) - {"GET", "HEAD"}})


def somewhere(path: str) -> str:
    """An address of a route: what it is about is not there."""
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: _PLACES.get(found[1], str(UUID(int=7))), path)


_PLACES = {"poi_id": "V400m-000000000", "name": "console.css", "number": "1"}


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


@pytest.fixture(scope="module")
def people(api: Api) -> dict[Role, Visitor]:
    return {role: visitor(api, role.value) for role in Role}


def head_of(someone: Visitor, path: str) -> httpx.Response:
    """The status and the headers alone: a stream has no end."""
    with someone.http.stream("GET", path) as answer:
        return answer


def test_there_is_a_page_for_each_entry_of_the_navigation() -> None:
    assert {path for path, _ in NAVIGATION} <= set(PAGES)


def test_the_description_of_the_api_knows_nothing_of_the_console(api: Api) -> None:
    assert not [path for path in api.http.get("/openapi.json").json()["paths"] if path.startswith("/console")]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_asks_who_it_is(api: Api, path: str) -> None:
    answer = head_of(Visitor(api), somewhere(path))
    if path in OPEN:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/console/login")


@pytest.mark.parametrize("path", PAGES)
def test_every_answer_says_what_a_browser_may_do_with_it(people: dict[Role, Visitor], path: str) -> None:
    for someone in (people[Role.VIEWER], Visitor(people[Role.VIEWER].api)):
        answer = head_of(someone, somewhere(path))
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
        if path not in OPEN:
            assert "no-store" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", [path for path in PAGES if "{" not in path and path not in OPEN])
@pytest.mark.parametrize("role", Role)
def test_every_role_sees_every_page(people: dict[Role, Visitor], role: Role, path: str) -> None:
    answer = head_of(people[role], path)
    assert answer.status_code in {200, 303}
    if answer.status_code == 303:
        assert "login" not in answer.headers["location"]


@pytest.mark.parametrize("path", [path for path in PAGES if "{" in path and path not in OPEN])
def test_a_page_of_what_is_not_there_is_not_found(people: dict[Role, Visitor], path: str) -> None:
    assert head_of(people[Role.ADMIN], somewhere(path)).status_code in {404, 422}


@pytest.mark.parametrize("path", FORMS)
def test_every_form_needs_the_secret_of_its_session(people: dict[Role, Visitor], path: str) -> None:
    if path in OPEN:
        return
    ada = people[Role.ADMIN]
    files = {"report": ("report.csv", b"", "text/csv")} if path in TAKES_FILES else None
    for fields in ({}, {"csrf": "wrong"}, {"csrf": people[Role.VIEWER].csrf}):
        answer = ada.http.post(somewhere(path), data=fields, files=files, headers={"origin": ada.api.url})
        assert answer.status_code == 403, fields


@pytest.mark.parametrize("path", FORMS)
def test_every_form_is_refused_from_elsewhere(people: dict[Role, Visitor], path: str) -> None:
    ada = people[Role.ADMIN]
    for said in ({"origin": "https://elsewhere.example"}, {"sec-fetch-site": "cross-site"}, {}):
        answer = ada.http.post(somewhere(path), data={"csrf": ada.csrf}, headers=said)
        assert answer.status_code == 403, said
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


@pytest.mark.parametrize("path", [path for path in FORMS if path not in OPEN | HARMLESS])
def test_who_may_only_look_sends_no_form(people: dict[Role, Visitor], path: str) -> None:
    assert people[Role.VIEWER].post(somewhere(path)).status_code == 403
    assert people[Role.SUBMIT].post(somewhere(path)).status_code == 403


@pytest.mark.parametrize("path", FORMS)
def test_every_form_without_a_login_is_sent_to_it_and_does_nothing(api: Api, path: str) -> None:
    if path in OPEN:
        return
    answer = Visitor(api).post(somewhere(path))
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/login")


def test_a_static_file_is_kept_by_its_hash_and_what_is_no_part_of_a_page_is_not_served(api: Api) -> None:
    for path in filter(Path.is_file, STATIC.rglob("*")):
        name = str(path.relative_to(STATIC))
        answer = api.http.get(static_url(name))
        if path.suffix in {".css", ".js", ".svg", ".png"}:
            assert (answer.status_code, answer.content) == (200, path.read_bytes()), name
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            stale = api.http.get(f"/console/static/{name}?v=000000000000")
            assert stale.headers["cache-control"] == "no-cache"
        else:
            assert answer.status_code == 404, name


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd", "vendored"])
def test_nothing_but_static_files_is_served(api: Api, name: str) -> None:
    answer = api.http.get(f"/console/static/{name}")
    assert answer.status_code == 404
    assert answer.headers["cache-control"] == NOT_KEPT
