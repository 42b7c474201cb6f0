"""Starts product processes: `python -m crash.launcher` reads one JSON object a line, and answers with a process id.

A process is a fork of this one, which has imported the libraries and started no thread: a restart takes a fraction of a
second instead of several. From there it runs the product's own entry point, `counterfoil <command>`. The environment of
the product comes with the request.
"""

import ctypes
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, Final

from crash.lines import LineTrace
from crash.trap import Trap

#: Imported once, ahead of every start. None of them reads a setting or starts a thread when imported.
_AHEAD: Final = (
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.bin.beat",
    "celery.apps.worker",
    "celery.concurrency.thread",
    "celery.worker.consumer",
    "kombu.transport.redis",
    "kombu.transport.pyamqp",
    "psycopg",
    "uvicorn",
    "uvloop",
    "httptools",
    "uvicorn.protocols.http.httptools_impl",
    "orchestrator.bootstrap",
    "orchestrator.web.app",
    "orchestrator.cli",
)
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main() -> None:
    """Serve requests until standard input ends."""
    for name in _AHEAD:
        __import__(name)
    assert threading.active_count() == 1, "a fork would leave the other threads behind"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the dead
    for line in sys.stdin:
        pid = _launch(json.loads(line))
        print(pid, flush=True)


def _launch(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become(request)
    finally:
        os._exit(1)


def _become(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whatever becomes of the run, nothing is left running
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  -- whoever reads it is at the end of the file at once
    os.environ.clear()
    os.environ.update(request["environment"])
    trap = Trap(Path(request["trap"]))
    if request["trace"]:
        trace = LineTrace(trap)
        trace.install()
        if request["command"][0] == "serve":  # its routes run in the main thread; Celery's tasks never do
            trace.install_here()
    _run(request["command"], trap)


def _run(command: list[str], trap: Trap) -> None:
    from celery.signals import beat_init, worker_ready

    from orchestrator.cli import main as counterfoil

    def ready(**_: Any) -> None:
        trap.set_ready(True)

    worker_ready.connect(ready)
    beat_init.connect(ready)
    setattr(os, "execv", _celery_here)  # noqa: B010  -- a fresh image of the process would lose the trace
    counterfoil(command)


def _celery_here(path: str, arguments: list[str]) -> None:
    """What `counterfoil worker` and `counterfoil beat` replace themselves by, in this very process."""
    from celery.__main__ import main as celery

    assert arguments[1:3] == ["-m", "celery"], arguments
    sys.argv = ["celery", *arguments[3:]]
    celery()


if __name__ == "__main__":
    main()
