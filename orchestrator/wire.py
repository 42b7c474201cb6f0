"""HTTP to the cloud and to terminals: one request, written at most once. The only module with sockets towards them.

No retries, no redirects, no HTTP/2 (whose library repeats a request by itself after GOAWAY). "Not delivered" takes two
proofs: the failure is of a kind that precedes writing, and the first byte was never reached.

A terminal on the local network is called on a connection of its own each time: an address can pass to another terminal,
and a connection that was kept would lead there past the check of its certificate's name.
"""

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import httpcore
import httpx

MAX_CONNECTIONS = 1000  # as many as a worker may have threads: each holds one, and a pool that is full sends nothing
KEEPALIVE_S = 5.0  # far below any server's idle time, so that we do not manufacture doubt by a stale connection
CLIENT_AGE_S = 60.0  # the platform's advice: resolve names at least every 60 s
MAX_ANSWER_BYTES = 1_048_576  # our choice: the longest official answer has some 20 kB

#: The certificate is another terminal's, or nobody's whom we trust.
WRONG_NAME: Final = "certificate-name"
NOT_TRUSTED: Final = "certificate-not-trusted"

#: Failures of httpx that precede the first byte of a request.
NOT_DELIVERED: Mapping[type[httpx.RequestError], str] = {
    httpx.ConnectError: "connect-failed",
    httpx.ConnectTimeout: "connect-timeout",
    httpx.PoolTimeout: "pool-timeout",
    httpx.UnsupportedProtocol: "unsupported-protocol",
}
#: Failures after which the request may have been carried out. One that httpx adds later counts among them.
ANSWER_MISSING: Mapping[type[httpx.RequestError], str] = {
    httpx.RequestError: "transport-error",
    httpx.TransportError: "transport-error",
    httpx.TimeoutException: "timeout",
    httpx.ReadTimeout: "read-timeout",
    httpx.WriteTimeout: "write-timeout",
    httpx.NetworkError: "network-error",
    httpx.ReadError: "read-error",
    httpx.WriteError: "write-error",
    httpx.CloseError: "close-error",
    httpx.ProxyError: "proxy-error",
    httpx.ProtocolError: "protocol-error",
    httpx.LocalProtocolError: "local-protocol-error",
    httpx.RemoteProtocolError: "remote-protocol-error",
    httpx.DecodingError: "decoding-error",
    httpx.TooManyRedirects: "too-many-redirects",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back on the connection: nothing is known of its sense yet."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Nothing usable came back. ``why`` is a slug."""

    why: str
    delivered: bool  # whether a byte of the request may have been written


class _LeaseExpired(Exception):
    """It became too late to send, just before the first byte."""


def _post(
    client: httpx.Client, url: str, body: bytes, read_timeout_s: float, may_send: Callable[[], bool]
) -> Answer | Failure:
    """Post once and read the answer, all of it within ``read_timeout_s`` of the first byte."""
    started = False

    def trace(event: str, info: Mapping[str, Any]) -> None:
        nonlocal started
        if event == "http11.send_request_headers.started":
            if not may_send():
                raise _LeaseExpired
            started = True
            _deadline.at = time.monotonic() + read_timeout_s

    try:
        request = client.build_request("POST", url, content=body, extensions={"trace": trace})
        response = client.send(request, stream=True)
        try:
            return _read(response)
        finally:
            response.close()
    except _LeaseExpired:
        return Failure("lease-expired", delivered=False)
    except (httpx.InvalidURL, UnicodeError):  # the latter is the resolver's, of a name that cannot be one
        return Failure("bad-address", delivered=started)
    except httpx.RequestError as error:
        if not started and type(error) in NOT_DELIVERED:
            return Failure(NOT_DELIVERED[type(error)], delivered=False)
        why = {**NOT_DELIVERED, **ANSWER_MISSING}.get(type(error), "transport-error")
        return Failure(why, delivered=True)


def _read(response: httpx.Response) -> Answer | Failure:
    chunks: list[bytes] = []
    length = 0
    for chunk in response.iter_raw():
        length += len(chunk)
        if length > MAX_ANSWER_BYTES:
            return Failure("too-long", delivered=True)
        chunks.append(chunk)
    return Answer(response.status_code, b"".join(chunks))


# -- connections -------------------------------------------------------------------------------------------------------


def product_version() -> str:
    """This release, as requests name it."""
    try:
        return version("counterfoil")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"


_HEADERS: Final = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"counterfoil/{product_version()}",
}


class _Deadline(threading.local):
    """When this thread's request must have ended, by ``time.monotonic``. A request lives in one thread."""

    at: float = 0.0


_deadline = _Deadline()


