"""The enforcement point: every request of every customer comes through here.

Ordinary traffic passes without a look at the store, the journal or the issuer, so none of them can stop it. A request
that carries a token of ours, or that a catch rule says must be staff's, goes the other way, and never comes back.
"""

from gateway.caller import CLIENT_HEADER
from gateway.proxy import headers, names, replies
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.forward import SWITCH, forward
from gateway.proxy.handshake import is_handshake
from gateway.proxy.headers import Lines
from gateway.proxy.names import Names
from gateway.proxy.triage import CatchRules, find_credential
from gateway.proxy.wire import Inbound, RequestHead, ResponseHead, Upstream
from gateway.tokens.signing import TokenVerifier

CONTROL_PREFIX = b"/.locum/"
_CLIENT_HEADER = CLIENT_HEADER.encode("ascii")


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
        known: Names,
        default_host: str,
        append_forwarded_for: bool,
    ) -> None:
        """Give requests of HTTP/1.0 that name no host the `default_host`."""
        self._upstream = upstream
        self._control = control
        self._assumed = assumed
        self._verifier = verifier
        self._catch = catch
        self._known = known
        self._default_host = (b"Host", default_host.encode("ascii"))
        self._append = append_forwarded_for

    async def __call__(self, inbound: Inbound) -> None:
        """Answer one request."""
        head = inbound.head
        target = head.target
        if head.method in (b"CONNECT", b"TRACE"):
            await replies.report(inbound, 405, "CONNECT and TRACE are not passed on", kind="malformed")
            return
        if target[0] != 0x2F and not (target == b"*" and head.method == b"OPTIONS"):
            title = "send the request target as a path, with the host in the Host header"
            await replies.report(inbound, 400, title, kind="malformed")
            return
        kinds = self._known.among(head.headers)
        if target.startswith(CONTROL_PREFIX):
            lines = headers.for_upstream(head.headers, self._known, kinds)
            lines.append((_CLIENT_HEADER, inbound.peer.encode("ascii")))
            await self._pass(inbound, self._control, lines)
            return
        credential = find_credential(head, kinds, self._verifier)
        if credential is not None or self._catch.fit(head, inbound.peer):
            await self._assumed.answer(inbound, kinds, credential)
            return
        lines = headers.for_upstream(head.headers, self._known, kinds)
        if self._append and inbound.peer:
            lines = headers.with_forwarded_for(lines, kinds, inbound.peer)
        await self._pass(inbound, self._upstream, lines, upgrade=kinds & names.UPGRADE != 0 and is_handshake(head))

    async def _pass(self, inbound: Inbound, upstream: Upstream, lines: Lines, *, upgrade: bool = False) -> None:
        head = inbound.head
        if upgrade:
            lines += SWITCH
        if head.version == (1, 0) and not headers.values(head.headers, b"host"):
            lines.insert(0, self._default_host)
        await forward(
            inbound,
            upstream,
            RequestHead(method=head.method, target=head.target, headers=tuple(lines)),
            answer=self._answer,
            known=self._known,
            upgrade=upgrade,
            trailers=(lambda: headers.behind(inbound.trailers(), self._known)) if inbound.has_body else None,
        )

    def _answer(self, head: ResponseHead) -> ResponseHead:
        lines = headers.for_client(head.headers, self._known)
        return head if lines is head.headers else ResponseHead(status=head.status, reason=head.reason, headers=lines)
