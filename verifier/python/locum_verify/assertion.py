"""Verifies an assertion: one type, one issuer, one audience, one algorithm for each key, a minute at the most."""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from locum_verify.keys import KeySet

HEADER = "X-Locum-Assertion"
TYPE = "locum-assertion+jwt"

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_MOST_CHARACTERS = 8192
_LONGEST_LIFE_SECONDS = 60
_CLOCK_SKEW_SECONDS = 5
_TEXTS = ("sub", "sid", "account", "scope", "grant_id", "jti")


class Refused(Exception):
    """The assertion proves nothing; the message says why, in one line without a word of it."""


@dataclass(frozen=True)
class Assertion:
    """Who is there: the actor really acts, in the place of the subject, an agent of the account."""

    subject: str
    """The agent, by the app's own id."""
    actor: str
    """The member of the vendor's staff, by the identity provider's `sub`."""
    actor_issuer: str
    account: str
    assumption: str
    """The id of this stretch of standing in (`sid`)."""
    grant: str
    scopes: frozenset[str]
    claims: Mapping[str, Any]
    """All of them."""


class Verifier:
    """Verifies the assertions of one gateway for one app; safe for several threads."""

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        keys: KeySet | None = None,
        bound: bool = False,
        clock: Callable[[], float] = time.time,  # noqa: TID251 - an app's clock is the machine's
    ) -> None:
        """Believe `issuer` (`server.issuer`) when it speaks to `audience` (`upstream.audience`).

        Its keys are at `/.locum/jwks.json` unless `keys` are given. With `bound` each assertion must be for the very
        request that it comes with (`upstream.bind_assertions`); without, it is still so where an assertion says it.
        """
        self._issuer = issuer
        self._audience = audience
        self._keys = keys or KeySet(f"{issuer.rstrip('/')}/.locum/jwks.json")
        self._bound = bound
        self._clock = clock

    def read(
        self, lines: Sequence[str], *, account: str | None = None, method: str | None = None, url: str | None = None
    ) -> Assertion | None:
        """Return what a request's header lines of that name say, None if there are none; raises Refused."""
        if not lines:
            return None
        if len(lines) > 1:
            raise Refused("more than one assertion")
        return self.verify(lines[0], account=account, method=method, url=url)

    def verify(
        self, token: str, *, account: str | None = None, method: str | None = None, url: str | None = None
    ) -> Assertion:
        """Return what an assertion says, or raise Refused.

        `account` is the one whose host was asked, for an app with several; `method` and `url` (as the gateway's client
        sees it: https, host, path and query) are those of the request. Asks for the keys if need be, which may take
        some seconds.
        """
        if len(token) > _MOST_CHARACTERS or _COMPACT.fullmatch(token) is None:
            raise Refused("not a signed JWT in compact form")
        head, _, _ = (_decode(part) for part in token.split("."))
        header = _read_object(head)
        kid = header.get("kid")
        # Exactly these members: so there is no `crit`, `jku`, `x5u`, `jwk` or `b64` to obey (RFC 8725 section 3).
        if set(header) != {"alg", "kid", "typ"} or header["typ"] != TYPE or not isinstance(kid, str):
            raise Refused("its header is not that of an assertion")
        key = self._keys.find(kid)
        if key is None or header["alg"] != key[0]:
            raise Refused("it is signed with no key of the gateway")
        try:
            payload = jwt.PyJWS(algorithms=[key[0]]).decode(token, key[1], algorithms=[key[0]])
        except jwt.PyJWTError as exc:
            raise Refused("its signature does not fit") from exc
        return self._check(_read_object(payload), account=account, request=(method, url))

    def _check(
        self, claims: dict[str, Any], *, account: str | None, request: tuple[str | None, str | None]
    ) -> Assertion:
        if claims.get("iss") != self._issuer or claims.get("aud") != self._audience:
            raise Refused("it is from another issuer or for another audience")
        act = claims.get("act")
        # One level only: a chain of actors is never issued (RFC 8693 section 4.1).
        if not isinstance(act, dict) or set(act) != {"sub", "iss"}:
            raise Refused("`act` does not name one actor")
        if not all(isinstance(text, str) and text for text in (*map(claims.get, _TEXTS), *act.values())):
            raise Refused("a claim is missing or not a text")
        self._check_times(claims.get("iat"), claims.get("exp"))
        if account is not None and claims["account"] != account:
            raise Refused("it is for another account")
        self._check_request(claims, request)
        return Assertion(
            subject=claims["sub"],
            actor=act["sub"],
            actor_issuer=act["iss"],
            account=claims["account"],
            assumption=claims["sid"],
            grant=claims["grant_id"],
            scopes=frozenset(claims["scope"].split(" ")),
            claims=claims,
        )

    def _check_times(self, issued_at: Any, expires_at: Any) -> None:
        if type(issued_at) is not int or type(expires_at) is not int:
            raise Refused("`iat` or `exp` is missing or not a whole number")
        # "on or after" the expiry is expired (RFC 7519 section 4.1.4): another clock excuses the beginning only.
        if not issued_at - _CLOCK_SKEW_SECONDS <= self._clock() < expires_at:
            raise Refused("it has expired, or is from the future: set both clocks by NTP")
        if expires_at - issued_at > _LONGEST_LIFE_SECONDS:
            raise Refused(f"it would live longer than {_LONGEST_LIFE_SECONDS} seconds")

    def _check_request(self, claims: Mapping[str, Any], request: tuple[str | None, str | None]) -> None:
        """Compare the request that it is bound to, if it is (the names are those of RFC 9449 section 4.2)."""
        if not self._bound and not {"htm", "htu"} & set(claims):
            return
        if None in request or (claims.get("htm"), claims.get("htu")) != request:
            raise Refused("it is for another request, or for none in particular")


def _decode(part: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as exc:
        raise Refused("not a signed JWT in compact form") from exc
    # A decoder drops the bits behind the last whole byte; only the one spelling without any may pass.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode("ascii"):
        raise Refused("not a signed JWT in compact form")
    return decoded


def _read_object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise Refused("a part of it is not JSON that can be read in one way only") from exc
    if not isinstance(document, dict):
        raise Refused("a part of it is not a JSON object")
    return document


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of a member that is there twice two readers may take two (RFC 7519 section 4).
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member is there twice")
    return found
