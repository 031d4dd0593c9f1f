"""Accounts whose administrators sign in at a provider of the customer's own: which they are, and who is signed in."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from cachetools import LRUCache

from gateway import cookie_names
from gateway.audit.log import AuditLog
from gateway.clock import Clock
from gateway.config.account_sign_in import AccountSignIn
from gateway.console.account.customer_sign_outs import CustomerSignOuts
from gateway.console.account.door import PATH
from gateway.console.sessions import Sessions, form_token_of
from gateway.devices.guesses import NetworkTries
from gateway.origin import Origin
from gateway.session_ends import SessionEnds
from gateway.staff.issuer import Issuer
from gateway.staff.notices import Notices
from gateway.staff.sign_in.provider import Provider
from gateway.staff.sign_in.setting import read_cookie
from gateway.stores.once import Redeeming
from gateway.stores.store import StoreError
from gateway.tokens.signing import SigningKey
from policy.administrators import Person
from policy.model import AccountId, ClientId, Deny
from policy.provider_administrators import AdministratorTerms, NoAdministrator, read_administrator
from policy.staff import SignInPolicy

SIGN_IN: Final = f"{PATH}/sign-in"
CALLBACK: Final = f"{SIGN_IN}/callback"
SIGN_OUT: Final = f"{PATH}/sign-out"
LOGOUT: Final = f"{PATH}/backchannel-logout"
_MOST_ACCOUNTS: Final = 1024
"""So many are held at once: any name may be asked for where one provider is for all that no other names."""
_KEPT: Final = ("iss", "sub", "name", "acr", "amr", "auth_time", "iat", "act", "may_act", "email_verified", "sid")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerProvider:
    """One table of the configuration, and what asks that provider; no two share anything."""

    section: AccountSignIn
    issuer: Issuer
    http: aiohttp.ClientSession
    """By which codes are redeemed there."""
    key: SigningKey | None
    """By which we prove who asks, unless with a secret."""
    codes: NetworkTries
    """How many codes a network may try that are no good."""
    notices: Notices
    """What this provider tells of sign-outs."""
    may_keep: Callable[[], bool]
    """Takes one more of what its sign-outs may write to the store; False when it has written too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """An administrator with a session of ours, by the rules of now."""

    person: Person
    form_token: str
    """What every form of theirs has to hold."""
    ends_at: datetime
    """When the session ends, however it is used."""
    until: datetime
    """When it ends if it is not used again."""


