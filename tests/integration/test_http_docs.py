"""The description of the API for people: shown without a key, and without a word to any other host."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from tests.integration.http_support import Api, served

pytestmark = pytest.mark.integration

POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
URL_ATTRIBUTES = {"href", "src", "srcset", "action", "formaction", "data", "poster", "background", "ping"}


class Page(HTMLParser):
    """What a page loads, and what it would run from its own text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.urls: list[tuple[str, str]] = []
        self.inline: list[str] = []
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tag = tag
        self.urls += [(tag, value or "") for name, value in attrs if name in URL_ATTRIBUTES]
        self.inline += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._tag = ""

    def handle_data(self, data: str) -> None:
        if self._tag in {"script", "style"}:
            self.inline.append(data)


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


def shown(api: Api) -> httpx.Response:
    assert "authorization" not in api.http.headers
    answer = api.http.get("/docs")
    assert answer.status_code == 200
    return answer


def loaded(api: Api) -> dict[str, httpx.Response]:
    """What a browser fetches for the page, by file name."""
    page = shown(api)
    urls = [urljoin(str(page.url), url) for _, url in Page(page.text).urls if not url.startswith("data:")]
    return {url.rpartition("/")[2]: api.http.get(url) for url in urls}


def test_the_page_is_shown_without_a_key_and_asked_for_again_each_time(api: Api) -> None:
    answer = shown(api)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


def test_the_script_and_the_style_of_the_page_are_served_with_their_types(api: Api) -> None:
    answers = loaded(api)
    assert {name: (answer.status_code, answer.headers["content-type"]) for name, answer in answers.items()} == {
        "swagger-ui.css": (200, "text/css; charset=utf-8"),
        "swagger-ui-bundle.js": (200, "text/javascript; charset=utf-8"),
        "init.js": (200, "text/javascript; charset=utf-8"),
    }
    assert "SwaggerUIBundle" in answers["swagger-ui-bundle.js"].text
    assert ".swagger-ui" in answers["swagger-ui.css"].text


def test_what_has_its_version_in_its_path_is_kept_for_a_year_and_the_rest_is_not(api: Api) -> None:
    caching = {name: answer.headers["cache-control"] for name, answer in loaded(api).items()}
    forever = "public, max-age=31536000, immutable"
    assert caching == {"swagger-ui.css": forever, "swagger-ui-bundle.js": forever, "init.js": "no-cache"}


def test_no_url_of_the_page_leaves_the_host_and_nothing_runs_from_its_text(api: Api) -> None:
    page = Page(shown(api).text)
    assert [tag for tag, _ in page.urls] == ["link", "link", "script", "script"]
    assert not [url for _, url in page.urls if url != "data:," and (urlsplit(url).scheme or urlsplit(url).netloc)]
    assert not [text for text in page.inline if text.strip()]


def test_the_script_of_our_own_shows_the_description_of_this_host_and_no_other(api: Api) -> None:
    script = loaded(api)["init.js"].text
    assert "//" not in re.sub(r"(?<=, )// .*", "", script)
    assert "validatorUrl: null" in script
    (url,) = re.findall(r'\burl: "([^"]+)"', script)
    assert api.http.get(urljoin(str(shown(api).url), url)).json()["info"]["title"] == "Counterfoil"


def test_browsers_are_told_to_load_from_this_host_alone(api: Api) -> None:
    for answer in (shown(api), *loaded(api).values()):
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


def test_no_other_file_is_served_beside_the_page(api: Api) -> None:
    folder = str(loaded(api)["swagger-ui.css"].url).rpartition("/")[0]
    for path in (f"{folder}/MANIFEST.json", f"{folder}/..%2f..%2fapp.py", f"{api.url}/docs/app.py"):
        assert api.http.get(path).status_code == 404


def test_the_description_lists_the_api_and_not_its_own_page(api: Api) -> None:
    paths = api.http.get("/openapi.json").json()["paths"]
    assert "/v1/payments" in paths
    assert not [path for path in paths if path.startswith("/docs")]
