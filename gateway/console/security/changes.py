"""What an operator does at the security team's console, each by a form: end, turn off, stop, lock out."""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from aiohttp import web

from gateway.bodies import Fields, FormError, read_one
from gateway.console.forms import FAULTS, say
from gateway.console.notes import Notes
from gateway.console.security.frame import Frame
from gateway.console.security.now import END, END_ALL, OFF, PERSON, SWITCH, Filter
from gateway.console.security.scene import Scenes
from gateway.console.security.sign_in import read_return
from gateway.console.security.staff_ends import StaffEnds
from gateway.console.security.visit import OPERATOR, PATH, Visit
from gateway.grants.service import GrantService, UnknownAccount
from gateway.grants.switch import Overtaken, Switch
from gateway.tokens.ending import Ender
from policy.grants import GrantRefusal
from policy.model import AccountId, ActorId, AssumptionId

_MOST_ROUNDS = 5
_MOST_REASON: Final = 500
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Work = Callable[[Visit, Fields, str], Awaitable[web.Response]]


class Changes:
    """Carries out what the page "Now" has forms for, under the name of the person by whom they were sent."""

    def __init__(
        self,
        *,
        frame: Frame,
        scenes: Scenes,
        notes: Notes[Visit],
        grants: GrantService,
        ender: Ender,
        staff: StaffEnds,
        switch: Switch,
        kept_by_app: bool,
    ) -> None:
        self._frame = frame
        self._scenes = scenes
        self._notes = notes
        self._grants = grants
        self._ender = ender
        self._staff = staff
        self._switch = switch
        self._kept_by_app = kept_by_app

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves; nothing changes by any other method than POST."""
        forms: tuple[tuple[str, Work], ...] = (
            (END, self._end),
            (END_ALL, self._end_all),
            (OFF, self._turn_off),
            (SWITCH, self._set_switch),
            (PERSON, self._about_staff),
        )
        return [web.post(path, self._frame.guarded(partial(self._serve, work))) for path, work in forms]

    async def _serve(self, work: Work, request: web.Request) -> web.Response:
        sent = await self._frame.read_form(request, role=OPERATOR)
        if isinstance(sent, web.Response):
            return sent
        visit, fields = sent
        # Leads to a page of ours, whatever the form says.
        back = read_return(dict(fields).get("back", ""))
        try:
            return await work(visit, fields, back)
        except FAULTS as exc:
            return say(self._frame.pages, exc, again=back)
        finally:
            self._scenes.forget()

    async def _end(self, visit: Visit, fields: Fields, back: str) -> web.Response:
        ended = await self._end_it(AssumptionId(read_one(fields, "assumption")), visit)
        return self._notes.back(visit, "ended" if ended else "over", to=back)

    async def _end_all(self, visit: Visit, fields: Fields, back: str) -> web.Response:
        """End all that the filter finds, also what begins while that is done, unless that goes on and on."""
        _check_confirmed(fields)
        wanted = Filter(words=read_one(fields, "q"), account=read_one(fields, "account"))
        for _ in range(_MOST_ROUNDS):
            self._scenes.forget()
            found = (await wanted.of(await self._scenes.now(), visit)).inside
            if not found:
                return self._notes.back(visit, "all-ended", to=back)
            for one in found:
                await self._end_it(one.assumption.id, visit)
        said = "Staff begin again as fast as they are ended. Use the kill-switch to keep everybody out."
        return self._message("Not everybody is out", said, status=409, again=back)

    async def _turn_off(self, visit: Visit, fields: Fields, back: str) -> web.Response:
        _check_confirmed(fields)
        if self._kept_by_app:
            said = "The app keeps this setting: turn it off there, or stop all account assumption here."
            return self._message("Nothing was done", said, status=409, again=back)
        caller = visit.caller
        try:
            outcome = await self._grants.turn_off(
                AccountId(read_one(fields, "account")),
                by=f"operator:{visit.id}",
                client=visit.client,
                client_ip=caller.client_ip,
                request_id=caller.request_id,
            )
        except UnknownAccount:
            return self._message("Nothing was done", "Locum does not know this account.", status=404, again=back)
        if isinstance(outcome, GrantRefusal):
            said = "A trial account has no setting. Its assumptions can be ended, and it can be suspended."
            return self._message("Nothing was done", said, status=409, again=back, code=str(outcome))
        return self._notes.back(visit, "was-off" if outcome is None else "off", to=back)

    async def _set_switch(self, visit: Visit, fields: Fields, back: str) -> web.Response:
        _check_confirmed(fields)
        reason = read_one(fields, "reason").strip()
        if not reason or len(reason) > _MOST_REASON or _CONTROL.search(reason):
            raise FormError(f"give a `reason` in one line, of {_MOST_REASON} characters at the most")
        wanted = read_one(fields, "set")
        if wanted == "on":
            await self._switch.turn_on(by=visit.id, reason=reason, client=visit.client, caller=visit.caller)
            return self._notes.back(visit, "stopped", to=back)
        if wanted != "off":
            raise FormError("`set` must be on or off")
        if not (await self._switch.find()).on:
            return self._notes.back(visit, "was-let-go", to=back)
        try:
            await self._switch.turn_off(by=visit.id, reason=reason, client=visit.client, caller=visit.caller)
        except Overtaken:
            said = "Somebody has set the kill-switch meanwhile, and theirs stands. Look at why, and decide anew."
            return self._message("Nothing was done", said, status=409, again=back)
        return self._notes.back(visit, "let-go", to=back)

    async def _about_staff(self, visit: Visit, fields: Fields, back: str) -> web.Response:
        """End all that one staff member has open, and maybe lock them out."""
        _check_confirmed(fields)
        actor = ActorId(issuer=read_one(fields, "issuer"), subject=read_one(fields, "subject"))
        wanted = read_one(fields, "do")
        if wanted == "lock":
            if await self._staff.lock(actor, visit):
                return self._notes.back(visit, "locked", to=back)
            said = "Nobody from that identity provider can come in here, so there is nobody to lock out."
            return self._message("Nothing was done", said, status=404, again=back)
        if wanted != "end":
            raise FormError("`do` must be end or lock")
        if await self._staff.end_all(actor, visit):
            return self._notes.back(visit, "person-ended", to=back)
        said = "They begin again as fast as they are ended. Lock them out."
        return self._message("Not all of it is over", said, status=409, again=back)

    async def _end_it(self, assumption: AssumptionId, visit: Visit) -> bool:
        return await self._ender.end(assumption, by=visit.id, caller=visit.caller, client=visit.client)

    def _message(self, title: str, said: str, *, status: int, again: str = PATH, code: str = "") -> web.Response:
        return self._frame.pages.message(title, said, status=status, again=again, code=code)


def _check_confirmed(fields: Fields) -> None:
    if read_one(fields, "confirm") != "yes":
        raise FormError("it has to be confirmed")
