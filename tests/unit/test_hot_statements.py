"""The hot path's statements stay within what the driver remembers of a statement."""

import re

import pytest
from psycopg import _queries

from orchestrator.store import statements

HOT = ["ACCEPT", "CLAIM", "LOAD", "LOAD_BY_SERVICE_ID", "LOAD_FOR_COMMAND", "LOCK_SALE", "RECORD"]


@pytest.mark.parametrize("name", HOT)
def test_the_driver_takes_a_hot_statement_apart_once(name: str) -> None:
    statement: str = getattr(statements, name)

    assert len(statement.encode()) <= _queries.MAX_CACHED_STATEMENT_LENGTH
    assert len(set(re.findall(r"%\((\w+)\)s", statement))) < _queries.MAX_CACHED_STATEMENT_PARAMS
