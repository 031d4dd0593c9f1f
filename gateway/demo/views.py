"""What the demo helpdesk does for a known agent, one function for each route."""

from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from gateway.demo import pages
from gateway.demo.assertion import Assertion
from gateway.demo.desk import Account, Reply, Role, SeatsFullError, Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request whose agent is known, by a session or by an assertion."""

    request: web.Request
    account: Account
    agent: str
    assertion: Assertion | None
    """Set when a staff member acts in the agent's place."""

    @property
    def by(self) -> str:
        """Return who really acts."""
        return self.agent if self.assertion is None else self.assertion.actor

    def answer(self, document: object, *, title: str, html: str, status: int = 200) -> web.Response:
        """Return the document as HTML to a browser and as JSON to everybody else."""
        who = f"{self.account.name}: {self.agent}"
        if self.assertion is not None:
            who += f" ({self.by} stands in)"
        return answer(self.request, document, title=title, html=html, who=who, status=status)


async def list_tickets(call: Call) -> web.Response:
    """GET /tickets."""
    tickets = call.account.tickets.values()
    is_theirs = call.assertion is None and Role.ADMIN in call.account.roles_of(call.agent).values()
    html = pages.ticket_list(tickets, administrator=is_theirs)
    return call.answer({"tickets": [_ticket(ticket) for ticket in tickets]}, title="Tickets", html=html)


async def show_ticket(call: Call) -> web.Response:
    """GET /tickets/{id}; with `?action=close` or `?action=open` a GET that writes."""
    ticket = find_ticket(call)
    match call.request.query.get("action"):
        case None:
            pass
        case "close":
            ticket = call.account.set_status(ticket, "closed")
        case "open":
            ticket = call.account.set_status(ticket, "open")
        case _:
            return refuse(call.request, 400, "unknown_action", "use `close` or `open`")
    return _show(call, ticket)


async def hold_ticket(call: Call) -> web.Response:
    """GET /tickets/{id}/hold, which writes: the kind of route that a look at the method alone misses."""
    return _show(call, call.account.set_status(find_ticket(call), "on hold"))


async def reply_to_ticket(call: Call) -> web.Response:
    """POST /tickets/{id}/reply with `text`."""
    ticket = find_ticket(call)
    text = (await fields(call.request)).get("text", "")
    if not text:
        return refuse(call.request, 400, "text_missing", "send the reply as `text`")
    reply = Reply(by=call.by, subject=call.agent if call.assertion else None, text=text)
    return _show(call, call.account.add_reply(ticket, reply), status=201)


async def search_tickets(call: Call) -> web.Response:
    """POST /tickets/search with `q`: a POST that only reads."""
    wanted = (await fields(call.request)).get("q", "").casefold()
    found = [ticket for ticket in call.account.tickets.values() if wanted in ticket.title.casefold()]
    return call.answer({"tickets": [_ticket(ticket) for ticket in found]}, title="Found", html=pages.ticket_list(found))


async def create_ticket(call: Call) -> web.Response:
    """POST /tickets with `title`."""
    return await _create(call, test=False)


async def create_test_ticket(call: Call) -> web.Response:
    """POST /tickets/test with `title`: the same, marked as a test."""
    return await _create(call, test=True)


async def show_admin(call: Call) -> web.Response:
    """GET /admin, for administrators."""
    _require_admin(call)
    document = {"agents": call.account.agents, "seats": call.account.figures()}
    return call.answer(document, title="Administration", html=pages.preformatted(document))


async def add_agent(call: Call) -> web.Response:
    """POST /admin/agents with `name`: takes a seat."""
    _require_admin(call)
    name = (await fields(call.request)).get("name", "")
    if not name or name in call.account.agents:
        return refuse(call.request, 409, "name_taken", "send a `name` that no agent has")
    try:
        call.account.add_agent(name)
    except SeatsFullError:
        return refuse(call.request, 402, "seats_full", "buy a seat or remove an agent")
    document = {"agent": name, "seats": call.account.figures()}
    return call.answer(document, title="Agent added", html=pages.preformatted(document), status=201)


