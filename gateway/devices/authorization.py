"""The device authorization endpoint: `POST /.locum/oauth/device` (RFC 8628 section 3.1)."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Final

from aiohttp import web
from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.bodies import FormError
from gateway.caller import Caller
from gateway.clients import DEVICE_ROLE
from gateway.clock import Clock
from gateway.devices.desk import DeviceDesk
from gateway.devices.guesses import NetworkTries, Tries
from gateway.devices.record import record_device
from gateway.places import Places
from gateway.proxy.triage import is_account_name
from gateway.stores.store import Client, Store, StoreError
from gateway.tokens import answers
from gateway.tokens.callers import ClientRefused, Fields, OAuthCallers
from gateway.tokens.starting import Attempt, Starter
from policy.asking import Wish, read_wish
from policy.exchange import ExchangeError, ExchangeRequest, ExchangeTerms, request_of_device
from policy.model import AccountId, Deny, DenyReason

PATH: Final = "/.locum/oauth/device"
VERIFICATION_PATH: Final = "/.locum/device"
MOST_FROM_ONE: Final = 60
"""So many requests may one network make in `WITHIN`; anybody may ask, and each request is kept for a while."""
FEW_OF_ONE: Final = 3
"""So many of them count apart: whoever asks now and then is not kept out by a few who ask all the time."""
MOST_OF_ALL: Final = 2000
"""So many of those few, and so many of the rest, may all networks together make, so that nobody fills the store or the
journal. To use up the first takes a network for each three of them.

