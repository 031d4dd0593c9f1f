"""Asks the log for an account's administrators: its own part of it alone, in its turn, and with a record of who did."""

from dataclasses import dataclass
from typing import Any, Final

from gateway.audit.api.asked import AskedLog, Asker
from gateway.audit.index.asking import Busy, LogIndex
from gateway.audit.index.database import IndexUnusable, TooCostly
from gateway.audit.index.finding import Found, Lag, Page
from gateway.audit.log import AuditLog
from gateway.audit.search import Query
from gateway.audit.search.account_part import of_theirs
from gateway.audit.search.query import Is, Term
from gateway.clock import Ticks
from gateway.console.account.admission import CONSOLE, Visit
from gateway.console.account.log_turns import Turns
from policy.model import AccountId

ASKING_FAULTS: Final = (Busy, TooCostly, IndexUnusable)
"""What a question may raise, each with a text that says what to do."""
_READING_SECONDS: Final = 0.05
"""What a reading costs at the least of an account's share: or it could fill the journal."""
_BEFORE_ALL: Final = -(2**62)
_NO_DEEDS: Final = tuple(Term(Is("kind", kind), negated=True) for kind in ("completion", "audit", "notice"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecords:
    """Some of an account's records that match."""

    found: list[Found]
    next: int | None
    """Before, or behind, which there may be more; None if there are not."""
    lag: Lag | None = None


class AccountIndex:
    """Every answer is of that account's records only, whatever the query says, and tells nothing of another account."""

    def __init__(self, index: LogIndex, turns: Turns) -> None:
        self._index = index
        self._turns = turns

    async def newest(
        self, query: Query, *, account: AccountId, limit: int, before: int | None = None, by_itself: bool = False
    ) -> AccountRecords:
        """Return the newest records that match, newest first: see `gateway.audit.index.asking.LogIndex`.

        Where a page asks `by_itself` it has a turn only if nobody wants it. Raises ASKING_FAULTS.
        """
        turn, query = self._turns.spare if by_itself else self._turns.turn, of_theirs(query)
        async with turn(account):
            page, lag = await self._index.search(query, limit=limit, before=before, after=None, account=account)
        return _of_account(page, lag, account)

    async def oldest(self, query: Query, *, account: AccountId, limit: int) -> AccountRecords:
        """Return the oldest records that match, oldest first; raises ASKING_FAULTS."""
        query = of_theirs(query)
        async with self._turns.turn(account):
            page, lag = await self._index.search(query, limit=limit, before=None, after=_BEFORE_ALL, account=account)
        return _of_account(page, lag, account)


def of_deeds(query: Query) -> Query:
    """Return the query without what is not somebody's deed, unless it names the kinds that it wants.

    Left out are how requests ended, which the requests' own records stand for, who has read this log, and who was told.
    """
    if any(isinstance(term.condition, Is) and term.condition.qualifier == "kind" for term in query.terms):
        return query
    return Query(terms=(*query.terms, *_NO_DEEDS))


def _of_account(page: Page, lag: Lag | None, account: AccountId) -> AccountRecords:
    found = [one for one in page.found if one.entry.get("account") == account]
    return AccountRecords(found=found, next=page.found[-1].id if page.more else None, lag=lag)


class Readings:
    """Puts on the record who has read what of their account's log; each reading costs some of the account's share."""

    def __init__(self, journal: AuditLog, turns: Turns, ticks: Ticks) -> None:
        self._asked = AskedLog(journal, ticks=ticks)
        self._turns = turns

    async def record(self, visit: Visit, reason: str, query: Query, text: str, **more: Any) -> None:
        """Return once it is recorded that this person has asked for `text`; raises JournalError and Busy.

        The same of the same person, page by page, is on the record once in a while.
        """
        self._turns.charge(visit.account, _READING_SECONDS)
        asker = Asker(client=CONSOLE, by=visit.administrator.id, account=visit.account, caller=visit.caller)
        await self._asked.record(asker, reason, query, text, **more)
