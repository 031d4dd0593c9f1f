"""The device's way to its token: the grant type of RFC 8628 section 3.4, at the token endpoint."""

from dataclasses import replace

from aiohttp import web

from gateway.bodies import FormError
from gateway.devices.desk import DeviceDesk
from gateway.staff.sign_in.visitors import Visitors
from gateway.stores.store import Client, StoreError
from gateway.tokens import answers
from gateway.tokens.callers import Fields
from gateway.tokens.starting import Attempt, Starter
from policy.devices import GRANT_TYPE, PollError
from policy.exchange import Issue
from policy.model import Deny, DenyReason

_SAID = {
    PollError.PENDING: "nobody has approved it yet: ask again after the interval",
    PollError.SLOW_DOWN: "this asks too often: wait 5 seconds longer from now on",
    PollError.DECLINED: "it was declined",
    PollError.EXPIRED: "nobody has approved it in time: ask anew",
}


class DeviceGrant:
    """Begins what was approved, once; it is decided anew, because much may have happened since."""

    def __init__(self, desk: DeviceDesk, starter: Starter, visitors: Visitors) -> None:
        self._desk = desk
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
        return device_code if found is not None else _unknown()

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
