"""How the OAuth endpoints answer: JSON that no cache keeps, and errors in the words of RFC 6749 section 5.2."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from gateway.refusals import REALM, REFUSALS, Said
from policy.model import Deny, DenyReason

# RFC 6749 section 5.2 allows no other character in a description, and it may quote the caller.
_NOT_DESCRIPTIVE = re.compile(r"[^ !#-\[\]-~]")
_SIGN_IN_AGAIN = (DenyReason.STAFF_AUTHENTICATION_WEAK, DenyReason.STAFF_SIGNED_OUT)
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def answer(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON answer that nobody keeps (RFC 6749 section 5.1)."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={**_NO_STORE, **(headers or {})},
    )


def error(
    status: int,
    code: str,
    description: str,
    deny: Deny | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    said: Said = (),
) -> web.Response:
    """Return an error; with `deny` its stable reason stands beside the code, and whatever else is `said`."""
    body: dict[str, Any] = {"error": code, "error_description": _NOT_DESCRIPTIVE.sub("?", description)}
    if deny is not None:
        body["reason"] = str(deny.reason)
    body.update(said)
    # RFC 6749 section 5.2: a 401 names the scheme by which a client may authenticate.
    challenge = {"WWW-Authenticate": f'Basic realm="{REALM}"'} if status == 401 else {}
    return answer(status, body, {**challenge, **(headers or {})})


def refusal(
    deny: Deny, *, code: str | None = None, headers: Mapping[str, str] | None = None, said: Said = ()
) -> web.Response:
    """Return what a reason looks like here; `code` where the request itself was wrong and says how."""
    known = REFUSALS[deny.reason]
    if known.status == 503:
        return error(503, "temporarily_unavailable", known.title, deny, {"Retry-After": "1"})
    # RFC 8693 section 2.2.2: whatever is invalid or not acceptable by policy is a 400.
    sign_in = "insufficient_user_authentication" if deny.reason in _SIGN_IN_AGAIN else None
    return error(400, code or sign_in or known.oauth, deny.detail or known.title, deny, headers, said=said)
