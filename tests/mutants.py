"""Changes that break the decision core: of each cell of TRANSITIONS, and of each guard and entry that judges."""

import ast
import contextlib
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Final, cast

from orchestrator import books, commands, decide
from orchestrator import classify as guards
from orchestrator.model import Outcome, Stage
from orchestrator.transitions import DEFECT, IGNORE, TRANSITIONS, Do, Event, Step

TABLE: Final = cast("MutableMapping[tuple[Stage, Event], Step | str]", TRANSITIONS)

#: The modules whose functions say what evidence means and when to look again.
JUDGING: Final = (guards, books, commands)

SAME: Final[Mapping[str, tuple[str, ...]]] = {
    "whoever arrives there plans it anew, and what is planned is never dropped": (
        "_KEPT[sent] without expect_answer",
        "_KEPT[unknown] without check_status",
    ),
    "an alarm's name is only read where the step raises one; without a name, that step's default is the same": (
        "_cancelled: always, not only if tx.charged",
        "_hearsay: always, not only if tx.stage is Stage.QUEUED",
        "_news: always, not only if tx.stage is Stage.QUEUED",
        "_news: not (tx.stage is Stage.QUEUED)",
        "_news: never, not even if tx.stage is Stage.QUEUED",
    ),
    "what is concluded repeats what the transaction already says": (
        "booked: without 'provisional' in a dict",
        "_booked_again: without 'reason' in a dict",
        "_booked_again: without 'outcome' in a dict",
        "_refused: without 'outcome' in a dict",
        "_refused: without 'reason' in a dict",
    ),
    "the disputed stage ignores either event": (
        "_concluding: never, not even if stage is Stage.DISPUTED",
        "_hearsay: without tx.stage is not Stage.DISPUTED in a condition",
    ),
    "books that deny the very charge have contradicted it before": (
        "books_agree: without books.authorised in a condition",
    ),
    "a sentinel always comes with a conclusion; the type checker does not know": (
        "watch_wait_s: without after.concluded_at is None in a condition",
    ),
    "it crashes either way": ("check_wait_s: never, not even if after.sent_at is None",),
    "a charge always comes with an amount; the type checker does not know": (
        "_news: never, not even if authorised is None",
        "_outcome: without evidence.authorised is not None in a condition",
        "_concluding: without evidence.authorised is not None in a condition",
    ),
    "no condition is looked up as the empty one, and none is listed under either": (
        "_news: without '' in a condition",
        "_outcome: without '' in a condition",
    ),
    "arriving in unknown begins with no check asked": (
        "_ended_check: without tx.stage is Stage.UNKNOWN in a condition",
    ),
    "counting a check looks at the channel once more": (
        "_result: always, not only if evidence.channel is Channel.STATUS",
    ),
}

#: Changes that change nothing, each with the reason.
EQUIVALENT: Final[Mapping[str, str]] = {name: why for why, names in SAME.items() for name in names}


