"""Forms of our own pages: whether a page of this origin has sent one, and whether we gave it to whoever sends it."""

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from aiohttp import web

from gateway.clock import Clock
from gateway.origin import is_page_load
from gateway.tokens.dpop import Signing
from gateway.tokens.signing import SigningKey
from policy.keys import CLOCKS_APART

FORM_TOKEN: Final = "form_token"  # noqa: S105 - the name of a field
NOT_A_PERSON: Final = "this is for people, and a script or a frame has asked for it"
TOO_OLD: Final = "the form is from before the sign-in, or from another one: load the page again"
_ELSEWHERE = "the form was not sent from a page of this origin"
_WINDOW = timedelta(hours=12)


def check_sender(request: web.Request, origin: str) -> str | None:
    """Return why a form, whosever it is, is not from a page of `origin` that a person has sent; None if it is.

    The origin by itself would do for today's browsers.
    """
    if request.headers.getall("Origin", []) != [origin]:
        return _ELSEWHERE
    if request.headers.getall("Sec-Fetch-Site", ["same-origin"]) != ["same-origin"]:
        return _ELSEWHERE
    return None if is_page_load(request.raw_headers) else NOT_A_PERSON


def holds_token(fields: Sequence[tuple[str, str]], expected: Sequence[str]) -> bool:
    """Tell whether a form has one token, which is one of those expected; an empty one is none."""
    given = [value for name, value in fields if name == FORM_TOKEN]
    return len(given) == 1 and _is_one_of(given[0], expected)


class FormTokens:
    """Makes the token of a form for somebody of whom we keep no session.

    Every process and node that signs with the same key makes the same, so no one has to remember any; it is good for
    half a day at the least and a whole one at the most. Raises StoreError while no key is known.
    """

    def __init__(self, keys: Signing, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def make(self, *purpose: str) -> str:
        """Return the token of now for this purpose: whose form it is, and for what."""
        return _make(self._keys.signing, _window(self._clock()), purpose)

    def good(self, *purpose: str) -> list[str]:
        """Return every token that counts now: also of another key that counts, and of just before."""
        now = self._clock()
        newest, oldest = _window(now + CLOCKS_APART), _window(now) - 1
        keys = {key.id: key for key in (self._keys.signing, *self._keys.published())}
        return [_make(key, window, purpose) for key in keys.values() for window in range(oldest, newest + 1)]

    def counts(self, token: str, *purpose: str) -> bool:
        """Tell whether a token counts now."""
        return _is_one_of(token, self.good(*purpose))


def _is_one_of(token: str, expected: Sequence[str]) -> bool:
    return any(one and hmac.compare_digest(token.encode(), one.encode()) for one in expected)


def _make(key: SigningKey, window: int, purpose: Sequence[str]) -> str:
    secret = sha256(b"locum forms\0" + key.pem()).digest()
    # Each part with its length, so that no two purposes read the same.
    said = b"".join(b"%d:%b" % (len(part), part) for part in (text.encode() for text in purpose))
    mac = hmac.digest(secret, b"%d " % window + said, "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")


def _window(at: datetime) -> int:
    return int(at.timestamp()) // int(_WINDOW.total_seconds())
