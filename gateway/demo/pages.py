"""The demo helpdesk's few HTML pages."""

import json
from collections.abc import Iterable
from html import escape
from typing import Final

from gateway.demo.desk import Reply, Ticket

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:42rem;margin:2rem auto;padding:0 1rem}"
    "header{border-bottom:1px solid #ccc;margin-bottom:1rem}small{color:#555}"
    "li{margin:.3rem 0}label{display:block;margin:.5rem 0}"
)
_FRAME: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    "<header>{who}</header><main><h1>{title}</h1>{body}</main></html>"
)


def page(title: str, body: str, *, who: str = "") -> str:
    """Return a whole document; `body` is HTML, everything else is text."""
    return _FRAME.format(title=escape(title), style=_STYLE, who=escape(who), body=body)


def sign_in() -> str:
    """Return the body of the sign-in page."""
    return (
        '<form method="post" action="/login"><label>Agent <input name="agent" autofocus></label>'
        '<label>Password <input name="password" type="password"></label><button>Sign in</button></form>'
    )


def ticket_list(tickets: Iterable[Ticket]) -> str:
    """Return the body of the list of tickets."""
    lines = "".join(
        f'<li><a href="/tickets/{ticket.id}">{escape(ticket.title)}</a> <small>{_state(ticket)}</small></li>'
        for ticket in tickets
    )
    return f'<ul>{lines}</ul><p><a href="/logout">Sign out</a></p>'


def ticket(shown: Ticket) -> str:
    """Return the body of one ticket's page, with the form to reply and the links that change it."""
    replies = "".join(f"<li>{_author(reply)}: {escape(reply.text)}</li>" for reply in shown.replies)
    here = f"/tickets/{shown.id}"
    return (
        f"<p><small>{_state(shown)} · from {escape(shown.requester)}</small></p><ul>{replies}</ul>"
        f'<form method="post" action="{here}/reply"><label>Reply <input name="text"></label>'
        f'<button>Send</button></form><p><a href="{here}/hold">Put on hold</a> · '
        f'<a href="{here}?action=close">Close</a> · <a href="/tickets">All tickets</a></p>'
    )


def preformatted(document: object) -> str:
    """Return the body of a page that has nothing better to show than its document."""
    return f"<pre>{escape(json.dumps(document, indent=2))}</pre>"


def _author(reply: Reply) -> str:
    place = "" if reply.subject is None else f" for {escape(reply.subject)}"
    return f"<b>{escape(reply.by)}{place}</b>"


def _state(shown: Ticket) -> str:
    return escape(shown.status) + (" · test" if shown.test else "")
