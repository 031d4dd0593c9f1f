"""How an administrator answers on the account's page what staff ask for: approve for a chosen time, or decline."""

from aiohttp import web

from gateway.bodies import Fields, read_one
from gateway.console.account.admission import CONSOLE, Admission, Visit
from gateway.console.account.door import PATH
from gateway.console.account.form_shares import FormShares
from gateway.console.account.forms import answering, read_duration, read_permissions
from gateway.console.account.waiting import APPROVE, DECLINE
from gateway.console.forms import read_number
from gateway.console.notes import Notes
from gateway.grants.asking import Answerer, Approval, GrantRequests
from gateway.grants.request_refusals import SAID, status_of
from gateway.pages.render import Pages
from policy.asking import GrantRequestId, RequestRefusal


class WaitingAnswers:
    """Carries out what the forms of the requests ask for, under the name of the person by whom they were sent."""

    def __init__(
        self, *, admission: Admission, notes: Notes[Visit], requests: GrantRequests, pages: Pages, shares: FormShares
    ) -> None:
        self._admission = admission
        self._notes = notes
        self._requests = requests
        self._pages = pages
        self._shares = shares

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves; nothing is answered but by POST."""
        works = ((APPROVE, self._approve), (DECLINE, self._decline))
        return [
            web.post(path, answering(work, admission=self._admission, pages=self._pages, shares=self._shares))
            for path, work in works
        ]

    async def _approve(self, _request: web.Request, visit: Visit, fields: Fields) -> web.Response:
        """Give what the form says, if the account and the request are still as they were when it was shown."""
        duration, keeps_end = read_duration(fields)
        approval = Approval(
            duration=duration,
            permissions=read_permissions(fields),
            known_epoch=read_number(fields, "epoch"),
            keeps_end=keeps_end,
            # Each choice says on the page when it ends, and whether that is earlier than now.
            shortens=True,
        )
        outcome = await self._requests.approve(_named(fields), approval, _answerer(visit))
        if isinstance(outcome, RequestRefusal):
            return self._refuse(outcome, "Nothing was approved")
        return self._notes.back(visit, "approved", to=PATH)

    async def _decline(self, _request: web.Request, visit: Visit, fields: Fields) -> web.Response:
        outcome = await self._requests.decline(_named(fields), _answerer(visit))
        if isinstance(outcome, RequestRefusal):
            return self._refuse(outcome, "Nothing was declined")
        return self._notes.back(visit, "declined", to=PATH)

    def _refuse(self, refusal: RequestRefusal, title: str) -> web.Response:
        said = SAID[refusal]
        text = f"{said[:1].upper()}{said[1:]}."
        return self._pages.message(title, text, status=status_of(refusal), again=PATH, code=refusal)


def _named(fields: Fields) -> GrantRequestId:
    return GrantRequestId(read_one(fields, "request"))


def _answerer(visit: Visit) -> Answerer:
    return Answerer(account=visit.account, administrator=visit.administrator, caller=visit.caller, client=CONSOLE)
