"""The lives of payments and refunds, drawn from their tables: ``python -m orchestrator.lifecycle > docs/lifecycle.md``.

Pure: ``render`` reads both tables and returns Markdown with Mermaid diagrams. Nothing of the product uses it; a test
compares what it says with what the documentation shows.
"""

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Final

from orchestrator.model import Stage
from orchestrator.refunds import transitions as refund_table
from orchestrator.refunds.model import RefundStage
from orchestrator.transitions import TRANSITIONS, Step

_INTRODUCTION: Final = """\
# The life of a transaction

<!-- Drawn from orchestrator/transitions.py by `python -m orchestrator.lifecycle`; a test fails when they differ. -->

A transaction is stored, shown and sent in one of four states: `pending`, `unknown`, `confirmed`, `reconciled`. The
table of transitions splits them into nine stages, because what may happen next depends on a little more than the state.

| stage | stored state | what is true |
|---|---|---|
| `queued` | `pending` | recorded, and nothing is on the wire |
| `sent` | `pending` | a worker claimed it; the request may be on the wire, and the answer window is open |
| `unknown` | `unknown` | the window passed without a conclusive answer; the terminal is asked on a schedule |
| `disputed` | `unknown` | evidence contradicts itself, or tells of what was never sent; for the books or a person |
| `not_performed` | `confirmed` | proven never performed |
| `not_charged` | `confirmed` | declined, cancelled or aborted |
| `charged` | `confirmed` | approved, in full or in part |
| `reconciled_not_charged` | `reconciled` | without a charge, and the books or a person agree |
| `reconciled_charged` | `reconciled` | charged, and the books or a person agree |

Evidence comes in, `classify` says which event it is for this transaction at this moment, and the table says what
follows. Three things to look for in the picture: no arrow leads back to `queued`, and only one leads from there to
`sent`, so a request goes out once; nothing but a result, the books, a person, or proof of absence leads out of doubt;
and a conclusion goes back to `unknown` or `disputed` only loudly (an arrow with `alarm`).
"""

_LEGEND: Final = """\
## Every cell

One table per event. A stage that is not listed under an event ignores it: the journal keeps a line, and nothing else
changes. *Cannot happen* marks what only a mistake in our own code could produce, and stops that code. What has to be
done carries a due time from `orchestrator/policy.py`; `tell` is not listed, because every change of state, outcome,
reason, amount or reference is told.
"""


_REFUNDS: Final = """\
# The life of a refund

A refund has the same four states, outcomes of its own, and a table of its own (`orchestrator/refunds/transitions.py`).

| stage | stored state | what is true |
|---|---|---|
| `awaiting` | `pending` | without a payment and above the limit: it waits for a second person |
| `queued` | `pending` | recorded, and nothing is on the wire |
| `sent` | `pending` | a worker claimed it; the request may be on the wire, and the answer window is open |
| `unknown` | `unknown` | the window passed without a conclusive answer; the terminal is asked on a schedule |
| `received` | `pending` | the terminal or the platform took it; nothing is known of the money |
| `not_paid` | `confirmed` | the terminal said no, or it is proven that nothing took place |
| `paid` | `confirmed` | without a payment: the terminal said that it paid out |
| `booked_not_paid` | `reconciled` | the books say that the shopper does not have the money |
| `booked_paid` | `reconciled` | the books say that the shopper has it, or that the payment was cancelled |

Only the books lead to `booked_paid`; what they say last stands, also when a refund that was paid out fails days later.
"""

_Step = Step | refund_table.Step
_Cells = Mapping[tuple[StrEnum, StrEnum], _Step | str]


def render() -> str:
    """Draw the diagrams and spell out every cell of both tables."""
    payments: _Cells = {(stage, event): cell for (stage, event), cell in TRANSITIONS.items()}
    refunds: _Cells = {(stage, event): cell for (stage, event), cell in refund_table.TRANSITIONS.items()}
    of_payments = [_INTRODUCTION, *_diagram(payments, Stage.QUEUED), "", _LEGEND, *_tables(payments)]
    starts = RefundStage.QUEUED, RefundStage.AWAITING
    return "\n".join([*of_payments, _REFUNDS, *_diagram(refunds, *starts), "", *_tables(refunds)]) + "\n"


def _diagram(table: _Cells, *starts: StrEnum) -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield from (f"    [*] --> {start}" for start in starts)
    for before in type(starts[0]):
        for after in type(starts[0]):
            labels = [_label(event, step) for event, step in _moves(table, before, after)]
            if labels:
                yield f"    {before} --> {after}: {'<br/>'.join(labels)}"
    yield "```"


def _moves(table: _Cells, before: StrEnum, after: StrEnum) -> Iterator[tuple[StrEnum, _Step]]:
    for (stage, event), cell in table.items():
        if stage is before and not isinstance(cell, str) and cell.after is after:
            yield event, cell


def _label(event: StrEnum, step: _Step) -> str:
    return " / ".join([event, ", ".join(step.do)]) if step.do else str(event)


def _tables(table: _Cells) -> Iterator[str]:
    for event in dict.fromkeys(event for _, event in table):
        cells = {stage: cell for (stage, each), cell in table.items() if each is event}
        yield f"### `{event}`"
        yield ""
        yield "| in | goes to | does |"
        yield "|---|---|---|"
        yield from (
            _row(stage, cell) for stage, cell in cells.items() if not isinstance(cell, str) and not _ignores(cell)
        )
        impossible = [f"`{stage}`" for stage, cell in cells.items() if isinstance(cell, str)]
        if impossible:
            yield f"| {', '.join(impossible)} | *cannot happen* | |"
        yield ""


def _ignores(step: _Step) -> bool:
    return step.after is None and not step.do


def _row(stage: StrEnum, step: _Step) -> str:
    after = f"`{step.after}`" if step.after else "stays"
    return f"| `{stage}` | {after} | {', '.join(f'`{do}`' for do in step.do)} |"


if __name__ == "__main__":
    sys.stdout.write(render())
