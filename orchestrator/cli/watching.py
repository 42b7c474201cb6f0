"""``counterfoil terminals watch``: what runs on a terminal, what it shows and what it says, while it happens."""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import typer

from orchestrator.cli.output import clock, say
from orchestrator.cli.product import product
from orchestrator.cli.stopping import heard_between_looks
from orchestrator.errors import NotFound, StoreUnavailable
from orchestrator.store.live import LiveStore, Place, shown
from orchestrator.store.rows import Row
from orchestrator.store.terminals import TerminalStore
from orchestrator.views import terminal_json

#: As often as the API looks.
_LOOK_EVERY_S: Final = 0.25


def watch(
    poi_id: Annotated[str, typer.Argument(metavar="POIID", help="Model and serial number, such as V400m-324688170.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each event.")] = False,
) -> None:
    """Watch a terminal until Ctrl-C: what runs and waits there, what it shows the cashier, what it says of itself."""
    with heard_between_looks() as pause, product() as counterfoil:
        for event, data, row in _happenings(counterfoil.live, TerminalStore(counterfoil.database), poi_id, pause):
            say(json.dumps({"event": event, "data": data}) if as_json else _line(event, data, row))


def _happenings(
    live: LiveStore, terminals: TerminalStore, poi_id: str, pause: Callable[[float], None]
) -> Iterator[tuple[str, dict[str, Any], Row]]:
    """Its state now and whenever it is another, and what it shows and says from its last display text on."""
    after, known = live.begin(poi_id, None), None
    while True:
        try:
            state = terminals.one(poi_id, None)
            rows = live.news([Place(0, poi_id, after)])
        except StoreUnavailable:
            pause(_LOOK_EVERY_S)
            continue
        if state is None:
            raise NotFound(f"no terminal {poi_id} is registered; `counterfoil terminals list` shows those that are")
        if (seen := terminal_json(state)) != known:
            known = seen
            yield "terminal.state", seen, state
        for row in rows:
            after = row["id"]
            yield f"terminal.{row['kind']}", shown(row), row
        pause(_LOOK_EVERY_S)


def _line(event: str, data: dict[str, Any], row: Row) -> str:
    if event != "terminal.state":
        details = " ".join(f"{name}={value}" for name, value in data.get("detail", {}).items())
        return "\t".join(filter(None, (clock(row["at"]), data["text"], data["name"], details)))
    running = f"runs {data['running']['reference']}" if data["running"] else "idle"
    waiting = f"{data['queued']} queued" if data["queued"] else ""
    unknown = f"{data['unknown']} unknown" if data["unknown"] else ""
    held = f"held by {data['held']['by']}" if data["held"] else ""
    trouble = (data["trouble"] or "").replace("_", " ")
    return "\t".join(("", ", ".join(filter(None, (running, waiting, unknown, held, trouble)))))
