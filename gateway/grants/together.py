"""The facts of requests as they were put together, found by each of their parts, so that a part's change ends them."""

from collections.abc import Hashable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from gateway.grants.table import MOST_ENTRIES
from policy.model import AccountId, ActorId, AssumptionId, Facts

K = TypeVar("K", bound=Hashable)


class Parts(NamedTuple):
    """Whose facts they are."""

    account: AccountId
    assumption: AssumptionId
    actor: ActorId


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The facts of a request, and how long they are good."""

    facts: Facts
    until: float
    """In seconds of the clock that facts grow old by."""


class Assembled:
    """At most some thousands of them; dropping one part's costs as much as there are of them, and nothing for none."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.entries: dict[tuple[AccountId, AssumptionId, ActorId], Together] = {}
        """To be read; every change goes through the methods."""
        self._of_account: dict[AccountId, set[Parts]] = {}
        self._of_assumption: dict[AssumptionId, set[Parts]] = {}
        self._of_actor: dict[ActorId, set[Parts]] = {}

    def put(self, parts: Parts, entry: Together) -> None:
        """Keep an entry instead of the one before."""
        if len(self.entries) >= MOST_ENTRIES:
            self.clear()
        self.entries[parts] = entry
        self._of_account.setdefault(parts.account, set()).add(parts)
        self._of_assumption.setdefault(parts.assumption, set()).add(parts)
        self._of_actor.setdefault(parts.actor, set()).add(parts)

    def accounts_among(self, accounts: AbstractSet[AccountId]) -> set[AccountId]:
        """Return those that anything here has to do with."""
        return accounts & self._of_account.keys()

    def assumptions_among(self, assumptions: AbstractSet[AssumptionId]) -> set[AssumptionId]:
        """Likewise."""
        return assumptions & self._of_assumption.keys()

    def actors_among(self, actors: AbstractSet[ActorId]) -> set[ActorId]:
        """Likewise."""
        return actors & self._of_actor.keys()

    def drop_account(self, account: AccountId) -> None:
        """Drop all that have to do with an account."""
        self._drop(self._of_account.get(account))

    def drop_assumption(self, assumption: AssumptionId) -> None:
        """Drop all that have to do with an assumption."""
        self._drop(self._of_assumption.get(assumption))

    def drop_actor(self, actor: ActorId) -> None:
        """Drop all that have to do with a staff member."""
        self._drop(self._of_actor.get(actor))

    def clear(self) -> None:
        """Drop everything."""
        self.entries.clear()
        for index in (self._of_account, self._of_assumption, self._of_actor):
            index.clear()

    def _drop(self, found: set[Parts] | None) -> None:
        for parts in list(found or ()):
            del self.entries[parts]
            _discard(self._of_account, parts.account, parts)
            _discard(self._of_assumption, parts.assumption, parts)
            _discard(self._of_actor, parts.actor, parts)


def _discard(index: dict[K, set[Parts]], key: K, parts: Parts) -> None:
    found = index[key]
    found.discard(parts)
    if not found:
        del index[key]
