"""Shared keys at the platform: set, looked at afterwards, and never repeated by an error."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.management import ManagementApi, ManagementError, settings_path
from orchestrator.terminal_api.protection import SharedKey
from tests.integration.management_support import API_KEY, FakeManagement, management_api
from tests.protocol_vectors import body, message

pytestmark = pytest.mark.integration

PATH = settings_path("merchant", "HarbourBakery")
KEY = SharedKey("KeyLane3", 3, "Vector-Test#2025a")
OLD = {"identifier": "KeyLane3", "passphrase": "Another_Pass+Phrase1?", "version": 2}


@pytest.fixture
def fake() -> Iterator[FakeManagement]:
    with management_api() as listening:
        yield listening


@pytest.fixture
def api(fake: FakeManagement) -> Iterator[ManagementApi]:
    with ManagementApi("test", API_KEY, fake.url) as opened:
        yield opened


def failure(api: ManagementApi) -> ManagementError:
    with pytest.raises(ManagementError) as caught:
        api.set_key(PATH, KEY)
    assert KEY.passphrase not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize(
    ("level", "account", "scope", "expected"),
    [
        ("company", "Example Company", None, "/v3/companies/Example%20Company/terminalSettings"),
        ("merchant", "Shop_POS", None, "/v3/merchants/Shop_POS/terminalSettings"),
        ("store", "Shop_POS", "quay/1", "/v3/merchants/Shop_POS/stores/quay%2F1/terminalSettings"),
        ("store", "Shop_POS", "ST322LJ223223K5F4SQNR9XL5", "/v3/stores/ST322LJ223223K5F4SQNR9XL5/terminalSettings"),
        ("terminal", "Shop_POS", "V400m-324000123", "/v3/terminals/V400m-324000123/terminalSettings"),
    ],
)
def test_each_level_has_its_place(level: Any, account: str, scope: str | None, expected: str) -> None:
    assert settings_path(level, account, scope) == expected


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        settings_path("merchant", name)


def test_the_settings_of_the_vectors_are_read_and_written_as_they_are(fake: FakeManagement, api: ManagementApi) -> None:
    fake.settings[PATH] = message("management/terminal_settings")
    assert api.key_at(PATH) == KEY
    fake.settings[PATH]["nexo"]["encryptionKey"] = OLD
    assert api.set_key(PATH, KEY)
    assert fake.given == [message("management/terminal_settings_patch")]
    assert fake.settings[PATH] == message("management/terminal_settings")


def test_a_key_that_is_set_already_is_not_set_again(fake: FakeManagement, api: ManagementApi) -> None:
    assert api.set_key(PATH, KEY)
    assert not api.set_key(PATH, KEY)
    assert [method for method, _ in fake.asked] == ["GET", "PATCH", "GET", "GET"]


def test_it_is_asked_with_its_own_key_and_nothing_else(fake: FakeManagement, api: ManagementApi) -> None:
    fake.empty_answers = True
    assert api.set_key(PATH, KEY)
    assert {each["x-api-key"] for each in fake.headers} == {API_KEY}
    assert not any("authorization" in each for each in fake.headers)


def test_what_the_role_may_not_see_is_no_key_and_no_proof(fake: FakeManagement, api: ManagementApi) -> None:
    fake.hidden = ("encryptionKey",)
    assert api.key_at(PATH) is None
    error = failure(api)
    assert "Terminal settings Advanced read and write" in str(error)
    assert not error.unchanged


def test_another_key_than_the_one_that_was_set_is_noticed(fake: FakeManagement, api: ManagementApi) -> None:
    fake.keeps_other = OLD
    error = failure(api)
    assert "shows another one" in str(error)
    assert not error.unchanged


def test_settings_beside_the_key_that_went_are_noticed(fake: FakeManagement, api: ManagementApi) -> None:
    fake.settings[PATH] = {"nexo": {"eventUrls": {"eventLocalUrls": []}, "displayUrls": {}}}
    fake.forgets = "eventUrls"
    assert "nexo settings have changed: eventUrls" in str(failure(api))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "COUNTERFOIL_MANAGEMENT_API_KEY"),
        (403, "Terminal settings Advanced read and write"),
        (404, "check the names"),
        (422, "422, 02_002, field nexo.encryptionKey.passphrase: it does not take what was sent"),
        (429, "wait a minute"),
    ],
)
def test_a_refusal_is_told_without_a_word_that_may_repeat_the_secret(
    fake: FakeManagement, api: ManagementApi, status: int, said: str
) -> None:
    problem = json.loads(body("management/terminal_settings_error"))
    problem["invalidFields"] += [{"name": KEY.passphrase, "value": KEY.passphrase, "message": KEY.passphrase}, 7]
    problem |= {"title": KEY.passphrase, "detail": KEY.passphrase}
    fake.refuses["PATCH"] = (status, json.dumps(problem).encode())
    error = failure(api)
    assert said in str(error)
    assert error.unchanged


@pytest.mark.parametrize("status", [301, 408, 500, 503])
def test_what_is_no_refusal_leaves_it_open(fake: FakeManagement, api: ManagementApi, status: int) -> None:
    fake.refuses["PATCH"] = (status, KEY.passphrase.encode())
    error = failure(api)
    assert "is not known; run the command again" in str(error)
    assert not error.unchanged


def test_a_lost_answer_leaves_it_open(fake: FakeManagement, api: ManagementApi) -> None:
    fake.hangs_up = "PATCH"
    assert not failure(api).unchanged


def test_a_failed_look_afterwards_leaves_it_open_and_one_before_does_not(
    fake: FakeManagement, api: ManagementApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.refuses["GET"] = (500, b"")
    assert failure(api).unchanged
    del fake.refuses["GET"]
    patch = fake.patch
    monkeypatch.setattr(
        fake, "patch", lambda path, wanted: (patch(path, wanted), fake.refuses.update({"GET": (404, b"")}))
    )
    assert not failure(api).unchanged


@pytest.mark.parametrize("received", [b"[]", b"<html>", b'{"a": 1, "a": 2}'])
def test_an_answer_that_is_no_settings_is_told(fake: FakeManagement, api: ManagementApi, received: bytes) -> None:
    fake.refuses["GET"] = (200, received)
    assert "something else than settings" in str(failure(api))


@pytest.mark.parametrize(
    "nexo", [7, {}, {"encryptionKey": None}, {"encryptionKey": {"identifier": "K", "version": True}}]
)
def test_settings_of_another_shape_hold_no_key(fake: FakeManagement, api: ManagementApi, nexo: Any) -> None:
    fake.settings[PATH] = {"nexo": nexo}
    fake.hidden = ()
    assert api.key_at(PATH) is None


def test_nobody_there_changes_nothing() -> None:
    with ManagementApi("test", API_KEY, "http://127.0.0.1:9") as api:
        error = failure(api)
    assert error.unchanged
    assert "was not reached" in str(error)


def test_where_terminals_push_to_stays_as_it_is_when_a_key_is_set(fake: FakeManagement, api: ManagementApi) -> None:
    settings = message("management/terminal_settings_patch_event_urls")
    fake.settings[PATH] = message("management/terminal_settings_patch_event_urls")

    assert api.set_key(PATH, KEY)

    assert fake.settings[PATH]["nexo"]["eventUrls"] == settings["nexo"]["eventUrls"]
    assert fake.given == [message("management/terminal_settings_patch")]
