"""A program of the customer's that is told what happens by webhook, and believes what is signed and nothing else.

Written as its author would, from https://github.com/standard-webhooks/standard-webhooks and with none of our code.
"""

import asyncio
import base64
import binascii
import hmac
import json
from typing import Any, Self

from aiohttp import web

from gateway.clock import Clock

_TOLERANCE_SECONDS = 300.0
"""What was signed longer ago somebody may have kept, and send again."""


class Inbox:
    """Listens on this machine's loopback; whatever comes before it has a secret waits for that."""

    def __init__(self, *, clock: Clock) -> None:
        self.documents: list[dict[str, Any]] = []
        """What was told, each once, the newest last."""
        self.refused = 0
        """So often somebody said something without the signature that goes with it."""
        self._clock = clock
        self._key: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._known: set[str] = set()
        self._news = asyncio.Condition()
        self._port = 0

    @property
    def url(self) -> str:
        """Return where it takes webhooks."""
        return f"http://127.0.0.1:{self._port}/locum"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/locum", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._key.cancel()
        await self._runner.cleanup()

    def trust(self, secret: str) -> None:
        """Believe what is signed with this `whsec_` secret; raises ValueError if it is none."""
        prefix, _, text = secret.partition("_")
        if prefix != "whsec" or not text:
            raise ValueError("this is no secret of a webhook")
        self._key.set_result(base64.b64decode(text, validate=True))

    async def told(self, kind: str, **data: str) -> dict[str, Any]:
        """Return the first document of that type that says all of `data`, as soon as it is there."""
        async with self._news:
            while True:
                for document in self.documents:
                    if document["type"] == kind and data.items() <= document["data"].items():
                        return document
                await self._news.wait()

    async def _take(self, request: web.Request) -> web.Response:
        body, key = await request.read(), await asyncio.shield(self._key)
        name = request.headers.get("webhook-id", "")
        if not self._is_signed(request, name, body, key):
            self.refused += 1
            return web.Response(status=401)
        async with self._news:
            # The same is sent again where an answer was lost.
            if name not in self._known:
                self._known.add(name)
                self.documents.append(json.loads(body))
                self._news.notify_all()
        return web.Response(status=204)

    def _is_signed(self, request: web.Request, name: str, body: bytes, key: bytes) -> bool:
        timestamp = request.headers.get("webhook-timestamp", "")
        expected = hmac.digest(key, f"{name}.{timestamp}.".encode() + body, "sha256")
        for each in request.headers.get("webhook-signature", "").split():
            version, _, text = each.partition(",")
            try:
                given, age = base64.b64decode(text, validate=True), self._clock().timestamp() - int(timestamp)
            except (binascii.Error, ValueError):
                continue
            if version == "v1" and hmac.compare_digest(given, expected) and abs(age) <= _TOLERANCE_SECONDS:
                return True
        return False
