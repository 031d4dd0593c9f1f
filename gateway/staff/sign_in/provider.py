"""The identity provider as a browser's sign-in needs it: where to send people, and what a code is worth."""

import base64
import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp
import msgspec
import yarl

from gateway.bodies import read_at_most
from gateway.clock import Clock
from gateway.config.section import Secret
from gateway.origin import Origin
from gateway.staff.issuer import Issuer, IssuerError, may_lead_to
from gateway.staff.sign_in.attempt import LIFETIME, Attempt
from gateway.tokens.client_keys import ASSERTION_TYPE
from gateway.tokens.compact import CompactError, read_compact
from gateway.tokens.signing import SigningKey, TokenRefused, verify_foreign
from policy.events import is_type
from policy.times import LEEWAY

log = logging.getLogger(__name__)

_MOST_BYTES = 64 * 1024
_TIMEOUT_SECONDS = 10.0
_ASSERTION_SECONDS = 60
_LONGEST_ERROR = 128
# OpenID Connect Core 1.0 section 3.1.3.6: the hash of the algorithm that signs the ID token.
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*", re.ASCII)  # RFC 6750 section 2.1
_HASHES = {"256": "sha256", "384": "sha384", "512": "sha512", "DSA": "sha512", "519": "sha512"}


class Client(Protocol):
    """As which client of the provider's we ask."""

    @property
    def client_id(self) -> str:
        """Its id there."""

    @property
    def client_secret(self) -> Secret | None:
        """By what it proves itself, unless it does so with a key or not at all."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """What is asked for."""

    @property
    def userinfo_claims(self) -> tuple[str, ...]:
        """What is asked for at the userinfo endpoint where the ID token lacks it."""


class CodeRefused(Exception):
    """The code is worth nothing here: the provider refuses it, or its answer does not fit what was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """What of the provider's metadata a sign-in needs."""

    authorization: str
    token: str
    end_session: str | None
    """Where people sign out there (OpenID Connect RP-Initiated Logout 1.0 section 2.1), if it has such a place."""
    names_itself: bool
    """Whether its answers must say whose they are (RFC 9207 section 3)."""


