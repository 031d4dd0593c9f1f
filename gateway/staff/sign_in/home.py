"""The page where staff begin: `GET /.locum/`."""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlencode

from aiohttp import web
from markupsafe import Markup

from gateway.forms import NOT_A_PERSON
from gateway.origin import is_page_load
from gateway.pages.render import Pages
from gateway.refusals import REFUSALS
from gateway.staff.sign_in.returning import HOME, read_return
from gateway.staff.sign_in.visitors import Visitor, Visitors
from gateway.stores.store import StoreError
from policy.model import Deny, DenyReason

SIGN_IN = "/.locum/sign-in"


class HomePart(Protocol):
    """A part of the page for whoever is signed in."""

    async def show(self, request: web.Request, visitor: Visitor) -> Markup:
        """Return it as it is for this visitor; raises StoreError."""


class HomePage:
    """Says who is signed in, and what they can do from there."""

    def __init__(self, visitors: Visitors, pages: Pages, parts: Sequence[HomePart] = ()) -> None:
        """Show `parts` in their order."""
        self._visitors = visitors
        self._pages = pages
        self._parts = parts

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(HOME, self.home)]

    async def home(self, request: web.Request) -> web.Response:
        """Answer with the page; on any other host than the staff origin's, with where that is."""
        visitors = self._visitors
        if not visitors.is_on:
            return self._pages.message(
                "Locum",
                "This gateway answers here. Staff do not sign in at this page, because it has no [staff.sign_in].",
                status=200,
            )
        if not visitors.is_here(request):
            return self._pages.page("elsewhere.html", place=f"{visitors.origin}{HOME}")
        if not is_page_load(request.raw_headers):
            # Who can read the page has its form's token.
            return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE, detail=NOT_A_PERSON), again=HOME)
        return_to = request.query.get("return", "")
        try:
            visitor = await visitors.who(request)
            if isinstance(visitor, Deny):
                return self._barred(request, visitor, sign_in_link(return_to, fresh=True))
            parts = [] if visitor is None else [await part.show(request, visitor) for part in self._parts]
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=HOME)
        return self._pages.page(
            "home.html", scripts=visitor is not None, visitor=visitor, parts=parts, sign_in=sign_in_link(return_to)
        )

    def _barred(self, request: web.Request, deny: Deny, sign_in: str) -> web.Response:
        title = REFUSALS[deny.reason].title
        return self._pages.page(
            "barred.html",
            status=403,
            said=f"{deny.detail or title}.",
            form_token=self._visitors.form_token(request),
            sign_in=sign_in,
            reason=deny.reason,
        )


def sign_in_link(return_to: str, *, fresh: bool = False) -> str:
    """Return where a sign-in begins that leads back to one of our pages, home unless it is a good one.

    With `fresh`, the person has to sign in anew at the provider.
    """
    wanted = read_return(return_to)
    asked = {} if wanted == HOME else {"return": wanted}
    if fresh:
        asked["fresh"] = "1"
    return f"{SIGN_IN}?{urlencode(asked, safe='/')}" if asked else SIGN_IN
