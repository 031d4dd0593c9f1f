"""The page where staff approve or decline what a device asks for: `/.locum/device` (RFC 8628 section 3.3)."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from aiohttp import web
from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.audit.record import Record, name_actor
from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.clock import Clock
from gateway.devices.authorization import VERIFICATION_PATH
from gateway.devices.codes import read_user_code
from gateway.devices.desk import DeviceDesk
from gateway.devices.guesses import NetworkTries, Tries
from gateway.devices.record import record_device
from gateway.forms import NOT_A_PERSON
from gateway.grants.asking import GrantRequests
from gateway.grants.request_refusals import SAID
from gateway.origin import is_page_load
from gateway.pages.render import Pages
from gateway.pages.words import DURATIONS, PERMISSIONS
from gateway.proxy.cookies import OurCookies
from gateway.staff.sign_in.home import sign_in_link
from gateway.staff.sign_in.returning import HOME
from gateway.staff.sign_in.visitors import Visitor, Visitors
from gateway.stores.store import Store, StoreError
from gateway.tokens.starting import Attempt, Starter
from policy.asking import RequestRefusal, Wish
from policy.devices import DeviceRequest, Word
from policy.model import Deny, DenyReason
from policy.routes import Profile

MOST_OF_A_SESSION: Final = 10
"""So many wrong codes may come from one browser session in `WITHIN`."""
MOST_OF_A_NETWORK: Final = 40
"""Likewise from one network, in which several people may sit."""
WITHIN: Final = timedelta(minutes=10)
_MOST_FORM_BYTES = 4096
_WORDS = frozenset({str(Word.APPROVE), str(Word.DECLINE)})
_ASKED_FOR = frozenset(
    {
        DenyReason.GRANT_OFF,
        DenyReason.GRANT_REVOKED,
        DenyReason.GRANT_EXPIRED,
        DenyReason.PERMISSION_NOT_GRANTED,
    }
)
"""What the account's administrators can change."""


