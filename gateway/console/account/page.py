"""The page of an account's administrators: `GET /.locum/account`."""

from typing import Final

from aiohttp import web

from gateway.clock import Clock
from gateway.console.account.admission import Admission, Visit
from gateway.console.account.door import PATH
from gateway.console.account.live import LIVE, Marks
from gateway.console.account.log import LOG
from gateway.console.account.log_live import LastDeeds
from gateway.console.account.view import Inside, describe_history, describe_setting
from gateway.console.account.waiting import Waiting
from gateway.console.notes import Notes
from gateway.grants.source import AccountSource
from gateway.pages.render import Pages
from gateway.stores.store import AccountRecord, Store, StoreError
from policy.grants import GrantState, end_of, grant_in_force, state
from policy.model import ActorId, Deny, DenyReason, Permission

SETTING: Final = f"{PATH}/setting"
OFF: Final = f"{PATH}/off"
END: Final = f"{PATH}/end"
END_ALL: Final = f"{PATH}/end-all"
CONTACTS: Final = f"{PATH}/contacts"
NOTES: Final = {
    "saved": "Saved. It counts from now on.",
    "unchanged": "It was so already, so nothing has changed.",
    "off": "Account assumption is off. Whoever was in is out.",
    "ended": "Ended. That person is out.",
    "over": "It was over already.",
    "all-ended": "Ended. Everybody is out.",
    "approved": "Approved. What you have chosen counts from now on.",
    "declined": "Declined. Whoever asked is shown that you did.",
}
_MOST_EVENTS = 20
_MOST_INSIDE = 100


def whose(visit: Visit) -> tuple[str, ...]:
    """Return by what a visitor of this page is told from every other."""
    return visit.account, visit.administrator.id


class AccountPage:
    """Shows whether staff may stand in, until when, who is in now, and who chose what before."""

    def __init__(
        self,
        *,
        admission: Admission,
        notes: Notes[Visit],
        marks: Marks,
        waiting: Waiting,
        last: LastDeeds,
        accounts: AccountSource,
        store: Store,
        pages: Pages,
        trial_permissions: frozenset[Permission],
        kept_by_app: bool,
        tells: bool,
        clock: Clock,
    ) -> None:
        """Show what `accounts` say; with `kept_by_app` nothing is chosen here."""
        self._admission = admission
        self._notes = notes
        self._marks = marks
        self._waiting = waiting
        self._last = last
        self._accounts = accounts
        self._store = store
        self._pages = pages
        self._trial = trial_permissions
        self._kept_by_app = kept_by_app
        self._tells = tells
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.get(PATH, self.show, allow_head=False)]

    async def show(self, request: web.Request) -> web.Response:
        """Answer an administrator with the page."""
        try:
            visit = await self._admission.for_page(request)
            if isinstance(visit, web.Response):
                return visit
            record = await self._accounts.find_account(visit.account)
            if record is None:
                said = (
                    "The vendor’s support cannot stand in here: Locum does not know this account yet. Ask the vendor."
                )
                return self._pages.message("Account assumption", said, status=404)
            return await self._page(request, visit, record)
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=PATH)

    async def _page(self, request: web.Request, visit: Visit, record: AccountRecord) -> web.Response:
        # Before anything else is read, so that whatever changes while it is read is told.
        mark = await self._marks.of(visit.account)
        now = self._clock()
        grant = grant_in_force(record.account, record.grant, self._trial)
        events = await self._store.list_changes(visit.account)
        whole = request.query.get("history") == "all"
        inside = await self._inside(record)
        return self._pages.page(
            "account.html",
            scripts=True,
            account=visit.account,
            person=visit.person,
            leaving=visit.leaving,
            form_token=self._admission.form_token(visit),
            note=self._notes.read(request, visit),
            now=now,
            live=f"{LIVE}?seen={mark}",
            refresh=request.query.get("refresh") == "on",
            kept_by_app=self._kept_by_app,
            tells=self._tells,
            halted=(await self._store.find_kill_switch()).on,
            setting=describe_setting(record, grant, now),
            waiting=await self._waiting.of(record),
            inside=inside[:_MOST_INSIDE],
            inside_count=len(inside),
            last=await self._last.of(visit.account, [one.assumption.id for one in inside[:_MOST_INSIDE]]),
            keeps_last=self._last.are_kept,
            history=describe_history(events if whole else events[:_MOST_EVENTS]),
            older=0 if whole else max(0, len(events) - _MOST_EVENTS),
            paths={
                "page": PATH,
                "setting": SETTING,
                "off": OFF,
                "end": END,
                "end_all": END_ALL,
                "log": LOG,
                "contacts": CONTACTS,
            },
        )

    async def _inside(self, record: AccountRecord) -> list[Inside]:
        """Return who is in, oldest first; nobody is where nobody may be."""
        now = self._clock()
        grant = grant_in_force(record.account, record.grant, self._trial)
        where = state(record.account, record.grant, now)
        if grant is None or where not in (GrantState.ON, GrantState.TRIAL) or record.account.suspended:
            return []
        found = await self._store.list_assumptions(at=now, account=record.account.id)
        under = [assumption for assumption in found if assumption.grant_id == grant.id]
        names: dict[ActorId, str] = {}
        for assumption in under[:_MOST_INSIDE]:
            if assumption.actor not in names:
                staff = await self._store.find_staff(assumption.actor)
                names[assumption.actor] = staff.name if staff else assumption.actor.subject
        return [
            Inside(
                assumption=assumption,
                name=names.get(assumption.actor, assumption.actor.subject),
                until=end_of(assumption, grant),
            )
            for assumption in under
        ]
