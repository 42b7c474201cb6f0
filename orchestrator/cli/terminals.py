"""``counterfoil terminals``: register, show, hold and release terminals."""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from rich.text import Text

from config.secrets import checked_reference
from config.settings import settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.cli.output import clock, emit, say, table
from orchestrator.cli.product import AsName, Json, Merchant, OnlyMerchant, account_name, merchant_account, product
from orchestrator.cli.root import app
from orchestrator.cli.shared_keys import IDENTIFIER_CHARS_MAX, VERSION_MAX, key
from orchestrator.cli.trust import trust
from orchestrator.cli.watching import watch
from orchestrator.errors import ConfigurationError, NotFound
from orchestrator.inventory import look
from orchestrator.model import Transport
from orchestrator.store.rows import Row
from orchestrator.store.shared_keys import KeyPlace, SharedKeyStore
from orchestrator.store.terminals import TerminalStore
from orchestrator.store.words import KeyLevel
from orchestrator.terminal_api.endpoints import local_address

terminals = typer.Typer(help="The terminals that payments may go to.", no_args_is_help=True)
app.add_typer(terminals, name="terminals")
terminals.add_typer(key, name="key")
terminals.command()(trust)
terminals.command()(watch)

_PAGE: Final = 500

PoiId = Annotated[str, typer.Argument(metavar="POIID", help="Model and serial number, such as V400m-324688170.")]
Store = Annotated[
    str | None, typer.Option(help="The platform's store that the terminal stands in.", show_default=False)
]
TransportOption = Annotated[
    Transport | None, typer.Option(help="How requests reach it; COUNTERFOIL_TRANSPORT otherwise.", show_default=False)
]
Region = Annotated[
    Literal["eu", "us", "au", "apse", "nea"] | None,
    typer.Option(help="Region of the live hosts; COUNTERFOIL_REGION otherwise.", show_default=False),
]
CloudApi = Annotated[
    Literal["terminal", "device"] | None,
    typer.Option("--cloud-api", help="Endpoint family; COUNTERFOIL_CLOUD_API otherwise.", show_default=False),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST[:PORT]",
        help="Where a local terminal listens; port 8443 where none is named.",
        show_default=False,
    ),
]
TillPrints = Annotated[
    bool | None,
    typer.Option(
        "--till-prints/--terminal-prints",
        help="Who prints receipts; COUNTERFOIL_RECEIPTS otherwise. A terminal without a printer needs the till.",
        show_default=False,
    ),
]
KeyIdentifier = Annotated[
    str | None, typer.Option(help="Identifier of the shared key of this terminal.", show_default=False)
]
KeyVersion = Annotated[int | None, typer.Option(min=0, help="Version of the shared key.", show_default=False)]
PassphraseEnv = Annotated[
    str | None,
    typer.Option(metavar="VAR", help="Environment variable with the key's passphrase.", show_default=False),
]


class Registration(BaseModel):
    """A terminal as a registration names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    poi_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,16}-[A-Za-z0-9]{1,32}$")]
    merchant_account: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    store: Annotated[str, StringConstraints(min_length=1, max_length=80)] | None = None
    transport: Transport
    region: Literal["eu", "us", "au", "apse", "nea"] | None = None
    cloud_api: Literal["terminal", "device"] | None = None
    till_prints: bool | None = None
    address: Annotated[str, StringConstraints(max_length=255)] | None = None


class FileKey(BaseModel):
    """A terminal's shared key as a TOML file names it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    identifier: Annotated[str, StringConstraints(min_length=1, max_length=IDENTIFIER_CHARS_MAX)]
    version: Annotated[int, Field(ge=0, le=VERSION_MAX)]
    passphrase: str


def checked(**fields: Any) -> dict[str, Any]:
    """The fields of a registration, checked.

    Raises:
        ConfigurationError: a field is wrong.
    """
    if fields.get("transport") is None:
        fields["transport"] = settings().transport
    try:
        registration = Registration.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        wrong = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        if wrong == "poi_id":
            what = "must be model and serial number with a hyphen between them, such as V400m-324688170"
        raise ConfigurationError(f"{fields.get('poi_id')}: {wrong}: {what}") from None
    return registration.model_dump(mode="json") | {"address": _address(registration)}


