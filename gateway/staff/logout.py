"""Where the identity provider tells of a sign-out: `POST /.locum/backchannel-logout`.

OpenID Connect Back-Channel Logout 1.0 sections 2.5 to 2.8.
"""

import logging
from typing import Protocol

from aiohttp import web

from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.staff.answers import Answers
from gateway.staff.issuer import IssuerError
from gateway.staff.notices import Notices, UnderWay
from gateway.stores.store import StoreError
from policy.events import Notice, NoticeError

log = logging.getLogger(__name__)

PATH = "/.locum/backchannel-logout"
_MOST_FORM_BYTES = 16 * 1024
_ANSWERS = Answers(code="error", description="error_description")


class SignsOut(Protocol):
    """Who ends what a logout token says is over; `gateway.staff.sign_outs.SignOuts` for staff."""

    async def name(self, notice: Notice) -> Notice:
        """Return the notice with what has to be known to carry it out; raises NoticeError, StoreError."""

    async def carry_out(self, notice: Notice, caller: Caller) -> None:
        """End what the notice says; it is stored when this returns. Raises StoreError. Twice does no harm."""


class LogoutEndpoint:
    """Ends all that somebody has begun when a logout token of theirs comes in."""

    def __init__(self, notices: Notices, sign_outs: SignsOut) -> None:
        self._notices = notices
        self._sign_outs = sign_outs

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.logout)]

    async def logout(self, request: web.Request) -> web.Response:
        """Answer 200 once the end is stored, 400 to what is no logout token, 503 if it has to be sent again."""
        try:
            notice = await self._notices.open(_read_token(await read_form(request, _MOST_FORM_BYTES)))
            notice = await self._sign_outs.name(notice)
            with self._notices.once(notice) as new:
                if not new:
                    return _ANSWERS.refuse("invalid_request", "the logout token was used before")
                await self._sign_outs.carry_out(notice, Caller.through_front(request))
        except (FormError, NoticeError) as exc:
            log.info("a logout token was refused: %s", exc)
            return _ANSWERS.refuse("invalid_request", str(exc).replace("`", "'"))
        except IssuerError:
            return _ANSWERS.again("the keys of the issuer are not known now", seconds=10)
        except (StoreError, UnderWay):
            return _ANSWERS.again("the sign-out could not be stored now", seconds=1)
        return web.Response(headers={"Cache-Control": "no-store"})


def _read_token(fields: list[tuple[str, str]]) -> str:
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1:
        raise FormError("send `logout_token`, once")
    return tokens[0]
