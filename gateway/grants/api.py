"""The grants API on the admin listener: the app's own back end reads and changes an account's setting.

The field names are those of Zendesk's security settings, so that a helpdesk that has them passes them through.
"""

from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from gateway.audit.log import JournalError
from gateway.caller import Caller
from gateway.clients import ClientAuthenticator
from gateway.clock import Clock
from gateway.grants.admitting import GRANTS_ROLE, UNKNOWN_ACCOUNT, Faults, Handler, Work, admitting
from gateway.grants.answers import answer, problem
from gateway.grants.service import ChangeRequest, GrantService, UnknownAccount
from gateway.grants.source import AccountSource
from gateway.grants.wishes import Who, read_wish
from gateway.stores.store import AccountRecord, Client, StoreError
from policy.grants import Administrator, GrantRefusal, GrantState, grant_in_force, state
from policy.model import AccountId, AccountType, Duration, Permission

_REFUSALS: dict[GrantRefusal, tuple[int, str]] = {
    GrantRefusal.NOT_ADMINISTRATOR: (403, "only an administrator of a product of the account may change this"),
    GrantRefusal.TRIAL_ACCOUNT: (409, "a trial account is always assumable and has no setting until it is converted"),
    GrantRefusal.NOT_A_TRIAL: (409, "the account is not a trial"),
    GrantRefusal.ACTING_STAFF: (403, "staff who stand in can never open, extend or approve anything"),
    GrantRefusal.UNKNOWN_DURATION: (422, f"`assumption_duration` must be one of {', '.join(Duration)}"),
    GrantRefusal.OVERTAKEN: (409, "the account has changed meanwhile: read it again, and decide anew"),
    GrantRefusal.ACCOUNT_SUSPENDED: (409, "the account is suspended: nothing is approved until it is resumed"),
    GrantRefusal.WOULD_SHORTEN: (409, "the grant would end earlier than it does: choose longer, or say `shorten`"),
    GrantRefusal.UNKNOWN_PERMISSION: (422, f"`permissions` must be some of {', '.join(Permission)}"),
}

_FAULTS: Faults = {
    UnknownAccount: UNKNOWN_ACCOUNT,
    StoreError: (503, "store_unavailable", "the setting cannot be had or kept now: try again in a moment"),
    JournalError: (503, "journal_unavailable", "this could not be recorded, so nothing was changed"),
}


class _Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a PUT; the first two are checked by policy's own names, for a clear refusal."""

    assumption_duration: str
    administrator: Who
    permissions: tuple[str, ...] = ("read",)


class GrantsApi:
    """`GET` and `PUT /api/v1/accounts/{account}/assumption`."""

    def __init__(
        self,
        service: GrantService,
        clients: ClientAuthenticator,
        *,
        accounts: AccountSource,
        kept_by_app: bool,
        trial_permissions: frozenset[Permission],
        clock: Clock,
    ) -> None:
        """Show what `accounts` say; with `kept_by_app` nothing can be changed here."""
        self._service = service
        self._accounts = accounts
        self._kept_by_app = kept_by_app
        self._clients = clients
        self._trial = trial_permissions
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the admin listener that this serves: read the setting, carry out a choice."""
        path = "/api/v1/accounts/{account}/assumption"
        return [
            web.get(path, self._admitting(self._show), allow_head=False),
            web.put(path, self._admitting(self._change)),
        ]

    def _admitting(self, work: Work) -> Handler:
        return admitting(work, clients=self._clients, role=GRANTS_ROLE, problem=_problem, faults=_FAULTS)

    async def _show(self, request: web.Request, _client: Client) -> web.Response:
        account = _account(request)
        record = await self._accounts.find_account(account)
        if record is None:
            raise UnknownAccount(account)
        return answer(self._view(record))

    async def _change(self, request: web.Request, client: Client) -> web.Response:
        if self._kept_by_app:
            return _problem(409, "kept_by_app", "the app keeps this setting, and is asked for it: change it there")
        wish = await read_wish(request, _Wish, refuse=_problem)
        if isinstance(wish, web.Response):
            return wish
        if wish.assumption_duration not in list(Duration):
            return _refusal(GrantRefusal.UNKNOWN_DURATION)
        if not wish.permissions or not set(wish.permissions) <= set(Permission):
            return _refusal(GrantRefusal.UNKNOWN_PERMISSION)
        who = wish.administrator
        caller = Caller.direct(request)
        outcome = await self._service.choose(
            ChangeRequest(
                account=_account(request),
                duration=Duration(wish.assumption_duration),
                permissions=frozenset(Permission(name) for name in wish.permissions),
                administrator=Administrator(id=who.id, roles=who.roles, is_acting_staff=who.assumed),
                client=client.id,
                client_ip=caller.client_ip,
                request_id=caller.request_id,
            )
        )
        if isinstance(outcome, GrantRefusal):
            return _refusal(outcome)
        record = AccountRecord(account=outcome.account, grant=outcome.grant)
        return answer(self._view(record) | {"change": str(outcome.change)})

    def _view(self, record: AccountRecord) -> dict[str, Any]:
        now = self._clock()
        where = state(record.account, record.grant, now)
        grant = grant_in_force(record.account, record.grant, self._trial)
        live = where in (GrantState.ON, GrantState.TRIAL) and grant is not None
        expires_at = grant.expires_at if live and grant else None
        return {
            "account": record.account.id,
            "assumable": live and not record.account.suspended,
            "assumable_account_type": record.account.type is AccountType.TRIAL,
            "assumption_duration": str(grant.duration) if live and grant else str(Duration.OFF),
            "assumption_expiration": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ") if expires_at else None,
            "permissions": sorted(grant.permissions) if live and grant else [],
            "epoch": record.account.epoch,
        }


def _account(request: web.Request) -> AccountId:
    return AccountId(request.match_info["account"])


def _refusal(refusal: GrantRefusal) -> web.Response:
    status, title = _REFUSALS[refusal]
    return _problem(status, str(refusal), title)


_problem = partial(problem, "grant")
