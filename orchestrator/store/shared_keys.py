"""Keys that terminals share with us, in the database, and the ring of them that one terminal may have."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from orchestrator.errors import ConfigurationError, StoreUnavailable
from orchestrator.store.database import Database
from orchestrator.store.rows import Row
from orchestrator.store.words import KeyLevel
from orchestrator.terminal_api.protection import KeyRing, SharedKey

log = structlog.get_logger()

#: A key that was added or dropped is known everywhere after this.
FRESH_S: Final = 5.0

_ADD = """
INSERT INTO shared_keys (level, merchant_account, scope, identifier, version, passphrase, created_by)
VALUES (%(level)s, %(merchant_account)s, %(scope)s, %(identifier)s, %(version)s, %(passphrase)s, %(created_by)s)
ON CONFLICT (level, coalesce(merchant_account, ''), coalesce(scope, ''), identifier, version) WHERE dropped_at IS NULL
DO UPDATE SET passphrase = excluded.passphrase
RETURNING *, xmax = 0 AS created
"""
_AT = """
level = %(level)s AND merchant_account IS NOT DISTINCT FROM %(merchant_account)s
    AND scope IS NOT DISTINCT FROM %(scope)s AND dropped_at IS NULL
"""
_DROP = f"""
UPDATE shared_keys SET dropped_at = now() WHERE {_AT}
    AND identifier = %(identifier)s AND version = %(version)s
"""
_KEPT = """
SELECT * FROM shared_keys WHERE dropped_at IS NULL
    AND (%(merchant_account)s::text IS NULL OR merchant_account IS NULL OR merchant_account = %(merchant_account)s)
ORDER BY array_position(ARRAY['company', 'merchant', 'store', 'terminal'], level::text), merchant_account, scope,
    version DESC, id DESC
"""
_KEPT_AT = f"SELECT * FROM shared_keys WHERE {_AT} ORDER BY version DESC, id DESC"


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a key is set: for the company, a merchant account, one of its stores, or one terminal."""

    level: KeyLevel
    merchant_account: str | None = None  # but for the company
    scope: str | None = None  # the store, or the POIID


@dataclass(frozen=True, slots=True)
class SharedKeyStore:
    """Add, drop and list shared keys; of passphrases only where they are, such as ``env:LANE_KEY``."""

    database: Database

    def add(self, place: KeyPlace, *, identifier: str, version: int, passphrase: str, created_by: str) -> Row:
        """Keep a key; one that is kept already takes this reference to its passphrase. ``created`` says which."""
        key = {"identifier": identifier, "version": version, "passphrase": passphrase, "created_by": created_by}
        return self.database.one(_ADD, _values(place) | key) or {}

    def drop(self, place: KeyPlace, identifier: str, version: int) -> bool:
        """Let a key go: it opens nothing more. False when there is none."""
        return self.database.run(_DROP, _values(place) | {"identifier": identifier, "version": version}) > 0

    def at(self, place: KeyPlace) -> list[Row]:
        """Read the keys that are set exactly here, the newest version first."""
        return list(self.database.all(_KEPT_AT, _values(place)))

    def all(self, merchant_account: str | None = None) -> list[Row]:
        """Read every key, or those that terminals of a merchant account may have."""
        return list(self.database.all(_KEPT, {"merchant_account": merchant_account}))


def _values(place: KeyPlace) -> dict[str, Any]:
    return {"level": place.level.value, "merchant_account": place.merchant_account, "scope": place.scope}


def ring_rows(rows: Iterable[Row], poi_id: str, merchant_account: str, store: str | None) -> list[Row]:
    """Return the keys that this terminal may have: the most specific level first, in it the highest version first."""
    places = [
        KeyPlace(KeyLevel.TERMINAL, merchant_account, poi_id),
        KeyPlace(KeyLevel.STORE, merchant_account, store),
        KeyPlace(KeyLevel.MERCHANT, merchant_account),
        KeyPlace(KeyLevel.COMPANY),
    ]
    found = [
        (places.index(place), -row["version"], -row["id"], row) for row in rows if (place := place_of(row)) in places
    ]
    return [row for *_, row in sorted(found, key=lambda each: each[:3])]


