"""The administrator who reads an open page of their account's, and until when."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from gateway.clock import Clock
from gateway.console.account.admission import Admission, Visit
from gateway.console.readers import Reader
from gateway.session_ends import SessionEnds

OpenReader = Callable[[web.Request, Visit], Reader]
"""Returns the reader of a page of whom a request for its stream was let in."""
_NOTHING: Final = "nothing was heard yet"


class PageReader:
    """A `gateway.console.readers.Reader`.

    Whom the app knows, only the app can tell of: it is asked at each look, as often as it is by pages
    (`remember_seconds`).
    """

    def __init__(
        self, request: web.Request, visit: Visit, *, admission: Admission, ends: SessionEnds, clock: Clock
    ) -> None:
        self._request = request
        self._visit = visit
        self._admission = admission
        self._ends = ends
        self._clock = clock
        self._heard: str | None = _NOTHING

    async def may_be_over(self) -> bool:
        """See `Reader`: by the end that is known of a session of ours, and by what is heard of such sessions."""
        until = self._visit.until
        if until is None:
            return False
        return self._clock() >= until or await self._ends.heard() != self._heard

    async def is_over(self) -> bool:
        """See `Reader`."""
        if self._visit.until is not None:
            # Before the look: what ends behind it is heard of the next time.
            self._heard = await self._ends.heard()
        found = await self._admission.still(self._request, self._visit)
        if found is None:
            return True
        self._visit = found
        return False
