"""The demo tells the truth: it passes when ledger and database agree, and fails when either is altered."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import NullPool, create_engine, make_url, text

from orchestrator.demo.play import play, show_verdict
from orchestrator.demo.stage import Stage
from orchestrator.store.database import Database


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The demo, played once on real processes."""
    console = Console(file=io.StringIO())
    with Stage(tmp_path_factory.mktemp("demo")) as stage:
        failed = play(stage, console)
        stage.processes.stop_all()
        yield stage, failed, console


def verdict(played: tuple[Stage, int, Console], ledger: Path | None = None) -> int:
    stage, _, console = played
    return show_verdict(ledger or stage.ledger_path, stage.database, console)


@pytest.mark.timeout(180)
def test_every_scene_ends_as_told_and_the_judge_agrees(played: tuple[Stage, int, Console]) -> None:
    """Eight scenes, no failure, no problem."""
    assert played[1] == 0
    assert verdict(played) == 0, played[2].file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("charge", lambda _: None),
        ("charge", lambda line: line | {"amount_minor": line["amount_minor"] + 1}),
        ("charge", lambda line: line | {"psp_reference": "XXXXXXXXXXXXXXXX"}),
        ("charge", lambda line: line | {"service_id": "Pstranger1"}),
        ("request", lambda line: [line, line] if line["category"] == "Payment" else line),
    ],
)
def test_an_altered_ledger_makes_the_demo_fail(
    played: tuple[Stage, int, Console], tmp_path: Path, kind: str, change: object
) -> None:
    """One line lost, changed, moved to a stranger, or doubled."""
    altered = tmp_path / "ledger.jsonl"
    out: list[str] = []
    done = False
    for written in played[0].ledger_path.read_text().splitlines():
        line = json.loads(written)
        if line["kind"] == kind and not done:
            changed = change(line)  # type: ignore[operator]
            done = changed != line
            changes = changed if isinstance(changed, list) else [changed]
            out += [json.dumps(one) for one in changes if one is not None]
        else:
            out.append(written)
    altered.write_text("\n".join(out) + "\n")

    assert verdict(played, altered) > 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE payments SET outcome = 'approved', authorised_minor = amount_minor WHERE outcome = 'declined'",
        "UPDATE payments SET outcome = 'declined', authorised_minor = NULL WHERE reference LIKE 'DEMO-1%'",
        "UPDATE payments SET authorised_minor = authorised_minor + 1 WHERE reference LIKE 'DEMO-1%'",
        "UPDATE journal_details SET detail = '{}' WHERE detail ? 'result'",
    ],
)
def test_an_altered_database_makes_the_demo_fail(played: tuple[Stage, int, Console], statement: str) -> None:
    """An outcome, an amount or a journal's detail, altered behind the product's back, in a copy of the database."""
    stage = played[0]
    stage.database.close()
    url = make_url(stage.servers.database_url)
    with create_engine(
        url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
    ).connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS altered WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE altered TEMPLATE counterfoil"))
    altered = url.set(database="altered")
    with create_engine(altered, poolclass=NullPool).begin() as connection:
        assert connection.execute(text(statement)).rowcount > 0

    database = Database(altered.render_as_string(hide_password=False), connections=1)
    seen = show_verdict(stage.ledger_path, database, played[2])
    database.close()

    assert seen > 0
