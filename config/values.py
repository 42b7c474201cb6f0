"""What a setting's text may look like: each checker returns it made tidy, or says what is wrong.

No message holds the value that it refuses: values may be secrets, and a URL may hold a password.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from orchestrator.subscription import TYPES, Subscription
from orchestrator.terminal_api import certificates

BROKER_SCHEMES = frozenset({"redis", "rediss", "redis+socket", "amqp", "amqps"})
MERCHANT_ACCOUNT_CHARACTERS_MAX = 80  # merchantAccountCode in the platform's notifications
SALE_ID_CHARACTERS_MAX = 40  # the wire sets no limit; ours keeps it on one line of a receipt
APPLICATION_TEXT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}", re.ASCII)  # "Add application information"
HMAC_KEY_BYTES = 32  # the platform generates 64 hexadecimal digits
TAG_KEY_BYTES_MIN = 32  # as long as the digest of HMAC-SHA256: RFC 2104 §3
CALLBACK_SECRET_BYTES_MIN, CALLBACK_SECRET_BYTES_MAX = 24, 64  # Standard Webhooks, "Signature scheme"
HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}", re.ASCII)
OTHER_HEADERS = frozenset({"authorization", "cookie", "host", "origin", "referer", "user-agent", "x-forwarded-for"})
REFUND_LIMIT = re.compile(r"(?:[ -.0-~]{1,80}/)?(?:[A-Z]{3}|\*)", re.ASCII)
LIMIT = re.compile(r"([A-Z]{3}|\*):([0-9]{1,12})", re.ASCII)
CRON_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 6))
CRON_PART = re.compile(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/([1-9]\d?))?")


def setting(text: str, default: object = None, *, example: str, unset: str = "none") -> Any:
    """A field with what the reference says of it: its help, an example, and what holds while it has no value."""
    return Field(default=default, description=text, examples=[example], json_schema_extra={"unset": unset})


class Shown(NamedTuple):
    """One setting as ``config show`` prints it; ``value`` never holds a secret."""

    name: str
    value: str
    origin: str
    help: str


def split_list(value: object) -> object:
    """A comma-separated text as its parts; anything else as it is."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(","))


def split_url(value: str) -> SplitResult:
    """The parts of a URL, its port among them known to be a port."""
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError("is not a URL: its host or port is malformed") from None
    return url


def database_url(value: str) -> str:
    if split_url(value).scheme != "postgresql+psycopg":
        raise ValueError("must start with postgresql+psycopg://, for the one driver that is used")
    return value


def broker_url(value: str) -> str:
    if split_url(value).scheme not in BROKER_SCHEMES:
        raise ValueError(f"must start with one of {', '.join(f'{scheme}://' for scheme in sorted(BROKER_SCHEMES))}")
    return value


def result_backend(value: str) -> str:
    if not split_url(value).scheme:
        raise ValueError("must be a URL that Celery takes as a result backend")
    return value


