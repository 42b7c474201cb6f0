"""A caller names the URL: nobody is reached through us who could not be reached from outside."""

import socket
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from orchestrator.caller import Caller, may_be_told

SECRET = "whsec_" + "QUFB" * 8
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # carrier-grade NAT
    "::1",
    "fd00::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::127.0.0.1",  # translated
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
]
NEVER = [
    "169.254.169.254",  # where clouds keep credentials
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "fe80::1",
    "224.0.0.1",
    "ff02::1",
    "0.0.0.0",
    "::",
    "::ffff:0.0.0.0",
    "240.0.0.1",
    "255.255.255.255",
]
PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::93.184.215.14", "::ffff:93.184.215.14"]


@pytest.mark.parametrize("address", [*PRIVATE, *NEVER])
def test_an_address_that_is_not_public_is_not_told(address: str) -> None:
    assert not may_be_told(address, allow_private=False)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_told(address: str) -> None:
    assert may_be_told(address, allow_private=False)
    assert may_be_told(address, allow_private=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "::ffff:127.0.0.1"])
def test_the_setting_lets_private_addresses_be_told(address: str) -> None:
    assert may_be_told(address, allow_private=True)


@pytest.mark.parametrize("address", [address for address in NEVER if not address.startswith(("24", "25"))])
def test_no_setting_lets_credentials_of_a_cloud_or_everybody_at_once_be_told(address: str) -> None:
    assert not may_be_told(address, allow_private=True)


@pytest.fixture
def nothing_listens(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every attempt to connect, none of which is made."""
    tried: list[object] = []

    def connect(address: object, *_: object, **__: object) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    return tried


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "169.254.169.254",
        "[::ffff:127.0.0.1]",
        "localhost",
        "2130706433",  # 127.0.0.1 as one number
        "0x7f.1",
        "0177.0.0.1",
        "0",
    ],
)
def test_no_spelling_of_a_private_address_is_connected_to(host: str, nothing_listens: list[object]) -> None:
    caller = Caller([SECRET], allow_private=False, https_only=False)

    reply = caller.post(f"http://{host}:8080/hooks", "id", NOW, "{}")

    assert (reply.delivered, reply.error) in {(False, why) for why in ("forbidden_address", "name_unknown", "bad_url")}
    assert nothing_listens == []


@pytest.mark.parametrize("addresses", [["10.1.2.3"], ["93.184.215.14", "10.1.2.3"], ["10.1.2.3", "93.184.215.14"]])
def test_a_name_that_resolves_to_a_private_address_is_refused(
    addresses: Sequence[str], nothing_listens: list[object]
) -> None:
    caller = Caller([SECRET], allow_private=False, https_only=False, resolve=lambda *_: addresses)

    assert caller.post("https://shop.example/hooks", "id", NOW, "{}").error == "forbidden_address"
    assert nothing_listens == []


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(nothing_listens: list[object]) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    caller = Caller([SECRET], allow_private=False, https_only=False, resolve=lambda *_: next(answers))

    assert caller.post("https://shop.example/hooks", "id", NOW, "{}").error == "connect_failed"
    assert nothing_listens == [("93.184.215.14", 443)]
    assert list(answers) == [["127.0.0.1"]]  # the name was asked for once


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://shop.example/hooks", "not_https"),
        ("ftp://shop.example/hooks", "bad_url"),
        ("https://", "bad_url"),
        ("https://shop.example:99999/", "bad_url"),
    ],
)
def test_on_live_only_https_is_told(url: str, error: str, nothing_listens: list[object]) -> None:
    caller = Caller([SECRET], allow_private=True, https_only=True)

    assert caller.post(url, "id", NOW, "{}").error == error
    assert nothing_listens == []


def test_nothing_is_told_unsigned(nothing_listens: list[object]) -> None:
    caller = Caller([], allow_private=True, https_only=False)

    assert caller.post("https://shop.example/hooks", "id", NOW, "{}").error == "no_secret"
    assert nothing_listens == []


def test_a_name_that_does_not_resolve_is_no_crash() -> None:
    def resolve(*_: object) -> Sequence[str]:
        raise socket.gaierror

    caller = Caller([SECRET], allow_private=True, https_only=False, resolve=resolve)

    assert caller.post("https://shop.example/hooks", "id", NOW, "{}").error == "name_unknown"
