"""The same identity for Django REST framework, which would otherwise look for a session by itself."""

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from locum_verify.assertion import HEADER, Assertion


class AssertionAuthentication(BaseAuthentication):
    """Hands the middleware's answer on; name it first in DEFAULT_AUTHENTICATION_CLASSES."""

    def authenticate(self, request: Request) -> tuple[Any, Assertion] | None:
        """Return the agent whose place is taken and the assertion, or None for the next class to try."""
        assertion = getattr(request._request, "locum", None)
        return None if assertion is None else (request._request.user, assertion)

    def authenticate_header(self, _request: Request) -> str:
        """Return what a 401 asks for."""
        return HEADER
