"""Metrics from the database, in any process: nothing is counted in memory, and no files are shared.

An answer is good for a few seconds, and whoever asks meanwhile gets the same: a flood of scrapes costs one query. What
came since the last scrape is counted behind the answer, so that counters lag by one scrape.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.metrics.catalogue import FAMILIES, PREFIX, Family, Kind, Labels
from orchestrator.store.figures import FigureStore
from orchestrator.store.tallies import RESULT_BUCKETS_S, TallyStore

#: Prometheus asks each 10 s to 60 s; two of them, or an impatient person, get the same answer.
FRESH_FOR_S: Final = 2.0

Values = Mapping[str, Mapping[Labels, float]]


class Metrics:
    """What ``/metrics`` answers."""

    def __init__(self, tallies: TallyStore, figures: FigureStore, version: str, *, canaries: bool) -> None:
        self._tallies = tallies
        self._figures = figures
        self._version = version
        self._canaries = canaries
        self._lock = threading.Lock()
        self._made: tuple[float, CollectorRegistry] | None = None
        self._was_counted = True

    def registry(self) -> CollectorRegistry:
        """Read the database, unless that was done a moment ago.

        Raises:
            StoreUnavailable: the database did not answer; Prometheus sees the target as down.
        """
        with self._lock:
            if self._made is None or time.monotonic() - self._made[0] > FRESH_FOR_S:
                registry = CollectorRegistry(auto_describe=False)
                registry.register(_Frozen(families(self._read())))
                self._made, self._was_counted = (time.monotonic(), registry), False
            return self._made[1]

    def count(self) -> None:
        """Count what came since the last time; behind an answer, once for each that was read."""
        with self._lock:
            done, self._was_counted = self._was_counted, True
        if not done:
            self._tallies.count()

    def _read(self) -> Values:
        rows = [*self._tallies.read(), *self._figures.read(canaries=self._canaries)]
        values = by_name(rows)
        schema = next(iter(values.get("schema", {("",): 1.0})))
        told = {name: labels for name, labels in values.items() if name != "schema"}
        parked = told.get("alarms_raised", {}).get(("callback_parked",), 0.0)
        delivered = told.get("callbacks_delivered", {}).get((), 0.0)
        return {
            **told,
            "callbacks": {("delivered",): delivered, ("parked",): parked},
            "build_info": {(self._version, *schema): 1.0},
        }


class _Frozen(Collector):
    """What was read once."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[Labels, float]]:
    """Sort rows by what they are of; what is not known is left out."""
    values: dict[str, dict[Labels, float]] = defaultdict(dict)
    for row in rows:
        if row["value"] is not None:
            values[row["name"]][tuple(row["labels"])] = row["value"]
    return values


def families(values: Values) -> Iterator[Metric]:
    """Spell every metric of the catalogue."""
    for family in FAMILIES:
        yield _SPELL[family.kind](family, values)


def _spell_counter(family: Family, values: Values) -> Metric:
    metric = CounterMetricFamily(PREFIX + family.name, family.says, labels=family.labels)
    for labels, value in _shown(family, values.get(family.stored, {})).items():
        metric.add_metric(labels, value)
    return metric


def _spell_gauge(family: Family, values: Values) -> Metric:
    metric = GaugeMetricFamily(PREFIX + family.name, family.says, labels=family.labels)
    for labels, value in _shown(family, values.get(family.name, {})).items():
        metric.add_metric(labels, value)
    return metric


def _spell_histogram(family: Family, values: Values) -> Metric:
    """Buckets are stored each by itself; Prometheus wants them added up."""
    stored = values.get(f"{family.stored}_bucket", {})
    bounds = [*(f"{bound:g}" for bound in RESULT_BUCKETS_S), "+Inf"]
    total, buckets = 0.0, []
    for number, bound in enumerate(bounds):
        total += stored.get((str(number),), 0.0)
        buckets.append((bound, total))
    metric = HistogramMetricFamily(PREFIX + family.name, family.says)
    metric.add_metric((), buckets=buckets, sum_value=values.get(f"{family.stored}_sum", {}).get((), 0.0))
    return metric


def _shown(family: Family, values: Mapping[Labels, float]) -> dict[Labels, float]:
    return {**dict.fromkeys(family.begin, 0.0), **values}


_SPELL: Final[Mapping[Kind, Callable[[Family, Values], Metric]]] = {
    Kind.COUNTER: _spell_counter,
    Kind.GAUGE: _spell_gauge,
    Kind.HISTOGRAM: _spell_histogram,
}
