"""What a page of the security team's console says once a form was done."""

import base64
import hmac
from collections.abc import Mapping

from aiohttp import web

from gateway.console.security.visit import Visit

_SAID = "said"


class Notes:
    """Told by the link that leads back, which only we can make, and only for the session that has sent the form."""

    def __init__(self, notes: Mapping[str, str]) -> None:
        """Know these, by the word that stands in the link."""
        self._notes = notes

    def back(self, visit: Visit, note: str, *, to: str) -> web.Response:
        """Lead back to a page of ours, where the note is shown to this person."""
        place = f"{to}{'&' if '?' in to else '?'}{_SAID}={note}.{_token(visit, note)}"
        return web.Response(status=303, headers={"Location": place, "Cache-Control": "no-store"})

    def read(self, request: web.Request, visit: Visit) -> str:
        """Return what a link says that is ours and for this session; empty for any other."""
        note, _, token = request.query.get(_SAID, "").partition(".")
        is_ours = note in self._notes and hmac.compare_digest(token.encode(), _token(visit, note).encode())
        return self._notes[note] if is_ours else ""


def _token(visit: Visit, note: str) -> str:
    made = hmac.digest(visit.form_token.encode("ascii"), b"note " + note.encode(), "sha256")
    return base64.urlsafe_b64encode(made[:16]).rstrip(b"=").decode("ascii")
