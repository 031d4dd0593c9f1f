"""Who of an account is told what happens there: `/.locum/account/contacts`, for its administrators."""

from aiohttp import web

from gateway.bodies import Fields, read_one
from gateway.config.section import Secret
from gateway.console.account.admission import CONSOLE, Admission, Visit
from gateway.console.account.door import PATH
from gateway.console.account.form_shares import FormShares
from gateway.console.account.forms import answering
from gateway.console.account.page import CONTACTS
from gateway.console.forms import read_number
from gateway.pages.render import Pages
from gateway.stores.outbox import Contacts
from gateway.stores.store import StoreConflict, StoreError
from gateway.telling.addresses import MOST
from gateway.telling.contacts import BadContact, ContactBook
from gateway.telling.secret import derive
from policy.model import Deny, DenyReason


class ContactsPage:
    """Shows who is told, and puts others in their place; whoever was told before is told of that, too."""

    def __init__(
        self,
        *,
        admission: Admission,
        book: ContactBook | None,
        pages: Pages,
        shares: FormShares,
        secret: Secret | None,
        mails: bool,
    ) -> None:
        """Without a `book` nobody is told anything here; `mails` is whether mails are sent, `secret` webhooks'."""
        self._admission = admission
        self._book = book
        self._pages = pages
        self._shares = shares
        self._secret = secret
        self._mails = mails

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [
            web.get(CONTACTS, self.show, allow_head=False),
            web.post(
                CONTACTS, answering(self._change, admission=self._admission, pages=self._pages, shares=self._shares)
            ),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """Answer an administrator with who is told."""
        try:
            visit = await self._admission.for_page(request)
            if isinstance(visit, web.Response):
                return visit
            if self._book is None:
                return self._nowhere()
            return self._page(visit, await self._book.find(visit.account))
        except StoreError:
            return self._pages.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE), again=CONTACTS)

    async def _change(self, request: web.Request, visit: Visit, fields: Fields) -> web.Response:
        if self._book is None:
            return self._nowhere()
        if not self._admission.is_administrator(visit):
            return await self._admission.refuse_role(visit, request)
        lines = read_one(fields, "addresses").split()
        known = read_number(fields, "version")
        try:
            contacts = await self._book.change(
                visit.account,
                mail=[each for each in lines if "://" not in each],
                webhooks=[each for each in lines if "://" in each],
                by=visit.administrator.id,
                caller=visit.caller,
                client=CONSOLE,
                known=known,
            )
        except BadContact as exc:
            said = f"Nothing was changed: {exc}. Go back, and write each on a line of its own."
            return self._pages.message("That cannot be told", said, status=422, again=CONTACTS)
        except StoreConflict:
            said = "So nothing was changed now. Look at who is told, and choose again."
            return self._pages.message("Somebody changed it meanwhile", said, status=409, again=CONTACTS)
        return self._page(visit, contacts, saved=True)

    def _page(self, visit: Visit, contacts: Contacts | None, *, saved: bool = False) -> web.Response:
        webhooks = contacts.webhooks if contacts else ()
        shows = saved and self._secret is not None
        return self._pages.page(
            "account_contacts.html",
            account=visit.account,
            person=visit.person,
            leaving=visit.leaving,
            form_token=self._admission.form_token(visit),
            saved=saved,
            mail=contacts.mail if contacts else (),
            webhooks=webhooks,
            version=contacts.version if contacts else 0,
            secrets=[(url, derive(self._secret, visit.account, url).reveal()) for url in webhooks]
            if shows and self._secret is not None
            else [],
            most=MOST,
            mails=self._mails,
            takes_webhooks=self._secret is not None,
            paths={"page": PATH, "contacts": CONTACTS},
        )

    def _nowhere(self) -> web.Response:
        said = "Nobody is told anything here, because the gateway has no [notices]."
        return self._pages.message("Not here", said, status=404, again=PATH)
