"""A shop with a day behind it: the product and the simulator as real processes, and people who log in."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import httpx

from gauntlet.options import Plan
from gauntlet.stack import MERCHANT, Stack
from orchestrator.ids import new_id
from orchestrator.passwords import hash_password, make_form_secret
from orchestrator.store.database import Database
from orchestrator.store.people import PeopleStore

PASSWORD = "a long enough passphrase"
#: Who works here, by role.
PEOPLE = {"viewer": "vera", "operate": "otto", "finance": "fiona", "admin": "ada"}
_SETTLES_WITHIN_S = 60.0

Json = dict[str, Any]


class Shop:
    """Payments are taken through the API, as a till does; the console is looked at by who has a login."""

    def __init__(self, folder: Path, postgres_url: str) -> None:
        plan = Plan(workers=1, apis=1, beats=1, terminals=8, mix="clean", time_scale=20, postgres_url=postgres_url)
        self._stack = Stack(plan, folder)
        self._numbers = 0

    def __enter__(self) -> Self:
        self._stack.__enter__()
        try:
            self._api = self._stack.client()
            self._add_people()
        except BaseException:
            self._stack.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._api.close()
        self._stack.__exit__()

    @property
    def url(self) -> str:
        """Where the console is."""
        return self._stack.urls[0]

    @property
    def stack(self) -> Stack:
        """The processes."""
        return self._stack

    @property
    def terminals(self) -> list[str]:
        """The POIIDs."""
        return self._stack.terminals

    @property
    def api(self) -> httpx.Client:
        """A caller's client."""
        return self._api

    def pay(self, reference: str, minor: int = 1050, terminal: int = 0, **more: Any) -> Json:
        """Submit a payment; a reference that ends in ``-<scenario>`` plays that scenario."""
        self._numbers += 1
        body = {
            "reference": reference,
            "poi_id": self.terminals[terminal],
            "amount": {"currency": "EUR", "value": minor},
            **more,
        }
        answer = self._api.post("/v1/payments", json=body, headers={"idempotency-key": f"browser-{self._numbers}"})
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def paid(self, reference: str, minor: int = 1050, terminal: int = 0, **more: Any) -> Json:
        """Take a payment, and wait for its outcome."""
        return self.until(self.pay(reference, minor, terminal, **more)["id"], lambda now: now["outcome"] is not None)

    def until(self, payment_id: str, holds: Callable[[Json], bool]) -> Json:
        """The payment, once this holds of it."""
        deadline_s = time.monotonic() + _SETTLES_WITHIN_S
        while True:
            now: Json = self._api.get(f"/v1/payments/{payment_id}").json()
            if holds(now):
                return now
            assert time.monotonic() < deadline_s, now
            time.sleep(0.1)

    def _add_people(self) -> None:
        """What ``counterfoil users add`` does, with one password for all: to hash one takes its time."""
        password_hash = hash_password(PASSWORD)
        with closing(Database(self._stack.database_url, connections=1)) as database:
            for role, name in PEOPLE.items():
                row = {"id": new_id(), "name": name, "merchant_account": MERCHANT, "role": role, "created_by": "tests"}
                secrets = {"password_hash": password_hash, "form_secret": make_form_secret()}
                PeopleStore(database).add({**row, **secrets})


def a_day(shop: Shop) -> dict[str, Json]:
    """Payments of every kind, by what became of them; the unknown one stays so, since all its evidence is withheld."""
    day = {
        "approved": shop.paid("till-1-receipt-1001", 1050),
        "declined": shop.paid("till-1-receipt-1002-decline", 2500),
        "cancelled": shop.paid("till-2-receipt-1003-cancel", 399, terminal=1),
        "tipped": shop.paid("till-2-receipt-1004-tip", 4200, terminal=1),
        "lost and found": shop.paid("till-3-receipt-1005-silent", 1899, terminal=2),
        "refunded": shop.paid("till-3-receipt-1006", 12000, terminal=2),
        "offline": shop.paid("till-4-receipt-1007-offline", 750, terminal=3),
        "foreign looks": shop.paid("<b>'&\"</b>", 100, terminal=3),
    }
    refunded = day["refunded"]
    answer = shop.api.post(
        f"/v1/payments/{refunded['id']}/refunds",
        json={"reference": "back-1006", "amount": {"currency": "EUR", "value": 2000}},
        headers={"idempotency-key": "back-1006"},
    )
    assert answer.status_code == 201, answer.text
    lost = shop.pay("till-5-receipt-1008-withheld", 3300, terminal=4)
    day["unknown"] = shop.until(lost["id"], lambda now: now["state"] == "unknown")
    held = shop.api.post(f"/v1/terminals/{shop.terminals[6]}/hold", json={"reason": "the till is being moved"})
    assert held.status_code == 200, held.text
    return day
