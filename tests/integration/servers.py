"""The oldest PostgreSQL that we support and the newest: the service where one runs, and the embedded one."""

from collections.abc import Iterator

import pytest

from tests.integration.store_support import Shop, shop_in
from tests.services import Embedded, find_postgres


def server_url(which: str, embedded: Embedded) -> str:
    """Where a server of this kind answers."""
    return find_postgres(embedded) if which == "service" else embedded.servers().database_url


@pytest.fixture(scope="module", params=["service", "embedded"])
def shop(request: pytest.FixtureRequest, embedded: Embedded) -> Iterator[Shop]:
    """A shop on each server; the tests of a module share its database, each with terminals and sales of its own."""
    with shop_in(server_url(request.param, embedded)) as opened:
        yield opened