class CustomerSignIn:
    """How the administrators of one account sign in.

    What is begun or kept here counts for this account, at this origin, by this client of this provider, and nowhere
    else: all four are in what a sign-in asks and answers, and in what a session is known by.
    """

    def __init__(
        self,
        account: AccountId,
        customer: CustomerProvider,
        *,
        origin: Origin,
        role: str,
        client: ClientId,
        store: Redeeming,
        ends: SessionEnds,
        journal: AuditLog,
        may_record: Callable[[AccountId, str], bool],
        clock: Clock,
        patience_seconds: float,
    ) -> None:
        """Give administrators `role`; wait `patience_seconds` at the most for who somebody is.

        `client` stands in the record beside who has done something; `may_record` see `CustomerSignOuts`.
        """
        section = customer.section
        self.account = account
        self.origin = origin
        self.codes = customer.codes
        self.notices = customer.notices
        self.place = f" account\0{account}\0{origin.text}\0{section.issuer}\0{section.client_id}".encode()
        """What no other account, origin, provider or client has."""
        self.provider = Provider(
            customer.issuer,
            section,
            http=customer.http,
            origin=origin,
            key=customer.key,
            acr=section.require_acr,
            max_age_seconds=section.max_age_seconds,
            clock=clock,
            callback=CALLBACK,
            back=PATH,
        )
        self.sessions = Sessions(
            store,
            clock,
            place=self.place,
            idle=timedelta(seconds=section.idle_seconds),
            absolute=timedelta(seconds=section.absolute_seconds),
        )
        self.ends = ends
        self.sign_outs = CustomerSignOuts(
            account,
            issuer=section.issuer,
            client_id=section.client_id,
            client=client,
            longest=self.sessions.longest,
            store=store,
            tell_ended=ends.tell,
            journal=journal,
            may_record=may_record,
            may_keep=customer.may_keep,
            clock=clock,
        )
        self._terms = _terms(section, role)
        self._clock = clock
        self._patience = patience_seconds

    @property
    def provider_name(self) -> str:
        """Where people sign in, as they know it: the provider's host."""
        return urlsplit(self.provider.issuer).hostname or self.provider.issuer

    def is_here(self, request: web.Request) -> bool:
        """Tell whether a request is for the account's own origin, by its `Host`."""
        return self.origin.is_named_by(request.headers.getall("Host", []))

    def cookie(self, request: web.Request, name: str) -> str | Deny | None:
        """Return the value of our cookie of this name; Deny if there are two, or what may be read as one."""
        return read_cookie(request, name, secure=self.origin.secure) if self.is_here(request) else None

    def staffs(self, request: web.Request) -> str | Deny | None:
        """Return the staff session that a request brings, as it may where one host is the staff origin as well."""
        return self.cookie(request, cookie_names.STAFF)

    def judge(self, claims: Mapping[str, Any]) -> Person | NoAdministrator:
        """Return what verified claims make of somebody by the rules of now."""
        return read_administrator(claims, self._terms, account=self.account, now=self._clock())

    def worth_keeping(self, claims: Mapping[str, Any]) -> dict[str, Any]:
        """Return those claims by which somebody is judged anew at each request."""
        names = (*_KEPT, self._terms.claim, *filter(None, [self._terms.account_claim]))
        return {name: claims[name] for name in names if name in claims}

    async def who(self, request: web.Request, *, counts: bool) -> SignedIn | NoAdministrator | Deny | None:
        """Return who is signed in, None if nobody is; `counts` says that this is a use. Raises StoreError."""
        value = self.cookie(request, cookie_names.ADMINISTRATOR)
        if not isinstance(value, str):
            return value
        try:
            async with asyncio.timeout(self._patience):
                kept = await self.sessions.find(value, counts=counts)
                if kept is None or await self.sign_outs.is_over(kept):
                    return None
        except TimeoutError as exc:
            raise StoreError("who is signed in could not be told in time") from exc
        found = self.judge(kept.claims)
        if isinstance(found, NoAdministrator):
            return found
        return SignedIn(
            person=found,
            form_token=self.form_token(value),
            ends_at=self.sessions.end_of(kept),
            until=self.sessions.due_of(kept),
        )

    def form_token(self, value: str) -> str:
        """Return the form token of a session, which only who has its cookie gets to know."""
        return form_token_of(value, self.place)


class CustomerSignIns:
    """Knows how each account's administrators sign in; the app is asked about those of the others."""

    def __init__(
        self,
        customers: Sequence[CustomerProvider],
        *,
        origin_of: Callable[[AccountId], str],
        role: str,
        client: ClientId,
        store: Redeeming,
        ends: SessionEnds,
        journal: AuditLog,
        may_record: Callable[[AccountId, str], bool],
        clock: Clock,
        patience_seconds: float,
    ) -> None:
        """One of the `customers` that names no account is for all that no other names."""
        self._named = {AccountId(name): each for each in customers for name in each.section.accounts}
        self._rest = next((each for each in customers if not each.section.accounts), None)
        self._origin_of = origin_of
        self._role = role
        self._client = client
        self._store = store
        self.ends = ends
        self._journal = journal
        self._may_record = may_record
        self._clock = clock
        self._patience = patience_seconds
        self._sign_ins: LRUCache[AccountId, CustomerSignIn] = LRUCache(_MOST_ACCOUNTS)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._named) or self._rest is not None

    def of(self, account: AccountId) -> CustomerSignIn | None:
        """Return how an account's administrators sign in, None if they do so in the app."""
        sign_in = self._sign_ins.get(account)
        customer = self._named.get(account, self._rest)
        if sign_in is None and customer is not None:
            sign_in = self._sign_ins[account] = self._make(account, customer)
        return sign_in

    def _make(self, account: AccountId, customer: CustomerProvider) -> CustomerSignIn:
        return CustomerSignIn(
            account,
            customer,
            origin=Origin.of(self._origin_of(account)),
            role=self._role,
            client=self._client,
            store=self._store,
            ends=self.ends,
            journal=self._journal,
            may_record=self._may_record,
            clock=self._clock,
            patience_seconds=self._patience,
        )


def _terms(section: AccountSignIn, role: str) -> AdministratorTerms:
    age = section.max_age_seconds
    return AdministratorTerms(
        claim=section.claim,
        values=frozenset(section.administrators),
        account_claim=section.account_claim,
        role=role,
        policy=SignInPolicy(
            acr=frozenset(section.require_acr),
            amr=frozenset(section.require_amr),
            max_age=None if age is None else timedelta(seconds=age),
        ),
    )