Change = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change, by name; ``cell`` is the cell of the table that it is about, ``apply`` makes it for a while."""

    name: str
    apply: Callable[[], contextlib.AbstractContextManager[None]]
    cell: tuple[Stage, Event] | None = None


# --- changes of the table -------------------------------------------------------------------------------------------


def table_mutants() -> Iterator[Mutant]:
    for cell, now in TRANSITIONS.items():
        for to in dict.fromkeys(variations(cell, now)):
            if to != now:
                yield Mutant(f"{cell[0]} x {cell[1]}: {shown(now)} -> {shown(to)}", partial(swapped, cell, to), cell)


def variations(cell: tuple[Stage, Event], now: Step | str) -> Iterator[Step | str]:
    yield IGNORE
    yield DEFECT
    yield from (other for (_, event), other in TRANSITIONS.items() if event is cell[1])
    if not isinstance(now, Step):
        return
    yield Step(now.after, tuple(do for do in now.do if do is not Do.ALARM))
    if Do.ALARM not in now.do:
        yield Step(now.after, (*now.do, Do.ALARM))
    if not {Do.CHECK_NOW, Do.CHECK_ONCE} & set(now.do):
        yield Step(now.after, (*now.do, Do.CHECK_NOW))
    yield from (Step(now.after, (*now.do[:i], *now.do[i + 1 :])) for i in range(len(now.do)))
    yield from (Step(stage, now.do) for stage in (*Stage, None) if stage is not Stage.QUEUED)


def shown(cell: Step | str) -> str:
    if not isinstance(cell, Step):
        return "defect"
    return f"{cell.after or 'stay'}({', '.join(cell.do)})"


@contextlib.contextmanager
def swapped(cell: tuple[Stage, Event], to: Step | str) -> Iterator[None]:
    now = TABLE[cell]
    TABLE[cell] = to
    try:
        yield
    finally:
        TABLE[cell] = now


# --- changes of the guards ------------------------------------------------------------------------------------------


def condition_mutants() -> Iterator[Mutant]:
    entries = cast("MutableMapping[str, Outcome]", guards.CONDITIONS)
    for condition, now in guards.CONDITIONS.items():
        for to in (*Outcome, None):
            if to is not now:
                yield Mutant(f"CONDITIONS[{condition}] -> {to}", partial(entry, entries, condition, to))
    yield Mutant("CONDITIONS grows", partial(entry, entries, "SomethingNew", Outcome.DECLINED))
    for condition in guards._REASONS:
        reasons = cast("MutableMapping[str, Any]", guards._REASONS)
        yield Mutant(f"_REASONS[{condition}] dropped", partial(entry, reasons, condition, None))
    for stage, kept in commands._KEPT.items():
        for kind in kept:
            yield Mutant(f"_KEPT[{stage}] without {kind}", partial(entry, commands._KEPT, stage, kept - {kind}))


@contextlib.contextmanager
def entry(mapping: MutableMapping[Any, Any], key: Any, to: Any) -> Iterator[None]:
    before = dict(mapping)
    mapping.pop(key, None)
    if to is not None:
        mapping[key] = to
    try:
        yield
    finally:
        mapping.clear()
        mapping.update(before)


_SHIFTED: Final[Mapping[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}


def guard_mutants() -> Iterator[Mutant]:
    """Each condition in each function that judges, turned around or weakened, by its place in the syntax tree."""
    for module in JUDGING:
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                yield from function_mutants(module, name, textwrap.dedent(inspect.getsource(function)))


def function_mutants(module: ModuleType, name: str, source: str) -> Iterator[Mutant]:
    for place in itertools.count():
        changed = ast.parse(source)
        label = change_at(changed, place)
        if label is None:
            return
        yield Mutant(f"{name}: {label}", partial(redefined, module, name, changed))


def change_at(tree: ast.Module, place: int) -> str | None:
    """Make the change number ``place`` of a function in its tree; None when there are fewer."""
    for node in ast.walk(tree):
        for label, change in changes(node):
            if place == 0:
                change()
                return label
            place -= 1
    return None


def changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    for attribute in ("test", "guard"):
        condition = getattr(node, attribute, None)
        if isinstance(condition, ast.expr):
            said = ast.unparse(condition)
            yield f"not ({said})", partial(setattr, node, attribute, ast.UnaryOp(op=ast.Not(), operand=condition))
            yield f"always, not only if {said}", partial(setattr, node, attribute, ast.Constant(value=True))
            yield f"never, not even if {said}", partial(setattr, node, attribute, ast.Constant(value=False))
    match node:
        case ast.BoolOp(values=values):
            neutral = ast.Constant(value=isinstance(node.op, ast.And))
            for at, value in enumerate(values):
                yield f"without {ast.unparse(value)} in a condition", partial(values.__setitem__, at, neutral)
        case ast.Compare(ops=ops) if type(ops[0]) in _SHIFTED:
            yield f"shifted {ast.unparse(node)}", partial(ops.__setitem__, 0, _SHIFTED[type(ops[0])]())
        case ast.Set(elts=elements) if len(elements) > 1:
            for element in elements:
                yield f"without {ast.unparse(element)} in a set", partial(elements.remove, element)
        case ast.Dict(keys=keys):
            for at, key in enumerate(keys):
                if key is not None:
                    yield f"without {ast.unparse(key)} in a dict", partial(drop_entry, node, at)
        case _:
            pass


def drop_entry(node: ast.Dict, at: int) -> None:
    del node.keys[at], node.values[at]


@contextlib.contextmanager
def redefined(module: ModuleType, name: str, tree: ast.Module) -> Iterator[None]:
    """Put the changed function in the place of its own, wherever the core looks for it."""
    before = getattr(module, name)
    code = compile(ast.fix_missing_locations(tree), f"<{name}>", "exec")
    exec(code, vars(module))  # noqa: S102  our own source, changed on purpose
    after = getattr(module, name)
    users = [user for user in (*JUDGING, decide) if vars(user).get(name) in {before, after}]
    for user in users:
        vars(user)[name] = after
    try:
        yield
    finally:
        for user in users:
            vars(user)[name] = before


# --- all of them ----------------------------------------------------------------------------------------------------


def mutants() -> list[Mutant]:
    return [*table_mutants(), *condition_mutants(), *guard_mutants()]
