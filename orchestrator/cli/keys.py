"""``counterfoil keys``: API keys of callers, shown once."""

from typing import Annotated
from uuid import UUID

import typer

from orchestrator.cli.output import access_table, emit, say
from orchestrator.cli.product import Json, Merchant, OnlyMerchant, account_name, merchant_account, product
from orchestrator.cli.root import app
from orchestrator.errors import NotFound
from orchestrator.ids import new_id
from orchestrator.keys import Role, make_key
from orchestrator.store.keys import KeyStore

keys = typer.Typer(help="API keys of callers: each with a merchant account and a role.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command()
def create(
    merchant: Merchant = None,
    role: Annotated[Role, typer.Option(help="What the key may do; admin may do everything.")] = Role.SUBMIT,
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once: only its hash is kept."""
    account = merchant_account(merchant)
    key_id = new_id()
    with product() as counterfoil:
        key, digest = make_key()
        KeyStore(counterfoil.database).create(key_id, digest, account, role.value, account_name())
    if as_json:
        emit({"key": key, "id": str(key_id), "merchant_account": account, "role": role.value})
        return
    say(key)
    typer.echo(f"This is the only time that the key is shown. Its id is {key_id}.", err=True)


@keys.command()
def revoke(key_id: Annotated[UUID, typer.Argument(metavar="ID", help="As `keys list` shows it.")]) -> None:
    """Revoke a key; it stops working everywhere within five seconds."""
    with product() as counterfoil:
        if not KeyStore(counterfoil.database).revoke(key_id):
            raise NotFound(f"there is no key {key_id} that could be revoked; `counterfoil keys list` shows them")
    say(f"revoked {key_id}")


@keys.command(name="list")
def list_keys(merchant: OnlyMerchant = None, as_json: Json = False) -> None:
    """List the keys, of one merchant account or of all; never the keys themselves."""
    with product() as counterfoil:
        rows = KeyStore(counterfoil.database).list(merchant)
    if as_json:
        emit(rows)
    else:
        access_table("id", rows, "There are no keys; make one with `counterfoil keys create`.")
