"""Who is let into the console, for how long, and whose forms are taken."""

import re
from collections.abc import Iterator

import httpx
import pytest

from orchestrator.keys import digest_of
from orchestrator.store.people import SESSION_IDLE_S, SESSION_MAX_S, PeopleStore
from orchestrator.web.console.guard import FORM_MAX_BYTES, HEADERS
from orchestrator.web.console.who import COOKIE
from tests.integration.console_support import PASSWORD, Visitor, person, text_of, visitor
from tests.integration.http_support import OTHER_MERCHANT, Api, served, serving

pytestmark = pytest.mark.integration

#: A page that every role sees, and a form that every role sends.
PAGE, FORM = "/console/health", "/console/logout"


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


def token_of(answer: httpx.Response) -> str:
    found = re.match(rf"{COOKIE}=([^;]*);", answer.headers["set-cookie"])
    assert found
    return found[1]


def is_in(someone: Visitor) -> bool:
    answer = someone.get(PAGE)
    assert answer.status_code in {200, 303}
    return answer.status_code == 200


# -- logging in --------------------------------------------------------------------------------------------------------


def test_who_gives_name_and_password_is_let_in_and_sent_where_they_wanted_to_go(api: Api) -> None:
    someone = Visitor(api)
    asked = someone.get(PAGE)
    assert (asked.status_code, asked.headers["location"]) == (303, "/console/login?next=%2Fconsole%2Fhealth")
    form = someone.get(asked.headers["location"])
    assert 'name="next" value="/console/health"' in form.text
    answer = someone.log_in(person(api).upper(), next=PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, PAGE)
    assert is_in(someone)
    assert someone.get("/console/login").status_code == 303


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites_and_of_other_paths(api: Api) -> None:
    kept = Visitor(api).log_in(person(api)).headers["set-cookie"]
    flags = {part.strip().lower() for part in kept.split(";")[1:]}
    assert flags == {"httponly", "samesite=strict", "path=/console", f"max-age={SESSION_MAX_S}"}


def test_the_cookie_stays_off_plain_lines_where_the_browser_came_by_https(api: Api) -> None:
    host = api.url.removeprefix("http://")
    someone = Visitor(api)
    answer = someone.post("/console/login", {"name": person(api), "password": PASSWORD}, origin=f"https://{host}")
    assert "Secure" in answer.headers["set-cookie"]


def test_every_login_makes_a_token_of_its_own_and_the_one_before_it_is_worth_nothing(api: Api) -> None:
    name, someone = person(api), Visitor(api)
    someone.http.cookies.set(COOKIE, "chosen-by-somebody-else", path="/console")
    first = token_of(someone.log_in(name))
    assert first != "chosen-by-somebody-else"
    second = token_of(Visitor(api, token=first).log_in(name))
    assert second != first
    assert not is_in(Visitor(api, token=first))
    assert not is_in(Visitor(api, token="chosen-by-somebody-else"))
    assert is_in(Visitor(api, token=second))


def test_an_unknown_name_and_a_wrong_password_are_answered_alike(api: Api) -> None:
    known, unknown = person(api, name="somebody-1"), "somebody-2"
    wrong = Visitor(api).log_in(known, "not the password")
    nobody = Visitor(api).log_in(unknown, "not the password")
    assert wrong.status_code == nobody.status_code == 401
    assert wrong.text.replace(known, unknown) == nobody.text
    of_their_own = {"date": "", "x-request-id": ""}
    assert {**wrong.headers, **of_their_own} == {**nobody.headers, **of_their_own}


def test_neither_a_password_nor_a_token_is_in_the_database(api: Api) -> None:
    token = token_of(Visitor(api).log_in(person(api)))
    stored = [
        str(value)
        for table in ("people", "console_sessions")
        for row in api.rows.execute(f"SELECT * FROM {table}").fetchall()
        for value in row.values()
    ]
    assert digest_of(token) in stored
    assert not [text for text in stored if token in text or PASSWORD in text]


