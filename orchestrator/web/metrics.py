"""``/metrics``, for Prometheus. It needs no API key, and names no payment, terminal or merchant account."""

from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.background import BackgroundTask
from starlette.responses import Response

from orchestrator.errors import StoreUnavailable
from orchestrator.metrics.collector import Metrics
from orchestrator.store.figures import FigureStore
from orchestrator.store.tallies import TallyStore
from orchestrator.web.services import Services
from orchestrator.wire import product_version


def router(services: Services) -> APIRouter:
    """Make the route."""
    routes = APIRouter(tags=["health"])
    database = services.counterfoil.database
    canaries = services.counterfoil.settings.canaries
    metrics = Metrics(TallyStore(database), FigureStore(database), product_version(), canaries=canaries)

    @routes.get("/metrics")
    def told(request: Request) -> Response:
        """Metrics, in the text format of Prometheus or as OpenMetrics."""
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        body = encode(metrics.registry())
        return Response(body, media_type=media_type, background=BackgroundTask(_counted, metrics))

    return routes


def _counted(metrics: Metrics) -> None:
    """Count behind the answer; what cannot be counted now will be behind the next one."""
    try:
        metrics.count()
    except StoreUnavailable:
        return
