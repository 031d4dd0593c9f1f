"""The demo helpdesk's few HTML pages."""

import json
from collections.abc import Iterable
from html import escape
from typing import Final

from gateway.demo.desk import Reply, Ticket

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;margin:0}"
    "body{background:light-dark(#f6f5f1,#1b1a17);color:light-dark(#222,#eee)}"
    "header{background:light-dark(#23513f,#17372b);color:#fff;padding:.6rem 1rem;display:flex;gap:1rem;flex-wrap:wrap}"
    "header b{margin-right:auto}main{max-width:42rem;margin:1.5rem auto;padding:0 1rem}"
    "a{color:light-dark(#1c5a44,#8fd3b6)}small{color:light-dark(#555,#bbb)}li{margin:.4rem 0}"
    "label{display:block;margin:.8rem 0}input{font:inherit;padding:.4rem;max-width:100%;box-sizing:border-box}"
    "button{font:inherit;padding:.4rem 1rem}pre{overflow-wrap:anywhere;white-space:pre-wrap}"
)
_FRAME: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    # Or browsers ask for one by themselves, which would be on the record as somebody's request.
    '<link rel="icon" href="data:,"><title>{title}</title><style>{style}</style>'
    "<header><b>Demo helpdesk</b> <span>{who}</span></header><main><h1>{title}</h1>{body}</main></html>"
)
_SETTINGS: Final = '<p><a href="/.locum/account">Settings: who of the vendor’s support may stand in</a></p>'


def page(title: str, body: str, *, who: str = "") -> str:
    """Return a whole document; `body` is HTML, everything else is text."""
    return _FRAME.format(title=escape(title), style=_STYLE, who=escape(who), body=body)


def sign_in() -> str:
    """Return the body of the sign-in page."""
    return (
        '<form method="post" action="/login"><label>Agent <input name="agent" autofocus></label>'
        '<label>Password <input name="password" type="password"></label><button>Sign in</button></form>'
    )


def ticket_list(tickets: Iterable[Ticket], *, administrator: bool = False) -> str:
    """Return the body of the list of tickets, for an administrator with the link to the page that is theirs."""
    lines = "".join(
        f'<li><a href="/tickets/{ticket.id}">{escape(ticket.title)}</a> <small>{_state(ticket)}</small></li>'
        for ticket in tickets
    )
    return f'<ul>{lines}</ul>{_SETTINGS if administrator else ""}<p><a href="/logout">Sign out</a></p>'


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
