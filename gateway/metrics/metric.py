"""What a metric is, and what it is read from."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.counts import Counts
from gateway.proxy.listener import Listener
from gateway.state import State
from gateway.stores.store import KillSwitch
from gateway.tokens.keys import KeyRing

Samples = Iterable[tuple[tuple[str, ...], float]]
"""The values of one metric, each with its labels' values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Where the numbers of one process are, at one moment."""

    state: State
    listener: Listener
    upstream_connections: int
    keys: KeyRing
    version: str
    switch: KillSwitch | None
    """None: the store did not say."""
    system: Mapping[str, float]
    """What the system knows of the process, by name."""

    @property
    def counts(self) -> Counts:
        """What has happened."""
        return self.state.counts


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `labels` come behind `worker`, which all have, and behind those a histogram's bound or SUM."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[Process], Samples]
    labels: tuple[str, ...] = ()