def test_guessing_one_name_is_slowed_down_and_neither_its_session_nor_another_name_is(api: Api) -> None:
    victim = visitor(api)
    guesser = Visitor(api)
    answers = [guesser.log_in(victim.name, "x").status_code for _ in range(11)]
    assert answers == [401] * 10 + [429]
    refused = Visitor(api).log_in(victim.name)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "300")
    assert is_in(victim)
    assert Visitor(api).log_in(person(api)).status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://elsewhere.example/console",
        "//elsewhere.example/console",
        "/\\elsewhere.example/console",
        "/console/../\\elsewhere.example",
        "/consolefake",
        "/v1/payments",
        "javascript:alert(1)",
        "/console\r\nset-cookie: a=b",
        "http:///console",
        "/console//..//..//elsewhere.example",
    ],
)
def test_nobody_is_sent_out_of_the_console(api: Api, elsewhere: str) -> None:
    someone = visitor(api)
    answer = someone.http.get("/console/login", params={"next": elsewhere})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")
    assert 'name="next" value="/console"' in Visitor(api).http.get("/console/login", params={"next": elsewhere}).text


def test_a_link_on_another_site_arrives_although_the_browser_kept_the_cookie_back_at_first(api: Api) -> None:
    first = Visitor(api).get(PAGE, **{"sec-fetch-site": "cross-site"})
    assert first.status_code == 200
    assert f'content="0;url={PAGE}"' in first.text
    assert is_in(visitor(api))


# -- how long it lasts -------------------------------------------------------------------------------------------------


def moved(api: Api, someone: Visitor, column: str, seconds: int) -> None:
    statement = f"UPDATE console_sessions SET {column} = {column} - %s * interval '1 s' WHERE token_hash = %s"
    assert api.rows.execute(statement, [seconds, digest_of(someone.token)]).rowcount == 1


def test_a_session_ends_when_it_is_not_used_for_an_hour(api: Api) -> None:
    someone = visitor(api)
    moved(api, someone, "seen_at", SESSION_IDLE_S - 60)
    assert is_in(someone)  # and is used, now
    moved(api, someone, "seen_at", SESSION_IDLE_S - 60)
    assert is_in(someone)
    moved(api, someone, "seen_at", SESSION_IDLE_S + 1)
    assert not is_in(someone)


def test_a_session_ends_after_twelve_hours_however_busy(api: Api) -> None:
    someone = visitor(api)
    moved(api, someone, "expires_at", SESSION_MAX_S - 60)
    assert is_in(someone)
    moved(api, someone, "expires_at", 61)
    assert not is_in(someone)


def test_a_session_that_has_ended_is_cleared_away_by_the_next_login(api: Api) -> None:
    old = visitor(api)
    moved(api, old, "expires_at", SESSION_MAX_S + 1)
    visitor(api)
    assert api.rows.execute("SELECT 1 FROM console_sessions WHERE expires_at < now()").fetchone() is None


