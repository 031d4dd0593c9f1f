"""One path, several readers: whatever any of them would read differently is refused for staff, and untouched for others."""

import re
import unicodedata
from itertools import product
from urllib.parse import quote

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.routes import read_profile
from policy.target import MOST_BYTES, TargetError, parse_target
from tests.attack_world import open_attack, request
from tests.hostile_texts import TEXTS
from tests.path_readers import READERS, iis, nginx, php, tomcat, twice

whole = pytest.mark.asyncio(loop_scope="module")

PLAIN_DOTS = (".", "%2e", "%2E", "%252e")
ODD_DOTS = (
    "%c0%ae",
    "%e0%80%ae",
    "%f0%80%80%ae",
    "%u002e",
    "%uff0e",
    "%ef%bc%8e",
    "%e2%80%a4",
    "%ef%b9%92",
    "%25%32%65",
)
ENDINGS = (
    ";", ";a=b", "%3b", "%00", "%20", "%09", "%0d", "%0a", "%a0", "%c2%a0", "\\", "%5c", "%255c", "%2f", "%2F",
    "%252f", "%c0%af", "%u2215", "%e2%88%95", "%ef%bc%8f", "%ef%bc%bc", "%c1%9c", "#", "%23", "%3f",
)  # fmt: skip
SEGMENTS = [
    *PLAIN_DOTS,
    *ODD_DOTS,
    *("".join(pair) for pair in product(PLAIN_DOTS, repeat=2)),
    *(dot * 2 for dot in ODD_DOTS),
    *(".." + ending for ending in ENDINGS),
    ".;", "%2e;x", ";", ";jsessionid=1", "x;y", "...", "....", "..%2e", ".%00.", "%e2%80%a5", "%e2%80%a6", "..\\..",
    "%5c..", "..%2fadmin", "..%5cadmin", "%2f", "%5c", "%252e%252e%252f", "%zz", "%", "%2", "%25%32%66", "%e9", "%ff",
    "%ed%a0%80", "%u0061dmin", "\xe9", "admin.", "admin%20", "admin%2e", "",
]  # fmt: skip
PLACES = ("/{}/tickets/1", "/public/{}/admin", "/tickets/1/{}")
EVASIONS = [place.format(segment) for segment, place in product(SEGMENTS, PLACES) if segment or "{}/" in place]

GOOD = {
    "/": ("",),
    "/tickets/1": ("tickets", "1"),
    "/tickets/1/": ("tickets", "1", ""),
    "/.well-known/a..b/.c": (".well-known", "a..b", ".c"),
    "/a%20b/%61": ("a b", "a"),
    "/50%25/100%25zz": ("50%", "100%zz"),
    "/tick%C3%A9ts/%E6%97%A5": ("tickéts", "日"),
    "/a+b,c:d@e=f&g~h!i$j'(k)*": ("a+b,c:d@e=f&g~h!i$j'(k)*",),
}


def readings(path: bytes) -> set[str]:
    """How the readers take a path; letters that some of them replace by plain ones count as the plain ones."""
    return {fold(reading) for reader in READERS if (reading := reader(path)) is not None}


def fold(path: str) -> str:
    return unicodedata.normalize("NFKC", path)


# --- the pure function ---


def test_the_list_of_evasions_is_long():
    """At least sixty spellings, in the first, a middle and the last place."""
    assert len(set(SEGMENTS)) >= 60
    assert len(EVASIONS) >= 180


@pytest.mark.parametrize("target", EVASIONS)
def test_a_path_has_one_reading_or_is_refused(target):
    """There is no spelling that we judge as one path and some server routes as another."""
    raw = target.encode("latin-1")
    try:
        accepted = parse_target(raw)
    except TargetError:
        return
    assert {fold(accepted.path)} == readings(raw)


@pytest.mark.parametrize(
    ("reader", "target", "reading"),
    [
        (nginx, b"/public/%2e%2e/admin", "/admin"),
        (nginx, b"/public//admin", "/public/admin"),
        (tomcat, b"/public/..;a=b/admin", "/admin"),
        (tomcat, b"/admin;x", "/admin"),
        (php, b"/admin%00.css", "/admin"),
        (iis, b"/public/%uff0e%uff0e\\admin", "/admin"),
        (iis, b"/admin.%20", "/admin"),
        (iis, b"/public/..%e2%88%95admin", "/admin"),
        (twice, b"/public/%252e%252e/admin", "/admin"),
        (twice, b"/public/%c0%ae%c0%ae/admin", "/admin"),
    ],
)
def test_the_readers_are_fooled_as_the_real_ones_were(reader, target, reading):
    """Each of these has let somebody into `/admin`, so the comparison has teeth; and each is refused."""
    assert reading == reader(target)
    with pytest.raises(TargetError):
        parse_target(target)


