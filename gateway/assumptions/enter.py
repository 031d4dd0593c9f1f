"""Taking an assumption over on the account's host: `POST /.locum/enter`, from the staff origin's page and no other."""

import logging
import secrets
from hashlib import sha256
from typing import Final

from aiohttp import web

from gateway import cookie_names
from gateway.assumptions.handing import BROWSER, HandOvers
from gateway.assumptions.holder import Holder
from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record, name_actor
from gateway.audit.writing.strangers import Strangers
from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.origin import is_page_load
from gateway.pages.render import Pages
from gateway.staff.sign_in.setting import CookieSetter
from gateway.stores.browsing import BROWSER_KEPT, BrowserAssumption
from gateway.stores.store import Store, StoreError
from policy.claims import ClaimsError
from policy.model import AssumptionClaims, Deny, DenyReason

log = logging.getLogger(__name__)

PATH: Final = "/.locum/enter"
_MOST_FORM_BYTES = 4096


class EnterEndpoint:
    """Gives the browser that brings a code the cookie that it stands for."""

    def __init__(
        self,
        *,
        hand_overs: HandOvers,
        holder: Holder,
        store: Store,
        journal: AuditLog,
        strangers: Strangers,
        pages: Pages,
        staff_origin: str,
        clock: Clock,
    ) -> None:
        self._hand_overs = hand_overs
        self._holder = holder
        self._store = store
        self._journal = journal
        self._strangers = strangers
        self._pages = pages
        self._staff_origin = staff_origin
        self._clock = clock
        self._cookies = CookieSetter(secure=staff_origin.startswith("https://"))

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.enter)]

    async def enter(self, request: web.Request) -> web.Response:
        """Redeem the code, once however many bring it, and lead into the app with the cookie set."""
        caller = Caller.through_front(request)
        # Or anybody could put a stranger's browser into an assumption of their own.
        if request.headers.getall("Origin", []) != [self._staff_origin] or not is_page_load(request.raw_headers):
            return await self._refuse(Deny(reason=DenyReason.CROSS_SITE), caller)
        try:
            handed = await self._hand_overs.redeem(_read_code(await read_form(request, _MOST_FORM_BYTES)))
            if handed is None:
                return await self._refuse(Deny(reason=DenyReason.COOKIE_UNKNOWN, detail=_TOO_LATE), caller)
            return await self._enter(request, caller, *handed)
        except FormError as exc:
            return await self._refuse(Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc)), caller)
        except (StoreError, ClaimsError):
            log.warning("an assumption could not be handed over", exc_info=True)
            return await self._refuse(Deny(reason=DenyReason.STORE_UNAVAILABLE), caller)
        except JournalError:
            return self._page(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), caller)

    async def _enter(self, request: web.Request, caller: Caller, claims: AssumptionClaims, text: str) -> web.Response:
        value, now = secrets.token_urlsafe(32), self._clock()
        if not self._holder.is_host_of(request, claims):
            await self._hand_overs.give_up(claims, caller)
            return await self._refuse(Deny(reason=DenyReason.WRONG_ACCOUNT), caller, claims)
        held = BrowserAssumption(
            digest=sha256(value.encode()).digest(),
            assumption=claims.assumption,
            claims=text,
            expires_at=claims.expires_at,
            seen_at=now,
        )
        try:
            await self._journal.append(_record(None, caller, claims), durable=True)
            await self._end_former(request, caller, claims)
            await self._store.add_browser(held, at=now)
        except (JournalError, StoreError):
            # The code is used up.
            await self._hand_overs.give_up(claims, caller)
            raise
        response = web.Response(status=303, headers={"Location": "/", "Cache-Control": "no-store"})
        # A page that stays open goes on being refused behind the end: it is no ordinary visitor's all at once.
        seconds = int((claims.expires_at + BROWSER_KEPT - now).total_seconds())
        self._cookies.put(response, cookie_names.ASSUMPTION, value, seconds=seconds)
        return response

    async def _end_former(self, request: web.Request, caller: Caller, claims: AssumptionClaims) -> None:
        """End what would go on with nobody to end it: the cookie of the one before is about to go. Raises StoreError.

        The browser sends that cookie only if both hosts are of one site, so the store is asked; and it may be another
        staff member's.
        """
        await self._holder.end(request, caller)
        held = await self._store.list_held(claims.actor, claims.account, at=self._clock())
        for former in held:
            await self._hand_overs.end(former, by=claims.actor, caller=caller)

    async def _refuse(self, deny: Deny, caller: Caller, claims: AssumptionClaims | None = None) -> web.Response:
        append = self._strangers.append if claims is None else self._journal.append
        try:
            await append(_record(deny, caller, claims))
        except JournalError:
            deny = Deny(reason=DenyReason.JOURNAL_UNAVAILABLE)
        return self._page(deny, caller)

    def _page(self, deny: Deny, caller: Caller) -> web.Response:
        return self._pages.refusal(deny, again=f"{self._staff_origin}/.locum/", request_id=caller.request_id)


_TOO_LATE = "the hand-over took too long, or was used before: begin again"


def _read_code(fields: list[tuple[str, str]]) -> str:
    codes = [value for name, value in fields if name == "code"]
    if len(codes) != 1:
        raise FormError("one `code` must be there")
    return codes[0]


def _record(deny: Deny | None, caller: Caller, claims: AssumptionClaims | None) -> Record:
    """Return the record of a browser's taking an assumption over."""
    return Record(
        kind="assumption",
        decision="allow" if deny is None else "deny",
        reason="entered" if deny is None else str(deny.reason),
        actor=name_actor(claims.actor, None) if claims else None,
        subject=claims.subject if claims else None,
        account=claims.account if claims else None,
        assumption=claims.assumption if claims else None,
        grant_id=claims.grant_id if claims else None,
        token_id=claims.token_id if claims else None,
        client_id=BROWSER,
        client_ip=caller.client_ip,
        user_agent=caller.user_agent,
        request_id=caller.request_id,
    )
