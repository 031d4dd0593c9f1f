"""How bodies of the admin listener are read, and those by which an administrator of an account wishes something."""

import json
from typing import Final, Protocol, TypeVar

import msgspec
from aiohttp import web

from gateway.bodies import read_at_most
from gateway.grants.answers import Problem
from policy.unique import unique


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


B = TypeVar("B")
W = TypeVar("W", bound=Wish)
_MOST_BYTES: Final = 16 * 1024


async def read_wish(
    request: web.Request,
    kind: type[W],
    *,
    refuse: Problem,
    most_bytes: int = _MOST_BYTES,
    does: str = "made the choice",
) -> W | web.Response:
    """Return what the body asks for, or the answer to a body that does not fit."""
    wish = await read_body(request, kind, refuse=refuse, most_bytes=most_bytes)
    if not isinstance(wish, web.Response) and not wish.administrator.id:
        return refuse(400, "malformed", f"`administrator.id` must say who {does}")
    return wish


async def read_body(
    request: web.Request, kind: type[B], *, refuse: Problem, most_bytes: int = _MOST_BYTES
) -> B | web.Response:
    """Return what a body of JSON says, each name in it once, or the answer to one that does not fit."""
    body = await read_at_most(request.content, most_bytes)
    if body is None:
        return refuse(413, "malformed", f"the body is longer than {most_bytes} bytes")
    try:
        read = msgspec.json.decode(body, type=kind)
        json.loads(body, object_pairs_hook=unique)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        return refuse(400, "malformed", f"the body does not fit: {exc}")
    return read
