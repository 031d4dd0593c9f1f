"""Serves what our pages load: `GET /.locum/static/…`, on every host."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib import resources

from aiohttp import web

PATH = "/.locum/static"
_TYPES = {"css": "text/css", "svg": "image/svg+xml", "js": "text/javascript"}


@cache
def routes() -> Sequence[web.AbstractRouteDef]:
    """Return one route for each file there is, so that no path of a caller's is ever looked up.

    The files are read once in a process: they are those of the package, and nobody changes them.
    """
    folder = resources.files("gateway.pages").joinpath("static")
    files = [file for file in folder.iterdir() if file.name.rpartition(".")[2] in _TYPES]
    return tuple(_route(file.name, file.read_bytes()) for file in files)


def _route(name: str, content: bytes) -> web.RouteDef:
    tag = f'"{sha256(content).hexdigest()[:32]}"'
    kind = _TYPES[name.rpartition(".")[2]]
    headers = {"Cache-Control": "public, max-age=300", "ETag": tag, "X-Content-Type-Options": "nosniff"}

    async def serve(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    return web.get(f"{PATH}/{name}", serve)
