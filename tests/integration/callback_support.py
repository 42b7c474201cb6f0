"""A caller that listens: it verifies what it is told with the public Standard Webhooks package, and answers at will."""

import base64
import secrets
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from uuid import UUID

from standardwebhooks import Webhook

from orchestrator.caller import Caller
from orchestrator.policy import Policy
from orchestrator.store.tellings import TellingStore
from orchestrator.tell import Lanes, Teller
from tests.integration.store_support import Shop

THREADS = 32


def new_secret() -> str:
    """A secret as the setting takes it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True)
class Heard:
    """One request that verified."""

    id: str
    body: dict[str, Any]
    headers: dict[str, str]
    raw: bytes

    @property
    def type(self) -> str:
        return str(self.body["type"])

    @property
    def sequence(self) -> int:
        return int(self.body["data"]["sequence"])


class Receiver:
    """A receiver on this machine. ``answer`` gives the status of each request; it may block."""

    def __init__(self, secret: str, tls: ssl.SSLContext | None = None) -> None:
        self.secret = secret
        self.heard: list[Heard] = []
        self.answer: Callable[[Heard], int] = lambda _heard: 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = Webhook(receiver.secret).verify(raw, headers)  # raises, and so hangs up, on a bad signature
                heard = Heard(headers["webhook-id"], body, headers, raw)
                receiver.heard.append(heard)
                status = receiver.answer(heard)
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("location", receiver.url + "/elsewhere")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/hooks"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def teller(shop: Shop, *own_secrets: str, store: TellingStore | None = None, threads: int = THREADS) -> Teller:
    """Whoever tells, allowed to talk to this machine."""
    caller = Caller(own_secrets, allow_private=True, https_only=False)
    return Teller(store or TellingStore(shop.database), caller.post, Policy(), Lanes(threads))


def tell_command(shop: Shop, payment: UUID) -> int:
    """The command that tells of a payment."""
    row = shop.sql("SELECT id FROM commands WHERE payment_id = %s AND kind = 'tell_caller'", payment)
    return int(row[0]["id"])


def tellings(shop: Shop, payment: UUID) -> list[dict[str, Any]]:
    """What there is to tell of a payment, in order."""
    return shop.sql("SELECT * FROM tellings WHERE payment_id = %s ORDER BY sequence", payment)


def last_attempt_is_next(shop: Shop, payment: UUID) -> None:
    """All attempts but one have failed."""
    shop.sql("UPDATE tellings SET attempts = %s WHERE payment_id = %s", len(Policy().tell_again_s), payment)


def let_time_pass(shop: Shop, payment: UUID) -> None:
    """Whatever was to be tried later is due."""
    shop.sql("UPDATE tellings SET next_at = now() - interval '1 second' WHERE payment_id = %s", payment)
