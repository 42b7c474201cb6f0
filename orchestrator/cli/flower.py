"""``counterfoil flower``: the real Flower for this broker; it looks, and touches nothing."""

import os
import sys
from typing import Final
from urllib.parse import urlsplit

import typer

from config.settings import Settings, child_environment, settings, split_address
from orchestrator.bootstrap import urls
from orchestrator.cli.root import app
from orchestrator.errors import ConfigurationError

#: Flower holds what it shows in memory, a few kilobytes for each task; its own default is ten times this.
_TASKS_MAX: Final = 10_000

#: A worker that said goodbye, or has not said anything for this long, disappears from the list.
_OFFLINE_WORKERS_GONE_AFTER_S: Final = 600


@app.command()
def flower() -> None:
    """Run Flower, the monitor of the workers: read-only, with a login, on COUNTERFOIL_FLOWER_LISTEN.

    Payments are found by their reference, terminal or id. It needs COUNTERFOIL_FLOWER_USER and _PASSWORD.
    """
    chosen = settings()
    login = _login(chosen)
    found = urls(chosen)
    host, port = split_address(chosen.flower_listen)
    typer.echo(f"flower: http://{chosen.flower_listen} as {chosen.flower_user}, read-only", err=True)
    given = child_environment(chosen, database_url=found.database, broker_url=found.broker)
    # A FLOWER_… of our own environment could open a door. The login goes this way so that `ps` never shows it.
    environment = {name: text for name, text in given.items() if not name.startswith("FLOWER_")}
    environment["FLOWER_BASIC_AUTH"] = login
    options = (
        f"--address={host}",
        f"--port={port}",
        *_prefix(chosen.flower_url),
        "--read_only=true",
        "--persistent=false",
        f"--max_tasks={_TASKS_MAX}",
        f"--purge_offline_workers={_OFFLINE_WORKERS_GONE_AFTER_S}",
        "--tasks_columns=name,uuid,state,kwargs,received,runtime,worker",
        f"--conf={os.devnull}",  # a flowerconfig.py of the folder we happen to start in would be executed
        "--logging=warning",
    )
    command = [sys.executable, "-m", "celery", "-q", "-A", "tasks", "flower", *options]
    sys.stderr.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606  -- so that signals reach Flower itself


def _prefix(url: str | None) -> tuple[str, ...]:
    """Under which path Flower serves: the one of its URL, which a proxy in front of it passes on as it is."""
    path = urlsplit(url or "").path.strip("/")
    return (f"--url_prefix={path}",) if path else ()


def _login(chosen: Settings) -> str:
    """The login as Flower takes it.

    Raises:
        ConfigurationError: there is none, or Flower would read another out of it.
    """
    if not chosen.flower_user or chosen.flower_password is None:
        raise ConfigurationError(
            "Flower does not start without a login; set COUNTERFOIL_FLOWER_USER and COUNTERFOIL_FLOWER_PASSWORD"
        )
    login = f"{chosen.flower_user}:{chosen.flower_password.get_secret_value()}"
    if "," in login or ":" in chosen.flower_user:
        raise ConfigurationError(
            "Flower takes a comma for the start of another login; choose COUNTERFOIL_FLOWER_USER without ':' and ',', "
            "and COUNTERFOIL_FLOWER_PASSWORD without ','"
        )
    return login
