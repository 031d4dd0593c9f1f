"""The enforcement point: every request of every customer comes through here.

Ordinary traffic passes without a look at the store, the journal or the issuer, so none of them can stop it. A request
that carries a token of ours, or that a catch rule says must be staff's, goes the other way, and never comes back.
"""

import asyncio
from typing import Final

import msgspec

from gateway.caller import CLIENT_HEADER
from gateway.counts import Counts
from gateway.proxy import headers, names, replies
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.control import LONGEST_SECONDS, ControlShares
from gateway.proxy.forward import SWITCH, Onward, forward
from gateway.proxy.handshake import is_handshake
from gateway.proxy.names import Names
from gateway.proxy.triage import CatchRules, Credential, find_credential
from gateway.proxy.wire import Inbound, RequestHead, ResponseHead, Upstream
from gateway.selftest.door import PREFIX as SELFTEST_PREFIX
from gateway.tokens.signing import OUR_BEGINNING, TokenVerifier
from policy.model import DenyReason

CONTROL_PREFIX = b"/.locum/"
_READING: Final = "the reading"
_CLIENT_HEADER = CLIENT_HEADER.encode("ascii")


class ProxyHandler:
    """Answers each request of the public listener."""

    def __init__(
        self,
        *,
        upstream: Upstream,
        control: Upstream,
        shares: ControlShares,
        assumed: AssumedTraffic,
        verifier: TokenVerifier,
        catch: CatchRules,
        known: Names,
        counts: Counts,
        default_host: str,
        append_forwarded_for: bool,
    ) -> None:
        """Give requests of HTTP/1.0 that name no host the `default_host`."""
        self._upstream = upstream
        self._control = control
        self._shares = shares
        self._assumed = assumed
        self._verifier = verifier
        self._catch = catch
        self._known = known
        self._counts = counts
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
        reading: _Reading | None = head.kept.get(_READING)
        if reading is None or reading.by is not self:
            reading = head.kept[_READING] = self._read(head, inbound.peer)
        if target.startswith(CONTROL_PREFIX):
            if target.startswith(SELFTEST_PREFIX):
                await self._assumed.answer(inbound, reading.kinds, reading.credential)
            else:
                await self._to_control(inbound, reading.kinds)
            return
        credential = DenyReason.AMBIGUOUS_HEADER if OUR_BEGINNING in target else reading.credential
        if credential is not None or reading.onward is None:
            await self._assumed.answer(inbound, reading.kinds, credential)
            return
        self._counts.ordinary += 1
        if reading.kinds & names.UPGRADE and not inbound.has_body and is_handshake(head):
            # What goes on must be one, too: `Connection` may have taken a part of it.
            onward = Onward.of([*reading.onward.headers, *SWITCH])
            if is_handshake(onward.head(head)):
                await self._pass(inbound, self._upstream, onward, upgrade=True)
                return
        await self._pass(inbound, self._upstream, reading.onward)

    def _read(self, head: RequestHead, peer: str) -> "_Reading":
        kinds = self._known.among(head.headers)
        credential = find_credential(head.headers, kinds, self._verifier)
        if credential is not None or self._catch.fit(head, peer):
            return _Reading(by=self, kinds=kinds, credential=credential, onward=None)
        lines = headers.for_upstream(head.headers, self._known, kinds)
        if self._append and peer:
            lines = headers.with_forwarded_for(lines, kinds, peer)
        if head.version == (1, 0) and not headers.values(head.headers, b"host"):
            lines.insert(0, self._default_host)
        return _Reading(by=self, kinds=kinds, credential=None, onward=Onward.of(lines))

    async def _to_control(self, inbound: Inbound, kinds: int) -> None:
        """Hand what is for Locum itself to the control plane, and say who is connected."""
        self._counts.control += 1
        lines = headers.for_upstream(inbound.head.headers, self._known, kinds)
        lines.append((_CLIENT_HEADER, inbound.peer.encode("ascii")))
        with self._shares.share(inbound.peer) as is_left:
            if not is_left:
                await replies.turn_away(inbound, "too many of these requests from one address: try again in a moment")
                return
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    await self._pass(inbound, self._control, Onward.of(lines))
            except TimeoutError:
                inbound.abort()

    async def _pass(self, inbound: Inbound, upstream: Upstream, onward: Onward, *, upgrade: bool = False) -> None:
        await forward(
            inbound,
            upstream,
            onward.head(inbound.head),
            answer=self._answer,
            known=self._known,
            upgrade=upgrade,
            trailers=(lambda: headers.behind(inbound.trailers(), self._known)) if inbound.has_body else None,
        )

    def _answer(self, head: ResponseHead) -> ResponseHead:
        lines = headers.for_client(head.headers, self._known)
        return head if lines is head.headers else ResponseHead(status=head.status, reason=head.reason, headers=lines)


class _Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the header lines of a request say, and whoever is connected."""

    by: ProxyHandler
    """Who has worked it out."""
    kinds: int
    credential: Credential | DenyReason | None
    onward: Onward | None
    """To the app; None for what must be staff's, by its credential or by a catch rule."""
