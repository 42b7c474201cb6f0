"""Passwords: what is stored says how it was made, and a guess costs the same whoever it is aimed at."""

import hashlib
from typing import Any

import pytest

from orchestrator import passwords
from orchestrator.passwords import PASSWORD_CHARACTERS_MIN, fits, hash_password, make_password


def test_the_password_fits_and_no_other_does() -> None:
    stored = hash_password("correct horse battery")
    assert fits("correct horse battery", stored)
    assert not fits("Correct horse battery", stored)


def test_two_people_with_one_password_have_two_hashes() -> None:
    assert hash_password("the same for both") != hash_password("the same for both")


def test_a_hash_says_its_parameters_so_that_they_may_rise_later() -> None:
    assert hash_password("x").startswith("scrypt$15$8$3$")
    light = "scrypt$4$8$1$" + passwords._text(b"salt") + "$"
    digest = hashlib.scrypt(b"old", salt=b"salt", n=16, r=8, p=1, dklen=32)
    assert fits("old", light + passwords._text(digest))


def test_a_guess_at_nobody_takes_the_same_work_and_never_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    real = passwords._scrypt

    def counted(*arguments: Any) -> bytes:
        asked.append(arguments[2:])
        return real(*arguments)

    monkeypatch.setattr(passwords, "_scrypt", counted)
    assert not fits("x", hash_password("y"))
    assert not fits("x", None)
    assert asked[1:] == [asked[0], asked[0]]  # made, guessed at somebody, guessed at nobody


def test_a_password_that_is_made_is_longer_than_one_that_is_given_has_to_be() -> None:
    made = {make_password() for _ in range(50)}
    assert len(made) == 50
    assert min(map(len, made)) > PASSWORD_CHARACTERS_MIN


def test_any_text_may_be_a_password() -> None:
    for text in ("påssword ☃ with signs", "\ud800 half of a pair"):
        assert fits(text, hash_password(text))
