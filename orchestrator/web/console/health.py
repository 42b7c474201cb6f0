"""``/console/health``: is the work being done, and if not, what is to be done. It renews itself."""

import threading
import time
from datetime import UTC, datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orchestrator import runbook
from orchestrator.cli.brokers import broker_version, queue_lengths
from orchestrator.store import revisions
from orchestrator.store.pulses import SWEEP, PulseStore
from orchestrator.store.vitals import VitalStore
from orchestrator.web.console.desk import Desk, Person
from orchestrator.web.console.vital_signs import Broker, Mark, Seen, duration, signs

#: A broker that is away takes some seconds to say so: those who watch share one look at it.
_BROKER_FRESH_S: Final = 5.0


class BrokerLook:
    """Looks at the broker, at most once in five seconds for all who watch."""

    def __init__(self, desk: Desk) -> None:
        self._settings = desk.settings
        self._url = desk.services.counterfoil.urls.broker
        self._lock = threading.Lock()
        self._seen: tuple[float, Broker] | None = None

    def __call__(self) -> Broker:
        """What it is and what waits in it; None for a version where it does not answer."""
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen[0] > _BROKER_FRESH_S:
                self._seen = (time.monotonic(), self._look())
            return self._seen[1]

    def _look(self) -> Broker:
        try:
            version = broker_version(self._settings, self._url)
            return Broker(version, queue_lengths(self._settings, self._url))
        except Exception:  # noqa: BLE001  -- each broker's library raises its own
            return Broker(None, {})


def router(desk: Desk) -> APIRouter:
    """Make the route."""
    routes = APIRouter(include_in_schema=False)
    look = BrokerLook(desk)

    @routes.get("/console/health")
    def health(request: Request, person: Annotated[Person, Depends(desk.sees())]) -> Response:
        """Every check, what is wrong first, with the runbook's words; then the figures behind it."""
        database = desk.services.counterfoil.database
        vitals = VitalStore(database)
        seen = Seen(
            vitals=vitals.read(),
            commands=vitals.commands(),
            pulses=PulseStore(database).read(),
            broker=look(),
            newest_revision=revisions.newest(),
            here_at=datetime.now(UTC),
            may_be_notified=bool(desk.settings.notification_username),
            may_be_told=bool(desk.settings.hmac_keys),
        )
        found = signs(seen)
        wrong = [sign for sign in found if sign.mark is not Mark.GOOD]
        return desk.page(
            request,
            person,
            "health.html",
            seen=seen,
            wrong=wrong,
            well=[sign for sign in found if sign.mark is Mark.GOOD],
            worst=wrong[0].mark if wrong else Mark.GOOD,
            guidance={sign.section: runbook.guidance(sign.section) for sign in wrong if sign.section},
            pieces=runbook.pieces,
            sweep=SWEEP,
            duration=duration,
        )

    return routes
