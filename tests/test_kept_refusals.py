"""A refusal keeps its connection only where nothing of the refused message could be read as another one."""

import pytest

from tests.attack_world import open_attack, request
from tests.gateway_world import HOST
from tests.oracle import parse_responses
from tests.rawwire import each_byte

CLOSE = b"Connection: close"
LAST = request(None, CLOSE, target="/last")
SMUGGLED = request(None, target="/smuggled")


async def _say(attacker, raw, **options):
    """Send; return the statuses of all that came back until the connection ended, and what the app heard."""
    outcome = await attacker.send(raw, responses=options.pop("responses", None), **options)
    answers = await parse_responses(outcome.answer)
    return [one.status for one in answers], [one.target for one in outcome.heard]


@pytest.mark.parametrize("cut", [lambda raw: raw, each_byte])
async def test_the_next_request_is_judged_by_itself(tmp_path, cut):
    """Behind a refusal a customer is served and staff are let in, as on a connection of their own; and the reverse."""
    async with open_attack(tmp_path) as attacker:
        refused, forged = request(attacker.token, target="/admin"), request("eyJhbGciOiJFZERTQSIsImtpZCI6ImxvY3Vt.x.y")

        assert ([403, 200], [b"/last"]) == await _say(attacker, cut(refused), responses=1, then=LAST)
        assert ([401, 200], [b"/last"]) == await _say(attacker, cut(forged), responses=1, then=LAST)
        good = request(attacker.token, CLOSE)
        assert ([403, 200], [b"/tickets/1"]) == await _say(attacker, cut(refused), responses=1, then=good)
        ended = request(attacker.token, CLOSE, target="/admin")
        assert ([200, 403], [b"/tickets/1"]) == await _say(attacker, cut(request()), responses=1, then=ended)


@pytest.mark.parametrize("behind", [SMUGGLED + LAST, LAST, b"GET /smuggled", b"\r\n", b"\0"])
async def test_what_was_sent_before_the_refusal_was_heard_is_dropped(tmp_path, behind):
    """Requests behind a refused one in the same segment are never read, whole or in part."""
    async with open_attack(tmp_path) as attacker:
        refused = request(attacker.token, target="/admin")

        assert ([403], []) == await _say(attacker, refused + behind)
        assert ([200, 403], [b"/tickets/1"]) == await _say(attacker, request() + refused + behind)


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ([b"Content-Length: %d" % len(SMUGGLED)], SMUGGLED),
        ([b"Content-Length: %d" % len(SMUGGLED)], b""),
        ([b"Content-Length: 1000000"], SMUGGLED),
        ([b"Transfer-Encoding: chunked"], b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
        ([b"Transfer-Encoding: chunked"], b""),
        ([b"Content-Length: 3", b"Expect: 100-continue"], b""),
        ([b"Content-Length: 3", b"Expect: 100-continue"], b"abc"),
    ],
)
async def test_no_body_is_read_for_a_refusal(tmp_path, lines, body):
    """A refused request with a body ends its connection, however much of that has come."""
    async with open_attack(tmp_path) as attacker:
        raw = request(attacker.token, *lines, method="POST", target="/admin") + body

        assert ([403], []) == await _say(attacker, raw)
        statuses, heard = await _say(attacker, raw + SMUGGLED)
        assert statuses in ([403], [400])  # it may be no body at all
        assert [] == heard


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ([b"Authorization: Bearer a.b.c"], {}),
        ([b"X_Locum-Assertion: forged"], {}),
        ([b"Connection: close, authorization"], {}),
        ([], {"target": "/tickets/%2e%2e/admin"}),
        ([], {"target": "/tickets//1"}),
    ],
)
async def test_what_has_two_readings_ends_its_connection(tmp_path, lines, options):
    """Whoever sends what can be read in more than one way is not listened to any longer."""
    async with open_attack(tmp_path) as attacker:
        assert ([400], []) == await _say(attacker, request(attacker.token, *lines, **options))


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /admin HTTP/1.0\r\nHost: %b\r\n%b\r\n",
        b"GET /admin HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n%b\r\n",
        b"GET /admin HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%b\r\n",
    ],
)
async def test_a_client_that_wants_no_more_gets_no_more(tmp_path, raw):
    """What ends the connection of a request that is passed on ends that of a refused one."""
    async with open_attack(tmp_path) as attacker:
        token = b"Authorization: Bearer %b\r\n" % attacker.token.encode()

        assert ([403], []) == await _say(attacker, raw % (HOST.encode(), token))
