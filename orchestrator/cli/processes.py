"""``serve``, ``worker``, ``beat``: the product's processes, one each."""

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Annotated

import typer

from config.celery import QUEUES
from config.logs import configure_logs
from config.settings import settings, split_address
from orchestrator.cli.root import Exit, app


@app.command()
def serve() -> int:
    """Run the HTTP API and the receiver of notifications."""
    import uvicorn

    from orchestrator.bootstrap import Counterfoil
    from orchestrator.web.app import web_app

    class Server(uvicorn.Server):
        """Ends the streams first: it waits for every answer, and they go on for as long as somebody listens."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            front.end_streams()
            await super().shutdown(sockets)

    configure_logs(settings().log_format)
    host, port = split_address(settings().listen)
    front = web_app(Counterfoil(settings()))
    config = uvicorn.Config(
        front,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks where a caller is
        ws="none",
        timeout_graceful_shutdown=10,
    )
    server = Server(config)
    # When everybody has been answered, the server raises once more the signal that ended it: we then end in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        server.run()
    return Exit.DONE if server.started else Exit.ERROR


@app.command()
def worker(
    queues: Annotated[str, typer.Option(help="Comma-separated; all of them when left out.")] = ",".join(QUEUES),
    concurrency: Annotated[int | None, typer.Option(help="Threads; COUNTERFOIL_WORKER_CONCURRENCY otherwise.")] = None,
    name: Annotated[str, typer.Option(help="The node name that monitors show; %h is the host.")] = "counterfoil@%h",
) -> None:
    """Run a worker: it sends, asks, sweeps and tells."""
    threads = str(concurrency or settings().worker_concurrency)
    _become_celery(
        "worker",
        "--queues",
        queues,
        "--concurrency",
        threads,
        "--hostname",
        name,
        "--without-gossip",
        "--without-mingle",
    )


@app.command()
def beat() -> None:
    """Run beat, which has the sweep run once a second. Several at once are harmless."""
    _become_celery("beat")


def _become_celery(*arguments: str) -> None:
    """Replace this process, so that signals reach Celery itself."""
    os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", "tasks", *arguments])  # noqa: S606
