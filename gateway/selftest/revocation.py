"""How long it takes from a customer's "off" to the last request that is let through, and to the end of what is open.

An account of its own is switched on and off, again and again, by the way that the command line takes; staff of its own
ask through every node without a pause, and have a stream open. What is said is counted from the moment at which the
change was acknowledged, as a customer would count.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import aiohttp

from gateway.clock import Clock, Ticks
from gateway.grants.service import ChangeRequest, GrantService
from gateway.selftest.door import PING, SCOPE, STREAM, WHO
from gateway.stores.store import Store, StoreConflict
from gateway.tokens.signing import SigningKey
from policy.claims import LONGEST_TOKEN, TOKEN_TYPE, build_token
from policy.grants import Administrator, GrantChange
from policy.model import (
    Account,
    AccountId,
    AccountType,
    ActorId,
    AgentId,
    Assumption,
    AssumptionId,
    ClientId,
    Duration,
    Permission,
    Staff,
    TokenId,
)

ACCOUNT = AccountId("locum-selftest")
_CLIENT = ClientId("locum-selftest")
_LET_IN_SECONDS = 3.0


class SelfTestError(Exception):
    """The deployment cannot be measured; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One public listener."""

    url: str
    seconds_to_last_request: list[float] = field(default_factory=list)
    """A round each: when the last request began that was let through; 0 if none was."""
    seconds_to_cut: list[float] = field(default_factory=list)
    """A round each: when the stream ended; 0 if before the acknowledgement."""
    bytes_late: list[int] = field(default_factory=list)
    """A round each: what came on the stream later than the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a measurement uses of the deployment."""

    store: Store
    grants: GrantService
    key: SigningKey
    issuer: str
    host: str
    """Of the self-test's account."""
    role: str
    """One that may switch."""
    clock: Clock
    ticks: Ticks


async def measure(
    bench: Bench, nodes: Sequence[Node], http: aiohttp.ClientSession, *, rounds: int, bound_seconds: float
) -> None:
    """Fill in the figures of `nodes`; raises SelfTestError, StoreError, JournalError.

    A request that is still let through, or a stream still open, after twice the bound counts as that long.
    """
    with suppress(StoreConflict):
        await bench.store.add_account(Account(id=ACCOUNT, type=AccountType.PAID))
    if any(event.by != WHO for event in await bench.store.list_changes(ACCOUNT)):
        raise SelfTestError(f"the account `{ACCOUNT}` is somebody's: others have chosen for it, so it is left alone")
    try:
        for _ in range(rounds):
            token = await begin(bench)
            visits = [_Visit(node, http, bench, token) for node in nodes]
            async with asyncio.TaskGroup() as group, _ended(visits):
                for visit in visits:
                    await visit.enter(group)
                await choose(bench, Duration.OFF)
                acknowledged = bench.ticks()
                for visit in visits:
                    await visit.leave(acknowledged, bound_seconds)
    finally:
        # Whatever went wrong, nothing of it stays on.
        await choose(bench, Duration.OFF)
        await bench.store.end_assumptions_of(_actor(bench), at=bench.clock())


