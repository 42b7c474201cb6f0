"""The terminals' own ports: `/nexo` over TLS, one listener and one certificate for each terminal."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import struct
from asyncio.sslproto import SSLProtocol
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from orchestrator.simulator.certificates import Certificates
from orchestrator.simulator.channel import Channel
from orchestrator.simulator.cloud import Cloud
from orchestrator.simulator.server import Answer, Reply, Request, serve_streams

_BACKLOG = 128
# One TLS record; asyncio's own 256 kB for each connection would be 77 MB for 300 payments that wait.
_TLS_BUFFER_BYTES = 16_384
_HANDSHAKE_WITHIN_S = 10.0  # real seconds: what a client may take for TLS
_AFTER_NO_FILES_S = 0.05  # real seconds before the next accept when the process has no file descriptors left
_ENOUGH_FILES = 65_536  # some 30,000 terminals with a payment each
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class LocalPorts:
    """The listeners of all terminals that were named."""

    cloud: Cloud
    certificates: Certificates
    remembered: Path
    """The ports of the last run, so that port 0 means the same free ports again after a restart."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def open(self) -> None:
        """Listen for each terminal, on consecutive ports, or on any free ones from port 0."""
        options = self.cloud.options
        _allow_open_files()
        SSLProtocol.max_size = _TLS_BUFFER_BYTES
        last: dict[str, int] = json.loads(self.remembered.read_bytes()) if self.remembered.exists() else {}
        for number, poi_id in enumerate(options.terminals):
            if options.local_port:
                listener = _listener(options.local_host, options.local_port + number)
            else:
                listener = _free_listener(options.local_host, last.get(poi_id, 0))
            self.cloud.addresses[poi_id] = listener.getsockname()[:2]
            self._spawn(self._accept(listener, poi_id))
        ports = {poi_id: port for poi_id, (_, port) in self.cloud.addresses.items()}
        self.remembered.write_text(json.dumps(ports))

    def close(self) -> None:
        """Stop listening, and drop who is still connected."""
        for task in self.tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _accept(self, listener: socket.socket, poi_id: str) -> None:
        with listener:
            while True:
                try:
                    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                except OSError:
                    await asyncio.sleep(_AFTER_NO_FILES_S)
                    continue
                self._spawn(self._greet(connection, poi_id))

    async def _greet(self, connection: socket.socket, poi_id: str) -> None:
        """A reset from a terminal that is away, else TLS with the certificate that it has at this moment."""
        if self.cloud.connected(poi_id) is None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            connection.close()
            return
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, serve_streams(LocalRoutes(self.cloud, poi_id)), loop=loop)
        fault = self.cloud.faults.now().certificates.get(poi_id) or self.cloud.options.certificates.get(poi_id, "")
        context = self.certificates.context(poi_id, fault)
        with suppress(OSError):  # TLS errors among them: a client that does not trust us hangs up
            await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=context, ssl_handshake_timeout=_HANDSHAKE_WITHIN_S
            )


@dataclass(frozen=True, slots=True)
class LocalRoutes:
    """The handler of every request to one terminal's port."""

    cloud: Cloud
    poi_id: str

    async def __call__(self, request: Request) -> Answer:
        """Answer a request."""
        if request.path.rstrip("/") != "/nexo":
            return Reply(HTTPStatus.NOT_FOUND)
        if request.method != "POST":
            return Reply(HTTPStatus.METHOD_NOT_ALLOWED)
        return await self.cloud.receive(request.body, Channel(is_held=True, local=self.poi_id))


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    listener.bind((host.strip("[]"), port))
    listener.listen(_BACKLOG)
    return listener


def _free_listener(host: str, wanted: int) -> socket.socket:
    try:
        return _listener(host, wanted)
    except OSError:  # somebody else has it by now
        return _listener(host, 0)


def _allow_open_files() -> None:
    """As many files as this process may have: each terminal listens, and each held payment is a connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
