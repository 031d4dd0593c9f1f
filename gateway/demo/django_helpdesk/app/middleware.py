"""What a Django app needs to believe Locum's assertion: a middleware, and the same identity for REST framework.

Copy it into the app and name three settings: LOCUM_JWKS (the URL of the gateway's keys), LOCUM_ISSUER and
LOCUM_AUDIENCE. Put the middleware behind AuthenticationMiddleware, and the class first in
DEFAULT_AUTHENTICATION_CLASSES. Requests without the header are left to the app's ordinary login.
"""
# Django lives in the app's environment, not in the one that mypy sees.
# mypy: disable-error-code="import-not-found, misc"

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import jwt
from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

HEADER = "X-Locum-Assertion"
_TYPE = "locum-assertion+jwt"
_REQUIRED = ["iss", "aud", "sub", "iat", "exp", "jti"]
_LONGEST_LIFE_SECONDS = 60
_CLOCK_SKEW_SECONDS = 5
_REFETCH_SECONDS = 60
_RETRY_SECONDS = 1
_KEY_TRUST_SECONDS = 600
_FETCH_TIMEOUT_SECONDS = 5


class AssertionMiddleware:
    """Makes the request the agent's own for its duration: nobody is logged in, no session is read or written.

    Answers 401 to an assertion that does not verify and 403 to one about an agent who is unknown or inactive.
    Behind it `request.locum` holds the claims; `request.locum["act"]` says who is really there.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._keys = _Keys(settings.LOCUM_JWKS)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        token = request.headers.get(HEADER)
        if token is None:
            return self._get_response(request)
        try:
            claims = _verify(token, self._keys)
        except jwt.InvalidTokenError:
            return _refuse(401, "the assertion is not valid")
        users = get_user_model()
        try:
            user = users.objects.get(**{users.USERNAME_FIELD: claims["sub"]}, is_active=True)
        except users.DoesNotExist:
            return _refuse(403, "there is no such active agent here")
        # Set directly instead of login(): that would take a session row and write last_login. The agent's own
        # session, should its cookie have come along, is neither shown to the request nor changed by it.
        request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        request.session = type(request.session)()
        request.user = request._cached_user = user
        request.locum = claims
        response = self._get_response(request)
        request.session.modified = False
        return response


class AssertionAuthentication(BaseAuthentication):
    """Hands the middleware's answer to REST framework, which would otherwise look for a session by itself."""

    def authenticate(self, request: Request) -> tuple[Any, dict[str, Any]] | None:
        """Return the assumed agent and the claims, or None for the next class to try."""
        claims = getattr(request._request, "locum", None)
        return None if claims is None else (request._request.user, claims)


def _verify(token: str, keys: "_Keys") -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    key = keys.find(str(header.get("kid")))
    if header.get("typ") != _TYPE or key is None:
        raise jwt.InvalidTokenError("another type of token, or a key that the gateway does not publish")
    claims = jwt.decode(
        token,
        key,
        algorithms=["EdDSA"],
        issuer=settings.LOCUM_ISSUER,
        audience=settings.LOCUM_AUDIENCE,
        leeway=_CLOCK_SKEW_SECONDS,
        options={"require": _REQUIRED},
    )
    if claims["exp"] - claims["iat"] > _LONGEST_LIFE_SECONDS:
        raise jwt.InvalidTokenError("an assertion lives for a minute at most")
    return claims


def _refuse(status: int, why: str) -> HttpResponse:
    headers = {"WWW-Authenticate": HEADER} if status == 401 else None
    return HttpResponse(f"{why}\n", status=status, content_type="text/plain", headers=headers)


class _Keys:
    """The gateway's public keys by id, fetched when first needed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known: dict[str, jwt.PyJWK] = {}
        self._quiet_until = 0.0
        self._stale_at = 0.0
        self._lock = threading.Lock()

    def find(self, kid: str) -> jwt.PyJWK | None:
        """Return the key, or None; made-up ids cause at most one fetch a minute.

        Every ten minutes the set is read anew, so that a key which the gateway has withdrawn is forgotten; as long
        as it cannot be read, the keys that are known go on.
        """
        with self._lock:
            now = time.monotonic()
            if now >= (self._stale_at if kid in self._known else self._quiet_until):
                fetched = self._fetch()
                self._quiet_until = now + (_REFETCH_SECONDS if fetched else _RETRY_SECONDS)
                self._stale_at = now + (_KEY_TRUST_SECONDS if fetched else _REFETCH_SECONDS)
            return self._known.get(kid)

    def _fetch(self) -> bool:
        try:
            # S310: the address is the operator's own setting, never the request's.
            with urllib.request.urlopen(self._url, timeout=_FETCH_TIMEOUT_SECONDS) as answer:  # noqa: S310
                document = json.load(answer)
            self._known = {key.key_id: key for key in jwt.PyJWKSet.from_dict(document).keys if key.key_id}
        except (OSError, ValueError, AttributeError, jwt.PyJWTError):
            return False
        return True
