"""How an exchange ended that was let through: the record that refers to the decision's."""

from datetime import datetime
from typing import Literal

import msgspec

from policy.model import AccountId, AssumptionId

Ended = Literal["client_gone", "complete", "cut", "failed", "refused", "stopped", "upstream_failed"]
"""How it ended.

`complete`: the whole answer was handed to the system for the client, or both sides of a WebSocket have closed it.
`cut`: what had been permitted was taken back while it was open; `reason` says why, and `rule` where a rule did.
`refused`: likewise, but before anything was sent to the app.
`client_gone`: the client closed or broke the connection, or did not send what it had announced.
`upstream_failed`: the app could not be reached, was too slow, broke off or did not speak HTTP.
`stopped`: the gateway was stopped, and with it what was open.
`failed`: an error of ours.
"""


class Completion(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """What became of one exchange; nothing in it is anybody's but the account's.

    Written behind the exchange, which never waits for it: a process that is killed leaves decisions without one. The
    fields stand in the order of their names, which is the canonical one.
    """

    account: AccountId
    assumption: AssumptionId
    at: datetime | str | None = None
    """Set by the journal alone, like `origin` and `seq`; when the exchange was over or, if the disk was not there,
    later."""
    bytes_received: int | None = None
    """How much of a body, or of a WebSocket, had come from staff."""
    bytes_sent: int | None = None
    """How much of the answer's body, or of a WebSocket, had gone to staff."""
    completes: int
    """The number of the decision's record, which has the same `origin` and `request_id`."""
    duration_us: int
    """From the request's head to the end, in microseconds."""
    ended: Ended
    kind: Literal["completion"]
    origin: str | None = None
    reason: str | None = None
    """The deny reason of what was cut or refused."""
    request_id: str
    rule: str | None = None
    seq: int | None = None
    status: int | None = None
    """What staff were answered; None if they were not."""