def _key(identifier: str | None, version: int | None, variable: str | None) -> dict[str, Any] | None:
    given = (identifier, version, variable)
    if given == (None, None, None):
        return None
    if None in given:
        raise ConfigurationError("a shared key takes --key-identifier, --key-version and --passphrase-env together")
    return {"identifier": identifier, "version": version, "passphrase": checked_reference(f"env:{variable}")}


def _file_key(poi_id: object, given: object) -> dict[str, Any] | None:
    """The shared key of a TOML file's terminal."""
    if given is None:
        return None
    try:
        key = FileKey.model_validate(given).model_dump()
    except ValidationError:
        example = '{ identifier = "lane", version = 1, passphrase = "env:LANE_KEY" }'
        raise ConfigurationError(f"{poi_id}: key: must be like {example}") from None
    checked_reference(key["passphrase"])
    return key


def _register(counterfoil: Counterfoil, fields: dict[str, Any], key: dict[str, Any] | None) -> Row:
    row = TerminalStore(counterfoil.database).put(fields)
    if key is not None:
        place = KeyPlace(KeyLevel.TERMINAL, row["merchant_account"], row["poi_id"])
        SharedKeyStore(counterfoil.database).add(place, **key, created_by=account_name())
    return row


def _address(registration: Registration) -> str | None:
    if registration.address is None:
        if registration.transport is Transport.LOCAL:
            raise ConfigurationError(f"{registration.poi_id}: address: a local terminal needs one; give --address")
        return None
    try:
        return local_address(registration.address)
    except ConfigurationError as error:
        raise ConfigurationError(f"{registration.poi_id}: address: {error}") from None


@terminals.command()
def add(
    poi_id: PoiId,
    *,
    merchant: Merchant = None,
    store: Store = None,
    transport: TransportOption = None,
    region: Region = None,
    cloud_api: CloudApi = None,
    till_prints: TillPrints = None,
    address: AddressOption = None,
    key_identifier: KeyIdentifier = None,
    key_version: KeyVersion = None,
    passphrase_env: PassphraseEnv = None,
) -> None:
    """Register a terminal. One that is registered already takes what is given here."""
    key = _key(key_identifier, key_version, passphrase_env)
    fields = checked(
        poi_id=poi_id,
        merchant_account=merchant_account(merchant),
        store=store,
        transport=transport,
        region=region,
        cloud_api=cloud_api,
        till_prints=till_prints,
        address=address,
    )
    with product() as counterfoil:
        row = _register(counterfoil, fields, key)
    say(f"{'registered' if row['created'] else 'changed'} {poi_id} for {row['merchant_account']}, {row['transport']}")


