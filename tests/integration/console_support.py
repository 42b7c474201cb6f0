"""Visitors of the console: people with a role, logged in, as a browser would be; without a browser."""

import base64
import itertools
import json
import re
import ssl
from functools import cache
from html import unescape
from typing import Any

import httpx

from orchestrator.ids import new_id
from orchestrator.keys import digest_of
from orchestrator.passwords import hash_password, make_form_secret
from orchestrator.store.people import PeopleStore
from orchestrator.web.console.notices import COOKIE as SAID
from orchestrator.web.console.who import COOKIE, new_secret
from tests.integration.http_support import MERCHANT, Api

PASSWORD = "correct horse battery staple"
#: Not needed on plain lines; made once, since making one takes longer than most requests.
TRUST = ssl.create_default_context()
_numbers = itertools.count(1)


@cache
def password_hash() -> str:
    """One hash for everybody: each takes a good part of a second."""
    return hash_password(PASSWORD)


def person(api: Api, role: str = "viewer", merchant_account: str = MERCHANT, name: str | None = None) -> str:
    """Somebody who may log in; return the name."""
    name = name or f"{role}-{next(_numbers)}"
    row = {"id": new_id(), "name": name, "merchant_account": merchant_account, "role": role, "created_by": "test"}
    secrets = {"password_hash": password_hash(), "form_secret": make_form_secret()}
    PeopleStore(api.database).add({**row, **secrets})
    return name


class Visitor:
    """A browser without scripts: it keeps cookies, says where its forms come from, and follows redirects when told."""

    def __init__(self, api: Api, name: str = "", token: str = "", csrf: str = "") -> None:
        self.api, self.name, self.token, self.csrf = api, name, token, csrf
        # Nothing is kept open, so that nobody has to close it.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(base_url=api.url, trust_env=False, timeout=30, limits=limits, verify=TRUST)
        if token:
            self.http.cookies.set(COOKIE, token, path="/console")

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def post(self, path: str, fields: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        """Send a form as one of our own pages does."""
        given = {"csrf": self.csrf, **(fields or {})}
        return self.http.post(path, data=given, headers={"origin": self.api.url, **headers})

    def follow(self, answer: httpx.Response) -> httpx.Response:
        """Go where a form's answer sends us."""
        assert answer.status_code == 303, answer.text
        return self.http.get(answer.headers["location"])

    def log_in(self, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
        return self.post("/console/login", {"name": name, "password": password, **fields})


def visitor(api: Api, role: str = "viewer", merchant_account: str = MERCHANT) -> Visitor:
    """Somebody with this role who is logged in already."""
    name = person(api, role, merchant_account)
    store = PeopleStore(api.database)
    row = store.by_name(name)
    assert row
    token, csrf = new_secret(), new_secret()
    assert store.open_session(digest_of(token), row["id"], row["password_hash"], csrf)
    return Visitor(api, name, token, csrf)


def text_of(answer: httpx.Response) -> str:
    """What a reader of the page's main part sees, in one line."""
    main = answer.text.partition("<main")[2].partition(">")[2].partition("</main>")[0]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", main)).split())


def notice_of(answer: httpx.Response) -> str:
    """What the page to which an answer leads will say once."""
    value = answer.cookies[SAID].partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(value))[0])
