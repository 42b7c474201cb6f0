"""Which key seals and which open: by level and version, and by what the terminal was seen to have."""

from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest

from config.logs import configure_logs
from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.store import shared_keys
from orchestrator.store.shared_keys import KeyRings, ring_rows
from orchestrator.terminal_api.protection import SharedKey

POI_ID, MERCHANT, STORE = "V400m-324000123", "HarbourBakery", "Quay"
SECRETS = {f"env:KEY_{number}": f"Passphrase#{number}" for number in range(10)}


def row(
    number: int, level: str, version: int, merchant: str | None = MERCHANT, scope: str | None = None
) -> dict[str, Any]:
    """A row as the database gives it; ``number`` is its id and names its passphrase."""
    where = {"level": level, "merchant_account": None if level == "company" else merchant, "scope": scope}
    return {"id": number, **where, "identifier": "lane", "version": version, "passphrase": f"env:KEY_{number}"}


COMPANY, MERCHANTS = row(1, "company", 9), row(2, "merchant", 4)
STORES, OLD, NEW = (
    row(3, "store", 1, scope=STORE),
    row(4, "terminal", 2, scope=POI_ID),
    row(5, "terminal", 3, scope=POI_ID),
)
ELSEWHERE = [
    row(6, "merchant", 99, merchant="Another"),
    row(7, "store", 99, scope="Hill"),
    row(8, "store", 99, merchant="Another", scope=STORE),
    row(9, "terminal", 99, scope="V400m-324000124"),
]


def test_the_most_specific_level_goes_first_and_in_it_the_newest_version() -> None:
    rows = [COMPANY, *ELSEWHERE, OLD, MERCHANTS, STORES, NEW]
    assert ring_rows(rows, POI_ID, MERCHANT, STORE) == [NEW, OLD, STORES, MERCHANTS, COMPANY]
    assert ring_rows(rows, POI_ID, MERCHANT, None) == [NEW, OLD, MERCHANTS, COMPANY]
    assert ring_rows(rows, "P400-1", "Nobody", STORE) == [COMPANY]
    assert ring_rows(ELSEWHERE, POI_ID, MERCHANT, STORE) == []


def test_of_two_identifiers_with_one_version_the_one_added_last_goes_first() -> None:
    renamed = {**row(7, "merchant", 4), "identifier": "till"}
    assert ring_rows([MERCHANTS, renamed], POI_ID, MERCHANT, None) == [renamed, MERCHANTS]


class Kept:
    """A store of these rows: counts how often it is read, and may be away."""

    def __init__(self, *rows: Mapping[str, Any]) -> None:
        self.rows = list(rows)
        self.reads = 0
        self.away = False

    def all(self) -> list[Mapping[str, Any]]:
        self.reads += 1
        if self.away:
            raise StoreUnavailable
        return list(self.rows)


