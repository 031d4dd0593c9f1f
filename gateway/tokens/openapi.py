"""The description of our endpoints for programs: `GET /.locum/openapi.json` (OpenAPI 3.1), from the file beside."""

from collections.abc import Mapping
from functools import cache
from importlib import resources

import msgspec
from aiohttp import web

from gateway.places import Places

PATH = "/.locum/openapi.json"
_SECONDS = 300


class OpenApiEndpoint:
    """Serves the description, with our own address in it."""

    def __init__(self, places: Places) -> None:
        self._body = msgspec.json.encode({**_described(), "servers": [{"url": places.origin}]})

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(PATH, self.describe)]

    async def describe(self, _request: web.Request) -> web.Response:
        """Return the description."""
        headers = {"Cache-Control": f"max-age={_SECONDS}", "Access-Control-Allow-Origin": "*"}
        return web.Response(body=self._body, content_type="application/json", headers=headers)


@cache
def _described() -> Mapping[str, object]:
    """Return what the file says, read once in a process: it is one of the package, and nobody changes it."""
    described: dict[str, object] = msgspec.json.decode(
        resources.files("gateway.tokens").joinpath("openapi.json").read_bytes()
    )
    return described
