"""The device's way to its token: the grant type of RFC 8628 section 3.4, at the token endpoint."""

from dataclasses import replace

from aiohttp import web

from gateway.bodies import FormError
from gateway.clock import Clock
from gateway.devices.desk import DeviceDesk
from gateway.staff.sign_in.visitors import Visitors
from gateway.stores.requesting import Requesting
from gateway.stores.store import Client, StoreError
from gateway.tokens import answers
from gateway.tokens.callers import Fields
from gateway.tokens.starting import Attempt, Starter
from policy.asking import RequestState, state_of
from policy.devices import GRANT_TYPE, DeviceRequest, PollError
from policy.exchange import Issue
from policy.model import Deny, DenyReason

_SAID = {
    PollError.PENDING: "nobody has approved it yet: ask again after the interval",
    PollError.SLOW_DOWN: "this asks too often: wait 5 seconds longer from now on",
    PollError.DECLINED: "it was declined",
    PollError.EXPIRED: "nobody has approved it in time: ask anew",
}
_CUSTOMER_DECLINED = "customer_declined"
_OVER = {
    RequestState.DECLINED: "the account's administrators have declined",
    RequestState.WITHDRAWN: "what the account was asked for was withdrawn",
    RequestState.EXPIRED: "the account was asked, and nobody has answered in time",
}


class DeviceGrant:
    """Begins what was approved, once; it is decided anew, because much may have happened since."""

    def __init__(self, desk: DeviceDesk, starter: Starter, visitors: Visitors, store: Requesting, clock: Clock) -> None:
        self._desk = desk
        self._store = store
        self._clock = clock
        self._starter = starter
        self._visitors = visitors

    async def look(self, client: Client, fields: Fields) -> str | web.Response:
        """Return the device code of what this client was allowed, or what it is told instead.

        Raises FormError, StoreError.
        """
        if not any(pair == ("grant_type", GRANT_TYPE) for pair in fields):
            said = f"this client may use no other grant type than {GRANT_TYPE}"
            return answers.error(400, "unauthorized_client", said)
        device_code = _read(fields)
        found = await self._desk.poll(device_code, client.id)
        if isinstance(found, PollError):
            return answers.error(400, found, _SAID[found])
        if found is None:
            return _unknown()
        return await self._customers(found) or device_code

    async def begin(self, attempt: Attempt, client: Client, device_code: str) -> Issue | Deny | web.Response:
        """Return what to sign, or why nothing, which is on the record; raises StoreError.

        The code is one that `look` has returned for this client.
        """
        request = await self._desk.redeem(device_code)
        if request is None:
            return _unknown()
        attempt = replace(attempt, asked=request.asked)
        try:
            signed_in = await self._visitors.still(request.session)
        except StoreError:
            signed_in = Deny(reason=DenyReason.STORE_UNAVAILABLE)
        if isinstance(signed_in, Deny):
            return await self._starter.refuse(signed_in, attempt)
        return await self._starter.start(attempt, request.asked, signed_in, client=client.id)

    async def _customers(self, request: DeviceRequest) -> web.Response | None:
        """Return what a device is told as long as the account, which was asked, has not approved it."""
        if request.asked_customer is None:
            return None
        asked, now = await self._store.find_grant_request(request.asked_customer), self._clock()
        state = RequestState.EXPIRED if asked is None else state_of(asked, now)
        if state is RequestState.APPROVED:
            # Of what was approved then and is still allowed now, the decision that follows knows.
            return None
        if state is not RequestState.WAITING or asked is None:
            code = _CUSTOMER_DECLINED if state is RequestState.DECLINED else PollError.EXPIRED
            return answers.error(400, code, _OVER[state])
        document = {
            "id": asked.id,
            "account": asked.account,
            "assumption_duration": str(asked.duration),
            "permissions": sorted(asked.permissions),
            "expires_at": asked.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        body = {
            "error": PollError.ASKED,
            "error_description": "the account was asked and has not answered yet",
            "asked": document,
            "interval": int(request.interval.total_seconds()),
        }
        return answers.answer(400, body)


def _unknown() -> web.Response:
    return answers.error(400, "invalid_grant", "there is no such device code, or it was used before: ask anew")


def _read(fields: Fields) -> str:
    names = [name for name, _ in fields]
    if len(set(names)) != len(names):
        raise FormError("a parameter is there twice: send each once")
    device_code = dict(fields).get("device_code", "")
    if not device_code:
        raise FormError("send the `device_code`")
    return device_code
