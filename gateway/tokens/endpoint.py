"""The token endpoint: `POST /.locum/oauth/token` (RFC 8693, RFC 8628 section 3.4)."""

from collections.abc import Iterable
from dataclasses import replace

from aiohttp import web

from gateway.bodies import FormError
from gateway.caller import Caller
from gateway.clients import is_public
from gateway.counts import Counts
from gateway.devices.grant import DeviceGrant
from gateway.proxy.challenges import Challenges
from gateway.staff.verify import StaffVerifier
from gateway.stores.store import Client, StoreError
from gateway.tokens import answers
from gateway.tokens.bound import BoundTokens
from gateway.tokens.callers import TOKEN_PATH, ClientRefused, Fields, OAuthCallers
from gateway.tokens.dpop import ProofRefused
from gateway.tokens.keys import KeyRing
from gateway.tokens.signing import SigningKey, TokenVerifier
from gateway.tokens.starting import Attempt, Starter
from policy.claims import TOKEN_TYPE
from policy.exchange import ACCESS_TOKEN, ExchangeError, ExchangeRequest, Issue, read_request
from policy.model import Deny, DenyReason

ROLE = "token"


class TokenEndpoint:
    """Exchanges a staff member's token, or what they have approved for a device, for an assumption token."""

    def __init__(
        self,
        *,
        keys: KeyRing,
        bound: BoundTokens,
        callers: OAuthCallers,
        verifier: TokenVerifier,
        staff: StaffVerifier,
        starter: Starter,
        devices: DeviceGrant,
        challenges: Challenges,
        counts: Counts,
    ) -> None:
        self._keys = keys
        self._bound = bound
        self._callers = callers
        self._verifier = verifier
        self._staff = staff
        self._starter = starter
        self._devices = devices
        self._challenges = challenges
        self._counts = counts

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(TOKEN_PATH, self.token)]

    async def token(self, request: web.Request) -> web.Response:
        """Answer one token request: authenticate, parse, verify, start, sign."""
        attempt = Attempt(caller=Caller.through_front(request))
        try:
            client, fields = await self._callers.read(request, role=ROLE, public=True)
            attempt = replace(attempt, client=client.id)
            if is_public(client):
                return await self._fetch(request, attempt, client, fields)
            if self._is_chained(fields):
                return await self._refuse(Deny(reason=DenyReason.EXCHANGE_CHAINED), attempt)
            asked = read_request(fields)
            # Kept from here on, so that a fault further in is recorded with all that was asked for.
            attempt = replace(attempt, asked=asked)
            attempt = replace(attempt, key=await self._bound.key_of(request, client))
            # Before anything begins, because without it nothing could be handed out.
            key = self._keys.signing
        except ClientRefused as exc:
            return exc.answer()
        except (FormError, ExchangeError) as exc:
            deny = Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc))
            return await self._refuse(deny, attempt, code=exc.error if isinstance(exc, ExchangeError) else None)
        except (ProofRefused, StoreError) as exc:
            deny = exc.deny if isinstance(exc, ProofRefused) else Deny(reason=DenyReason.STORE_UNAVAILABLE)
            return await self._refuse(deny, attempt)
        return await self._exchange(attempt, asked, client, key)

    async def _fetch(self, request: web.Request, attempt: Attempt, client: Client, fields: Fields) -> web.Response:
        """Answer a device that asks whether it may have its token.

        It has proved nothing, so what is wrong with its question fills no journal: only what comes of an approval does.
        """
        try:
            found = await self._devices.look(client, fields)
            if isinstance(found, web.Response):
                return found
            # Only now, because a proof is kept, and anybody can make one.
            attempt = replace(attempt, key=await self._bound.key_of(request, client))
            key = self._keys.signing
            outcome = await self._devices.begin(attempt, client, found)
        except FormError as exc:
            return answers.error(400, "invalid_request", str(exc))
        except (ProofRefused, StoreError) as exc:
            outcome = exc.deny if isinstance(exc, ProofRefused) else Deny(reason=DenyReason.STORE_UNAVAILABLE)
            return self._refused(outcome)
        if isinstance(outcome, web.Response):
            return outcome
        return self._sign(outcome, key, attempt.key) if isinstance(outcome, Issue) else self._refused(outcome)

    async def _exchange(
        self, attempt: Attempt, asked: ExchangeRequest, client: Client, key: SigningKey
    ) -> web.Response:
        try:
            signed_in = await self._staff.verify(asked.actor_token)
        except StoreError:
            signed_in = Deny(reason=DenyReason.STORE_UNAVAILABLE)
        if isinstance(signed_in, Deny):
            return await self._refuse(signed_in, attempt)
        outcome = await self._starter.start(attempt, asked, signed_in, client=client.id)
        return self._sign(outcome, key, attempt.key) if isinstance(outcome, Issue) else self._refused(outcome)

    def _is_chained(self, fields: Iterable[tuple[str, str]]) -> bool:
        """Tell whether a token of ours is to buy another: that would launder who acts, or make the stay longer."""
        tokens = ("subject_token", "actor_token")
        return any(self._verifier.is_ours(value) for name, value in fields if name in tokens)

    def _sign(self, issue: Issue, key: SigningKey, bound_to: str | None) -> web.Response:
        claims = issue.claims
        body = {
            "access_token": key.sign(claims, type_=TOKEN_TYPE),
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer" if bound_to is None else "DPoP",
            "expires_in": claims["exp"] - claims["iat"],
            "scope": claims["scope"],
            "authorization_details": claims["authorization_details"],
        }
        self._counts.tokens += 1
        return answers.answer(200, body)

    async def _refuse(self, deny: Deny, attempt: Attempt, *, code: str | None = None) -> web.Response:
        recorded = await self._starter.refuse(deny, attempt)
        return self._refused(recorded, code=code if recorded is deny else None)

    def _refused(self, deny: Deny, *, code: str | None = None) -> web.Response:
        self._counts.tokens_refused[deny.reason] += 1
        return answers.refusal(
            deny, code=code, headers=self._bound.nonce_for(deny), said=self._challenges.of(deny, None)
        )