@terminals.command()
def update(
    poi_id: PoiId,
    *,
    merchant: Merchant = None,
    store: Store = None,
    transport: TransportOption = None,
    region: Region = None,
    cloud_api: CloudApi = None,
    till_prints: TillPrints = None,
    address: AddressOption = None,
) -> None:
    """Change what is given of a registered terminal; the rest stays."""
    given = {
        "merchant_account": merchant,
        "store": store,
        "transport": transport,
        "region": region,
        "cloud_api": cloud_api,
        "till_prints": till_prints,
        "address": address,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise ConfigurationError("name at least one thing to change; see `counterfoil terminals update --help`")
    with product() as counterfoil:
        store_of = TerminalStore(counterfoil.database)
        row = _registered(store_of, poi_id)
        store_of.put(checked(**{name: row[name] for name in Registration.model_fields} | changes))
    say(f"changed {poi_id}: {', '.join(f'{name} {value}' for name, value in changes.items())}")


@terminals.command(name="import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="As config/terminals.example.toml has it.")],
) -> None:
    """Register every terminal of a TOML file, or none when one of them is wrong."""
    entries = _read(file)
    keys = [_file_key(fields.get("poi_id"), fields.pop("key", None)) for fields in entries]
    registrations = [checked(**fields) for fields in entries]
    with product() as counterfoil:
        pairs = zip(registrations, keys, strict=True)
        created = [_register(counterfoil, registration, key)["created"] for registration, key in pairs]
    say(f"{sum(created)} registered, {len(created) - sum(created)} changed")


@terminals.command(name="list")
def list_terminals(
    merchant: OnlyMerchant = None,
    live: Annotated[bool, typer.Option("--live", help="Ask each how it is: ready, busy, away.")] = False,
    as_json: Json = False,
) -> None:
    """List the terminals with what runs on each and how much waits."""
    rows: list[dict[str, Any]] = []
    with product() as counterfoil:
        store = TerminalStore(counterfoil.database)
        while page := store.many(merchant, rows[-1]["poi_id"] if rows else "", _PAGE):
            rows += page
        found = look(counterfoil.terminal, rows, settings().sale_id) if live else {}
    for row in rows:
        if health := found.get(row["poi_id"]):
            row |= {"condition": health.condition, "battery": health.battery, "printer": health.printer}
    if as_json:
        emit(rows)
        return
    heads = ("terminal", "merchant account", "store", "transport", "running", "queued", "unknown", "trouble", "held")
    shown = [(*_line(row), *([row["condition"]] if live else [])) for row in rows]
    empty = "No terminal is registered; register one with `counterfoil terminals add`."
    table((*heads, "now") if live else heads, shown, empty)


@terminals.command()
def remove(poi_id: PoiId) -> None:
    """Forget a terminal that has nothing pending; its payments stay."""
    with product() as counterfoil:
        store = TerminalStore(counterfoil.database)
        _registered(store, poi_id)
        if not store.remove(poi_id):
            raise ConfigurationError(
                f"{poi_id} has payments pending; hold it, wait until they have ended, then remove it"
            )
    say(f"removed {poi_id}")


@terminals.command()
def hold(
    poi_id: PoiId,
    by: AsName,
    reason: Annotated[str | None, typer.Option(help="Why, for whoever finds it held.", show_default=False)] = None,
) -> None:
    """Let nothing more start on a terminal; what runs there ends by itself."""
    with product() as counterfoil:
        if not TerminalStore(counterfoil.database).hold(poi_id, by, reason):
            raise _unknown(poi_id)
    say(f"{poi_id} is held; `counterfoil terminals release {poi_id} --as NAME` lets payments start again")


@terminals.command()
def release(poi_id: PoiId, by: AsName) -> None:
    """Let payments start on a terminal again."""
    with product() as counterfoil:
        rings = TerminalStore(counterfoil.database).release(poi_id)
        if rings is None:
            raise _unknown(poi_id)
        counterfoil.bell(rings)
    say(f"{poi_id} is released by {by}")


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read ({type(error).__name__}); name a readable TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from None
    entries = content.pop("terminal", None)
    if content or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigurationError(
            f"{file}: holds `[[terminal]]` tables and nothing else; see config/terminals.example.toml"
        )
    account = settings().merchant_account
    return [({"merchant_account": account} if account else {}) | entry for entry in entries]


def _registered(store: TerminalStore, poi_id: str) -> Row:
    row = store.one(poi_id, None)
    if row is None:
        raise _unknown(poi_id)
    return row


def _unknown(poi_id: str) -> NotFound:
    return NotFound(f"no terminal {poi_id} is registered; `counterfoil terminals list` shows those that are")


def _line(row: Row) -> tuple[str | Text, ...]:
    held = ""
    if row["held_at"]:
        held = f"{clock(row['held_at'])} by {row['held_by']}" + (
            f": {row['hold_reason']}" if row["hold_reason"] else ""
        )
    return (
        row["poi_id"],
        row["merchant_account"],
        row["store"] or "",
        row["transport"],
        row["holder_reference"] or "",
        str(row["queued"] or ""),
        str(row["unknown"] or ""),
        (row["trouble"] or "").replace("_", " "),
        Text(re.sub(r"[^\x20-\x7e]", "?", held), style="yellow"),
    )
