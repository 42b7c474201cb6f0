"""What an operator does at the command line, against a real worker, database and broker."""

import json
import os
import pty
import secrets
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from orchestrator.keys import digest_of
from tests.integration.cli_support import MERCHANT, ROOT, Desk, desk_on, wait_for
from tests.services import fresh_redis, libpq_url

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def desk(postgres_url: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with fresh_redis(redis_url) as broker_url, desk_on(postgres_url, broker_url, folder) as opened:
        opened.processes.start("worker", "worker")
        opened.processes.start("beat", "beat")
        yield opened


def sale(scenario: str) -> str:
    return f"sale-{secrets.token_hex(4)}-{scenario}"


@pytest.mark.parametrize(
    ("scenario", "status", "verdict"),
    [
        ("approve", 0, "Charged 10.50 EUR."),
        ("partial", 0, "Charged only 6.30 EUR of 10.50 EUR."),
        ("decline", 10, "Not charged: the card was declined."),
        ("withheld", 20, "Not known yet: do not take the payment again;"),
    ],
)
def test_pay_tells_the_verdict_by_its_last_words_and_its_status(
    desk: Desk, scenario: str, status: int, verdict: str
) -> None:
    paid = desk.pay(desk.terminal(), sale(scenario))
    assert paid.returncode == status, paid.stderr
    lines = paid.stdout.splitlines()
    assert any(line.startswith(verdict) for line in lines[-2:])
    assert "\x1b" not in paid.stdout


def test_a_sale_that_was_charged_is_not_charged_again_without_a_reason(desk: Desk) -> None:
    poi_id, reference = desk.terminal(), sale("approve")
    first = json.loads(desk.pay(poi_id, reference, "--json").stdout)
    second = desk.pay(poi_id, reference)
    assert second.returncode == 1
    assert f"counterfoil show {first['id']}" in second.stderr
    third = desk.pay(poi_id, reference, "--override-reason", "the shopper buys the same again")
    assert third.returncode == 0
    assert f"other attempts  {first['id']}" in desk.told("show", reference)


def test_the_same_idempotency_key_is_the_same_payment(desk: Desk) -> None:
    poi_id, reference = desk.terminal(), sale("approve")
    key = ("--idempotency-key", reference, "--json")
    assert (
        json.loads(desk.pay(poi_id, reference, *key).stdout)["id"]
        == json.loads(desk.pay(poi_id, reference, *key).stdout)["id"]
    )


def test_receipts_are_printed_written_and_asked_for_once_more(desk: Desk, tmp_path: Path) -> None:
    reference = sale("approve")
    assert desk.pay(desk.terminal(), reference).returncode == 0

    both = desk.told("receipt", reference)
    assert both.index("MERCHANT COPY") < both.index("CARDHOLDER COPY")
    customer = desk.told("receipt", reference, "--copy", "customer", "--width", "32")
    assert "MERCHANT COPY" not in customer
    assert max(map(len, customer.splitlines())) == 32
    assert [receipt["copy"] for receipt in desk.json("receipt", reference)["data"]] == ["cashier", "customer"]
    page = tmp_path / "receipt.html"
    assert str(page) in desk.told("receipt", reference, "--html", str(page))
    assert page.read_text(encoding="utf-8").count("<article") == 2
    assert "the terminal is asked" in desk.told("receipt", reference, "--reprint-as", "Ann")


def test_receipts_that_are_not_there_are_missed_with_a_reason(desk: Desk) -> None:
    reference = sale("withheld")
    assert desk.pay(desk.terminal(), reference, "--no-wait").returncode == 0

    early = desk.run("receipt", reference)
    assert early.returncode == 1
    assert "has not ended" in early.stderr
    unkept = desk.run("receipt", reference, COUNTERFOIL_RECEIPTS="false")
    assert unkept.returncode == 1
    assert "COUNTERFOIL_RECEIPTS" in unkept.stderr


def test_a_payment_is_found_by_id_and_by_reference_with_the_evidence_behind_it(desk: Desk) -> None:
    poi_id, reference = desk.terminal(), sale("decline")
    paid = json.loads(desk.pay(poi_id, reference, "--json").stdout)
    assert paid["charged"] is False
    shown = desk.json("show", reference, "--journal")
    assert shown == desk.json("show", paid["id"], "--journal")
    assert [line["event"] for line in shown["journal"]][:2] == ["accepted", "send_started"]
    [listed] = desk.json(
        "list", "--reference", reference, "--outcome", "declined", "--not-charged", "--terminal", poi_id
    )
    assert listed == {name: value for name, value in shown.items() if name != "journal"}
    assert desk.json("list", "--reference", reference, "--charged") == []
    assert desk.run("show", "no-such-sale").returncode == 1


def test_a_payment_that_runs_is_stopped_by_name_and_watched_to_its_end(desk: Desk) -> None:
    poi_id, reference = desk.terminal(), sale("abortable")
    accepted = desk.pay(poi_id, reference, "--no-wait")
    assert accepted.returncode == 0
    assert accepted.stdout.startswith("accepted as ")
    assert desk.run("abort", reference).returncode == 2
    desk.told("abort", reference, "--as", "Ann")
    desk.told("check", reference, "--as", "Ben")
    watched = desk.run("watch", reference)
    assert watched.returncode == 10, watched.stdout
    asked = [line["detail"].get("asked_by") for line in desk.json("show", reference, "--journal")["journal"]]
    assert {"Ann", "Ben"} <= set(asked)


def test_a_key_is_shown_once_and_only_its_hash_is_kept(desk: Desk) -> None:
    made = desk.json("keys", "create", "--merchant", MERCHANT, "--role", "operate")
    assert made["role"] == "operate"
    with psycopg.connect(libpq_url(desk.environment["COUNTERFOIL_DATABASE_URL"])) as connection:
        found = connection.execute("SELECT id::text, key_hash FROM api_keys WHERE id = %s", [made["id"]]).fetchone()
    assert found == (made["id"], digest_of(made["key"]))
    assert made["key"] not in desk.told("keys", "list", "--json")
    desk.told("keys", "revoke", made["id"])
    assert desk.run("keys", "revoke", made["id"]).returncode == 1
    [listed] = [key for key in desk.json("keys", "list") if key["id"] == made["id"]]
    assert listed["revoked_at"]


def test_a_held_terminal_starts_nothing_until_it_is_released(desk: Desk) -> None:
    poi_id, reference = desk.terminal(), sale("approve")
    desk.told("terminals", "hold", poi_id, "--as", "Ann", "--reason", "it is being moved")
    desk.pay(poi_id, reference, "--no-wait")
    [held] = [each for each in desk.json("terminals", "list") if each["poi_id"] == poi_id]
    assert (held["held_by"], held["hold_reason"], held["queued"]) == ("Ann", "it is being moved", 1)
    assert desk.run("terminals", "remove", poi_id).returncode == 1
    assert desk.json("show", reference)["sent_at"] is None
    desk.told("terminals", "release", poi_id, "--as", "Ann")
    assert desk.run("watch", reference).returncode == 0
    desk.told("terminals", "remove", poi_id)
    assert poi_id not in desk.told("terminals", "list")


def test_a_file_of_terminals_is_taken_whole_or_not_at_all(desk: Desk, tmp_path: Path) -> None:
    assert desk.told("terminals", "import", str(ROOT / "config" / "terminals.example.toml")).startswith("3 registered")
    wrong = tmp_path / "terminals.toml"
    good = f'[[terminal]]\npoi_id = "AMS1-1"\nmerchant_account = "{MERCHANT}"\n'
    wrong.write_text(good + good.replace("AMS1-1", "nohyphen"))
    refused = desk.run("terminals", "import", str(wrong))
    assert refused.returncode == 1
    assert "nohyphen: poi_id" in refused.stderr
    assert "AMS1-1" not in desk.told("terminals", "list")


def test_what_is_not_named_in_an_update_stays(desk: Desk) -> None:
    poi_id = desk.terminal()
    desk.told("terminals", "update", poi_id, "--store", "harbour")
    desk.told("terminals", "update", poi_id, "--region", "us")
    [row] = [each for each in desk.json("terminals", "list") if each["poi_id"] == poi_id]
    assert (row["store"], row["region"], row["transport"]) == ("harbour", "us", "sync")


def test_a_journal_that_somebody_changed_is_found_out(desk: Desk) -> None:
    reference = sale("approve")
    paid = json.loads(desk.pay(desk.terminal(), reference, "--json").stdout)
    whole = {"verified": 1, "broken": {}, "expunged": 0, "expunged_lines": {}}
    assert desk.json("journal", "verify", "--payment", reference) == whole
    with psycopg.connect(libpq_url(desk.environment["COUNTERFOIL_DATABASE_URL"]), autocommit=True) as connection:
        connection.execute("ALTER TABLE journal DISABLE TRIGGER ALL")
        connection.execute("UPDATE journal SET event = 'declined' WHERE payment_id = %s AND sequence = 3", [paid["id"]])
        connection.execute("ALTER TABLE journal ENABLE TRIGGER ALL")
    verified = desk.run("journal", "verify", "--all")
    assert verified.returncode == 30
    assert paid["id"] in verified.stdout


def test_the_doctor_finds_a_running_product_well(desk: Desk) -> None:
    desk.terminal()
    for row in json.loads(desk.told("terminals", "list", "--json")):
        if row["transport"] == "local":  # of other tests: nobody listens at their addresses
            desk.told("terminals", "remove", row["poi_id"])
    well = {"database", "schema", "clock", "tag key", "broker", "api key", "progress", "workers", "terminals", "beat"}
    well |= {"queues"}  # canaries went into each, and came back
    found: dict[str, str] = {}
    for _ in range(3):  # a worker on a busy machine may be too late to answer the first time
        examined = desk.run("doctor", "--json")
        assert examined.returncode == 0, examined.stdout
        found = {each["check"]: each["verdict"] for each in json.loads(examined.stdout)}
        if all(found[check] == "ok" for check in well):
            break
    assert {check for check in well if found[check] != "ok"} == set(), found
    assert found["notifications"] == "warn"
    assert found["held calls"] == "warn"  # one worker serves everything, and there are sync terminals
    unanswered = "SELECT name FROM pulses WHERE name <> 'sweep' AND worker IS NULL"
    with psycopg.connect(libpq_url(desk.environment["COUNTERFOIL_DATABASE_URL"]), autocommit=True) as connection:
        wait_for(lambda: not connection.execute(unanswered).fetchall())


@pytest.mark.parametrize(
    ("changed", "fails"),
    [
        ({"COUNTERFOIL_DATABASE_URL": "postgresql+psycopg://postgres@127.0.0.1:1/none"}, "database"),
        ({"COUNTERFOIL_BROKER_URL": "redis://127.0.0.1:1/0"}, "broker"),
        ({"COUNTERFOIL_BROKER_URL": "amqp://127.0.0.1:1//"}, "broker"),
    ],
)
def test_the_doctor_names_what_does_not_answer_and_fails(desk: Desk, changed: dict[str, str], fails: str) -> None:
    examined = desk.run("doctor", "--quick", **changed)
    assert examined.returncode == 1
    assert f"FAIL  {fails}: does not answer" in examined.stdout
    assert examined.stderr == ""


def test_a_database_without_our_schema_is_told_apart_from_one_that_is_away(desk: Desk, empty_database_url: str) -> None:
    refused = desk.run("list", COUNTERFOIL_DATABASE_URL=empty_database_url)
    assert refused.returncode == 1
    assert "has no schema" in refused.stderr
    assert "counterfoil db upgrade" in refused.stderr
    assert desk.run("db", "check", COUNTERFOIL_DATABASE_URL=empty_database_url).returncode == 1
    assert desk.told("db", "check") == "the schema is what this release needs\n"


def test_on_a_screen_the_payment_moves_until_its_verdict_stays(desk: Desk) -> None:
    arguments = ["pay", sale("approve"), desk.terminal(), "10.50", "EUR", "--merchant", MERCHANT, "--as", "Ann"]
    status, screen = on_a_screen(desk, arguments)
    assert status == 0
    assert "queued for V400m-" in screen or "the shopper pays at V400m-" in screen
    assert "\x1b[" in screen
    assert "Charged 10.50 EUR." in screen.splitlines()[-1]


def on_a_screen(desk: Desk, arguments: list[str]) -> tuple[int, str]:
    """Run a command on a terminal of its own; its exit status and everything it wrote."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator.cli", *arguments],
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "COLUMNS": "120", **desk.environment},
        cwd=ROOT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            written += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    return process.wait(10), written.decode().rstrip()


def test_terminals_are_listed_as_they_are_now(desk: Desk) -> None:
    """The cloud knows of a terminal that it has seen, and that one is asked; of another it says that it is away."""
    seen, unseen = desk.terminal(), desk.terminal()
    desk.pay(seen, "LIVE-1")

    found = {row["poi_id"]: row["condition"] for row in desk.json("terminals", "list", "--live")}

    assert (found[seen], found[unseen]) == ("ready", "away")
    assert "condition" not in desk.json("terminals", "list")[0]
