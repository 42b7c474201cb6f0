"""``counterfoil terminals key``: the keys that terminals share with us, here and at the platform."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from config.secrets import checked_reference
from config.settings import secret_of, settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.cli.output import clock, emit, say, table
from orchestrator.cli.product import Json, Merchant, account_name, merchant_account, product
from orchestrator.errors import ConfigurationError, NotFound
from orchestrator.management import ManagementApi, ManagementError, settings_path
from orchestrator.store.rows import Row
from orchestrator.store.shared_keys import KeyPlace, SharedKeyStore, ring_rows
from orchestrator.store.terminals import TerminalStore
from orchestrator.store.words import KeyLevel
from orchestrator.terminal_api.protection import SharedKey, passphrase_problems

key = typer.Typer(help="Keys that terminals share with us, for messages on the local network.", no_args_is_help=True)

IDENTIFIER_CHARS_MAX: Final = 80  # our choice: the column's; the platform names no limit
VERSION_MAX: Final = 2_147_483_647  # the column's, and a signed 32-bit number anywhere else
_HEADS: Final = ("level", "for", "identifier", "version", "passphrase", "found here", "seals", "since")

PoiId = Annotated[
    str | None, typer.Argument(metavar="[POIID]", help="Of one terminal, such as V400m-324688170.", show_default=False)
]
Company = Annotated[bool, typer.Option("--company", help="Of all terminals: the company's level.")]
Store = Annotated[
    str | None, typer.Option(help="Of the terminals in a store: its id or reference.", show_default=False)
]
Identifier = Annotated[str, typer.Option(help="The key's name, as the terminals get it.", show_default=False)]
Version = Annotated[int, typer.Option(min=0, max=VERSION_MAX, help="The key's version.", show_default=False)]
PassphraseEnv = Annotated[
    str | None,
    typer.Option(metavar="VAR", help="Environment variable that holds the passphrase.", show_default=False),
]
PassphraseFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File that holds the passphrase, alone.", show_default=False)
]
LocalOnly = Annotated[bool, typer.Option("--local-only", help="Leave the platform's settings alone.")]


@key.command()
def show(
    poi_id: PoiId = None,
    *,
    company: Company = False,
    merchant: Merchant = None,
    store: Store = None,
    local_only: LocalOnly = False,
    as_json: Json = False,
) -> None:
    """Show keys without their passphrases: all, those of a level, or those that a terminal may have, in their order.

    With a management API key, the platform's settings of that level too.
    """
    with product() as counterfoil:
        keys = SharedKeyStore(counterfoil.database)
        if not (poi_id or company or merchant or store):
            place, rows, sealing = None, keys.all(), None
        else:
            place = _place(counterfoil, poi_id, company, merchant, store)
            rows = _ring(counterfoil, place) if poi_id else keys.at(place)
            sealing = rows[0]["id"] if rows else None
    platform = None if place is None or local_only or not settings().management_api_key else _platform(place, rows)
    shown = [_shown(row, sealing) for row in rows]
    if as_json:
        emit({"keys": shown, "platform": platform})
        return
    table(_HEADS, map(_line, shown), "There is no shared key; set one with `counterfoil terminals key set`.")
    if platform:
        say(f"The platform's settings: {platform['says']}.")


@key.command(name="set")
def set_key(
    poi_id: PoiId = None,
    *,
    identifier: Identifier,
    version: Version,
    passphrase_env: PassphraseEnv = None,
    passphrase_file: PassphraseFile = None,
    company: Company = False,
    merchant: Merchant = None,
    store: Store = None,
    local_only: LocalOnly = False,
) -> None:
    """Keep a key by reference to its passphrase, and set it in the platform's settings."""
    if not identifier.isprintable() or not 0 < len(identifier.strip()) == len(identifier) <= IDENTIFIER_CHARS_MAX:
        raise ConfigurationError(
            f"--identifier must be 1 to {IDENTIFIER_CHARS_MAX} printable characters, without spaces at its ends"
        )
    reference, passphrase = _passphrase(passphrase_env, passphrase_file)
    with product() as counterfoil:
        place = _place(counterfoil, poi_id, company, merchant, store)
        _keep(counterfoil, place, SharedKey(identifier, version, passphrase), reference, local_only=local_only)