async def create_api_token(call: Call) -> web.Response:
    """POST /api-tokens: makes a credential."""
    document = {"token": call.account.create_token(), "agent": call.agent}
    return call.answer(document, title="API token", html=pages.preformatted(document), status=201)


async def show_caller(call: Call) -> web.Response:
    """GET /whoami: as whom, and who acts if it is a staff member (`act` as in RFC 8693 section 4.1)."""
    document: dict[str, Any] = {"account": call.account.name, "agent": call.agent, "act": None}
    if call.assertion is not None:
        document |= {
            "act": {"sub": call.assertion.actor, "iss": call.assertion.actor_issuer},
            "sid": call.assertion.sid,
            "grant_id": call.assertion.grant_id,
            "scope": " ".join(sorted(call.assertion.scope)),
        }
    return call.answer(document, title="Who am I", html=pages.preformatted(document))


async def show_me(call: Call) -> web.Response:
    """GET /me: who is signed in, with a role in each product, for whoever has to know what they may decide."""
    document = {
        "account": call.account.name,
        "user": {"id": call.agent, "name": call.agent.capitalize(), "roles": call.account.roles_of(call.agent)},
        "act": None if call.assertion is None else {"sub": call.by},
    }
    return call.answer(document, title="Me", html=pages.preformatted(document))


def answer(
    request: web.Request, document: object, *, title: str, html: str, who: str = "", status: int = 200
) -> web.Response:
    """Return the document as HTML if the client asks for HTML, else as JSON."""
    headers = {"Cache-Control": "no-store", "Vary": "Accept"}
    if "text/html" in request.headers.get("Accept", ""):
        text = pages.page(title, html, who=who)
        return web.Response(text=text, content_type="text/html", headers=headers, status=status)
    return web.json_response(document, headers=headers, status=status)


def refuse(request: web.Request, status: int, error: str, message: str) -> web.Response:
    """Return an error of the helpdesk's own, in its own words."""
    document = {"error": error, "message": message}
    return answer(request, document, title=error, html=pages.preformatted(document), status=status)


def find_ticket(call: Call) -> Ticket:
    """Return the ticket that the path names; raises HTTPNotFound."""
    ticket = call.account.tickets.get(int(call.request.match_info["id"]))
    if ticket is None:
        raise web.HTTPNotFound(text="there is no such ticket")
    return ticket


async def fields(request: web.Request) -> dict[str, str]:
    """Return the text fields of a form or of a JSON object; raises HTTPBadRequest for anything else."""
    if request.content_type != "application/json":
        return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    try:
        document = await request.json()
    except ValueError as exc:
        raise web.HTTPBadRequest(text="the body is not JSON") from exc
    if not isinstance(document, dict):
        raise web.HTTPBadRequest(text="the body must be a JSON object")
    return {name: value for name, value in document.items() if isinstance(value, str)}


async def _create(call: Call, *, test: bool) -> web.Response:
    title = (await fields(call.request)).get("title", "")
    if not title:
        return refuse(call.request, 400, "title_missing", "send the ticket's `title`")
    return _show(call, call.account.open_ticket(title=title, requester=call.agent, test=test), status=201)


def _require_admin(call: Call) -> None:
    if call.account.agents[call.agent] is not Role.ADMIN:
        raise web.HTTPForbidden(text="only an administrator of the account may do this")


def _show(call: Call, ticket: Ticket, *, status: int = 200) -> web.Response:
    return call.answer(_ticket(ticket), title=ticket.title, html=pages.ticket(ticket), status=status)


def _ticket(ticket: Ticket) -> dict[str, Any]:
    replies = [{"by": reply.by, "for": reply.subject, "text": reply.text} for reply in ticket.replies]
    return asdict(ticket) | {"replies": replies}