class DevicePage:
    """Shows who asks for what, from where, and takes down what the staff member says to it."""

    def __init__(
        self,
        *,
        visitors: Visitors,
        desk: DeviceDesk,
        starter: Starter,
        requests: GrantRequests,
        pages: Pages,
        profile: Profile,
        cookies: OurCookies,
        store: Store,
        journal: AuditLog,
        clock: Clock,
    ) -> None:
        self._visitors = visitors
        self._desk = desk
        self._starter = starter
        self._requests = requests
        self._pages = pages
        self._scopes = profile.scopes
        self._cookies = cookies
        self._journal = journal
        self._of_session = Tries(store, clock, what="user codes of a session", most=MOST_OF_A_SESSION, within=WITHIN)
        self._of_network = NetworkTries(
            store, clock, what="user codes of a network", most=MOST_OF_A_NETWORK, within=WITHIN
        )

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(VERIFICATION_PATH, self.show, allow_head=False), web.post(VERIFICATION_PATH, self.answer)]

    async def show(self, request: web.Request) -> web.Response:
        """Ask for the code, or show what stands behind it; nothing is approved by a link."""
        elsewhere = self._elsewhere(request) or self._refuse_script(request)
        if elsewhere is not None:
            return elsewhere
        typed = request.query.get("user_code", "")
        code = read_user_code(typed)
        here = VERIFICATION_PATH if code is None else f"{VERIFICATION_PATH}?user_code={code}"
        try:
            visitor = await self._visitors.who(request)
            if visitor is None:
                return web.Response(status=303, headers={"Location": sign_in_link(here), "Cache-Control": "no-store"})
            if isinstance(visitor, Deny):
                return self._pages.refusal(visitor, again=sign_in_link(here, fresh=True))
            if not typed or request.headers.getall("Sec-Fetch-Site", ["none"]) not in (["none"], ["same-origin"]):
                # A link of another site's, in a mail say, is looked up when the person wants that: it may be bait, or
                # one of many that would use up the tries.
                return self._pages.page("device.html", action=VERIFICATION_PATH, code=code or "")
            caller = Caller.through_front(request)
            found = await self._look(request, code, caller)
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=here)
        return self._question(found, visitor, caller) if isinstance(found, DeviceRequest) else found

    async def answer(self, request: web.Request) -> web.Response:
        """Take down what the staff member says, if the form is from our page and they may stand in by now."""
        elsewhere = self._elsewhere(request)
        if elsewhere is not None:
            return elsewhere
        try:
            return await self._answer(request, await read_form(request, _MOST_FORM_BYTES))
        except FormError as exc:
            said = f"This is no form of ours: {exc}."
            return self._pages.message("Nothing is approved", said, status=400, again=VERIFICATION_PATH)
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=VERIFICATION_PATH)
        except JournalError:
            return self._pages.refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE), again=VERIFICATION_PATH)

    async def _answer(self, request: web.Request, fields: Sequence[tuple[str, str]]) -> web.Response:
        code, word = _read(fields)
        caller = Caller.through_front(request)
        visitor = await self._visitors.author(request, fields, self._cookies)
        if isinstance(visitor, Deny):
            deny = await self._starter.refuse(visitor, Attempt(caller=caller))
            return self._pages.refusal(deny, again=VERIFICATION_PATH, request_id=caller.request_id)
        found = await self._look(request, code, caller)
        if not isinstance(found, DeviceRequest):
            return found
        if word is Word.DECLINE:
            return await self._decline(found, visitor, caller)
        return await self._approve(found, visitor, caller, self._visitors.session_of(request))

    def _elsewhere(self, request: web.Request) -> web.Response | None:
        if not self._visitors.is_on:
            said = "Staff do not sign in here, because the gateway has no [staff.sign_in]."
            return self._pages.message("Not here", said, status=404)
        if not self._visitors.is_here(request):
            return self._pages.page("elsewhere.html", status=404, place=f"{self._visitors.origin}{VERIFICATION_PATH}")
        return None

    def _refuse_script(self, request: web.Request) -> web.Response | None:
        """Return the answer for what could read the token of the page's form."""
        if is_page_load(request.raw_headers):
            return None
        return self._pages.refusal(Deny(reason=DenyReason.CROSS_SITE, detail=NOT_A_PERSON), again=VERIFICATION_PATH)

    async def _look(self, request: web.Request, code: str | None, caller: Caller) -> DeviceRequest | web.Response:
        """Return the request under a code, or the page that says there is none; wrong ones are counted."""
        tries: tuple[tuple[Tries | NetworkTries, str], ...] = (
            (self._of_session, self._visitors.session_of(request).hex()),
            (self._of_network, caller.client_ip or ""),
        )
        # Before it is looked for, so that guesses made at the same time are counted too.
        for counted, key in tries:
            if not await counted.take(key):
                said = "Too many wrong codes were entered. Wait ten minutes, and ask for a new code."
                return self._pages.message("Too many codes", said, status=429, again=VERIFICATION_PATH)
        found = None if code is None else await self._desk.find(code)
        if found is None:
            said = "No request waits under this code: it is mistyped, too old, or answered already."
            return self._pages.message("No such code", said, status=404, again=VERIFICATION_PATH)
        for counted, key in tries:
            await counted.forgive(key)
        return found

    def _question(self, found: DeviceRequest, visitor: Visitor, caller: Caller) -> web.Response:
        wanted = found.asked.scopes or {scope for scope in self._scopes if not scope.write}
        return self._pages.page(
            "device_question.html",
            action=VERIFICATION_PATH,
            visitor=visitor,
            found=found,
            scopes=sorted((str(scope), self._scopes.get(scope, "")) for scope in wanted),
            durations=DURATIONS,
            permissions=PERMISSIONS,
            is_same_address=bool(found.address) and found.address == caller.client_ip,
        )

    async def _decline(self, found: DeviceRequest, visitor: Visitor, caller: Caller) -> web.Response:
        record = _record(found, visitor, caller, allowed=False)
        await self._journal.append(record, durable=True)
        if not await self._settle(found, Word.DECLINE, record):
            return self._too_late()
        said = "The device is told so. If you did not ask for this yourself, tell your security team."
        return self._pages.message("Declined", said, status=200)

    async def _approve(self, found: DeviceRequest, visitor: Visitor, caller: Caller, session: bytes) -> web.Response:
        attempt = Attempt(caller=caller, client=found.client)
        judged = await self._starter.judge(attempt, found.asked, visitor.signed_in, client=found.client)
        if isinstance(judged, Deny):
            if found.wish is not None and judged.reason in _ASKED_FOR:
                return await self._ask(found, found.wish, visitor, caller, session)
            return self._pages.refusal(judged, again=VERIFICATION_PATH, request_id=caller.request_id)
        record = _record(found, visitor, caller, allowed=True)
        await self._journal.append(record, durable=True)
        if not await self._settle(found, Word.APPROVE, record, session=session):
            return self._too_late()
        return self._pages.message("Approved", "Go back to where you asked. You may close this page.", status=200)

    async def _ask(
        self, found: DeviceRequest, wish: Wish, visitor: Visitor, caller: Caller, session: bytes
    ) -> web.Response:
        """Have the account asked for what it does not allow, and have the device wait for it."""
        asked = await self._requests.ask(wish, visitor.signed_in, caller=caller, client=found.client)
        if isinstance(asked, RequestRefusal):
            # The device waits for nothing any more.
            await self._desk.settle(found.user_code, Word.DECLINE)
            said = SAID[asked]
            code = f"{asked} · {caller.request_id}"
            again = f"{said[:1].upper()}{said[1:]}."
            return self._pages.message("The customer was not asked", again, status=409, again=HOME, code=code)
        waits = await self._desk.settle(found.user_code, Word.ASK, session=session, asked=asked)
        said = f"The administrators of {asked.account} are asked, and this waits for them on your own page."
        then = "Your terminal is told so." if waits else "Your terminal does not wait for it any more."
        return self._pages.message("The customer was asked", said, then, status=200, again=HOME)

    async def _settle(self, found: DeviceRequest, word: Word, record: Record, *, session: bytes = b"") -> bool:
        """Do what the record says was done; where that fails, the journal says so, too."""
        settled = False
        try:
            settled = await self._desk.settle(found.user_code, word, session=session)
        finally:
            if not settled:
                failed = structs.replace(record, decision="deny", reason="device_answer_failed")
                await self._journal.append(failed, durable=True)
        return settled

    def _too_late(self) -> web.Response:
        said = "The request has been answered or withdrawn meanwhile, or is too old."
        return self._pages.message("Too late", said, status=409, again=VERIFICATION_PATH)


def _read(fields: Sequence[tuple[str, str]]) -> tuple[str | None, Word]:
    """Return the code and what is said to it, or raise FormError."""
    codes = [value for name, value in fields if name == "user_code"]
    words = [value for name, value in fields if name == "word"]
    if len(codes) != 1 or len(words) != 1 or words[0] not in _WORDS:
        raise FormError("one `user_code` and one `word` must be there")
    return read_user_code(codes[0]), Word(words[0])


def _record(found: DeviceRequest, visitor: Visitor, caller: Caller, *, allowed: bool) -> Record:
    staff = visitor.signed_in.staff
    return structs.replace(
        record_device(found, caller),
        actor=name_actor(staff.id, staff.name),
        decision="allow" if allowed else "deny",
        reason="device_approved" if allowed else "device_declined",
    )
