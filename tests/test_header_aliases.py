"""Headers as a disguise: names that an app folds into ours, lines twice, nominations, and where the token must not go."""

import logging
from itertools import cycle, product

import pytest
import pytest_asyncio

from gateway.proxy.names import fold
from tests.attack_world import open_attack, request
from tests.gateway_world import HOST
from tests.rawwire import RecordingUpstream, response

whole = pytest.mark.asyncio(loop_scope="module")

# RFC 9110 section 5.6.2: all that a field name may hold beside letters and digits.
SEPARATORS = "!#$%&'*+-.^_`|~"
CAPITALS = (str, str.lower, str.upper, str.swapcase)
ASSERTION = b"X-Locum-Assertion"
RENAMED = {"header": "Remote-User", "plain": {"actor": "Zz-Agent", "account": "X-Real-Ip"}}


def aliases(name):
    """Return a name with every separator in every place, each in another mix of capitals."""
    first, *rest = name.split("-")
    mixes = cycle(CAPITALS)
    for chosen in product(SEPARATORS, repeat=len(rest)):
        spelt = first + "".join(mark + word for mark, word in zip(chosen, rest, strict=True))
        yield next(mixes)(spelt).encode()


ALIASES = [*aliases("X-Locum-Assertion"), *(mix("X-Locum-Assertion").encode() for mix in CAPITALS)]
OTHERS = [b"x-locum-session", b"X_Locum_Client", b"X.LOCUM.", b"X-Locum-Anything-At-All"]
RENAMED_ALIASES = [name for renamed in ("Remote-User", "Zz-Agent", "X-Real-Ip") for name in aliases(renamed)]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def elsewhere():
    async with RecordingUpstream() as other:
        yield other


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def attacker(tmp_path_factory, elsewhere):
    def script(seen):
        if b"away" in seen.target:
            return response(status=b"302 Found", headers=[(b"Location", elsewhere.url.encode() + b"/evil")])
        return response()

    async with open_attack(tmp_path_factory.mktemp("gateway"), script=script) as attacker:
        yield attacker


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def renamed(tmp_path_factory):
    def change(document):
        document["identity"] = RENAMED

    async with open_attack(tmp_path_factory.mktemp("renamed"), change=change) as attacker:
        yield attacker


def in_batches(names, size=200):
    for start in range(0, len(names), size):
        yield names[start : start + size]


# --- names that fold into ours ---


async def expect_removed(attacker, names):
    for batch in in_batches(names):
        lines = [b"a: 1", *(name + b": admin" for name in batch), b"X-Locum: 2", b"XLocum-Assertion: 3", b"A: \xe9"]
        outcome = await attacker.send(request(None, *lines))
        [seen] = outcome.heard
        assert request(None, b"a: 1", b"X-Locum: 2", b"XLocum-Assertion: 3", b"A: \xe9") == seen.head


async def expect_forged(attacker, names):
    since = len(attacker.world.upstream.requests)
    for name in names:
        outcome = await attacker.refused(request(attacker.token, name + b": admin"))
        assert (400, "forged_header", 0, ["forged_header"]) == outcome.verdict, name
    assert [] == await attacker.heard_late(since)


@whole
async def test_no_alias_of_the_identity_header_gets_through_with_ordinary_traffic(attacker):
    """Whatever CGI, WSGI, Rack or PHP folds into our header is taken out, and not a byte beside it."""
    assert 225 + len(CAPITALS) == len(ALIASES)
    await expect_removed(attacker, ALIASES + OTHERS)


@whole
async def test_no_alias_of_the_identity_header_is_tolerated_beside_a_token(attacker):
    """Staff have no reason to state who they are: each alias is refused, on the record, and nothing is sent."""
    await expect_forged(attacker, ALIASES + OTHERS)


@whole
async def test_configured_identity_headers_are_protected_like_the_built_in_one(renamed):
    """The folding is of the configured names, the plain ones included, and the reserved prefix stays reserved."""
    await expect_removed(renamed, RENAMED_ALIASES + ALIASES[:8])
    await expect_forged(renamed, RENAMED_ALIASES + ALIASES[:8])


@whole
async def test_each_identity_header_is_there_exactly_once_and_is_ours(renamed):
    """The app finds one line for each name that we state, whichever way it folds names."""
    outcome = await renamed.send(request(renamed.token))
    [seen] = outcome.heard
    stated = {fold(name): value for name, value in seen.headers}
    assert len(stated) == len(seen.headers)
    assert (b"dana", b"acme") == (stated[b"zz-agent"], stated[b"x-real-ip"])
    assert 2 == stated[b"remote-user"].count(b".")
    assert b"x-locum-assertion" not in stated


HEARSAY = [
    b"Forwarded", b"Via", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Forwarded-Port",
    b"X-Forwarded-Uri", b"X-Forwarded-Method", b"X-Forwarded-Prefix", b"X-Forwarded-Server", b"X-Forwarded-Ssl",
    b"X-Original-URI", b"X-Original-Method", b"X-Original-Host", b"X-Real-IP", b"True-Client-IP", b"CF-Connecting-IP",
    b"X-Client-IP", b"X-Forwarded-User", b"Remote-User", b"X-Auth-Request-Email",
]  # fmt: skip


