"""The platform's Management API, as far as shared keys go: the only module that talks to it.

Its answers hold passphrases, and its errors repeat them: of an error nothing is taken over but codes and the names of
fields. It asks for an API key of its own, since whoever has that one can read every passphrase.
"""

import hmac
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import httpx

from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.terminal_api import fields, strict_json
from orchestrator.terminal_api.protection import SharedKey

ROLE: Final = "Management API—Terminal settings Advanced read and write"
_HOSTS: Final = {"test": "https://management-test.adyen.com", "live": "https://management-live.adyen.com"}
_CONNECT_TIMEOUT_S: Final = 5.0  # our choice, as all limits here: a person waits
_READ_TIMEOUT_S: Final = 30.0
_CODE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_FIELD: Final = re.compile(r"[A-Za-z0-9_.\[\]]{1,100}", re.ASCII)
_STORE_ID: Final = re.compile(r"ST[A-Z0-9]{16,}", re.ASCII)  # such as ST322LJ223223K5F4SQNR9XL5; else it is a reference
_REMEDIES: Final = {
    401: "it does not know the API key; set COUNTERFOIL_MANAGEMENT_API_KEY to one of the Management API",
    403: f"the API key may not do this; give its credential the role “{ROLE}”",
    404: "it knows no such account, store or terminal; check the names and the API key's account",
    429: "it had too many requests; wait a minute, then run the command again",
}


class ManagementError(OrchestratorError):
    """The Management API did not do what was asked."""

    def __init__(self, message: str, *, unchanged: bool) -> None:
        """``unchanged`` says whether the platform surely kept the settings as they were."""
        super().__init__(message)
        self.unchanged = unchanged


def settings_path(
    level: Literal["company", "merchant", "store", "terminal"], account: str, scope: str | None = None
) -> str:
    """Return where the terminal settings of a level are.

    ``account`` is the company account or the merchant account, ``scope`` the store's id or reference, or the POIID.
    """
    if level == "company":
        owner = f"companies/{_segment(account)}"
    elif level == "merchant":
        owner = f"merchants/{_segment(account)}"
    elif level == "terminal":
        owner = f"terminals/{_segment(scope)}"
    elif _STORE_ID.fullmatch(scope or ""):
        owner = f"stores/{_segment(scope)}"
    else:
        owner = f"merchants/{_segment(account)}/stores/{_segment(scope)}"
    return f"/v3/{owner}/terminalSettings"


def _segment(name: str | None) -> str:
    if name in {None, "", ".", ".."}:
        raise ConfigurationError(f"{name!r} cannot name an account, a store or a terminal")
    return quote(str(name), safe="")


