"""What is held for a browser, sealed with what only that browser has: the store alone reveals none of it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from secrets import token_bytes
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from gateway.proxy.cookies import CookieCredential

_PURPOSE: Final = b"locum: the app's cookies of one assumption"
_NONCE_BYTES: Final = 12


class Seal:
    """AES-256-GCM under a key of the cookie's value (RFC 5869 section 2.3; its 256 bits are random), for its row."""

    def __init__(self, credential: CookieCredential) -> None:
        key = HKDFExpand(algorithm=SHA256(), length=32, info=_PURPOSE).derive(credential.value)
        self._cipher = AESGCM(key)
        self._row = credential.digest

    def close(self, text: str) -> str:
        """Return the text sealed, as text."""
        nonce = token_bytes(_NONCE_BYTES)
        return urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), self._row)).decode("ascii")

    def open(self, sealed: str) -> str:
        """Return what was sealed; raises ValueError for anything else, another row's too."""
        raw = urlsafe_b64decode(sealed)
        try:
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], self._row).decode()
        except InvalidTag as exc:
            raise ValueError("it was sealed with another key, or changed since") from exc
