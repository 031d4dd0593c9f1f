"""What is answered to a notice of the issuer's that was not taken: refused, or to be sent again."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One protocol's way to say it: a JSON object of two members, never kept by a cache."""

    code: str
    """The member that holds the error's code."""
    description: str
    """The member that says it in English."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def refuse(self, code: str, description: str) -> web.Response:
        """Return 400: the notice will never be taken."""
        return self._error(400, code, description)

    def again(self, description: str, *, seconds: int) -> web.Response:
        """Return 503: the notice may be taken when it is sent again, in so many seconds."""
        text = f"{description}: send it again"
        return self._error(503, "temporarily_unavailable", text, {"Retry-After": str(seconds)})

    def _error(
        self, status: int, code: str, description: str, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        return web.Response(
            status=status,
            body=msgspec.json.encode({self.code: code, self.description: description}),
            content_type="application/json",
            headers={**self.headers, "Cache-Control": "no-store", **(headers or {})},
        )
