"""An app that answers wrongly, through a whole gateway: whatever it sends, the next client gets what is theirs."""

import asyncio
import contextlib
import random

import pytest
import pytest_asyncio

from tests.attack_world import open_attack
from tests.oracle import Violation, parse_responses
from tests.rawwire import chunked_response, drip, response, then_close, then_reset
from tests.striker import HOST_LINE

whole = pytest.mark.asyncio(loop_scope="module")

MARK = b"f0rged"
FORGED = response(MARK)
OK = b"HTTP/1.1 200 OK\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"

BEHIND = {
    # One good answer, and more than that on the same connection.
    "a second answer": response() + FORGED,
    "a second answer behind chunks": chunked_response(b"ok") + FORGED,
    "an empty line behind chunks": chunked_response(b"ok") + b"\r\n" + FORGED,
    "an empty line": response() + b"\r\n" + FORGED,
    "a body longer than its length": OK + b"Content-Length: 2\r\n\r\nok" + MARK,
    "a body on 204": b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED,
    "a length on 204": b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n" + MARK,
    "a body on 304": b"HTTP/1.1 304 Not Modified\r\n\r\n" + FORGED,
    "a length on 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n" + MARK,
    "chunks on 304": b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n" + MARK + b"\r\n0\r\n\r\n",
    "an interim answer behind": response() + b"HTTP/1.1 103 Early Hints\r\nX: " + MARK + b"\r\n\r\n",
}
AMBIGUOUS = {
    # Not one answer in one reading.
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 100\r\n\r\n" + MARK,
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\n" + MARK,
    "a signed length": OK + b"Content-Length: +2\r\n\r\n" + MARK,
    "a hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\n" + MARK,
    "a length that overflows": OK + b"Content-Length: 18446744073709551618\r\n\r\n" + MARK,
    "length, then chunked": OK + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n" + MARK,
    "chunked, then length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n" + MARK,
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + FORGED,
    "another coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + FORGED,
    "identity": OK + b"Transfer-Encoding: identity\r\nContent-Length: 6\r\n\r\n" + MARK,
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + FORGED,
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 6\n\n" + MARK,
    "a bare line feed at the end": OK + b"Content-Length: 6\r\n\n" + MARK,
    "a bare carriage return": OK + b"X: y\rContent-Length: 6\r\n\r\n" + MARK,
    "a folded line": OK + b"X: y\r\n Content-Length: 6\r\n\r\n" + MARK,
    "a blank before the colon": OK + b"Content-Length : 6\r\n\r\n" + MARK,
    "a NUL": OK + b"X: \x00\r\nContent-Length: 6\r\n\r\n" + MARK,
    "an interim answer with a body": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 40\r\n\r\n" + FORGED,
    "a flood of interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + FORGED,
    "101 unasked": SWITCH + b"\r\n" + FORGED,
    "HTTP/0.9": b"<html>" + MARK + b"</html>\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 6\r\n\r\n" + MARK,
    "an empty line before": b"\r\n" + FORGED,
    "garbage": b"\x16\x03\x01" + MARK + b"\r\n\r\n",
}
BROKEN = {
    # The head goes out, and then the body cannot be read on.
    "a size that is none": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0x6\r\n" + MARK,
    "a signed size": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n+6\r\n" + MARK,
    "a chunk too long": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokX\r\n" + MARK,
    "a chunk without its line end": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok0\r\n\r\n" + FORGED,
    "a bare line feed in a size": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n6\n" + MARK,
    "line ends in an extension": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n6;a=\r\r" + MARK + b"\r\n",
    "a size that overflows": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n10000000000000002\r\n" + MARK,
    "a folded trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n z\r\n\r\n" + FORGED,
}
EVIL = BEHIND | AMBIGUOUS | BROKEN
METHODS = {
    b"GET": b"",
    b"HEAD": b"",
    b"POST": b"Content-Length: 5\r\n\r\nhello",
}


def ask(name, nonce, method=b"GET", lines=b""):
    rest = METHODS[method] or b"\r\n"
    return method + b" /" + name + b"/" + nonce + b" HTTP/1.1\r\n" + HOST_LINE + lines + rest


def script(seen):
    _, kind, nonce = seen.target.split(b"/")
    if kind == b"good":
        return response(nonce)
    index, way = kind.split(b"-")
    raw = list(EVIL.values())[int(index)]
    return drip(raw) if way == b"drip" else raw


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def attacker(tmp_path_factory):
    async with open_attack(tmp_path_factory.mktemp("gateway"), script=script, token=False) as attacker:
        yield attacker


class Nonces:
    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return b"nonce-%05d" % self.count


