"""What the doctor can say, by its own code; and one who examines a database of the test's own."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.rows import dict_row

from config.settings import load_settings
from orchestrator.cli import doctor
from orchestrator.cli.findings import Finding, Verdict
from orchestrator.store import schema
from tests.services import fresh_database, libpq_url

CLI: Final = Path(doctor.__file__).parent
#: Nobody listens there.
NOWHERE: Final = "redis://127.0.0.1:1/0"


def verdicts_by_check() -> dict[str, set[Verdict]]:
    """Every check of the doctor's modules with the verdicts that it can come to, as the code spells them."""
    names = {"ok": Verdict.OK, "warn": Verdict.WARN, "fail": Verdict.FAIL}
    found: dict[str, set[Verdict]] = {}
    for file in sorted(CLI.glob("doctor*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
                continue
            spelled = [each.id for each in ast.walk(node.func) if isinstance(each, ast.Name)]
            for name in spelled:
                if name in names:
                    found.setdefault(str(node.args[0].value), set()).add(names[name])
    return found


class Patient:
    """An installation to examine: a database of its own, and settings that a test changes."""

    def __init__(self, url: str) -> None:
        self.url = url

    def examined(self, *, quick: bool = False, **changed: str | None) -> dict[str, Finding]:
        """What the doctor finds, by check; a setting of None is left out. No cloud, no broker, unless named."""
        given = {
            "DATABASE_URL": self.url,
            "BROKER_URL": NOWHERE,
            "API_KEY": "K",
            "CLOUD_URL": "http://127.0.0.1:1",
            "NOTIFICATION_USERNAME": "platform",
            "NOTIFICATION_PASSWORD": "a long random text",
            "HMAC_KEYS": "5A" * 32,
            **changed,
        }
        chosen = load_settings({f"COUNTERFOIL_{name}": value for name, value in given.items() if value is not None})
        return {finding.check: finding for finding in doctor._examine(chosen, quick=quick)}

    def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        with psycopg.connect(libpq_url(self.url), autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def patient_on(postgres_url: str) -> Iterator[Patient]:
    """One with a schema, and nothing in it."""
    with fresh_database(postgres_url) as url:
        schema.upgrade(url)
        yield Patient(url)


Falls = Callable[[Patient], None]
