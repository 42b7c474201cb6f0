"""A till that talks to the simulator over real HTTP, and a receiver that keeps what it is sent."""

from __future__ import annotations

import http.client
import itertools
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.simulator.sealing import RESPONSE, SharedKey, seal, unseal

Json = dict[str, Any]
SALE_ID = "KASSA-07"
_MESSAGES = Path(__file__).parents[1] / "vectors" / "messages"
_numbers = itertools.count(1)


def message(category: str, body: Json, poi_id: str, service_id: str) -> Json:
    header = {
        "ProtocolVersion": "3.0",
        "MessageClass": "Service",
        "MessageCategory": category,
        "MessageType": "Request",
        "SaleID": SALE_ID,
        "ServiceID": service_id,
        "POIID": poi_id,
    }
    return {"SaleToPOIRequest": {"MessageHeader": header, f"{category}Request": body}}


@dataclass(frozen=True)
class Asked:
    """A payment request of a test, on a terminal of its own unless told otherwise."""

    reference: str
    amount: float = 10.99
    currency: str = "EUR"
    acquirer_data: str = ""
    poi_id: str = ""
    service_id: str = ""
    payment_type: str = ""
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def terminal(self) -> str:
        return self.poi_id or f"V400m-{self.number:09d}"

    @property
    def service(self) -> str:
        return self.service_id or f"p{self.number:09d}"

    def body(self) -> Json:
        sale: Json = {"SaleTransactionID": {"TransactionID": self.reference, "TimeStamp": "2025-11-25T09:00:30Z"}}
        if self.acquirer_data:
            sale["SaleToAcquirerData"] = self.acquirer_data
        amounts = {"Currency": self.currency, "RequestedAmount": self.amount}
        body: Json = {"SaleData": sale, "PaymentTransaction": {"AmountsReq": amounts}}
        if self.payment_type:
            body["PaymentData"] = {"PaymentType": self.payment_type}
        return message("Payment", body, self.terminal, self.service)


def about(asked: Asked) -> Json:
    return {"MessageReference": {"MessageCategory": "Payment", "SaleID": SALE_ID, "ServiceID": asked.service}}


def recorded(path: str) -> Any:
    return json.loads((_MESSAGES / path).read_text())


def shape(value: Any) -> Any:
    """Member names and types; a list has the shape of its first element, all numbers are alike."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in sorted(value.items())}
    if isinstance(value, list):
        return [shape(element) for element in value[:1]]
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else type(value).__name__


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    content_type: str

    def json(self) -> Any:
        return json.loads(self.text)


class Till:
    """Posts messages to the simulator, each on a connection of its own."""

    def __init__(self, url: str, api_key: str = "") -> None:
        self.netloc = urlsplit(url).netloc
        self.api_key = api_key

    def call(self, method: str, path: str, body: Json | bytes | None = None) -> Answer:
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        connection = http.client.HTTPConnection(self.netloc, timeout=20)
        try:
            connection.request(method, path, raw, {"x-API-key": self.api_key} if self.api_key else {})
            response = connection.getresponse()
            text = response.read().decode()
            return Answer(response.status, text, response.headers.get("content-type", ""))
        finally:
            connection.close()

    def post(self, path: str, body: Json | bytes) -> Answer:
        return self.call("POST", path, body)

    def pay(self, asked: Asked, path: str = "/async") -> Answer:
        return self.post(path, asked.body())

    def status(self, asked: Asked, path: str = "/sync") -> Answer:
        body = {"ReceiptReprintFlag": True} | about(asked)
        return self.post(path, message("TransactionStatus", body, asked.terminal, f"s{next(_numbers):09d}"))

    def abort(self, asked: Asked) -> Answer:
        body = {"AbortReason": "MerchantAbort"} | about(asked)
        return self.post("/async", message("Abort", body, asked.terminal, f"a{next(_numbers):09d}"))


class LocalTill(Till):
    """Posts messages to a terminal's own port, over TLS that trusts one root; sealed when it has a key."""

    def __init__(self, address: tuple[str, int], root: Path, key: SharedKey | None = None) -> None:
        super().__init__("//{}:{}".format(*address))
        self.key = key
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.tls.check_hostname = False  # the address is an IP, the certificate names the terminal
        self.tls.load_verify_locations(root)

    def call(self, method: str, path: str, body: Json | bytes | None = None) -> Answer:
        """One request, always to /nexo unless it names another path of the terminal; the answer as it came."""
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        if self.key and isinstance(body, dict):
            raw = seal(self.key, raw or b"")
        connection = http.client.HTTPSConnection(self.netloc, timeout=20, context=self.tls)
        try:
            connection.request(method, "/nexo" if path in ("/sync", "/async") else path, raw)
            response = connection.getresponse()
            text = response.read().decode()
            return Answer(response.status, text, response.headers.get("content-type", ""))
        finally:
            connection.close()

    def opened(self, answer: Answer) -> Json:
        """The message in a sealed answer; CryptoError when it is not what the terminal sealed."""
        assert self.key is not None
        opened = unseal(answer.text.encode(), [self.key], RESPONSE)
        assert opened.key is self.key, "the answer came in clear"
        message: Json = json.loads(opened.raw)
        return message

    def common_name(self) -> str:
        """Whom the terminal's certificate names."""
        connection = http.client.HTTPSConnection(self.netloc, timeout=20, context=self.tls)
        try:
            connection.connect()
            names: Any = (connection.sock.getpeercert() or {})["subject"]
        finally:
            connection.close()
        return str(dict(pair for part in names for pair in part)["commonName"])


def status_word(answer: Answer) -> str:
    """`Success` with the inner result, or the outer ErrorCondition, or `Reject`."""
    outer = answer.json()
    if "SaleToPOIRequest" in outer:
        return "Reject"
    body = outer["SaleToPOIResponse"]["TransactionStatusResponse"]
    if body["Response"]["Result"] != "Success":
        return str(body["Response"]["ErrorCondition"])
    inner = body["RepeatedMessageResponse"]["RepeatedResponseMessageBody"]["PaymentResponse"]["Response"]
    return f"Repeated {inner['Result']}" + (f" {inner['ErrorCondition']}" if "ErrorCondition" in inner else "")


class Receiver:
    """Keeps every notification. `statuses` are the answers to give first; then 200."""

    def __init__(self) -> None:
        self.bodies: list[Json] = []
        self.authorizations: list[str] = []
        self.statuses: list[int] = []
        self.connections: set[Any] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.connections.add(self.client_address)
                receiver.authorizations.append(self.headers.get("authorization", ""))
                receiver.bodies.append(body)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("content-length", "10")
                self.end_headers()
                self.wfile.write(b"[accepted]")

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/notifications"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def responses(self, asked: Asked) -> list[Json]:
        """The PaymentResponses that were pushed for this payment."""
        found = [body["SaleToPOIResponse"] for body in list(self.bodies) if "SaleToPOIResponse" in body]
        return [
            response["PaymentResponse"]
            for response in found
            if response["MessageHeader"]["ServiceID"] == asked.service and "PaymentResponse" in response
        ]

    def displays(self, asked: Asked) -> list[str]:
        """The events of the display notifications for this payment."""
        found = [body["SaleToPOIRequest"] for body in list(self.bodies) if "SaleToPOIRequest" in body]
        outputs = [
            request["DisplayRequest"]["DisplayOutput"][0]["OutputContent"]["PredefinedContent"]["ReferenceID"]
            for request in found
            if request["MessageHeader"]["ServiceID"] == asked.service
        ]
        return [output.rpartition("event=")[2] for output in outputs]


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait until the condition holds; fail when it does not in time."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)
