"""Middleware for ASGI 3 apps on asyncio: HTTP and WebSockets."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from locum_verify.assertion import HEADER, Assertion, Refused, Verifier

_NAME = HEADER.lower().encode("ascii")
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class LocumMiddleware:
    """Puts `locum.assertion` into the scope of a request with an assertion, and `locum.user` if asked to.

    A bad assertion is answered 401, one about whom `find_user` does not return 403; a WebSocket is not accepted, which
    servers answer 403. The app hears nothing of either. Requests without an assertion pass, and have neither key.
    """

    def __init__(
        self,
        app: App,
        verifier: Verifier,
        *,
        find_user: Callable[[Assertion], Any] | None = None,
        find_account: Callable[[Scope], str] | None = None,
    ) -> None:
        """Ask `find_user`, a plain function or a coroutine's, for the agent, who must exist and be active, else None.

        `find_account` says of a request's scope whose host was asked, for an app with several accounts.
        """
        self._app = app
        self._verifier = verifier
        self._find_user = find_user
        self._find_account = find_account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope = {key: value for key, value in scope.items() if key not in ("locum.assertion", "locum.user")}
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == _NAME]
        if lines:
            try:
                # On a thread, because the keys may have to be asked for.
                scope["locum.assertion"] = await asyncio.to_thread(self._read, lines, scope)
            except Refused as exc:
                await _refuse(scope, receive, send, 401, str(exc))
                return
            if self._find_user is not None:
                found = self._find_user(scope["locum.assertion"])
                scope["locum.user"] = await found if inspect.isawaitable(found) else found
                if scope["locum.user"] is None:
                    await _refuse(scope, receive, send, 403, "there is no such active agent here")
                    return
        await self._app(scope, receive, send)

    def _read(self, lines: list[str], scope: Scope) -> Assertion | None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"host"]
        path = scope.get("raw_path") or scope["path"].encode()
        query = scope.get("query_string", b"")
        target = path.partition(b"?")[0] + (b"?" + query if query else b"")
        return self._verifier.read(
            lines,
            account=self._find_account(scope) if self._find_account else None,
            # A WebSocket begins as a GET (RFC 6455 section 4.1).
            method=scope.get("method", "GET"),
            url=f"https://{hosts[0] if len(hosts) == 1 else ''}{target.decode('latin-1')}",
        )


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": why})
        return
    body = f"{why}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", HEADER.encode()))
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, (b"cache-control", b"no-store")]}
    )
    await send({"type": "http.response.body", "body": body})
