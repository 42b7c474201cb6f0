"""Delivers to callers: one signed POST, to an address that was checked, with a deadline for all of it.

Headers and signature are those of Standard Webhooks. A caller names the URL, so that nobody is reached through us who
could not be reached from outside: the name is resolved here, every address it has is judged, and the connection goes
to the very address that passed. The certificate and the ``Host`` header stay the name's.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final

import httpcore
import httpx
from standardwebhooks import Webhook

from orchestrator.policy import CALLBACK_TIMEOUT_S, CONNECT_TIMEOUT_S

Resolve = Callable[[str, int], Sequence[str]]

#: Addresses of one name that are tried in turn.
_ADDRESSES_MAX: Final = 3

#: TCP's largest port.
_PORT_MAX: Final = 65535

#: Where a translating network shows IPv4 addresses in IPv6 (RFC 6052, section 2.1): the last 32 bits are the address.
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")
_LAST_32_BITS: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a delivery: the status, if there was one, and why it failed, unless it did not."""

    status: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver said that it has it."""
        return self.error is None


class Caller:
    """Posts to callers. Safe to share between threads; a call takes ten seconds at most, and a slow resolver beside."""

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        allow_private: bool,
        https_only: bool,
        resolve: Resolve | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the secrets as ``whsec_…``, current first; all of them sign."""
        self._signers = [Webhook(secret) for secret in secrets]
        self._allow_private = allow_private
        self._https_only = https_only
        self._resolve = resolve or addresses_of
        self._tls = tls or httpx.create_ssl_context(trust_env=False)

    def post(self, url: str, message_id: str, at: datetime, body: str, *, traceparent: str | None = None) -> Reply:
        """Deliver once. ``at`` (UTC) is the time of this attempt, ``message_id`` the same on every attempt.

        ``traceparent`` tells the receiver which trace it goes on with.
        """
        if not self._signers:
            return Reply(None, "no_secret")
        target = _parsed(url)
        if target is None:
            return Reply(None, "bad_url")
        if self._https_only and target.scheme != "https":
            return Reply(None, "not_https")
        headers = self._headers(target, message_id, at, body)
        if traceparent is not None:
            headers.append((b"traceparent", traceparent.encode()))
        try:
            return _judged(self._exchange(target, headers, body))
        except _Refused as refused:
            return Reply(None, refused.why)
        except httpcore.TimeoutException:
            return Reply(None, "timeout")
        except httpcore.ConnectError:
            return Reply(None, "connect_failed")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
            return Reply(None, "connection_broke")

    def _exchange(self, target: httpx.URL, headers: list[tuple[bytes, bytes]], body: str) -> int:
        give_up_at_s = time.monotonic() + CALLBACK_TIMEOUT_S
        backend = _CheckedBackend(self._resolve, self._allow_private, give_up_at_s)
        url = httpcore.URL(scheme=target.raw_scheme, host=target.raw_host, port=target.port, target=target.raw_path)
        waits = dict.fromkeys(("connect", "read", "write", "pool"), CALLBACK_TIMEOUT_S)
        with (
            httpcore.ConnectionPool(ssl_context=self._tls, retries=0, http2=False, network_backend=backend) as pool,
            pool.stream("POST", url, headers=headers, content=body.encode(), extensions={"timeout": waits}) as response,
        ):
            return int(response.status)  # what else it says is of no interest, and may be endless

    def _headers(self, target: httpx.URL, message_id: str, at: datetime, body: str) -> list[tuple[bytes, bytes]]:
        signatures = " ".join(signer.sign(message_id, at.astimezone(UTC), body) for signer in self._signers)
        fields = {
            "content-type": "application/json",
            "connection": "close",
            "user-agent": f"counterfoil/{_version()}",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": signatures,
        }
        return [(b"host", target.netloc), *((name.encode(), value.encode()) for name, value in fields.items())]


def _parsed(url: str) -> httpx.URL | None:
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    is_http = target.scheme in {"http", "https"} and target.host
    return target if is_http and (target.port or 1) <= _PORT_MAX else None


def addresses_of(host: str, port: int) -> Sequence[str]:
    """Resolve a name, or read an address in any spelling that the system reads.

    Raises:
        OSError: it does not resolve.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def may_be_told(address: str, *, allow_private: bool) -> bool:
    """Whether a callback may go to this address. Link-local, multicast and unspecified ones never may."""
    meant = _meant(address)
    if meant.is_link_local or meant.is_multicast or meant.is_unspecified:
        return False
    public = meant.is_global and not meant.is_reserved
    return public or (allow_private and (meant.is_private or meant.is_loopback))


def _meant(address: str) -> IPv4Address | IPv6Address:
    """The address that is reached in the end: one of IPv4 may be wrapped in one of IPv6."""
    outer = ip_address(address)
    if isinstance(outer, IPv4Address):
        return outer
    if outer in _TRANSLATED:
        return IPv4Address(int(outer) & _LAST_32_BITS)
    return outer.ipv4_mapped or outer.sixtofour or (outer.teredo[1] if outer.teredo else outer)


def _judged(status: int) -> Reply:
    if 200 <= status < 300:
        return Reply(status, None)
    return Reply(status, "redirected" if 300 <= status < 400 else "not_accepted")


def _version() -> str:
    try:
        return version("counterfoil")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0"


class _Refused(Exception):
    """This receiver must not, or cannot, be connected to."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class _CheckedBackend(httpcore.SyncBackend):
    """Connects to addresses that were checked, and to nothing else."""

    def __init__(self, resolve: Resolve, allow_private: bool, give_up_at_s: float) -> None:
        self._resolve = resolve
        self._allow_private = allow_private
        self._give_up_at_s = give_up_at_s

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = _Refused("name_unknown")
        for address in self._checked(host, port)[:_ADDRESSES_MAX]:
            wait_s = min(CONNECT_TIMEOUT_S, _left_s(self._give_up_at_s, httpcore.ConnectTimeout))
            try:
                stream = super().connect_tcp(address, port, wait_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _DeadlineStream(stream, self._give_up_at_s)
        raise failure

    def _checked(self, host: str, port: int) -> Sequence[str]:
        """One address that may not be told refuses the name: it may be the one that answers next time."""
        try:
            addresses = self._resolve(host, port)
        except (OSError, UnicodeError):
            raise _Refused("name_unknown") from None
        if not all(may_be_told(address, allow_private=self._allow_private) for address in addresses):
            raise _Refused("forbidden_address")
        return addresses


class _DeadlineStream(httpcore.NetworkStream):
    """A connection that nobody holds open by a byte now and then: one deadline for all that is done on it."""

    def __init__(self, stream: httpcore.NetworkStream, give_up_at_s: float) -> None:
        self._stream = stream
        self._give_up_at_s = give_up_at_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left_s(self._give_up_at_s, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left_s(self._give_up_at_s, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = _left_s(self._give_up_at_s, httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._give_up_at_s)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left_s(give_up_at_s: float, late: type[httpcore.TimeoutException]) -> float:
    left_s = give_up_at_s - time.monotonic()
    if left_s <= 0:
        raise late
    return left_s
