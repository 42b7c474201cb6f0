"""How a message came, and how its answer goes back: by which API, on which connection, and under which key."""

from __future__ import annotations

import json
from dataclasses import dataclass

from orchestrator.simulator.encoding import Json
from orchestrator.simulator.sealing import SharedKey, seal
from orchestrator.simulator.server import Reply, json_reply


@dataclass(frozen=True, slots=True)
class Channel:
    """One message's way in and out."""

    is_device_api: bool = False
    is_held: bool = False
    """Whether its answer comes on the same connection."""
    local: str = ""
    """The terminal whose own port it came to; empty: it came through the cloud."""
    key: SharedKey | None = None
    """What the request was sealed with, and its answer will be."""
    sealed: bytes = b""
    """The request as it came, when it was sealed."""

    @property
    def via(self) -> str:
        """`async`, `sync`, `device/async`, `device/sync` or `local`, for the ledger."""
        if self.local:
            return "local"
        return ("device/" if self.is_device_api else "") + ("sync" if self.is_held else "async")

    @property
    def acknowledgement(self) -> Reply:
        """The answer to a message whose result comes by another way, or that has none."""
        if self.local:
            return Reply()
        return json_reply("ok") if self.is_device_api else Reply(200, b"ok")

    def from_terminal(self, body: Json) -> Reply:
        """What the terminal itself answers: sealed as the request was. What the gateway answers never is."""
        answer = json.dumps(body, separators=(",", ":")).encode()
        return Reply(200, seal(self.key, answer) if self.key else answer, "application/json")
