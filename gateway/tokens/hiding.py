"""Tokens of ours in texts that anybody may write, hidden before a text is kept, however they are spelled there."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.tokens.signing import OUR_BEGINNING

_HIDDEN: Final = b"(token)"
_MOST_LAYERS = 8
"""How often a text may be percent-encoded over and over; what is so more often is for nobody to read."""
_LONG = 80
"""Shorter than what a token holds beside its header: its claims, and a signature of 64 bytes or more in base64url."""
_CLAIMS = b"eyJpc3Mi"
"""How the claims of our tokens begin, `{"iss"` in base64url: with the header, which is no secret, they are enough."""
# What no token has in it, and the parts of a target and words of a header are divided by.
_PIECE = re.compile(rb"[^/?&#;=\s,()\"']+")
_OUTSIDE = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"))


def hide_tokens(text: bytes) -> bytes:
    """Return a text as it may be kept: `(token)` in the place of each piece that is of a token of ours.

    It counts as one also where it is percent-encoded, in part or wholly or several times over, and where its parts are
    spread over several pieces: then what is long enough to be one is hidden.
    """
    return _PIECE.sub(_hide, text) if _tells(_squeeze(text)) else text


def _hide(piece: re.Match[bytes]) -> bytes:
    squeezed = _squeeze(piece[0])
    return _HIDDEN if _tells(squeezed) or squeezed is None or len(squeezed) >= _LONG else piece[0]


def _tells(squeezed: bytes | None) -> bool:
    return squeezed is None or OUR_BEGINNING in squeezed or _CLAIMS in squeezed


def _squeeze(text: bytes) -> bytes | None:
    """Return the base64url characters of a text behind all its escapes; None if those never end."""
    for _ in range(_MOST_LAYERS):
        if b"%" not in text or (decoded := unquote_to_bytes(text)) == text:
            return text.translate(None, _OUTSIDE)
        text = decoded
    return None
