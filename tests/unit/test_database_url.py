"""Where the database is: one URL, taken apart by libpq for everybody who connects."""

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.store.database import connect_arguments


def test_a_url_says_where_and_as_whom() -> None:
    url = "postgresql+psycopg://cashier:p%40ss%2Fword@db.example:5433/shop?sslmode=verify-full"
    assert connect_arguments(url) == {
        "host": "db.example", "port": "5433", "user": "cashier", "password": "p@ss/word", "dbname": "shop",
        "sslmode": "verify-full",
    }  # fmt: skip


def test_a_socket_folder_may_hold_what_urls_escape() -> None:
    assert connect_arguments("postgresql+psycopg://cashier@/shop?host=%2Ftmp%2Fa%20b%2Bc")["host"] == "/tmp/a b+c"


@pytest.mark.parametrize("url", ["cashier:hunter2@db.example/shop?charset=utf8", "cashier:hunter2@[::1/shop"])
def test_what_libpq_does_not_read_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        connect_arguments(f"postgresql+psycopg://{url}")
    assert "COUNTERFOIL_DATABASE_URL" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
