"""The public keys, for whoever verifies what we sign: `GET /.locum/jwks.json` (RFC 7517)."""

import hashlib
from collections.abc import Callable

import msgspec
from aiohttp import web

from gateway.tokens import answers
from gateway.tokens.keys import KeyRing
from policy.keys import PUBLISHED_KEPT
from policy.model import Deny, DenyReason

PATH = "/.locum/jwks.json"
_SECONDS = int(PUBLISHED_KEPT.total_seconds())


class JwksEndpoint:
    """Publishes the keys; while it is not known whether they are the newest, nobody is to keep them."""

    def __init__(self, keys: KeyRing, *, is_lost: Callable[[], bool], is_stale: Callable[[], bool]) -> None:
        """Ask `is_lost` whether changes of the store are not heard of, and `is_stale` whether it is an older copy."""
        self._keys = keys
        self._is_lost = is_lost
        self._is_stale = is_stale

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(PATH, self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Answer with the keys, or with 304 to whoever has them; none at all is an answer that nobody should keep."""
        if not self._keys.stored.are_read or self._is_stale():
            # An older copy of the store may hold keys that have ended since.
            return answers.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE))
        body = msgspec.json.encode(self._keys.jwks())
        tag = hashlib.sha256(body).hexdigest()[:32]
        kept = "no-cache" if self._is_lost() else f"max-age={_SECONDS}"
        headers = {"Cache-Control": kept, "ETag": f'"{tag}"'}
        if any(known.value in (tag, "*") for known in request.if_none_match or ()):
            # RFC 9110 section 15.4.5: with the headers that the whole answer would have.
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/jwk-set+json", headers=headers)
