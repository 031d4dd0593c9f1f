"""Every metric: its name, its meaning, and where one process reads it; no label holds what a stranger could choose.

Names are `locum_<what>_<unit>` in base units, with `_total` for what only goes up, as Prometheus has it; those of the
process itself are its client libraries' own. Labels come from lists of ours, so that neither an account nor a person
shows, and the number of series is bounded.
"""

from collections.abc import Callable, Mapping
from itertools import accumulate
from math import inf
from typing import Final

from gateway.audit.index.order import Told
from gateway.audit.witnesses.showing import Witnesses
from gateway.metrics.metric import Metric, Process, Samples
from gateway.metrics.notices import NOTICES
from gateway.metrics.sinks import SINKS
from gateway.proxy.durations import BOUNDS, Durations
from gateway.tokens.keys import KeyRing
from policy.model import DenyReason

SUM: Final = "sum"
"""In place of a histogram's bound: the sum of all values."""


def _one(value: float) -> Samples:
    return [((), value)]


def _of_system(name: str) -> Callable[[Process], Samples]:
    return lambda process: _one(process.system[name]) if name in process.system else []


def _decided(allowed: int, denied: Mapping[DenyReason, int]) -> Samples:
    """Return how often each outcome came; to Prometheus an empty label is none."""
    yield ("allow", ""), allowed
    for reason, times in denied.items():
        yield ("deny", reason.value), times


def _key_ages(keys: KeyRing) -> Samples:
    """Return when each key that signs was made; what is not known of it is left out."""
    for use, made_at in keys.made_at().items():
        if made_at is not None:
            yield (use,), made_at.timestamp()


def _witness_lags(witnesses: Witnesses) -> Samples:
    """Return how long each has kept one waiting."""
    now = witnesses.ticks()
    return [((name,), tally.lag_seconds(now)) for name, tally in witnesses.tallies.items()]


def _durations(durations: Durations) -> Samples:
    """Return how many took no longer than each bound, and last how long all took."""
    for bound, count in zip((*BOUNDS, inf), accumulate(durations.counts), strict=True):
        yield ("+Inf" if bound == inf else str(bound),), count
    yield (SUM,), durations.seconds


def _of_index(process: Process, read: Callable[[Told], float]) -> Samples:
    indexer = process.state.indexer
    return [] if indexer is None or indexer.told is None else _one(read(indexer.told))


WORKER_UP = Metric(
    "locum_worker_up",
    "gauge",
    "Whether a worker answers; of one that does not there is nothing else.",
    lambda _process: _one(1),
)

