"""Runs the queue: ``python -m bench.durable.worker``."""

import signal
import threading

from dbos import DBOS

from bench.durable import workflow


def main() -> None:
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    DBOS(config={**workflow.CONFIG, "executor_id": "worker"})
    DBOS.listen_queues([workflow.QUEUE])
    DBOS.launch()
    DBOS.register_queue(
        workflow.QUEUE, worker_concurrency=workflow.WORKFLOWS, polling_interval_sec=workflow.POLL_EVERY_S
    )
    over.wait()
    DBOS.destroy(workflow_completion_timeout_sec=1)


if __name__ == "__main__":
    main()
