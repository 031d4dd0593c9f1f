"""Where people sign in at the demo's identity provider: OpenID Connect's code flow, with PKCE and no password."""

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from urllib.parse import urlencode

from aiohttp import web

_MOST_CODES = 100
_COOKIE = "demo-person"
_INVITED = "/as/{person}"
# Longer than it takes to follow the redirects from a link to the question.
_SIGNED_IN_SECONDS = 60
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The vendor's sign-in</title>
<style>{style}</style>
<main><h1>The vendor's sign-in</h1>
<p>This stands in for your identity provider, and believes whatever you say. Who are you?</p>
<form method="post">{fields}{people}</form></main>
"""
_STYLE = (
    ":root{color-scheme:light dark}"
    "main{font:16px/1.5 system-ui,sans-serif;max-width:26rem;margin:3rem auto;padding:0 1rem}"
    "button{font:inherit;padding:.6rem 1rem;width:100%;text-align:left}"
)
_ASKED = ("client_id", "redirect_uri", "state", "nonce", "code_challenge", "code_challenge_method", "response_type")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoPerson:
    """Somebody of the vendor's, as their ID tokens say it."""

    subject: str
    name: str
    groups: Sequence[str]


DEMO_STAFF = (
    DemoPerson(subject="dana", name="Dana Reyes", groups=("support",)),
    DemoPerson(subject="sam", name="Sam Ito", groups=("security",)),
    DemoPerson(subject="otto", name="Otto Lind", groups=("sales",)),
)
"""Dana is of the support, Sam watches over it, Otto is neither."""

Sign = Callable[[DemoPerson, str, str], str]
"""Returns the ID token of a person, for a client, with a nonce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What a code stands for."""

    person: DemoPerson
    asked: Mapping[str, str]


class DemoSignIn:
    """The two endpoints of the code flow; whoever asks is believed who they say they are.

    Whoever comes by a link of `invite` is not asked, that once.
    """

    def __init__(self, sign: Sign) -> None:
        self._sign = sign
        self._codes: dict[str, _Given] = {}
        self._invited: dict[str, str] = {}

    def invite(self, subject: str, *, then: str) -> str:
        """Return a path that signs a browser in here as one of DEMO_STAFF and leads to `then`, where a sign-in begins.

        It signs in for the one question that comes next, so that afterwards somebody else can be chosen. A second
        invitation of the same person leads where that says.
        """
        self._invited[subject] = then
        return _INVITED.format(person=subject)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return the routes that this serves."""
        return [
            web.get(_INVITED, self._follow, allow_head=False),
            web.get("/authorize", self._show, allow_head=False),
            web.post("/authorize", self._choose),
            web.post("/token", self._token),
        ]

    async def _show(self, request: web.Request) -> web.Response:
        asked = _asked(request.query)
        for person in DEMO_STAFF:
            if request.cookies.get(_COOKIE) == person.subject:
                response = self._send_back(person, asked)
                response.del_cookie(_COOKIE, path="/authorize")
                return response
        fields = "".join(f'<input type="hidden" name="{name}" value="{escape(asked[name])}">' for name in _ASKED)
        people = "".join(
            f'<p><button name="person" value="{one.subject}">{escape(one.name)}, {", ".join(one.groups)}</button></p>'
            for one in DEMO_STAFF
        )
        return web.Response(text=_PAGE.format(style=_STYLE, fields=fields, people=people), content_type="text/html")

    async def _follow(self, request: web.Request) -> web.Response:
        subject = request.match_info["person"]
        if (then := self._invited.get(subject)) is None:
            raise web.HTTPNotFound(text="nobody was invited by this link")
        response = web.Response(status=303, headers={"Location": then, "Cache-Control": "no-store"})
        response.set_cookie(
            _COOKIE, subject, path="/authorize", max_age=_SIGNED_IN_SECONDS, httponly=True, samesite="Lax"
        )
        return response

    async def _choose(self, request: web.Request) -> web.Response:
        sent = {name: str(value) for name, value in (await request.post()).items()}
        asked = _asked(sent)
        [person] = [one for one in DEMO_STAFF if one.subject == sent.get("person")] or [DEMO_STAFF[0]]
        return self._send_back(person, asked)

    def _send_back(self, person: DemoPerson, asked: Mapping[str, str]) -> web.Response:
        code = secrets.token_urlsafe(24)
        while len(self._codes) >= _MOST_CODES:
            self._codes.pop(next(iter(self._codes)))
        self._codes[code] = _Given(person=person, asked=asked)
        answer = urlencode({"code": code, "state": asked["state"]})
        return web.Response(status=303, headers={"Location": f"{asked['redirect_uri']}?{answer}"})

    async def _token(self, request: web.Request) -> web.Response:
        sent = {name: str(value) for name, value in (await request.post()).items()}
        given = self._codes.pop(sent.get("code", ""), None)
        verifier = sent.get("code_verifier", "")
        if given is None or sent.get("redirect_uri") != given.asked["redirect_uri"] or not _fits(verifier, given.asked):
            return web.json_response({"error": "invalid_grant"}, status=400)
        token = self._sign(given.person, given.asked["client_id"], given.asked["nonce"])
        return web.json_response({"access_token": "none", "token_type": "Bearer", "id_token": token})


def _asked(sent: Mapping[str, str]) -> dict[str, str]:
    if any(not sent.get(name) for name in _ASKED) or sent["code_challenge_method"] != "S256":
        raise web.HTTPBadRequest(text="ask by the code flow, with `state`, `nonce` and PKCE")
    return {name: sent[name] for name in _ASKED}


def _fits(verifier: str, asked: Mapping[str, str]) -> bool:
    """RFC 7636 section 4.6."""
    challenge = urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode("ascii")
    return hmac.compare_digest(challenge, asked["code_challenge"])