@key.command()
def rotate(
    poi_id: PoiId = None,
    *,
    passphrase_env: PassphraseEnv = None,
    passphrase_file: PassphraseFile = None,
    company: Company = False,
    merchant: Merchant = None,
    store: Store = None,
    local_only: LocalOnly = False,
) -> None:
    """Set the next version of a level's key, with a new passphrase; the one before goes on opening messages."""
    reference, passphrase = _passphrase(passphrase_env, passphrase_file)
    with product() as counterfoil:
        place = _place(counterfoil, poi_id, company, merchant, store)
        rows = SharedKeyStore(counterfoil.database).at(place)
        if not rows:
            raise NotFound(f"there is no key of {_named(place)}; set one with `counterfoil terminals key set`")
        if any(_secret_or_none(row["passphrase"]) == passphrase for row in rows):
            raise ConfigurationError(f"{reference} is the passphrase of a key of {_named(place)}; take a new one")
        newest = SharedKey(rows[0]["identifier"], rows[0]["version"] + 1, passphrase)
        _keep(counterfoil, place, newest, reference, local_only=local_only)


@key.command()
def drop(
    poi_id: PoiId = None,
    *,
    version: Version,
    identifier: Annotated[
        str | None, typer.Option(help="The key's name, where several have this version.", show_default=False)
    ] = None,
    company: Company = False,
    merchant: Merchant = None,
    store: Store = None,
) -> None:
    """Let a key go that no terminal has any more: it opens nothing from then on. The platform keeps its settings."""
    with product() as counterfoil:
        keys = SharedKeyStore(counterfoil.database)
        place = _place(counterfoil, poi_id, company, merchant, store)
        found = [row for row in keys.at(place) if row["version"] == version and identifier in {None, row["identifier"]}]
        if len(found) > 1:
            raise ConfigurationError(
                f"several keys of {_named(place)} have version {version}; name one by --identifier"
            )
        if not found or not keys.drop(place, found[0]["identifier"], version):
            raise NotFound(f"there is no such key of {_named(place)}; `counterfoil terminals key show` lists them")
        left = keys.at(place)
    says = f"version {left[0]['version']} is the newest now" if left else "there is none left at this level"
    say(f"dropped version {version} of the key of {_named(place)}; {says}")


def _place(
    counterfoil: Counterfoil, poi_id: str | None, company: bool, merchant: str | None, store: str | None
) -> KeyPlace:
    """The one level that the options name.

    Raises:
        ConfigurationError: they name none, or two.
        NotFound: there is no such terminal.
    """
    if (company and (merchant or store or poi_id)) or (store and poi_id):
        raise ConfigurationError("name one level: --company, --merchant, --store or a POIID")
    if company:
        return KeyPlace(KeyLevel.COMPANY)
    if poi_id:
        row = TerminalStore(counterfoil.database).one(poi_id, merchant)
        if row is None:
            raise NotFound(f"no terminal {poi_id} is registered; `counterfoil terminals list` shows those that are")
        return KeyPlace(KeyLevel.TERMINAL, row["merchant_account"], poi_id)
    if store:
        return KeyPlace(KeyLevel.STORE, merchant_account(merchant), store)
    if merchant:
        return KeyPlace(KeyLevel.MERCHANT, merchant)
    raise ConfigurationError("name a level: --company, --merchant ACCOUNT, --store STORE or a POIID")


def _ring(counterfoil: Counterfoil, place: KeyPlace) -> list[Row]:
    """The keys that one terminal may have."""
    poi_id, account = place.scope or "", place.merchant_account or ""
    row = TerminalStore(counterfoil.database).one(poi_id, account) or {}
    return ring_rows(SharedKeyStore(counterfoil.database).all(account), poi_id, account, row.get("store"))


def _passphrase(variable: str | None, file: Path | None) -> tuple[str, str]:
    """The reference, and the passphrase that it means.

    Raises:
        ConfigurationError: it is not there, or breaks the platform's rules.
    """
    if (variable is None) == (file is None):
        raise ConfigurationError("name the passphrase by either --passphrase-env VAR or --passphrase-file FILE")
    reference = checked_reference(f"env:{variable}" if file is None else f"file:{file.expanduser().absolute()}")
    passphrase = secret_of(reference)
    if problems := passphrase_problems(passphrase):
        raise ConfigurationError(f"the passphrase in {reference} breaks the platform's rules: {'; '.join(problems)}")
    return reference, passphrase