class Provider:
    """Asks the provider who somebody is, as one client of it."""

    def __init__(
        self,
        issuer: Issuer,
        section: Client,
        *,
        http: aiohttp.ClientSession,
        origin: Origin,
        key: SigningKey | None,
        acr: tuple[str, ...],
        max_age_seconds: int | None,
        clock: Clock,
        callback: str = "/.locum/sign-in/callback",
        back: str = "/.locum/",
    ) -> None:
        """Prove with `key`, or with the secret of `section`, who asks; demand a sign-in as `acr` and the age say.

        People come back from the provider to `callback` of `origin`, and to `back` when they have signed out there.
        """
        self._issuer = issuer
        self._section = section
        self._http = http
        self._key = key
        self._acr = acr
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._redirect_uri = f"{origin.text}{callback}"
        self._back = f"{origin.text}{back}"

    @property
    def issuer(self) -> str:
        """The provider's issuer identifier."""
        return self._issuer.issuer

    async def endpoints(self) -> Endpoints:
        """Return what is known of the provider; raises IssuerError."""
        metadata = await self._issuer.metadata()
        end_session = metadata.get("end_session_endpoint")
        return Endpoints(
            authorization=_safe(self.issuer, metadata.get("authorization_endpoint")),
            token=_safe(self.issuer, metadata.get("token_endpoint")),
            end_session=None if end_session is None else _safe(self.issuer, end_session),
            names_itself=metadata.get("authorization_response_iss_parameter_supported") is True,
        )

    async def question(self, attempt: Attempt, *, fresh: bool = False) -> str:
        """Return the address at which the provider asks the person (OpenID Connect Core 1.0 section 3.1.2.1).

        With `fresh` they have to sign in there anew, whatever they did before. Raises IssuerError.
        """
        asked = {
            "response_type": "code",
            "client_id": self._section.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._section.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        if self._max_age_seconds is not None:
            asked["max_age"] = str(self._max_age_seconds)
        if fresh:
            asked["prompt"] = "login"
        if self._acr:
            asked["acr_values"] = " ".join(self._acr)
        return _with_query((await self.endpoints()).authorization, asked)

    async def farewell(self) -> str | None:
        """Return the address at which a person signs out at the provider, if it has one; raises IssuerError.

        Without `id_token_hint`: we keep no ID token, which would be a credential at our own token endpoint, and put
        none into an address. So the provider asks the person first (OpenID Connect RP-Initiated Logout 1.0 section 2).
        """
        place = (await self.endpoints()).end_session
        if place is None:
            return None
        return _with_query(place, {"client_id": self._section.client_id, "post_logout_redirect_uri": self._back})

    async def redeem(self, code: str, attempt: Attempt) -> Mapping[str, Any]:
        """Return the verified claims of the ID token that a code is worth; raises CodeRefused, IssuerError."""
        answer = await self._ask_token((await self.endpoints()).token, code, attempt)
        text = answer.get("id_token")
        if not isinstance(text, str):
            raise CodeRefused("the provider gave no ID token")
        try:
            token = read_compact(text)
            keys = await self._issuer.keys_for(token, direct=True)
            client = self._section.client_id
            claims = verify_foreign(token, keys, issuer=self.issuer, audience=client, now=self._clock())
            self._check(token.header, claims, attempt)
            _check_hash(claims, str(token.header["alg"]), answer.get("access_token"))
        except (CompactError, TokenRefused) as exc:
            raise CodeRefused(f"the ID token is refused: {exc}") from exc
        return {**await self._more(claims, answer.get("access_token")), **claims}

    def _check(self, header: Mapping[str, Any], claims: Mapping[str, Any], attempt: Attempt) -> None:
        """Raise TokenRefused unless an ID token answers this attempt (OpenID Connect Core 1.0 section 3.1.3.7)."""
        if not is_type(header, None, "jwt") or "events" in claims:
            raise TokenRefused("it is another kind of token")
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode("utf-8"), attempt.nonce.encode("ascii")):
            raise TokenRefused("its `nonce` is not that of this sign-in")
        if claims.get("azp", self._section.client_id) != self._section.client_id:
            raise TokenRefused("it was made for another client")
        # Compared as it is: a number that no clock has is too large for arithmetic with ours.
        if claims["iat"] < self._clock().timestamp() - (LIFETIME + LEEWAY).total_seconds():
            raise TokenRefused("it was issued long ago: set both clocks by NTP")
        if self._max_age_seconds is not None and type(claims.get("auth_time")) is not int:
            raise TokenRefused("it does not say when the person signed in, which `max_age` asks for")

    async def _more(self, claims: Mapping[str, Any], access_token: Any) -> Mapping[str, Any]:
        """Return the claims that are asked for at the userinfo endpoint because the ID token lacks them.

        OpenID Connect Core 1.0 section 5.3. Raises CodeRefused, IssuerError.
        """
        wanted = [name for name in self._section.userinfo_claims if name not in claims]
        if not wanted:
            return {}
        if not isinstance(access_token, str) or _BEARER.fullmatch(access_token) is None:
            raise CodeRefused("the provider gave no access token for its userinfo endpoint")
        address = _safe(self.issuer, (await self._issuer.metadata()).get("userinfo_endpoint"))
        headers = {"Accept": "application/json", "Authorization": f"Bearer {access_token}"}
        said = await self._ask("GET", address, headers=headers)
        # Section 5.3.2: what is said of somebody else, or of nobody, must not be used.
        if said.get("sub") != claims["sub"]:
            raise CodeRefused("what the provider says at its userinfo endpoint is about somebody else")
        return {name: said[name] for name in wanted if name in said}

    async def _ask_token(self, address: str, code: str, attempt: Attempt) -> Mapping[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers = {"Accept": "application/json", **self._prove(form)}
        return await self._ask("POST", address, headers=headers, form=form)

    async def _ask(
        self, method: str, address: str, *, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        try:
            async with self._http.request(
                method,
                yarl.URL(address, encoded=True),
                data=form,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
                allow_redirects=False,
            ) as response:
                status = response.status
                body = await read_at_most(response.content, _MOST_BYTES)
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise IssuerError(f"the issuer cannot be asked: {type(exc).__name__}") from exc
        if status >= 500 or status == 429:
            raise IssuerError(f"the issuer answered {status}")
        if body is None:
            raise IssuerError(f"the issuer's answer is longer than {_MOST_BYTES} bytes")
        try:
            answer = msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise IssuerError(f"the issuer answered {status}, and no JSON object") from exc
        if status != 200:
            raise CodeRefused(f"the provider answered {status}: {str(answer.get('error'))[:_LONGEST_ERROR]!r}")
        return answer

    def _prove(self, form: dict[str, str]) -> dict[str, str]:
        """Return the header that proves who asks, or put the proof into the form."""
        client = self._section.client_id
        secret = self._section.client_secret
        if secret is not None:
            # RFC 6749 section 2.3.1: encoded as form fields are, before they are joined.
            pair = f"{quote_plus(client)}:{quote_plus(secret.reveal())}"
            return {"Authorization": f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"}
        form["client_id"] = client
        if self._key is not None:
            now = int(self._clock().timestamp())
            claims = {
                "iss": client,
                "sub": client,
                # The issuer alone: whoever else is shown it can do nothing with it (draft-ietf-oauth-rfc7523bis).
                "aud": self.issuer,
                "jti": secrets.token_urlsafe(16),
                "iat": now,
                "exp": now + _ASSERTION_SECONDS,
            }
            form |= {
                "client_assertion_type": ASSERTION_TYPE,
                "client_assertion": self._key.sign(claims, type_="JWT"),
            }
        return {}


def _check_hash(claims: Mapping[str, Any], algorithm: str, access_token: Any) -> None:
    """Raise TokenRefused if `at_hash` is there and another access token's (OpenID Connect Core 1.0 section 3.1.3.8)."""
    if "at_hash" not in claims:
        return
    if not isinstance(access_token, str) or not access_token.isascii():
        raise TokenRefused("its `at_hash` speaks of an access token that is not there")
    digest = hashlib.new(_HASHES[algorithm[-3:]], access_token.encode("ascii")).digest()
    expected = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")
    if claims["at_hash"] != expected:
        raise TokenRefused("its `at_hash` is another access token's")


def _safe(issuer: str, address: Any) -> str:
    """Return an address of the provider's that can be used as it stands, or raise IssuerError."""
    if not isinstance(address, str) or not address.isascii() or not address.isprintable() or " " in address:
        raise IssuerError("the discovery document lacks an endpoint that a sign-in needs")
    try:
        is_safe = may_lead_to(issuer, address) and not urlsplit(address).fragment and "#" not in address
    except ValueError as exc:
        raise IssuerError("an endpoint of the discovery document is no URL") from exc
    if not is_safe:
        raise IssuerError("an endpoint of the discovery document is not https")
    return address


def _with_query(address: str, more: Mapping[str, str]) -> str:
    """Return the address with `more` behind what its query holds already (RFC 6749 section 3.1)."""
    return f"{address}{'&' if '?' in address else '?'}{urlencode(more)}"
