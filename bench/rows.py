"""What is measured, as data: one row per kind of request, with whom it is compared and what is aimed at."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, unique

from bench.backend import ATTACHMENT, DOWNLOAD, PAGE, SIZES, SOCKET, UPLOAD

LOCUM = "locum"
PROXIES = ("nginx", "haproxy", "envoy", "caddy")
ASKING = ("nginx+auth_request", "envoy+ext_authz", "caddy+forward_auth")
FORBIDDEN = "/tickets/1/hold"
"""What the tokens' scopes do not reach, and what the authoriser of the others denies."""
_VALUES = 997
"""More than there are connections, and a prime: whatever else takes turns, a connection sees a new head each time."""


@unique
class Kind(StrEnum):
    """How a row is measured."""

    HTTP = "http"
    """Requests through each contender."""
    WEBSOCKET = "websocket"
    """Messages over open WebSockets through each contender; one up and its echo down count as one request."""
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
    cores: int = 0
    """How many cores it needs to be worth saying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of request."""

    name: str
    title: str
    kind: Kind = Kind.HTTP
    target: str = PAGE
    """A path that the backend knows, unless it never gets there."""
    sent: int = 0
    """The bytes of a body that goes up; 0: a GET without one."""
    status: int = 200
    connections: int = 32
    tokens: int = 0
    """How many assumption tokens take turns; 0: ordinary traffic."""
    values: int = 0
    """How many values of a header line take turns; 0: it is always the same."""
    state: State = State.ONE
    workers: int = 1
    """Locum's `server.workers`."""
    peers: tuple[str, ...] = ()
    versus: tuple[Versus, ...] = ()
    at_most_us: float | None = None
    """What is aimed at for Locum's own `cpu_us`."""

    @property
    def loaded(self) -> bool:
        """Tell whether load is sent for it."""
        return self.kind is not Kind.DECISION

    @property
    def size(self) -> int:
        """The bytes of a body, where the backend answers."""
        return SIZES[self.target] if self.status == 200 else 0


def claimable(rows: Sequence[Row], cores: int) -> tuple[list[Row], dict[str, str]]:
    """Return the rows without the comparisons that need more cores, and each of these with the reason."""
    kept: list[Row] = []
    left: dict[str, str] = {}
    for row in rows:
        fit = tuple(versus for versus in row.versus if versus.cores <= cores)
        left |= {
            f"{row.name}: {versus.figure} beside {versus.row or versus.contender}": f"needs {versus.cores} cores"
            for versus in row.versus
            if versus not in fit
        }
        kept.append(replace(row, versus=fit))
    return kept, left


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
        name="workers-2",
        title="ordinary GET, 1 kB; server.workers = 2",
        workers=2,
        versus=(
            # One core as busy with two processes as with one says what the second costs. That they do not hold each
            # other up shows where both have a core, and load and backend one each.
            Versus(contender=LOCUM, row="ordinary", at_most=1.11),
            Versus(contender=LOCUM, row="ordinary", figure="rps", at_least=1.8, cores=4),
        ),
    ),
    Row(
        name="ordinary-varied",
        title="ordinary GET, 1 kB; a connection never repeats its header lines",
        values=_VALUES,
        peers=PROXIES,
        versus=(*_beside(*PROXIES), Versus(contender=LOCUM, row="ordinary")),
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
        name="assumed-varied",
        title="assumed GET, 1 kB; one token, but a connection never repeats its header lines",
        tokens=1,
        values=_VALUES,
        peers=ASKING,
        versus=(*_beside(*ASKING), Versus(contender=LOCUM, row="assumed")),
    ),
    Row(
        name="denied",
        title="denied GET: the token's scopes do not reach it, and that is recorded",
        target=FORBIDDEN,
        status=403,
        tokens=1,
        peers=ASKING,
        versus=(*_beside(*ASKING), Versus(contender=LOCUM, row="assumed")),
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
        name="body-10m-up",
        title="ordinary POST, 10 MB up",
        target=UPLOAD,
        sent=10_000_000,
        connections=8,
        peers=PROXIES,
        versus=(*_beside(*PROXIES), Versus(contender="nginx", figure="rps", at_least=0.5)),
    ),
    Row(
        name="assumed-10m",
        title="assumed GET, 10 MB down",
        target=DOWNLOAD,
        tokens=1,
        connections=8,
        peers=ASKING,
        versus=(*_beside(*ASKING), Versus(contender=LOCUM, row="body-10m")),
    ),
    Row(
        name="websocket",
        title="a WebSocket's message, 1 kB up and its echo down; 32 open",
        kind=Kind.WEBSOCKET,
        target=SOCKET,
        status=101,
        peers=PROXIES,
        versus=_beside(*PROXIES),
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
        versus=(Versus(contender=LOCUM, row="assumed", at_most=1.1),),
    ),
    Row(name="decision", title="the decision alone, facts at hand", kind=Kind.DECISION, at_most_us=15.0),
)