@whole
@pytest.mark.parametrize("way", [b"whole", b"drip"])
@pytest.mark.parametrize("method", METHODS)
async def test_what_an_app_sends_beside_its_answer_reaches_no_other_request(attacker, method, way):
    """Each bad answer with two good requests behind it on the same connection, and others on their own, many at a time.

    A good request gets its own answer or none; the connection to the app that an answer has spoilt is not used again.
    """
    world, nonce, turn = attacker.world, Nonces(), asyncio.Semaphore(16)

    async def own(raw):
        async with turn:
            return await world.raw(raw, responses=None)

    async def spoil(index):
        evil, *good = nonce(), nonce(), nonce()
        first, *others = await asyncio.gather(
            own(
                ask(b"%d-%b" % (index, way), evil, method)
                + ask(b"good", good[0])
                + ask(b"good", good[1], lines=b"Connection: close\r\n")
            ),
            *(own_answer(nonce()) for _ in range(3)),
        )
        assert MARK not in first
        if list(EVIL)[index] in BROKEN and method != b"HEAD" and not first.startswith(b"HTTP/1.1 502 "):
            with pytest.raises(Violation):
                await parse_responses(first)
        mine = response(good[0]) + response(good[1]).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert first.endswith(mine) or not any(one in first for one in good)
        assert {b""} == set(others)

    async def own_answer(one):
        answer = await own(ask(b"good", one, lines=b"Connection: close\r\n"))
        [got] = await parse_responses(answer)
        return b"" if (200, one) == (got.status, got.body) else answer

    await asyncio.gather(*(spoil(index) for index in range(len(EVIL))))
    assert nonce.count == 6 * len(EVIL)

    spoilt = {}
    for seen in world.upstream.requests:
        assert seen.connection_id not in spoilt, (spoilt[seen.connection_id], seen.head)
        name = seen.target.split(b"/")[1].split(b"-")[0]
        if name.isdigit():
            spoilt[seen.connection_id] = list(EVIL)[int(name)]
    assert len(spoilt) >= len(EVIL)


LATE = {
    # Each announces what does not come with it.
    "a body for HEAD": (b"HEAD", OK + b"Content-Length: 6\r\n\r\n"),
    "chunks for HEAD": (b"HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n"),
    "a body for 304": (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n"),
    "chunks for 304": (b"GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "chunks for 204": (b"GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
}


@pytest.mark.parametrize("name", LATE)
async def test_a_body_that_comes_late_is_nobodys_answer(tmp_path, name):
    """The app sends it when it hears the next request: that one must have come on another connection."""
    method, head = LATE[name]

    async def in_ambush(connection):
        heard = len(upstream.requests)
        await connection.send(head)
        await upstream.until(lambda: len(upstream.requests) > heard)
        await connection.send(FORGED)

    def script(seen):
        return in_ambush if b"evil" in seen.target else response(seen.target.split(b"/")[2])

    async with open_attack(tmp_path, script=script, token=False) as attacker:
        world, upstream, nonce = attacker.world, attacker.world.upstream, Nonces()
        for _ in range(20):
            await world.raw(ask(b"evil", nonce(), method), to_head=True)
            one = nonce()
            assert response(one) == await world.raw(ask(b"good", one))
            assert len({seen.connection_id for seen in upstream.requests[-2:]}) == 2


@whole
async def test_an_answer_that_nobody_has_asked_for_is_nobodys(attacker):
    """Bytes on an idle connection to the app, known to the gateway or still in the kernel when the next request comes."""
    world, nonce = attacker.world, Nonces()
    for index in range(100):
        one, other = nonce(), nonce()
        assert response(one) == await world.raw(ask(b"good", one))
        connection = world.upstream.connections[world.upstream.requests[-1].connection_id]
        await connection.send(FORGED)
        if index % 2:
            await world.upstream.until(connection.ended.is_set)
        assert response(other) == await world.raw(ask(b"good", other))
        assert connection.id != world.upstream.requests[-1].connection_id


async def test_a_thousand_requests_between_bad_answers_each_get_their_own_or_a_fault(tmp_path):
    """Any third answer breaks in some way, also with an end or a reset of its connection; many clients at a time."""
    rng = random.Random(7)  # noqa: S311 - repeatable, not secret

    def misbehave(seen):
        nonce = seen.target.split(b"/")[2]
        if rng.random() < 0.67:
            return rng.choice((response(nonce), chunked_response(nonce[:3], nonce[3:]), drip(response(nonce))))
        raw = rng.choice(list(EVIL.values()))
        return rng.choice(
            (raw, drip(raw), then_close(response(nonce)[:-1]), then_reset(response(nonce)), then_close(raw))
        )

    nonce, faults = Nonces(), 0
    async with open_attack(tmp_path, script=misbehave, token=False) as attacker:
        turn = asyncio.Semaphore(24)

        async def one_client():
            nonlocal faults
            # POST, which is never sent a second time; each client gives up at the first fault of its connection.
            mine = [nonce() for _ in range(4)]
            async with turn:
                raw = b"".join(ask(b"any", one, b"POST") for one in mine)
                answer = await attacker.world.raw(
                    raw + ask(b"any", nonce(), b"POST", lines=b"Connection: close\r\n"), responses=None
                )
            assert MARK not in answer
            got = []
            with contextlib.suppress(Violation):
                got = await parse_responses(answer)
            for one, seen in zip(mine, got, strict=False):
                # The answers with a body of their own are `ok`, of the bad ones; all others carry the nonce.
                assert seen.body in (one, b"ok", b"") or seen.status == 502
                faults += seen.body != one

        await asyncio.gather(*(one_client() for _ in range(250)))
        assert 1000 < nonce.count
        assert 50 < faults
        assert len(attacker.world.upstream.requests) > 3 * len(attacker.world.upstream.connections) / 2
