"""The token endpoint: `POST /.locum/oauth/token` (RFC 8693), and the keys that verify what it issues."""

import logging
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

import msgspec
from aiohttp import web

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record, name_actor
from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.clients import ClientAuthenticator
from gateway.clock import Clock
from gateway.counts import Counts
from gateway.grants.facts import FactCache
from gateway.refusals import REFUSALS
from gateway.staff.verify import SignedIn, StaffVerifier
from gateway.stores.store import Client, Store, StoreConflict, StoreError
from gateway.tokens.keys import KeyRing
from policy.claims import TOKEN_TYPE
from policy.exchange import (
    ACCESS_TOKEN,
    ExchangeError,
    ExchangeRequest,
    ExchangeTerms,
    Issue,
    exchange,
    read_request,
)
from policy.model import AccountId, AgentId, Assumption, AssumptionId, Deny, DenyReason, Facts, Staff, TokenId
from policy.scopes import format_scopes

log = logging.getLogger(__name__)

_MOST_FORM_BYTES = 16 * 1024
_MOST_TRIES = 3
# RFC 6749 section 5.2 allows no other character in a description, and it may quote the caller.
_NOT_DESCRIPTIVE = re.compile(r"[^ !#-\[\]-~]")
_SIGN_IN_AGAIN = (DenyReason.STAFF_AUTHENTICATION_WEAK, DenyReason.STAFF_SIGNED_OUT)
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


class Decide(Protocol):
    """Decides about one exchange, on whatever the facts are by now."""

    def __call__(self, *, facts: Facts, now: datetime) -> Issue | Deny:
        """Return what to issue, or why nothing."""


class AgentCheck(Protocol):
    """Knows whether an agent exists."""

    async def ask(self, issue: Issue, facts: Facts, *, request_id: str) -> Deny | None:
        """Return why the assumption must not start, or None; raises JournalError.

        `facts` are those that the assumption will have once it has started.
        """


