"""Begins an assumption for a staff member who has signed in: load, decide, ask the app, record, store, decide again.

The token endpoint and the browser's form are two doors to this one way in.
"""

import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Actor, Record, name_actor
from gateway.audit.writing.strangers import Strangers
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.grants.facts import FactCache
from gateway.keyed_locks import KeyedLocks
from gateway.rarely import Rarely
from gateway.staff.verify import SignedIn
from gateway.stores.store import Store, StoreConflict, StoreError, TooManyAssumptions
from policy.exchange import ExchangeRequest, ExchangeTerms, Issue, exchange
from policy.model import AccountId, AgentId, Assumption, AssumptionId, ClientId, Deny, DenyReason, Facts, Staff, TokenId
from policy.scopes import format_scopes
from policy.staff import newest

log = logging.getLogger(__name__)

_MOST_TRIES = 3
_NO_FACTS = Facts(account=None, grant=None, assumption=None, staff=None)


class Decide(Protocol):
    """Decides about one exchange, on whatever the facts are by now."""

    def __call__(self, *, facts: Facts, now: datetime) -> Issue | Deny:
        """Return what to issue, or why nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An agent who exists, or whom nobody was asked about."""

    roles: frozenset[str] | None = None
    """In the app's words; None: not known."""


class AgentCheck(Protocol):
    """Knows whether an agent exists, and in which roles."""

    async def ask(self, issue: Issue, facts: Facts, *, request_id: str) -> Deny | Known:
        """Return why the assumption must not start, or what is known of the agent; raises JournalError.

        `facts` are those that the assumption will have once it has started, with `asking`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is known of one attempt to begin so far; all of it goes on the record."""

    caller: Caller
    client: ClientId | None = None
    """The program that asks for them."""
    asked: ExchangeRequest | None = None
    signed_in: SignedIn | None = None
    facts: Facts = _NO_FACTS
    key: str | None = None
    """The thumbprint of the key that the token is bound to (RFC 9449 section 6.1)."""

    def record(self, outcome: Deny | Issue) -> Record:
        """Return the journal's record of how it came out."""
        issued = outcome if isinstance(outcome, Issue) else None
        asked, grant = self.asked, self.facts.grant
        scopes = issued.assumption.scopes if issued else asked.scopes if asked else None
        return Record(
            kind="token",
            decision="allow" if issued else "deny",
            reason=str(outcome.reason) if isinstance(outcome, Deny) else None,
            actor=self._actor(issued),
            subject=AgentId(asked.subject) if asked else None,
            account=AccountId(asked.account) if asked else None,
            grant_id=grant.id if grant else None,
            grant_epoch=grant.epoch if grant else None,
            granted_by=grant.given_by if grant else None,
            ticket=asked.ticket if asked else None,
            stated_reason=asked.reason if asked else None,
            scopes=tuple(format_scopes(scopes).split()) if scopes is not None else None,
            expires_at=issued.assumption.expires_at.isoformat() if issued else None,
            client_id=self.client,
            client_ip=self.caller.client_ip,
            user_agent=self.caller.user_agent,
            token_id=TokenId(issued.claims["jti"]) if issued else None,
            assumption=issued.assumption.id if issued else None,
            request_id=self.caller.request_id,
        )

    def _actor(self, issued: Issue | None) -> Actor | None:
        if self.signed_in is None:
            return None
        staff = self.signed_in.staff
        known = None if issued is None else replace(self.facts, staff=staff, assumption=issued.assumption)
        return name_actor(staff.id, staff.name, frozenset() if known is None else known.groups)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """An attempt that may begin, and how that is decided again."""

    attempt: Attempt
    decide: Decide
    outcome: Issue


