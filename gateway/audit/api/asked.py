"""Who has asked the log for what, put on the record before they are answered: by programs and by people alike."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from gateway.audit.log import AuditLog
from gateway.audit.record import Record
from gateway.audit.search.query import Query, describe
from gateway.caller import Caller
from gateway.clock import Ticks
from policy.model import AccountId, ClientId

_SAME_SECONDS: Final = 600.0
"""So long the same question of the same asker, page by page, is on the record once."""
_MOST_REMEMBERED: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, as a record names them."""

    client: ClientId
    """The client, or what stands in its place for a person."""
    by: str | None = None
    """The person, if it is one."""
    account: AccountId | None = None
    """The only account of which they may know anything; None: of all."""
    caller: Caller


class AskedLog:
    """Keeps the record of what was asked; of the query it says which qualifiers, and only values that are nobody's."""

    def __init__(self, journal: AuditLog, *, ticks: Ticks) -> None:
        """Write into `journal`."""
        self._journal = journal
        self._ticks = ticks
        self._asked: OrderedDict[tuple[str | None, ...], float] = OrderedDict()

    async def record(self, asker: Asker, reason: str, query: Query, text: str, **more: Any) -> None:
        """Put it on the record, unless they have asked `text` for this reason a moment ago; raises JournalError."""
        key, now = (asker.client, asker.by, asker.account, reason, text), self._ticks()
        if now - self._asked.get(key, -_SAME_SECONDS) < _SAME_SECONDS:
            return
        await self.record_each(asker, reason, query, **more)
        self._asked[key] = now
        self._asked.move_to_end(key)
        if len(self._asked) > _MOST_REMEMBERED:
            self._asked.popitem(last=False)

    async def record_each(self, asker: Asker, reason: str, query: Query, *, durable: bool = False, **more: Any) -> None:
        """Put it on the record, however often they have asked the same; raises JournalError."""
        names, values = describe(query)
        record = Record(
            kind="audit",
            reason=reason,
            account=asker.account,
            by=asker.by,
            client_id=asker.client,
            client_ip=asker.caller.client_ip,
            user_agent=asker.caller.user_agent,
            request_id=asker.caller.request_id,
            query_names=names or None,
            query_values=values or None,
            **more,
        )
        await self._journal.append(record, durable=durable)
