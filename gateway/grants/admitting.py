"""How every API of the admin listener lets somebody in and answers what fails: by one table for each API."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from gateway.clients import ClientAuthenticator
from gateway.grants.answers import Problem
from gateway.stores.store import Client

Work = Callable[[web.Request, Client], Awaitable[web.Response]]
Handler = Callable[[web.Request], Awaitable[web.Response]]
Said = tuple[int, str, str]
"""The status, the reason, and a line for people; an empty one stands for what the fault says itself."""
Faults = Mapping[type[Exception], Said]
"""How each fault is answered: the first that it is one of."""
GRANTS_ROLE: Final = "grants"
"""Of the app's own back end."""
UNKNOWN_ACCOUNT: Final[Said] = (404, "unknown_account", "there is no such account: add it with `locum account add`")


def admitting(work: Work, *, clients: ClientAuthenticator, role: str, problem: Problem, faults: Faults) -> Handler:
    """Return the handler that has `work` done for a client with the role, and answers its `faults`."""
    known = tuple(faults)

    async def serve(request: web.Request) -> web.Response:
        try:
            client = await clients.authenticate(request.headers.getall("Authorization", []), role)
            if client is None:
                return problem(401, "unauthenticated", f"authenticate with HTTP Basic as a client with role `{role}`")
            return await work(request, client)
        except known as exc:
            status, reason, title = next(said for kind, said in faults.items() if isinstance(exc, kind))
            return problem(status, reason, title or str(exc))

    return serve
