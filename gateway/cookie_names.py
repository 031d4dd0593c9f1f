"""The names of our own cookies; none of them is ever seen by the app."""

from typing import Final

STAFF: Final = "locum-staff"
"""A staff member's browser session, on the staff origin."""
SIGN_IN: Final = "locum-sign-in"
"""A sign-in under way, on the staff origin."""
ASSUMPTION: Final = "locum-assumption"
"""An assumption, on its account's host."""
SECURITY: Final = "locum-security"
"""A session of the security team's console, on the admin listener."""
ENTRY: Final = "locum-entry"
"""A sign-in to it under way, likewise."""
ADMINISTRATOR: Final = "locum-administrator"
"""A session of an account's administrator who has signed in at the customer's own provider, on the account's host."""
ARRIVAL: Final = "locum-arrival"
"""A sign-in there under way, likewise."""

# Of such a cookie a browser takes care that it was set over TLS, by this host and for this host alone
# (RFC 6265bis section 4.1.3.2).
_HOST_ONLY = "__Host-"


def named(name: str, *, secure: bool) -> str:
    """Return the name as it goes over the wire; without `secure`, as on loopback, browsers refuse the prefix."""
    return f"{_HOST_ONLY}{name}" if secure else name


EVERY: Final = (ASSUMPTION, STAFF, SIGN_IN, SECURITY, ENTRY, ADMINISTRATOR, ARRIVAL)
ALL: Final = frozenset(named(name, secure=secure) for name in EVERY for secure in (True, False))
"""Every spelling of every name."""
