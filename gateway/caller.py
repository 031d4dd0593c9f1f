"""Who calls our own endpoints, for the record."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.audit.cutting import MAX_CHARACTERS, mark_cut
from gateway.tokens.hiding import hide_tokens

if TYPE_CHECKING:
    # The command line records who calls, too, and nobody calls it by HTTP.
    from aiohttp import web

_LONGEST_AGENT = 1024
"""In bytes; browsers' have a few hundred."""
_LONGEST_BESIDE_MARK = MAX_CHARACTERS - 128
"""In characters: with the mark it is no longer than what a record keeps whole, so nothing is cut twice."""
CLIENT_HEADER = "X-Locum-Client"
ACCOUNT_HEADER = "X-Locum-Account"
"""Which account a request to the control plane is for, by our front's own reading; missing where it names none."""
ASSUMED_HEADER = "X-Locum-Assumed"
"""Whether in front of the app it would be staff's: by its credential, good or not, or by a catch rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What a record says of a request to the control plane or the admin listener."""

    client_ip: str | None
    user_agent: str | None
    request_id: str

    @classmethod
    def through_front(cls, request: web.Request) -> Caller:
        """Read it off a request of the control plane: our front states the address, and strips what others state."""
        return cls._of(request, request.headers.get(CLIENT_HEADER))

    @classmethod
    def direct(cls, request: web.Request) -> Caller:
        """Read it off a request of the admin listener: the address is that of the connection."""
        return cls._of(request, request.remote)

    @classmethod
    def _of(cls, request: web.Request, client_ip: str | None) -> Caller:
        agent = request.headers.get("User-Agent")
        kept = None if agent is None else describe_agent(agent.encode("utf-8", "surrogateescape"))
        return cls(client_ip=client_ip or None, user_agent=kept, request_id=f"req_{secrets.token_hex(8)}")


def describe_agent(value: bytes) -> str:
    r"""Return what a record says of a `User-Agent`: no token of ours, and no more than somebody may want to read.

    A byte that is no UTF-8 is written as `\xNN` and a backslash as two, so that no two are written alike. What is cut
    says so, with the digest of all bytes.
    """
    text = hide_tokens(value[:_LONGEST_AGENT]).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    if len(value) <= _LONGEST_AGENT and len(text) <= _LONGEST_BESIDE_MARK:
        return text
    return text[:_LONGEST_BESIDE_MARK] + mark_cut(value, len(value), "bytes")
