"""The product runs against a cloud that is not its own simulator, by settings alone."""

import ast
import base64
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import pytest

from gauntlet.servers import PrivateRedis, free_port, throw_away_database
from gauntlet.stack import register
from orchestrator.processes import Processes, wait_until_ready
from orchestrator.store import schema

ROOT = Path(__file__).parents[2]
POI_ID, USERNAME, PASSWORD, API_KEY = "S1F2-000158215131234", "somebody", "else", "a-key-of-theirs"
Json = dict[str, Any]


class ForeignCloud(BaseHTTPRequestHandler):
    """Somebody else's fake cloud: approves everything, pushes the result unless the reference says `quiet`."""

    notify: str
    taken: dict[str, Json]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["SaleToPOIRequest"]
        if self.headers["X-API-Key"] != API_KEY:
            self._answer(401, b"")
        elif "PaymentRequest" in body:
            header = body["MessageHeader"]
            assert header["ServiceID"] not in self.taken, "a payment was asked for twice"
            self.taken[header["ServiceID"]] = body
            self._answer(200, b"ok")
            if "quiet" not in body["PaymentRequest"]["SaleData"]["SaleTransactionID"]["TransactionID"]:
                threading.Thread(target=self._push, args=(body,)).start()
        else:
            about = body["TransactionStatusRequest"]["MessageReference"]["ServiceID"]
            self._answer(200, json.dumps(status(body["MessageHeader"], self.taken[about])).encode())

    def _push(self, body: Json) -> None:
        request = urllib.request.Request(self.notify, json.dumps(response(body)).encode())  # noqa: S310  # our own URL
        login = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {login}")
        request.add_header("Content-Type", "application/json")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def payment(body: Json) -> Json:
    asked = body["PaymentRequest"]
    sent = dict(parse_qsl(asked["SaleData"]["SaleToAcquirerData"], keep_blank_values=True))
    amounts, sale = asked["PaymentTransaction"]["AmountsReq"], asked["SaleData"]["SaleTransactionID"]
    echoed = urlencode({key: value for key, value in sent.items() if key.startswith("metadata.")} | {"tid": "1"})
    tender = {"TransactionID": f"T1.{'P' * 16}", "TimeStamp": sale["TimeStamp"]}
    return {
        "Response": {"Result": "Success", "AdditionalResponse": echoed},
        "SaleData": {"SaleTransactionID": sale},
        "POIData": {"POITransactionID": tender},
        "PaymentResult": {
            "OnlineFlag": True,
            "AmountsResp": {"Currency": amounts["Currency"], "AuthorizedAmount": amounts["RequestedAmount"]},
        },
    }


def response(body: Json) -> Json:
    header = body["MessageHeader"] | {"MessageType": "Response"}
    return {"SaleToPOIResponse": {"MessageHeader": header, "PaymentResponse": payment(body)}}


def status(header: Json, body: Json) -> Json:
    repeated = {
        "MessageHeader": body["MessageHeader"] | {"MessageType": "Response"},
        "RepeatedResponseMessageBody": {"PaymentResponse": payment(body)},
    }
    said = {"Response": {"Result": "Success"}, "RepeatedMessageResponse": repeated}
    whole = {"MessageHeader": header | {"MessageType": "Response"}, "TransactionStatusResponse": said}
    return {"SaleToPOIResponse": whole}


@contextmanager
def foreign_cloud(notify: str) -> Iterator[str]:
    handler = type("Handler", (ForeignCloud,), {"notify": notify, "taken": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def product(folder: Path, postgres_url: str) -> Iterator[httpx.Client]:
    """The product against the foreign cloud: nothing but settings says so."""
    with ExitStack() as closing:
        database_url = closing.enter_context(throw_away_database(postgres_url))
        schema.upgrade(database_url)
        api_key = register(database_url, [POI_ID])
        broker = PrivateRedis(folder)
        broker.start()
        closing.callback(broker.stop)
        listen = f"127.0.0.1:{free_port()}"
        cloud_url = closing.enter_context(foreign_cloud(f"http://{listen}/notifications/terminal"))
        processes = closing.enter_context(Processes({
            "COUNTERFOIL_DATABASE_URL": database_url, "COUNTERFOIL_BROKER_URL": broker.url,
            "COUNTERFOIL_API_KEY": API_KEY, "COUNTERFOIL_CLOUD_URL": cloud_url, "COUNTERFOIL_LISTEN": listen,
            "COUNTERFOIL_NOTIFICATION_USERNAME": USERNAME, "COUNTERFOIL_NOTIFICATION_PASSWORD": PASSWORD,
            "COUNTERFOIL_TIME_SCALE": "50", "HOME": str(folder),
        }, folder / "logs"))  # fmt: skip
        for command in ("serve", "worker", "beat"):
            processes.start(command, command)
        wait_until_ready(f"http://{listen}")
        headers = {"authorization": f"Bearer {api_key}"}
        yield closing.enter_context(httpx.Client(base_url=f"http://{listen}", headers=headers, trust_env=False))


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_cloud_of_somebody_else_is_used_by_settings_alone(tmp_path: Path, postgres_url: str) -> None:
    with product(tmp_path, postgres_url) as api:
        for reference, found_by in (("their-1", "notification"), ("their-quiet-2", "status")):
            body = {"reference": reference, "poi_id": POI_ID, "amount": {"currency": "EUR", "value": 1999}}
            created = api.post("/v1/payments", json=body, headers={"idempotency-key": reference})
            assert created.status_code == 201, created.text
            url, deadline_s = f"/v1/payments/{created.json()['id']}", time.monotonic() + 30
            while (seen := api.get(url).json())["outcome"] is None and time.monotonic() < deadline_s:
                time.sleep(0.05)
            assert (seen["outcome"], seen["authorised_amount"]) == ("approved", body["amount"])
            lines = api.get(f"{url}/journal").json()["data"]
            assert [line["detail"]["channel"] for line in lines if "channel" in line["detail"]] == [found_by]


MAY_IMPORT_THE_SIMULATOR = ("orchestrator/simulator/", "orchestrator/cli/", "orchestrator/demo", "tests/", "bench/",
                            "crash/", "gauntlet/")  # fmt: skip


def importers_of_the_simulator() -> Iterator[str]:
    for folder in ("orchestrator", "tasks", "config", "gauntlet"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom):
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                if any(name.startswith("orchestrator.simulator") for name in names):
                    yield path.relative_to(ROOT).as_posix()


def test_nothing_of_the_product_imports_the_simulator() -> None:
    found = set(importers_of_the_simulator())
    assert "gauntlet/stack.py" in found, "the search must find what is there"
    assert not {path for path in found if not path.startswith(MAY_IMPORT_THE_SIMULATOR)}
