"""Read-only means read-only: other methods in disguise, GETs that write, bodies where none belongs, routes for nobody."""

import json
import re
from itertools import product
from urllib.parse import quote

import pytest
import pytest_asyncio

from policy.routes import read_profile
from policy.target import TargetError, parse_target
from tests.attack_world import open_attack, request
from tests.rawwire import response

whole = pytest.mark.asyncio(loop_scope="module")

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
PATHS = (
    "/whoami", "/seats", "/tickets", "/tickets/1", "/tickets/1?action=close", "/tickets/1/hold", "/tickets/1/reply",
    "/tickets/search", "/tickets/test", "/attachments/1", "/events", "/admin", "/login", "/logout", "/api-tokens", "/",
)  # fmt: skip
READS = {
    *product(("GET", "HEAD"), ("/", "/whoami", "/seats", "/tickets", "/tickets/1")),
    ("GET", "/attachments/1"),
    ("GET", "/events"),
    # The one POST of the demo helpdesk that only asks.
    ("POST", "/tickets/search"),
}
WRITES = {
    *product(("GET", "HEAD"), ("/tickets/1?action=close",)),
    ("GET", "/tickets/1/hold"),
    ("POST", "/tickets/1/reply"),
    ("POST", "/tickets"),
    # Whoever may write may also create a ticket that is marked as a test.
    ("POST", "/tickets/test"),
}
FOR_CACHES = [(b"CDN-Cache-Control", b"max-age=60"), (b"Surrogate-Control", b"max-age=60"), (b"X-Accel-Expires", b"60")]
SET_COOKIES = [
    (b"Set-Cookie", b"session=app; Path=/"),
    (b"Set-Cookie", b"theme=dark"),
    (b"Cache-Control", b"public"),
    *FOR_CACHES,
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def attacker(tmp_path_factory):
    """Reads only, by its token; the account and the staff rule would allow everything."""
    directory = tmp_path_factory.mktemp("gateway")
    permissions = ("read", "test_tickets", "write")

    def script(seen):
        return response(b"" if seen.method == b"HEAD" else b"ok", headers=SET_COOKIES)

    async with open_attack(directory, script=script, permissions=permissions) as attacker:
        yield attacker


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def writer(attacker):
    return await attacker.world.token("tickets:read tickets:write tickets:write:test")


async def passed(attacker, token):
    """Return what of methods and paths gets to the app with this token."""
    through = set()
    for method, target in product(METHODS, PATHS):
        raw = request(token, b"Connection: close", method=method, target=target)
        outcome = await attacker.refused(raw)
        assert (200 == outcome.status) == bool(outcome.heard)
        through |= {(method, target)} if outcome.heard else set()
    return through


@whole
async def test_a_token_that_reads_reaches_reading_routes_and_no_other(attacker):
    """Over all methods and routes, what gets through with `tickets:read` is what only shows something."""
    assert READS == await passed(attacker, attacker.token)


@whole
async def test_a_token_that_writes_reaches_no_route_that_is_for_nobody(attacker, writer):
    """With every scope there is, seats, logins and credentials stay out of reach; so the test above can fail."""
    assert READS | WRITES == await passed(attacker, writer)


# --- E1: a second method in disguise ---

OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL")
OVERRIDE_LINES = [
    f"{spelling}: {value}".encode()
    for name in OVERRIDES
    for spelling in (name, name.upper(), name.replace("-", "_"), name.replace("-", ".", 1).lower())
    for value in ("DELETE", "GET", "")
]
OVERRIDE_QUERIES = [
    "_method=DELETE", "_method[]=DELETE", "_method%5B%5D=DELETE", "_METHOD=delete", "%5fmethod=DELETE", "_method",
    "+_method=DELETE", ".method=DELETE", "_method%5Bx%5D=PUT", "a=1&_method=GET", "X-HTTP-Method-Override=DELETE",
    "_method%20=DELETE", "_method=GET&_method=DELETE",
]  # fmt: skip


@whole
async def test_no_header_or_field_turns_a_reading_request_into_another(attacker, writer):
    """Whatever a framework takes for the real method or path is refused, with any token and any value."""
    since = len(attacker.world.upstream.requests)
    for token, method in product((attacker.token, writer), ("GET", "POST")):
        target = "/tickets/1" if method == "GET" else "/tickets/search"
        for line in OVERRIDE_LINES:
            outcome = await attacker.refused(request(token, line, method=method, target=target))
            told = (400, "ambiguous_header") if re.search(rb"[_.].*:", line) else (403, "method_override")
            assert (*told, 0, [told[1]]) == outcome.verdict, line
        for query in OVERRIDE_QUERIES:
            outcome = await attacker.refused(request(token, method=method, target=f"{target}?{query}"))
            assert (403, "method_override", 0, ["method_override"]) == outcome.verdict, query
    assert [] == await attacker.heard_late(since)


@whole
async def test_the_same_override_is_a_customers_own_business(attacker):
    """Ordinary traffic keeps it, header and field."""
    raw = request(None, *OVERRIDE_LINES[:12], method="POST", target="/tickets/1?_method=DELETE")
    assert [raw] == [seen.head for seen in (await attacker.send(raw)).heard]


# --- E2: verbs ---

VERBS = (
    "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "QUERY", "PURGE", "REPORT", "LINK",
    "UNLINK", "BIND", "ACL", "SUBSCRIBE", "NOTIFY", "M-SEARCH", "SOURCE", "MKCALENDAR", "MERGE", "CHECKOUT", "REBIND",
    "DEBUG", "TRACK", "BREW", "FOO", "GETX", "GE", "G", "get", "Get", "gET", "head", "post", "_GET", "GET%20", "G\xc9T",
    'G="x"', "GET,HEAD", "DELETE-GET", "PRI", "HTTP/1.1",
)  # fmt: skip


@whole
@pytest.mark.parametrize("verb", VERBS)
async def test_a_method_is_known_to_the_letter_or_refused(attacker, writer, verb):
    """No other verb, and no known one in other letters, goes on for staff."""
    since = len(attacker.world.upstream.requests)
    outcome = await attacker.refused(request(writer, method=verb))
    if outcome.records:
        assert (403, "method_not_allowed", 0, ["method_not_allowed"]) == outcome.verdict
    else:
        assert (400, []) == (outcome.status, outcome.heard)
    assert [] == await attacker.heard_late(since)


@whole
@pytest.mark.parametrize("staff", [True, False])
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("TRACE", "/tickets/1"),
        ("CONNECT", "acme:80"),
        ("CONNECT", "/tickets"),
        ("Trace", "/tickets/1"),
        ("connect", "/tickets"),
    ],
)
async def test_trace_and_connect_are_for_nobody_and_nothing_behind_them_is_read(attacker, method, target, staff):
    """TRACE would show the assertion, CONNECT would open a tunnel; what follows on the connection is not a request."""
    since = len(attacker.world.upstream.requests)
    token = attacker.token if staff else None
    behind = request(token, target="/tickets") + request(token, target="/tickets")
    for body in (b"", b"hello"):
        outcome = await attacker.refused(request(token, method=method, target=target, body=body) + behind)
        assert (405, [], 1) == (outcome.status, outcome.heard, outcome.answer.count(b"HTTP/1.1 "))
    assert [] == await attacker.heard_late(since)


