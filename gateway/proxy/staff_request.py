"""Reads a staff member's request: whose credential it has, for which account, and what it asks for."""

import asyncio

from gateway.proxy import headers, names
from gateway.proxy.asker import Asker, Refused, judge_names
from gateway.proxy.browsers import Browsers
from gateway.proxy.cookies import CookieCredential
from gateway.proxy.forward import SWITCH
from gateway.proxy.forwarded import Forwarding
from gateway.proxy.handshake import is_handshake
from gateway.proxy.names import Names
from gateway.proxy.proofs import HeldKeys
from gateway.proxy.triage import AccountReader, Credential
from gateway.proxy.wire import Inbound, RequestHead
from gateway.stores.store import StoreError
from gateway.tokens.signing import TokenRefused, TokenVerifier
from policy.model import AccessRequest, AssumptionClaims, Deny, DenyReason
from policy.target import TargetError, parse_target

_KEPT = "the caller"

Claimed = Credential | CookieCredential | DenyReason | None
"""The credential that a request claims to have, or what is wrong with it."""


class StaffRequests:
    """Gives each request its one reading, its credential verified."""

    def __init__(
        self,
        *,
        accounts: AccountReader,
        verifier: TokenVerifier,
        held_keys: HeldKeys,
        browsers: Browsers,
        known: Names,
        forwarding: Forwarding,
        withheld: frozenset[str],
    ) -> None:
        self._accounts = accounts
        self._verifier = verifier
        self._held_keys = held_keys
        self._browsers = browsers
        self._known = known
        self._forwarding = forwarding
        self._withheld = withheld

    async def admit(self, credential: CookieCredential, limit: asyncio.Timeout) -> AssumptionClaims:
        """Return what a browser's cookie stands for, asked anew for each request; raises Refused."""
        try:
            async with limit:
                held = await self._browsers.admit(credential)
        except (StoreError, TimeoutError) as exc:
            raise Refused(Deny(reason=DenyReason.STORE_UNAVAILABLE)) from exc
        if isinstance(held, Deny):
            raise Refused(held)
        return held

    def read(
        self, inbound: Inbound, kinds: int, credential: Claimed, held: AssumptionClaims | None
    ) -> tuple[AccessRequest, Asker]:
        """Return the request in its one reading, and who asks, the credential verified; raises Refused.

        `kinds` are those of its headers' names, all together, and `held` is what a cookie stands for.
        """
        head = inbound.head
        if credential is None:
            raise Refused(Deny(reason=DenyReason.TOKEN_MISSING))
        if isinstance(credential, DenyReason):
            raise Refused(Deny(reason=credential))
        asker: Asker | None = head.kept.get(_KEPT)
        if asker is None or asker.by is not self or not self._verifier.counts(asker.claims):
            # The head's lines are new, or the configuration or the keys have changed since.
            asker = head.kept[_KEPT] = self._identify(inbound, kinds, credential, held)
        claims = asker.claims
        if kinds & names.UPGRADE and not is_handshake(head):
            raise Refused(Deny(reason=DenyReason.UPGRADE_NOT_ALLOWED), claims)
        try:
            target = parse_target(head.target)
        except TargetError as exc:
            raise Refused(Deny(reason=DenyReason.AMBIGUOUS_TARGET, detail=str(exc)), claims) from exc
        if asker.bound and isinstance(credential, Credential):
            self._prove(head, credential, asker)
        request = AccessRequest(
            method=head.method.decode("latin-1"),
            target=target,
            account=asker.account,
            audience=asker.audience,
            claims=claims,
            has_body=inbound.has_body,
            overrides=kinds & names.OVERRIDE != 0,
            upgrades=kinds & names.UPGRADE != 0,
            cross_site=asker.cross_site,
        )
        return request, asker

    def asker(self, head: RequestHead) -> Asker | None:
        """Return what has been worked out of the head's lines, whether or not the keys of then still count."""
        asker: Asker | None = head.kept.get(_KEPT)
        return asker if asker is not None and asker.by is self else None

    def _identify(
        self, inbound: Inbound, kinds: int, credential: Credential | CookieCredential, held: AssumptionClaims | None
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
        lines += self._forwarding.for_staff(head.headers, kinds, inbound.peer)
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

    def _prove(self, head: RequestHead, credential: Credential, asker: Asker) -> None:
        """Go on if the request itself proves that its sender holds the token's key; raises Refused."""
        refused = self._held_keys.judge(head, credential, asker.claims, asker.account)
        if refused is not None:
            raise Refused(refused, asker.claims)

    def _verify(self, credential: Credential | CookieCredential) -> AssumptionClaims:
        if isinstance(credential, CookieCredential):
            raise Refused(Deny(reason=DenyReason.COOKIE_UNKNOWN))
        try:
            return self._verifier.verify(credential.token)
        except TokenRefused as exc:
            raise Refused(Deny(reason=DenyReason.TOKEN_INVALID)) from exc
