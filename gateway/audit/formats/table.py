"""CSV (RFC 4180) that a spreadsheet opens without computing anything."""

import re
from collections.abc import Mapping
from typing import Any

from gateway.audit.formats.text import part, plain, to_line, visible
from gateway.audit.segment import Entry

_ACTOR = {"actor_issuer": "issuer", "actor_subject": "subject", "actor_name": "name", "actor_groups": "groups"}
COLUMNS = (
    "at", "origin", "seq", "kind", "decision", "reason", "account", *_ACTOR, "subject", "assumption", "ticket",
    "stated_reason", "method", "host", "path", "query_names", "query_values", "status", "ended", "completes",
    "bytes_received", "bytes_sent", "duration_us", "client_ip", "user_agent", "client_id", "request_id", "traceparent",
    "token_id", "upstream", "rule", "scopes", "grant_id", "grant_epoch", "granted_by", "duration", "permissions",
    "expires_at", "by", "key_id", "segment", "offset", "count", "erased", "more",
)  # fmt: skip
"""What each cell of a line is; a new one comes before `more` in a new major version only.

`more` holds, as JSON, every field that has no column of its own.
"""
_KNOWN = frozenset(COLUMNS) - {"more", *_ACTOR} | {"actor"}

# What makes a formula of a cell, also in the widths of East Asian keyboards; and our own mark. Where a semicolon, a tab
# or a bar is taken for what separates cells, as in many countries, another begins behind each of them.
_FORMULA = re.compile("(^|[;|\t])(?=[\\s\"]*[=+@\uff1d\uff0b\uff0d\uff20'-])")

HEADER = ",".join(COLUMNS).encode() + b"\r"
"""The first line; whoever writes lines ends each with a line feed, so that together it is RFC 4180's CRLF."""


def to_row(entry: Entry) -> bytes:
    r"""Return a line of quoted cells, ended by a carriage return.

    A cell that a spreadsheet would compute begins with an apostrophe, and so does one that began with one; behind a
    semicolon, a tab and a bar it is the same, for some programs begin a cell there. What has no
    glyph is written `\uXXXX` and a backslash as two, so that a record is one line; lists are JSON.
    """
    actor = part(entry, "actor")
    more = _rest(entry, actor)
    cells = (
        actor.get(_ACTOR[name]) if name in _ACTOR else more if name == "more" else entry.get(name) for name in COLUMNS
    )
    return ",".join(map(_cell, cells)).encode("utf-8", "backslashreplace") + b"\r"


def _rest(entry: Entry, actor: Mapping[str, Any]) -> str | None:
    rest = {name: value for name, value in entry.items() if name not in _KNOWN}
    unknown = {name: value for name, value in actor.items() if name not in _ACTOR.values()}
    if unknown or (not actor and "actor" in entry):
        rest["actor"] = unknown or entry["actor"]
    return to_line(rest).decode() if rest else None


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = _FORMULA.sub(r"\1'", visible(plain(value)))
    return '"' + text.replace('"', '""') + '"'
