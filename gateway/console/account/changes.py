"""What an administrator does on the account's page, each by a form: choose, turn off, end."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from gateway.bodies import Fields, read_one
from gateway.clock import Clock
from gateway.console.account.admission import CONSOLE, Admission, Visit
from gateway.console.account.door import PATH
from gateway.console.account.form_shares import FormShares
from gateway.console.account.forms import Work, answering, read_duration, read_permissions
from gateway.console.account.page import END, END_ALL, OFF, SETTING
from gateway.console.forms import read_number
from gateway.console.notes import Notes
from gateway.grants.service import ChangeRequest, GrantService
from gateway.pages.render import Pages
from gateway.stores.store import Store
from gateway.tokens.ending import Ender
from policy.grants import Change, GrantRefusal, GrantState, state
from policy.model import AssumptionId, Deny, DenyReason, Duration

_MOST_ROUNDS = 5
_KEPT_BY_APP = "kept_by_app"
_REFUSED: Final = {
    GrantRefusal.OVERTAKEN: (
        409,
        "Somebody changed it meanwhile",
        "So nothing was changed now. Look at how it is, and choose again if that is not what you want.",
    ),
    GrantRefusal.TRIAL_ACCOUNT: (
        409,
        "A trial account has no setting",
        "Support can always stand in for a trial account. Once it is converted you choose, and until then it is off.",
    ),
}


class AccountChanges:
    """Carries out what the page's forms ask for, under the name of the person by whom they were sent."""

    def __init__(
        self,
        *,
        admission: Admission,
        notes: Notes[Visit],
        grants: GrantService,
        ender: Ender,
        store: Store,
        pages: Pages,
        shares: FormShares,
        kept_by_app: bool,
        clock: Clock,
    ) -> None:
        self._admission = admission
        self._notes = notes
        self._grants = grants
        self._ender = ender
        self._store = store
        self._pages = pages
        self._shares = shares
        self._kept_by_app = kept_by_app
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves; nothing changes by any other method than POST."""
        return [
            web.post(SETTING, self._serve(self._choose)),
            web.post(OFF, self._serve(self._turn_off, keeps_staff_out=True)),
            web.post(END, self._serve(self._end, keeps_staff_out=True)),
            web.post(END_ALL, self._serve(self._end_all, keeps_staff_out=True)),
        ]

    def _serve(self, work: Work, *, keeps_staff_out: bool = False) -> Callable[[web.Request], Awaitable[web.Response]]:
        return answering(
            work,
            admission=self._admission,
            pages=self._pages,
            shares=self._shares,
            keeps_staff_out=keeps_staff_out,
        )

    async def _choose(self, request: web.Request, visit: Visit, fields: Fields) -> web.Response:
        """Make what the form says so, if the account is still as it was when the form was shown."""
        duration, keeps_end = read_duration(fields)
        wish = ChangeRequest(
            account=visit.account,
            duration=duration,
            permissions=read_permissions(fields),
            administrator=visit.administrator,
            client=CONSOLE,
            client_ip=visit.caller.client_ip,
            request_id=visit.caller.request_id,
            known_epoch=read_number(fields, "epoch"),
            keeps_end=keeps_end,
        )
        return await self._carry_out(request, visit, wish, done="saved")

    async def _turn_off(self, request: web.Request, visit: Visit, _fields: Fields) -> web.Response:
        """Turn it off, however it is by now: whoever wants it off wants nothing that was chosen meanwhile."""
        wish = ChangeRequest(
            account=visit.account,
            duration=Duration.OFF,
            permissions=frozenset(),
            administrator=visit.administrator,
            client=CONSOLE,
            client_ip=visit.caller.client_ip,
            request_id=visit.caller.request_id,
        )
        is_idle = not self._kept_by_app and self._admission.is_administrator(visit) and await self._is_off(visit)
        if is_idle and not self._admission.may_record(visit):
            # Each would be one more record of nothing, on the disk before it is answered.
            return self._notes.back(visit, "off", to=PATH)
        return await self._carry_out(request, visit, wish, done="off")

    async def _is_off(self, visit: Visit) -> bool:
        found = await self._grants.find(visit.account)
        return state(found.account, found.grant, self._clock()) in (GrantState.OFF, GrantState.EXPIRED)

    async def _carry_out(self, request: web.Request, visit: Visit, wish: ChangeRequest, *, done: str) -> web.Response:
        if self._kept_by_app:
            deny = Deny(reason=DenyReason.NEVER_ALLOWED, detail="the app keeps this setting: change it there")
            return await self._admission.refuse(deny, request, visit.caller, by=visit, reason=_KEPT_BY_APP)
        outcome = await self._grants.choose(wish)
        if isinstance(outcome, GrantRefusal):
            status, title, said = _REFUSED.get(outcome, (403, "Not done", _WHO))
            return self._pages.message(title, said, status=status, again=PATH, code=str(outcome))
        return self._notes.back(
            visit, "unchanged" if outcome.change is Change.UNCHANGED and done == "saved" else done, to=PATH
        )

    async def _end(self, request: web.Request, visit: Visit, fields: Fields) -> web.Response:
        """End one assumption of the account; another account's is as good as none."""
        if not self._admission.is_administrator(visit):
            return await self._admission.refuse_role(visit, request)
        found = await self._store.find_assumption(AssumptionId(read_one(fields, "assumption")))
        ended = found is not None and found.account == visit.account and await self._end_it(found.id, visit)
        return self._notes.back(visit, "ended" if ended else "over", to=PATH)

    async def _end_all(self, request: web.Request, visit: Visit, _fields: Fields) -> web.Response:
        """End every assumption of the account, also what begins while that is done, unless that goes on and on."""
        if not self._admission.is_administrator(visit):
            return await self._admission.refuse_role(visit, request)
        for _ in range(_MOST_ROUNDS):
            open_ = await self._store.list_assumptions(at=self._clock(), account=visit.account)
            if not open_:
                return self._notes.back(visit, "all-ended", to=PATH)
            for assumption in open_:
                await self._end_it(assumption.id, visit)
        said = "Staff begin again as fast as they are ended. Turn account assumption off to keep them out."
        return self._pages.message("Not everybody is out", said, status=409, again=PATH)

    async def _end_it(self, assumption: AssumptionId, visit: Visit) -> bool:
        return await self._ender.end(assumption, by=visit.administrator.id, caller=visit.caller, client=CONSOLE)


_WHO = "Only an administrator of the account may change this, in person."
