"""Where the identity provider tells of a sign-out: `POST /.locum/backchannel-logout`.

OpenID Connect Back-Channel Logout 1.0 sections 2.5 to 2.8.
"""

import logging
from collections.abc import Mapping

import msgspec
from aiohttp import web

from gateway.bodies import FormError, read_form
from gateway.caller import Caller
from gateway.staff.issuer import IssuerError
from gateway.staff.notices import Notices, UnderWay
from gateway.staff.sign_outs import SignOuts
from gateway.stores.store import StoreError
from policy.events import NoticeError

log = logging.getLogger(__name__)

PATH = "/.locum/backchannel-logout"
_MOST_FORM_BYTES = 16 * 1024


class LogoutEndpoint:
    """Ends all that a staff member has begun when a logout token of theirs comes in."""

    def __init__(self, notices: Notices, sign_outs: SignOuts) -> None:
        self._notices = notices
        self._sign_outs = sign_outs

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes of the control plane that this serves."""
        return [web.post(PATH, self.logout)]

    async def logout(self, request: web.Request) -> web.Response:
        """Answer 200 once the end is stored, 400 to what is no logout token, 503 if it has to be sent again."""
        try:
            notice = await self._notices.open(_read_token(await read_form(request, _MOST_FORM_BYTES)))
            with self._notices.once(notice) as new:
                if not new:
                    return _error(400, "invalid_request", "the logout token was used before")
                await self._sign_outs.carry_out(notice, Caller.through_front(request))
        except (FormError, NoticeError) as exc:
            log.info("a logout token was refused: %s", exc)
            return _error(400, "invalid_request", str(exc))
        except IssuerError:
            return _again("the keys of the issuer are not known now", seconds=10)
        except (StoreError, UnderWay):
            return _again("the sign-out could not be stored now", seconds=1)
        return web.Response(headers={"Cache-Control": "no-store"})


def _read_token(fields: list[tuple[str, str]]) -> str:
    tokens = [value for name, value in fields if name == "logout_token"]
    if len(tokens) != 1:
        raise FormError("send `logout_token`, once")
    return tokens[0]


def _again(description: str, *, seconds: int) -> web.Response:
    return _error(503, "temporarily_unavailable", f"{description}: send it again", {"Retry-After": str(seconds)})


def _error(status: int, error: str, description: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode({"error": error, "error_description": description.replace("`", "'")}),
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )
