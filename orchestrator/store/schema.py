"""Bring the schema up to date, and say whether it is.

A release runs on its own schema and on a later one: migrations only add (a test sees to that), so that processes of the
release before go on while, and after, the schema is brought up to date.
"""

import io
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.util import CommandError
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from orchestrator.errors import StoreUnavailable
from orchestrator.store.database import connect_arguments
from orchestrator.store.revisions import MIGRATIONS, is_later, newest

#: One migrator at a time, whatever their number: the key of an advisory lock.
_MIGRATION_LOCK: Final = 0x0C0F

#: Whoever comes after a migration that waits for its lock waits behind it, intake too: a till bears this long.
_LOCK_TIMEOUT_S: Final = 2

#: A lock that is not to be had is asked for again, with time in between for those who waited; two minutes in all.
_ATTEMPTS: Final = 20
_BETWEEN_ATTEMPTS_S: Final = 4.0

#: How often somebody looks whether another migrator is done. Waiting inside the server would hold a snapshot, and an
#: index that is made concurrently waits for those.
_LOOK_EVERY_S: Final = 0.2

#: As long as the output of the HMAC that uses it.
_TAG_KEY_BYTES: Final = 32

#: Every machine has to sign and verify with the same keys, so the database keeps them.
_FIRST_TAG_KEY: Final = "INSERT INTO tag_keys (key) SELECT :key WHERE NOT EXISTS (SELECT 1 FROM tag_keys)"

#: The newest signs. One that another replaced is dropped when no terminal answers any more with what it signed: that is
#: after 48 hours, and a day for clocks and late notifications.
_NEXT_TAG_KEY: Final = """
WITH dropped AS (
    UPDATE tag_keys k SET dropped_at = now() WHERE dropped_at IS NULL
    AND EXISTS (SELECT 1 FROM tag_keys n WHERE n.id > k.id AND n.created_at < now() - interval '3 days') RETURNING id
)
INSERT INTO tag_keys (key) VALUES (:key)
RETURNING (SELECT count(*) FROM tag_keys WHERE dropped_at IS NULL) - (SELECT count(*) FROM dropped) AS still_verify
"""


#: An index whose making was cut short is there, is written for every row, and is read by nobody; `IF NOT EXISTS` would
#: pass it over. One that somebody is making at this moment is theirs.
_HALF_MADE: Final = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace
    AND i.indexrelid NOT IN (SELECT index_relid FROM pg_stat_progress_create_index WHERE index_relid IS NOT NULL)
"""


def upgrade(database_url: str, *, to: str = "head", attempts: int = _ATTEMPTS) -> str:
    """Apply every migration that is missing; return the revision that the schema then has.

    Each migration commits by itself. One that cannot have its locks is tried again; a later release's schema is left
    as it is.

    Raises:
        StoreUnavailable: the database does not answer, or a table stayed locked.
    """
    with _connected(database_url) as connection, _alone(connection):
        if not is_later(current(connection)):
            _apply(connection, to, attempts)
            connection.execute(text(_FIRST_TAG_KEY), {"key": secrets.token_bytes(_TAG_KEY_BYTES)})
        connection.commit()
        return current(connection) or ""


def rotate_tag_key(database_url: str) -> int:
    """Make a tag key that signs from now on; return how many older ones still verify."""
    with _connected(database_url) as connection, connection.begin():
        return int(connection.scalar(text(_NEXT_TAG_KEY), {"key": secrets.token_bytes(_TAG_KEY_BYTES)}) or 0)


def _apply(connection: Connection, to: str, attempts: int) -> None:
    for attempt in range(1, attempts + 1):
        connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'"))
        connection.commit()
        try:
            _drop_half_made(connection)
            command.upgrade(_config(connection), to)
        except OperationalError as error:
            connection.rollback()
            if not isinstance(error.orig, LockNotAvailable | DeadlockDetected):
                raise
            if attempt < attempts:
                time.sleep(_BETWEEN_ATTEMPTS_S)
        else:
            return
    message = (
        f"a table was locked by somebody else at each of {attempts} attempts, so the schema stays at revision"
        f" {current(connection)} and everything runs on; end the long database transaction, and try again."
    )
    raise StoreUnavailable(message)


def _drop_half_made(connection: Connection) -> None:
    """Let the migration that was cut short make its indexes anew."""
    for name in connection.scalars(text(_HALF_MADE)).all():
        connection.execute(text(f"DROP INDEX {name}"))
    connection.commit()


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Be the only migrator."""
    key = {"key": _MIGRATION_LOCK}
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
        connection.commit()
        time.sleep(_LOOK_EVERY_S)
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
        connection.commit()


def differences(database_url: str) -> str | None:
    """Compare the schema with the tables; None when they agree or it is a later release's, else what differs."""
    with _connected(database_url) as connection:
        found = current(connection)
        if is_later(found):
            return None
        if found != newest():
            return f"the schema is at revision {found}, the newest is {newest()}"
        try:
            command.check(_config(connection))
        except CommandError as error:
            return str(error)
        return None


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    """Connect, and say in one sentence when that cannot be done."""
    try:
        connection = _engine(database_url).connect()
    except OperationalError:
        message = "the database does not answer at COUNTERFOIL_DATABASE_URL; see that it runs and lets us in"
        raise StoreUnavailable(message) from None
    with connection:
        yield connection


def current(connection: Connection) -> str | None:
    """Name the revision that the database is at."""
    return MigrationContext.configure(connection).get_current_revision()


def _engine(database_url: str) -> Engine:
    """One connection, closed after use: there is nothing to pool for."""
    arguments = connect_arguments(database_url)
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(**arguments), poolclass=NullPool)


def _config(connection: Connection) -> Config:
    config = Config(stdout=io.StringIO())  # Alembic prints what it found; callers say it in their own words
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config
