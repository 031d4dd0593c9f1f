"""What is open now: every assumed exchange from its permit to its end, so that a change can cut it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from gateway.clock import Clock
from gateway.grants.patience import FACTS_SECONDS
from gateway.stores.store import StoreError
from gateway.tokens.signing import Keys
from policy.decide import decide
from policy.model import (
    AccessRequest,
    Account,
    AccountId,
    ActorId,
    AssumptionId,
    Deny,
    DenyReason,
    Facts,
    Grant,
    Permit,
)
from policy.routes import Profile

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
Load = Callable[[AccessRequest], Awaitable[Facts]]
_LONGEST_SLEEP_SECONDS = 1.0
_AT_ONCE = 32
# Between other people's turns: of each of those at once while they are looked at, and of all that has expired.
_SLICE = 8
_EXPIRED_SLICE = 64


class Exchange:
    """One assumed exchange while it is open."""

    __slots__ = ("_abort", "_verdict", "facts", "permit", "request")

    def __init__(self, request: AccessRequest, facts: Facts, permit: Permit) -> None:
        self.request = request
        self.facts = facts
        self.permit = permit
        self._verdict: Deny | None = None
        self._abort: Callable[[], None] | None = None

    def begin(self, abort: Callable[[], None]) -> Deny | None:
        """Have `abort` called by a cut from now on; returns why the exchange was cut already, and must not begin."""
        self._abort = abort
        return self._verdict

    def verdict(self) -> Deny | None:
        """Return why the exchange was cut, or None; ask again after every await."""
        return self._verdict

    def cut(self, deny: Deny) -> None:
        """End the exchange now: nothing more goes either way. Before it has begun, it will not begin."""
        if self._verdict is None:
            self._verdict = deny
            try:
                if self._abort is not None:
                    self._abort()
            except Exception:
                # Whoever cuts has others to cut behind this one.
                log.exception("what was open could not be aborted; nothing more goes either way")


class Live:
    """The open assumed exchanges of this process, found by account, assumption or staff member."""

    def __init__(self, profile: Profile, clock: Clock, *, patience_seconds: float = FACTS_SECONDS) -> None:
        """Wait no longer than so for the facts of what is looked at."""
        self._profile = profile
        self._patience = patience_seconds
        self._clock = clock
        self._keys: Keys | None = None
        self._open: dict[AssumptionId, set[Exchange]] = {}
        """An assumption stays here for up to a second after its last exchange, because the next one follows soon."""
        self._of_account: dict[AccountId, set[AssumptionId]] = {}
        self._of_actor: dict[ActorId, set[AssumptionId]] = {}
        self._whose: dict[AssumptionId, tuple[AccountId, ActorId]] = {}
        self.begun: Callable[[AccountId, AssumptionId, ActorId], None] = _nothing
        """Is called when the first exchange of an assumption that nothing was open of is opened."""
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = datetime.max.replace(tzinfo=UTC)
        """When the timer looks, by the wall clock; valid while there is one."""
        self._renewed = False
        """Whether there may be some that another profile permitted."""

    def __len__(self) -> int:
        return sum(len(exchanges) for exchanges in self._open.values())

    def renew(self, profile: Profile, keys: Keys) -> None:
        """Judge by another profile from now on; `anything_changed` looks again at what is open, and so does time.

        What was begun with a token by a key that is not among `keys` is cut.
        """
        self._profile, self._renewed = profile, True
        self._keys = keys
        self.keys_changed()

    def keys_changed(self) -> None:
        """Cut what was begun with a token by a key that counts no more."""
        for exchange in self.all():
            signed_by = exchange.request.claims.signed_by
            if signed_by is not None and self._keys is not None and not self._keys.knows(signed_by):
                exchange.cut(Deny(reason=DenyReason.TOKEN_INVALID))

    def open(self, request: AccessRequest, facts: Facts, permit: Permit) -> Exchange:
        """Register an exchange until it is closed, so that a change or the clock can cut it before.

        Must be called in the same step as the decision, with no await between.
        """
        exchange = Exchange(request, facts, permit)
        exchanges = self._open.get(permit.assumption)
        if exchanges is None:
            exchanges = self._begin(permit)
        exchanges.add(exchange)
        if self._timer is None or permit.ends_at < self._looks_at:
            self._set_timer()
        return exchange

    def close(self, exchange: Exchange) -> None:
        """Forget an exchange that is over."""
        exchanges = self._open.get(exchange.permit.assumption)
        if exchanges is not None:
            exchanges.discard(exchange)

    def by_assumption(self) -> Iterator[tuple[AccountId, AssumptionId, ActorId, AbstractSet[Exchange]]]:
        """Yield what is open of each assumption, and whose it is; nothing may be opened or closed meanwhile."""
        for assumption, exchanges in self._open.items():
            account, actor = self._whose[assumption]
            yield account, assumption, actor, exchanges

    def all(self) -> list[Exchange]:
        """Return everything open."""
        return [exchange for exchanges in self._open.values() for exchange in exchanges]

    def accounts_among(self, accounts: AbstractSet[AccountId]) -> set[AccountId]:
        """Return those in which anything is open; many others cost next to nothing."""
        return accounts & self._of_account.keys()

    def assumptions_among(self, assumptions: AbstractSet[AssumptionId]) -> set[AssumptionId]:
        """Likewise."""
        return assumptions & self._open.keys()

    def actors_among(self, actors: AbstractSet[ActorId]) -> set[ActorId]:
        """Likewise."""
        return actors & self._of_actor.keys()

    def of_account(self, account: AccountId) -> list[Exchange]:
        """Return what is open in an account; it costs nothing where nothing is."""
        return self._among(self._of_account.get(account))

    def of_assumption(self, assumption: AssumptionId) -> list[Exchange]:
        """Return what is open of an assumption; likewise."""
        return list(self._open.get(assumption, ()))

    def of_actor(self, actor: ActorId) -> list[Exchange]:
        """Return what a staff member has open; likewise."""
        return self._among(self._of_actor.get(actor))

    def account_changed(self, account: AccountId, state: Account | None, grant: Grant | None) -> int:
        """Decide anew about everything open in `account`, and cut what is not permitted any more; return how many."""
        cut = 0
        for exchange in self.of_account(account):
            exchange.facts = replace(exchange.facts, account=state, grant=grant)
            cut += self._recheck(exchange)
        return cut

    async def anything_changed(self, load: Load) -> None:
        """Decide anew about everything open, on facts loaded anew: something changed, and it is not known what."""
        await self.look_again(self.all(), load)

    async def look_again(self, exchanges: Sequence[Exchange], load: Load) -> None:
        """Decide anew about these, on facts loaded anew; the very same facts as before say nothing new.

        What cannot be loaded is cut, and an account that cannot keeps no other from being looked at. Once there has
        been no answer for so long, all the rest is cut: it is not known whether it is still permitted.
        """
        accounts: dict[AccountId, list[Exchange]] = {}
        for exchange in exchanges:
            accounts.setdefault(exchange.permit.account, []).append(exchange)
        loop = asyncio.get_running_loop()
        left, answered_at = iter(accounts.values()), loop.time()

        async def work() -> None:
            nonlocal answered_at
            for of_account in left:
                answers = True
                for number, exchange in enumerate(of_account, 1):
                    if not number % _SLICE:
                        await asyncio.sleep(0)
                    answers = answers and loop.time() - answered_at < self._patience
                    if not answers:
                        self._cut_off(exchange)
                    elif answers := await self._look_at(exchange, load):
                        answered_at = loop.time()

        await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(accounts)))))

    async def _look_at(self, exchange: Exchange, load: Load) -> bool:
        """Look at one; False if no answer came in time."""
        if not self._is_open(exchange):
            return True
        try:
            async with asyncio.timeout(self._patience):
                facts = await load(exchange.request)
        except TimeoutError:
            self._cut_off(exchange)
            return False
        except Exception as exc:
            if not isinstance(exc, StoreError):
                log.exception("what is open cannot be looked at, and is cut")
            self._cut_off(exchange)
            return True
        # It may have ended meanwhile, and its connection may serve somebody else's request by now.
        if facts is not exchange.facts and self._is_open(exchange):
            exchange.facts = facts
            self._recheck(exchange)
        return True

    def _cut_off(self, exchange: Exchange) -> None:
        if self._is_open(exchange):
            exchange.cut(Deny(reason=DenyReason.STORE_UNAVAILABLE))

    def _is_open(self, exchange: Exchange) -> bool:
        return exchange in self._open.get(exchange.permit.assumption, ())

    def _among(self, assumptions: set[AssumptionId] | None) -> list[Exchange]:
        return [exchange for assumption in assumptions or () for exchange in self._open[assumption]]

    def _begin(self, permit: Permit) -> set[Exchange]:
        exchanges: set[Exchange] = set()
        self._open[permit.assumption] = exchanges
        self._whose[permit.assumption] = (permit.account, permit.actor)
        self._of_account.setdefault(permit.account, set()).add(permit.assumption)
        self._of_actor.setdefault(permit.actor, set()).add(permit.assumption)
        self.begun(permit.account, permit.assumption, permit.actor)
        return exchanges

    def _sweep(self) -> None:
        """Let go of the assumptions that nothing is open of."""
        for assumption in [one for one, exchanges in self._open.items() if not exchanges]:
            del self._open[assumption]
            account, actor = self._whose.pop(assumption)
            _take_out(self._of_account, account, assumption)
            _take_out(self._of_actor, actor, assumption)

    def _recheck(self, exchange: Exchange) -> bool:
        match decide(exchange.request, exchange.facts, self._profile, now=self._clock()):
            case Permit() as permit:
                exchange.permit = permit
                return False
            case Deny() as deny:
                exchange.cut(deny)
                return True

    def _set_timer(self) -> None:
        """Look again when the first of what is open ends, and often enough in any case.

        An end may have moved, either way; a timer may fire early, and it stands still while the machine sleeps or the
        clock is set. So it only ever asks again. One timer serves all, because most exchanges are over long before.
        """
        if self._timer is not None:
            self._timer.cancel()
        now = self._clock()
        ends = (exchange.permit.ends_at for exchange in self.all() if exchange.verdict() is None)
        # Those that have ended are being cut, or else are found the next time.
        first = min((end for end in ends if end > now), default=now + timedelta(seconds=_LONGEST_SLEEP_SECONDS))
        left = (first - now).total_seconds()
        pause = min(max(left, 0.001), _LONGEST_SLEEP_SECONDS)
        self._looks_at = now + timedelta(seconds=pause)
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        """Look at those whose end has come: of all others time changes nothing, unless the profile is another one."""
        self._timer = None
        self._sweep()
        now, anew, self._renewed = self._clock(), self._renewed, False
        self._look_at_these([exchange for exchange in self.all() if anew or exchange.permit.ends_at <= now])
        if self._open:
            self._set_timer()

    def _look_at_these(self, exchanges: list[Exchange]) -> None:
        for exchange in exchanges[:_EXPIRED_SLICE]:
            if exchange.verdict() is None and self._is_open(exchange):
                self._recheck(exchange)
        if rest := exchanges[_EXPIRED_SLICE:]:
            asyncio.get_running_loop().call_soon(self._look_at_these, rest)


def _nothing(_account: AccountId, _assumption: AssumptionId, _actor: ActorId) -> None:
    """Nobody wants to know."""


def _take_out(index: dict[K, set[AssumptionId]], key: K, assumption: AssumptionId) -> None:
    found = index[key]
    found.discard(assumption)
    if not found:
        del index[key]
