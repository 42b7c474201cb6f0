"""Callbacks over HTTP and on the command line: listed by their merchant, and told again by whoever may."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn

from config.settings import Settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.ids import new_id
from orchestrator.keys import Role, make_key
from orchestrator.store.keys import KeyStore
from orchestrator.web.app import web_app
from tests.integration.callback_support import (
    Receiver,
    last_attempt_is_next,
    new_secret,
    tell_command,
    teller,
    tellings,
)
from tests.integration.store_support import MERCHANT, Shop, shop_in

pytestmark = pytest.mark.integration

SECRET = new_secret()
NO_BROKER = "redis://127.0.0.1:1/0"  # rings are lost: the database holds what is to be done


@pytest.fixture(scope="module")
def shop(postgres_url: str) -> Iterator[Shop]:
    with shop_in(postgres_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def api(shop: Shop) -> Iterator[httpx.Client]:
    """The application, served on a port of its own."""
    application = web_app(Counterfoil(Settings(database_url=shop.url, broker_url=NO_BROKER)))
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    give_up_at_s = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < give_up_at_s, "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
        yield client
    server.should_exit = True
    thread.join(20)


def key(shop: Shop, role: Role, merchant: str = MERCHANT) -> dict[str, str]:
    secret, digest = make_key()
    KeyStore(shop.database).create(new_id(), digest, merchant, role.value, "test")
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture
def parked(shop: Shop) -> Iterator[UUID]:
    """A payment whose outcome its caller would not take; another one was told."""
    with Receiver(SECRET) as receiver:
        telling = teller(shop, SECRET)
        told = approved(shop, receiver)
        telling.tell(tell_command(shop, told))
        receiver.answer = lambda _heard: 500
        payment = approved(shop, receiver)
        last_attempt_is_next(shop, payment)
        telling.tell(tell_command(shop, payment))
        yield payment


def approved(shop: Shop, receiver: Receiver) -> UUID:
    payment = shop.pay(shop.terminal(), callback_url=receiver.url + "?token=secret")
    shop.send(payment)
    shop.approve(payment)
    return payment


def test_callbacks_are_listed_newest_first_and_narrowed_to_the_parked(
    api: httpx.Client, shop: Shop, parked: UUID
) -> None:
    viewer = key(shop, Role.VIEWER)

    first, second = api.get("/v1/callbacks?limit=2", headers=viewer).json()["data"]

    assert (first["payment_id"], first["type"], first["attempts"]) == (str(parked), "payment.confirmed", 18)
    assert (first["last_status"], first["last_error"], first["next_at"]) == (500, "not_accepted", None)
    assert first["parked_at"]
    assert second["delivered_at"]
    assert "token" not in json.dumps(first)
    listed = api.get("/v1/callbacks?parked=true", headers=viewer).json()["data"]
    assert listed[0]["id"] == first["id"]
    assert all(callback["parked_at"] for callback in listed)
    assert second["id"] in [c["id"] for c in api.get("/v1/callbacks?parked=false", headers=viewer).json()["data"]]


def test_pages_of_callbacks_follow_each_other(api: httpx.Client, shop: Shop, parked: UUID) -> None:
    viewer = key(shop, Role.VIEWER)
    one = api.get("/v1/callbacks?limit=1", headers=viewer).json()
    two = api.get(f"/v1/callbacks?limit=1&cursor={one['next_cursor']}", headers=viewer).json()

    both = api.get("/v1/callbacks?limit=2", headers=viewer).json()["data"]
    assert [one["data"][0]["id"], two["data"][0]["id"]] == [callback["id"] for callback in both]


def test_another_merchants_callbacks_do_not_exist(api: httpx.Client, shop: Shop, parked: UUID) -> None:
    other = key(shop, Role.ADMIN, "Another")
    (telling,) = tellings(shop, parked)

    assert api.get("/v1/callbacks", headers=other).json() == {"data": [], "next_cursor": None}
    assert api.post(f"/v1/callbacks/{telling['id']}/redeliver", headers=other).status_code == 404
    assert tellings(shop, parked)[0]["parked_at"]


def test_whoever_operates_may_have_a_callback_told_again_and_a_viewer_may_not(
    api: httpx.Client, shop: Shop, parked: UUID
) -> None:
    (telling,) = tellings(shop, parked)
    path = f"/v1/callbacks/{telling['id']}/redeliver"
    assert api.post(path, headers=key(shop, Role.SUBMIT)).status_code == 403
    assert api.post(path).status_code == 401

    answer = api.post(path, headers=key(shop, Role.OPERATE))

    assert answer.status_code == 202
    assert (answer.json()["id"], answer.json()["parked_at"], answer.json()["attempts"]) == (str(telling["id"]), None, 0)
    assert tell_command(shop, parked)


def test_a_callback_that_is_not_there_is_not_found(api: httpx.Client, shop: Shop) -> None:
    operator = key(shop, Role.OPERATE)

    assert api.post(f"/v1/callbacks/{uuid4()}/redeliver", headers=operator).status_code == 404
    assert api.post("/v1/callbacks/x/redeliver", headers=operator).status_code in {404, 422}


def counterfoil(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COUNTERFOIL_", "ADYEN_"))}
    environment = kept | {"COUNTERFOIL_DATABASE_URL": shop.url, "COUNTERFOIL_BROKER_URL": NO_BROKER}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator.cli", "callbacks", *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_command_line_lists_callbacks_and_has_them_told_again(shop: Shop, parked: UUID) -> None:
    (telling,) = tellings(shop, parked)
    listed = counterfoil(shop, "list", "--parked", "--json")
    assert json.loads(listed.stdout)[0]["id"] == str(telling["id"]), listed.stderr
    assert str(telling["id"]) in counterfoil(shop, "list").stdout

    again = counterfoil(shop, "redeliver", str(telling["id"]))

    assert again.returncode == 0, again.stderr
    assert tell_command(shop, parked)
    missing = counterfoil(shop, "redeliver", str(uuid4()))
    assert missing.returncode == 1
    assert "there is no callback" in missing.stderr


def test_the_description_of_the_api_names_the_callbacks(api: httpx.Client, shop: Shop, parked: UUID) -> None:
    document = api.get("/openapi.json").json()

    shown = document["components"]["schemas"]["Callback"]["properties"]
    listed = api.get("/v1/callbacks?limit=1", headers=key(shop, Role.VIEWER)).json()["data"][0]
    assert set(shown) == set(listed)
    assert listed["payment_id"] == str(parked)
