"""The cookies of a browser's sign-in, as they are set and taken back."""

from aiohttp import web

from gateway import cookie_names


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
