"""Every case of the cookie reader through the listener: in one piece, in two, and byte by byte; and what the app got."""

import pytest

from tests.attack_world import open_attack
from tests.browser_rows import hold
from tests.gateway_world import HOST
from tests.rawwire import cut_at, each_byte
from tests.test_our_cookies import DOUBTFUL, OTHERS, TAKEN_OUT, VALUE


@pytest.fixture
async def attacker(tmp_path):
    async with open_attack(tmp_path) as attacker:
        await hold(attacker.world, attacker.token, VALUE.decode())
        yield attacker


def request(lines):
    head = [
        b"GET /tickets/1 HTTP/1.1",
        b"Host: " + HOST.encode(),
        *(b"Cookie: " + line for line in lines),
        b"X-Last: 1",
    ]
    return b"\r\n".join(head) + b"\r\n\r\n"


async def test_who_is_read_is_the_same_however_it_is_cut(attacker):
    """Ours alone lets staff in, with none of the cookies; what has two readings is refused; the rest is the app's own."""
    for case, (lines, _) in TAKEN_OUT.items():
        raw = request(lines)
        for pieces in (raw, cut_at(raw, len(raw) // 2), each_byte(raw)):
            outcome = await attacker.send(pieces)
            assert (200, None, 1, [None]) == outcome.verdict, case
            [seen] = outcome.heard
            assert ([], 1) == (seen.values(b"cookie"), len(seen.values(b"x-locum-assertion"))), case
    for case, lines in DOUBTFUL.items():
        raw = request(lines)
        for pieces in (raw, cut_at(raw, len(raw) // 2), each_byte(raw)):
            outcome = await attacker.send(pieces, responses=None)
            # What no header may hold is refused before anybody looks for a cookie.
            refused = (400, None, 0, []) if b"\x0b" in raw else (400, "ambiguous_header", 0, ["ambiguous_header"])
            assert refused == outcome.verdict, case
    for case, lines in OTHERS.items():
        raw = request(lines)
        for pieces in (raw, cut_at(raw, len(raw) // 2), each_byte(raw)):
            outcome = await attacker.send(pieces)
            assert (200, None, 1, []) == outcome.verdict, case
            [seen] = outcome.heard
            assert ([line.strip(b" \t") for line in lines], []) == (
                seen.values(b"cookie"),
                seen.values(b"x-locum-assertion"),
            ), case


async def test_an_ordinary_request_with_staffs_cookie_loses_that_and_nothing_else(attacker):
    """Byte for byte, wherever it stands; a line that held only it is gone, and the lines around stay."""
    staff = b"__Host-locum-staff=" + VALUE
    for lines, left in (
        ([b"a=1; " + staff + b"; b=\xff\xfe"], [b"a=1; b=\xff\xfe"]),
        ([b"a=1", staff, b"b=2"], [b"a=1", b"b=2"]),
        ([staff], []),
    ):
        raw = request(lines)
        for pieces in (raw, each_byte(raw)):
            outcome = await attacker.send(pieces)
            assert (200, None, 1, []) == outcome.verdict
            [seen] = outcome.heard
            assert left == seen.values(b"cookie")
            assert {b"host", b"x-last"} == {name.lower() for name, _ in seen.headers} - {b"cookie"}


async def test_a_connection_that_repeats_its_head_pays_once_and_one_that_does_not_is_read_anew(attacker):
    """On one connection: with the cookie, without, with it twice; each gets its own answer."""
    ours = b"__Host-locum-assumption=" + VALUE
    raw = b"".join(request(lines) for lines in ([ours], [ours], [b"a=1"], [b"a=1; " + ours], [b"a=1"]))
    outcome = await attacker.send(raw, responses=5)
    assert [True, True, False, True, False] == [bool(seen.values(b"x-locum-assertion")) for seen in outcome.heard]
    assert [[], [], [b"a=1"], [], [b"a=1"]] == [seen.values(b"cookie") for seen in outcome.heard]


async def test_ours_in_no_other_header_counts(attacker):
    """Nor in a trailer, a query or another spelling of `Cookie`: such a request is the customer's own."""
    ours = b"__Host-locum-assumption=" + VALUE
    for line in (b"Cookie2: " + ours, b"X-Cookie: " + ours, b"Cookie-Host: " + ours):
        outcome = await attacker.send(request([]).replace(b"X-Last: 1", line))
        assert (200, None, 1, []) == outcome.verdict
        assert [] == outcome.heard[0].values(b"x-locum-assertion")
    outcome = await attacker.send(request([]).replace(b"/tickets/1", b"/tickets/1?" + ours))
    assert (200, []) == (outcome.status, outcome.heard[0].values(b"x-locum-assertion"))
