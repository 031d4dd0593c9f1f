"""How the APIs of the admin listener answer: JSON, or a problem (RFC 9457), never to be kept."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from gateway import problems

Problem = Callable[[int, str, str], web.Response]
"""Makes the answer to what is refused in one family, of its status, its reason and a line for people."""


def problem(family: str, status: int, reason: str, title: str) -> web.Response:
    """Return a refusal whose type is `family:reason`, with what its status asks for beside it."""
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="locum"'
    if status == 503:
        headers["Retry-After"] = "1"
    return web.Response(
        status=status,
        body=problems.build(f"{family}:{reason}", title=title, status=status, reason=reason),
        content_type="application/problem+json",
        headers=headers,
    )


def answer(document: Mapping[str, Any]) -> web.Response:
    """Return a document."""
    return web.Response(
        body=msgspec.json.encode(document), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
