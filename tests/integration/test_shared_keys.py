"""Shared keys on a real database: each kept once, by reference, until it is dropped."""

import secrets
from collections.abc import Iterator

import pytest

from orchestrator.store.shared_keys import KeyPlace, KeyRings, SharedKeyStore, place_of
from orchestrator.store.words import KeyLevel
from tests.integration.store_support import MERCHANT, Shop, shop_in

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture
def keys(shop: Shop) -> SharedKeyStore:
    return SharedKeyStore(shop.database)


def a_terminal() -> KeyPlace:
    return KeyPlace(KeyLevel.TERMINAL, MERCHANT, f"V400m-{secrets.randbelow(10**9):09d}")


PLACES = [
    KeyPlace(KeyLevel.COMPANY),
    KeyPlace(KeyLevel.MERCHANT, MERCHANT),
    KeyPlace(KeyLevel.STORE, MERCHANT, "Quay"),
    a_terminal(),
]


def add(keys: SharedKeyStore, place: KeyPlace, version: int, passphrase: str = "env:LANE_KEY") -> bool:
    row = keys.add(place, identifier="lane", version=version, passphrase=passphrase, created_by="Ann")
    return bool(row["created"])


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.level.value)
def test_a_key_is_kept_once_and_takes_the_latest_reference_to_its_passphrase(
    keys: SharedKeyStore, place: KeyPlace
) -> None:
    assert add(keys, place, 1)
    assert not add(keys, place, 1)
    assert not add(keys, place, 1, "file:/run/secrets/lane_key")
    assert add(keys, place, 2)
    found = keys.at(place)
    assert [(row["version"], row["passphrase"]) for row in found] == [
        (2, "env:LANE_KEY"),
        (1, "file:/run/secrets/lane_key"),
    ]
    assert {place_of(row) for row in found} == {place}


def test_a_dropped_key_is_gone_and_may_come_back(keys: SharedKeyStore) -> None:
    place = a_terminal()
    assert not keys.drop(place, "lane", 1)
    add(keys, place, 1)
    assert not keys.drop(place, "till", 1)
    assert not keys.drop(KeyPlace(KeyLevel.TERMINAL, "Another", place.scope), "lane", 1)
    assert keys.drop(place, "lane", 1)
    assert keys.at(place) == []
    assert add(keys, place, 1)


def test_a_merchant_account_sees_its_own_keys_and_the_companys(keys: SharedKeyStore) -> None:
    add(keys, KeyPlace(KeyLevel.COMPANY), 5)
    add(keys, KeyPlace(KeyLevel.MERCHANT, "Another"), 5)
    add(keys, KeyPlace(KeyLevel.MERCHANT, MERCHANT), 5)
    assert {row["merchant_account"] for row in keys.all(MERCHANT)} == {None, MERCHANT}
    assert {row["merchant_account"] for row in keys.all()} == {None, MERCHANT, "Another"}


def test_the_ring_of_a_terminal_is_made_of_what_is_kept(keys: SharedKeyStore) -> None:
    place = a_terminal()
    for version in (1, 2):
        add(keys, place, version, f"env:LANE_{version}")
    rings = KeyRings(keys, lambda reference: f"passphrase of {reference}")
    ring = rings(place.scope or "", MERCHANT, None)
    assert [key.passphrase for key in ring.keys[:2]] == ["passphrase of env:LANE_2", "passphrase of env:LANE_1"]
