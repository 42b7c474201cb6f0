"""Secrets by reference: found where they are said to be, and never part of what is said about them."""

from pathlib import Path

import pytest

from config.secrets import checked_reference, resolve
from config.settings import secret_of
from orchestrator.errors import ConfigurationError

CANARY = "kEEp-m3-oUt"


def test_a_variable_is_read_as_it_is() -> None:
    assert resolve("env:LANE_KEY", {"LANE_KEY": f" {CANARY}$x "}) == f" {CANARY}$x "


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_is_read_without_the_line_break_at_its_end(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "lane_key"
    file.write_bytes(f"{CANARY} ".encode() + ending.encode())
    assert resolve(f"file:{file}", {}) == f"{CANARY} "


def test_the_environment_goes_before_dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(f"LANE_KEY={CANARY}$1\nOTHER_KEY=b\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTHER_KEY", "a")
    monkeypatch.delenv("LANE_KEY", raising=False)
    assert (secret_of("env:LANE_KEY"), secret_of("env:OTHER_KEY")) == (f"{CANARY}$1", "a")


@pytest.mark.parametrize(
    "reference",
    [
        "",
        CANARY,
        f"env:{CANARY}",
        "env:",
        "env:1A",
        "env:A B",
        "file:",
        f"file:{CANARY}",
        "file:/a\nb",
        "ENV:A",
        "env:Ä",
    ],
)
def test_what_is_no_reference_may_be_the_secret_and_is_not_repeated(reference: str) -> None:
    with pytest.raises(ConfigurationError, match="env:NAME or as file:/whole/path") as caught:
        checked_reference(reference)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "env:LANE_KEY is empty or not there; set the variable for every worker"),
        ({"LANE_KEY": ""}, "env:LANE_KEY is empty or not there"),
        ({"LANE_KEY": None}, "env:LANE_KEY is empty or not there"),
        ({"LANE_KEY": f"{CANARY}\udcff"}, "env:LANE_KEY must be UTF-8 text"),
    ],
)
def test_a_variable_that_holds_no_secret_is_named(variables: dict[str, str | None], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve("env:LANE_KEY", variables)
    assert str(caught.value).startswith(said)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty or not there"),
        (b"\n", "is empty or not there"),
        (CANARY.encode() + b"\xff", "must be UTF-8 text"),
        (CANARY.encode() + bytes(65_536), "is larger than 65536 bytes"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "lane_key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        resolve(f"file:{file}", {})
    assert f"file:{file} {said}" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
