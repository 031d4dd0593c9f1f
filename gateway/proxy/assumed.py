"""Assumed traffic: parse, load, decide, record, act; whatever goes wrong on the way refuses."""

import asyncio
import logging
from datetime import datetime
from functools import partial
from random import getrandbits
from typing import Final, assert_never

import msgspec

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.owed import Debts
from gateway.audit.record import Record
from gateway.clock import Clock
from gateway.counts import Counts
from gateway.grants.facts import FactCache
from gateway.grants.patience import FACTS_SECONDS
from gateway.proxy import headers, names, replies
from gateway.proxy.forward import SWITCH, Onward, forward
from gateway.proxy.handshake import is_handshake
from gateway.proxy.identity import Assertions
from gateway.proxy.live import Exchange, Live
from gateway.proxy.names import Names
from gateway.proxy.records import record_decision
from gateway.proxy.triage import AccountReader, Credential
from gateway.proxy.tunnel import Tunnel
from gateway.proxy.wire import ByteStream, Headers, Inbound, RequestHead, ResponseHead, Upstream
from gateway.selftest.door import PREFIX as SELFTEST_PREFIX
from gateway.stores.store import StoreError
from gateway.tokens.signing import TokenRefused, TokenVerifier
from policy.decide import decide
from policy.model import AccessRequest, AccountId, AssumptionClaims, Deny, DenyReason, Facts, Permit
from policy.routes import Profile
from policy.target import TargetError, parse_target

log = logging.getLogger(__name__)

_CALLER: Final = "the caller"
_NO_FACTS = Facts(account=None, grant=None, assumption=None, staff=None)


