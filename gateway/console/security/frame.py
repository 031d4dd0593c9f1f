"""The frame in which every page of the security team's console stands: who is there, and where else to go."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from aiohttp import web

from gateway.audit.log import JournalError
from gateway.bodies import Fields
from gateway.console.forms import FAULTS, MOST_FORM_BYTES, read_form, say
from gateway.console.security.admission import Admission
from gateway.console.security.visit import AUDITOR, HOW, PATH, SIGN_OUT, Visit
from gateway.pages.render import Pages
from gateway.stores.store import StoreError
from policy.model import Deny, DenyReason

NAVIGATION: Final = (
    ("now", "Now", PATH),
    ("log", "Access log", f"{PATH}/log"),
    ("evidence", "Evidence", f"{PATH}/evidence"),
)
"""What a page names as its place, what people read, and where it leads."""
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Sent(NamedTuple):
    """A form of ours, and who has sent it."""

    visit: Visit
    fields: Fields


class Frame:
    """Makes pages for whoever is signed in, and answers for what goes wrong while one is made."""

    def __init__(self, admission: Admission, pages: Pages) -> None:
        self.admission = admission
        self.pages = pages

    def page(
        self,
        visit: Visit,
        template: str,
        *,
        here: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> web.Response:
        """Return a page made of a template that extends `security_base.html`; `here` is its place in the navigation.

        The template has `visit`, `form_token`, `here`, `navigation`, `sign_out` and `how` beside its own values.
        """
        return self.pages.page(
            template, status=status, headers=headers, scripts=True, **self.values(visit, here), **values
        )

    def values(self, visit: Visit, here: str) -> dict[str, Any]:
        """Return what the frame's own template needs."""
        return {
            "visit": visit,
            "form_token": self.admission.form_token(visit),
            "here": here,
            "navigation": NAVIGATION,
            "sign_out": SIGN_OUT,
            "how": HOW[visit.how],
        }

    async def read_form(
        self, request: web.Request, *, role: str = AUDITOR, most: int = MOST_FORM_BYTES
    ) -> Sent | web.Response:
        """Return a form of ours, or the answer to somebody who may not send it; raises FormError.

        Nothing of it is read for somebody who is nobody here.
        """
        nobody = await self.admission.before_form(request)
        if nobody is not None:
            return nobody
        fields = await read_form(request, most)
        visit = await self.admission.for_change(request, fields, role=role)
        return visit if isinstance(visit, web.Response) else Sent(visit, fields)

    async def may_still(self, visit: Visit, *, now: datetime) -> bool:
        """Tell whether somebody is signed in still and may do what they could; nobody is while that cannot be told."""
        try:
            return now < visit.ends_at and await self.admission.still(visit)
        except StoreError:
            return False

    def guarded(self, answer: Answer, *, again: str = PATH) -> Answer:
        """Return a handler that says what could not be had, and that nothing was done; `again` is where to look."""
        return partial(self._guard, answer, again)

    async def _guard(self, answer: Answer, again: str, request: web.Request) -> web.StreamResponse:
        try:
            return await answer(request)
        except FAULTS as exc:
            return say(self.pages, exc, again=again)
        except StoreError:
            said = "The store cannot be read or written now, so nothing is shown and nothing was changed."
            code = str(DenyReason.STORE_UNAVAILABLE)
            return self.pages.message("Try again in a moment", said, status=503, again=again, code=code)
        except JournalError:
            return self.pages.refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), again=again)
