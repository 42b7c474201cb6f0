"""A client of server-sent events that is not ours, and what terminals push."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests import protocol_vectors
from tests.integration.http_support import SALE_ID, Json


@dataclass
class Event:
    """One event as it came; ``at_s`` on this machine's steady clock."""

    name: str
    id: str
    data: Json
    at_s: float


@dataclass
class Stream:
    """Everything that came on one connection."""

    events: list[Event] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    retries_ms: list[int] = field(default_factory=list)
    is_over: bool = False

    def names(self) -> list[str]:
        return [event.data["name"] for event in self.events if event.name == "terminal.display"]

    def last_id(self) -> str:
        return self.events[-1].id

    def until(self, count: int, within_s: float = 5.0) -> list[Event]:
        """The first so many events, once they are there."""
        self.eventually(lambda: len(self.events) >= count, within_s)
        return self.events[:count]

    def eventually(self, holds: Any, within_s: float = 5.0) -> None:
        end = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < end, [(event.name, event.data.get("name")) for event in self.events]
            time.sleep(0.01)

    def read(self, response: httpx.Response) -> None:
        """As the WHATWG's rules for event streams have it, so far as they are used."""
        fields: Json = {}
        try:
            for line in response.iter_lines():
                if line.startswith(":"):
                    self.comments.append(line)
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "data" in fields:
                    found = Event(fields["event"], fields["id"], json.loads(fields["data"]), time.monotonic())
                    self.events.append(found)
                    fields = {}
                elif "retry" in fields:
                    self.retries_ms.append(int(fields.pop("retry")))
        except httpx.TransportError:
            pass
        self.is_over = True


@contextmanager
def following(url: str, path: str, key: str, *, last_event_id: str | None = None, **query: Any) -> Iterator[Stream]:
    """Follow until the end of the block, on a connection and a thread of its own."""
    headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
    if last_event_id is not None:
        headers["last-event-id"] = last_event_id
    stream = Stream()
    with (
        httpx.Client(trust_env=False, timeout=60) as http,
        http.stream("GET", f"{url}{path}", headers=headers, params=query) as response,
    ):
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert "content-length" not in response.headers
        thread = threading.Thread(target=stream.read, args=(response,), daemon=True)
        thread.start()
        yield stream
        with suppress(OSError):  # the server may have been first
            response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        thread.join(10)


def display(poi_id: str, event: str, *, service_id: str = "", tender: str = "BV5k001764061234003") -> Json:
    """A display notification of a terminal."""
    whole: Json = json.loads(protocol_vectors.body("notifications/display_pin_entered"))
    request = whole["SaleToPOIRequest"]
    request["MessageHeader"] |= {"SaleID": SALE_ID, "ServiceID": service_id or "none", "POIID": poi_id}
    content = request["DisplayRequest"]["DisplayOutput"][0]["OutputContent"]["PredefinedContent"]
    content["ReferenceID"] = f"TransactionID={tender}&TimeStamp=2025-11-25T09%3a00%3a32.000Z&event={event}"
    return whole


def event(poi_id: str, name: str, details: str = "") -> Json:
    """An event notification of a terminal."""
    whole: Json = json.loads(protocol_vectors.body("notifications/shutdown"))
    request = whole["SaleToPOIRequest"]
    request["MessageHeader"] |= {"SaleID": SALE_ID, "POIID": poi_id}
    request["EventNotification"] |= {"EventToNotify": name, "EventDetails": details}
    return whole
