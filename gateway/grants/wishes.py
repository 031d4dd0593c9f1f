"""What bodies have in common by which an administrator of an account wishes something, on the admin listener."""

import json
from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
from aiohttp import web

from gateway.bodies import read_at_most
from policy.unique import unique

Refuse = Callable[[int, str, str], web.Response]
"""Makes the answer to what is refused, of its status, its reason and a line for people."""


class Who(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who made the choice, as the app knows them."""

    id: str
    roles: dict[str, str]
    assumed: bool = False


class Wish(Protocol):
    """A body that says whose wish it is."""

    @property
    def administrator(self) -> Who:
        """Return who made the choice."""


W = TypeVar("W", bound=Wish)


async def read_wish(
    request: web.Request, kind: type[W], *, refuse: Refuse, most_bytes: int, does: str = "made the choice"
) -> W | web.Response:
    """Return what the body asks for, or the answer to a body that does not fit."""
    body = await read_at_most(request.content, most_bytes)
    if body is None:
        return refuse(413, "malformed", f"the body is longer than {most_bytes} bytes")
    try:
        wish = msgspec.json.decode(body, type=kind)
        json.loads(body, object_pairs_hook=unique)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        return refuse(400, "malformed", f"the body does not fit: {exc}")
    if not wish.administrator.id:
        return refuse(400, "malformed", f"`administrator.id` must say who {does}")
    return wish
