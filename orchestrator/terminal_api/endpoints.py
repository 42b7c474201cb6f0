"""Where requests go: two families of hosts, one builder.

A live host is the one of the region where the terminal is boarded; it is never guessed from a currency or a country.
Source: ``TerminalAPI-v1`` and ``CloudDeviceService-v1`` of github.com/Adyen/adyen-openapi; ``nea`` is reported by
integrators alone.
"""

import ipaddress
import re
from typing import Literal
from urllib.parse import quote, urlsplit

from orchestrator.errors import ConfigurationError

Kind = Literal["async", "sync"]

_TEST_HOSTS = {"terminal": "terminal-api-test.adyen.com", "device": "device-api-test.adyen.com"}
_LIVE_SUFFIXES = {"eu": "", "us": "-us", "au": "-au", "apse": "-apse", "nea": "-nea"}
_DEVICE_ONLY_REGIONS = frozenset({"nea"})

#: Where a terminal listens on the local network (documentation of local communications).
LOCAL_PORT = 8443
_PORT_MAX = 65_535
#: A name by RFC 1123, and with the underscore that some routers allow; its last label begins with a letter.
_NAME = re.compile(r"(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*[a-z](?:[a-z0-9_-]{0,62}(?<!-))?\.?")
_NAME_CHARS_MAX = 253


def cloud_url(
    environment: str, region: str | None, family: str, *, kind: Kind, merchant: str, poi_id: str, override: str | None
) -> str:
    """Return the URL that a request of this kind is posted to. Raises ConfigurationError for what does not exist."""
    base = cloud_base(environment, region, family, override)
    if family == "terminal":
        return f"{base}/{kind}"
    return f"{base}/v1/merchants/{_segment(merchant)}/devices/{_segment(poi_id)}/{kind}"


def cloud_base(environment: str, region: str | None, family: str, override: str | None) -> str:
    """Return the origin of the cloud. Raises ConfigurationError for what does not exist."""
    host = _host(environment, region, family)
    return f"https://{host}" if override is None else _checked_override(override)


def connected_devices_path(merchant: str, store: str | None) -> str:
    """Return the path that lists the connected devices of a merchant account, or of one of its stores."""
    narrowed = f"?store={quote(store, safe='')}" if store else ""
    return f"/v1/merchants/{_segment(merchant)}/connectedDevices{narrowed}"


def local_address(text: str) -> str:
    """Return where a terminal listens as ``host:port``, with the standard port where the text names none.

    Raises:
        ConfigurationError: the text is no address.
    """
    wrong = ConfigurationError("must be a name or an IP address, with a port where it is not 8443: 192.0.2.7:8443")
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, LOCAL_PORT if parts.port is None else parts.port
    except ValueError:
        raise wrong from None
    bare = parts.netloc == text and "@" not in text
    if not host or not bare or not _is_host(host) or not 0 < port <= _PORT_MAX:
        raise wrong
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_host(host: str) -> bool:
    """Whether this is an IP address or a name that a resolver can be asked for; 192.0.2.300 is neither."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return len(host) <= _NAME_CHARS_MAX and _NAME.fullmatch(host) is not None
    return True


def _host(environment: str, region: str | None, family: str) -> str:
    if family not in _TEST_HOSTS:
        raise ConfigurationError(f"unknown cloud API {family!r}; choose terminal or device")
    if environment == "test":
        return _TEST_HOSTS[family]
    if environment != "live":
        raise ConfigurationError(f"unknown environment {environment!r}; choose test or live")
    choices = [name for name in _LIVE_SUFFIXES if family == "device" or name not in _DEVICE_ONLY_REGIONS]
    if region not in choices:
        raise ConfigurationError(f"no live {family} API host for region {region!r}; choose {', '.join(choices)}")
    return f"{family}-api-live{_LIVE_SUFFIXES[region]}.adyen.com"


def _checked_override(override: str) -> str:
    try:
        parts = urlsplit(override)
        valid = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        valid = False
        parts = urlsplit("")
    if not valid or parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError("the cloud URL must look like scheme://host:port, without a path")
    return f"{parts.scheme}://{parts.netloc}"


def _segment(name: str) -> str:
    if name in {"", ".", ".."}:
        raise ConfigurationError(f"{name!r} cannot name a merchant account or a device")
    return quote(name, safe="")
