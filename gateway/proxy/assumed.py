"""Assumed traffic: parse, load, decide, record, act; whatever goes wrong on the way refuses."""

import asyncio
import logging
from functools import partial
from random import getrandbits
from typing import Final, assert_never, cast

from gateway import cookie_names
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.audit.writing.strangers import Strangers
from gateway.clock import Clock, Ticks, boot_seconds
from gateway.counts import Counts
from gateway.grants.facts import FactCache
from gateway.proxy import headers, names, replies
from gateway.proxy.asker import Asker, Refused, Standing, judge_names
from gateway.proxy.banner import Banner
from gateway.proxy.browsers import Browsers, HeldCookies
from gateway.proxy.challenges import Challenges
from gateway.proxy.client_address import client_address
from gateway.proxy.cookies import CookieCredential
from gateway.proxy.course import Course
from gateway.proxy.forward import SWITCH, Onward, Sent, forward
from gateway.proxy.handshake import is_handshake
from gateway.proxy.identity import Assertions
from gateway.proxy.live import Exchange, Live
from gateway.proxy.names import Names
from gateway.proxy.peers import Trusts
from gateway.proxy.proofs import HeldKeys
from gateway.proxy.records import record_decision
from gateway.proxy.triage import AccountReader, Credential
from gateway.proxy.tunnel import carry_exchange
from gateway.proxy.wire import Headers, Inbound, RequestHead, ResponseHead, Upstream
from gateway.rarely import Rarely
from gateway.selftest.door import PREFIX as SELFTEST_PREFIX
from gateway.stores.store import StoreError
from gateway.tokens.signing import TokenRefused, TokenVerifier
from policy.decide import decide
from policy.model import AccessRequest, AssumptionClaims, Deny, DenyReason, Facts, Permit
from policy.routes import Profile
from policy.target import TargetError, parse_target

log = logging.getLogger(__name__)

