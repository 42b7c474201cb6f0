"""The product as a command sees it: wired, its schema looked at, and let go of at the end."""

import getpass
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from uuid import UUID

import typer

from config.logs import configure_logs
from config.settings import settings
from orchestrator.bootstrap import Counterfoil
from orchestrator.errors import ConfigurationError, NotFound
from orchestrator.store import health, revisions
from orchestrator.store.pages import Pages, PaymentFilter
from orchestrator.store.rows import Row

AsName = Annotated[str, typer.Option("--as", metavar="NAME", help="Who does this, for the record.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
Merchant = Annotated[
    str | None,
    typer.Option(
        "--merchant",
        metavar="ACCOUNT",
        help="Merchant account; COUNTERFOIL_MERCHANT_ACCOUNT otherwise.",
        show_default=False,
    ),
]

OnlyMerchant = Annotated[
    str | None, typer.Option("--merchant", metavar="ACCOUNT", help="Only this merchant account's.", show_default=False)
]


@contextmanager
def product() -> Iterator[Counterfoil]:
    """Wire the product for one command.

    Raises:
        ConfigurationError: the database has no schema, or an older one than this release needs.
    """
    configure_logs(settings().log_format, level=logging.WARNING)
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)  # the command says itself that nobody answers
    counterfoil = Counterfoil(settings())
    counterfoil.bell([])  # it connects while we look at the database, so that what we ring is not late
    try:
        revision = health.server(counterfoil.database).revision
        if not revisions.serves(revision):
            has = f"the database's schema is at {revision}" if revision else "the database has no schema"
            raise ConfigurationError(f"{has}, this release needs {revisions.newest()}; run `counterfoil db upgrade`")
        yield counterfoil
    finally:
        counterfoil.close()


def merchant_account(given: str | None) -> str:
    """The merchant account of a command.

    Raises:
        ConfigurationError: neither the option nor the setting names one.
    """
    account = given or settings().merchant_account
    if account is None:
        raise ConfigurationError("name a merchant account with --merchant, or set COUNTERFOIL_MERCHANT_ACCOUNT")
    return account


def account_name() -> str:
    """Who runs this command: the account on this machine."""
    try:
        return f"{getpass.getuser()}, command line"
    except (KeyError, OSError):  # an account without a name, as in a container
        return "command line"


def find(counterfoil: Counterfoil, wanted: str, merchant: str | None = None) -> Row:
    """The payment with this id, or the latest one of this reference.

    Raises:
        NotFound: there is none.
    """
    try:
        payment_id = UUID(wanted)
    except ValueError:
        return _latest(counterfoil, wanted, merchant)
    try:
        return counterfoil.store.row(payment_id)
    except NotFound:
        return _latest(counterfoil, wanted, merchant)


def _latest(counterfoil: Counterfoil, reference: str, merchant: str | None) -> Row:
    narrowed = PaymentFilter(reference=reference, merchant_account=merchant)
    rows = Pages(counterfoil.database).payments(narrowed, None, 1)
    if not rows:
        raise NotFound(
            f"there is no payment with the id or reference {reference!r}; `counterfoil list` shows the latest"
        )
    return rows[0]