What is refused and put on the record is counted apart: whoever asks for nonsense uses up nobody else's.
"""
WITHIN: Final = timedelta(minutes=10)
_OF_BROWSERS = ("Origin", "Sec-Fetch-Site")
_LONGEST_AGENT = 200
_NOT_PLAIN = re.compile(r"[^ -~]")


class DeviceAuthorizationEndpoint:
    """Takes down what a device asks for, and says where staff approve it."""

    def __init__(
        self,
        *,
        callers: OAuthCallers,
        desk: DeviceDesk,
        starter: Starter,
        places: Places,
        terms: ExchangeTerms,
        store: Store,
        journal: AuditLog,
        clock: Clock,
        is_on: bool,
    ) -> None:
        """Without `is_on` staff cannot sign in with a browser, so nobody could approve anything."""
        self._callers = callers
        self._desk = desk
        self._starter = starter
        self._places = places
        self._terms = terms
        self._journal = journal
        self._is_on = is_on
        self._of_one = NetworkTries(store, clock, what="device requests of", most=MOST_FROM_ONE, within=WITHIN)
        self._few_of_one = NetworkTries(store, clock, what="few device requests of", most=FEW_OF_ONE, within=WITHIN)
        self._few_of_all = Tries(store, clock, what="few device requests", most=MOST_OF_ALL, within=WITHIN)
        self._of_all = Tries(store, clock, what="device requests", most=MOST_OF_ALL, within=WITHIN)
        self._of_refused = Tries(store, clock, what="refused device requests", most=MOST_OF_ALL, within=WITHIN)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.ask)]

    async def ask(self, request: web.Request) -> web.Response:
        """Answer with the two codes; nothing is said of the account, because anybody may ask."""
        attempt = Attempt(caller=Caller.through_front(request))
        if any(name in request.headers for name in _OF_BROWSERS):
            # Before anything is counted: or a page anywhere could use up what the network of its visitors has.
            said = "a page in a browser has sent this: devices ask by themselves"
            return answers.error(400, "invalid_request", said)
        try:
            client, fields = await self._callers.read(request, role=DEVICE_ROLE, public=True)
            return await self._take(replace(attempt, client=client.id), client, fields)
        except ClientRefused as exc:
            return exc.answer()
        except FormError as exc:
            return answers.error(400, "invalid_request", str(exc))
        except StoreError:
            return answers.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE))
        except JournalError:
            return answers.refusal(Deny(reason=DenyReason.JOURNAL_UNAVAILABLE))

    async def _take(self, attempt: Attempt, client: Client, fields: Fields) -> web.Response:
        if not self._is_on:
            said = "staff cannot sign in with a browser here: the gateway has no [staff.sign_in]"
            return answers.error(400, "unauthorized_client", said)
        if not await self._of_one.take(attempt.caller.client_ip):
            return _too_many()
        return await self._open(attempt, client, fields)

    async def _open(self, attempt: Attempt, client: Client, fields: Fields) -> web.Response:
        caller = attempt.caller
        try:
            asked = request_of_device(fields)
            attempt = replace(attempt, asked=asked)
            wish = _read_wish(fields, asked)
            refused = self._check(asked)
        except ExchangeError as exc:
            deny = Deny(reason=DenyReason.EXCHANGE_MALFORMED, detail=str(exc))
            return await self._refuse(deny, attempt, code=exc.error)
        if refused is not None:
            return await self._refuse(refused, attempt)
        if not await self._takes_of_all(caller.client_ip):
            return _too_many()
        asked = replace(asked, audience=self._places.host_of(AccountId(asked.account)))
        user_agent = _NOT_PLAIN.sub("?", caller.user_agent or "")[:_LONGEST_AGENT]
        device_code, waiting = await self._desk.open(
            client.id, asked, address=caller.client_ip or "", user_agent=user_agent, wish=wish
        )
        await self._journal.append(structs.replace(record_device(waiting, caller), reason="device_asked"))
        page = self._places.origin + VERIFICATION_PATH
        return answers.answer(
            200,
            {
                "device_code": device_code,
                "user_code": waiting.user_code,
                "verification_uri": page,
                "verification_uri_complete": f"{page}?user_code={waiting.user_code}",
                "expires_in": int((waiting.expires_at - waiting.asked_at).total_seconds()),
                "interval": int(waiting.interval.total_seconds()),
            },
        )

    async def _takes_of_all(self, address: str | None) -> bool:
        """Count one more of all networks together; False if there were as many as may be."""
        of_all = self._few_of_all if await self._few_of_one.take(address) else self._of_all
        return await of_all.take("")

    async def _refuse(self, deny: Deny, attempt: Attempt, *, code: str | None = None) -> web.Response:
        if not await self._of_refused.take(""):
            return _too_many()
        return answers.refusal(await self._starter.refuse(deny, attempt), code=code)

    def _check(self, asked: ExchangeRequest) -> Deny | None:
        """Return what could not be approved whoever approves it, so that nobody is sent to the browser in vain."""
        if not is_account_name(asked.account):
            raise ExchangeError("`account` must be the account's name", error="invalid_authorization_details")
        if self._terms.require_ticket and not asked.ticket:
            return Deny(reason=DenyReason.TICKET_MISSING)
        if self._terms.require_reason and not asked.reason:
            return Deny(reason=DenyReason.REASON_MISSING)
        if not asked.scopes <= self._terms.known_scopes:
            return Deny(reason=DenyReason.INVALID_SCOPE)
        return None


def _read_wish(fields: Fields, asked: ExchangeRequest) -> Wish | None:
    """Return what the account is to be asked for if it does not allow this, None: nothing; raises ExchangeError.

    These two parameters are ours: `ask_duration`, and `ask_permissions` with one space between, or only to look.
    """
    named = dict(fields)
    if not named.get("ask_duration"):
        return None
    return read_wish(
        account=asked.account,
        permissions=named.get("ask_permissions", "").split(),
        duration=named["ask_duration"],
        ticket=asked.ticket,
        reason=asked.reason,
    )


def _too_many() -> web.Response:
    said = "too many requests were made just now: wait some minutes"
    headers = {"Retry-After": str(int(WITHIN.total_seconds()))}
    return answers.error(429, "temporarily_unavailable", said, headers=headers)
