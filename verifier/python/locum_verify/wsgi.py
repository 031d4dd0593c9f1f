"""Middleware for WSGI apps (PEP 3333)."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from locum_verify.assertion import HEADER, Assertion, Refused, Verifier

_KEY = "HTTP_" + HEADER.upper().replace("-", "_")
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class LocumMiddleware:
    """Puts `locum.assertion` into the environment of a request with an assertion, and `locum.user` if asked to.

    A bad assertion is answered 401, one about whom `find_user` does not return 403; the app hears nothing of either.
    Requests without an assertion pass as they are, and have neither key.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        find_user: Callable[[Assertion], Any] | None = None,
        find_account: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        """Ask `find_user` for the agent, who must exist and be active, else None.

        `find_account` says of a request's environment whose host was asked, for an app with several accounts.
        """
        self._app = app
        self._verifier = verifier
        self._find_user = find_user
        self._find_account = find_account

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        environ.pop("locum.assertion", None)
        environ.pop("locum.user", None)
        if _KEY not in environ:
            return self._app(environ, start_response)
        try:
            # Two lines of the header are one here with a comma between, which no assertion has.
            assertion = self._verifier.verify(
                environ[_KEY],
                account=self._find_account(environ) if self._find_account else None,
                method=environ.get("REQUEST_METHOD"),
                url=_url(environ),
            )
        except Refused as exc:
            return _refuse(start_response, "401 Unauthorized", str(exc))
        if self._find_user is not None:
            user = self._find_user(assertion)
            if user is None:
                return _refuse(start_response, "403 Forbidden", "there is no such active agent here")
            environ["locum.user"] = user
        environ["locum.assertion"] = assertion
        return self._app(environ, start_response)


def _url(environ: dict[str, Any]) -> str:
    """Return the address of a request as the client wrote it, as far as the server tells."""
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if not raw:
        path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1")
        query = environ.get("QUERY_STRING", "")
        raw = quote(path, safe="/:@!$&'()*+,;=~") + (f"?{query}" if query else "")
    return f"https://{environ.get('HTTP_HOST', '')}{raw}"


def _refuse(start_response: Callable[..., Any], status: str, why: str) -> Iterable[bytes]:
    body = f"{why}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    if status.startswith("401"):
        headers.append(("WWW-Authenticate", HEADER))
    start_response(status, [*headers, ("Cache-Control", "no-store")])
    return [body]
