"""Who may use the security team's console: looks at each request before anything is shown or done."""

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from gateway import cookie_names
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record
from gateway.caller import Caller
from gateway.console.security.people import People
from gateway.console.security.place import Place
from gateway.console.security.sessions import Sessions, form_token_of, session_of
from gateway.console.security.visit import AUDITOR, PATH, SIGN_IN, Visit
from gateway.forms import NOT_A_PERSON, TOO_OLD, check_sender, holds_token
from gateway.origin import is_page_load
from gateway.pages.render import Pages
from gateway.staff.sign_in.setting import read_cookie
from policy.model import Deny, DenyReason

log = logging.getLogger(__name__)

LIVE: Final = "live"
"""The parameter by which a page of ours asks for itself anew, which is no use of the session."""
_ELSEWHERE = (
    "This gateway has no console here, or is asked for by another name than its own.",
    "Operators give the console an origin in [console.security]; without one it is this machine’s loopback alone.",
)


class Admission:
    """Tells who is there; whatever it refuses is answered here.

    Every call raises StoreError, and then nobody is known to be there.
    """

    def __init__(
        self, place: Place | None, *, sessions: Sessions, people: People, journal: AuditLog, pages: Pages
    ) -> None:
        """Without a `place` there is no console."""
        self._place = place
        self._sessions = sessions
        self._people = people
        self._journal = journal
        self._pages = pages

    async def for_page(self, request: web.Request) -> Visit | web.Response:
        """Return who wants to see something, or the answer to somebody who may not: nobody is led to the sign-in.

        A person's page load counts as a use, and so does what a page of ours asks for by a script, unless it asks for
        itself anew, with the parameter `live`.
        """
        refused = self.refuse_outright(request)
        if refused is not None:
            return refused
        is_load = is_page_load(request.raw_headers)
        if not is_load and not _is_own_script(request):
            # Who can read the page has its form's token.
            return self._refusal(Deny(reason=DenyReason.CROSS_SITE, detail=NOT_A_PERSON))
        found = await self._identify(request, counts=LIVE not in request.query)
        if found is not None:
            return found
        if not is_load:
            return self._pages.message("Not signed in", "You are not signed in any more.", status=403, again=PATH)
        here = request.path_qs
        return lead(SIGN_IN if here == PATH else f"{SIGN_IN}?{urlencode({'return': here})}")

    async def for_stream(self, request: web.Request) -> Visit | web.Response:
        """Return whose page goes on being looked at, or the answer to a stream that is nobody's; it is no use."""
        refused = self.refuse_outright(request)
        if refused is not None:
            return refused
        if request.headers.getall("Sec-Fetch-Site", ["same-origin"]) != ["same-origin"]:
            return self._refusal(Deny(reason=DenyReason.CROSS_SITE))
        found = await self._identify(request, counts=False)
        if found is None:
            return self._pages.message("Not signed in", "You are not signed in any more.", status=403, again=PATH)
        return found

    async def before_form(self, request: web.Request) -> web.Response | None:
        """Return the answer to a form of somebody who is nobody here, before any of it is read; None: read it."""
        refused = self.refuse_outright(request)
        if refused is not None:
            return refused
        found = await self._identify(request, counts=False)
        return None if isinstance(found, Visit) else found or self._nobody(self.check_sender(request))

    async def for_change(
        self, request: web.Request, fields: Sequence[tuple[str, str]], *, role: str = AUDITOR
    ) -> Visit | web.Response:
        """Return who has sent a form of ours, and has the role; a refusal of somebody who is known is on the record."""
        refused = self.refuse_outright(request)
        if refused is not None:
            return refused
        wrong = self.check_sender(request)
        found = await self._identify(request, counts=wrong is None)
        if not isinstance(found, Visit):
            return found or self._nobody(wrong)
        wrong = wrong or (None if holds_token(fields, [found.form_token]) else TOO_OLD)
        if wrong is not None:
            return await self.refuse(Deny(reason=DenyReason.CROSS_SITE, detail=wrong), request, found)
        if role not in found.roles:
            deny = Deny(reason=DenyReason.NEVER_ALLOWED, detail=f"only somebody with the role {role} may do this")
            return await self.refuse(deny, request, found, reason=f"not_{role}")
        return found

    async def still(self, visit: Visit) -> bool:
        """Tell whether somebody is signed in still, and may do what they could; it is no use of the session."""
        kept = await self._sessions.find_by(visit.session, counts=False)
        standing = None if kept is None else await self._people.judge(kept)
        return standing is not None and standing.roles >= visit.roles and standing.account == visit.account

    def form_token(self, visit: Visit) -> str:
        """Return what every form of a page has to hold for them."""
        return visit.form_token

    def check_sender(self, request: web.Request) -> str | None:
        """Return why a form, whosever it is, is not from a page of the console that a person has sent; None if it is.

        What a script of ours sends is sent by the page.
        """
        origin = None if self._place is None else self._place.asked(request)
        return check_sender(request, origin.text if origin else "")

    def check_leaving(self, request: web.Request, fields: Sequence[tuple[str, str]]) -> str | None:
        """Return why a form cannot be somebody's wish to sign out; None if it is, whatever role they have."""
        value = self.cookie(request, cookie_names.SECURITY)
        expected = form_token_of(value) if isinstance(value, str) else ""
        # Without a cookie, there is nothing to end: the browser may forget it as well.
        is_ours = value is None or holds_token(fields, [expected])
        return self.check_sender(request) or (None if is_ours else TOO_OLD)

    def refuse_outright(self, request: web.Request) -> web.Response | None:
        """Return the answer to what is not for the console at all, None if it may be."""
        if self._place is None or self._place.asked(request) is None:
            return self._pages.message("Not here", *_ELSEWHERE, status=404)
        return None

    def cookie(self, request: web.Request, name: str) -> str | Deny | None:
        """Return the value of our cookie of this name; Deny if there are two, or what may be read as one."""
        if self._place is None or self._place.asked(request) is None:
            return None
        return read_cookie(request, name, secure=self._place.secure)

    async def refuse(
        self, deny: Deny, request: web.Request, visit: Visit, *, reason: str | None = None
    ) -> web.Response:
        """Return the answer to a refusal that is on the record; `reason` is what stands there for another word."""
        caller = visit.caller
        record = Record(
            kind="decision",
            decision="deny",
            reason=reason or str(deny.reason),
            rule="locum.console",
            by=visit.id,
            method=request.method,
            path=request.path,
            client_id=visit.client,
            client_ip=caller.client_ip,
            user_agent=caller.user_agent,
            request_id=caller.request_id,
        )
        try:
            await self._journal.append(record)
        except JournalError:
            log.exception("a refusal at the security team's console could not be recorded")
            deny = Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
        return self._pages.refusal(deny, again=PATH, request_id=caller.request_id)

    async def _identify(self, request: web.Request, *, counts: bool) -> Visit | web.Response | None:
        """Return who is there; None: nobody; an answer to somebody who is known and has no role."""
        value = self.cookie(request, cookie_names.SECURITY)
        if isinstance(value, Deny):
            return self._refusal(value)
        kept = None if value is None else await self._sessions.find(value, counts=counts)
        standing = None if kept is None else await self._people.judge(kept)
        if value is None or kept is None or standing is None:
            return None
        form_token = form_token_of(value)
        if not standing.roles:
            return self._pages.page(
                "security_barred.html", status=403, name=standing.name, why=standing.why, form_token=form_token
            )
        return Visit(
            id=kept.who,
            name=standing.name,
            roles=standing.roles,
            how=kept.how,
            account=standing.account,
            session=session_of(value),
            form_token=form_token,
            ends_at=self._sessions.end_of(kept),
            caller=Caller.direct(request),
        )

    def _nobody(self, wrong: str | None) -> web.Response:
        """Answer a form of nobody's; not on the record, for anybody can send one as often as they like."""
        if wrong is not None:
            return self._refusal(Deny(reason=DenyReason.CROSS_SITE, detail=wrong))
        return self._pages.message("Not signed in", "So nothing was done. Sign in first.", status=403, again=PATH)

    def _refusal(self, deny: Deny) -> web.Response:
        return self._pages.refusal(deny, again=PATH)


def lead(address: str) -> web.Response:
    """Send the browser elsewhere, with nothing kept of the address it came by."""
    headers = {"Location": address, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return web.Response(status=303, headers=headers)


def _is_own_script(request: web.Request) -> bool:
    """Tell whether a script of our own page asks, as browsers say it; nobody else's stands on this origin."""
    sites, destinations = (request.headers.getall(name, []) for name in ("Sec-Fetch-Site", "Sec-Fetch-Dest"))
    return sites == ["same-origin"] and destinations == ["empty"]