class AssumedTraffic:
    """Answers every request that claims, or has, to be a staff member's."""

    def __init__(
        self,
        *,
        accounts: AccountReader,
        verifier: TokenVerifier,
        facts: FactCache,
        profile: Profile,
        journal: AuditLog,
        owed: Debts,
        assertions: Assertions,
        known: Names,
        live: Live,
        upstream: Upstream,
        control: Upstream,
        counts: Counts,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._verifier = verifier
        self._facts = facts
        self._profile = profile
        self._journal = journal
        self._owed = owed
        self._assertions = assertions
        self._known = known
        self._live = live
        self._upstream = upstream
        self._control = control
        self._counts = counts
        self._clock = clock

    async def answer(self, inbound: Inbound, kinds: int, credential: Credential | DenyReason | None) -> None:
        """Answer one request; nothing of it goes upstream without a Permit on the record.

        `kinds` are those of its headers' names, all together.
        """
        self._counts.assumed += 1
        request_id = f"req_{getrandbits(64):016x}"  # told apart, never guessed against
        try:
            request = self._parse(inbound, kinds, credential)
            facts = self._facts.at_hand(request.account, request.claims) or await self._load(request)
        except _Refused as refused:
            await self._refuse(inbound, refused.deny, request_id, refused.claims, _NO_FACTS)
            return
        decision = decide(request, facts, self._profile, now=self._clock())
        match decision:
            case Deny():
                await self._refuse(inbound, decision, request_id, request.claims, facts)
            case Permit():
                exchange = self._live.open(request, facts, decision)
                try:
                    await self._permitted(inbound, kinds, exchange, request_id)
                finally:
                    self._live.close(exchange)
            case _:
                assert_never(decision)

    def _parse(self, inbound: Inbound, kinds: int, credential: Credential | DenyReason | None) -> AccessRequest:
        """Return the request in its one reading, its token verified; raises _Refused."""
        head = inbound.head
        if credential is None:
            raise _Refused(Deny(reason=DenyReason.TOKEN_MISSING))
        if isinstance(credential, DenyReason):
            raise _Refused(Deny(reason=credential))
        caller = self._caller(head)
        if caller is None:
            caller = self._identify(inbound, kinds, credential)
            head.kept[_CALLER] = caller
        claims, account = caller.claims, caller.account
        if kinds & names.UPGRADE and not is_handshake(head):
            raise _Refused(Deny(reason=DenyReason.UPGRADE_NOT_ALLOWED), claims)
        try:
            target = parse_target(head.target)
        except TargetError as exc:
            raise _Refused(Deny(reason=DenyReason.AMBIGUOUS_TARGET, detail=str(exc)), claims) from exc
        return AccessRequest(
            method=head.method.decode("latin-1"),
            target=target,
            account=account,
            audience=caller.audience,
            claims=claims,
            has_body=inbound.has_body,
            overrides=kinds & names.OVERRIDE != 0,
            upgrades=kinds & names.UPGRADE != 0,
        )

    def _identify(self, inbound: Inbound, kinds: int, credential: Credential) -> "_Caller":
        """Return whose token it is, for which account, and that no header says otherwise; raises _Refused."""
        head = inbound.head
        try:
            claims = self._verifier.verify(credential.token)
        except TokenRefused as exc:
            raise _Refused(Deny(reason=DenyReason.TOKEN_INVALID)) from exc
        account = self._accounts.read(head, inbound.peer)
        if account is None:
            raise _Refused(Deny(reason=DenyReason.UNKNOWN_ACCOUNT), claims)
        if (reason := _judge_names(head, kinds)) is not None:
            raise _Refused(Deny(reason=reason), claims)
        lines = headers.for_upstream_of_staff(head.headers, self._known, kinds, self._profile.withhold_cookies)
        if kinds & names.UPGRADE:
            lines += SWITCH
        audience = self._accounts.host_of(account)
        if not headers.values(head.headers, b"host"):
            lines.insert(0, (b"Host", audience.encode("ascii")))  # HTTP/1.0, and accounts are told apart otherwise
        return _Caller(by=self, claims=claims, account=account, audience=audience, lines=tuple(lines))

    def _caller(self, head: RequestHead) -> "_Caller | None":
        """Return what is kept of the head's lines, unless somebody with another configuration has kept it."""
        caller: _Caller | None = head.kept.get(_CALLER)
        return caller if caller is not None and caller.by is self else None

    async def _load(self, request: AccessRequest) -> Facts:
        try:
            async with asyncio.timeout(FACTS_SECONDS):
                return await self._facts.of_request(request.account, request.claims)
        except (StoreError, TimeoutError) as exc:
            raise _Refused(Deny(reason=DenyReason.STORE_UNAVAILABLE), request.claims) from exc

    async def _permitted(self, inbound: Inbound, kinds: int, exchange: Exchange, request_id: str) -> None:
        """Record the permit, then send the request on."""
        request = exchange.request
        record = self._record(inbound, exchange.facts, request.claims, request_id, exchange.permit)
        try:
            await self._journal.append(record, durable=exchange.permit.writes)
        except JournalError:
            unrecorded = Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
            self._counts.refusals[unrecorded.reason] += 1
            await replies.refuse(inbound, unrecorded, request_id=request_id)
            return
        if (verdict := exchange.begin(inbound.abort)) is not None:
            # The customer took it back while it was being recorded.
            await self._refuse(inbound, verdict, request_id, request.claims, exchange.facts)
            return
        self._counts.permits += 1
        # Not the permit that was recorded: a change meanwhile may have left less of it.
        onward = self._onward(inbound.head, exchange.permit)
        ours = (*onward.said, (b"X-Locum-Request", request_id.encode("ascii")))
        try:
            # Trailers would come behind the decision, so those of a request go nowhere.
            much = await forward(
                inbound,
                self._control if inbound.head.target.startswith(SELFTEST_PREFIX) else self._upstream,
                onward.lines.head(inbound.head),
                answer=partial(self._answer, ours),
                known=self._known,
                upgrade=kinds & names.UPGRADE != 0,
                carry=partial(_carry, exchange),
            )
            if much:
                # It is open, and can be cut, for as long as the kernel has some of it.
                await inbound.delivered()
        finally:
            if (verdict := exchange.verdict()) is not None:
                await self._note_cut(inbound, exchange, verdict, request_id)

    def _answer(self, ours: Headers, head: ResponseHead) -> ResponseHead:
        """Return the response's head as staff get it."""
        lines = headers.for_staff(head.headers, self._known, self._profile.withhold_cookies)
        return ResponseHead(status=head.status, reason=head.reason, headers=(*lines, *ours))

    def _onward(self, head: RequestHead, permit: Permit) -> "_Onward":
        caller: _Caller = head.kept[_CALLER]
        identity = self._assertions.lines(permit, head, caller.audience, self._clock)
        onward = caller.onward
        if onward is None or identity is not onward.identity or permit.ends_at != onward.ends_at:
            until = permit.ends_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")
            onward = caller.onward = _Onward(
                identity=identity,
                ends_at=permit.ends_at,
                lines=Onward.of((*caller.lines, *identity)),
                said=(
                    (b"Cache-Control", b"no-store"),
                    (b"X-Locum-Session", permit.assumption.encode("ascii")),
                    (b"X-Locum-Expires", until),
                ),
            )
        return onward

    async def _refuse(
        self, inbound: Inbound, deny: Deny, request_id: str, claims: AssumptionClaims | None, facts: Facts
    ) -> None:
        """Record a refusal and send it; a refusal that cannot be recorded is still one."""
        try:
            await self._journal.append(self._record(inbound, facts, claims, request_id, deny))
        except JournalError:
            log.exception("a refusal could not be recorded: request %s, %s", request_id, deny.reason)
            deny = Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
        self._counts.refusals[deny.reason] += 1
        await replies.refuse(inbound, deny, request_id=request_id)

    async def _note_cut(self, inbound: Inbound, exchange: Exchange, verdict: Deny, request_id: str) -> None:
        self._counts.cuts[verdict.reason] += 1
        cut = self._record(inbound, exchange.facts, exchange.request.claims, request_id, verdict)
        cut.bytes_received, cut.bytes_sent = inbound.received, inbound.sent
        try:
            await self._journal.append(cut)
        except JournalError:
            log.exception("the cut of request %s could not be recorded yet", request_id)
            # As many at the most as were open when the journal failed: without it nothing begins.
            self._owed.add(cut)

    def _record(
        self,
        inbound: Inbound,
        facts: Facts,
        claims: AssumptionClaims | None,
        request_id: str,
        decision: Permit | Deny,
    ) -> Record:
        caller = self._caller(inbound.head)
        return record_decision(
            decision,
            inbound.head,
            facts,
            claims,
            account=caller.account if caller is not None else self._accounts.read(inbound.head, inbound.peer),
            client_ip=inbound.peer or None,
            request_id=request_id,
        )


async def _carry(exchange: Exchange, client: ByteStream, upstream: ByteStream) -> None:
    """Make the two one until either ends, or the exchange is cut, which says goodbye where it can."""
    tunnel = Tunnel(client, upstream, follows=True)
    if exchange.begin(tunnel.cut) is not None:
        tunnel.cut()
    await tunnel.carry()


def _judge_names(head: RequestHead, kinds: int) -> DenyReason | None:
    """Say what is wrong with the headers' names, or None: each must mean one thing, and none what only we may say."""
    if kinds & names.CONNECTION and headers.is_odd_nomination(head.headers):
        return DenyReason.AMBIGUOUS_HEADER
    if kinds & names.IDENTITY:
        return DenyReason.FORGED_HEADER
    if kinds & names.ODD:
        return DenyReason.AMBIGUOUS_HEADER
    return None


class _Onward(msgspec.Struct, frozen=True, kw_only=True):
    """What goes on, and what is said back, as long as the identity and its end are the same."""

    identity: Headers
    ends_at: datetime
    lines: Onward
    """To the app, with the identity."""
    said: Headers
    """To staff, with every response."""


class _Caller(msgspec.Struct, kw_only=True):
    """What the header lines of a staff member's request say: all but its method, target and body."""

    by: AssumedTraffic
    """Who has worked it out."""
    claims: AssumptionClaims
    account: AccountId
    audience: str
    """The account's host."""
    lines: Headers
    """Those that go on, without the identity."""
    onward: _Onward | None = None


class _Refused(Exception):
    """Carries a refusal out of parsing and loading."""

    def __init__(self, deny: Deny, claims: AssumptionClaims | None = None) -> None:
        super().__init__(deny.reason)
        self.deny = deny
        self.claims = claims
