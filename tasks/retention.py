"""Retention: expunge what is left of payloads once it is old enough."""

import structlog

from orchestrator.store.retention import RetentionBusy, RetentionStore
from orchestrator.store.tallies import TallyStore
from tasks import app, counterfoil
from tasks.keeping import kept_while_the_store_is_away

log = structlog.get_logger()


@app.task(name="tasks.retention.run", ignore_result=True)
def run() -> None:
    """Expunge what is older than the setting says."""
    with kept_while_the_store_is_away():
        TallyStore(counterfoil.database).count()  # where nobody reads the metrics, nobody else counts
        try:
            expunged = RetentionStore(counterfoil.database).run(counterfoil.settings.retention_days, "beat")
        except RetentionBusy:
            return  # the broker gave out the message of a long run again
    log.info("retention", **expunged.counts, broken=len(expunged.broken))
    for each in expunged.broken:
        log.error("journal_broken", id=str(each), remedy="counterfoil journal verify --all")
