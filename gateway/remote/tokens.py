"""What an assumption token says to whoever holds it, unverified: that is for the gateway to do."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec

_LONGEST = 16 * 1024


class Unreadable(Exception):
    """The text is no assumption token."""


class _Actor(msgspec.Struct, frozen=True, kw_only=True):
    sub: str
    iss: str


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """The claims that matter here."""

    iss: str
    sub: str
    act: _Actor
    client_id: str
    exp: int
    sid: str
    scope: str = ""
    authorization_details: list[dict[str, Any]] = []

    @property
    def expires_at(self) -> datetime:
        """When it ends at the latest."""
        return datetime.fromtimestamp(self.exp, UTC)

    def detail(self, name: str) -> str:
        """Return the account, the ticket or the reason; empty if it does not say."""
        found = self.authorization_details[0].get(name) if self.authorization_details else None
        return found if isinstance(found, str) else ""


def read(text: str) -> Said:
    """Return what it says; raises Unreadable."""
    parts = text.split(".")
    if len(parts) != 3 or len(text) > _LONGEST:
        raise Unreadable
    try:
        body = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        said = msgspec.json.decode(body, type=Said)
        said.expires_at.isoformat()
    except (ValueError, OverflowError, OSError) as exc:
        raise Unreadable from exc
    return said
