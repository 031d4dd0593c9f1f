"""Contacts on the admin listener: the app's own back end reads and changes who of an account is told."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from gateway.audit.log import JournalError
from gateway.caller import Caller
from gateway.clients import ClientAuthenticator
from gateway.config.section import Secret
from gateway.grants.admitting import GRANTS_ROLE, UNKNOWN_ACCOUNT, Faults, Handler, admitting
from gateway.grants.answers import answer, problem
from gateway.grants.source import AccountSource
from gateway.grants.wishes import Who, read_wish
from gateway.stores.outbox import Contacts
from gateway.stores.store import Client, StoreConflict, StoreError
from gateway.telling.contacts import BadContact, ContactBook
from gateway.telling.secret import derive
from policy.grants import Administrator
from policy.model import AccountId

_MOST_BODY_BYTES = 32 * 1024

_FAULTS: Final[Faults] = {
    BadContact: (422, "bad_contact", ""),
    StoreConflict: (409, "overtaken", "the contacts have changed meanwhile: read them again, and decide anew"),
    StoreError: (503, "store_unavailable", "the contacts cannot be had or kept now: try again in a moment"),
    JournalError: (503, "journal_unavailable", "this could not be recorded, so nothing was changed"),
}
How = Callable[[web.Request, Client, AccountId, ContactBook], Awaitable[web.Response]]


class _Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a PUT."""

    administrator: Who
    mail: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()


class ContactsApi:
    """`GET` and `PUT /api/v1/accounts/{account}/contacts`."""

    def __init__(
        self,
        book: ContactBook | None,
        clients: ClientAuthenticator,
        *,
        accounts: AccountSource,
        accepted_roles: frozenset[str],
        secret: Secret | None,
    ) -> None:
        """An administrator has one of `accepted_roles` in any product; webhooks' secrets are made of `secret`.

        Without a `book`, because nobody is told of anything, there is nothing to show or to change.
        """
        self._book = book
        self._clients = clients
        self._accounts = accounts
        self._accepted = accepted_roles
        self._secret = secret

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves."""
        path = "/api/v1/accounts/{account}/contacts"
        return [
            web.get(path, self._admitting(self._show), allow_head=False),
            web.put(path, self._admitting(self._change)),
        ]

    def _admitting(self, work: How) -> Handler:
        async def answer_of_account(request: web.Request, client: Client) -> web.Response:
            if self._book is None:
                return _problem(
                    404, "no_notices", "nobody is told of anything here: set [notices] in the configuration"
                )
            account = AccountId(request.match_info["account"])
            if await self._accounts.find_account(account) is None:
                return _problem(*UNKNOWN_ACCOUNT)
            return await work(request, client, account, self._book)

        return admitting(answer_of_account, clients=self._clients, role=GRANTS_ROLE, problem=_problem, faults=_FAULTS)

    async def _show(
        self, _request: web.Request, _client: Client, account: AccountId, book: ContactBook
    ) -> web.Response:
        found = await book.find(account)
        return answer(_view(account, found))

    async def _change(
        self, request: web.Request, client: Client, account: AccountId, book: ContactBook
    ) -> web.Response:
        wish = await read_wish(request, _Wish, refuse=_problem, most_bytes=_MOST_BODY_BYTES)
        if isinstance(wish, web.Response):
            return wish
        who = Administrator(
            id=wish.administrator.id, roles=wish.administrator.roles, is_acting_staff=wish.administrator.assumed
        )
        if who.is_acting_staff:
            return _problem(403, "acting_staff", "staff who stand in can never change who is told")
        if not who.may_change(self._accepted):
            return _problem(403, "not_administrator", "only an administrator of the account may change this")
        contacts = await book.change(
            account,
            mail=wish.mail,
            webhooks=wish.webhooks,
            by=who.id,
            caller=Caller.direct(request),
            client=client.id,
        )
        return answer(_view(account, contacts) | {"secrets": self._secrets(contacts)})

    def _secrets(self, contacts: Contacts) -> dict[str, str]:
        """Return by which secret the receiver of each webhook tells ours from others."""
        master = self._secret
        if master is None:
            return {}
        return {url: derive(master, contacts.account, url).reveal() for url in contacts.webhooks}


def _view(account: AccountId, contacts: Contacts | None) -> dict[str, Any]:
    return {
        "account": account,
        "mail": list(contacts.mail) if contacts else [],
        "webhooks": list(contacts.webhooks) if contacts else [],
    }


_problem = partial(problem, "contacts")
