"""``counterfoil users``: who is added may log in with what was printed, and who is revoked may not."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from typing import NamedTuple

import pytest

from config.settings import settings
from orchestrator.cli.root import app, run
from orchestrator.store.people import PeopleStore
from tests.integration.console_support import Visitor
from tests.integration.http_support import MERCHANT, Api, served

pytestmark = pytest.mark.integration

PAGE = "/console/callbacks"
GIVEN = "a long enough passphrase"


@pytest.fixture(scope="module")
def api(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with served(postgres_url, tmp_path_factory.mktemp("logs")) as api:
        yield api


class Done(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


Users = Callable[..., Done]


@pytest.fixture
def users(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Users]:
    """Runs ``counterfoil users …`` in this process: a process for each would take most of the time."""
    for name in [name for name in os.environ if name.startswith(("COUNTERFOIL_", "ADYEN_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COUNTERFOIL_DATABASE_URL", api.database_url)
    monkeypatch.setenv("COUNTERFOIL_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("COUNTERFOIL_MERCHANT_ACCOUNT", MERCHANT)
    settings.cache_clear()

    def ran(*arguments: str, typed: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", StringIO(typed))
        status = run(app, ["users", *arguments])
        return Done(status, *capsys.readouterr())

    yield ran
    settings.cache_clear()


def may_log_in(api: Api, name: str, password: str) -> bool:
    return Visitor(api).log_in(name, password).status_code == 303


def test_what_was_printed_once_opens_the_console_until_the_person_is_revoked(api: Api, users: Users) -> None:
    made = users("add", "Anna", "--role", "operate", "--as", "the boss")
    assert made.returncode == 0, made.stderr
    password = made.stdout.strip()
    someone = Visitor(api)
    assert someone.log_in("anna", password).status_code == 303
    assert "operate · HarbourBakery" in someone.get(PAGE).text
    [listed] = json.loads(users("list", "--json").stdout)
    assert (listed["name"], listed["created_by"], listed["revoked_at"]) == ("anna", "the boss", None)
    assert not {"password_hash", "form_secret"} & set(listed)
    assert users("revoke", "anna").returncode == 0
    assert someone.get(PAGE).status_code == 303
    assert not may_log_in(api, "anna", password)
    again = users("revoke", "anna")
    assert again.returncode == 1
    assert "counterfoil users list" in again.stderr


def test_a_name_is_given_once_for_good(users: Users) -> None:
    assert users("add", "bert", "--json").returncode == 0
    users("revoke", "bert")
    again = users("add", "BERT")
    assert again.returncode == 1
    assert "one person for good" in again.stderr


def test_a_password_that_is_given_is_read_and_never_printed(api: Api, users: Users) -> None:
    made = users("add", "clara", "--password-stdin", "--json", typed=GIVEN + "\n")
    assert made.returncode == 0, made.stderr
    assert GIVEN not in made.stdout + made.stderr
    assert "password" not in json.loads(made.stdout)
    assert may_log_in(api, "clara", GIVEN)


def test_a_new_password_ends_the_sessions_and_the_old_password(api: Api, users: Users) -> None:
    users("add", "dora", "--password-stdin", typed=GIVEN + "\n")
    someone = Visitor(api)
    someone.log_in("dora", GIVEN)
    made = json.loads(users("password", "dora", "--json").stdout)
    assert someone.get(PAGE).status_code == 303
    assert not may_log_in(api, "dora", GIVEN)
    assert may_log_in(api, "dora", made["password"])
    assert users("password", "nobody-here").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "typed"),
    [
        (("add", "no spaces please"), ""),
        (("add", "<script>"), ""),
        (("add", "x" * 81), ""),
        (("add", "short", "--password-stdin"), "too short\n"),
        (("add", "empty", "--password-stdin"), ""),
    ],
)
def test_what_cannot_be_a_name_or_a_password_is_refused_in_one_sentence(
    api: Api, users: Users, arguments: tuple[str, ...], typed: str
) -> None:
    refused = users(*arguments, typed=typed)
    assert refused.returncode == 1
    assert refused.stderr.startswith("counterfoil: ")
    assert len(refused.stderr.strip().splitlines()) == 1
    assert PeopleStore(api.database).by_name(arguments[1]) is None
