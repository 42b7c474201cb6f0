"""The command line explains itself, and its reference says the same."""

from pathlib import Path

import pytest

from orchestrator.cli import reference
from orchestrator.cli.root import app, run

ROOT = Path(__file__).parents[2]
COMMANDS = dict(reference.commands())
PROMISED = (
    "up,serve,worker,beat,flower,simulate,doctor,db upgrade,db check,config show,config schema,pay,show,list,watch,"
    "check,abort,terminals list,terminals add,terminals import,terminals update,terminals remove,terminals hold,"
    "terminals release,terminals key show,terminals key set,terminals key rotate,terminals key drop,terminals trust,"
    "keys create,keys revoke,keys list,journal verify,demo,bench,gauntlet"
).split(",")
READS = (
    "show",
    "list",
    "doctor",
    "config show",
    "terminals list",
    "terminals key show",
    "terminals trust",
    "keys list",
    "journal verify",
)


def test_the_reference_in_the_docs_is_what_the_commands_say() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference.render(), "stale; run `python -m orchestrator.cli.reference`"


def test_every_promised_command_is_there() -> None:
    assert not set(PROMISED) - set(COMMANDS)


def test_the_help_lists_every_command_that_the_reference_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["--help"]) == 0
    shown = capsys.readouterr().out
    listed = {line.split()[1] for line in shown.splitlines() if line.startswith("│ ") and line[2].isalpha()}
    assert {path.split()[0] for path in COMMANDS} <= listed
    assert "\x1b[" not in shown


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_every_option_has_a_help_text(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    silent = [each.name for each in command.params if not getattr(each, "hidden", False) and not each.help]
    assert not silent


@pytest.mark.parametrize("path", READS)
def test_every_read_takes_json(path: str) -> None:
    assert any("--json" in each.opts for each in COMMANDS[path].params)


@pytest.mark.parametrize("path", ["pay", "check", "abort", "terminals hold", "terminals release"])
def test_acts_that_touch_a_terminal_want_a_name(path: str) -> None:
    assert [each.required for each in COMMANDS[path].params if "--as" in each.opts] == [True]