@whole
async def test_what_others_say_of_the_client_reaches_neither_app_nor_record_for_staff(attacker):
    """The address of staff is that of their connection; customers' own lines pass as they came."""
    lines = [name + b": 198.51.100.7" for name in HEARSAY]
    outcome = await attacker.send(request(attacker.token, *lines))
    [seen] = outcome.heard
    assert b"198.51.100.7" not in seen.head
    assert ["127.0.0.1"] == [record["client_ip"] for record in outcome.records]

    outcome = await attacker.send(request(None, *lines))
    assert [request(None, *lines)] == [seen.head for seen in outcome.heard]


@whole
@pytest.mark.parametrize("mark", sorted(set(SEPARATORS) - {"-"}))
async def test_a_name_that_may_be_taken_for_another_is_refused_for_staff(attacker, mark):
    """Whichever header an app would fold it into: staff's programs have no need of such names; customers keep theirs."""
    for name in ("X{}Forwarded-For", "X-Anything{}At-All", "Cookie{}", "{}"):
        line = name.format(mark).encode() + b": 1"
        outcome = await attacker.refused(request(attacker.token, line))
        assert (400, "ambiguous_header", 0, ["ambiguous_header"]) == outcome.verdict
        assert [request(None, line)] == [seen.head for seen in (await attacker.send(request(None, line))).heard]


# --- the credential, twice or half hidden ---


def two_faced(token):
    """Return header lines in which it depends on the reader whether, or which, token counts."""
    bearer = b"Authorization: Bearer " + token
    return {
        "twice": [bearer, bearer],
        "twice with another": [bearer, b"Authorization: Bearer app.session.token"],
        "second of two": [b"Authorization: Basic YTpi", bearer],
        "in other capitals": [bearer, b"AUTHORIZATION: Basic YTpi"],
        "joined by a comma": [bearer + b", Bearer app.session.token"],
        "behind a comma": [b"Authorization: Basic YTpi, Bearer " + token],
        "without a scheme": [b"Authorization: " + token],
        "of another scheme": [b"Authorization: Token " + token],
        "as a parameter": [b'Authorization: Digest response="' + token + b'"'],
        "behind a tab": [b"Authorization: Bearer\t" + token],
        "nominated": [bearer, b"Connection: authorization"],
        "nominated in capitals": [b"Connection: keep-alive, AUTHORIZATION", bearer],
    }


@whole
@pytest.mark.parametrize("case", two_faced(b""))
async def test_a_token_that_only_some_readers_see_is_refused(attacker, case):
    """What decides is there once and in one form, or the request ends here."""
    outcome = await attacker.refused(request(None, *two_faced(attacker.token.encode())[case]))
    assert (400, "ambiguous_header", 0, ["ambiguous_header"]) == outcome.verdict


BLANKS = (b"\x85", b"\xa0", b"\x0b", b"\x0c", b"\x1c", b"\xc2\xa0", b"\xe2\x80\x83", b"\x00", b"\x7f")


@whole
@pytest.mark.parametrize("blank", BLANKS)
async def test_blanks_that_only_some_languages_trim_do_not_make_a_token_good(attacker, blank):
    """Only SP and HTAB surround a value; with anything else the token is not one, and is still not the app's."""
    since = len(attacker.world.upstream.requests)
    token = attacker.token.encode()
    for value in (blank + b"Bearer " + token, b"Bearer " + blank + token, b"Bearer " + token + blank):
        outcome = await attacker.refused(request(None, b"Authorization: " + value))
        assert (True, []) == (outcome.status in (400, 401), outcome.heard), value
    assert [] == await attacker.heard_late(since)


# --- Connection: taking out a header that counts ---

NOMINATED = [
    b"Connection: close, X-Locum-Assertion",
    b"connection: x-locum-assertion",
    b'Connection: "x-locum-assertion"',
    b"Connection:\tX-LOCUM-ASSERTION\t,\tclose",
    b"Connection: ,,x_locum_assertion",
    b"Connection: keep-alive\r\nConnection: X-Locum-Assertion",
    b"Connection: keep-alive\r\ncONNECTION: close,,\t x.locum.assertion",
    b"Connection: cookie, host, x-forwarded-for",
    b"Connection: content-length, transfer-encoding",
    b"Connection: X-Tenant\r\nX-Tenant: acme",
]


@whole
@pytest.mark.parametrize("lines", NOMINATED)
async def test_a_nomination_never_takes_the_identity_away(attacker, lines):
    """Staff's request that nominates anything is refused; nobody's takes out what makes the message what it is."""
    outcome = await attacker.refused(request(attacker.token, lines))
    assert (400, "ambiguous_header", 0, ["ambiguous_header"]) == outcome.verdict

    kept = [b"Cookie: a=b", b"Content-Type: text/plain"]
    outcome = await attacker.send(request(None, *kept, lines, ASSERTION + b": admin", method="POST", body=b"hello"))
    [seen] = outcome.heard
    assert request(None, *kept, method="POST", body=b"hello") == seen.head + seen.body


