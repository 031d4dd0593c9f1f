"""Finding an account by its id or a part of it, for whoever may stand in there; of any other nothing is told."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.assumptions.standing import Standing, stand
from gateway.clock import Clock
from gateway.devices.guesses import Tries
from gateway.grants.facts import FactCache
from gateway.proxy.triage import is_account_name
from gateway.stores.store import Store, StoreError
from policy.grants import grant_in_force
from policy.model import AccountId, DenyReason, Permission, Staff
from policy.rules import StandInRules
from policy.staff import newest

SHOWN: Final = 20
"""So many accounts are on a page."""
_MOST_LOOKS = 120
_WITHIN = timedelta(minutes=1)
_STEP = 100
_MOST_STEPS = 10
_PART = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A page of what a search has found."""

    standings: Sequence[Standing] = ()
    after: str = ""
    """The account behind which there may be more; empty: there are no more."""
    cut_short: bool = False
    """Too many were looked at that the person may not know of: the search was not gone through to its end."""


class Finder:
    """Answers by the rules of now; each staff member may look so many times a minute, on all nodes together."""

    def __init__(
        self,
        store: Store,
        facts: FactCache,
        rules: StandInRules,
        *,
        trial_permissions: frozenset[Permission],
        kept_by_app: bool,
        clock: Clock,
    ) -> None:
        """With `kept_by_app` only the app knows which accounts there are, so none is found by a part of its id."""
        self._store = store
        self._facts = facts
        self._rules = rules
        self._trial = trial_permissions
        self._kept_by_app = kept_by_app
        self._clock = clock
        self._looks = Tries(store, clock, what="accounts looked for", most=_MOST_LOOKS, within=_WITHIN)

    async def may_look(self, staff: Staff) -> bool:
        """Count one more look; False: there were as many as may be. Raises StoreError, likewise below."""
        return await self._looks.take(f"{staff.id.issuer}\0{staff.id.subject}")

    async def look(self, text: str, staff: Staff) -> Standing | DenyReason | None:
        """Return how the account of this id stands for somebody; why nobody is told; None: no such one for them."""
        if not is_account_name(text):
            return None
        try:
            async with asyncio.timeout(self._facts.patience_seconds):
                facts = await self._facts.of_exchange(AccountId(text), staff.id)
        except TimeoutError as exc:
            raise StoreError("how the account stands could not be told in time") from exc
        if facts.halted is not None:
            return facts.halted
        if facts.account is None:
            return None
        may = self._rules.most_in(newest(staff, facts.staff), facts.account)
        return stand(facts.account, facts.grant, may, self._clock()) if may else None

    async def search(self, text: str, staff: Staff, *, after: str = "") -> Found:
        """Return accounts behind `after` with `text` in their id, by id."""
        if self._kept_by_app or _PART.fullmatch(text) is None:
            return Found()
        known = newest(staff, await self._store.find_staff(staff.id))
        found: list[Standing] = []
        for _ in range(_MOST_STEPS):
            records = await self._store.search_accounts(text, most=_STEP, after=after)
            for record in records:
                may = self._rules.most_in(known, record.account) if is_account_name(record.account.id) else None
                if may and len(found) == SHOWN:
                    # Never the id of one that is not shown.
                    return Found(standings=found, after=found[-1].account)
                if may:
                    grant = grant_in_force(record.account, record.grant, self._trial)
                    found.append(stand(record.account, grant, may, self._clock()))
            if len(records) < _STEP:
                return Found(standings=found)
            after = records[-1].account.id
        return Found(standings=found, cut_short=True)
