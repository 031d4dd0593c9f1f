"""The OAuth endpoints of a gateway, asked over TLS; answers are bounded, and read as strictly as anybody's."""

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from gateway.origin import Origin
from gateway.remote.asking import hear_out
from policy.claims import DETAILS_TYPE
from policy.devices import GRANT_TYPE

TIMEOUT_SECONDS: Final = 20.0
"""So long a question and its answer may take, from the first look-up to the last byte."""
_MOST_BYTES = 64 * 1024
_NOT_PLAIN = re.compile(r"[^ -~]")
_LONGEST_SAID = 300
_MOST_PERMISSIONS = 10
T = TypeVar("T")


class ServerFault(Exception):
    """The server's, or the way's to it: nothing was answered that could be used; the same may work later."""


class Refused(Exception):
    """The server has answered with an error; the message is for people."""

    def __init__(self, error: str, said: str, *, asked: "Asked | None" = None, interval: int | None = None) -> None:
        super().__init__(said or error)
        self.error = error
        self.asked = asked
        """What the account was asked for, where that is what it waits for."""
        self.interval = interval
        """Between two questions, in seconds, from now on; None: as before."""


class Codes(msgspec.Struct, frozen=True, kw_only=True):
    """What a device gets (RFC 8628 section 3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str = ""
    expires_in: int
    interval: int = 5


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is issued (RFC 8693 section 2.2.1)."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    issued_token_type: str = ""
    authorization_details: list[dict[str, Any]] = []

    def __repr__(self) -> str:
        """Hide the token."""
        return f"Token(expires_in={self.expires_in})"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What an account's administrators were asked for; each text is for people, and bounded."""

    id: str
    account: str
    assumption_duration: str
    permissions: list[str]
    expires_at: str