_OURSELVES: Final = "locum"
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
        assertions: Assertions,
        challenges: Challenges,
        held_keys: HeldKeys,
        browsers: Browsers,
        known: Names,
        trusts: Trusts,
        live: Live,
        upstream: Upstream,
        control: Upstream,
        counts: Counts,
        clock: Clock,
        ticks: Ticks = boot_seconds,
        banner: Banner | None = None,
        strangers: Strangers | None = None,
    ) -> None:
        self._accounts = accounts
        self._verifier = verifier
        self._facts = facts
        self._profile = profile
        self._withheld = profile.withhold_cookies | cookie_names.ALL
        self._journal = journal
        self._assertions = assertions
        self._challenges = challenges
        self._held_keys = held_keys
        self._browsers = browsers
        self._known = known
        self._trusts = trusts
        self._live = live
        self._upstream = upstream
        self._control = control
        self._counts = counts
        self._clock = clock
        self._ticks = ticks
        self._banner = banner
        self._unrecorded = Rarely(log, ticks=ticks)
        self._strangers = strangers or Strangers(journal, ticks=ticks)

    async def answer(
        self, inbound: Inbound, kinds: int, credential: Credential | CookieCredential | DenyReason | None
    ) -> None:
        """Answer one request; nothing of it goes upstream without a Permit on the record.

        `kinds` are those of its headers' names, all together.
        """
        self._counts.assumed += 1
        began = self._ticks()
        request_id = f"req_{getrandbits(64):016x}"  # told apart, never guessed against
        try:
            held = await self._admit(credential, began) if isinstance(credential, CookieCredential) else None
            request = self._parse(inbound, kinds, credential, held)
            facts = self._facts.at_hand(request.account, request.claims) or await self._load(request, began)
        except Refused as refused:
            await self._refuse(inbound, refused.deny, request_id, refused.claims, _NO_FACTS)
            return
        decision = decide(request, facts, self._profile, now=self._clock())
        match decision:
            case Deny():
                await self._refuse(inbound, decision, request_id, request.claims, facts)
            case Permit():
                exchange = self._live.open(request, facts, decision)
                try:
                    await self._permitted(inbound, kinds, exchange, request_id, began)
                finally:
                    self._live.close(exchange)
            case _:
                assert_never(decision)

    async def _admit(self, credential: CookieCredential, began: float) -> AssumptionClaims:
        """Return what a browser's cookie stands for, asked anew for each request; raises Refused."""
        try:
            async with self._patience(began):
                held = await self._browsers.admit(credential)
        except (StoreError, TimeoutError) as exc:
            raise Refused(Deny(reason=DenyReason.STORE_UNAVAILABLE)) from exc
        if isinstance(held, Deny):
            raise Refused(held)
        return held

    def _parse(
        self,
        inbound: Inbound,
        kinds: int,
        credential: Credential | CookieCredential | DenyReason | None,
        held: AssumptionClaims | None,
    ) -> AccessRequest:
        """Return the request in its one reading, its credential verified; raises Refused.

        `held` is what a cookie stands for.
        """
        head = inbound.head
        if credential is None:
            raise Refused(Deny(reason=DenyReason.TOKEN_MISSING))
        if isinstance(credential, DenyReason):
            raise Refused(Deny(reason=credential))
        caller = self._caller(head)
        if caller is None:
            caller = self._identify(inbound, kinds, credential, held)
            head.kept[_CALLER] = caller
        claims, account = caller.claims, caller.account
        if kinds & names.UPGRADE and not is_handshake(head):
            raise Refused(Deny(reason=DenyReason.UPGRADE_NOT_ALLOWED), claims)
        try:
            target = parse_target(head.target)
        except TargetError as exc:
            raise Refused(Deny(reason=DenyReason.AMBIGUOUS_TARGET, detail=str(exc)), claims) from exc
        if caller.bound and isinstance(credential, Credential):
            self._prove(head, credential, caller)
        return AccessRequest(
            method=head.method.decode("latin-1"),
            target=target,
            account=account,
            audience=caller.audience,
            claims=claims,
            has_body=inbound.has_body,
            overrides=kinds & names.OVERRIDE != 0,
            upgrades=kinds & names.UPGRADE != 0,
            cross_site=caller.cross_site,
        )

    def _identify(
        self,
        inbound: Inbound,
        kinds: int,
        credential: Credential | CookieCredential,
        held: AssumptionClaims | None,
    ) -> Asker:
        """Return whose credential it is, for which account, and that no header says otherwise; raises Refused."""
        head = inbound.head
        browser = credential if isinstance(credential, CookieCredential) else None
        claims = held if held is not None else self._verify(credential)
        account = self._accounts.read(head, inbound.peer)
        if account is None:
            raise Refused(Deny(reason=DenyReason.UNKNOWN_ACCOUNT), claims)
        if (reason := judge_names(head, kinds)) is not None:
            raise Refused(Deny(reason=reason), claims)
        lines = headers.for_upstream_of_staff(
            head.headers, self._known, kinds, self._withheld, held=browser is not None
        )
        if kinds & names.UPGRADE:
            lines += SWITCH
        audience = self._accounts.host_of(account)
        if head.version == (1, 0) and not headers.values(head.headers, b"host"):
            lines.insert(0, (b"Host", audience.encode("ascii")))  # accounts are told apart otherwise
        return Asker(
            by=self,
            claims=claims,
            account=account,
            audience=audience,
            lines=tuple(lines),
            browser=browser,
            bound=claims.key is not None or (isinstance(credential, Credential) and credential.dpop),
            cross_site=browser is not None and not self._browsers.is_own_page(head.headers),
        )

    def _prove(self, head: RequestHead, credential: Credential, caller: Asker) -> None:
        """Go on if the request itself proves that its sender holds the token's key; raises Refused."""
        refused = self._held_keys.judge(head, credential, caller.claims, caller.account)
        if refused is not None:
            raise Refused(refused, caller.claims)

    def _verify(self, credential: Credential | CookieCredential) -> AssumptionClaims:
        if isinstance(credential, CookieCredential):
            raise Refused(Deny(reason=DenyReason.COOKIE_UNKNOWN))
        try:
            return self._verifier.verify(credential.token)
        except TokenRefused as exc:
            raise Refused(Deny(reason=DenyReason.TOKEN_INVALID)) from exc

    def _caller(self, head: RequestHead) -> Asker | None:
        """Return what is kept of the head's lines, unless the configuration or the keys have changed since."""
        caller: Asker | None = head.kept.get(_CALLER)
        if caller is None or caller.by is not self or not self._verifier.counts(caller.claims):
            return None
        return caller

    def _patience(self, began: float) -> asyncio.Timeout:
        """Limit a wait for the store to what is left of the request's time: all its waits share one."""
        return asyncio.timeout(self._facts.patience_seconds - (self._ticks() - began))

    async def _load(self, request: AccessRequest, began: float) -> Facts:
        try:
            async with self._patience(began):
                facts = await self._facts.of_request(request.account, request.claims)
        except (StoreError, TimeoutError) as exc:
            raise Refused(Deny(reason=DenyReason.STORE_UNAVAILABLE), request.claims) from exc
        if not self._verifier.counts(request.claims):
            # Its key has ended meanwhile.
            raise Refused(Deny(reason=DenyReason.TOKEN_INVALID))
        return facts

    async def _permitted(self, inbound: Inbound, kinds: int, exchange: Exchange, request_id: str, began: float) -> None:
        """Record the permit, then send the request on, and note how that ended."""
        request, browser, held = exchange.request, cast("Asker", inbound.head.kept[_CALLER]).browser, None
        try:
            if browser is not None:
                held = await self._hold(browser, inbound.head, exchange.permit, began)
        except (StoreError, TimeoutError):
            without = Deny(reason=DenyReason.STORE_UNAVAILABLE)
            await self._refuse(inbound, without, request_id, request.claims, exchange.facts)
            return
        record = self._record(inbound, exchange.facts, request.claims, request_id, exchange.permit)
        course = Course(
            self._journal,
            record,
            inbound,
            account=request.account,
            assumption=request.claims.assumption,
            began=began,
            ticks=self._ticks,
        )
        try:
            course.seq = await self._journal.append(record, durable=exchange.permit.writes, instead=course.abandoned)
        except JournalError:
            course.deny = unrecorded = Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
            self._counts.refusals[unrecorded.reason] += 1
            await replies.refuse(inbound, unrecorded, request_id=request_id)
            return
        with course:
            course.deny = exchange.begin(inbound.abort)
            if course.deny is not None:
                # The customer took it back while it was being recorded.
                await self._tell(inbound, course.deny, request_id)
                return
            try:
                await self._send(inbound, kinds, exchange, held, course)
            finally:
                course.deny = exchange.verdict()
                if course.deny is not None:
                    self._counts.cuts[course.deny.reason] += 1

    async def _send(
        self, inbound: Inbound, kinds: int, exchange: Exchange, held: HeldCookies | None, course: Course
    ) -> None:
        """Send a request on, whose permit is on the record, and its answer back."""
        caller = cast("Asker", inbound.head.kept[_CALLER])
        self._counts.permits += 1
        if caller.browser is not None:
            self._browsers.note_use(caller.browser)
        # Not the permit that was recorded: a change meanwhile may have left less of it.
        onward = self._onward(caller, inbound.head, exchange.permit)
        ours = (*onward.said, (b"X-Locum-Request", course.request_id))
        lines, sign = onward.lines if held is None else onward.lines.more(held.lines), None
        if self._banner is not None and held is not None:
            sign = self._banner.over(inbound.head, exchange.permit, exchange.facts)
            lines = lines if sign is None else sign.asked(lines)
        course.begun = True
        # Trailers would come behind the decision, so those of a request go nowhere.
        course.sent = await forward(
            inbound,
            self._control if inbound.head.target.startswith(SELFTEST_PREFIX) else self._upstream,
            lines.head(inbound.head),
            answer=partial(self._answer, ours, held),
            known=self._known,
            upgrade=kinds & names.UPGRADE != 0,
            carry=partial(carry_exchange, exchange),
            keep=None if held is None else held.keep,
            insert=None if sign is None else sign.into,
        )
        if course.sent is not Sent.AT_ONCE and course.sent is not Sent.UNANSWERED:
            # It is open, and can be cut, for as long as the kernel has some of it.
            await inbound.delivered()

    async def _hold(self, browser: CookieCredential, head: RequestHead, permit: Permit, began: float) -> HeldCookies:
        """Return the app's cookies that are held for whoever comes with a browser; raises StoreError, TimeoutError."""
        async with self._patience(began):
            return await self._browsers.hold(browser, head.target, until=permit.ends_at)

    def _answer(self, ours: Headers, held: HeldCookies | None, head: ResponseHead) -> ResponseHead:
        """Return the response's head as staff get it; if the app's cookies are held, with those for its scripts."""
        is_ours = self._browsers.withholds
        lines = headers.for_staff(head.headers, self._known, self._withheld, is_ours=is_ours, held=held is not None)
        shown = held.shown(head.headers) if held is not None and head.status >= 200 else ()
        return ResponseHead(status=head.status, reason=head.reason, headers=(*lines, *shown, *ours))

    def _onward(self, caller: Asker, head: RequestHead, permit: Permit) -> Standing:
        identity = self._assertions.lines(permit, head, caller.audience, self._clock)
        onward = caller.onward
        if onward is None or identity is not onward.identity or permit.ends_at != onward.ends_at:
            until = permit.ends_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")
            onward = caller.onward = Standing(
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
        append = self._strangers.append if claims is None else self._journal.append
        try:
            await append(self._record(inbound, facts, claims, request_id, deny))
        except JournalError as exc:
            self._unrecorded.error("a refusal could not be recorded: request %s, %s: %s", request_id, deny.reason, exc)
            deny = Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
        await self._tell(inbound, deny, request_id)

    async def _tell(self, inbound: Inbound, deny: Deny, request_id: str) -> None:
        self._counts.refusals[deny.reason] += 1
        said = self._challenges.of(deny, self._accounts.read(inbound.head, inbound.peer))
        farewell = self._browsers.farewell(inbound.head, deny)
        nonce = self._held_keys.nonce(deny)
        await replies.refuse(inbound, deny, request_id=request_id, said=said, nonce=nonce, farewell=farewell)

    def _record(
        self,
        inbound: Inbound,
        facts: Facts,
        claims: AssumptionClaims | None,
        request_id: str,
        decision: Permit | Deny,
    ) -> Record:
        head = inbound.head
        kept: Asker | None = head.kept.get(_CALLER)
        return record_decision(
            decision,
            head,
            facts,
            claims,
            # Which account is asked is the same whether or not the keys of then still count.
            account=kept.account if kept is not None and kept.by is self else self._accounts.read(head, inbound.peer),
            client_ip=lambda: client_address(head, inbound.peer, self._trusts) or None,
            request_id=request_id,
            where=self._where,
        )

    def _where(self, head: RequestHead) -> str:
        return _OURSELVES if head.target.startswith(SELFTEST_PREFIX) else self._upstream.where(head)
