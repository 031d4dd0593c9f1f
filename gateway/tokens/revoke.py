"""Token revocation: `POST /.locum/oauth/revoke` (RFC 7009), which ends the assumption that the token is for.

A device takes its request back by the same door, with the device code, as long as there is no token.
"""

import logging

from aiohttp import web
from msgspec import structs

from gateway.audit.log import AuditLog, JournalError
from gateway.bodies import FormError
from gateway.caller import Caller
from gateway.clients import is_public
from gateway.devices.desk import DeviceDesk
from gateway.devices.record import record_device
from gateway.stores.store import Client, StoreError
from gateway.tokens import answers
from gateway.tokens.callers import ClientRefused, OAuthCallers, read_token
from gateway.tokens.ending import Ender
from gateway.tokens.endpoint import ROLE
from gateway.tokens.signing import TokenRefused, TokenVerifier
from policy.model import Deny, DenyReason

log = logging.getLogger(__name__)

PATH = "/.locum/oauth/revoke"


class RevocationEndpoint:
    """Takes a token back for the client that it was issued to."""

    def __init__(
        self, *, callers: OAuthCallers, verifier: TokenVerifier, ender: Ender, devices: DeviceDesk, journal: AuditLog
    ) -> None:
        self._callers = callers
        self._verifier = verifier
        self._ender = ender
        self._devices = devices
        self._journal = journal

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.revoke)]

    async def revoke(self, request: web.Request) -> web.Response:
        """Answer 200 once the token counts nowhere any more, also if it never did; 503 if that could not be done."""
        try:
            client, fields = await self._callers.read(request, role=ROLE, public=True)
            return await self._revoke(read_token(fields), client, Caller.through_front(request))
        except ClientRefused as exc:
            return exc.answer()
        except FormError as exc:
            return answers.error(400, "invalid_request", str(exc))
        except StoreError:
            return answers.refusal(Deny(reason=DenyReason.STORE_UNAVAILABLE))

    async def _revoke(self, text: str, client: Client, caller: Caller) -> web.Response:
        try:
            # Keyed on what the token says, never on its text; and time is not looked at, as an assumption may go on.
            claims = self._verifier.verify(text)
        except TokenRefused:
            # RFC 7009 section 2.2: what is no token of ours is nothing that a client could do anything about.
            if is_public(client):
                await self._withdraw(text, client, caller)
            return answers.answer(200, {})
        if claims.client != client.id:
            return answers.error(400, "invalid_grant", "the token was issued to another client")
        await self._ender.end(claims.assumption, by=client.id, caller=caller, client=client.id)
        return answers.answer(200, {})

    async def _withdraw(self, device_code: str, client: Client, caller: Caller) -> None:
        withdrawn = await self._devices.withdraw(device_code, client.id)
        if withdrawn is None:
            return
        try:
            record = structs.replace(record_device(withdrawn, caller), reason="device_withdrawn")
            await self._journal.append(record, durable=True)
        except JournalError:
            # It took nothing but a question away, which would have expired unheard as well.
            log.exception("that a device request was withdrawn could not be recorded")