class Vault:
    """Secrets by reference; counts how often one is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.missing: set[str] = set()

    def __call__(self, reference: str) -> str:
        self.asked.append(reference)
        if reference in self.missing:
            raise ConfigurationError(f"{reference} is empty or not there")
        return SECRETS[reference]


def rings_of(kept: Kept, vault: Vault | None = None, passed_s: list[float] | None = None) -> KeyRings:
    store: Any = kept
    clock = passed_s or [0.0]
    return KeyRings(store, vault or Vault(), clock_s=lambda: clock[0])


def versions(rings: KeyRings, poi_id: str = POI_ID) -> list[int]:
    return [key.version for key in rings(poi_id, MERCHANT, STORE).keys]


def test_rows_are_read_at_most_every_five_seconds_and_each_secret_once() -> None:
    clock = [0.0]
    kept, vault = Kept(NEW), Vault()
    rings = rings_of(kept, vault, clock)
    assert rings(POI_ID, MERCHANT, STORE).sealing == SharedKey("lane", 3, "Passphrase#5")
    kept.rows.append(row(6, "terminal", 4, scope=POI_ID))
    assert versions(rings) == [3]
    clock[0] += shared_keys.FRESH_S + 0.1
    assert versions(rings) == [4, 3]
    assert kept.reads == 2
    assert sorted(vault.asked) == ["env:KEY_5", "env:KEY_6"]


def test_no_key_makes_an_empty_ring() -> None:
    assert not rings_of(Kept(*ELSEWHERE))(POI_ID, MERCHANT, STORE)


def test_a_database_that_is_away_leaves_what_was_read() -> None:
    clock = [0.0]
    kept = Kept(NEW)
    rings = rings_of(kept, passed_s=clock)
    assert versions(rings) == [3]
    kept.away = True
    clock[0] += 60
    assert versions(rings) == [3]
    with pytest.raises(StoreUnavailable):
        versions(rings_of(kept, passed_s=clock))


def test_a_key_whose_secret_is_missing_is_left_out_and_said_so_without_it() -> None:
    log, vault = StringIO(), Vault()
    configure_logs("json", log)
    vault.missing = {"env:KEY_5"}
    assert versions(rings_of(Kept(NEW, OLD), vault)) == [2]
    assert "env:KEY_5 is empty or not there" in log.getvalue()
    assert "lane" not in log.getvalue()
    vault.missing.add("env:KEY_4")
    with pytest.raises(ConfigurationError, match="env:KEY_4"):
        versions(rings_of(Kept(NEW, OLD), vault))


def test_a_secret_that_came_late_is_found() -> None:
    vault = Vault()
    vault.missing = {"env:KEY_5"}
    rings = rings_of(Kept(NEW, OLD), vault)
    assert versions(rings) == [2]
    vault.missing.clear()
    assert versions(rings) == [3, 2]


# -- rotation ----------------------------------------------------------------------------------------------------------


def test_a_terminal_that_still_has_the_old_key_is_met_with_it_after_one_refusal() -> None:
    rings = rings_of(Kept(OLD, NEW))
    rings.refused(POI_ID, rings(POI_ID, MERCHANT, STORE))
    assert versions(rings) == [2, 3]
    rings.worked(POI_ID, rings(POI_ID, MERCHANT, STORE).keys[0])
    assert versions(rings) == [2, 3]


def test_a_key_that_works_stays_when_a_newer_one_is_added_until_it_is_refused() -> None:
    clock = [0.0]
    kept = Kept(OLD)
    rings = rings_of(kept, passed_s=clock)
    rings.worked(POI_ID, rings(POI_ID, MERCHANT, STORE).keys[0])
    kept.rows.append(NEW)
    clock[0] += 60
    assert versions(rings) == [2, 3]
    rings.refused(POI_ID, rings(POI_ID, MERCHANT, STORE))
    assert versions(rings) == [3, 2]


def test_every_key_gets_its_turn_and_then_the_newest_again() -> None:
    rings = rings_of(Kept(OLD, NEW, COMPANY))
    seen = []
    for _ in range(4):
        ring = rings(POI_ID, MERCHANT, STORE)
        seen.append(ring.keys[0].version)
        rings.refused(POI_ID, ring)
    assert seen == [3, 2, 9, 3]


def test_what_one_terminal_has_says_nothing_of_another() -> None:
    rings = rings_of(Kept(COMPANY, MERCHANTS))
    rings.refused(POI_ID, rings(POI_ID, MERCHANT, STORE))
    assert versions(rings) == [9, 4]
    assert versions(rings, "V400m-324000124") == [4, 9]


def test_a_key_that_was_dropped_is_not_begun_with() -> None:
    clock = [0.0]
    kept = Kept(OLD, NEW)
    rings = rings_of(kept, passed_s=clock)
    rings.worked(POI_ID, rings(POI_ID, MERCHANT, STORE).keys[1])
    kept.rows.remove(OLD)
    clock[0] += 60
    assert versions(rings) == [3]


def test_the_only_key_seals_again_though_it_was_refused() -> None:
    rings = rings_of(Kept(NEW))
    rings.refused(POI_ID, rings(POI_ID, MERCHANT, STORE))
    assert versions(rings) == [3]