class _DeadlineStream(httpcore.NetworkStream):
    """A connection that a server cannot hold open by a byte now and then: one deadline instead of a time-out a read."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left_s = _deadline.at - time.monotonic()
        if left_s <= 0:
            raise httpcore.ReadTimeout
        return self._stream.read(max_bytes, left_s)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.SyncBackend):
    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _DeadlineStream(super().connect_tcp(*args, **kwargs))


class _PinnedBackend(httpcore.SyncBackend):
    """Connects to one terminal; ``refused`` says why its certificate was."""

    def __init__(self, fits: Callable[[Mapping[str, Any]], bool]) -> None:
        super().__init__()
        self.fits = fits
        self.refused: str | None = None

    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _PinnedStream(super().connect_tcp(*args, **kwargs), self)


class _PinnedStream(_DeadlineStream):
    """A connection whose certificate is looked at before any byte of the request leaves."""

    def __init__(self, stream: httpcore.NetworkStream, backend: _PinnedBackend) -> None:
        super().__init__(stream)
        self._backend = backend

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            # A server name would be the address, which is no name: the certificate names the terminal.
            stream = self._stream.start_tls(ssl_context, None, timeout)
        except httpcore.ConnectError as error:
            if isinstance(error.__cause__ or error.__context__, ssl.SSLCertVerificationError):
                self._backend.refused = NOT_TRUSTED
            raise
        certificate = stream.get_extra_info("ssl_object").getpeercert()
        if not self._backend.fits(certificate or {}):
            self._backend.refused = WRONG_NAME
            stream.close()
            raise httpcore.ConnectError
        return _DeadlineStream(stream)


class _Transport(httpx.HTTPTransport):
    """httpx's transport over a pool of our own making: it has no way to hand one a network backend."""

    def __init__(self, tls: ssl.SSLContext, backend: httpcore.SyncBackend, max_connections: int) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=KEEPALIVE_S,
            http1=True,
            http2=False,
            retries=0,
            network_backend=backend,
        )


def _client(transport: httpx.HTTPTransport, connect_timeout_s: float, headers: Mapping[str, str]) -> httpx.Client:
    return httpx.Client(
        transport=transport,
        headers={**_HEADERS, **headers},
        timeout=httpx.Timeout(None, connect=connect_timeout_s, pool=connect_timeout_s, write=connect_timeout_s),
        trust_env=False,
        follow_redirects=False,
    )


class LocalWire:
    """To terminals on the local network. ``fits(certificate, poi_id)`` judges what ``ssl.getpeercert`` returns.

    Nothing of the platform's credentials goes this way.
    """

    def __init__(
        self, tls: ssl.SSLContext, fits: Callable[[Mapping[str, Any], str], bool], connect_timeout_s: float
    ) -> None:
        self._tls = tls
        self._fits = fits
        self._connect_timeout_s = connect_timeout_s

    def post(
        self, address: str, poi_id: str, body: bytes, read_timeout_s: float, may_send: Callable[[], bool]
    ) -> Answer | Failure:
        """Post to the terminal at ``address`` (host:port), if it is this terminal."""
        backend = _PinnedBackend(lambda certificate: self._fits(certificate, poi_id))
        transport = _Transport(self._tls, backend, max_connections=1)
        with _client(transport, self._connect_timeout_s, {}) as client:
            sent = _post(client, f"https://{address}/nexo", body, read_timeout_s, may_send)
        return Failure(backend.refused, delivered=False) if backend.refused else sent


@dataclass(slots=True)
class _Generation:
    client: httpx.Client
    born: float
    borrowers: int = 0
    retired: bool = False


class CloudWire:
    """To the cloud, over kept connections. One client at a time, replaced by age; an old one ends with its last call.

    Safe to share between threads.
    """

    def __init__(self, api_key: str, connect_timeout_s: float, max_connections: int) -> None:
        self._api_key = api_key
        self._connect_timeout_s = connect_timeout_s
        self._max_connections = max_connections
        self._tls = httpx.create_ssl_context(trust_env=False)
        self._lock = threading.Lock()
        self._current: _Generation | None = None

    def post(self, url: str, body: bytes, read_timeout_s: float, may_send: Callable[[], bool]) -> Answer | Failure:
        """Post to the cloud."""
        with self._borrow() as client:
            return _post(client, url, body, read_timeout_s, may_send)

    def ask(self, method: str, url: str, body: bytes | None, read_timeout_s: float) -> Answer | Failure:
        """Ask the cloud what is no terminal message and may be asked at any time."""
        _deadline.at = time.monotonic() + read_timeout_s
        try:
            with self._borrow() as client, client.stream(method, url, content=body) as response:
                return _read(response)
        except (httpx.InvalidURL, UnicodeError):
            return Failure("bad-address", delivered=False)
        except httpx.RequestError as error:
            return Failure({**NOT_DELIVERED, **ANSWER_MISSING}.get(type(error), "transport-error"), delivered=False)

    def close(self) -> None:
        """Close idle connections; requests that are under way end first."""
        with self._lock:
            self._retire()

    @contextmanager
    def _borrow(self) -> Iterator[httpx.Client]:
        with self._lock:
            current = self._current
            if current is None or time.monotonic() - current.born > CLIENT_AGE_S:
                self._retire()
                current = self._current = _Generation(self._open(), time.monotonic())
            current.borrowers += 1
        try:
            yield current.client
        finally:
            with self._lock:
                current.borrowers -= 1
                if current.retired and not current.borrowers:
                    current.client.close()

    def _retire(self) -> None:
        """Take the current client out of use. The caller holds the lock."""
        old, self._current = self._current, None
        if old is not None:
            old.retired = True
            if not old.borrowers:
                old.client.close()

    def _open(self) -> httpx.Client:
        transport = _Transport(self._tls, _DeadlineBackend(), self._max_connections)
        return _client(transport, self._connect_timeout_s, {"X-API-Key": self._api_key})