class ManagementApi:
    """Look up and set shared keys. Nothing is tried twice: what it is asked to set, it may be asked again."""

    def __init__(self, environment: str, api_key: str, url: str | None = None) -> None:
        """Take ``test`` or ``live``, the API key, and for a simulator ``scheme://host:port``."""
        self._client = httpx.Client(
            base_url=url or _HOSTS[environment],
            headers={"X-API-Key": api_key, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S),
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def key_at(self, path: str) -> SharedKey | None:
        """Read the key that is in force at this level; its passphrase is empty where the platform does not show it.

        None is no proof that none is set: the platform leaves out what the API key's role may not see.

        Raises:
            ManagementError: it did not answer as it should.
        """
        return _key_of(self._read(path))

    def set_key(self, path: str, key: SharedKey) -> bool:
        """Set the key at this level and look whether it took; false when it had it already. Other settings stay.

        Raises:
            ManagementError: it refused, did not answer, or shows afterwards something else than was set.
        """
        before = self._read(path)
        if _same(_key_of(before), key):
            return False
        wanted = {"identifier": key.identifier, "passphrase": key.passphrase, "version": key.version}
        self._ask("PATCH", path, strict_json.dumps({"nexo": {"encryptionKey": wanted}}))
        after = self._read(path, unchanged=False)
        found = _key_of(after)
        if found is None or not found.passphrase:
            raise ManagementError(
                f"the Management API took the key and does not show it; give the API key the role “{ROLE}”",
                unchanged=False,
            )
        if not _same(found, key):
            raise ManagementError(
                "the Management API took the key and shows another one; somebody may have set it meanwhile: look again",
                unchanged=False,
            )
        _check_siblings(before, after)
        return True

    def _read(self, path: str, *, unchanged: bool = True) -> Mapping[str, Any]:
        """Read the settings; ``unchanged`` is what an error says of what went before."""
        try:
            body = self._ask("GET", path)
        except ManagementError as error:
            raise ManagementError(str(error), unchanged=unchanged) from None
        if not body:  # 204
            return {}
        try:
            settings = strict_json.loads(body)
        except strict_json.MalformedJson:
            settings = None
        if not isinstance(settings, Mapping):
            raise ManagementError("the Management API answered with something else than settings", unchanged=unchanged)
        return settings

    def _ask(self, method: Literal["GET", "PATCH"], path: str, body: bytes | None = None) -> bytes:
        headers = {"Content-Type": "application/json"} if body else {}
        try:
            response = self._client.request(method, path, content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            message = f"the Management API was not reached ({type(error).__name__}); look at the network"
            raise ManagementError(message, unchanged=True) from None
        except (httpx.RequestError, httpx.InvalidURL) as error:
            message = f"the Management API did not answer ({type(error).__name__}); run the command again"
            raise ManagementError(message, unchanged=False) from None
        if response.status_code in {200, 204}:
            return response.content
        raise _refusal(response)


def _refusal(response: httpx.Response) -> ManagementError:
    """Say what was refused, without a word of the platform's that may repeat a secret."""
    status = response.status_code
    is_certain = 400 <= status < 500 and status != 408
    problem: Any = None
    with suppress(strict_json.MalformedJson):
        problem = strict_json.loads(response.content)
    code, invalid = fields.text(problem, "errorCode"), fields.member(problem, "invalidFields")
    names = [fields.text(each, "name") or "" for each in invalid] if isinstance(invalid, list) else []
    shown = [name for name in names if _FIELD.fullmatch(name)]
    parts = [str(status), *([code] if code and _CODE.fullmatch(code) else []), *(f"field {name}" for name in shown)]
    if status in _REMEDIES:
        remedy = _REMEDIES[status]
    elif is_certain:
        remedy = "it does not take what was sent"
    else:
        remedy = "whether it changed anything is not known; run the command again"
    return ManagementError(f"the Management API answered {', '.join(parts)}: {remedy}", unchanged=is_certain)


def _key_of(settings: Mapping[str, Any]) -> SharedKey | None:
    match fields.member(settings, "nexo", "encryptionKey"):
        case {"identifier": str(identifier), "version": int(version), **others} if not isinstance(version, bool):
            passphrase = others.get("passphrase")
            return SharedKey(identifier, version, passphrase if isinstance(passphrase, str) else "")
        case _:
            return None


def _same(found: SharedKey | None, wanted: SharedKey) -> bool:
    if found is None or replace(found, passphrase="") != replace(wanted, passphrase=""):
        return False
    return hmac.compare_digest(found.passphrase.encode("utf-8", "replace"), wanted.passphrase.encode("utf-8"))


def _check_siblings(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raise ManagementError when settings beside the key changed; the platform says that they do not."""
    old, new = fields.mapping(before, "nexo") or {}, fields.mapping(after, "nexo") or {}
    changed = [name for name in {*old, *new} - {"encryptionKey"} if old.get(name) != new.get(name)]
    if changed:
        names = ", ".join(sorted(name for name in changed if _FIELD.fullmatch(name)))
        raise ManagementError(
            f"the key is set, and beside it nexo settings have changed: {names}; look at them in the Customer Area",
            unchanged=False,
        )
