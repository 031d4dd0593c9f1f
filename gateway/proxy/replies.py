"""The answers that the gateway gives by itself: refusals, an upstream's fault, a message it will not pass on."""

from http import HTTPStatus

from gateway import problems, refusals
from gateway.proxy.browsers import Farewell
from gateway.proxy.headers import values
from gateway.proxy.wire import Headers, Inbound, ResponseHead, UpstreamFault
from policy.model import Deny

_REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    500: b"Internal Server Error",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}


async def refuse(
    inbound: Inbound,
    deny: Deny,
    *,
    request_id: str,
    said: refusals.Said = (),
    nonce: Headers = (),
    farewell: Farewell | None = None,
) -> None:
    """Send a refusal: a page for browsers, else problem details.

    `said` goes into its challenge, where it has one, and `nonce` is a line beside it; `farewell` into a page only,
    because it is for a person.
    The connection ends with what can be read in more than one way, with a body, which nobody reads, and with whatever
    has come behind the request already, which was sent by somebody who had not heard of the refusal.
    """
    status = refusals.REFUSALS[deny.reason].status
    close = status == 400 or not inbound.is_alone
    if _wants_page(inbound.head.headers):
        go_on_at = None if farewell is None else farewell.go_on_at
        kind, content = b"text/html; charset=utf-8", refusals.page(deny, request_id=request_id, go_on_at=go_on_at)
        lines = [
            *refusals.headers(deny, said),
            (b"Content-Security-Policy", b"default-src 'none'; frame-ancestors 'none'"),
            (b"X-Content-Type-Options", b"nosniff"),
        ]
        lines += [] if farewell is None else farewell.lines
    else:
        kind, content = b"application/problem+json", refusals.problem(deny, request_id=request_id)
        lines = refusals.headers(deny, said)
    await _send(inbound, status, kind, content, [*lines, *nonce], close=close)


def last(status: int, title: str, *, kind: str) -> bytes:
    """Return problem details as they are sent where no request was read; the connection ends with them."""
    content = problems.build(f"problem:{kind}", title=title, status=status)
    lines = (
        b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode("ascii")),
        b"Content-Type: application/problem+json",
        b"Content-Length: %d" % len(content),
        b"Connection: close",
        b"",
        content,
    )
    return b"\r\n".join(lines)


async def report(inbound: Inbound, status: int, title: str, *, kind: str) -> None:
    """Send problem details that are no refusal; `kind` ends the stable problem type."""
    content = problems.build(f"problem:{kind}", title=title, status=status)
    await _send(inbound, status, b"application/problem+json", content, [])


async def turn_away(inbound: Inbound, title: str) -> None:
    """Say that there is too much to do just now, and when to come back."""
    content = problems.build("problem:busy", title=title, status=503)
    await _send(inbound, 503, b"application/problem+json", content, [(b"Retry-After", b"1")])


async def report_fault(inbound: Inbound, fault: UpstreamFault) -> None:
    """Say that the app behind could not answer; its address stays in our log."""
    title = "the app behind the gateway is too slow" if fault.status == 504 else "the app behind the gateway is down"
    await report(inbound, fault.status, title, kind="upstream")


async def _send(
    inbound: Inbound,
    status: int,
    kind: bytes,
    content: bytes,
    lines: list[tuple[bytes, bytes]],
    *,
    close: bool = True,
) -> None:
    head = ResponseHead(
        status=status,
        reason=_REASONS[status],
        headers=((b"Content-Type", kind), (b"Content-Length", b"%d" % len(content)), *lines),
    )
    await inbound.respond(head, content, close=close)


def _wants_page(headers: Headers) -> bool:
    """Tell whether the client is a browser showing a page: it names text/html before anything else."""
    return any(value.lstrip().lower().startswith(b"text/html") for value in values(headers, b"accept"))