def _keep(counterfoil: Counterfoil, place: KeyPlace, wanted: SharedKey, reference: str, *, local_only: bool) -> None:
    """Keep the key here first: terminals may answer with it as soon as the platform has it."""
    path = None if local_only else _path(place)
    keys = SharedKeyStore(counterfoil.database)
    same = [row for row in keys.at(place) if (row["identifier"], row["version"]) == (wanted.identifier, wanted.version)]
    if same and _secret_or_none(same[0]["passphrase"]) not in {None, wanted.passphrase}:
        raise ConfigurationError(
            f"version {wanted.version} of this key has another passphrase; set a higher version, or rotate the key"
        )
    row = keys.add(
        place,
        identifier=wanted.identifier,
        version=wanted.version,
        passphrase=reference,
        created_by=account_name(),
    )
    where = "here"
    if path is not None:
        try:
            changed = _set_at_platform(path, wanted)
        except ManagementError as error:
            if error.unchanged and row["created"]:
                keys.drop(place, wanted.identifier, wanted.version)
                raise
            raise ManagementError(f"{error}. The key is kept here.", unchanged=error.unchanged) from None
        where = "here and at the platform" if changed else "here; the platform had it already"
    say(f"version {wanted.version} of the key of {_named(place)} is set {where}")
    older = [str(each["version"]) for each in keys.at(place) if each["id"] != row["id"]]
    if older:
        say(f"Kept beside it, until no terminal has it and you drop it: version {', '.join(older)}.")


def _set_at_platform(path: str, wanted: SharedKey) -> bool:
    with _management() as platform:
        return platform.set_key(path, wanted)


def _platform(place: KeyPlace, rows: list[Row]) -> dict[str, Any]:
    """What the platform shows of this level, as data and in words."""
    with _management() as api:
        found = api.key_at(_path(place))
    if found is None:
        return {"found": False, "says": "no key at this level, or the API key may not see it"}
    kept = [row for row in rows if (row["identifier"], row["version"]) == (found.identifier, found.version)]
    if not found.passphrase:
        same, words = None, "its passphrase is not shown to the API key"
    elif not kept:
        same, words = False, "which is not kept here"
    else:
        same = found.passphrase in {_secret_or_none(row["passphrase"]) for row in kept}
        words = "with the passphrase that is kept here" if same else "with ANOTHER passphrase than the one kept here"
    shown = {"found": True, "identifier": found.identifier, "version": found.version, "same_passphrase": same}
    return shown | {"says": f"{found.identifier} version {found.version}, {words}"}


def _management() -> ManagementApi:
    return ManagementApi(settings().environment, _management_api_key(), settings().management_url)


def _management_api_key() -> str:
    key = settings().management_api_key
    if key is None:
        raise ConfigurationError(
            "COUNTERFOIL_MANAGEMENT_API_KEY is not set; set it, or set the key in the Customer Area yourself and "
            "take --local-only"
        )
    return key.get_secret_value()


def _path(place: KeyPlace) -> str:
    """Where the platform has the settings of this level.

    Raises:
        ConfigurationError: something is missing without which the platform cannot be asked.
    """
    _management_api_key()
    account = place.merchant_account or settings().company_account
    if account is None:
        raise ConfigurationError("COUNTERFOIL_COMPANY_ACCOUNT is not set; set it to the platform's company account")
    return settings_path(place.level.value, account, place.scope)


def _secret_or_none(reference: str) -> str | None:
    try:
        return secret_of(reference)
    except ConfigurationError:
        return None


def _named(place: KeyPlace) -> str:
    match place.level:
        case KeyLevel.COMPANY:
            return "the company"
        case KeyLevel.MERCHANT:
            return str(place.merchant_account)
        case KeyLevel.STORE:
            return f"store {place.scope} of {place.merchant_account}"
        case KeyLevel.TERMINAL:
            return str(place.scope)


def _shown(row: Row, sealing: int | None) -> dict[str, Any]:
    names = ("level", "merchant_account", "scope", "identifier", "version", "passphrase", "created_by", "created_at")
    found = _secret_or_none(row["passphrase"]) is not None
    return {name: row[name] for name in names} | {"found": found, "seals": row["id"] == sealing}


def _line(shown: dict[str, Any]) -> tuple[str | Text, ...]:
    owner = shown["scope"] or shown["merchant_account"] or ""
    found = Text("yes") if shown["found"] else Text("no", style="yellow")
    level, version, since = shown["level"], str(shown["version"]), clock(shown["created_at"])
    return (
        *(level, owner, shown["identifier"], version, shown["passphrase"]),
        *(found, "yes" if shown["seals"] else "", since),
    )
