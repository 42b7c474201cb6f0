"""One pool of psycopg connections, in autocommit: a statement is a database transaction unless it says otherwise.

Foreign errors are translated here and nowhere else. A connection that broke is thrown away by the pool; whoever used
it learns that nothing can be said about what was asked (``StoreUnavailable``), and asks again in a way that is safe
to repeat.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeAlias, TypeVar, cast

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import FeatureNotSupported, TransactionRollback, UniqueViolation
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from orchestrator.errors import ConfigurationError, Defect, StoreUnavailable

Parameters: TypeAlias = Mapping[str, Any]
Connection: TypeAlias = psycopg.Connection[dict[str, Any]]
T = TypeVar("T")

#: A request that cannot have a connection in this time fails: the database is away or drowning.
_POOL_WAIT_S: Final = 5.0

#: TCP and authentication.
_CONNECT_TIMEOUT_S: Final = 5

#: A server that vanished without a word is noticed in about this time, whether we wait for it or it for us.
_VANISHED_AFTER_S: Final = 10


class Conflict(Exception):
    """A unique constraint refused a row. ``constraint`` names it."""

    def __init__(self, constraint: str) -> None:
        super().__init__(constraint)
        self.constraint = constraint


class _PlanOutdated(StoreUnavailable):
    """A table has another column since this connection planned the statement; nothing of it was run."""


class Database:
    """Run statements. Opened lazily, so that a process that forks may be given one that was never used."""

    def __init__(self, url: str, *, connections: int) -> None:
        """Take ``postgresql+psycopg://…`` and the largest number of connections to hold."""
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            connection_class=cast("type[Connection]", psycopg.Connection),
            kwargs={
                **connect_arguments(url),
                "autocommit": True,
                "row_factory": dict_row,
                "connect_timeout": _CONNECT_TIMEOUT_S,
                "tcp_user_timeout": _VANISHED_AFTER_S * 1000,
                "keepalives_idle": _VANISHED_AFTER_S // 2,
                "keepalives_interval": 1,
                "keepalives_count": _VANISHED_AFTER_S // 2,
            },
            min_size=1,
            max_size=connections,
            timeout=_POOL_WAIT_S,
            max_idle=300,
            configure=_plan_for_growth,
            reconnect_timeout=1,
            open=False,
        )

    def open(self) -> None:
        """Start connecting in the background."""
        self._pool.open()

    def close(self) -> None:
        """Give every connection back to the server."""
        self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection; translate what breaks while it is used."""
        self._pool.open()
        try:
            with self._pool.connection() as connection, _closed_when_outdated(connection):
                yield connection
        except UniqueViolation as error:
            raise Conflict(error.diag.constraint_name or "") from None
        except PoolTimeout as error:
            raise StoreUnavailable from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if not isinstance(error, TransactionRollback):
                self._pool.check()  # a server that restarted broke the idle ones too: one failure, not one for each
            raise StoreUnavailable from error
        except psycopg.Error as error:  # its own text quotes the row that was refused
            raise Defect(_refused(error)) from None

    def one(self, statement: str, parameters: Parameters) -> dict[str, Any] | None:
        """Run a statement and return its first row, if it has one."""
        return self._run(lambda connection: connection.execute(statement, parameters).fetchone())

    def all(self, statement: str, parameters: Parameters) -> list[dict[str, Any]]:
        """Run a statement and return its rows."""
        return self._run(lambda connection: connection.execute(statement, parameters).fetchall())

    def run(self, statement: str, parameters: Parameters) -> int:
        """Run a statement and return how many rows it touched."""
        return self._run(lambda connection: connection.execute(statement, parameters).rowcount)

    def last_of(self, statements: Sequence[tuple[str, Parameters]]) -> dict[str, Any] | None:
        """Run statements as one database transaction in one round trip; return the last one's first row."""
        rows = self._together(statements)[-1]
        return rows[0] if rows else None

    def first_of(self, statements: Sequence[tuple[str, Parameters]]) -> list[dict[str, Any]]:
        """Run statements as one database transaction in one round trip; return the first one's rows."""
        return self._together(statements)[0]

    def each_of(self, statements: Sequence[tuple[str, Parameters]]) -> list[list[dict[str, Any]]]:
        """Run statements as one database transaction in one round trip; return the rows of each."""
        return self._together(statements)

    def _together(self, statements: Sequence[tuple[str, Parameters]]) -> list[list[dict[str, Any]]]:
        """Send them up to a pipeline's end: one database transaction, without the two waits of BEGIN and COMMIT."""

        def send(connection: Connection) -> list[list[dict[str, Any]]]:
            with connection.pipeline():
                cursors = [connection.execute(text, parameters) for text, parameters in statements]
            return [cursor.fetchall() if cursor.description else [] for cursor in cursors]

        return self._run(send)

    def _run(self, ask: Callable[[Connection], T]) -> T:
        """Ask; and again, at most once for each connection, where a migration ran since that made its plans."""
        for _ in range(self._pool.max_size):
            with suppress(_PlanOutdated), self.connection() as connection:
                return ask(connection)
        with self.connection() as connection:
            return ask(connection)


def _refused(error: psycopg.Error) -> str:
    return f"the database refused a statement: {type(error).__name__} {error.diag.constraint_name or ''}".strip()


@contextmanager
def _closed_when_outdated(connection: Connection) -> Iterator[None]:
    """Give up a connection whose plans are of before a migration; the pool makes another in its place.

    Telling the server to forget them is not enough: psycopg keeps count of them too, and misses that now and then.
    """
    try:
        yield
    except FeatureNotSupported as error:
        if error.diag.source_function != "RevalidateCachedQuery":
            raise
        connection.close()
        raise _PlanOutdated from None


def _plan_for_growth(connection: Connection) -> None:
    """Have plans use indexes from the first row on: a connection keeps a plan that it made while a table was small."""
    connection.execute("SET enable_seqscan = off; SET jit = off")


def connect_arguments(url: str) -> dict[str, Any]:
    """Take a URL ``postgresql+psycopg://…`` apart as libpq does.

    Raises:
        ConfigurationError: libpq does not understand it.
    """
    try:
        return conninfo_to_dict(url.replace("postgresql+psycopg:", "postgresql:", 1))
    except psycopg.ProgrammingError:  # its own text quotes the URL, and with it a password
        raise ConfigurationError(
            "COUNTERFOIL_DATABASE_URL is not a URL that PostgreSQL's clients read: see that every parameter after"
            " the ? is one of libpq's, and that special characters of the password are %-escaped"
        ) from None
