"""Records as lines for people: nothing in one can steer a terminal."""

from typing import Any

from gateway.audit.formats.text import printable
from gateway.audit.search.words import actor_of
from gateway.audit.segment import Entry


def render(entry: Entry) -> str:
    """Return one line for a terminal: time (UTC), outcome, who for whom, what, why, ticket.

    Nothing in it can steer the terminal, and no value can pass itself off as two columns: one with spaces is quoted.
    """
    return "  ".join(filter(None, [_heading(entry), _who(entry), _what(entry), *_cells(entry, "reason", "ticket")]))


def _heading(entry: Entry) -> str:
    return f"{printable(str(entry.get('at')))[11:19]} {printable(str(entry.get('decision') or entry.get('kind'))):<5}"


def _who(entry: Entry) -> str:
    actor, operator = next(iter(actor_of(entry)), ""), entry.get("by", "")
    by = _cell(operator or actor or entry.get("granted_by", ""))
    whom = _cell(entry.get("subject") or (actor if operator else ""))
    where = f"@{_cell(entry['account'])}" if "account" in entry else ""
    # Who acts in nobody's place may carry a mail address: keep it apart from the account.
    return "→".join(filter(None, [by, whom])) + (where if whom or not by else f" {where}".rstrip())


def _what(entry: Entry) -> str:
    return " ".join(
        _cells(
            entry,
            "method",
            "path",
            "duration",
            *(("client_id",) if entry.get("kind") == "client" else ()),
            "segment",
            "offset",
        )
    )


def _cells(entry: Entry, *names: str) -> list[str]:
    return [_cell(entry[name]) for name in names if name in entry]


def _cell(value: Any) -> str:
    text = printable(str(value))
    if " " not in text:
        return text
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'