@whole
@pytest.mark.parametrize("lines", [b"Connection: close", b"Connection: keep-alive, te", b"connection:\tTE\t,Trailer"])
async def test_plain_connection_options_cost_nothing(attacker, lines):
    """What every client sends is no attack: the identity is set, and our own Connection header is our own."""
    outcome = await attacker.send(request(attacker.token, lines, b"TE: trailers"))
    [seen] = outcome.heard
    assert (200, 1) == (outcome.status, len(seen.values(ASSERTION)))
    assert [[], []] == [seen.values(b"connection"), seen.values(b"te")]


# --- where the token, the assertion and the app's session must not go ---


@whole
async def test_the_token_is_told_to_nobody(attacker, caplog):
    """No byte of it upstream, in an answer, in the journal or in the log, however the request is damaged."""
    caplog.set_level(logging.DEBUG)
    token = attacker.token.encode()
    bearer = b"Authorization: Bearer " + token
    attacks = [
        request(attacker.token),
        request(attacker.token, target="/nowhere"),
        request(attacker.token, target="/tickets/%2e%2e/1"),
        request(attacker.token, ASSERTION + b": admin", b"Accept: text/html"),
        request(None, bearer, bearer, b"Accept: text/html"),
        request(None, bearer + b"\x00"),
        request(None, bearer + b"\nX: y"),
        request(None, bearer + b"\x0b"),
        request(None, bearer + b"tampered"),
        request(None, bearer + b"\x85"),
        request(None, b"Authorization Bearer " + token),
        request(None, b" folded: " + token, bearer),
        request(attacker.token, b"Host: twice"),
        request(attacker.token, b"Content-Length: 1, 2"),
        request(attacker.token, b"Transfer-Encoding: chunked", method="POST") + token + b"\r\n0\r\n\r\n",
        # In segments of their own: the damage is read after the refusal, and while the body is on its way.
        [request(None, bearer + b"x", b"Transfer-Encoding: chunked", method="POST"), token + b"\r\n"],
        [request(None, b"Transfer-Encoding: chunked", method="POST"), token + b"\r\n"],
    ]
    answers = [(await attacker.send(raw, responses=1)).answer for raw in attacks]
    journal = b"".join(path.read_bytes() for path in (attacker.world.directory / "journal").iterdir())
    upstream = b"".join(connection.received for connection in attacker.world.upstream.connections)
    assert all(answers[:-1])
    secret = token.rpartition(b".")[2]
    told = {"answers": b"".join(answers), "journal": journal, "upstream": upstream, "log": caplog.text.encode()}
    assert [] == [where for where, text in told.items() if secret in text]
    # And all of it is the client's fault, so nobody is called for it.
    assert [] == [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.ERROR]


@whole
@pytest.mark.parametrize("staff", [True, False])
async def test_a_redirect_is_the_clients_to_follow(attacker, elsewhere, staff):
    """The app's redirect comes back as it is; the assertion is never carried to another place."""
    outcome = await attacker.send(request(attacker.token if staff else None, target="/tickets?away"))
    assert (302, f"{elsewhere.url}/evil") == (outcome.status, outcome.headers["location"])
    assert (1, []) == (len(outcome.heard), elsewhere.connections)


async def test_a_proxy_of_the_environment_is_not_asked(tmp_path, monkeypatch):
    """Neither the app nor the issuer is reached through what an environment variable names."""
    async with RecordingUpstream() as evil:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, evil.url)
        async with open_attack(tmp_path) as attacker:
            outcome = await attacker.send(request(attacker.token))
        assert (200, 1, []) == (outcome.status, len(outcome.heard), evil.connections)


@whole
async def test_the_apps_own_session_never_crosses_for_staff(attacker):
    """The withheld cookie is taken out, the others keep their bytes; a customer's line is not touched."""
    line = b'Cookie: a=b;  session=stolen; c="d"; sessions=e;session =f; =g'
    [seen] = (await attacker.send(request(attacker.token, line))).heard
    assert [b'a=b; c="d"; sessions=e; =g'] == seen.values(b"cookie")
    [seen] = (await attacker.send(request(None, line))).heard
    assert [line.removeprefix(b"Cookie: ")] == seen.values(b"cookie")


@whole
async def test_a_catch_rule_is_not_passed_by_another_spelling_of_the_host(tmp_path_factory):
    """A host that must be staff's is that host in capitals, with a port, or with the root's dot."""

    def change(document):
        document["catch"] = [{"host": f"{HOST}"}]

    async with open_attack(tmp_path_factory.mktemp("catch"), change=change) as attacker:
        for host in (HOST, HOST.upper(), HOST + ".", HOST + ":8080", HOST.title() + ".:80"):
            outcome = await attacker.refused(request(host=host))
            assert (401, "token_missing", 0, ["token_missing"]) == outcome.verdict, host
        assert 200 == (await attacker.send(request(host="other.helpdesk.example"))).status
