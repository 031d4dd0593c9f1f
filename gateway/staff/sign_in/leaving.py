"""Signing out: `POST /.locum/sign-out`, here at once, and then at the provider if it has a place for it."""

import logging
from hashlib import sha256

from aiohttp import web

from gateway import cookie_names
from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.pages.render import Pages
from gateway.staff.issuer import IssuerError
from gateway.staff.sign_in.provider import Provider
from gateway.staff.sign_in.returning import HOME
from gateway.staff.sign_in.setting import CookieSetter
from gateway.staff.sign_in.visitors import Visitors
from gateway.staff.sign_outs import SignOuts
from gateway.stores.store import Store, StoreError
from policy.model import Deny, DenyReason

log = logging.getLogger(__name__)

PATH = "/.locum/sign-out"
_MOST_FORM_BYTES = 4096


class SignOutEndpoint:
    """Ends the session of a browser, and what the person has begun; it only takes power away."""

    def __init__(
        self, *, visitors: Visitors, pages: Pages, provider: Provider | None, store: Store, sign_outs: SignOuts
    ) -> None:
        self._visitors = visitors
        self._pages = pages
        self._provider = provider
        self._store = store
        self._sign_outs = sign_outs
        self._cookies = CookieSetter(secure=visitors.secure)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.leave)]

    async def leave(self, request: web.Request) -> web.Response:
        """End what the cookie stands for; the browser forgets the cookie only once that is stored."""
        if not self._visitors.is_on or not self._visitors.is_here(request):
            return self._pages.message("Not here", "Nobody signs out at this address.", status=404)
        # Before anything: a browser sends no cookie of ours with another site's form, which must drop none, either.
        wrong = self._visitors.check_sender(request)
        if wrong is not None:
            return self._not_yet(wrong)
        value = self._visitors.cookie(request, cookie_names.STAFF)
        if isinstance(value, Deny):
            return self._pages.refusal(value, again=HOME)
        try:
            return await self._leave(request, value)
        except FormError as exc:
            return self._pages.message("Not signed out", f"This is no form of ours: {exc}.", status=400, again=HOME)
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=HOME)

    async def _leave(self, request: web.Request, value: str | None) -> web.Response:
        fields = await read_form(request, _MOST_FORM_BYTES)
        if value is None:
            return self._nobody()
        wrong = self._visitors.check_form(request, fields, self._visitors.form_token(request))
        if wrong is not None:
            return self._not_yet(wrong)
        was_in = await self._end(value, request)
        response = self._pages.page("signed_out.html", provider=await self._farewell()) if was_in else self._nobody()
        self._cookies.drop(response, cookie_names.STAFF, cookie_names.SIGN_IN)
        return response

    async def _end(self, value: str, request: web.Request) -> bool:
        """End the session, and what was begun; False if it was over before, and nobody knows any more whose it was."""
        ended = await self._store.end_session(sha256(value.encode("ascii")).digest())
        if ended is None:
            return False
        await self._visitors.ends.tell()
        await self._sign_outs.leave(ended.actor, Caller.through_front(request))
        return True

    def _not_yet(self, wrong: str) -> web.Response:
        return self._pages.message("Not signed out", f"{wrong.capitalize()}.", status=403, again=HOME)

    def _nobody(self) -> web.Response:
        said = (
            "Nobody was signed in here any more, so nothing has changed.",
            "To end what you had begun in customers’ accounts, sign in and then out, or end it there.",
        )
        return self._pages.message("Nobody was signed in here", *said, status=200, again=HOME)

    async def _farewell(self) -> str | None:
        try:
            return None if self._provider is None else await self._provider.farewell()
        except IssuerError as exc:
            log.info("where people sign out at the provider is not known: %s", exc)
            return None
