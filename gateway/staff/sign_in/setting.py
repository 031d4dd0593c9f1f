"""The cookies of a browser's sign-in, as they are read, set and taken back."""

from aiohttp import web

from gateway import cookie_names
from gateway.proxy.cookies import read_one
from policy.model import Deny, DenyReason


def read_cookie(request: web.Request, name: str, *, secure: bool) -> str | Deny | None:
    """Return the value of our cookie of this name; Deny if there are two, or what may be read as one."""
    wire = cookie_names.named(name, secure=secure).encode("ascii")
    lines = [line.encode("utf-8", "surrogateescape") for line in request.headers.getall("Cookie", [])]
    value = read_one(lines, wire)
    if sum(line.count(wire) for line in lines) > 1 or (value is not None and not value.isascii()):
        return Deny(reason=DenyReason.AMBIGUOUS_HEADER, detail="a cookie of ours is there twice: delete both")
    return None if value is None else value.decode("ascii")


class CookieSetter:
    """Sets our cookies for the host that answers, and for no script and no other host (RFC 6265bis section 4.1.3.2)."""

    def __init__(self, *, secure: bool) -> None:
        self._secure = secure

    def put(self, response: web.StreamResponse, name: str, value: str, *, seconds: int) -> None:
        """Have the browser keep a value for so many seconds.

        `Lax`, because it comes back from the provider by a link of another site; what changes anything is a POST, with
        which a browser sends no such cookie from elsewhere.
        """
        response.set_cookie(
            cookie_names.named(name, secure=self._secure),
            value,
            path="/",
            max_age=seconds,
            secure=self._secure,
            httponly=True,
            samesite="Lax",
        )

    def drop(self, response: web.StreamResponse, *names: str) -> None:
        """Have the browser forget the cookies of these names."""
        for name in names:
            self.put(response, name, "", seconds=0)