class _Error(msgspec.Struct, frozen=True, kw_only=True):
    error: str
    error_description: str = ""
    asked: Asked | None = None
    interval: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for."""

    account: str
    agent: str
    ticket: str
    reason: str
    scopes: tuple[str, ...]
    ask_duration: str = ""
    """For how long the account is asked if it does not allow it; empty: it is not asked."""
    ask_permissions: tuple[str, ...] = ()


class Server:
    """One gateway, by the address at which staff sign in."""

    def __init__(
        self,
        url: str,
        *,
        client: str,
        is_over: Callable[[], bool] = lambda: False,
        seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Raises ValueError for an address to which nobody should send anything.

        Once `is_over`, a question ends soon (`gateway.remote.asking`), as it does after `seconds`.
        """
        if not url.isprintable() or " " in url:
            raise ValueError(f"`{_plain(url)}` is no address of a gateway: it has what cannot be seen")
        parts = urlsplit(url)
        if parts.scheme not in ("https", "http") or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"`{url}` is no address of a gateway: give it as https://assume.vendor.example")
        if parts.username is not None or parts.password is not None:
            raise ValueError("the address of a gateway has no name and no password in it")
        self._origin = Origin.of(url)
        if not self._origin.is_safe:
            raise ValueError(f"`{url}` is not over TLS: use https (http is for this machine's own loopback only)")
        self._client = client
        self._is_over = is_over
        self._seconds = seconds
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if self._origin.secure:
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context()))
        else:
            # What is on this machine is reached directly, whatever proxy there is for the rest.
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    @property
    def url(self) -> str:
        """The address, as it is written."""
        return self._origin.text

    def ask(self, wish: Wish) -> Codes:
        """Ask for an assumption; raises Refused, ServerFault."""
        entry = {
            "type": DETAILS_TYPE,
            "account": wish.account,
            "agent": wish.agent,
            "ticket": wish.ticket,
            "reason": wish.reason,
        }
        fields = {"authorization_details": json.dumps([entry]), "scope": " ".join(wish.scopes)}
        if wish.ask_duration:
            fields |= {"ask_duration": wish.ask_duration, "ask_permissions": " ".join(wish.ask_permissions)}
        codes = self._post("/.locum/oauth/device", fields, Codes)
        page = f"{self._origin.text}/.locum/device"
        good = (
            re.fullmatch(r"[!-~]{1,512}", codes.device_code)
            and re.fullmatch(r"[A-Z0-9-]{4,32}", codes.user_code)
            and codes.verification_uri == page
            and codes.verification_uri_complete in ("", f"{page}?user_code={codes.user_code}")
            and 1 <= codes.expires_in <= 3600
            and 1 <= codes.interval <= 300
        )
        if not good:
            raise ServerFault(f"what {self.url} answers does not fit: is that the address at which staff sign in?")
        return codes

    def fetch(self, device_code: str) -> Token:
        """Ask for the token; raises Refused, also while there is none yet, and ServerFault."""
        fields = {"grant_type": GRANT_TYPE, "device_code": device_code}
        token = self._post("/.locum/oauth/token", fields, Token)
        if token.token_type != "Bearer" or re.fullmatch(r"[A-Za-z0-9._-]{1,16384}", token.access_token) is None:  # noqa: S105 - a type
            raise ServerFault(f"{self.url} has answered with a token of a kind that this command does not know")
        return token

    def take_back(self, token: str) -> None:
        """End what a token is for, or withdraw a device code; raises Refused, ServerFault."""
        self._post("/.locum/oauth/revoke", {"token": token}, dict[str, Any])

    def _post(self, path: str, fields: dict[str, str], type_: type[T]) -> T:
        body = urlencode({"client_id": self._client} | fields).encode("ascii")
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "User-Agent": "locum-assume",
        }
        request = urllib.request.Request(self._origin.text + path, data=body, headers=headers)  # noqa: S310 - https, or loopback
        try:
            status, answer = hear_out(lambda: self._send(request), seconds=self._seconds, is_over=self._is_over)
            if status // 100 != 2:
                raise self._refusal(status, answer)
            return _decode(answer, type_)
        except (OSError, ValueError, http.client.HTTPException, RecursionError) as exc:
            # A certificate that does not fit comes as one of these, too; and so does an answer that nests too deep.
            reason = getattr(exc, "reason", exc)
            said = _plain(str(reason)) or type(exc).__name__
            raise ServerFault(f"{self.url} does not answer as it should: {said}") from exc

    def _send(self, request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with self._opener.open(request, timeout=self._seconds) as answer:
                return answer.status, answer.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read(_MOST_BYTES + 1)

    def _refusal(self, status: int, body: bytes) -> Refused | ServerFault:
        try:
            found = _decode(body, _Error)
        except ValueError:
            return ServerFault(f"{self.url} answers {status}, and not as a gateway does: check the address")
        said = _plain(found.error_description)
        if status >= 500:
            return ServerFault(f"{self.url} cannot answer now: {said}")
        interval = found.interval if found.interval is None or 1 <= found.interval <= 300 else None
        return Refused(_plain(found.error), said, asked=found.asked and _plainly(found.asked), interval=interval)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Codes and tokens go to the address that was given, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _decode(body: bytes, type_: type[T]) -> T:
    """Return what a body says; raises ValueError."""
    if len(body) > _MOST_BYTES:
        raise ValueError(f"the answer is longer than {_MOST_BYTES} bytes")
    return msgspec.json.decode(body, type=type_)


def _plainly(asked: Asked) -> Asked:
    return Asked(
        id=_plain(asked.id),
        account=_plain(asked.account),
        assumption_duration=_plain(asked.assumption_duration),
        permissions=[_plain(each) for each in asked.permissions[:_MOST_PERMISSIONS]],
        expires_at=_plain(asked.expires_at),
    )


def _plain(text: str) -> str:
    """Return words of somebody else's that may go to a terminal."""
    return _NOT_PLAIN.sub("?", text)[:_LONGEST_SAID]
