"""One exchange from its permit to its end, and the record that says how it ended."""

import asyncio
from types import TracebackType
from typing import Self

from gateway import refusals
from gateway.audit.completion import Completion, Ended
from gateway.audit.log import AuditLog
from gateway.audit.record import Record
from gateway.clock import Ticks
from gateway.proxy.forward import Sent
from gateway.proxy.head import ClientFault
from gateway.proxy.wire import Inbound, UpstreamFault
from policy.model import AccountId, AssumptionId, Deny

_GONE = (asyncio.CancelledError, ConnectionError, ClientFault)


class Course:
    """Notes how an exchange ended once it is over: it is a context around all that follows the permit's record.

    Nothing waits for that note. Where the permit may be on the record although recording it failed, `abandoned` says
    what became of it.
    """

    __slots__ = (
        "_account",
        "_assumption",
        "_began",
        "_inbound",
        "_journal",
        "_record",
        "_ticks",
        "begun",
        "deny",
        "sent",
        "seq",
        "status",
    )

    def __init__(
        self,
        journal: AuditLog,
        record: Record,
        inbound: Inbound | None,
        *,
        account: AccountId,
        assumption: AssumptionId,
        began: float,
        ticks: Ticks,
    ) -> None:
        """`record` is the permit's, and `inbound` whom it lets in, None for ourselves; it `began` with the head."""
        self.seq: int | None = None
        """The number of the permit's record, once that is acknowledged."""
        self.begun = False
        """Whether anything may have been sent to the app."""
        self.status: int | None = None
        """What the app has answered to ourselves."""
        self.deny: Deny | None = None
        """Why it was cut, or was refused in the end."""
        self.sent: Sent | None = None
        """What became of the request that was sent on, once that is known."""
        self._journal = journal
        self._record = record
        self._inbound = inbound
        self._account = account
        self._assumption = assumption
        self._began = began
        self._ticks = ticks

    @property
    def request_id(self) -> bytes:
        """The request's, as it is said back."""
        return (self._record.request_id or "").encode("ascii")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._journal.note(self._end(error))

    def abandoned(self) -> Completion:
        """Return the record of an end before anything was sent, because the permit could not be recorded in time."""
        return self._end(None if self.deny is not None else asyncio.CancelledError())

    def _end(self, error: BaseException | None) -> Completion:
        inbound, record, deny = self._inbound, self._record, self.deny
        ended = self._how(error)
        seq = record.seq if self.seq is None else self.seq
        if seq is None or record.request_id is None:
            raise RuntimeError("an exchange ends behind its permit's record")
        return Completion(
            kind="completion",
            account=self._account,
            assumption=self._assumption,
            completes=seq,
            request_id=record.request_id,
            duration_us=round((self._ticks() - self._began) * 1e6),
            ended=ended,
            reason=None if deny is None else deny.reason.value,
            rule=None if deny is None else deny.rule,
            status=self._status(ended, error),
            bytes_received=None if inbound is None else inbound.received,
            bytes_sent=None if inbound is None else inbound.sent,
        )

    def _how(self, error: BaseException | None) -> Ended:
        if self.deny is not None:
            return "cut" if self.begun else "refused"
        if self.sent in (Sent.AT_ONCE, Sent.AT_LENGTH):
            # Whatever the client does then, nothing more is sent.
            return "complete"
        if self.sent is not None or isinstance(error, UpstreamFault):
            return "upstream_failed"
        if isinstance(error, _GONE):
            return "stopped" if self._inbound is None or self._inbound.is_stopping else "client_gone"
        return "failed"

    def _status(self, ended: Ended, error: BaseException | None) -> int | None:
        status = self.status if self._inbound is None else self._inbound.status
        if status is not None:
            return status
        if ended == "refused" and self.deny is not None:
            return refusals.REFUSALS[self.deny.reason].status
        return error.status if isinstance(error, ClientFault) else None
