"""Assumed traffic: parse, load, decide, record, act; whatever goes wrong on the way refuses."""

import asyncio
import logging
from functools import partial
from random import getrandbits
from typing import Final, assert_never

from gateway import cookie_names
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.audit.writing.strangers import Strangers
from gateway.clock import Clock, Ticks, boot_seconds
from gateway.counts import Counts
from gateway.grants.facts import FactCache
from gateway.proxy import headers, names, replies
from gateway.proxy.asker import Asker, Refused, Standing
from gateway.proxy.banner import Banner
from gateway.proxy.browsers import Browsers, HeldCookies
from gateway.proxy.challenges import Challenges
from gateway.proxy.client_address import client_address
from gateway.proxy.cookies import CookieCredential
from gateway.proxy.course import Course
from gateway.proxy.forward import Onward, Sent, forward
from gateway.proxy.forwarded import Forwarding
from gateway.proxy.identity import Assertions
from gateway.proxy.live import Exchange, Live
from gateway.proxy.names import Names
from gateway.proxy.peers import Trusts
from gateway.proxy.proofs import HeldKeys
from gateway.proxy.records import record_decision
from gateway.proxy.staff_request import Claimed, StaffRequests
from gateway.proxy.triage import AccountReader
from gateway.proxy.tunnel import carry_exchange, join
from gateway.proxy.wire import Headers, Inbound, RequestHead, ResponseHead, Upstream
from gateway.rarely import Rarely
from gateway.selftest.door import PREFIX as SELFTEST_PREFIX
from gateway.stores.store import StoreError
from gateway.tokens.signing import TokenVerifier
from policy.decide import decide
from policy.model import AccessRequest, AccountId, AssumptionClaims, Deny, DenyReason, Facts, Permit
from policy.routes import Profile

log = logging.getLogger(__name__)

_OURSELVES: Final = "locum"
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
        forwarding: Forwarding,
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
        self._requests = StaffRequests(
            accounts=accounts,
            verifier=verifier,
            held_keys=held_keys,
            browsers=browsers,
            known=known,
            forwarding=forwarding,
            withheld=self._withheld,
        )
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

    async def answer(self, inbound: Inbound, kinds: int, credential: Claimed) -> None:
        """Answer one request; nothing of it goes upstream without a Permit on the record.

        `kinds` are those of its headers' names, all together.
        """
        self._counts.assumed += 1
        began = self._ticks()
        request_id = f"req_{getrandbits(64):016x}"  # told apart, never guessed against
        try:
            held = None
            if isinstance(credential, CookieCredential):
                held = await self._requests.admit(credential, self._patience(began))
            request, asker = self._requests.read(inbound, kinds, credential, held)
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
                    await self._permitted(inbound, kinds, asker, exchange, request_id=request_id, began=began)
                finally:
                    self._live.close(exchange)
            case _:
                assert_never(decision)

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

    async def _permitted(
        self, inbound: Inbound, kinds: int, asker: Asker, exchange: Exchange, *, request_id: str, began: float
    ) -> None:
        """Record the permit, then send the request on, and note how that ended."""
        request, held = exchange.request, None
        if asker.browser is not None:
            try:
                held = await self._hold(asker.browser, inbound.head, exchange.permit, began)
            except (StoreError, TimeoutError):
                without = Deny(reason=DenyReason.STORE_UNAVAILABLE)
                await self._refuse(inbound, without, request_id, request.claims, exchange.facts)
                return
        record = self._record(
            inbound, exchange.facts, request.claims, exchange.permit, request_id=request_id, account=asker.account
        )
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
                await self._send(inbound, kinds, asker, exchange, held=held, course=course)
            finally:
                course.deny = exchange.verdict()
                if course.deny is not None:
                    self._counts.cuts[course.deny.reason] += 1

    async def _send(
        self,
        inbound: Inbound,
        kinds: int,
        asker: Asker,
        exchange: Exchange,
        *,
        held: HeldCookies | None,
        course: Course,
    ) -> None:
        """Send a request on, whose permit is on the record, and its answer back."""
        self._counts.permits += 1
        if asker.browser is not None:
            self._browsers.note_use(asker.browser)
        # Not the permit that was recorded: a change meanwhile may have left less of it.
        onward, upgrade = self._onward(asker, inbound.head, exchange.permit), kinds & names.UPGRADE != 0
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
            upgrade=upgrade,
            carry=partial(carry_exchange, exchange) if upgrade else join,
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

    def _onward(self, asker: Asker, head: RequestHead, permit: Permit) -> Standing:
        identity = self._assertions.lines(permit, head, asker.audience, self._clock)
        onward = asker.onward
        if onward is None or identity is not onward.identity or permit.ends_at != onward.ends_at:
            until = permit.ends_at.strftime("%Y-%m-%dT%H:%M:%SZ").encode("ascii")
            onward = asker.onward = Standing(
                identity=identity,
                ends_at=permit.ends_at,
                lines=Onward.of((*asker.lines, *identity)),
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
        # Which account is asked is the same whether or not the keys of then still count.
        asker = self._requests.asker(inbound.head)
        account = self._accounts.read(inbound.head, inbound.peer) if asker is None else asker.account
        try:
            await append(self._record(inbound, facts, claims, deny, request_id=request_id, account=account))
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
        decision: Permit | Deny,
        *,
        request_id: str,
        account: AccountId | None,
    ) -> Record:
        head = inbound.head
        return record_decision(
            decision,
            head,
            facts,
            claims,
            account=account,
            client_ip=lambda: client_address(head.headers, inbound.peer, self._trusts) or None,
            request_id=request_id,
            where=self._where,
        )

    def _where(self, head: RequestHead) -> str:
        return _OURSELVES if head.target.startswith(SELFTEST_PREFIX) else self._upstream.where(head)
