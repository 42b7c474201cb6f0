"""The error tree is the one that its docstring draws, and each error says what is wrong."""

import inspect
import re

import pytest

from orchestrator import errors
from orchestrator.errors import Defect, InvalidSubmission, OrchestratorError, SubmissionRejected

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, OrchestratorError)]
REFUSALS = [cls for cls in CLASSES if issubclass(cls, SubmissionRejected)]


def drawn() -> dict[str, str | None]:
    """Each class that the docstring draws, with its parent."""
    parents: dict[str, str | None] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^([ │├└─]*)([A-Z][A-Za-z]+)(?:\s{2,}.*)?$", line)
        if not found:
            continue
        depth, name = len(found[1]), found[2]
        path = [(at, above) for at, above in path if at < depth]
        parents[name] = path[-1][1] if path else None
        path.append((depth, name))
    return parents


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    real = {cls.__name__: None if cls is OrchestratorError else cls.__mro__[1].__name__ for cls in CLASSES}

    assert drawn() == real


@pytest.mark.parametrize("cls", CLASSES)
def test_the_first_line_of_its_docstring_is_its_message(cls: type[OrchestratorError]) -> None:
    sentence = (cls.__doc__ or "").splitlines()[0]

    assert str(cls()) == sentence
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert str(cls("the till is on fire")) == "the till is on fire"


def test_identifiers_are_attributes() -> None:
    error = InvalidSubmission("the amount is negative", field="amount")

    assert (error.field, error.payment_id, error.status, error.problem) == ("amount", None, 422, "invalid-field")


def test_each_refusal_has_a_problem_of_its_own_and_a_status_of_the_callers() -> None:
    problems = {cls.problem for cls in REFUSALS}

    assert len(problems) == len(REFUSALS)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", problem) for problem in problems)
    assert {cls.status for cls in REFUSALS} <= {403, 404, 409, 422}


def test_a_defect_is_nobody_elses_kind() -> None:
    """Whoever catches a refusal, a protocol error or a lost race must never swallow a defect with it."""
    assert Defect.__base__ is OrchestratorError
    assert Defect.__subclasses__() == []
