"""An ordinary agent of the customer, who goes on working through the gateway all the while."""

import asyncio
from typing import Any

import aiohttp

from gateway.demo.desk import PASSWORD
from gateway.demo.story.scene import Scene

_PAUSE_SECONDS = 0.05


class Customer:
    """Ben of acme, with a session of the helpdesk's own."""

    def __init__(self) -> None:
        self.requests = 0
        self.odd: list[str] = []
        """What was not as ever."""
        self._cookie = ""

    async def sign_in(self, scene: Scene[Any]) -> int:
        """Sign in with a password, as ever; return the status."""
        answer = await scene.send("POST", "/login", form={"agent": "ben", "password": PASSWORD})
        self._cookie = answer.headers.get("Set-Cookie", "").partition(";")[0]
        return answer.status

    async def work(self, scene: Scene[Any]) -> None:
        """Ask who is there, again and again until cancelled; whatever is not plainly ben is noted."""
        while True:
            self.requests += 1
            try:
                answer = await scene.send("GET", "/whoami", headers={"Cookie": self._cookie})
            except (aiohttp.ClientError, OSError) as exc:
                self.odd.append(f"no answer: {exc}")
            else:
                if (answer.status, answer.document) != (200, {"account": "acme", "agent": "ben", "act": None}):
                    self.odd.append(answer.outcome)
            await asyncio.sleep(_PAUSE_SECONDS)
