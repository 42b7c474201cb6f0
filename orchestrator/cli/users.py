"""``counterfoil users``: people who log in to the console; a password is shown once, if ever."""

import re
import sys
from typing import Annotated, Final

import typer

from orchestrator.cli.output import access_table, emit, say
from orchestrator.cli.product import Json, Merchant, OnlyMerchant, account_name, merchant_account, product
from orchestrator.cli.root import app
from orchestrator.errors import ConfigurationError, NotFound
from orchestrator.ids import new_id
from orchestrator.keys import Role
from orchestrator.passwords import (
    PASSWORD_CHARACTERS_MAX,
    PASSWORD_CHARACTERS_MIN,
    hash_password,
    make_form_secret,
    make_password,
)
from orchestrator.store.database import Conflict
from orchestrator.store.people import PeopleStore

users = typer.Typer(
    help="People who log in to the console: each with a merchant account and a role.", no_args_is_help=True
)
app.add_typer(users, name="users")

#: What company directories use as names, mail addresses too; in small letters, so that no two look alike in a journal.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,79}", re.ASCII)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Login name; capitals make no difference.")]
FromStdin = Annotated[
    bool,
    typer.Option(
        "--password-stdin",
        help=f"Read the password, of {PASSWORD_CHARACTERS_MIN} characters or more, from standard input.",
    ),
]


@users.command()
def add(
    name: Name,
    *,
    role: Annotated[Role, typer.Option(help="What they may do; admin may do everything.")] = Role.VIEWER,
    merchant: Merchant = None,
    by: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Who does this, for the record.", show_default=False)
    ] = None,
    password_stdin: FromStdin = False,
    as_json: Json = False,
) -> None:
    """Let somebody log in to the console; without --password-stdin a password is made, and printed this once."""
    tidy = _tidy(name)
    account = merchant_account(merchant)
    given = _given() if password_stdin else None
    password = given or make_password()
    person = {
        "id": new_id(),
        "name": tidy,
        "merchant_account": account,
        "role": role.value,
        "password_hash": hash_password(password),
        "form_secret": make_form_secret(),
        "created_by": by or account_name(),
    }
    with product() as counterfoil:
        try:
            PeopleStore(counterfoil.database).add(person)
        except Conflict:
            raise ConfigurationError(
                f"there is or was a user {tidy}; a name in a journal means one person for good, so take another"
            ) from None
    if as_json:
        shown = {"name": tidy, "id": str(person["id"]), "merchant_account": account, "role": role.value}
        emit(shown if given else {**shown, "password": password})
        return
    _tell(password, given)
    typer.echo(f"{tidy} may log in at /console, as {role.value} of {account}.", err=True)


@users.command(name="password")
def change_password(name: Name, password_stdin: FromStdin = False, as_json: Json = False) -> None:
    """Give somebody a new password, and end their sessions."""
    tidy = _tidy(name)
    given = _given() if password_stdin else None
    password = given or make_password()
    with product() as counterfoil:
        if not PeopleStore(counterfoil.database).set_password(tidy, hash_password(password), make_form_secret()):
            raise _nobody(tidy)
    if as_json:
        emit({"name": tidy} if given else {"name": tidy, "password": password})
        return
    _tell(password, given)
    typer.echo(f"{tidy} has a new password, and is logged out everywhere.", err=True)


@users.command()
def revoke(name: Name, as_json: Json = False) -> None:
    """Let somebody in no more; their sessions end at once."""
    tidy = _tidy(name)
    with product() as counterfoil:
        if not PeopleStore(counterfoil.database).revoke(tidy):
            raise _nobody(tidy)
    if as_json:
        emit({"name": tidy, "revoked": True})
        return
    say(f"revoked {tidy}")


@users.command(name="list")
def list_users(merchant: OnlyMerchant = None, as_json: Json = False) -> None:
    """List the people, of one merchant account or of all."""
    with product() as counterfoil:
        rows = PeopleStore(counterfoil.database).list(merchant)
    if as_json:
        emit(rows)
    else:
        access_table("name", rows, "Nobody may log in yet; let somebody with `counterfoil users add`.")


def _tidy(name: str) -> str:
    tidy = name.strip().lower()
    if not _NAME.fullmatch(tidy):
        raise ConfigurationError(
            "a name has 1 to 80 letters, digits and . _ @ + -, and begins with a letter or a digit"
        )
    return tidy


def _given() -> str:
    """The password on standard input: its first line."""
    password = sys.stdin.readline().rstrip("\r\n")
    if not PASSWORD_CHARACTERS_MIN <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise ConfigurationError(
            f"a password has {PASSWORD_CHARACTERS_MIN} to {PASSWORD_CHARACTERS_MAX} characters; "
            "leave out --password-stdin, and one is made"
        )
    return password


def _tell(password: str, given: str | None) -> None:
    if given is None:
        say(password)
        typer.echo("This is the only time that the password is shown.", err=True)


def _nobody(name: str) -> NotFound:
    return NotFound(f"there is no user {name} who may log in; `counterfoil users list` shows them")
