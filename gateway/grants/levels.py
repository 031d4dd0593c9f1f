"""What a change of the store may name, and what is to be forgotten and looked at then: most changes are of others."""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from gateway.grants.facts import FactCache
from gateway.proxy.live import Exchange, Live
from gateway.stores.store import StoreChange


class Level(NamedTuple):
    """One kind of what a change may name: an account, an assumption or a staff member."""

    name: Callable[[StoreChange], Any]
    """Returns what a change names of this kind, or None."""
    known: Callable[[AbstractSet[Any]], AbstractSet[Any]]
    """Returns those that anything is known of."""
    busy: Callable[[AbstractSet[Any]], AbstractSet[Any]]
    """Returns those that anything is open of."""
    forget: Callable[[Any], None]
    open_of: Callable[[Any], list[Exchange]]


def levels(facts: FactCache, live: Live) -> Sequence[Level]:
    """Return all there are."""
    return (
        Level(
            name=lambda change: change.account,
            known=facts.accounts_among,
            busy=live.accounts_among,
            forget=facts.forget_account,
            open_of=live.of_account,
        ),
        Level(
            name=lambda change: change.assumption,
            known=facts.assumptions_among,
            busy=live.assumptions_among,
            forget=facts.forget_assumption,
            open_of=live.of_assumption,
        ),
        Level(
            name=lambda change: change.staff,
            known=facts.staff_among,
            busy=live.actors_among,
            forget=facts.forget_staff,
            open_of=live.of_actor,
        ),
    )
