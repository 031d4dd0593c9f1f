"""The two codes of a device request: one that nobody can guess, and one that people type."""

import secrets
from hashlib import sha256
from typing import Final

LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ"
"""RFC 8628 section 6.1: no vowels, so no words, and nothing that looks like something else."""
LENGTH: Final = 8
"""20 to the 8th is 34.5 bits, of which `gateway.devices.guesses` lets nobody try more than a handful."""
_LONGEST_TYPED = 40


def new_device_code() -> str:
    """Return 256 random bits, for the device alone."""
    return secrets.token_urlsafe(32)


def digest_of_device(code: str) -> bytes:
    """Return what is stored of a device code."""
    return sha256(b"device code\0" + code.encode("utf-8", "surrogatepass")).digest()


def new_user_code() -> str:
    """Return a code for people, such as `WDJB-MJHT`."""
    letters = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
    return f"{letters[:4]}-{letters[4:]}"


def read_user_code(typed: str) -> str | None:
    """Return the code that somebody has typed, in whatever case and with whatever between; None if it is none."""
    if len(typed) > _LONGEST_TYPED or not typed.isascii():
        return None
    letters = "".join(letter for letter in typed.upper() if letter.isalnum())
    if len(letters) != LENGTH or not set(letters) <= set(LETTERS):
        return None
    return f"{letters[:4]}-{letters[4:]}"


def digest_of_user(code: str) -> bytes:
    """Return what a user code is found by; it hides nothing, because such codes are few."""
    return sha256(b"user code\0" + code.encode("ascii")).digest()
