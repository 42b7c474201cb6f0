"""What a check of the doctor's found."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, with the remedy when it is not well."""

    check: str
    verdict: Verdict
    text: str


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, text)


def warn(check: str, text: str) -> Finding:
    """It works, or will not matter to everybody."""
    return Finding(check, Verdict.WARN, text)


def fail(check: str, text: str) -> Finding:
    """Payments suffer."""
    return Finding(check, Verdict.FAIL, text)
