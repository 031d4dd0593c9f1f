"""The enforcement point: every request of every customer comes through here.

Ordinary traffic passes without a look at the store, the journal or the issuer, so none of them can stop it. A request
that carries a token of ours, or that a catch rule says must be staff's, goes the other way, and never comes back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final

import msgspec

from gateway.caller import ACCOUNT_HEADER, ASSUMED_HEADER, CLIENT_HEADER
from gateway.console.account import door
from gateway.counts import Counts
from gateway.places import Places
from gateway.proxy import headers, names, replies
from gateway.proxy.assumed import AssumedTraffic
from gateway.proxy.client_address import client_address
from gateway.proxy.control import LONGEST_SECONDS, ControlShares, is_stream
from gateway.proxy.cookies import CookieCredential, OurCookies
from gateway.proxy.forward import SWITCH, Onward, Sent, forward
from gateway.proxy.forwarded import Forwarding
from gateway.proxy.handshake import is_handshake
from gateway.proxy.names import Names
from gateway.proxy.peers import Trusts
from gateway.proxy.triage import AccountReader, CatchRules, Credential, find_credential, names_host
from gateway.proxy.wire import Inbound, RequestHead, ResponseHead, Upstream
from gateway.selftest.door import PREFIX as SELFTEST_PREFIX
from gateway.tokens.signing import OUR_BEGINNING, TokenVerifier
from policy.model import DenyReason

CONTROL_PREFIX = b"/.locum/"
_DOT = b"/."  # how each of our paths begins, and hardly one of an app's
_READING: Final = "the reading"
_CLIENT_HEADER, _ACCOUNT_HEADER, _ASSUMED_HEADER = (
    name.encode("ascii") for name in (CLIENT_HEADER, ACCOUNT_HEADER, ASSUMED_HEADER)
)


class ProxyHandler:
    """Answers each request of the public listener."""

    def __init__(
        self,
        *,
        accounts: AccountReader,
        upstream: Upstream,
        control: Upstream,
        shares: ControlShares,
        assumed: AssumedTraffic,
        verifier: TokenVerifier,
        catch: CatchRules,
        known: Names,
        cookies: OurCookies,
        counts: Counts,
        default_host: str,
        places: Places,
        own_host: bytes | None,
        forwarding: Forwarding,
        trusts: Trusts,
    ) -> None:
        """Give requests of HTTP/1.0 that name no host the `default_host`; the app gets nothing of the `own_host`."""
        self._metadata = places.server_metadata.encode("ascii")
        self._issuer_host = places.host.encode("ascii")
        self._own_host = own_host
        self._accounts = accounts
        self._upstream = upstream
        self._control = control
        self._shares = shares
        self._assumed = assumed
        self._verifier = verifier
        self._catch = catch
        self._known = known
        self._cookies = cookies
        self._counts = counts
        self._default_host = (b"Host", default_host.encode("ascii"))
        self._forwarding = forwarding
        self._trusts = trusts

    async def __call__(self, inbound: Inbound) -> None:
        """Answer one request."""
        head = inbound.head
        target = head.target
        if head.method.upper() in (b"CONNECT", b"TRACE"):  # apps are not all as strict about case as RFC 9110
            await replies.report(inbound, 405, "CONNECT and TRACE are not passed on", kind="malformed")
            return
        if target[0] != 0x2F and not (target == b"*" and head.method == b"OPTIONS"):
            title = "send the request target as a path, with the host in the Host header"
            await replies.report(inbound, 400, title, kind="malformed")
            return
        reading: _Reading | None = head.kept.get(_READING)
        if reading is None or reading.by is not self:
            reading = head.kept[_READING] = self._read(head, inbound.peer)
        credential = DenyReason.AMBIGUOUS_HEADER if OUR_BEGINNING in target else reading.credential
        if target.startswith(_DOT) and self._is_ours(head):
            is_staffs = credential is not None or (reading.onward is None and not reading.is_own_host)
            if target.startswith(SELFTEST_PREFIX) or (is_staffs and door.may_lead_there(target)):
                await self._assumed.answer(inbound, reading.kinds, credential)
            else:
                await self._to_control(inbound, reading, is_staffs=is_staffs)
            return
        if reading.is_own_host:
            # A script of the app's would be one of our own pages' origin, and could read and send whatever they can.
            self._counts.control += 1
            title = "at this host there is nothing but Locum itself, where staff sign in: it is at /.locum/"
            await replies.report(inbound, 404, title, kind="not-here")
            return
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
        if self._own_host is not None and names_host(head.headers, self._own_host):
            return _Reading(by=self, kinds=kinds, credential=None, onward=None, is_own_host=True)
        credential: Credential | CookieCredential | DenyReason | None = find_credential(
            head.headers, kinds, self._verifier
        )
        own = head.headers
        if kinds & names.COOKIE and (found := self._cookies.find(own)) is not None:
            own = found.headers
            if found.assumption is not None:
                # With a token beside it nobody can tell who is asking.
                credential = found.assumption if credential is None else DenyReason.AMBIGUOUS_HEADER
        if credential is not None or self._catch.fit(head, peer):
            return _Reading(by=self, kinds=kinds, credential=credential, onward=None)
        lines = self._forwarding.for_customer(headers.for_upstream(own, self._known, kinds), kinds, peer)
        if head.version == (1, 0) and not headers.values(head.headers, b"host"):
            lines.insert(0, self._default_host)
        return _Reading(by=self, kinds=kinds, credential=None, onward=Onward.of(lines))

    def _is_ours(self, head: RequestHead) -> bool:
        """Tell whether a request is for Locum itself: below our prefix, and for our metadata on the issuer's host."""
        if head.target.startswith(CONTROL_PREFIX):
            return True
        # RFC 8414 section 3.1 puts it where every other host's own metadata is, which stays the app's.
        return head.target == self._metadata and names_host(head.headers, self._issuer_host)

    async def _to_control(self, inbound: Inbound, reading: "_Reading", *, is_staffs: bool) -> None:
        """Hand what is for Locum itself to the control plane, and say whose it is and for which account."""
        self._counts.control += 1
        lines = headers.for_upstream(inbound.head.headers, self._known, reading.kinds)
        client = client_address(inbound.head.headers, inbound.peer, self._trusts)
        lines.append((_CLIENT_HEADER, client.encode("ascii")))
        # Ours is no account's, even where every other host is one's: a customer's page is never there, beside staff's.
        account = None if reading.is_own_host else self._accounts.read(inbound.head, inbound.peer)
        if account is not None:
            lines.append((_ACCOUNT_HEADER, account.encode("utf-8")))
        if is_staffs:
            lines.append((_ASSUMED_HEADER, b"1"))
        with ExitStack() as place:
            if not place.enter_context(self._shares.share(inbound.peer)):
                await replies.turn_away(inbound, "too many of these requests from one address: try again in a moment")
                return

            def answer(head: ResponseHead) -> ResponseHead:
                if is_stream(head):
                    # It only waits from now on; an office's open pages keep nobody there from a sign-in.
                    place.close()
                return self._answer_of_ours(head)

            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    # Our own cookies pass here, both ways, and nowhere else.
                    await self._pass(inbound, self._control, Onward.of(lines), answer=answer)
            except TimeoutError:
                inbound.abort()

    def _pass(
        self,
        inbound: Inbound,
        upstream: Upstream,
        onward: Onward,
        *,
        upgrade: bool = False,
        answer: Callable[[ResponseHead], ResponseHead] | None = None,
    ) -> Awaitable[Sent]:
        return forward(
            inbound,
            upstream,
            onward.head(inbound.head),
            answer=answer or self._answer,
            known=self._known,
            upgrade=upgrade,
            trailers=(lambda: headers.behind(inbound.trailers(), self._known)) if inbound.has_body else None,
        )

    def _answer(self, head: ResponseHead) -> ResponseHead:
        kinds = self._known.among(head.headers)
        lines = headers.for_client(head.headers, self._known, kinds)
        if kinds & names.SET_COOKIE:
            lines = headers.without_set(lines, self._cookies.is_set)
        return head if lines is head.headers else ResponseHead(status=head.status, reason=head.reason, headers=lines)

    def _answer_of_ours(self, head: ResponseHead) -> ResponseHead:
        lines = headers.for_client(head.headers, self._known, self._known.among(head.headers))
        return ResponseHead(status=head.status, reason=head.reason, headers=lines)


class _Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What the header lines of a request say, and whoever is connected."""

    by: ProxyHandler
    """Who has worked it out."""
    kinds: int
    credential: Credential | CookieCredential | DenyReason | None
    onward: Onward | None
    """To the app; None for what must be staff's, by its credential or by a catch rule."""
    is_own_host: bool = False
    """Whether it is for the host where nothing is the app's."""