class TokenEndpoint:
    """Exchanges a staff member's token for an assumption token."""

    def __init__(
        self,
        *,
        store: Store,
        keys: KeyRing,
        staff: StaffVerifier,
        facts: FactCache,
        host_of: Callable[[AccountId], str],
        agents: AgentCheck,
        terms: ExchangeTerms,
        journal: AuditLog,
        clients: ClientAuthenticator,
        counts: Counts,
        clock: Clock,
    ) -> None:
        self._store = store
        self._keys = keys
        self._staff = staff
        self._facts = facts
        self._host_of = host_of
        self._agents = agents
        self._terms = terms
        self._journal = journal
        self._clients = clients
        self._counts = counts
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post("/.locum/oauth/token", self.token), web.get("/.locum/jwks.json", self.jwks)]

    async def jwks(self, _request: web.Request) -> web.Response:
        """Return the public keys (RFC 7517); none at all is an answer that nobody should keep."""
        if not self._keys.verifying:
            return _refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE))
        body = msgspec.json.encode(self._keys.jwks())
        headers = {"Cache-Control": "max-age=60"}
        return web.Response(body=body, content_type="application/jwk-set+json", headers=headers)

    async def token(self, request: web.Request) -> web.Response:
        """Answer one token request: authenticate, parse, verify, load, decide, record, sign."""
        attempt = Attempt(caller=Caller.through_front(request))
        try:
            client = await self._clients.authenticate(request.headers.getall("Authorization", []), "token")
            if client is None:
                return _error(401, "invalid_client", "authenticate with HTTP Basic as a client with the role `token`")
            attempt = replace(attempt, client=client)
            asked = read_request(await read_form(request, _MOST_FORM_BYTES))
            # Kept out here, so that a fault further in is recorded with all that was asked for.
            attempt = replace(attempt, asked=asked)
            return await self._exchange(attempt, asked, client)
        except (FormError, ExchangeError) as exc:
            deny = Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc))
            return await self._refuse(deny, attempt, error=exc.error if isinstance(exc, ExchangeError) else None)
        except StoreError:
            return await self._refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE), attempt)
        except JournalError:
            return self._refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE))

    async def _exchange(self, attempt: "Attempt", asked: ExchangeRequest, client: Client) -> web.Response:
        signed_in = await self._staff.verify(asked.actor_token)
        if isinstance(signed_in, Deny):
            return await self._refuse(signed_in, attempt)
        account = AccountId(asked.account)
        facts = await self._facts.of_exchange(account, signed_in.staff.id)
        attempt = replace(attempt, signed_in=signed_in, facts=facts)
        decide = partial(
            exchange,
            asked,
            actor=signed_in.staff,
            terms=self._terms,
            audience=self._host_of(account),
            client=client.id,
            assumption_id=AssumptionId(f"as_{secrets.token_hex(10)}"),
            token_id=TokenId(secrets.token_urlsafe(16)),
            authentication=signed_in.authentication,
            signed_in_at=signed_in.at,
        )
        outcome = decide(facts=facts, now=self._clock())
        if isinstance(outcome, Deny):
            return await self._refuse(outcome, attempt)
        then = replace(facts, assumption=outcome.assumption, staff=signed_in.staff)
        refused = await self._agents.ask(outcome, then, request_id=attempt.caller.request_id)
        if refused is not None:
            return await self._refuse(refused, attempt)
        await self._journal.append(attempt.record(outcome), durable=True)
        refused = await self._begin(outcome.assumption, signed_in.staff, facts, decide)
        if refused is not None:
            return await self._refuse(refused, attempt)
        # The app took its time to answer, and recording takes some: what is signed is decided on what holds by now.
        issue = decide(facts=await self._facts.of_exchange(account, signed_in.staff.id), now=self._clock())
        if isinstance(issue, Deny):
            await self._store.end_assumption(outcome.assumption.id, at=self._clock())
            return await self._refuse(issue, attempt)
        return self._sign(issue)

    async def _begin(self, assumption: Assumption, staff: Staff, facts: Facts, decide: Decide) -> Deny | None:
        """Store the assumption, decided on `facts`, or return why it must not be begun any more; raises StoreError."""
        for _ in range(_MOST_TRIES):
            known = None if facts.staff is None else facts.staff.signed_out_at
            try:
                await self._store.begin_assumption(assumption, replace(staff, signed_out_at=known), at=self._clock())
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

    def _sign(self, issue: Issue) -> web.Response:
        claims = issue.claims
        body = {
            "access_token": self._keys.signing.sign(claims, type_=TOKEN_TYPE),
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": claims["exp"] - claims["iat"],
            "scope": claims["scope"],
            "authorization_details": claims["authorization_details"],
        }
        self._counts.tokens += 1
        return _json(200, body)

    async def _refuse(self, deny: Deny, attempt: "Attempt", *, error: str | None = None) -> web.Response:
        try:
            await self._journal.append(attempt.record(deny))
        except JournalError:
            log.exception("a refused exchange could not be recorded: %s", deny.reason)
            return self._refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE))
        return self._refusal(deny, error=error)

    def _refusal(self, deny: Deny, *, error: str | None = None) -> web.Response:
        self._counts.tokens_refused[deny.reason] += 1
        return _refusal(deny, error=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is known of one token request so far; all of it goes on the record."""

    caller: Caller
    client: Client | None = None
    asked: ExchangeRequest | None = None
    signed_in: SignedIn | None = None
    facts: Facts = Facts(account=None, grant=None, assumption=None, staff=None)  # noqa: RUF009 - a frozen value

    def record(self, outcome: Deny | Issue) -> Record:
        """Return the journal's record of how it came out."""
        issued = outcome if isinstance(outcome, Issue) else None
        asked, grant = self.asked, self.facts.grant
        scopes = issued.assumption.scopes if issued else asked.scopes if asked else None
        return Record(
            kind="token",
            decision="allow" if issued else "deny",
            reason=str(outcome.reason) if isinstance(outcome, Deny) else None,
            actor=name_actor(self.signed_in.staff.id, self.signed_in.staff.name) if self.signed_in else None,
            subject=AgentId(asked.subject) if asked else None,
            account=AccountId(asked.account) if asked else None,
            grant_id=grant.id if grant else None,
            grant_epoch=grant.epoch if grant else None,
            granted_by=grant.given_by if grant else None,
            ticket=asked.ticket if asked else None,
            stated_reason=asked.reason if asked else None,
            scopes=tuple(format_scopes(scopes).split()) if scopes is not None else None,
            client_id=self.client.id if self.client else None,
            client_ip=self.caller.client_ip,
            user_agent=self.caller.user_agent,
            token_id=TokenId(issued.claims["jti"]) if issued else None,
            assumption=issued.assumption.id if issued else None,
            request_id=self.caller.request_id,
        )


def _refusal(deny: Deny, *, error: str | None = None) -> web.Response:
    refusal = REFUSALS[deny.reason]
    if refusal.status == 503:
        return _error(503, "temporarily_unavailable", refusal.title, deny, {"Retry-After": "1"})
    # RFC 8693 section 2.2.2: whatever is invalid or not acceptable by policy is a 400.
    description = deny.detail or refusal.title
    code = "insufficient_user_authentication" if deny.reason in _SIGN_IN_AGAIN else None
    return _error(400, error or code or refusal.oauth, description, deny)


def _error(
    status: int,
    error: str,
    description: str,
    deny: Deny | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    body: dict[str, Any] = {"error": error, "error_description": _NOT_DESCRIPTIVE.sub("?", description)}
    if deny is not None:
        body["reason"] = str(deny.reason)
    challenge = {"WWW-Authenticate": 'Basic realm="locum"'} if status == 401 else {}
    return _json(status, body, {**challenge, **(headers or {})})


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={**_NO_STORE, **(headers or {})},
    )
