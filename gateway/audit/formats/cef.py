"""CEF, ArcSight's Common Event Format, version 0: a header of seven fields, then `key=value` pairs, on one line."""

import re
from typing import Any

from gateway.audit.formats.severity import severity
from gateway.audit.formats.text import (
    PRODUCT,
    event_code,
    event_id,
    milliseconds,
    part,
    plain,
    printable,
    product_version,
)
from gateway.audit.segment import Entry

# The dictionary's own keys, and the field of a record that each takes.
_KEYS = (
    ("act", "decision"), ("reason", "reason"), ("duser", "subject"), ("src", "client_ip"), ("requestMethod", "method"),
    ("request", "path"), ("dhost", "host"), ("requestClientApplication", "user_agent"), ("in", "bytes_received"),
    ("out", "bytes_sent"), ("msg", "stated_reason"), ("outcome", "ended"),
)  # fmt: skip
# Its six texts for what it has no key for.
_LABELLED = (
    ("cs1", "account", "account"), ("cs2", "assumption", "assumption"), ("cs3", "ticket", "ticket"),
    ("cs4", "rule", "rule"), ("cs5", "grant", "grant_id"), ("cs6", "scopes", "scopes"),
    ("cn1", "status", "status"), ("cn2", "seq", "seq"), ("cn3", "grantEpoch", "grant_epoch"),
)  # fmt: skip
_SEVERITIES = {1: 2, 2: 4, 3: 6, 4: 8}
"""CEF counts to 10, ours is OCSF's."""


def to_cef(entry: Entry) -> bytes:
    """Return the one line of an entry."""
    code = event_code(entry)
    header = [PRODUCT, PRODUCT, product_version(), code, code.replace(".", " "), str(_SEVERITIES[severity(entry)])]
    line = "|".join(["CEF:0", *map(_in_header, header), " ".join(_pairs(entry))])
    return line.encode("utf-8", "backslashreplace")


def _pairs(entry: Entry) -> list[str]:
    actor = part(entry, "actor")
    pairs: list[tuple[str, Any]] = [
        ("rt", milliseconds(entry.get("at"))),
        ("externalId", event_id(entry)),
        ("dvchost", entry.get("origin")),
        ("suid", actor.get("subject")),
        ("suser", actor.get("name") or actor.get("subject") or entry.get("by") or entry.get("granted_by")),
    ]
    pairs += [(key, entry.get(field)) for key, field in _KEYS]
    for key, label, field in _LABELLED:
        if field in entry:
            pairs += [(f"{key}Label", label), (key, entry[field])]
    return [f"{key}={_in_extension(value)}" for key, value in pairs if value is not None]


_LINE_END = re.compile("\r\n|[\n\r\x85\u2028\u2029]")


def _in_header(value: str) -> str:
    return printable(value).replace("\\", "\\\\").replace("|", "\\|")


def _in_extension(value: Any) -> str:
    # A line's end is the one control character that the format has a sign for.
    pieces = _LINE_END.split(plain(value))
    return "\\n".join(printable(piece).replace("\\", "\\\\").replace("=", "\\=") for piece in pieces)
