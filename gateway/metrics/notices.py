"""The metrics of notices; see `gateway.metrics.catalogue`."""

from gateway.metrics.metric import Metric, Process, Samples
from gateway.telling.counts import CHANNELS, OUTCOMES


def _outcomes(process: Process) -> Samples:
    counted = process.counts.notices.outcomes
    return [((channel, outcome), counted[channel, outcome]) for channel in CHANNELS for outcome in OUTCOMES]


def _waiting(process: Process) -> Samples:
    waiting = process.counts.notices.waiting
    return [] if waiting is None else [((), waiting.count)]


def _age(process: Process) -> Samples:
    waiting = process.counts.notices.waiting
    if waiting is None:
        return []
    now = process.state.clock()
    return [((), max(0.0, (now - (waiting.oldest or now)).total_seconds()))]


def _unread_bytes(process: Process) -> Samples:
    reading = process.counts.notices.reading
    return [] if reading is None or not reading.runs else [((), reading.bytes_behind)]


def _unread_age(process: Process) -> Samples:
    reading = process.counts.notices.reading
    if reading is None or not reading.runs:
        return []
    now = process.state.clock().timestamp()
    return [((), 0.0 if reading.waiting_since is None else max(0.0, now - reading.waiting_since))]


NOTICES = (
    Metric(
        "locum_notices_total",
        "counter",
        "Notices of which it is on the record what came of them.",
        _outcomes,
        ("channel", "outcome"),
    ),
    Metric(
        "locum_notice_failures_total",
        "counter",
        "Tries to send notices that came to nothing.",
        lambda process: [((), process.counts.notices.failures)],
    ),
    Metric(
        "locum_notices_unread_bytes",
        "gauge",
        "How much of the journal no notices have been made of yet.",
        _unread_bytes,
    ),
    Metric(
        "locum_notices_unread_seconds",
        "gauge",
        "The age of the oldest record that waits for that; 0 if none does.",
        _unread_age,
    ),
    Metric("locum_notices_waiting", "gauge", "Notices that wait, of all processes and nodes.", _waiting),
    Metric("locum_notices_waiting_seconds", "gauge", "The age of the oldest of them; 0 if none waits.", _age),
)
