"""Migrations run while the processes of the release before are at work: they add, they change nothing under anybody.

Each is turned into SQL, without a database, and read statement by statement.
"""

import importlib
import io
import re
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations

from orchestrator.store import revisions, schema

VERSIONS = Path(schema.__file__).parent / "migrations" / "versions"
NAMES = sorted(path.stem for path in VERSIONS.glob("[0-9]*.py"))
FIRST = NAMES[0]

#: Breaks of the rules that stand, by revision and the statement's beginning, each with its reason.
BEFORE_THE_FIRST_RELEASE = "made before the first release, so no process without it was ever at work beside it"
HALF_MADE = "its own index, left useless by an attempt before that was cut off"
EXEMPT = {
    ("0002", "ALTER TABLE commands ADD FOREIGN KEY(telling_id)"): BEFORE_THE_FIRST_RELEASE,
    ("0002", "ALTER TABLE commands ADD CONSTRAINT commands_purpose"): BEFORE_THE_FIRST_RELEASE,
    ("0003", "CREATE INDEX payments_sale_reference"): BEFORE_THE_FIRST_RELEASE,
    ("0004", "ALTER TABLE commands ADD FOREIGN KEY(refund_id)"): BEFORE_THE_FIRST_RELEASE,
    ("0004", "ALTER TABLE tellings ADD FOREIGN KEY(refund_id)"): BEFORE_THE_FIRST_RELEASE,
    ("0004", "ALTER TABLE alarms ADD FOREIGN KEY(refund_id)"): BEFORE_THE_FIRST_RELEASE,
    ("0004", "ALTER TABLE commands ADD CONSTRAINT"): BEFORE_THE_FIRST_RELEASE,
    ("0004", "ALTER TABLE commands DROP CONSTRAINT"): BEFORE_THE_FIRST_RELEASE,
    ("0004", "ALTER TABLE tellings ADD CONSTRAINT"): BEFORE_THE_FIRST_RELEASE,
    ("0004", "ALTER TABLE tellings DROP CONSTRAINT"): BEFORE_THE_FIRST_RELEASE,
    ("0007", "CREATE INDEX tellings_of_neither"): BEFORE_THE_FIRST_RELEASE,
    (
        "0009",
        "DROP INDEX CONCURRENTLY IF EXISTS payments_sale",
    ): "payments_reference serves the same, and is there first",
    ("0010", "DROP INDEX CONCURRENTLY IF EXISTS journal_counted"): HALF_MADE,
    ("0010", "DROP INDEX CONCURRENTLY IF EXISTS refund_journal_counted"): HALF_MADE,
}

#: Filled by people and days, not by payments: looked through in milliseconds, and not written while a till waits.
SMALL = {"api_keys", "differences", "reconciliation_runs", "retention_runs", "shared_keys", "tag_keys", "terminals"}

NEW_TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
ALTERED_TABLE = re.compile(r"ALTER TABLE (?:ONLY )?(\w+) (.+)", re.DOTALL)
INDEXED_TABLE = re.compile(r"CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?(?:IF NOT EXISTS )?\w+ ON (\w+)")
WRITTEN_TABLE = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM|CREATE TRIGGER .*? ON|LOCK TABLE|TRUNCATE) (\w+)")
#: What the server works out once, not row by row: adding it rewrites no table.
CONSTANT_DEFAULT = re.compile(r"DEFAULT (?:-?\d+|'[^']*'(?:::\w+)?|true|false|now\(\))(?= |$)", re.IGNORECASE)
#: Statements that stand for themselves: they touch no table that is there.
HARMLESS = re.compile(
    r"CREATE (?:OR REPLACE )?(?:FUNCTION|VIEW)|CREATE SEQUENCE |CREATE EXTENSION IF NOT EXISTS|COMMENT ON|SELECT|SET "
)
TRANSACTION = {"BEGIN", "COMMIT"}


def statements(name: str) -> list[str]:
    """What a migration sends to the server, each statement on one line."""
    written = io.StringIO()
    options = {"as_sql": True, "output_buffer": written, "transactional_ddl": False}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    module = importlib.import_module(f"orchestrator.store.migrations.versions.{name}")
    with Operations.context(context):
        module.upgrade()
    found = (" ".join(re.sub(r"--.*", "", each).split()) for each in written.getvalue().split(";\n"))
    return [each.rstrip("; ") for each in found if each and each.rstrip("; ") not in TRANSACTION]


def trouble(statement: str, new: set[str]) -> str | None:
    """Why a statement must not run beside old processes; ``new`` are the tables of the same migration."""
    if NEW_TABLE.match(statement) or HARMLESS.match(statement):
        return None
    if index := INDEXED_TABLE.match(statement):
        locks = not index[1] and index[2] not in new | SMALL
        return f"locks {index[2]} against writing until it is made; make it concurrently" if locks else None
    if written := WRITTEN_TABLE.match(statement):
        return None if written[1] in new else f"changes or locks rows of {written[1]}, which others write"
    if altered := ALTERED_TABLE.match(statement):
        if altered[1] in SMALL and re.match(r"ADD CONSTRAINT \w+ CHECK", altered[2]):
            return None  # looked through at once; that old processes satisfy it is for its author to see
        return None if altered[1] in new else altering_trouble(altered[2])
    return "is of no kind that is known to be harmless"