@pytest.mark.parametrize("target", GOOD)
def test_an_honest_path_is_accepted_as_it_is(target):
    """What browsers send to helpdesks is not refused, and every server reads it as we do."""
    accepted = parse_target(target.encode())
    assert GOOD[target] == accepted.segments
    assert {fold(accepted.path)} == readings(target.encode())


PIECES = st.sampled_from(
    [*SEGMENTS, "/", "?", "&", "=", "[", "]", "%2", "25", "2e", "u00", "tickets", "admin", "1", "é"]
)
TARGETS = st.one_of(
    st.lists(PIECES, max_size=8).map(lambda parts: ("/" + "".join(parts)).encode()),
    st.lists(
        st.text(max_size=6).map(lambda text: quote(text.encode("utf-8", "surrogatepass"), safe=";%./")), max_size=5
    ).map(lambda parts: ("/" + "/".join(parts)).encode()),
    st.binary(max_size=60).map(b"/".__add__),
)


@settings(max_examples=1500, deadline=None)
@given(TARGETS)
def test_what_is_accepted_is_a_fixed_point_of_every_reader(raw):
    """Accepted means: the very bytes go on, and no reader changes what was judged."""
    try:
        accepted = parse_target(raw)
    except TargetError:
        return
    assert raw == accepted.raw
    assert {fold(accepted.path)} == readings(raw.partition(b"?")[0])
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", accepted.path)


@pytest.mark.parametrize("length", [MOST_BYTES, MOST_BYTES + 1])
def test_the_longest_target_is_a_bound(length):
    """8 KiB is read, one byte more is not."""
    raw = b"/" + b"a" * (length - 1)
    if length <= MOST_BYTES:
        assert raw == parse_target(raw).raw
        return
    with pytest.raises(TargetError):
        parse_target(raw)


@pytest.mark.parametrize(
    "query", ["a=1;action=close", "a=%zz", "%00=1", "a%0d=1", "a=%e9", "a=%00", "a=%1b[31m", "a=\\#", "a=#action=close"]
)
def test_a_query_with_two_readings_is_refused(query):
    """Fields that some frameworks see and others do not must not hide from the rules."""
    with pytest.raises(TargetError):
        parse_target(b"/tickets/1?" + query.encode())


FIELDS = ("close_as", "Close_As", "close_as[]", "close_as[x]", "%63lose_as", "+close_as", "%20close_as", "close_as[x",
          "close.as", "close+as", "close[as", "close%5Bas")  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_recognised_however_it_is_spelt(name):
    """What some framework takes for the same field meets the same rule."""
    page = {"methods": ["GET"], "path": "/tickets"}
    rules = [
        page | {"id": "show", "scope": "tickets:read"},
        page | {"id": "close", "query_has": ["close_as"], "never": "closes it"},
        page | {"id": "plain", "query_only": ["page"], "scope": "tickets:read"},
    ]
    words = {"name": "x", "description": "x", "agent_probe": False, "scopes": {"tickets:read": "x"}}
    profile = read_profile(words | {"routes": rules})
    found = profile.match("GET", parse_target(b"/tickets?page[]=1&" + name.encode() + b"=1"))
    assert {"show", "close"} == {rule.id for rule in found}
    assert {"show", "plain"} == {rule.id for rule in profile.match("GET", parse_target(b"/tickets?page[]=1"))}


# --- the whole way ---


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def attacker(tmp_path_factory):
    async with open_attack(tmp_path_factory.mktemp("gateway")) as attacker:
        yield attacker


@whole
async def test_an_ambiguous_path_is_refused_for_staff_and_untouched_for_customers(attacker):
    """Staff get 400 and the app hears nothing; a customer's request arrives byte for byte, whatever it says."""
    since = len(attacker.world.upstream.requests)
    evasions = [target for target in EVASIONS if target.isascii()]
    for target in evasions:
        outcome = await attacker.refused(request(attacker.token, target=target))
        assert (400, "ambiguous_target", 0, ["ambiguous_target"]) == outcome.verdict, target
    assert [] == await attacker.heard_late(since)
    for target in evasions:
        outcome = await attacker.send(request(target=target))
        assert [request(target=target)] == [seen.head for seen in outcome.heard]


