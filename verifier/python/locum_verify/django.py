"""Middleware for Django: the request is the agent's own for its duration, and nobody is logged in.

Settings: LOCUM_ISSUER and LOCUM_AUDIENCE; LOCUM_JWKS, the address of the keys, if it is not the issuer's own;
LOCUM_BOUND, if `upstream.bind_assertions` is on; LOCUM_ACCOUNT, the path of a function from a request to its account,
for an app with several. Put it behind AuthenticationMiddleware.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

from locum_verify.assertion import HEADER, Refused, Verifier
from locum_verify.keys import KeySet


class AssertionMiddleware:
    """Sets `request.user` to the agent whose place is taken, and `request.locum` to the assertion.

    A bad assertion is answered 401, one about an agent who is unknown or inactive 403. No session is read or written,
    `last_login` stays as it is, and no user is made. Requests without an assertion are left to the app's own login, and
    have `request.locum` None.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        """Read the settings."""
        self._get_response = get_response
        url = getattr(settings, "LOCUM_JWKS", None)
        self._verifier = Verifier(
            issuer=settings.LOCUM_ISSUER,
            audience=settings.LOCUM_AUDIENCE,
            keys=KeySet(url) if url else None,
            bound=getattr(settings, "LOCUM_BOUND", False),
        )
        find_account = getattr(settings, "LOCUM_ACCOUNT", None)
        self._find_account = import_string(find_account) if find_account else None

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        request.locum = None
        token = request.headers.get(HEADER)
        if token is None:
            return self._get_response(request)
        try:
            assertion = self._verifier.verify(
                token,
                account=self._find_account(request) if self._find_account else None,
                method=request.method,
                url=f"https://{request.META.get('HTTP_HOST', '')}{_target(request)}",
            )
        except Refused as exc:
            return _refuse(401, str(exc))
        users = get_user_model()
        try:
            user = users._default_manager.get_by_natural_key(assertion.subject)
        except users.DoesNotExist:
            user = None
        # Databases may fold case, or blanks at the end; the agent who was named is the one, or nobody.
        if user is None or not user.is_active or user.get_username() != assertion.subject:
            return _refuse(403, "there is no such active agent here")
        self._take_place(request, user)
        request.locum = assertion
        response = self._get_response(request)
        # Whatever the app has put there goes with the request; an empty one is neither stored nor sent.
        request.session = SessionStore()
        return response

    def _take_place(self, request: HttpRequest, user: Any) -> None:
        """Set the user without `login()`, which would take a session row and write `last_login`."""

        async def auser() -> Any:
            return user

        # The agent's own session, should its cookie have come along, is neither shown to the request nor changed.
        request.COOKIES.pop(settings.SESSION_COOKIE_NAME, None)
        # Of all kinds of sessions the one that stores nothing, whatever the app does with it.
        request.session = SessionStore()
        request.user = request._cached_user = user
        request.auser = auser


def _target(request: HttpRequest) -> str:
    raw = request.META.get("RAW_URI") or request.META.get("REQUEST_URI")
    return raw or request.get_full_path()


def _refuse(status: int, why: str) -> HttpResponse:
    headers = {"Cache-Control": "no-store", **({"WWW-Authenticate": HEADER} if status == 401 else {})}
    return HttpResponse(f"{why}\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)