def altering_trouble(change: str) -> str | None:
    """Why a change of a table that is there must not be made."""
    if change.startswith("ADD COLUMN "):
        constant = CONSTANT_DEFAULT.search(change)
        if "DEFAULT" in change and not constant:
            return "has a default that differs by row: the whole table is rewritten"
        if "NOT NULL" in change and not constant:
            return "old processes do not fill it"
        if re.search(r"REFERENCES|UNIQUE|CHECK|GENERATED", change):
            return "a constraint or a computed value looks at every row, under a lock"
        return None
    if change.startswith("ADD CONSTRAINT") and change.endswith("NOT VALID"):
        return None
    if re.fullmatch(r"ALTER COLUMN \w+ (DROP NOT NULL|SET DEFAULT .+)", change) or change.startswith(
        "VALIDATE CONSTRAINT"
    ):
        return None
    return "takes something away, or looks at every row under a lock"


def found_in(name: str) -> list[tuple[str, str]]:
    """Each statement of a migration that breaks a rule, and why."""
    sent = statements(name)
    new = {match[1] for each in sent if (match := NEW_TABLE.match(each))}
    return [(each, why) for each in sent if (why := trouble(each, new))]


def exemption(name: str, statement: str) -> tuple[str, str] | None:
    revision = name[:4]
    return next((key for key in EXEMPT if key[0] == revision and statement.startswith(key[1])), None)


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_migration_only_adds(name: str) -> None:
    assert [(each, why) for each, why in found_in(name) if exemption(name, each) is None] == []


def test_every_exemption_is_still_needed() -> None:
    used = {exemption(name, statement) for name in NAMES[1:] for statement, _ in found_in(name)}
    assert used - {None} == set(EXEMPT)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE payments",
        "DROP INDEX payments_newest",
        "ALTER TABLE payments DROP COLUMN options",
        "ALTER TABLE payments RENAME COLUMN options TO choices",
        "ALTER TABLE payments RENAME TO sales",
        "ALTER TABLE payments ALTER COLUMN reference TYPE TEXT",
        "ALTER TABLE payments ALTER COLUMN reason SET NOT NULL",
        "ALTER TABLE payments ADD COLUMN till VARCHAR(80) NOT NULL",
        "ALTER TABLE payments ADD COLUMN key UUID DEFAULT gen_random_uuid()",
        "ALTER TABLE payments ADD COLUMN key UUID DEFAULT gen_random_uuid() NOT NULL",
        "ALTER TABLE payments ADD COLUMN day DATE GENERATED ALWAYS AS (created_at::date) STORED",
        "ALTER TABLE payments ADD COLUMN refund_id UUID REFERENCES refunds (id)",
        "ALTER TABLE payments ADD CONSTRAINT positive CHECK (amount_minor > 0)",
        "CREATE INDEX payments_till ON payments (till)",
        "CREATE UNIQUE INDEX payments_till ON payments (till)",
        "CREATE TRIGGER slow BEFORE INSERT ON payments FOR EACH ROW EXECUTE FUNCTION f()",
        "UPDATE payments SET till = ''",
        "DELETE FROM commands",
        "LOCK TABLE payments",
        "ALTER TABLE terminals DROP COLUMN trouble",
        "TRUNCATE strays",
        "DO $$ BEGIN END $$",
    ],
)
def test_what_would_stop_or_break_old_processes_is_recognised(statement: str) -> None:
    assert trouble(statement, {"people"})


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE people ( id UUID NOT NULL )",
        "CREATE INDEX people_name ON people (name)",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS payments_till ON payments (till)",
        "ALTER TABLE people ADD CONSTRAINT named CHECK (name <> '')",
        "ALTER TABLE payments ADD COLUMN till VARCHAR(80)",
        "ALTER TABLE payments ADD COLUMN tries INTEGER DEFAULT 0 NOT NULL",
        "ALTER TABLE payments ADD CONSTRAINT positive CHECK (amount_minor > 0) NOT VALID",
        "INSERT INTO people VALUES (1)",
        "CREATE SEQUENCE IF NOT EXISTS journal_number",
        "ALTER TABLE journal ALTER COLUMN number SET DEFAULT nextval('journal_number')",
        "ALTER TABLE reconciliation_runs ADD CONSTRAINT signed CHECK (signed_at IS NULL OR state = 'done')",
        "CREATE INDEX terminals_till ON terminals (till)",
    ],
)
def test_what_adds_is_let_through(statement: str) -> None:
    assert trouble(statement, {"people"}) is None


def test_revisions_are_numbers_in_one_line() -> None:
    """Which is how an old process knows that a schema is later than its own."""
    modules = [importlib.import_module(f"orchestrator.store.migrations.versions.{name}") for name in NAMES]
    numbers = [module.revision for module in modules]
    assert numbers == [f"{number:04d}" for number in range(1, len(NAMES) + 1)] == [name[:4] for name in NAMES]
    assert [module.down_revision for module in modules] == [None, *numbers[:-1]]
    assert revisions.newest() == numbers[-1]


@pytest.mark.parametrize(("found", "fits"), [(None, False), ("0001", False), ("9999", True), ("somebody's", False)])
def test_a_release_runs_on_its_own_schema_and_on_a_later_one(found: str | None, fits: bool) -> None:
    assert revisions.serves(found) is fits
    assert revisions.serves(revisions.newest())
    assert not revisions.is_later(revisions.newest())