METRICS = (
    WORKER_UP,
    Metric(
        "locum_build_info",
        "gauge",
        "Always 1; the version is in the label.",
        lambda process: [((process.version,), 1)],
        ("version",),
    ),
    Metric(
        "locum_push_up",
        "gauge",
        "Whether changes of the store are heard of as they are made.",
        lambda process: _one(not process.state.follower.is_lost),
    ),
    Metric(
        "locum_push_losses_total",
        "counter",
        "How often hearing of them ended.",
        lambda process: _one(process.state.follower.losses),
    ),
    Metric(
        "locum_store_up",
        "gauge",
        "Whether the store answers.",
        lambda process: _one(process.switch is not None),
    ),
    Metric(
        "locum_store_stale",
        "gauge",
        "Whether the store is an older copy of itself, which keeps staff out.",
        lambda process: _one(process.state.follower.is_stale),
    ),
    Metric(
        "locum_store_position",
        "gauge",
        "The highest count of the store's changes that was seen.",
        lambda process: _one(process.state.follower.position),
    ),
    Metric(
        "locum_journal_up",
        "gauge",
        "Whether the journal could be written the last time.",
        lambda process: _one(process.state.journal.healthy),
    ),
    Metric(
        "locum_journal_failures_total",
        "counter",
        "How often the journal could not be written, or took too long.",
        lambda process: _one(process.state.journal.failures),
    ),
    Metric(
        "locum_journal_completions_waiting",
        "gauge",
        "Ends of exchanges that are kept in memory because the journal could not be written.",
        lambda process: _one(process.state.journal.notes_waiting),
    ),
    Metric(
        "locum_journal_completions_lost_total",
        "counter",
        "Ends of exchanges that were more than could be kept so.",
        lambda process: _one(process.state.journal.notes_lost),
    ),
    Metric(
        "locum_journal_records_total",
        "counter",
        "Records of the journal, also those from before this start.",
        lambda process: _one(process.state.journal.size),
    ),
    Metric(
        "locum_witness_checkpoints_total",
        "counter",
        "Checkpoints that a witness has taken.",
        lambda process: [((name,), tally.taken) for name, tally in process.state.witnesses.tallies.items()],
        ("witness",),
    ),
    Metric(
        "locum_witness_failures_total",
        "counter",
        "Attempts to show one that failed.",
        lambda process: [((name,), tally.failures) for name, tally in process.state.witnesses.tallies.items()],
        ("witness",),
    ),
    Metric(
        "locum_witness_conflicts_total",
        "counter",
        "Attempts at which a witness knew of another history, or of a newer one: verify the journal.",
        lambda process: [((name,), tally.conflicts) for name, tally in process.state.witnesses.tallies.items()],
        ("witness",),
    ),
    Metric(
        "locum_witness_lag_seconds",
        "gauge",
        "For how long a checkpoint has waited for a witness.",
        lambda process: _witness_lags(process.state.witnesses),
        ("witness",),
    ),
    *SINKS,
    *NOTICES,
    Metric(
        "locum_index_lag_bytes",
        "gauge",
        "How much of the journal is not in its index yet; told by the worker that sees to it.",
        lambda process: _of_index(process, lambda told: told.behind_bytes),
    ),
    Metric(
        "locum_index_lag_seconds",
        "gauge",
        "How long it took to bring the index up to date the last time; likewise.",
        lambda process: _of_index(process, lambda told: told.behind_seconds),
    ),
    Metric(
        "locum_index_unread_lines",
        "gauge",
        "How many lines of the journal the index has stepped over because they cannot be read; likewise.",
        lambda process: _of_index(process, lambda told: told.unread_lines),
    ),
    Metric(
        "locum_index_unread_files",
        "gauge",
        "How many of its files cannot be read now; likewise.",
        lambda process: _of_index(process, lambda told: told.unread_files),
    ),
    Metric(
        "locum_key_created_timestamp_seconds",
        "gauge",
        "When the key that signs was made, in seconds since 1970; missing for one that the operator gives.",
        lambda process: _key_ages(process.keys),
        ("use",),
    ),
    Metric(
        "locum_kill_switch",
        "gauge",
        "Whether all assumption is stopped; missing while the store does not say.",
        lambda process: [] if process.switch is None else _one(process.switch.on),
    ),
    Metric(
        "locum_clock_set_back_seconds",
        "gauge",
        "How far the wall clock is behind the time that is gone by.",
        lambda process: _one(process.state.seconds_set_back()),
    ),
    Metric(
        "locum_requests_total",
        "counter",
        "Requests that were passed on or judged, by kind.",
        lambda process: [
            (("ordinary",), process.counts.ordinary),
            (("assumed",), process.counts.assumed),
            (("control",), process.counts.control),
        ],
        ("kind",),
    ),
    Metric(
        "locum_request_duration_seconds",
        "histogram",
        "From a request's head to the end of its answer, of all kinds.",
        lambda process: _durations(process.listener.durations),
    ),
    Metric(
        "locum_requests_in_flight",
        "gauge",
        "Requests being answered, with open event streams and WebSockets.",
        lambda process: _one(process.listener.in_flight),
    ),
    Metric(
        "locum_turned_away_total",
        "counter",
        "Connections and requests beyond a limit.",
        lambda process: [((limit,), times) for limit, times in process.listener.turned_away.items()],
        ("limit",),
    ),
    Metric(
        "locum_decisions_total",
        "counter",
        "Assumed requests, by how they were decided.",
        lambda process: _decided(process.counts.permits, process.counts.refusals),
        ("decision", "reason"),
    ),
    Metric(
        "locum_token_decisions_total",
        "counter",
        "Requests for an assumption token, by how they were decided.",
        lambda process: _decided(process.counts.tokens, process.counts.tokens_refused),
        ("decision", "reason"),
    ),
    Metric(
        "locum_open_exchanges",
        "gauge",
        "Assumed requests that are open, with event streams and WebSockets.",
        lambda process: _one(len(process.state.live)),
    ),
    Metric(
        "locum_cuts_total",
        "counter",
        "Assumed requests that were cut while they were open.",
        lambda process: [((reason.value,), times) for reason, times in process.counts.cuts.items()],
        ("reason",),
    ),
    Metric(
        "locum_fact_fetches_total",
        "counter",
        "Questions about facts, to the store or to the app.",
        lambda process: [((kind,), times) for kind, times in process.state.facts.fetches().items()],
        ("kind",),
    ),
    Metric(
        "locum_connections",
        "gauge",
        "Connections of clients, also idle ones.",
        lambda process: _one(process.listener.open_count),
    ),
    Metric(
        "locum_upstream_faults_total",
        "counter",
        "Requests that the app did not answer, by what the client was told.",
        lambda process: [((str(status),), times) for status, times in process.counts.upstream_faults.items()],
        ("status",),
    ),
    Metric(
        "locum_upstream_connections",
        "gauge",
        "Connections to the app, also idle ones.",
        lambda process: _one(process.upstream_connections),
    ),
    Metric(
        "process_start_time_seconds",
        "gauge",
        "When the process was started, in seconds since 1970.",
        _of_system("process_start_time_seconds"),
    ),
    Metric(
        "process_cpu_seconds_total",
        "counter",
        "Processor time that it has used.",
        _of_system("process_cpu_seconds_total"),
    ),
    Metric(
        "process_resident_memory_bytes",
        "gauge",
        "Memory that it has.",
        _of_system("process_resident_memory_bytes"),
    ),
    Metric(
        "process_open_fds",
        "gauge",
        "File descriptors that it has open.",
        _of_system("process_open_fds"),
    ),
    Metric(
        "process_max_fds",
        "gauge",
        "How many it may have open.",
        _of_system("process_max_fds"),
    ),
)
