"""One request on to an upstream and its response back, once somebody has decided that it may go."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum, unique
from functools import partial
from typing import Any

import msgspec

from gateway.proxy import headers, replies
from gateway.proxy.insertion import Insertion
from gateway.proxy.names import Names
from gateway.proxy.tunnel import join
from gateway.proxy.wire import (
    ByteStream,
    Headers,
    Inbound,
    RequestHead,
    ResponseHead,
    Trailers,
    Upstream,
    UpstreamFault,
    UpstreamResponse,
)

log = logging.getLogger(__name__)

SWITCH = ((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"))
"""What a WebSocket handshake says of its connection, which is what each of the two connections must say anew."""


@unique
class Sent(Enum):
    """What became of a request that was sent on, and of its answer."""

    AT_ONCE = "at once"
    """The answer was small, and is out."""
    AT_LENGTH = "at length"
    """The answer is out, or a stream has ended; so much was sent that it may take its time to arrive."""
    UNANSWERED = "unanswered"
    """The upstream did not answer, and the client was told so."""
    BROKEN_OFF = "broken off"
    """The upstream failed in the middle of its answer, and the client was cut off."""


Carry = Callable[[ByteStream, ByteStream], Awaitable[None]]
"""Makes a client's and an upstream's raw connection one, until they end."""

Keep = Callable[[ResponseHead], Awaitable[None]]
"""Keeps something of an upstream's answer."""


Insert = Callable[[ResponseHead, ResponseHead], Insertion | None]
"""Returns what puts something into an answer, by the upstream's head and by the one that goes on; None for nothing."""


class Onward(msgspec.Struct, frozen=True, kw_only=True):
    """The header lines of a request as they go on, with what is worked out from them for the wire."""

    headers: Headers
    kept: dict[object, Any]

    @classmethod
    def of(cls, lines: Iterable[tuple[bytes, bytes]]) -> "Onward":
        """Send these lines."""
        return cls(headers=tuple(lines), kept={})

    def more(self, lines: Iterable[tuple[bytes, bytes]]) -> "Onward":
        """Send some lines more."""
        added = tuple(lines)
        return Onward.of((*self.headers, *added)) if added else self

    def head(self, head: RequestHead) -> RequestHead:
        """Return `head` with these lines in place of its own."""
        return RequestHead(method=head.method, target=head.target, headers=self.headers, kept=self.kept)


async def forward(
    inbound: Inbound,
    upstream: Upstream,
    head: RequestHead,
    *,
    answer: Callable[[ResponseHead], ResponseHead],
    known: Names,
    upgrade: bool = False,
    trailers: Trailers | None = None,
    carry: Carry = join,
    keep: Keep | None = None,
    insert: Insert | None = None,
) -> Sent:
    """Send `head` with the body of `inbound`, and the response back as `answer` makes it of the upstream's.

    `upgrade` is for a WebSocket handshake that may be made: both connections become one (RFC 6455), by `carry`.
    `trailers` of the request go on behind its body. The client hears nothing before `keep` has kept what it keeps of
    the upstream's head. `insert` has an answer changed, whose trailers then go nowhere. An upstream that fails is
    answered for, or, if it is too late for that, the client is cut off.
    """
    try:
        response = await upstream.send(
            head,
            inbound.body() if inbound.has_body else None,
            upgrade=upgrade,
            inform=partial(_inform, inbound, answer),
            trailers=trailers,
        )
    except UpstreamFault as fault:
        log.warning("the upstream did not answer: %s", fault)
        await replies.report_fault(inbound, fault)
        return Sent.UNANSWERED
    sent = Sent.AT_LENGTH
    try:
        if keep is not None:
            await keep(response.head)
        final = answer(response.head)
        if response.stream is not None:
            await _switch(inbound, final, response.stream, carry)
        elif insert is not None and (insertion := insert(response.head, final)) is not None:
            sent = await _send_changed(inbound, response, insertion)
        elif (content := response.at_hand()) is not None:
            await inbound.respond(final, content)
            sent = Sent.AT_ONCE
        else:
            await inbound.respond(final, response.body, trailers=lambda: headers.behind(response.trailers(), known))
    except UpstreamFault as fault:
        # The head is out already; only a broken connection can still tell the client.
        log.warning("the upstream broke off: %s", fault)
        inbound.abort()
        sent = Sent.BROKEN_OFF
    finally:
        await response.close()
    return sent


async def _send_changed(inbound: Inbound, response: UpstreamResponse, insertion: Insertion) -> Sent:
    content = response.at_hand()
    if content is not None:
        await inbound.respond(*insertion.whole(content))
        return Sent.AT_ONCE
    await inbound.respond(*insertion.stream(response.body))
    return Sent.AT_LENGTH


def _inform(inbound: Inbound, answer: Callable[[ResponseHead], ResponseHead], interim: ResponseHead) -> None:
    inbound.inform(answer(interim))


async def _switch(inbound: Inbound, final: ResponseHead, stream: ByteStream, carry: Carry) -> None:
    head = ResponseHead(status=101, reason=final.reason, headers=(*SWITCH, *final.headers))
    await carry(await inbound.switch(head), stream)
