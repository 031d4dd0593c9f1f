"""What the forms of our pages have in common: how long each may be, how its fields read, what is said when it fails."""

from typing import Final

from aiohttp import web

from gateway import bodies
from gateway.bodies import Fields, FormError
from gateway.grants.certain import Uncertain
from gateway.pages.render import Pages

MOST_FORM_BYTES: Final = 8 * 1024
_MOST_DIGITS: Final = 18
FAULTS: Final = (FormError, Uncertain)
"""What a form may come to that is said in the same words everywhere."""


async def read_form(request: web.Request, most: int = MOST_FORM_BYTES) -> Fields:
    """Return the fields of a form of ours of at most so many bytes; raises FormError."""
    return await bodies.read_form(request, most)


def read_number(fields: Fields, name: str) -> int:
    """Return the number of a field that has to be there once; raises FormError."""
    given = bodies.read_one(fields, name)
    if not (given.isascii() and given.isdigit() and len(given) <= _MOST_DIGITS):
        raise FormError(f"`{name}` must be a number")
    return int(given)


def say(pages: Pages, fault: FormError | Uncertain, *, again: str) -> web.Response:
    """Return the page for one of FAULTS; `again` is where to look."""
    if isinstance(fault, Uncertain):
        said = "It is not known whether that was done: look at how it is now."
        return pages.message("Look again", said, status=503, again=again)
    return pages.message("Nothing was done", f"This is no form of ours: {fault}.", status=400, again=again)