# --- E4: bodies where none belongs ---


@whole
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    ("line", "body"),
    [
        (b"Content-Length: 14", b"_method=DELETE"),
        (b"Transfer-Encoding: chunked", b"e\r\n_method=DELETE\r\n0\r\n\r\n"),
        (b"Transfer-Encoding: chunked", b"0\r\n\r\n"),
    ],
)
async def test_a_body_that_some_frameworks_read_is_refused(attacker, method, line, body):
    """A request that reads says all it has to say in its head."""
    outcome = await attacker.refused(request(attacker.token, line, method=method) + body)
    told = None if method == "HEAD" else "body_not_allowed"
    assert (400, told, 0, ["body_not_allowed"]) == outcome.verdict


@whole
async def test_an_announced_empty_body_is_no_body(attacker):
    """`Content-Length: 0` on a GET, which some clients send, costs nothing."""
    assert (200, None, 1, [None]) == (await attacker.send(request(attacker.token, b"Content-Length: 0"))).verdict


# --- E3: routes that are for nobody ---

NOBODYS = ("admin", "api-tokens", "login", "logout")
SPELLINGS = [
    *("/" + spelt + rest for name in NOBODYS for spelt in (name, name.upper(), name.title(), name.swapcase())
      for rest in ("", "/", "/x", "/x/", "?a=1", "/?a=1")),
    "/%61dmin", "/%41DMIN/", "/adm%69n", "/adm%C4%B1n", "/ADM%C4%B0N", "/api-to%E2%84%AAens", "/%EF%BD%81dmin",
    "/%EF%BC%A1%EF%BC%A4min/x", "/%EF%BD%8Cogin",
]  # fmt: skip
LAX = {
    "name": "lax",
    "description": "an app whose pages all look alike",
    "agent_probe": False,
    "scopes": {"pages:read": "see pages"},
    "routes": [
        {"id": "page", "methods": ["GET"], "path": "/{page}", "scope": "pages:read"},
        {"id": "below", "methods": ["GET"], "path": "/{page}/**", "scope": "pages:read"},
        *({"id": name, "methods": ["*"], "path": f"/{name}/**", "never": "for nobody"} for name in NOBODYS),
    ],
}


@pytest.mark.parametrize("target", SPELLINGS)
def test_no_spelling_of_a_forbidden_route_passes_as_a_page(target):
    """Letter case, a slash, escapes and look-alike letters do not lead around a `never`, even where all else is open."""
    profile = read_profile(LAX)
    assert any(rule.scope is None for rule in profile.match("GET", parse_target(target.encode())))


@pytest.mark.parametrize("target", ["/adminx", "/x/admin", "/admi", "/administration", "/log%20in"])
def test_a_never_rule_speaks_of_its_route_only(target):
    """What merely begins or ends alike is another page, so the test above can fail."""
    assert all(rule.scope is not None for rule in read_profile(LAX).match("GET", parse_target(target.encode())))


