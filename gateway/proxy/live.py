"""What is open now: every assumed exchange from its permit to its end, so that a change can cut it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gateway.clock import Clock
from gateway.stores.store import StoreError
from policy.decide import decide
from policy.model import AccessRequest, Account, AccountId, Deny, DenyReason, Facts, Grant, Permit
from policy.routes import Profile

_LONGEST_SLEEP_SECONDS = 1.0


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
            if self._abort is not None:
                self._abort()


class Live:
    """The open assumed exchanges of this process, by account."""

    def __init__(self, profile: Profile, clock: Clock) -> None:
        self._profile = profile
        self._clock = clock
        self._open: dict[AccountId, set[Exchange]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = datetime.max.replace(tzinfo=UTC)
        """When the timer looks, by the wall clock; valid while there is one."""

    def __len__(self) -> int:
        return sum(len(exchanges) for exchanges in self._open.values())

    def renew(self, profile: Profile) -> None:
        """Judge by another profile from now on; `anything_changed` looks again at what is open, and so does time."""
        self._profile = profile

    def open(self, request: AccessRequest, facts: Facts, permit: Permit) -> Exchange:
        """Register an exchange until it is closed, so that a change or the clock can cut it before.

        Must be called in the same step as the decision, with no await between.
        """
        exchange = Exchange(request, facts, permit)
        exchanges = self._open.get(permit.account)
        if exchanges is None:
            exchanges = self._open[permit.account] = set()
        exchanges.add(exchange)
        if self._timer is None or permit.ends_at < self._looks_at:
            self._set_timer()
        return exchange

    def close(self, exchange: Exchange) -> None:
        """Forget an exchange that is over."""
        account = exchange.permit.account
        exchanges = self._open.get(account)
        if exchanges is not None:
            exchanges.discard(exchange)
            if not exchanges:
                del self._open[account]

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
        for exchange in self._all():
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
        ends = [exchange.permit.ends_at for exchange in self._all() if exchange.verdict() is None]
        left = (min(ends) - now).total_seconds() if ends else _LONGEST_SLEEP_SECONDS
        pause = min(max(left, 0.001), _LONGEST_SLEEP_SECONDS)
        self._looks_at = now + timedelta(seconds=pause)
        self._timer = asyncio.get_running_loop().call_later(pause, self._look)

    def _look(self) -> None:
        self._timer = None
        for exchange in self._all():
            if exchange.verdict() is None:
                self._recheck(exchange)
        if self._open:
            self._set_timer()

    def _all(self) -> list[Exchange]:
        return [exchange for exchanges in self._open.values() for exchange in exchanges]
