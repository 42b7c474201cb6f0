"""A Management API on this machine: it keeps terminal settings by path, and misbehaves when asked to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "AQE-management"


@dataclass
class FakeManagement:
    """``settings`` by path, ``asked`` as (method, path), and what is wrong with it."""

    url: str = ""
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    given: list[dict[str, Any]] = field(default_factory=list)  # the bodies of PATCH
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    refuses: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # by method
    hidden: tuple[str, ...] = ()  # members of nexo that the API key may not see
    empty_answers: bool = False  # 204 to PATCH, as some levels do
    keeps_other: dict[str, Any] | None = None  # what it keeps of a key instead of what it was given
    forgets: str | None = None  # a sibling that it loses by a PATCH
    hangs_up: str | None = None  # on this method, after it took the request

    def patch(self, path: str, body: dict[str, Any]) -> None:
        self.given.append(body)
        nexo = self.settings.setdefault(path, {}).setdefault("nexo", {})
        nexo |= body["nexo"] | ({"encryptionKey": self.keeps_other} if self.keeps_other else {})
        nexo.pop(self.forgets, None)

    def shown(self, path: str) -> dict[str, Any]:
        found = json.loads(json.dumps(self.settings.get(path, {})))
        for name in self.hidden:
            found.get("nexo", {}).pop(name, None)
        return dict(found)

    def key(self, path: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.settings.get(path, {}).get("nexo", {}).get("encryptionKey")
        return found


@contextmanager
def management_api() -> Iterator[FakeManagement]:
    """One that listens, until the test is over."""
    fake = FakeManagement()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            fake.asked.append((self.command, self.path))
            fake.headers.append({name.lower(): value for name, value in self.headers.items()})
            if self.headers.get("x-api-key") != API_KEY:
                self.answer(401, b'{"status": 401, "errorCode": "00_401", "title": "Unauthorized"}')
                return
            if self.command in fake.refuses:
                self.answer(*fake.refuses[self.command])
                return
            if self.command == "PATCH":
                fake.patch(self.path, json.loads(content))
            if self.command == fake.hangs_up:
                self.close_connection = True
                return
            empty = self.command == "PATCH" and fake.empty_answers
            self.answer(204 if empty else 200, b"" if empty else json.dumps(fake.shown(self.path)).encode())

        def do_PATCH(self) -> None:
            self.do_GET()

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join(5)
