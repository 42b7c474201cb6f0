"""How terminals are right now, asked of the cloud and of themselves: for people who look, never for a payment's way."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from orchestrator.errors import ConfigurationError
from orchestrator.model import Transport
from orchestrator.store.rows import Row
from orchestrator.terminal import TerminalRoute, Terminals
from orchestrator.terminal_api.inventory import Condition, Health

#: Questions under way at once: a shop's terminals are asked in a second, and the platform sees no storm.
_AT_ONCE: Final = 16


def look(terminals: Terminals, rows: Sequence[Row], sale_id: str) -> Mapping[str, Health]:
    """Say how each of these registered terminals is.

    The cloud's own list spares asking those that are away; where it gives none, every one is asked.
    """
    away = {poi_id for poi_id, connected in connections(terminals, rows).items() if not connected}
    asked = [route_of(row) for row in rows if row["poi_id"] not in away]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        found = threads.map(lambda route: terminals.diagnose(route, sale_id), asked)
        healths = {route.poi_id: health for route, health in zip(asked, found, strict=True)}
    return healths | dict.fromkeys(away, Health(Condition.AWAY))


def route_of(row: Row) -> TerminalRoute:
    """The way to a registered terminal."""
    return TerminalRoute(
        poi_id=row["poi_id"],
        merchant_account=row["merchant_account"],
        transport=Transport(row["transport"]),
        region=row["region"],
        family=row["cloud_api"],
        address=row["address"],
        store=row["store"],
    )


def connections(terminals: Terminals, rows: Sequence[Row]) -> Mapping[str, bool]:
    """Say which of these terminals the cloud is connected to: one question for each merchant account of theirs.

    Those on the local network are left out, and those that the cloud does not say anything of.
    """
    groups: dict[tuple[str, str | None, str | None], set[str]] = defaultdict(set)
    for row in rows:
        if row["transport"] != Transport.LOCAL:
            groups[row["merchant_account"], row["region"], row["cloud_api"]].add(row["poi_id"])
    found: dict[str, bool] = {}
    for group, poi_ids in groups.items():
        try:
            connected = terminals.connected(*group)
        except ConfigurationError:  # no such host; asking each of them says the same
            continue
        if connected is not None:
            found |= {poi_id: poi_id in connected for poi_id in poi_ids}
    return found
