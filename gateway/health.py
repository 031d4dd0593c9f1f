"""Health for operators: alive, and ready part by part; nothing here is ever recorded in the journal."""

import msgspec
from aiohttp import web

from gateway.audit.log import AuditLog
from gateway.stores.store import Store, StoreError
from policy.model import AccountId

_NOBODY = AccountId("-")  # no host can name it


class Health:
    """`/healthz` and `/readyz` of the admin listener."""

    def __init__(self, store: Store, journal: AuditLog) -> None:
        self._store = store
        self._journal = journal

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes that this serves."""
        return [web.get("/healthz", self.live), web.get("/readyz", self.ready)]

    async def live(self, _request: web.Request) -> web.Response:
        """Say that the process answers."""
        return web.json_response({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        """Say whether staff can be let in; 503 if a part is missing. Customers are served either way."""
        parts = {"store": await self._store_answers(), "journal": self._journal.healthy}
        ok = all(parts.values())
        document = {
            "status": "ok" if ok else "degraded",
            "parts": {k: "ok" if v else "failing" for k, v in parts.items()},
        }
        return web.Response(
            status=200 if ok else 503, body=msgspec.json.encode(document), content_type="application/json"
        )

    async def _store_answers(self) -> bool:
        try:
            await self._store.find_account(_NOBODY)
        except StoreError:
            return False
        return True
