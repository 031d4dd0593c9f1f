"""A helpdesk that already exists: many accounts behind one address, agents with sessions, and one place for Locum."""

import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web

from gateway.clock import Clock, Ticks, boot_seconds, utc_now
from gateway.demo import pages, views
from gateway.demo.assertion import HEADER, Assertion, AssertionVerifier, KeySet, UntrustedAssertionError
from gateway.demo.desk import Account, demo_accounts
from gateway.demo.streams import Streams

COOKIE = "session"
_REMEMBERED_REQUESTS = 10_000
_TICKET = "/tickets/{id:[0-9]{1,9}}"

View = Callable[[views.Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request that reached the helpdesk, as it came."""

    method: str
    path: str
    """The request target, not decoded, with its query."""
    headers: tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True, kw_only=True)
class _Invitation:
    """What the secret in a link is worth, once."""

    account: str
    agent: str
    then: str
    used: bool = False


class DemoHelpdesk:
    """The helpdesk on loopback while its context lasts; the first label of `Host` is the account.

    Without an assertion the session cookie says who is there. An assertion is believed alone: it starts no
    session, counts no login, adds no user, and a bad one is refused even beside a good cookie.
    """

    def __init__(
        self,
        *,
        clock: Clock = utc_now,
        ticks: Ticks = boot_seconds,
        port: int = 0,
        tick_seconds: float = 0.2,
        attachment_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self.accounts = demo_accounts()
        self.seen: deque[Seen] = deque(maxlen=_REMEMBERED_REQUESTS)
        """Every request that came through, the newest last; the oldest are forgotten after 10 000."""
        self.streams = Streams(tick_seconds=tick_seconds, attachment_bytes=attachment_bytes)
        self.port = port
        self._clock = clock
        self._ticks = ticks
        self._verifier: AssertionVerifier | None = None
        self._invitations: dict[str, _Invitation] = {}

    @property
    def url(self) -> str:
        """Return the address that the gateway forwards to; it names no account."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        self._http = ClientSession(timeout=ClientTimeout(total=5), cookie_jar=DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port and every connection; event streams end, downloads break off. Safe to call twice."""
        self.streams.close()
        await self._runner.cleanup()
        await self._http.close()

    def trust(self, *, jwks_url: str, issuer: str, audience: str) -> None:
        """Believe this gateway from now on and no other; until then every assertion is refused."""
        keys = KeySet(jwks_url, http=self._http, ticks=self._ticks)
        self._verifier = AssertionVerifier(keys=keys, issuer=issuer, audience=audience, clock=self._clock)

    def invite(self, account: str, agent: str, *, then: str) -> str:
        """Return a path that signs whoever opens it first in as the agent, without a password, and leads to `then`.

        No app should have such a link; this one is for a newcomer to the demo, printed on their own machine.
        """
        secret = secrets.token_urlsafe(24)
        self._invitations[secret] = _Invitation(account=account, agent=agent, then=then)
        return f"/login?invitation={secret}"

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._record])
        route = app.router
        route.add_get("/", self._show_home)
        route.add_get("/login", self._show_sign_in, allow_head=False)
        route.add_post("/login", self._sign_in)
        route.add_get("/logout", self._sign_out, allow_head=False)
        route.add_get("/seats", self._show_seats)
        route.add_get("/whoami", self._for_agents(views.show_caller))
        route.add_get("/me", self._for_agents(views.show_me))
        route.add_get("/tickets", self._for_agents(views.list_tickets))
        route.add_post("/tickets", self._for_agents(views.create_ticket))
        route.add_post("/tickets/search", self._for_agents(views.search_tickets))
        route.add_post("/tickets/test", self._for_agents(views.create_test_ticket))
        route.add_get(_TICKET, self._for_agents(views.show_ticket))
        route.add_get(f"{_TICKET}/hold", self._for_agents(views.hold_ticket), allow_head=False)
        route.add_post(f"{_TICKET}/reply", self._for_agents(views.reply_to_ticket))
        route.add_get("/attachments/{id:[0-9]{1,9}}", self._for_agents(self.streams.attachment), allow_head=False)
        route.add_get("/events", self._for_agents(self.streams.events), allow_head=False)
        route.add_get("/admin", self._for_agents(views.show_admin))
        route.add_post("/admin/agents", self._for_agents(views.add_agent))
        route.add_post("/api-tokens", self._for_agents(views.create_api_token))
        return app

    @web.middleware
    async def _record(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.seen.append(Seen(method=request.method, path=request.raw_path, headers=request.raw_headers))
        return await handler(request)

    def _for_agents(self, view: View) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            account = self._account(request)
            try:
                assertion = await self._assertion(request, account)
            except UntrustedAssertionError as exc:
                return views.refuse(request, 401, "untrusted_assertion", str(exc))
            agent = self._session_agent(request, account) if assertion is None else assertion.subject
            if agent is None:
                return views.refuse(request, 401, "sign_in_needed", "sign in at /login")
            return await view(views.Call(request=request, account=account, agent=agent, assertion=assertion))

        return handle

    def _account(self, request: web.Request) -> Account:
        label = request.host.partition(":")[0].partition(".")[0].lower()
        if (account := self.accounts.get(label)) is None:
            raise web.HTTPNotFound(text=f"there is no account `{label}`; use its own host name")
        return account

    async def _assertion(self, request: web.Request, account: Account) -> Assertion | None:
        sent = request.headers.getall(HEADER, [])
        if not sent:
            return None
        if len(sent) > 1:
            raise UntrustedAssertionError("more than one assertion")
        if self._verifier is None:
            raise UntrustedAssertionError("no gateway is trusted yet")
        assertion = await self._verifier.verify(sent[0], account=account.name)
        if assertion.subject not in account.agents:
            raise UntrustedAssertionError(f"the account has no agent `{assertion.subject}`")
        return assertion

    def _session_agent(self, request: web.Request, account: Account) -> str | None:
        return account.sessions.get(request.cookies.get(COOKIE, ""))

    async def _show_home(self, _request: web.Request) -> web.Response:
        return web.Response(status=303, headers={"Location": "/tickets"})

    async def _show_sign_in(self, request: web.Request) -> web.Response:
        account = self._account(request)
        if (secret := request.query.get("invitation")) is not None:
            return self._follow(request, account, secret)
        document = {"account": account.name, "fields": ["agent", "password"]}
        return views.answer(request, document, title=f"Sign in to {account.name}", html=pages.sign_in())

    async def _sign_in(self, request: web.Request) -> web.Response:
        account = self._account(request)
        sent = await views.fields(request)
        session = account.sign_in(sent.get("agent", ""), sent.get("password", ""))
        if session is None:
            return views.refuse(request, 401, "sign_in_failed", "agent and password do not belong together")
        return _lead_in(session, "/tickets")

    def _follow(self, request: web.Request, account: Account, secret: str) -> web.Response:
        invitation = self._invitations.get(secret)
        if invitation is None or invitation.account != account.name:
            return views.refuse(request, 401, "invitation_unknown", "sign in at /login")
        if self._session_agent(request, account) == invitation.agent:
            return web.Response(status=303, headers={"Location": invitation.then})
        if invitation.used:
            return views.refuse(request, 401, "invitation_used", "the link signs in once: sign in at /login")
        invitation.used = True
        return _lead_in(account.begin_session(invitation.agent), invitation.then)

    async def _sign_out(self, request: web.Request) -> web.Response:
        self._account(request).sessions.pop(request.cookies.get(COOKIE, ""), None)
        response = web.Response(status=303, headers={"Location": "/login"})
        response.del_cookie(COOKIE)
        return response

    async def _show_seats(self, request: web.Request) -> web.Response:
        # Open to all, so that whoever counts before and after does not have to sign in and so change the count.
        figures = self._account(request).figures()
        return views.answer(request, figures, title="Seats", html=pages.preformatted(figures))


def _lead_in(session: str, target: str) -> web.Response:
    response = web.Response(status=303, headers={"Location": target, "Referrer-Policy": "no-referrer"})
    response.set_cookie(COOKIE, session, httponly=True, samesite="Lax")
    return response
