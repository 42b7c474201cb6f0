"""SaleToAcquirerData: who asks, and what the platform is to do beside moving the money.

Of its two encodings, ``key=value&…`` and Base64 of JSON, always the first is sent, with dots for what is nested: the
platform takes it for all that we say, AdditionalResponse comes back in the same, and people can read both.
Source: https://docs.adyen.com/point-of-sale/add-data/pass-application-information, option 2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from orchestrator.errors import LocalProtocolError

TEXT_CHARS_MAX: Final = 40  # of a value of applicationInfo: the same page
_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9 ._-]", re.ASCII)
_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationInfo:
    """Which software asks: this product, where it runs, and the point of sale that it belongs to."""

    version: str = "0"
    os: str | None = None
    os_version: str | None = None
    platform_name: str | None = None
    platform_version: str | None = None
    integrator: str | None = None

    def members(self) -> dict[str, str]:
        """Spell it for the platform, in the letters that it takes."""
        said = {
            "merchantApplication.name": "counterfoil",
            "merchantApplication.version": self.version,
            "merchantDevice.os": self.os,
            "merchantDevice.osVersion": self.os_version,
            "externalPlatform.name": self.platform_name,
            "externalPlatform.version": self.platform_version,
            "externalPlatform.integrator": self.integrator,
        }
        return {
            f"applicationInfo.{name}": _NOT_ALLOWED.sub("-", text)[:TEXT_CHARS_MAX]
            for name, text in said.items()
            if text
        }


def encode(members: Mapping[str, str | None]) -> str:
    """Write SaleToAcquirerData; members that say nothing are left out.

    Raises:
        LocalProtocolError: a name is no plain word.
    """
    said = {name: text for name, text in members.items() if text}
    if not all(_KEY.fullmatch(name) for name in said):
        raise LocalProtocolError("acquirer data has a key that is no plain word")
    return "&".join(f"{name}={quote(text, safe=',')}" for name, text in said.items())
