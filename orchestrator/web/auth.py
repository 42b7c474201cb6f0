"""Who asks: API keys of callers."""

import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

from fastapi import Request

from orchestrator.keys import Role, digest_of
from orchestrator.store.keys import KeyStore
from orchestrator.web.problems import Problem

#: A revoked key stops working everywhere within this.
FRESH_S: Final = 5.0

#: Keys of callers that are remembered; a flood of wrong keys must not fill memory.
_REMEMBERED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller: its merchant account and role."""

    key_id: UUID
    merchant_account: str
    role: Role

    @property
    def name(self) -> str:
        """How the journal names who asked."""
        return f"key {self.key_id}"


class Run(Protocol):
    """Does work in a thread."""

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]: ...


class Callers:
    """Looks API keys up, and remembers the answer for five seconds."""

    def __init__(self, keys: KeyStore, run: Run) -> None:
        self._keys = keys
        self._run = run
        self._known: dict[str, tuple[float, Caller | None]] = {}
        self._lock = threading.Lock()

    async def __call__(self, request: Request, *roles: Role) -> Caller:
        """The caller of a request.

        Raises:
            Problem: there is no key, it is not known, or its role includes none of ``roles``.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Problem("unauthorized", "Send the API key as `Authorization: Bearer <key>`")
        digest = digest_of(key.strip())
        known = self._known.get(digest)
        if known is not None and time.monotonic() - known[0] < FRESH_S:
            caller = known[1]
        else:
            caller = await self._run(self._look_up, digest)
        if caller is None:
            raise Problem(
                "unauthorized", "The API key is not known or was revoked; make one with `counterfoil keys create`"
            )
        if not any(map(caller.role.includes, roles)):
            wanted = " or ".join(f"`{role.value}`" for role in roles)
            raise Problem("forbidden", f"This needs the role {wanted}; the key has `{caller.role.value}`")
        return caller

    def _look_up(self, digest: str) -> Caller | None:
        row = self._keys.find(digest)
        caller = Caller(row["id"], row["merchant_account"], Role(row["role"])) if row else None
        with self._lock:
            if len(self._known) >= _REMEMBERED_MAX:
                self._known.clear()
            self._known[digest] = (time.monotonic(), caller)
        return caller


def needs(callers: Callers, *roles: Role) -> Callable[[Request], Awaitable[Caller]]:
    """Make a dependency that lets these roles pass, and those that include one of them."""

    async def dependency(request: Request) -> Caller:
        return await callers(request, *roles)

    return dependency