def test_who_logs_out_is_out_and_the_token_is_worth_nothing(api: Api) -> None:
    someone = visitor(api)
    answer = someone.post(FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert not is_in(Visitor(api, token=someone.token))


def test_who_is_revoked_is_out_at_once_and_cannot_come_back(api: Api) -> None:
    someone = visitor(api)
    assert PeopleStore(api.database).revoke(someone.name)
    assert not is_in(someone)
    assert Visitor(api).log_in(someone.name).status_code == 401


def test_a_new_password_ends_what_the_old_one_opened(api: Api) -> None:
    someone = visitor(api)
    assert PeopleStore(api.database).set_password(someone.name, "scrypt$15$8$3$AA==$AA==", "another")
    assert not is_in(someone)


def test_a_login_that_was_checked_before_the_person_was_revoked_opens_nothing(api: Api) -> None:
    store = PeopleStore(api.database)
    row = store.by_name(person(api))
    assert row
    store.revoke(row["name"])
    assert not store.open_session("a" * 64, row["id"], row["password_hash"], "secret")


# -- whose forms are taken ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("csrf", [None, "", "wrong", "ÿ"])
def test_a_form_without_the_secret_of_its_session_is_refused(api: Api, csrf: str | None) -> None:
    someone = visitor(api)
    fields = {} if csrf is None else {"csrf": csrf}
    answer = someone.http.post(FORM, data=fields, headers={"origin": api.url})
    assert answer.status_code == 403
    assert "Nothing was done" in answer.text
    assert is_in(someone)


def test_the_secret_of_another_session_is_no_secret(api: Api) -> None:
    someone, other = visitor(api), visitor(api)
    assert someone.post(FORM, {"csrf": other.csrf}).status_code == 403
    assert is_in(someone)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"origin": "null"},
        {"origin": "https://elsewhere.example"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"origin": "OURS", "sec-fetch-site": "cross-site"},
        {"origin": "https://elsewhere.example", "sec-fetch-site": "same-origin"},
    ],
)
@pytest.mark.parametrize("path", [FORM, "/console/login"])
def test_a_form_from_elsewhere_is_refused_also_with_the_right_secret(api: Api, path: str, said: dict[str, str]) -> None:
    someone = visitor(api)
    headers = {name: value.replace("OURS", api.url) for name, value in said.items()}
    fields = {"csrf": someone.csrf, "name": someone.name, "password": PASSWORD}
    answer = someone.http.post(path, data=fields, headers=headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert is_in(someone)


def test_a_form_that_a_browser_vouches_for_by_either_header_is_taken(api: Api) -> None:
    for said in ({"origin": api.url}, {"sec-fetch-site": "same-origin"}):
        someone = visitor(api)
        assert someone.http.post(FORM, data={"csrf": someone.csrf}, headers=said).status_code == 303


def test_a_form_beyond_every_size_is_refused(api: Api) -> None:
    someone = visitor(api)
    answer = someone.post(FORM, {"filler": "x" * FORM_MAX_BYTES})
    assert answer.status_code == 413
    assert {name.lower() for name in HEADERS} <= set(answer.headers)
    assert is_in(someone)


def test_what_somebody_else_signed_is_not_said_in_our_name(api: Api) -> None:
    someone = visitor(api)
    someone.http.cookies.set("counterfoil_said", "WyJQYXkgdXMiLCBmYWxzZV0=.0000", path="/console")
    assert "Pay us" not in someone.get(PAGE).text


# -- pages of what went wrong ------------------------------------------------------------------------------------------


def test_a_page_that_is_not_there_says_what_to_do_with_the_navigation_around_it(api: Api) -> None:
    answer = visitor(api).get("/console/nothing/here")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Look for it with the search" in text_of(answer)


def test_a_part_of_a_page_whose_session_has_ended_has_the_whole_page_ask(api: Api) -> None:
    answer = Visitor(api).get(PAGE, **{"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-refresh"]) == (204, "true")


def test_what_the_console_answers_is_kept_nowhere_and_framed_nowhere(api: Api) -> None:
    for answer in (visitor(api).get(PAGE), Visitor(api).get("/console/login"), visitor(api).get("/console/nothing")):
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


# -- single sign-on ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind_proxy(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The same database, served behind a proxy at this machine's address."""
    settings = {"COUNTERFOIL_CONSOLE_USER_HEADER": "X-Forwarded-User"}
    settings["COUNTERFOIL_CONSOLE_TRUSTED_PROXIES"] = "10.9.8.7,127.0.0.0/8"
    with serving(api.database_url, tmp_path_factory.mktemp("logs"), **settings) as served_behind:
        yield served_behind


def test_whom_a_trusted_proxy_names_is_in_without_a_cookie_and_has_nothing_to_log_out_of(behind_proxy: Api) -> None:
    name = person(behind_proxy, name="vouched-for@shop.example")
    answer = Visitor(behind_proxy).get(PAGE, **{"x-forwarded-user": name.title()})
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert name in answer.text
    assert "Log out" not in answer.text


def test_forms_need_their_secret_behind_a_proxy_too(behind_proxy: Api) -> None:
    name, other = person(behind_proxy), person(behind_proxy)
    page = Visitor(behind_proxy).get(PAGE, **{"x-forwarded-user": name})
    assert page.status_code == 200
    wrong = Visitor(behind_proxy).post(FORM, {"csrf": "wrong"}, **{"x-forwarded-user": name})
    assert wrong.status_code == 403
    row = PeopleStore(behind_proxy.database).by_name(other)
    assert row
    assert (
        Visitor(behind_proxy).post(FORM, {"csrf": row["form_secret"]}, **{"x-forwarded-user": name}).status_code == 403
    )


def test_a_name_that_nobody_has_is_told_so_and_not_asked_for_a_password(behind_proxy: Api) -> None:
    revoked = person(behind_proxy)
    PeopleStore(behind_proxy.database).revoke(revoked)
    for name in ("nobody-of-ours", revoked, ""):
        answer = Visitor(behind_proxy).get(PAGE, **{"x-forwarded-user": name})
        assert answer.status_code == 403
        assert "counterfoil users add" in text_of(answer)


def test_two_names_at_once_vouch_for_nobody(behind_proxy: Api) -> None:
    name = person(behind_proxy)
    headers = [("x-forwarded-user", name), ("x-forwarded-user", name)]
    assert behind_proxy.http.get(PAGE, headers=headers).status_code == 403


def test_the_header_is_ignored_where_no_proxy_is_trusted(api: Api) -> None:
    assert not is_in_with_header(api, person(api))


@pytest.fixture(scope="module")
def proxy_elsewhere(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    settings = {"COUNTERFOIL_CONSOLE_USER_HEADER": "X-Forwarded-User"}
    settings["COUNTERFOIL_CONSOLE_TRUSTED_PROXIES"] = "10.9.8.7"
    settings["COUNTERFOIL_ENVIRONMENT"] = "live"
    with serving(api.database_url, tmp_path_factory.mktemp("logs"), **settings) as served_elsewhere:
        yield served_elsewhere


def test_the_header_is_ignored_from_an_address_that_is_not_the_proxys(proxy_elsewhere: Api) -> None:
    assert not is_in_with_header(proxy_elsewhere, person(proxy_elsewhere))
    forwarded = {"x-forwarded-user": person(proxy_elsewhere), "x-forwarded-for": "10.9.8.7"}
    assert Visitor(proxy_elsewhere).get(PAGE, **forwarded).status_code == 303


def test_on_live_the_cookie_stays_off_plain_lines_whatever_the_browser_says(proxy_elsewhere: Api) -> None:
    assert "Secure" in Visitor(proxy_elsewhere).log_in(person(proxy_elsewhere)).headers["set-cookie"]


def is_in_with_header(api: Api, name: str) -> bool:
    return Visitor(api).get(PAGE, **{"x-forwarded-user": name}).status_code == 200


# -- whose objects -----------------------------------------------------------------------------------------------------


def test_a_person_is_of_one_merchant_account_and_their_page_says_which(api: Api) -> None:
    assert OTHER_MERCHANT in visitor(api, merchant_account=OTHER_MERCHANT).get(PAGE).text


# -- what no person sends ----------------------------------------------------------------------------------------------


def test_a_nul_is_refused_wherever_it_hides_and_no_page_breaks_over_it(api: Api) -> None:
    someone = visitor(api)
    assert someone.get("/console/charts?period=%00").status_code == 400
    assert someone.get("/console/pay%00ments").status_code == 400
    assert someone.post("/console/login", {"name": "an\0na", "password": "x"}).status_code == 400


def test_a_name_of_any_characters_is_answered_as_any_unknown_name(api: Api) -> None:
    for name in ("ünïcödé", "💳", "a" * 200, "'; DROP TABLE people; --", "<b>"):
        answer = Visitor(api).log_in(name, "x")
        assert answer.status_code == 401
        assert "<b>" not in answer.text
    assert Visitor(api).log_in("a" * 201, "x").status_code == 422
