"""The page of problems and reasons says what the code answers, word for word."""

import re
from pathlib import Path

from orchestrator.errors import SubmissionRejected
from orchestrator.model import Reason
from orchestrator.refunds.model import RefundReason
from orchestrator.web.problems import TITLES

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
ROW = re.compile(r"^\| `(\S+)` \| (.+) \|$", re.MULTILINE)


def rows(heading: str) -> list[tuple[str, list[str]]]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [(name, cells.split(" | ")) for name, cells in ROW.findall(section)]


def subclasses(kind: type[SubmissionRejected]) -> set[type[SubmissionRejected]]:
    return {kind} | {found for child in kind.__subclasses__() for found in subclasses(child)}


def test_the_page_lists_every_problem_with_its_status_and_title_in_order() -> None:
    listed = [(name, int(cells[0]), cells[1]) for name, cells in rows("Problems")]

    assert listed == [(slug, status, title) for slug, (status, title) in TITLES.items()]
    assert [status for status, _ in TITLES.values()] == sorted(status for status, _ in TITLES.values())


def test_the_page_lists_every_reason_in_the_models_order() -> None:
    assert [name for name, _ in rows("Reasons")] == [reason.value for reason in Reason]


def test_the_page_lists_every_reason_of_a_refund_in_the_models_order() -> None:
    assert [name for name, _ in rows("Reasons of refunds")] == [reason.value for reason in RefundReason]


def test_every_refusal_of_a_submission_is_a_problem_of_the_same_status() -> None:
    for kind in subclasses(SubmissionRejected):
        assert TITLES[kind.problem][0] == kind.status, kind.__name__
