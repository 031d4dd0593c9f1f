"""From which address a request to the console comes, as far as its sign-ins are counted by it."""

from aiohttp import web

from gateway.proxy.client_address import client_address
from gateway.proxy.peers import Trusts


def address_of(request: web.Request, trusts: Trusts) -> str:
    """Return the client's address, by what a trusted proxy in front says, or the connection's; empty if it has none.

    It says who is counted with whom, and never who gets in.
    """
    return client_address(request.raw_headers, request.remote or "", trusts)