class _Visit:
    """One round at one node."""

    def __init__(self, node: Node, http: aiohttp.ClientSession, bench: Bench, token: str) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        self._node = node
        self._http = http
        self._ticks = bench.ticks
        self._headers = {"Host": bench.host, "Authorization": f"Bearer {token}"}
        self._let_in = 0.0
        self._pieces: list[tuple[float, int]] = []
        self._ends = 0.0
        self._streaming = asyncio.Event()

    async def enter(self, group: asyncio.TaskGroup) -> None:
        """Begin to ask and to listen, once the node lets staff in; raises SelfTestError."""
        give_up = self._ticks() + _LET_IN_SECONDS
        while (status := await self._ping()) != 204:
            if self._ticks() > give_up:
                raise SelfTestError(f"{self._node.url} answers {status}: see its log, and `locum audit tail`")
            await asyncio.sleep(0.005)
        self.tasks = [group.create_task(self.ask()), group.create_task(self.listen())]
        await self._streaming.wait()
        if not self._pieces:
            raise SelfTestError(f"{self._node.url} opens no stream: see its log, and `locum audit tail`")

    async def ask(self) -> None:
        """Ask again and again, until it is refused."""
        await self._streaming.wait()
        while True:
            began = self._ticks()
            if await self._ping() != 204:
                return
            self._let_in = began

    async def listen(self) -> None:
        """Read a stream to its end."""
        try:
            async with self._http.get(self._node.url + STREAM, headers=self._headers) as answer:
                async for piece in answer.content.iter_any():
                    self._pieces.append((self._ticks(), len(piece)))
                    self._streaming.set()
        except aiohttp.ClientError:
            pass  # which is how a cut looks
        finally:
            self._ends = self._ticks()
            self._streaming.set()

    async def leave(self, acknowledged: float, bound_seconds: float) -> None:
        """Wait until all is over, and note how long it took."""
        _, late = await asyncio.wait(self.tasks, timeout=2 * bound_seconds)
        now = self._ticks()
        asking, listening = self.tasks
        let_in = now if asking in late else self._let_in
        ends = now if listening in late else self._ends
        self._node.seconds_to_last_request.append(max(0.0, let_in - acknowledged))
        self._node.seconds_to_cut.append(max(0.0, ends - acknowledged))
        self._node.bytes_late.append(sum(size for at, size in self._pieces if at > acknowledged + bound_seconds))

    async def _ping(self) -> int:
        try:
            async with self._http.get(self._node.url + PING, headers=self._headers) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientError as exc:
            raise SelfTestError(f"{self._node.url} cannot be asked: {exc}") from exc


@asynccontextmanager
async def _ended(visits: Sequence[_Visit]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for visit in visits:
            for task in visit.tasks:
                task.cancel()


async def begin(bench: Bench) -> str:
    """Switch on, begin an assumption, and return its token; raises likewise."""
    change = await choose(bench, Duration.DAY)
    grant = change.grant
    if grant is None:
        raise SelfTestError("the account of the self-test is a trial, which cannot be switched: convert it")
    now = bench.clock()
    staff = Staff(id=_actor(bench), name=WHO, permissions=frozenset({Permission.READ}))
    assumption = Assumption(
        id=AssumptionId(f"as_{secrets.token_hex(10)}"),
        account=ACCOUNT,
        subject=AgentId(WHO),
        actor=staff.id,
        grant_id=grant.id,
        ticket="self-test",
        reason="to measure how fast a revoke works",
        scopes=frozenset({SCOPE}),
        started_at=now,
        expires_at=now + min(LONGEST_TOKEN, timedelta(minutes=5)),
    )
    await bench.store.begin_assumption(assumption, staff, at=now)
    claims = build_token(
        assumption,
        issuer=bench.issuer,
        audience=bench.host,
        client=_CLIENT,
        token_id=TokenId(secrets.token_urlsafe(16)),
        grant_epoch=grant.epoch,
        authentication={},
        now=now,
        expires_at=assumption.expires_at,
    )
    return bench.key.sign(claims, type_=TOKEN_TYPE)


def _actor(bench: Bench) -> ActorId:
    return ActorId(issuer=bench.issuer, subject=WHO)


async def choose(bench: Bench, duration: Duration) -> GrantChange:
    """Switch the account; raises SelfTestError, StoreError, JournalError."""
    outcome = await bench.grants.choose(
        ChangeRequest(
            account=ACCOUNT,
            duration=duration,
            permissions=frozenset({Permission.READ}),
            administrator=Administrator(id=WHO, roles={"selftest": bench.role}),
        )
    )
    if not isinstance(outcome, GrantChange):
        raise SelfTestError(f"the account of the self-test cannot be switched: {outcome}")
    return outcome
