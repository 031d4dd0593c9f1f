"""The metrics of sinks; see `gateway.metrics.catalogue`."""

from collections.abc import Callable

from gateway.audit.sinks.status import Status
from gateway.metrics.metric import Metric, Process, Samples


def _count_sinks(read: Callable[[Status], int]) -> Callable[[Process], Samples]:
    """Return what each sink has counted here; nothing where another worker runs it."""
    return lambda process: [((status.name,), read(status)) for status in process.state.sinks.statuses]


def _of_sinks(read: Callable[[Status], float | None]) -> Callable[[Process], Samples]:
    """Return what each sink says that this process runs; of several workers one does."""
    return lambda process: [
        ((status.name,), value)
        for status in process.state.sinks.statuses
        if status.runs and (value := read(status)) is not None
    ]


def _sink_lag(process: Process) -> Samples:
    now = process.state.clock().timestamp()
    return _of_sinks(lambda status: max(0.0, now - (now if (at := status.waiting_since) is None else at)))(process)


SINKS = (
    Metric(
        "locum_sink_sent_records_total",
        "counter",
        "Records that a sink's receiver has taken, some of them twice.",
        _count_sinks(lambda status: status.sent),
        ("sink",),
    ),
    Metric(
        "locum_sink_refused_records_total",
        "counter",
        "Records that it does not take and that were given up: only the journal has them.",
        _count_sinks(lambda status: status.refused),
        ("sink",),
    ),
    Metric(
        "locum_sink_missing_records_total",
        "counter",
        "Records that were not there any more, or not readable, when their turn came.",
        _count_sinks(lambda status: status.gaps),
        ("sink",),
    ),
    Metric(
        "locum_sink_failures_total",
        "counter",
        "Tries that came to nothing.",
        _count_sinks(lambda status: status.failures),
        ("sink",),
    ),
    Metric(
        "locum_sink_lag_bytes",
        "gauge",
        "How much of the journal waits for a sink.",
        _of_sinks(lambda status: status.bytes_behind),
        ("sink",),
    ),
    Metric(
        "locum_sink_lag_seconds",
        "gauge",
        "The age of the oldest record that waits for it; 0 if none does.",
        _sink_lag,
        ("sink",),
    ),
    Metric(
        "locum_sink_last_success_timestamp_seconds",
        "gauge",
        "When its receiver last took something, in seconds since 1970.",
        _of_sinks(lambda status: status.succeeded_at),
        ("sink",),
    ),
)
