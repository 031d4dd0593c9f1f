"""What is open now: every assumed exchange from its permit to its end, so that a change can cut it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from gateway.clock import Clock
from gateway.stores.store import StoreError
from policy.decide import decide
from policy.model import AccessRequest, Account, AccountId, Deny, DenyReason, Facts, Grant, Permit
from policy.routes import Profile

_LONGEST_SLEEP_SECONDS = 1.0


class Exchange:
    """One assumed exchange while it is open."""

    __slots__ = ("_abort", "_verdict", "facts", "permit", "request", "timer")

    def __init__(self, request: AccessRequest, facts: Facts, permit: Permit) -> None:
        self.request = request
        self.facts = facts
        self.permit = permit
        self.timer: asyncio.TimerHandle | None = None
        self._verdict: Deny | None = None
        self._abort: Callable[[], None] | None = None

    def begin(self, abort: Callable[[], None]) -> Deny | None:
        """Have `abort` called by a cut from now on; returns why the exchange was cut already, and must not begin."""
        self._abort = abort
        return self._verdict

    def stop(self) -> None:
        """Forget the timer."""
        if self.timer is not None:
            self.timer.cancel()

    def verdict(self) -> Deny | None:
        """Return why the exchange was cut, or None; ask again after every await."""
        return self._verdict

    def cut(self, deny: Deny) -> None:
        """End the exchange now: nothing more goes either way. Before it has begun, it will not begin."""
        if self._verdict is None:
            self._verdict = deny
            if self._abort is not None:
                self._abort()


class Live:
    """The open assumed exchanges of this process, by account."""

    def __init__(self, profile: Profile, clock: Clock) -> None:
        self._profile = profile
        self._clock = clock
        self._open: dict[AccountId, set[Exchange]] = {}

    def __len__(self) -> int:
        return sum(len(exchanges) for exchanges in self._open.values())

    @contextmanager
    def opened(self, request: AccessRequest, facts: Facts, permit: Permit) -> Iterator[Exchange]:
        """Register an exchange until the block ends, so that a change or the clock can cut it before.

        Must be entered in the same step as the decision, with no await between.
        """
        exchange = Exchange(request, facts, permit)
        exchanges = self._open.setdefault(permit.account, set())
        exchanges.add(exchange)
        self._set_timer(exchange, permit)
        try:
            yield exchange
        finally:
            exchange.stop()
            exchanges.discard(exchange)
            if not exchanges and self._open.get(permit.account) is exchanges:
                del self._open[permit.account]

    def account_changed(self, account: AccountId, state: Account | None, grant: Grant | None) -> int:
        """Decide anew about everything open in `account`, and cut what is not permitted any more; return how many."""
        cut = 0
        for exchange in list(self._open.get(account, ())):
            exchange.facts = replace(exchange.facts, account=state, grant=grant)
            cut += self._recheck(exchange)
        return cut

    async def anything_changed(self, load: Callable[[AccessRequest], Awaitable[Facts]]) -> None:
        """Decide anew about everything open, on facts loaded anew: something changed, and it is not known what.

        What cannot be loaded is cut, and keeps nobody else from being looked at.
        """
        for exchange in [each for exchanges in self._open.values() for each in exchanges]:
            try:
                facts = await load(exchange.request)
            except StoreError:
                exchange.cut(Deny(reason=DenyReason.STORE_UNAVAILABLE))
                continue
            # It may have ended meanwhile, and its connection may serve somebody else's request by now.
            if exchange in self._open.get(exchange.permit.account, ()):
                exchange.facts = facts
                self._recheck(exchange)

    def _recheck(self, exchange: Exchange) -> bool:
        match decide(exchange.request, exchange.facts, self._profile, now=self._clock()):
            case Permit() as permit:
                self._set_timer(exchange, permit)
                return False
            case Deny() as deny:
                exchange.cut(deny)
                return True

    def _set_timer(self, exchange: Exchange, permit: Permit) -> None:
        # The end may have moved, either way; a timer may fire early, and it stands still while the machine sleeps or
        # the clock is set. So it only ever asks again, and often enough.
        exchange.stop()
        left = (permit.ends_at - self._clock()).total_seconds()
        pause = min(max(left, 0.001), _LONGEST_SLEEP_SECONDS)
        exchange.timer = asyncio.get_running_loop().call_later(pause, self._recheck, exchange)