class Starter:
    """The one way in which an assumption begins; every refusal is on the record."""

    def __init__(
        self,
        *,
        store: Store,
        facts: FactCache,
        host_of: Callable[[AccountId], str],
        agents: AgentCheck,
        terms: ExchangeTerms,
        journal: AuditLog,
        clock: Clock,
        strangers: Strangers | None = None,
    ) -> None:
        self._store = store
        self._facts = facts
        self._host_of = host_of
        self._agents = agents
        self._terms = terms
        self._journal = journal
        self._clock = clock
        self._unrecorded = Rarely(log)
        self._strangers = strangers or Strangers(journal)
        self._locks = KeyedLocks()

    async def start(
        self,
        attempt: Attempt,
        asked: ExchangeRequest,
        signed_in: SignedIn,
        *,
        client: ClientId,
        before: Callable[[AssumptionId], Awaitable[None]] | None = None,
    ) -> Issue | Deny:
        """Begin the assumption that is asked for, stored and on the record, or return why not.

        What is returned was decided last of all, so it may be handed out. Nothing of `asked` is trusted before.
        `before` is called for one that may begin just before it does; it may raise StoreError, and then none begins.
        """
        attempt = replace(attempt, asked=asked, signed_in=signed_in, client=client)
        try:
            return await self._start(attempt, asked, signed_in, client, before)
        except StoreError:
            return await self.refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE), attempt)
        except JournalError:
            return Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)

    async def judge(
        self, attempt: Attempt, asked: ExchangeRequest, signed_in: SignedIn, *, client: ClientId
    ) -> Issue | Deny:
        """Return what `start` would begin by now, and begin nothing; a refusal is on the record."""
        attempt = replace(attempt, asked=asked, signed_in=signed_in, client=client)
        try:
            judged = await self._judge(attempt, asked, signed_in, client)
            if isinstance(judged, Deny):
                return judged
            full = await self._check_room(signed_in.staff)
        except StoreError:
            return await self.refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE), attempt)
        except JournalError:
            return Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
        return judged.outcome if full is None else await self.refuse(full, judged.attempt)

    async def refuse(self, deny: Deny, attempt: Attempt) -> Deny:
        """Record a refusal and return it; one that cannot be recorded is still one, for that reason."""
        append = self._strangers.append if attempt.client is None else self._journal.append
        try:
            await append(attempt.record(deny))
        except JournalError as exc:
            self._unrecorded.error("a refused exchange could not be recorded: %s: %s", deny.reason, exc)
            return Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
        return deny

    async def _start(
        self,
        attempt: Attempt,
        asked: ExchangeRequest,
        signed_in: SignedIn,
        client: ClientId,
        before: Callable[[AssumptionId], Awaitable[None]] | None,
    ) -> Issue | Deny:
        judged = await self._judge(attempt, asked, signed_in, client)
        if isinstance(judged, Deny):
            return judged
        account, staff = AccountId(asked.account), signed_in.staff
        attempt, decide, outcome = judged.attempt, judged.decide, judged.outcome
        # What is recorded as begun is told to the customer: what this person begins together finds this one counted.
        async with self._locks.held(staff.id):
            refused = await self._check_room(staff)
            if refused is None:
                await self._journal.append(attempt.record(outcome), durable=True)
                if before is not None:
                    await before(outcome.assumption.id)
                refused = await self._begin(outcome.assumption, staff, attempt.facts, decide)
        if refused is not None:
            return await self.refuse(refused, attempt)
        # The app took its time to answer, and recording takes some: what goes out is decided on what holds by now.
        issue = decide(facts=await self._facts.of_exchange(account, staff.id), now=self._clock())
        if isinstance(issue, Deny):
            await self._store.end_assumption(outcome.assumption.id, at=self._clock())
            return await self.refuse(issue, attempt)
        return issue

    async def _judge(
        self, attempt: Attempt, asked: ExchangeRequest, signed_in: SignedIn, client: ClientId
    ) -> _Judged | Deny:
        account, staff = AccountId(asked.account), signed_in.staff
        facts = await self._facts.of_exchange(account, staff.id)
        attempt = replace(attempt, facts=facts)
        decide = partial(
            exchange,
            asked,
            actor=staff,
            terms=self._terms,
            audience=self._host_of(account),
            client=client,
            assumption_id=AssumptionId(f"as_{secrets.token_hex(10)}"),
            token_id=TokenId(secrets.token_urlsafe(16)),
            authentication=signed_in.authentication,
            signed_in_at=signed_in.at,
            key=attempt.key,
        )
        question = decide(facts=facts, now=self._clock(), asking=True)
        if isinstance(question, Deny):
            return await self.refuse(question, attempt)
        by_now = newest(staff, facts.staff)
        then = replace(facts, assumption=question.assumption, staff=by_now, asking=True)
        known = await self._agents.ask(question, then, request_id=attempt.caller.request_id)
        if isinstance(known, Deny):
            return await self.refuse(known, attempt)
        decide = partial(decide, agent_roles=known.roles)
        outcome = decide(facts=facts, now=self._clock())
        if isinstance(outcome, Deny):
            return await self.refuse(outcome, attempt)
        return _Judged(attempt=attempt, decide=decide, outcome=outcome)

    async def _check_room(self, staff: Staff) -> Deny | None:
        """Return why not one more may begin; of those that come together in several processes the store decides."""
        begun = await self._store.list_begun(staff.id, at=self._clock())
        return Deny(reason=DenyReason.TOO_MANY_ASSUMPTIONS) if len(begun) >= self._terms.most_assumptions else None

    async def _begin(self, assumption: Assumption, staff: Staff, facts: Facts, decide: Decide) -> Deny | None:
        """Store the assumption, decided on `facts`, or return why it must not be begun any more; raises StoreError."""
        for _ in range(_MOST_TRIES):
            known = None if facts.staff is None else facts.staff.signed_out_at
            try:
                await self._store.begin_assumption(
                    assumption,
                    replace(staff, signed_out_at=known),
                    at=self._clock(),
                    most=self._terms.most_assumptions,
                )
            except TooManyAssumptions:
                return Deny(reason=DenyReason.TOO_MANY_ASSUMPTIONS)
            except StoreConflict:
                # They signed out in between; but their sign-in may be a newer one.
                self._facts.forget_staff(staff.id)
                facts = await self._facts.of_exchange(assumption.account, staff.id)
                again = decide(facts=facts, now=self._clock())
                if isinstance(again, Deny):
                    return again
            else:
                self._facts.forget_staff(staff.id)
                return None
        return Deny(reason=DenyReason.STORE_UNAVAILABLE)
