"""What is measured, as data: one row per kind of request, with whom it is compared and what is aimed at."""

from dataclasses import dataclass
from enum import StrEnum, unique

from bench.backend import ATTACHMENT, DOWNLOAD, PAGE, SIZES

LOCUM = "locum"
PROXIES = ("nginx", "haproxy", "envoy", "caddy")
ASKING = ("nginx+auth_request", "envoy+ext_authz", "caddy+forward_auth")
_FORBIDDEN = "/tickets/1/hold"


@unique
class Kind(StrEnum):
    """How a row is measured."""

    HTTP = "http"
    """Requests through each contender."""
    DECISION = "decision"
    """The decision by itself, inside the benchmark's own process."""


@unique
class State(StrEnum):
    """What a Locum has in its store."""

    ONE = "one"
    THOUSAND = "thousand"
    MILLION = "million"


GRANTS = {State.ONE: 1, State.THOUSAND: 1_000, State.MILLION: 1_000_000}
LIVE = {State.ONE: 1, State.THOUSAND: 1_000, State.MILLION: 100_000}
"""Assumptions that have started and not ended, each in an account of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """A comparison: Locum's figure in this row, divided by another's in this or another row."""

    contender: str
    row: str = ""
    """Empty: the same row."""
    figure: str = "cpu_us"
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of request."""

    name: str
    title: str
    kind: Kind = Kind.HTTP
    target: str = PAGE
    status: int = 200
    connections: int = 32
    tokens: int = 0
    """How many assumption tokens take turns; 0: ordinary traffic."""
    state: State = State.ONE
    peers: tuple[str, ...] = ()
    versus: tuple[Versus, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of a body, where the backend answers."""
        return SIZES[self.target] if self.status == 200 else 0


def _beside(*names: str, figure: str = "cpu_us") -> tuple[Versus, ...]:
    return tuple(Versus(contender=name, figure=figure) for name in names)


ROWS = (
    Row(
        name="ordinary",
        title="ordinary GET, 1 kB",
        peers=PROXIES,
        versus=(
            *_beside("nginx", "haproxy"),
            Versus(contender="envoy", at_most=1.1),
            Versus(contender="caddy", at_most=0.8),
        ),
    ),
    Row(
        name="assumed",
        title="assumed GET, 1 kB: token, facts, decision, record, assertion",
        tokens=1,
        peers=ASKING,
        versus=(
            *_beside("nginx+auth_request"),
            Versus(contender="envoy+ext_authz", at_most=0.75),
            Versus(contender="caddy+forward_auth", at_most=0.65),
            Versus(contender=LOCUM, row="ordinary", at_most=1.35),
        ),
    ),
    Row(
        name="denied",
        title="denied GET: the token's scopes do not reach it, and that is recorded",
        target=_FORBIDDEN,
        status=403,
        tokens=1,
        versus=(Versus(contender=LOCUM, row="assumed"),),
    ),
    Row(
        name="body-100k",
        title="ordinary GET, 100 kB down",
        target=ATTACHMENT,
        peers=PROXIES,
        versus=_beside(*PROXIES),
    ),
    Row(
        name="body-10m",
        title="ordinary GET, 10 MB down",
        target=DOWNLOAD,
        connections=8,
        peers=PROXIES,
        versus=(*_beside(*PROXIES), Versus(contender="nginx", figure="rps", at_least=0.5)),
    ),
    Row(
        name="live-1k",
        title="assumed GET; 1,000 grants, 1,000 live assumptions, all in use",
        tokens=1_000,
        state=State.THOUSAND,
        versus=(Versus(contender=LOCUM, row="assumed"),),
    ),
    Row(
        name="grown",
        title="assumed GET; 1,000,000 grants, 100,000 live assumptions, one in use",
        tokens=1,
        state=State.MILLION,
        versus=(Versus(contender=LOCUM, row="assumed", at_most=1.1),),
    ),
    Row(
        name="grown-1k",
        title="assumed GET; 1,000,000 grants, 100,000 live assumptions, 1,000 in use",
        tokens=1_000,
        state=State.MILLION,
        versus=(Versus(contender=LOCUM, row="live-1k", at_most=1.1),),
    ),
    Row(
        name="grown-100k",
        title="assumed GET; 1,000,000 grants, 100,000 live assumptions, all in use: no cache holds them",
        tokens=100_000,
        state=State.MILLION,
        versus=(Versus(contender=LOCUM, row="assumed"),),
    ),
    Row(name="decision", title="the decision alone, facts at hand", kind=Kind.DECISION),
)