def place_of(row: Row) -> KeyPlace:
    """Return where this key is set."""
    return KeyPlace(KeyLevel(row["level"]), row["merchant_account"], row["scope"])


@dataclass(frozen=True, slots=True)
class _Learned:
    """What a terminal told us about its keys by opening or refusing what we sealed."""

    worked: SharedKey | None = None
    refused: frozenset[SharedKey] = frozenset()


class KeyRings:
    """The ring of each terminal, at most five seconds old. Safe to share between threads.

    The newest key of the most specific level seals. Terminals fetch their settings when they choose to, so that during
    a rotation one may have an older key, or a newer one than last time: whoever sends says what became of the sealing
    key, by ``worked`` or ``refused``, and the ring begins with the one that the terminal seems to have. Each process
    learns this for itself; a request that was refused is never sent again.
    """

    def __init__(
        self,
        store: SharedKeyStore,
        secret_of: Callable[[str], str],
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the store, and what turns a reference into a passphrase or raises ConfigurationError."""
        self._clock_s = clock_s
        self._store = store
        self._secret_of = secret_of
        self._secrets: dict[str, str] = {}  # by reference; each is read once
        self._rows: Sequence[Row] = ()
        self._read_at_s: float | None = None
        self._learned: dict[str, _Learned] = {}  # by POIID
        self._lock = threading.Lock()

    def __call__(self, poi_id: str, merchant_account: str, store: str | None) -> KeyRing:
        """Return the keys of a terminal, the sealing one first; an empty ring where none is set.

        A key whose passphrase is not there is left out, and logged, as long as another one is.

        Raises:
            ConfigurationError: keys are set, and the passphrase of none is there. What it names may be shown.
            StoreUnavailable: the keys were never read, and cannot be.
        """
        keys = self._keys(ring_rows(self._kept(), poi_id, merchant_account, store))
        learned = self._learned.get(poi_id, _Learned())
        keys.sort(key=lambda key: (key in learned.refused, key != learned.worked))
        return KeyRing(tuple(keys))

    def worked(self, poi_id: str, key: SharedKey) -> None:
        """Remember that the terminal opened what was sealed with this key."""
        self._learned[poi_id] = _Learned(worked=key)

    def refused(self, poi_id: str, ring: KeyRing) -> None:
        """Remember that the terminal did not open what was sealed with this ring's sealing key."""
        learned = self._learned.get(poi_id, _Learned())
        refused = learned.refused | set(ring.keys[:1])
        all_refused = refused >= set(ring.keys)
        self._learned[poi_id] = _Learned() if all_refused else _Learned(learned.worked, refused)
        versions = [key.version for key in ring.keys]
        log.warning("shared_key_refused", terminal=poi_id, version=versions[:1], others=versions[1:])

    def _kept(self) -> Sequence[Row]:
        with self._lock:
            now_s = self._clock_s()
            if self._read_at_s is None or now_s - self._read_at_s > FRESH_S:
                try:
                    self._rows = self._store.all()
                except StoreUnavailable:
                    if self._read_at_s is None:
                        raise
                self._read_at_s = now_s
            return self._rows

    def _keys(self, rows: Sequence[Row]) -> list[SharedKey]:
        keys: list[SharedKey] = []
        missing: ConfigurationError | None = None
        for row in rows:
            try:
                keys.append(SharedKey(row["identifier"], row["version"], self._secret(row["passphrase"])))
            except ConfigurationError as error:
                missing = error
                log.warning("shared_key_left_out", version=row["version"], why=str(error))
        if missing and not keys:
            raise missing
        return keys

    def _secret(self, reference: str) -> str:
        if reference not in self._secrets:
            self._secrets[reference] = self._secret_of(reference)
        return self._secrets[reference]
