"""The settings: one frozen object, read once, every mistake reported at once. No other module reads the environment.

A value comes from the first of these that has it: the environment, the file ``.env``, a file of its name in the
secrets folder, the default. An empty value counts as none.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config import secrets, values
from config.sources import PREFIX, Gathered, default_data_dir, dotenv_variables
from config.values import Shown, setting, split_address
from orchestrator.errors import ConfigurationError
from orchestrator.model import Transport
from orchestrator.terminal_api import certificates

__all__ = ["Settings", "Shown", "child_environment", "load_settings", "secret_of", "settings", "split_address"]

WORKER_CONCURRENCY_MAX = 1000  # threads of one process; more work is more processes
RETENTION_DAYS = Field(ge=30, le=36_500)  # terminals and the platform's repetitions are done with it after a month


class Settings(BaseSettings):
    """Every setting, checked. Construct it with :func:`load_settings`; tests may give fields by name."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    environment: Literal["test", "live"] = setting(
        "The platform's environment. `live` refuses other URLs, a time scale, and roots other than the published one.",
        "test",
        example="live",
    )
    data_dir: values.Folder = setting(
        "Folder of the embedded servers and of files that last.",
        Path("~/.local/share/counterfoil"),
        example="/var/lib/counterfoil",
    )
    secrets_dir: values.Folder | None = setting(
        "Folder of secrets files, each named for its setting, in either case.",
        example="/run/secrets",
        unset="`/run/secrets` where it exists",
    )
    database_url: Annotated[str, AfterValidator(values.database_url)] | None = setting(
        "PostgreSQL 15 or newer.",
        example="postgresql+psycopg://counterfoil@db.example/counterfoil",
        unset="the embedded PostgreSQL, in the data folder",
    )
    broker_url: Annotated[str, AfterValidator(values.broker_url)] | None = setting(
        "Redis, Valkey or RabbitMQ.",
        example="amqp://counterfoil@broker.example//",
        unset="the embedded Redis, in the data folder",
    )
    result_backend: Annotated[str, AfterValidator(values.result_backend)] | None = setting(
        "Only for callers who want a task's return value; no money path reads it.",
        example="redis://results.example/1",
    )
    quorum_queues: bool = setting("Declare RabbitMQ's queues as quorum queues.", default=False, example="true")
    worker_concurrency: Annotated[int, Field(ge=1, le=WORKER_CONCURRENCY_MAX)] = setting(
        "Threads of one worker: payments that it has in hand at once.", 32, example="64"
    )
    api_key: values.HeaderSecret | None = setting(
        "The platform's API key. Alias: `ADYEN_API_KEY`.", example="AQE…", unset="none: nothing can be sent"
    )
    merchant_account: values.Merchant | None = setting(
        "For submissions that name no merchant account. Alias: `ADYEN_MERCHANT_ACCOUNT`.", example="ExampleShopPOS"
    )
    region: Literal["eu", "us", "au", "apse", "nea"] = setting(
        "Region of the live hosts: Europe, United States, Australia, East Asia, North-east Asia.", "eu", example="us"
    )
    transport: Transport = setting(
        "How requests reach terminals, unless a terminal says otherwise: `async`, `sync`, `local`.",
        Transport.ASYNC,
        example="sync",
    )
    cloud_api: Literal["terminal", "device"] = setting(
        "The cloud's endpoint family: the Terminal API's, or the Cloud device API's.", "terminal", example="device"
    )
    cloud_url: Annotated[str, AfterValidator(values.origin_url)] | None = setting(
        "Base URL in place of the platform's, `scheme://host:port` without a path, for a simulator; not on live.",
        example="http://127.0.0.1:9080",
        unset="from environment and region",
    )
    terminal_roots: values.CertificateFile | None = setting(
        "File with the root that terminals' certificates chain to, PEM or DER; on live only the published one.",
        example="/etc/counterfoil/terminal-root.pem",
        unset="on test the published root, which comes along; on live none, and no local terminal is reached",
    )
    legacy_terminal_certificates: bool = setting(
        "Accept certificates that name no terminal, as old terminals have them: any of those passes for any other.",
        default=False,
        example="true",
    )
    cloud_encryption: bool = setting(
        "Seal what goes through the Cloud device API to terminals that have a shared key.",
        default=False,
        example="true",
    )
    management_api_key: values.HeaderSecret | None = setting(
        "The platform's API key for terminal settings, where shared keys are set; another one than that of payments.",
        example="AQE…",
        unset="none: shared keys are only known here, and set in the Customer Area",
    )
    management_url: Annotated[str, AfterValidator(values.origin_url)] | None = setting(
        "Base URL in place of the Management API's, `scheme://host:port` without a path, for a simulator; not on live.",
        example="http://127.0.0.1:9081",
        unset="from the environment",
    )
    company_account: values.Merchant | None = setting(
        "The platform's company account, for a shared key that all of its terminals have.", example="ExampleCompany"
    )
    sale_id: values.SaleId = setting("Names this system to the terminals.", "counterfoil", example="till-system-1")
    platform_name: values.ApplicationText | None = setting(
        "The point of sale that asks, as the platform is told with each payment.", example="Example POS"
    )
    platform_version: values.ApplicationText | None = setting("Its version.", example="9.2")
    integrator: values.ApplicationText | None = setting("Who integrated it, if somebody else.", example="Example BV")
    receipts: bool = setting(
        "Keep what terminals want printed, and tell them that the till prints it.", default=False, example="true"
    )
    notification_username: str | None = setting(
        "Basic authentication of `/notifications/terminal`.", example="adyen", unset="none: notifications get 401"
    )
    notification_password: SecretStr | None = setting(
        "Basic authentication of `/notifications/terminal`.",
        example="a long random text",
        unset="none: notifications get 401",
    )
    hmac_keys: values.HmacKeys = setting(
        "Keys of the standard webhooks: 64 hexadecimal digits each, comma-separated, current first. "
        "Alias: `ADYEN_HMAC_KEY`.",
        (),
        example="44782DEF…",
        unset="none: webhooks get 401",
    )
    tag_keys: values.TagKeys = setting(
        "Keys of our own result tag: 64 hexadecimal digits or more each, comma-separated, current first.",
        (),
        example="9F86D081…",
        unset="made by `db upgrade`, kept in the database",
    )
    callback_url: values.Url | None = setting(
        "Where the caller is told of changes.", example="https://shop.example/hooks"
    )
    callback_secrets: values.CallbackSecrets = setting(
        "Standard Webhooks secrets that sign callbacks: `whsec_…`, comma-separated, current first.",
        (),
        example="whsec_…",
    )
    callback_allow_private: bool = setting("Let callbacks go to private addresses.", default=False, example="true")
    callback_events: values.EventTypes = setting(
        "What the caller is told of: types, or patterns such as `payment.*`, comma-separated. A result that the books "
        "merely confirm is told where `payment.reconciled` itself is named.",
        "payment.*,refund.*,reconciliation.completed",
        example="payment.*,payment.reconciled,terminal.display",
    )
    exchange: bool = setting(
        "Publish changes to the topic exchange `counterfoil` of the broker.", default=True, example="false"
    )
    time_scale: Annotated[float, Field(ge=1, allow_inf_nan=False)] = setting(
        "Divides protocol and retry waits (50 makes 150 s into 3 s), for demo and tests; not on live.",
        1.0,
        example="50",
    )
    ruling_second_above: Annotated[dict[str, int], BeforeValidator(values.limits), values.AS_TEXT] = setting(
        "Amounts in minor units, by currency, above which a second person has to agree to a ruling; `*` for the rest.",
        {},
        example="EUR:10000,*:0",
        unset="none: one person rules",
    )
    unreferenced_refunds: bool = setting(
        "Let keys with the role `finance` refund without a payment, to any card that is presented.",
        default=False,
        example="true",
    )
    unreferenced_refund_limit_minor: Annotated[
        dict[str, int], BeforeValidator(values.merchant_limits), values.AS_TEXT
    ] = setting(
        "Refunds without a payment above this take a second person: minor units by currency, `*` for the rest, "
        "`MERCHANT/` before one for that merchant account alone.",
        {},
        example="EUR:5000,ExampleShop/EUR:20000",
        unset="none: each takes two",
    )
    reconcile_cron: Annotated[str, AfterValidator(values.cron)] = setting(
        "When reconciliation runs: five cron fields of numbers, in UTC.", "0 6 * * *", example="30 5 * * 1-5"
    )
    reports_dir: values.Folder | None = setting(
        "Folder of the platform's reports.",
        example="/var/lib/counterfoil/reports",
        unset="`reports` in the data folder",
    )
    retention_days: Annotated[int, RETENTION_DAYS] | None = setting(
        "Days after which card, shopper, receipts, callbacks, webhooks and what journals rest on are expunged; the "
        "proof stays.",
        example="400",
        unset="none: they are kept",
    )
    canaries: bool = setting(
        "Put a message into each queue every 30 s that asks whether anybody takes it.", default=True, example="false"
    )
    log_format: Literal["console", "json"] = setting(
        "`console` for people, `json` for one object per line.", "console", example="json"
    )
    listen: values.Address = setting("Where `serve` listens.", "127.0.0.1:8080", example="0.0.0.0:8080")
    console_user_header: values.HeaderName | None = setting(
        "Single sign-on: the header in which a trusted proxy names who is logged in to the console.",
        example="X-Forwarded-User",
        unset="none: the console has its own login alone",
    )
    console_trusted_proxies: values.Networks = setting(
        "Addresses or networks, comma-separated, from which that header is believed; others send it in vain.",
        (),
        example="10.0.0.5,10.1.0.0/24",
    )
    traces: values.Url | None = setting(
        "Where traces go: an OTLP/HTTP endpoint, to whose URL `/v1/traces` is added. Needs the extra `otel`.",
        example="http://127.0.0.1:4318",
        unset="none: no traces",
    )
    traces_sample: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = setting(
        "Share of traces that is sent, 0 to 1, of those that begin here; a caller decides for its own.",
        1.0,
        example="0.1",
    )
    task_events: bool = setting(
        "Have workers tell monitors such as Flower of each task; it is their dearest option on Redis.",
        default=True,
        example="false",
    )
    flower_listen: values.Address = setting("Where `flower` listens.", "127.0.0.1:5555", example="127.0.0.1:5556")
    flower_url: values.Url | None = setting(
        "Where people reach Flower with a browser, for links from the console; a path in it Flower serves under.",
        example="https://flower.shop.example",
        unset="none: the console does not link Flower",
    )
    flower_user: str | None = setting("Login of Flower.", example="ops", unset="none: Flower does not start")
    flower_password: SecretStr | None = setting(
        "Login of Flower.", example="a long random text", unset="none: Flower does not start"
    )

    @field_validator("cloud_url", "management_url", "time_scale", "terminal_roots")
    @classmethod
    def _live_overrides_nothing(cls, value: object, info: ValidationInfo) -> object:
        if info.data.get("environment") != "live":
            return value
        if info.field_name == "terminal_roots" and isinstance(value, Path):
            if certificates.fingerprint(certificates.read_certificate(value)) != certificates.PUBLISHED_SHA256["live"]:
                raise ValueError("is not the platform's published live root, and the environment is live")
        elif value not in (None, 1.0):
            raise ValueError("is refused while the environment is live; leave it out")
        return value

    @field_validator("notification_password", "flower_password", "callback_secrets", "console_trusted_proxies")
    @classmethod
    def _complete_pairs(cls, value: object, info: ValidationInfo) -> object:
        partner = values.PAIRS[info.field_name or ""]
        if partner in info.data and bool(info.data[partner]) and not value:
            raise ValueError(f"is missing, and {environment_name(partner)} is set; set both or neither")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Gathering is ours: the stock sources stop at the first mistake, and take no environment but the process's.
        return (init_settings,)

    def describe(self) -> list[Shown]:
        """Every setting with its value, secrets only as "set" or "not set", and where it came from."""
        return [
            Shown(environment_name(name), self._text(name), self._origins.get(name, "default"), info.description or "")
            for name, info in type(self).model_fields.items()
        ]

    def _text(self, name: str) -> str:
        value = getattr(self, name)
        if is_secret(name):
            return "set" if value else "not set"
        if value is None:
            return unset_text(name)
        return values.without_password(f"{value:g}" if isinstance(value, float) else values.as_variable(value))

    def __repr__(self) -> str:
        # URLs may hold passwords: only `describe` knows how to show them.
        return f"{type(self).__name__}(environment={self.environment!r})"

    __str__ = __repr__

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of the environment, by the names of its variables."""
        schema = cls.model_json_schema() | {"title": "Counterfoil's settings"}
        del schema["description"]
        for part in schema["properties"].values():
            if part.get("default") in ([], {}):  # a list of none; its text is empty
                del part["default"]
        schema["properties"] = {environment_name(name): part for name, part in schema["properties"].items()}
        return schema


def environment_name(field_name: str) -> str:
    return PREFIX + field_name.upper()


FIELDS = {environment_name(name): name for name in Settings.model_fields}


def is_secret(field_name: str) -> bool:
    return "SecretStr" in str(Settings.model_fields[field_name].annotation)


def unset_text(field_name: str) -> str:
    """What holds while the setting has no value."""
    extra = Settings.model_fields[field_name].json_schema_extra
    return str(extra["unset"]) if isinstance(extra, dict) else "none"


def _mistake(gathered: Gathered, error: ErrorDetails) -> str:
    """One line: the setting, where its value came from, what is wrong, the remedy; never the value."""
    name = str(error["loc"][0])
    what = error["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
    if ";" not in what:  # what follows a semicolon is a remedy already
        what += f"; for example: {(Settings.model_fields[name].examples or [''])[0]}"
    where = f" ({gathered.origins[name]})" if name in gathered.origins else ""
    return f"{environment_name(name)}{where}: {what}"


def load_settings(environ: Mapping[str, str] | None = None, *, env_file: Path | None = None) -> Settings:
    """Read and check every setting. Raises `ConfigurationError` with one line for each mistake.

    A mapping given as ``environ`` stands for everything: then neither ``.env`` nor the usual secrets folder is read,
    unless they are named.
    """
    variables = os.environ if environ is None else environ
    gathered = Gathered(FIELDS)
    gathered.add(variables, "environment")
    dotenv = env_file or (Path(".env") if environ is None else None)
    if dotenv:
        gathered.add_dotenv(dotenv)
    gathered.add_secrets(gathered.texts.get("secrets_dir"), usual=environ is None)
    fields: dict[str, Any] = {"data_dir": default_data_dir(variables)} | gathered.texts
    try:
        loaded = Settings(**fields)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        gathered.mistakes += dict.fromkeys(_mistake(gathered, each) for each in found)
    else:
        if not gathered.mistakes:
            loaded._origins.update(gathered.origins)  # noqa: SLF001  # the one place that knows them
            return loaded
    count = len(gathered.mistakes)
    title = f"{count} mistake{'s' * (count > 1)} in the settings:"
    raise ConfigurationError("\n  ".join([title, *gathered.mistakes]))


@cache
def settings() -> Settings:
    """The settings of this process, read at the first call."""
    return load_settings()


def secret_of(reference: str) -> str:
    """The secret that ``env:NAME`` or ``file:/path`` names; a variable of the environment, else of ``.env``.

    Raises:
        ConfigurationError: there is none; the message names the reference alone.
    """
    return secrets.resolve(reference, {**dotenv_variables(Path(".env")), **os.environ})


def child_environment(loaded: Settings, **overrides: object) -> dict[str, str]:
    """The environment of a child process with these settings: ours, every setting by name, then the overrides.

    Overrides are given by field name. It holds secrets: it is for starting processes, never for showing.
    """
    fields = {name: getattr(loaded, name) for name in Settings.model_fields} | overrides
    texts = {environment_name(name): values.as_variable(value) for name, value in fields.items()}
    return dict(os.environ) | {name: text for name, text in texts.items() if text}