@pytest.mark.parametrize(
    "target", ["//admin", "/./admin", "/admin;x", "/admin%2f", "/admin%20", "/admin.", "/admin%00"]
)
def test_a_forbidden_route_in_an_ambiguous_spelling_is_no_route_at_all(target):
    """What would need folding of the path itself is refused before any rule is asked."""
    with pytest.raises(TargetError):
        parse_target(target.encode())


@whole
async def test_forbidden_routes_are_refused_on_the_whole_way(attacker, writer):
    """With every scope and any method, no spelling of them reaches the app."""
    since = len(attacker.world.upstream.requests)
    for target, method in product(SPELLINGS, ("GET", "POST", "DELETE")):
        outcome = await attacker.refused(request(writer, method=method, target=target))
        assert (403, []) == (outcome.status, outcome.heard), target
        assert outcome.reason in ("never_allowed", "no_route_rule")
    assert [] == await attacker.heard_late(since)


# --- E3: one address, and what is done stands in the message ---

PERSISTED = json.dumps({"persistedQuery": {"version": 1, "sha256Hash": "5e" * 32}})
CLOSE = "mutation Close { a: closeTicket(id: 1) { id } b: closeTicket(id: 2) { id } }"
GRAPHQL = {
    "a mutation in the query": ("GET", f"?query={quote(CLOSE)}", b""),
    "a mutation behind a query": (
        "GET",
        f"?query={quote('query Look { me { id } } ' + CLOSE)}&operationName=Close",
        b"",
    ),
    "a persisted one": ("GET", f"?extensions={quote(PERSISTED)}", b""),
    "no more than a question": ("GET", f"?query={quote('{ me { id } }')}", b""),
    "a body behind a GET": ("GET", "", json.dumps({"query": CLOSE}).encode()),
    "aliases": ("POST", "", json.dumps({"query": CLOSE}).encode()),
    "a batch": ("POST", "", json.dumps([{"query": "{ me { id } }"}, {"query": CLOSE}]).encode()),
    "a persisted one, posted": ("POST", "", b'{"extensions": ' + PERSISTED.encode() + b"}"),
    "the operation of two": (
        "POST",
        "?operationName=Close",
        json.dumps({"query": "query Look { me { id } } " + CLOSE, "operationName": "Close"}).encode(),
    ),
}


@whole
@pytest.mark.parametrize("case", GRAPHQL)
async def test_a_graphql_endpoint_without_a_rule_is_out_of_reach(attacker, writer, case):
    """No verb, no query and no operation's name makes a read of what is decided in the message: nothing goes to the app."""
    method, query, body = GRAPHQL[case]
    since = len(attacker.world.upstream.requests)
    for token, path in product((attacker.token, writer), ("/graphql", "/api/graphql")):
        raw = request(token, b"Content-Type: application/json", method=method, target=path + query, body=body)
        outcome = await attacker.refused(raw)
        told = (400, "body_not_allowed") if body and method == "GET" else (403, "no_route_rule")
        assert (*told, 0, [told[1]]) == outcome.verdict
    assert [] == await attacker.heard_late(since)


# --- F3: nobody is let through by the name of their program ---

HEALTH_CHECKS = ("kube-probe/1.30", "GoogleHC/1.0", "ELB-HealthChecker/2.0", "Consul Health Check")


@whole
@pytest.mark.parametrize("agent", HEALTH_CHECKS)
async def test_a_health_checks_name_opens_nothing(attacker, agent):
    """A token that does not reach is refused all the same, a false one too; without one it is a request like any other."""
    line = b"User-Agent: " + agent.encode()
    for method, target, reason in (
        ("GET", "/tickets/1/hold", "insufficient_scope"),
        ("POST", "/tickets/1/reply", "insufficient_scope"),
        ("GET", "/admin", "never_allowed"),
        ("GET", "/healthz", "no_route_rule"),
    ):
        outcome = await attacker.refused(request(attacker.token, line, method=method, target=target))
        assert (403, reason, 0, [reason]) == outcome.verdict
    outcome = await attacker.refused(request(attacker.token + "x", line))
    assert (401, "token_invalid", 0, ["token_invalid"]) == outcome.verdict
    for target in ("/tickets/1", "/healthz"):
        raw = request(None, line, target=target)
        assert [raw] == [seen.head for seen in (await attacker.send(raw)).heard]


# --- E5: what comes back ---


@whole
async def test_what_staff_see_is_kept_by_nobody(attacker):
    """No cache keeps it and the agent's session does not come along; a customer's answer is as the app gave it."""
    staff = (await attacker.send(request(attacker.token))).answer
    assert b"Cache-Control: no-store" in staff
    assert [] == [name for name, _ in FOR_CACHES if name in staff]
    assert [False, False, True] == [part in staff for part in (b"public", b"session=app", b"theme=dark")]
    customer = (await attacker.send(request())).answer
    assert response(b"ok", headers=SET_COOKIES) == customer
