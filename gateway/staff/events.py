"""Where security events are pushed to us: `POST /.locum/ssf/events` (RFC 8935, OpenID Shared Signals Framework 1.0)."""

import hmac
import logging
import re
from hashlib import sha256

from aiohttp import web

from gateway.bodies import read_at_most
from gateway.caller import Caller
from gateway.staff.answers import Answers
from gateway.staff.issuer import IssuerError
from gateway.staff.notices import Notices, UnderWay
from gateway.staff.sign_outs import SignOuts
from gateway.stores.store import StoreError
from gateway.tokens.compact import MOST_BYTES
from policy.events import NoticeError

log = logging.getLogger(__name__)

PATH = "/.locum/ssf/events"
# RFC 8935 section 2.3, which has an error say its language.
_ANSWERS = Answers(code="err", description="description", headers={"Content-Language": "en"})
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")


class EventReceiver:
    """Takes security event tokens, and ends what those of the right kinds say has to end."""

    def __init__(self, notices: Notices, sign_outs: SignOuts, *, push_token: str | None) -> None:
        """Demand `push_token` as a bearer token of whoever pushes, if it is given."""
        self._notices = notices
        self._sign_outs = sign_outs
        self._push_token = None if push_token is None else sha256(push_token.encode("utf-8")).digest()

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.receive)]

    async def receive(self, request: web.Request) -> web.Response:
        """Answer 202 once what the event asks for is stored, 400 to what is refused, 503 if it has to be sent again."""
        try:
            self._authenticate(request.headers.getall("Authorization", []))
            notice = await self._notices.open(await _read_token(request))
            with self._notices.once(notice) as new:
                # RFC 8935 section 2: what is sent again is answered as if it had not been received before.
                if new:
                    await self._sign_outs.carry_out(notice, Caller.through_front(request))
        except NoticeError as exc:
            log.info("a security event token was refused: %s", exc)
            return _ANSWERS.refuse(exc.code, str(exc))
        except IssuerError:
            return _ANSWERS.again("the keys of the issuer are not known now", seconds=10)
        except (StoreError, UnderWay):
            return _ANSWERS.again("the event could not be stored now", seconds=1)
        log.info("a security event was received: %r%s", notice.event, "" if notice.person else ", which ends nothing")
        return web.Response(status=202, headers={"Cache-Control": "no-store"})

    def _authenticate(self, authorization: list[str]) -> None:
        if self._push_token is None:
            return
        given = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
        digest = sha256(given[1].encode("ascii")).digest() if given else bytes(32)
        if not hmac.compare_digest(digest, self._push_token):
            raise NoticeError("the bearer token is missing or not the right one", code="authentication_failed")


async def _read_token(request: web.Request) -> str:
    if request.content_type != "application/secevent+jwt":
        raise NoticeError("send application/secevent+jwt")
    body = await read_at_most(request.content, MOST_BYTES)
    if body is None:
        raise NoticeError(f"it is longer than {MOST_BYTES} bytes")
    return body.decode("latin-1")
