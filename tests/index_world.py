"""Random records and random queries that meet, and journals made of such records, for tests about indexes."""

from collections import Counter

from hypothesis import strategies as st

from gateway.audit.record import to_json
from gateway.audit.search import Query, QueryError
from gateway.audit.segment import build_line

# Few values, so that terms meet; some that differ in case only, that are no ASCII, that look like our own marks.
ACCOUNTS = ["acme", "ACME", "globex", "straße", "STRASSE", "a b", "İ", "", ".any", '"x" OR "y"', "acme*"]
_WORDS = ["refund", "Refund", "refunds", "do", "not", "open", "don't", "über", "日本", "a_b", "x" * 80, "x" * 81, "NOT"]
_TEXTS = st.lists(st.sampled_from(_WORDS), max_size=4).map(" ".join) | st.text(max_size=8)
_NAMES = st.sampled_from(ACCOUNTS)
_PATHS = st.sampled_from(
    ["/", "/tickets", "/tickets/1", "/tickets/1/", "/Tickets/1/reply", "//", "", "tickets", "/a" * 70]
)
_ADDRESSES = st.sampled_from(
    ["192.0.2.7", "192.0.3.7", "10.0.0.1", "2001:db8::1", "::ffff:192.0.2.7", "nowhere", "FE80::1"]
)
_TIMES = st.sampled_from(
    [
        "2026-11-23T12:00:00.000000Z",
        "2026-11-23T12:00:00.000001Z",
        "2026-11-24T00:00:00Z",
        "1969-01-01T00:00:00Z",
        "soon",
    ]
)
_ODD = (
    st.none()
    | st.integers(0, 5)
    | st.lists(_NAMES, max_size=2)
    | st.dictionaries(st.sampled_from(["at", "b"]), _TEXTS, max_size=2)
)
ENTRIES = st.fixed_dictionaries(
    {"kind": st.sampled_from(["decision", "grant", "Decision"])},
    optional={
        "account": _NAMES | _ODD,
        "actor": st.fixed_dictionaries(
            {"issuer": st.just("https://login.example")}, optional={"name": _NAMES, "subject": _NAMES | _ODD}
        )
        | _ODD,
        "assumption": _NAMES,
        "at": _TIMES,
        "client_id": _NAMES,
        "client_ip": _ADDRESSES | _ODD,
        "decision": st.sampled_from(["allow", "deny"]),
        "method": st.sampled_from(["GET", "get", "POST"]),
        "origin": st.just("node"),
        "path": _PATHS | _ODD,
        "reason": _TEXTS,
        "request_id": _NAMES,
        "rule": st.sampled_from(["tickets.read", "tickets.read users.read"]) | _ODD,
        "scopes": st.lists(_TEXTS, max_size=2),
        "seq": st.integers(0, 3),
        "stated_reason": _TEXTS,
        "subject": _NAMES,
        "ticket": _NAMES,
        "unheard_of": _TEXTS | _ODD,
    },
)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"


_QUALIFIED = st.tuples(
    st.sampled_from(
        [
            "actor",
            "account",
            "agent",
            "client",
            "decision",
            "kind",
            "method",
            "origin",
            "path",
            "reason",
            "request",
            "route",
            "sid",
            "ticket",
            "ip",
        ]
    ),
    _NAMES
    | _PATHS
    | _ADDRESSES
    | _TEXTS
    | st.sampled_from(["allow", "deny", "GET", "tickets.read", "decision", "node"]),
).map(lambda pair: f"{pair[0]}:{_quote(pair[1])}")
_TERMS = st.tuples(
    st.sampled_from(["", "-"]),
    _QUALIFIED
    | _TEXTS.map(_quote)
    | st.sampled_from(_WORDS).map(lambda word: f"{_quote(word[:60])}*")
    | st.sampled_from(
        ["ip:192.0.2.0/24", "ip:192.0.0.0/15", "ip:0.0.0.0/0", "ip:192.0.2.6/31", "ip:2001:db8::/32", "ip:2001::/16"]
    )
    | st.tuples(st.sampled_from(["after", "before"]), _TIMES).map(":".join),
).map("".join)
QUERIES = st.lists(_TERMS, max_size=4).map(" ".join)


def parse_or_none(text: str) -> Query | None:
    """Read a query; None if it is none."""
    try:
        return Query.parse(text)
    except QueryError:
        return None


def write_segment(directory, entries, *, origin="node", first=0):
    """Write a segment of these records and return its path."""
    directory.mkdir(exist_ok=True)
    lines = [build_line(to_json(entry))[1] for entry in entries]
    path = directory / f"{origin}-{first:012d}.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def counted(found):
    """Return how often each record is there."""
    return Counter(map(to_json, found))
