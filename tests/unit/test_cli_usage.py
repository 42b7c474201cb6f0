"""Mistakes are told in one sentence with a remedy, and by the exit status."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.settings import child_environment, load_settings, settings
from orchestrator.cli import development, flower
from orchestrator.cli.root import Exit, app, run
from orchestrator.cli.verdict import exit_status, verdict
from orchestrator.errors import ConfigurationError
from orchestrator.model import Outcome, Reason

PAY = ["pay", "sale-1", "V400m-324688170"]
BY = ["--as", "Ann", "--merchant", "M"]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but those of the test."""
    for name in list(os.environ):
        if name.startswith(("COUNTERFOIL_", "ADYEN_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COUNTERFOIL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["worker", "--foo"], "counterfoil worker: No such option: --foo. See `counterfoil worker --help`.\n"),
        (["termnals"], "Did you mean 'terminals'? See `counterfoil --help`.\n"),
        ([*PAY, "10,50", "EUR", *BY], "'10,50' is not an amount of EUR; write it like 10.50."),
        ([*PAY, "10.5", "JPY", *BY], "'10.5' is not an amount of JPY; write it like 10."),
        ([*PAY, "1.0001", "KWD", *BY], "'1.0001' is not an amount of KWD; write it like 10.500."),
        ([*PAY, "1", "XXY", *BY], "'XXY' is not a currency that the platform lists, such as EUR."),
        ([*PAY, "10.50", "EUR", "--merchant", "M"], "Missing option '--as'."),
        (["journal", "verify"], "name one payment with --payment, or all of them with --all."),
        (["keys", "create", "--role", "king"], "king"),
    ],
)
def test_a_mistake_of_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, arguments) == Exit.USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["db", "upgrade"], "start them with `counterfoil up`"),
        (["list"], "start them with `counterfoil up`"),
        (["flower"], "COUNTERFOIL_FLOWER_USER"),
        (["terminals", "add", "V400m-1"], "--merchant"),
        (["terminals", "add", "V400m-1", "--merchant", "M", "--transport", "local"], "a local terminal needs one"),
        (
            ["terminals", "add", "V400m-1", "--merchant", "M", "--address", "http://h"],
            "must be a name or an IP address",
        ),
        (["terminals", "add", "V400m-1", "--merchant", "M", "--key-version", "1"], "--passphrase-env together"),
        (["terminals", "add", "V400m", "--merchant", "M"], "such as V400m-324688170"),
        (["terminals", "update", "V400m-1"], "at least one thing to change"),
        (["terminals", "import", "nowhere.toml"], "name a readable TOML file"),
    ],
)
def test_what_cannot_be_done_says_what_to_do_instead(
    arguments: list[str], remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, arguments) == Exit.ERROR
    told = capsys.readouterr()
    assert told.err.startswith("counterfoil: ")
    assert remedy in told.err
    assert told.err.count("\n") == 1


def test_every_mistake_of_the_settings_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COUNTERFOIL_TIME_SCALE", "0")
    monkeypatch.setenv("COUNTERFOIL_LISTEN", "nonsense")
    monkeypatch.setenv("COUNTERFOIL_REGOIN", "eu")
    assert run(app, ["list"]) == Exit.ERROR
    told = capsys.readouterr().err
    for part in ("3 mistakes", "COUNTERFOIL_TIME_SCALE", "COUNTERFOIL_LISTEN", "did you mean COUNTERFOIL_REGION?"):
        assert part in told


def test_what_needs_a_checkout_says_so() -> None:
    with pytest.raises(ConfigurationError, match="needs a checkout: clone the repository, and run `make nowhere`"):
        development._main_of("nowhere.__main__")


@pytest.mark.parametrize(("user", "password"), [("ops", "one,two"), ("a:b", "secret"), ("a,b", "secret")])
def test_flower_is_not_given_a_login_that_it_would_read_otherwise(user: str, password: str) -> None:
    chosen = load_settings({"COUNTERFOIL_FLOWER_USER": user, "COUNTERFOIL_FLOWER_PASSWORD": password})
    with pytest.raises(ConfigurationError, match="comma"):
        flower._login(chosen)


def test_a_child_reads_the_settings_of_its_parent() -> None:
    given = {
        "COUNTERFOIL_API_KEY": "AQE-secret",
        "COUNTERFOIL_TIME_SCALE": "2.5",
        "COUNTERFOIL_TRANSPORT": "sync",
        "COUNTERFOIL_QUORUM_QUEUES": "true",
        "COUNTERFOIL_HMAC_KEYS": f"{'ab' * 32},{'cd' * 32}",
        "COUNTERFOIL_DATA_DIR": "relative/folder",
    }
    parent = load_settings(given)
    child = load_settings(child_environment(parent, listen="127.0.0.1:1234"))
    assert child.listen == "127.0.0.1:1234"
    assert child.data_dir == Path("relative/folder").absolute()
    changed = {"listen", "data_dir"}
    assert child.model_dump(exclude=changed) == parent.model_dump(exclude=changed)


def row(**changes: Any) -> dict[str, Any]:
    """A payment's row, as far as a verdict reads it."""
    now = datetime.now(UTC)
    base: dict[str, Any] = {"state": "confirmed", "outcome": None, "reason": None, "poi_id": "V400m-1"}
    base |= {"currency": "EUR", "amount_minor": 1050, "authorised_minor": None, "provisional": False}
    base |= {"sent_at": now, "answer_by": now + timedelta(seconds=150), "abort_asked": False}
    return base | changes


@pytest.mark.parametrize(
    ("changes", "said", "status"),
    [
        ({"outcome": "approved"}, "Charged 10.50 EUR.", 0),
        ({"outcome": "approved", "authorised_minor": 1200}, "Charged 12.00 EUR, 1.50 EUR more than asked", 0),
        ({"outcome": "partially_approved", "authorised_minor": 500}, "Charged only 5.00 EUR of 10.50 EUR.", 0),
        ({"outcome": "approved", "provisional": True}, "the bank has yet to confirm it", 0),
        ({"outcome": "declined"}, "Not charged: the card was declined.", 10),
        ({"outcome": "not_performed", "reason": "expired"}, "the terminal never heard of it", 10),
        ({"state": "unknown", "reason": "no_answer"}, "Not known yet: do not take the payment again", 20),
        ({"state": "unknown", "reason": "contradiction"}, "a person has to settle it", 20),
        ({"state": "pending"}, "do not take the payment again; the shopper pays at V400m-1.", 20),
        ({"state": "pending", "sent_at": None, "answer_by": None}, "queued for V400m-1", 20),
        ({"state": "pending", "answer_by": datetime.now(UTC)}, "V400m-1 is being asked what became of it", 20),
    ],
)
def test_a_clerk_is_told_about_the_money_in_one_sentence(changes: dict[str, Any], said: str, status: int) -> None:
    payment = row(**changes)
    assert said in verdict(payment)
    assert exit_status(payment) == status


@pytest.mark.parametrize("outcome", Outcome)
def test_no_outcome_is_left_without_a_sentence(outcome: Outcome) -> None:
    for reason in [None, *Reason]:
        said = verdict(row(outcome=outcome.value, reason=reason and reason.value))
        assert said.startswith("Charged" if outcome.charged else "Not charged: ")
