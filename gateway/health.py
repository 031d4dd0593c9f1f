"""Health for operators: alive, and ready part by part; nothing here is ever recorded in the journal."""

import asyncio

import msgspec
from aiohttp import web

from gateway.state import State
from gateway.stores.store import KillSwitch, Store, StoreError


class Health:
    """`/healthz` and `/readyz` of the admin listener."""

    def __init__(self, state: State) -> None:
        self._state = state

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes that this serves."""
        return [web.get("/healthz", self.live), web.get("/readyz", self.ready)]

    async def live(self, _request: web.Request) -> web.Response:
        """Say that the process answers."""
        return web.json_response({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Say whether staff can be let in; 503 if a part that they need is missing. Customers are served either way.

        Without the push, or with a clock that was set back, they can: it is shown as degraded, and answered with 200.
        """
        switch = await ask_kill_switch(self._state.store, patience_seconds=self._state.facts.patience_seconds)
        parts = {"store": self._store(switch), "journal": "ok" if self._state.journal.healthy else "failing"}
        ready = set(parts.values()) == {"ok"}
        parts["push"] = "lost" if self._state.follower.is_lost else "ok"
        parts["clock"] = "set_back" if self._state.seconds_set_back() else "ok"
        document: dict[str, object] = {
            "status": "ok" if set(parts.values()) == {"ok"} else "degraded",
            "parts": parts,
            "kill_switch": "unknown" if switch is None else "on" if switch.on else "off",
        }
        if statuses := self._state.sinks.statuses:
            # For information: whatever becomes of them, the journal has every record.
            document["sinks"] = {status.name: status.state for status in statuses}
        return web.Response(
            status=200 if ready else 503, body=msgspec.json.encode(document), content_type="application/json"
        )

    def _store(self, switch: KillSwitch | None) -> str:
        if switch is None:
            return "failing"
        return "stale" if self._state.follower.is_stale else "ok"


async def ask_kill_switch(store: Store, *, patience_seconds: float) -> KillSwitch | None:
    """Return the kill-switch as the store has it, or None if it does not answer in time."""
    try:
        async with asyncio.timeout(patience_seconds):
            return await store.find_kill_switch()
    except (StoreError, TimeoutError):
        return None