def origin_url(value: str) -> str:
    """``scheme://host:port`` and nothing after it."""
    url = split_url(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be scheme://host:port, with http or https")
    if url.path not in {"", "/"} or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("must end after the host and port: no path, query or user; the paths are the platform's")
    return f"{url.scheme}://{url.netloc}"


def http_url(value: str) -> str:
    url = split_url(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be a whole URL, with http or https and a host")
    return value


def address(value: str) -> str:
    """``host:port``; an IPv6 host in brackets."""
    try:
        host, port = split_address(value)
    except ValueError:
        raise ValueError("must be host:port, an IPv6 host in brackets") from None
    if not host or not 0 < port < 65536:
        raise ValueError("must be host:port, with a port from 1 to 65535")
    return value


def split_address(value: str) -> tuple[str, int]:
    """Host and port of a ``host:port`` setting; the brackets of an IPv6 host are taken off."""
    host, _, port = value.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (port.isascii() and port.isdigit()) or (":" in host and not bracketed) or any(map(str.isspace, host)):
        raise ValueError("not host:port")
    return (host[1:-1] if bracketed else host), int(port)


def printable(characters_max: int) -> Callable[[str], str]:
    """A checker for ASCII that prints, at most so long."""

    def check(value: str) -> str:
        if len(value) > characters_max or not value.isascii() or not value.isprintable() or value != value.strip():
            raise ValueError(f"must be 1 to {characters_max} printable ASCII characters, without spaces at the ends")
        return value

    return check


def header_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("holds a space, a line break or a character outside ASCII; paste it again, alone")
    return value


def hex_key(bytes_min: int, bytes_max: int | None = None) -> Callable[[SecretStr], SecretStr]:
    """A checker for a key in hexadecimal of so many bytes."""
    expected = f"{2 * bytes_min} hexadecimal digits" if bytes_max else f"at least {2 * bytes_min} hexadecimal digits"

    def check(value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        length = len(text) // 2
        if not re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", text) or length < bytes_min or length > (bytes_max or length):
            raise ValueError(f"must be {expected}; several are separated by commas, the current one first")
        return value

    return check


def callback_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    try:
        length = len(base64.b64decode(text.removeprefix("whsec_"), validate=True))
    except (binascii.Error, ValueError):
        length = 0
    if not text.startswith("whsec_") or not CALLBACK_SECRET_BYTES_MIN <= length <= CALLBACK_SECRET_BYTES_MAX:
        raise ValueError("must be whsec_ and the Base64 of 24 to 64 bytes; several are separated by commas")
    return value


def cron(value: str) -> str:
    """Five fields of numbers, ``*``, ranges, lists and steps, in UTC."""
    fields = value.split()
    if len(fields) != len(CRON_FIELDS):
        raise ValueError("must have five fields: minute, hour, day of month, month, day of week")
    for text, (name, low, high) in zip(fields, CRON_FIELDS, strict=True):
        for part in text.split(","):
            match = CRON_PART.fullmatch(part)
            numbers = [int(group) for group in match.groups()[:2] if group] if match else [high + 1]
            if numbers != sorted(numbers) or any(not low <= number <= high for number in numbers):
                raise ValueError(f"has a {name} that is not a number, range or step from {low} to {high}")
    return " ".join(fields)


def event_types(value: tuple[str, ...]) -> tuple[str, ...]:
    """Types of what callers are told, or patterns of them."""
    for pattern in value:
        if not Subscription((pattern,)).wanted:
            raise ValueError(f"has a type that is none of {', '.join(TYPES)}; patterns are such as payment.* or *")
    return value


def limits(value: object) -> object:
    """``EUR:10000,GBP:9000``: an amount in minor units for each currency; ``*`` for every other one."""
    if not isinstance(value, str):
        return value
    found: dict[str, int] = {}
    for part in value.split(","):
        match = LIMIT.fullmatch(part.strip())
        if match is None or match[1] in found:
            raise ValueError("must name a currency and an amount in minor units once each: EUR:10000,*:0")
        found[match[1]] = int(match[2])
    return found


def merchant_limits(value: object) -> object:
    """``EUR:5000,Shop/EUR:20000,*:0``: minor units by currency, ``*`` for the rest; ``MERCHANT/`` for one alone."""
    if not isinstance(value, str):
        return value
    found: dict[str, int] = {}
    for part in value.split(","):
        name, _, minor = part.strip().rpartition(":")
        if not REFUND_LIMIT.fullmatch(name) or not re.fullmatch(r"[0-9]{1,12}", minor, re.ASCII) or name in found:
            raise ValueError(
                "must name a currency and an amount in minor units once each: EUR:5000,ExampleShop/EUR:20000"
            )
        found[name] = int(minor)
    return found


def header_name(value: str) -> str:
    if not HEADER_NAME.fullmatch(value) or value.lower() in OTHER_HEADERS:
        raise ValueError("must be the name of a header that nothing else uses: letters, digits and hyphens")
    return value


def networks(value: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses and networks; never one that everybody is in."""
    for each in value:
        try:
            network = ipaddress.ip_network(each)
        except ValueError:
            raise ValueError("must be addresses or networks: 10.0.0.5,10.1.0.0/24") from None
        if network.prefixlen == 0:
            raise ValueError("must not be every address there is; name the proxy's own")
    return value


def home_path(value: Path) -> Path:
    """An absolute path, ``~`` replaced by the home folder."""
    try:
        return value.expanduser().absolute()
    except RuntimeError:
        raise ValueError("starts with ~, and there is no home folder; write the whole path") from None


def certificate_file(value: Path) -> Path:
    """A file that holds one certificate, in PEM or DER."""
    certificates.read_certificate(value)
    return value


def application_text(value: str) -> str:
    if not APPLICATION_TEXT.fullmatch(value):
        raise ValueError("must be 1 to 40 letters, digits, spaces, '.', '_' or '-', and begin with a letter or digit")
    return value


def without_password(text: str) -> str:
    """A URL with its password masked; any other text as it is."""
    if "://" not in text or "@" not in text:
        return text
    url = urlsplit(text)
    user = url.username or ""
    host = url.netloc.rpartition("@")[2]
    return url._replace(netloc=f"{user}{':***' if url.password else ''}@{host}").geturl()


def as_variable(value: object) -> str:
    """A value as the environment spells it; an empty text for none."""
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(as_variable(each) for each in value)
    if isinstance(value, dict):
        return ",".join(f"{name}:{each}" for name, each in value.items())
    if isinstance(value, Path):
        return str(value.absolute())  # the child may start in another folder
    return str(value).lower() if isinstance(value, bool) else str(value)


Url = Annotated[str, AfterValidator(http_url)]
Address = Annotated[str, AfterValidator(address)]
Merchant = Annotated[str, AfterValidator(printable(MERCHANT_ACCOUNT_CHARACTERS_MAX))]
SaleId = Annotated[str, AfterValidator(printable(SALE_ID_CHARACTERS_MAX))]
ApplicationText = Annotated[str, AfterValidator(application_text)]
Folder = Annotated[Path, AfterValidator(home_path)]
CertificateFile = Annotated[Path, AfterValidator(home_path), AfterValidator(certificate_file)]
HeaderSecret = Annotated[SecretStr, AfterValidator(header_secret)]
AS_TEXT = WithJsonSchema({"type": "string"})  # the environment knows lists as comma-separated text only
HmacKey = Annotated[SecretStr, AfterValidator(hex_key(HMAC_KEY_BYTES, HMAC_KEY_BYTES))]
TagKey = Annotated[SecretStr, AfterValidator(hex_key(TAG_KEY_BYTES_MIN))]
CallbackSecret = Annotated[SecretStr, AfterValidator(callback_secret)]
HeaderName = Annotated[str, AfterValidator(header_name)]
Networks = Annotated[tuple[str, ...], BeforeValidator(split_list), AfterValidator(networks), AS_TEXT]
HmacKeys = Annotated[tuple[HmacKey, ...], BeforeValidator(split_list), AS_TEXT]
TagKeys = Annotated[tuple[TagKey, ...], BeforeValidator(split_list), AS_TEXT]
CallbackSecrets = Annotated[tuple[CallbackSecret, ...], BeforeValidator(split_list), AS_TEXT]
EventTypes = Annotated[tuple[str, ...], BeforeValidator(split_list), AfterValidator(event_types), AS_TEXT]


#: What is useless without the other: the field that is checked, and the one before it that asks for it.
PAIRS = {
    "notification_password": "notification_username",
    "flower_password": "flower_user",
    "callback_secrets": "callback_url",
    "console_trusted_proxies": "console_user_header",
}
