"""One sign-in under way, bound to the browser that began it: all there is to remember of it is in its cookie.

The store holds nothing of it, so strangers who begin any number of them fill nothing. What goes to the provider is made
of the cookie one way, so nobody who sees the one has the other (RFC 7636 section 7.1, OpenID Connect Core 1.0 section
15.5.2).
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.staff.sign_in.returning import read_return

LIFETIME = timedelta(minutes=10)
"""As long as a person needs at the provider, second factor included."""
_VALUE = re.compile(r"[A-Za-z0-9_-]{43}\.([0-9]{1,12})\.([A-Za-z0-9_-]{0,700})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What the browser's cookie says; `read` and `begin` make it."""

    value: str
    """The cookie's value: 256 random bits, when it began, and where to return to."""
    begun_at: datetime
    return_to: str
    place: bytes = b""
    """Where it began; as one of any other place it asks and answers something else."""

    def __repr__(self) -> str:
        """Hide the value."""
        return "Attempt(…)"

    @classmethod
    def begin(cls, return_to: str, *, now: datetime, place: bytes = b"") -> "Attempt":
        """Return a new one, that leads back to `return_to` and counts at `place` alone."""
        seconds = int(now.timestamp())
        value = f"{secrets.token_urlsafe(32)}.{seconds}.{_encode(return_to.encode('utf-8'))}"
        return cls(value=value, begun_at=datetime.fromtimestamp(seconds, UTC), return_to=return_to, place=place)

    @classmethod
    def read(cls, value: str, *, leads: Callable[[str], str] = read_return, place: bytes = b"") -> "Attempt | None":
        """Return the one of a cookie's value, as if it had begun at `place`; None if we would never have made it.

        It leads back to what `leads` makes of where the value says.
        """
        found = _VALUE.fullmatch(value)
        if found is None:
            return None
        try:
            return_to = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4)).decode("ascii")
            begun_at = datetime.fromtimestamp(int(found[1]), UTC)
        except (ValueError, OverflowError, OSError):
            return None
        # A browser may say anything: what it says is looked at again as if it came in a link.
        return cls(value=value, begun_at=begun_at, return_to=leads(return_to), place=place)

    @property
    def state(self) -> str:
        """What the provider has to send back (RFC 6749 section 10.12)."""
        return self._derive(b"state")

    @property
    def nonce(self) -> str:
        """What the ID token has to hold (OpenID Connect Core 1.0 section 3.1.2.1)."""
        return self._derive(b"nonce")

    @property
    def verifier(self) -> str:
        """What proves to the provider that whoever redeems the code began the sign-in (RFC 7636 section 4.1)."""
        return self._derive(b"code_verifier")

    @property
    def challenge(self) -> str:
        """The verifier's S256 (RFC 7636 section 4.2)."""
        return _encode(hashlib.sha256(self.verifier.encode("ascii")).digest())

    @property
    def mark(self) -> bytes:
        """By what the store knows that it has been used."""
        return hashlib.sha256(b"sign-in " + self.state.encode("ascii")).digest()

    def is_over(self, now: datetime) -> bool:
        """Tell whether too much time has gone by, or it says that it begins in the future."""
        return not timedelta(seconds=-5) <= now - self.begun_at < LIFETIME

    def _derive(self, what: bytes) -> str:
        return _encode(hmac.digest(self.value.encode("ascii"), what + self.place, "sha256"))


def _encode(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