@whole
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/users?x=/tickets/1", "no_route_rule"),
        ("/users?/tickets/1", "no_route_rule"),
        ("/admin?/../tickets/1", "never_allowed"),
        ("/tickets/1x", "no_route_rule"),
        ("/x/tickets/1", "no_route_rule"),
        ("/tickets/%D9%A1", "no_route_rule"),
        ("/TICKETS/1", "no_route_rule"),
        ("/tickets/1%0A", "ambiguous_target"),
        ("/tickets/1%0D%0AX-Locum-Assertion:%20admin", "ambiguous_target"),
    ],
)
async def test_a_rule_speaks_of_the_whole_path_and_of_nothing_else(attacker, target, reason):
    """Neither the query, nor a part of the path, nor other digits make a rule fit."""
    outcome = await attacker.refused(request(attacker.token, target=target))
    assert (reason, 0, [reason]) == outcome.verdict[1:]


NO_PATHS = (
    "http://evil.example/tickets/1", "https://acme.helpdesk.example/tickets/1", "HTTP://u:p@evil/", "admin", "@evil/",
    "a:80", "*", "?x", "#x", "tickets/1", "\\tickets", ".", "%2Ftickets/1",
)  # fmt: skip


@whole
@pytest.mark.parametrize("target", NO_PATHS)
@pytest.mark.parametrize("staff", [True, False])
async def test_a_target_that_is_no_path_is_refused_for_everybody(attacker, target, staff):
    """The upstream is named by the configuration alone, and the host by the Host header alone."""
    since = len(attacker.world.upstream.requests)
    outcome = await attacker.refused(request(attacker.token if staff else None, target=target))
    assert (400, []) == (outcome.status, outcome.heard)
    assert [] == await attacker.heard_late(since)


@whole
async def test_the_asterisk_form_is_for_customers_options_only(attacker):
    """`OPTIONS *` means the server, so it goes on; for staff it is no path."""
    outcome = await attacker.send(request(method="OPTIONS", target="*"))
    assert [b"OPTIONS * HTTP/1.1"] == [seen.first_line for seen in outcome.heard]
    outcome = await attacker.refused(request(attacker.token, method="OPTIONS", target="*"))
    assert (400, "ambiguous_target", 0, ["ambiguous_target"]) == outcome.verdict


@whole
async def test_strange_words_stay_one_line_of_the_journal(attacker):
    """Whatever a path holds, it is judged, refused or not, and recorded on one line that reads back as it was."""
    # Of each kind some: what the other places do with all of them is in tests/test_hostile_texts.py.
    for word in (text for text in TEXTS[::3] if not text.isdecimal()):
        target = "/tickets/" + quote(word[:300], safe="")
        outcome = await attacker.refused(request(attacker.token, target=target))
        assert (0, [target]) == (len(outcome.heard), [record["path"] for record in outcome.records]), word


@whole
@pytest.mark.parametrize("host", ["acme.helpdesk.example:80", "ACME.Helpdesk.Example", "acme.helpdesk.example."])
async def test_the_account_is_read_from_the_host_in_any_spelling(attacker, host):
    """Capitals, a port and the root's dot do not make another account."""
    assert (200, None, 1, [None]) == (await attacker.send(request(attacker.token, host=host))).verdict


@whole
@pytest.mark.parametrize(
    "host",
    ["helpdesk.example", "acme.helpdesk.example.evil", "acme..helpdesk.example", "evil.acme.helpdesk.example",
     "acme_.helpdesk.example", "-acme.helpdesk.example", ".helpdesk.example", "acme.helpdesk.example..", "127.0.0.1",
     "[::1]", "169.254.169.254", "2130706433", "xn--acme.helpdesk.exampl"],
)  # fmt: skip
async def test_a_host_that_names_no_account_is_refused(attacker, host):
    """A host that is nearly the account's is nobody's."""
    outcome = await attacker.refused(request(attacker.token, host=host))
    assert (403, "unknown_account", 0, ["unknown_account"]) == outcome.verdict
