"""What a page of ours says once a form of it was done."""

from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from aiohttp import web

from gateway.forms import FormTokens

V = TypeVar("V")
_SAID: Final = "said"


class Notes(Generic[V]):
    """Told by the link that leads back, which only we can make, and only for the visitor who has sent the form."""

    def __init__(self, notes: Mapping[str, str], tokens: FormTokens, *, whose: Callable[[V], tuple[str, ...]]) -> None:
        """Know these, by the word that stands in the link; `whose` tells one visitor from every other."""
        self._notes = notes
        self._tokens = tokens
        self._whose = whose

    def back(self, visit: V, note: str, *, to: str) -> web.Response:
        """Lead back to a page of ours, where the note is shown to this person; raises StoreError."""
        said = f"{_SAID}={note}.{self._tokens.make(*self._purpose(visit, note))}"
        place = f"{to}{'&' if '?' in to else '?'}{said}"
        return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})

    def read(self, request: web.Request, visit: V) -> str:
        """Return what a link says that is ours and for this person, empty for any other; raises StoreError."""
        note, _, token = request.query.get(_SAID, "").partition(".")
        is_ours = note in self._notes and self._tokens.counts(token, *self._purpose(visit, note))
        return self._notes[note] if is_ours else ""

    def _purpose(self, visit: V, note: str) -> tuple[str, ...]:
        return "note", *self._whose(visit), note
