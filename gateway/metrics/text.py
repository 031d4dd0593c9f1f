"""The metrics as text for Prometheus, by its own library, which is met here only."""

from collections.abc import Iterator, Mapping

from prometheus_client import ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from gateway.metrics.catalogue import METRICS, SUM, WORKER_UP
from gateway.metrics.metric import Metric
from gateway.metrics.reading import Reading

_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def render(readings: Mapping[str, Reading | None], accept: str) -> tuple[bytes, str]:
    """Return the text and its media type, the best that `accept` (RFC 9110 section 12.5.1) names.

    `readings` are by worker; None is one that does not answer. Takes milliseconds: call it in a thread.
    """
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):
        # It stumbles over a version that is no number.
        encode, content_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    return encode(_Collected(readings)), content_type


def read_system() -> dict[str, float]:
    """Return what the system knows of this process, by metric; nothing where there is no /proc. It reads files."""
    families = ProcessCollector(registry=None).collect()
    return {sample.name: sample.value for family in families for sample in family.samples}


class _Collected(Collector):
    def __init__(self, readings: Mapping[str, Reading | None]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            if metric.kind == "histogram":
                yield self._histogram(metric)
                continue
            family = _FAMILIES[metric.kind](metric.name, metric.help, labels=("worker", *metric.labels))
            for worker, reading in self._readings.items():
                if reading is not None:
                    for labels, value in reading.samples.get(metric.name, ()):
                        family.add_metric((worker, *labels), value)
                elif metric is WORKER_UP:
                    family.add_metric((worker,), 0)
            yield family

    def _histogram(self, metric: Metric) -> Family:
        family = HistogramMetricFamily(metric.name, metric.help, labels=("worker", *metric.labels))
        for worker, reading in self._readings.items():
            if reading is not None:
                series: dict[tuple[str, ...], dict[str, float]] = {}
                for (*labels, bound), value in reading.samples.get(metric.name, ()):
                    series.setdefault(tuple(labels), {})[bound] = value
                for labels_of, values in series.items():
                    total = values.pop(SUM, 0.0)
                    family.add_metric((worker, *labels_of), buckets=list(values.items()), sum_value=total)
        return family
