"""The app's own word that a setting has changed: `POST /.locum/hooks/grants`, signed.

It carries no truth. It only has the account forgotten everywhere and the app asked again, so a forged, late, doubled or
lost notice opens nothing, and facts' time to live stays the bound.
"""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway import problems
from gateway.bodies import read_at_most
from gateway.clock import Clock
from gateway.config.model import GrantsWebhook
from gateway.stores.store import StoreError
from policy.documents import Odd
from policy.model import AccountId
from policy.setting import read_account

PATH = "/.locum/hooks/grants"
TIMESTAMP = "Webhook-Timestamp"
SIGNATURE = "Webhook-Signature"

_MOST_BYTES = 64 * 1024
_MOST_SEEN = 16_384
_AT_ONCE = 4
_MOST_WAITING = 64
_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_VERSION_1 = re.compile(r"v1=([0-9A-Fa-f]{64})", re.ASCII)


class GrantHook:
    """Hears signed notices; each signature counts once, in this process and under this configuration.

    What is heard twice elsewhere does no harm, because all it does is to have the app asked once more.
    """

    def __init__(
        self,
        webhook: GrantsWebhook | None,
        *,
        refresh: Callable[[AccountId], Awaitable[None]],
        is_account: Callable[[AccountId], bool],
        clock: Clock,
        most_seen: int = _MOST_SEEN,
    ) -> None:
        """Call `refresh` for the account of each notice; it raises StoreError if the account is only forgotten yet.

        Of what was signed within the window `most_seen` are remembered; beyond that, notices have to come again.
        """
        self._webhook = webhook
        self._refresh = refresh
        self._is_account = is_account
        self._clock = clock
        self._most_seen = most_seen
        self._seen: dict[bytes, int] = {}
        """The signatures that were taken, and when they were made, in seconds since 1970."""
        self._waiting = 0
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves, also where notices are not wanted."""
        return [web.post(PATH, self.hear)]

    async def hear(self, request: web.Request) -> web.Response:
        """Answer a notice: 204 once every process acts on what the app says now; after a 503, send it again."""
        try:
            await self._hear(request)
        except _Refused as refused:
            return refused.answer()
        return web.Response(status=204)

    async def _hear(self, request: web.Request) -> None:
        webhook = self._webhook
        if webhook is None:
            raise _Refused(404, "not_configured", "no notices are expected here: see [grants.webhook]")
        made, signature = self._read_headers(request, webhook)
        body = await read_at_most(request.content, _MOST_BYTES)
        if body is None:
            raise _Refused(413, "malformed", f"the notice is longer than {_MOST_BYTES} bytes")
        if not _is_signed(webhook, made, body, signature):
            raise _Refused(401, "bad_signature", "the signature is not that of this timestamp and body")
        account = self._read_account(body, webhook)
        await self._take(account, int(made), signature, webhook.window_seconds)

    def _read_headers(self, request: web.Request, webhook: GrantsWebhook) -> tuple[str, bytes]:
        """Return the timestamp, if it is of now, and the signature, each sent once and in its one spelling."""
        times, signatures = request.headers.getall(TIMESTAMP, []), request.headers.getall(SIGNATURE, [])
        if len(times) == len(signatures) == 1 and _TIME.fullmatch(times[0]) is not None:
            found = _VERSION_1.fullmatch(signatures[0])
            if found is not None and abs(self._clock().timestamp() - int(times[0])) <= webhook.window_seconds:
                return times[0], bytes.fromhex(found[1])
        raise _Refused(401, "unsigned", f"send `{TIMESTAMP}` with the seconds of now, and `{SIGNATURE}` as v1=HEX")

    def _read_account(self, body: bytes, webhook: GrantsWebhook) -> AccountId:
        account = read_account(body, webhook.account)
        if isinstance(account, Odd):
            raise _Refused(422, "malformed", f"the notice names no account: {account.reason}")
        if not self._is_account(AccountId(account)):
            raise _Refused(422, "malformed", "the notice names what can be no account here")
        return AccountId(account)

    async def _take(self, account: AccountId, made: int, signature: bytes, window: int) -> None:
        if signature in self._seen:
            raise _Refused(409, "seen_before", "this very notice was acted upon: sign a new one if there is news")
        if self._waiting >= _MOST_WAITING or self._is_full(window):
            raise _Refused(503, "busy", "too many notices at a time: send it again in a moment")
        self._seen[signature] = made
        self._waiting += 1
        try:
            async with self._turn:
                await self._refresh(account)
        except BaseException as exc:
            # Whoever sends it again, as it was, must be heard.
            self._seen.pop(signature, None)
            if not isinstance(exc, StoreError):
                raise
            said = "the app or the store did not answer, so nobody is let in: send it again"
            raise _Refused(503, "not_known", said) from exc
        finally:
            self._waiting -= 1

    def _is_full(self, window: int) -> bool:
        if len(self._seen) >= self._most_seen:
            oldest = self._clock().timestamp() - window
            self._seen = {signature: made for signature, made in self._seen.items() if made >= oldest}
        return len(self._seen) >= self._most_seen


def sign(secret: str, timestamp: str, body: bytes) -> bytes:
    """Return HMAC-SHA256 (RFC 2104) over the timestamp as it is sent, a full stop, and the body."""
    return hmac.digest(secret.encode("utf-8"), timestamp.encode("ascii") + b"." + body, "sha256")


def _is_signed(webhook: GrantsWebhook, timestamp: str, body: bytes, signature: bytes) -> bool:
    secrets = [webhook.secret, *([webhook.previous_secret] if webhook.previous_secret is not None else [])]
    # Each is compared, so that the time it takes does not tell which one fits.
    return sum(hmac.compare_digest(sign(one.reveal(), timestamp, body), signature) for one in secrets) > 0


class _Refused(Exception):
    """The notice is not acted upon; becomes the answer in one place."""

    def __init__(self, status: int, reason: str, title: str) -> None:
        super().__init__(title)
        self._content = problems.build(f"hook:{reason}", title=title, status=status, reason=reason)
        self._status = status

    def answer(self) -> web.Response:
        """Return it as problem details (RFC 9457)."""
        headers = {"Cache-Control": "no-store"} | ({"Retry-After": "1"} if self._status == 503 else {})
        return web.Response(
            status=self._status,
            body=self._content,
            content_type="application/problem+json",
            headers=headers,
        )
