"""The enforcement point: every request of every customer comes through here.

Ordinary traffic passes without a look at the store, the journal or the issuer, so none of them can stop it. A request
that carries a token of ours, or that a catch rule says must be staff's, goes the other way, and never comes back.
"""

import logging

from gateway.caller import CLIENT_HEADER
from gateway.proxy import headers, replies
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.triage import CatchRules, find_credential
from gateway.proxy.wire import Inbound, RequestHead, ResponseHead, Upstream, UpstreamFault
from gateway.tokens.signing import TokenVerifier

log = logging.getLogger(__name__)

CONTROL_PREFIX = b"/.locum/"
_CLIENT_HEADER = CLIENT_HEADER.encode("ascii")
_VERSIONS = frozenset({(1, 0), (1, 1)})


class ProxyHandler:
    """Answers each request of the public listener."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        control: Upstream,
        assumed: AssumedTraffic,
        verifier: TokenVerifier,
        catch: CatchRules,
        reserved: headers.Reserved,
        append_forwarded_for: bool,
    ) -> None:
        self._upstream = upstream
        self._control = control
        self._assumed = assumed
        self._verifier = verifier
        self._catch = catch
        self._reserved = reserved
        self._append = append_forwarded_for

    async def __call__(self, inbound: Inbound) -> None:
        """Answer one request."""
        head = inbound.head
        fault = _fault(head)
        if fault is not None:
            status, title = fault
            await replies.report(inbound, status, title, kind="malformed")
            return
        if head.target.startswith(CONTROL_PREFIX):
            await self._to_control(inbound)
            return
        credential = find_credential(head, self._verifier)
        if credential is not None or self._catch.fit(head, inbound.peer):
            await self._assumed.answer(inbound, credential)
            return
        lines = headers.for_upstream(head.headers, self._reserved)
        if self._append and inbound.peer:
            lines = headers.with_forwarded_for(lines, inbound.peer)
        await self._pass(inbound, self._upstream, lines)

    async def _to_control(self, inbound: Inbound) -> None:
        """Hand what is for Locum itself to the control plane, and say who is connected."""
        lines = headers.for_upstream(inbound.head.headers, self._reserved)
        lines.append((_CLIENT_HEADER, inbound.peer.encode("ascii")))
        await self._pass(inbound, self._control, lines)

    async def _pass(self, inbound: Inbound, upstream: Upstream, lines: list[tuple[bytes, bytes]]) -> None:
        head = RequestHead(method=inbound.head.method, target=inbound.head.target, headers=tuple(lines))
        try:
            response = await upstream.send(head, inbound.body() if inbound.has_body else None)
        except UpstreamFault as fault:
            log.warning("the upstream did not answer: %s", fault)
            await replies.report_fault(inbound, fault)
            return
        try:
            answer = ResponseHead(
                status=response.head.status,
                reason=response.head.reason,
                headers=tuple(headers.for_client(response.head.headers)),
            )
            await inbound.respond(answer, response.body)
        except UpstreamFault as fault:
            # The head is out already; only a broken connection can still tell the client.
            log.warning("the upstream broke off: %s", fault)
            inbound.abort()
        finally:
            await response.close()


def _fault(head: RequestHead) -> tuple[int, str] | None:
    """Say what keeps a message from being passed on for anybody, or None."""
    if head.version not in _VERSIONS:
        return 505, "send HTTP/1.1 or HTTP/1.0"
    if head.method in (b"CONNECT", b"TRACE"):
        return 405, "CONNECT and TRACE are not passed on"
    if not head.target.startswith(b"/") and not (head.target == b"*" and head.method == b"OPTIONS"):
        return 400, "send the request target as a path, with the host in the Host header"
    framing = headers.framing_fault(head)
    return (400, framing) if framing else None
