"""Token introspection: `POST /.locum/oauth/introspect` (RFC 7662): does a token still count, and what does it say."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from gateway.bodies import FormError
from gateway.clock import Clock
from gateway.grants.facts import FactCache
from gateway.stores.store import StoreError
from gateway.tokens import answers
from gateway.tokens.callers import ClientRefused, OAuthCallers, read_token
from gateway.tokens.compact import read_compact
from gateway.tokens.signing import TokenRefused, TokenVerifier
from policy.decide import check_standing, reach
from policy.model import AccountId, Deny, DenyReason
from policy.scopes import format_scopes

PATH = "/.locum/oauth/introspect"
ROLE = "introspect"

# RFC 7662 section 2.2: nothing more is said of a token that does not count, and not why.
_INACTIVE = {"active": False}
# A refusal that says that we do not know is none that says that the token is dead.
_UNKNOWN = frozenset({DenyReason.STORE_UNAVAILABLE, DenyReason.STORE_STALE, DenyReason.GRANT_STALE})
_SAID = (
    "iss", "aud", "sub", "act", "client_id", "sid", "jti", "iat", "nbf", "exp", "authorization_details", "acr", "amr",
    "auth_time", "cnf",
)  # fmt: skip


class IntrospectionEndpoint:
    """Tells of a token what the data plane would make of it now."""

    def __init__(
        self,
        *,
        callers: OAuthCallers,
        verifier: TokenVerifier,
        facts: FactCache,
        host_of: Callable[[AccountId], str],
        clock: Clock,
    ) -> None:
        self._callers = callers
        self._verifier = verifier
        self._facts = facts
        self._host_of = host_of
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.introspect)]

    async def introspect(self, request: web.Request) -> web.Response:
        """Answer 200 for every token, 401 to who may not ask, 503 while it cannot be known."""
        try:
            _, fields = await self._callers.read(request, role=ROLE)
            return await self._tell(read_token(fields))
        except ClientRefused as exc:
            return exc.answer()
        except FormError as exc:
            return answers.error(400, "invalid_request", str(exc))
        except (StoreError, TimeoutError):
            return answers.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE))

    async def _tell(self, text: str) -> web.Response:
        try:
            claims = self._verifier.verify(text)
        except TokenRefused:
            return answers.answer(200, _INACTIVE)
        async with asyncio.timeout(self._facts.patience_seconds):
            facts = await self._facts.of_request(claims.account, claims)
        if not self._verifier.counts(claims):
            # Its key has ended meanwhile.
            return answers.answer(200, _INACTIVE)
        host = self._host_of(claims.account)
        reason = check_standing(claims, facts, account=claims.account, audience=host, now=self._clock())
        if reason in _UNKNOWN:
            return answers.refusal(Deny(reason=reason))
        scope = "" if reason is not None else format_scopes(reach(claims, facts))
        if not scope:
            return answers.answer(200, _INACTIVE)
        # Its signature was good, so the payload is ours; what it says must be told as the token says it (RFC 8693
        # section 4.1), but for the scopes, which may have shrunk since.
        payload = read_compact(text).payload
        said = {name: payload[name] for name in _SAID if name in payload}
        type_ = "Bearer" if claims.key is None else "DPoP"
        return answers.answer(200, {"active": True, "token_type": type_, "scope": scope, **said})
