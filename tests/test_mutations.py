"""Messages damaged at random, by a fixed seed: the app never hears a request that the tests' own reader does not see."""

import asyncio
import contextlib
import random

import pytest
import pytest_asyncio

from tests.attack_world import open_attack, request
from tests.rawwire import each_byte
from tests.striker import HOST_LINE, LAST, SMUGGLED, Striker, in_one, in_two, message

whole = pytest.mark.asyncio(loop_scope="module")

CASES = 2500
AT_A_TIME = 64
WHILE = 0.5
"""Seconds."""

SEEDS = (
    message(b"Accept: */*", method=b"GET"),
    message(b"Content-Length: 5", body=b"hello"),
    message(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED),
    message(b"Transfer-Encoding: chunked", body=b"5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\nX-Sum: 1\r\n\r\n"),
    message(b"Transfer-Encoding: chunked", body=b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n0\r\n\r\n"),
    message(b"Content-Length: 5", b"Expect: 100-continue", b"Connection: keep-alive", body=b"hello"),
    message(b"Connection: Upgrade", b"Upgrade: websocket", method=b"GET"),
    message(b"Connection: keep-alive", method=b"GET", version=b"HTTP/1.0"),
)
TOKENS = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"0", b"5", b"a", b"\xa0", b"\x85", b"\x0b", b"\xff", b"-", b"_", b"+",
    b"0\r\n\r\n", b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"content-length:7\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer_Encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n", HOST_LINE, b"Connection: close\r\n", b"Connection: content-length\r\n", b"X: y\r\n", b" HTTP/1.1", b"HTTP/1.0",
    b"GET ", b"POST ", b"chunked", b"0x", b"fffffffffffffffff", SMUGGLED,
)  # fmt: skip


def damage(raw: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 3)):
        at, size = rng.randrange(len(raw) + 1), rng.randint(1, 6)
        match rng.randrange(5):
            case 0:
                raw = raw[:at] + rng.choice(TOKENS) + raw[at:]
            case 1:
                raw = raw[:at] + raw[at + size :]
            case 2:
                raw = raw[:at] + rng.choice(TOKENS) + raw[at + size :]
            case 3:
                lines = raw.split(b"\r\n")
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                raw = b"\r\n".join(lines)
            case 4:
                raw = raw[:at] + rng.choice(SEEDS)[-rng.randrange(1, 80) :] + raw[at:]
    return raw


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def striker(tmp_path_factory):
    async with open_attack(tmp_path_factory.mktemp("gateway"), token=False) as attacker:
        yield Striker(attacker, at_a_time=AT_A_TIME)


@whole
async def test_no_damage_makes_a_request_that_is_not_there(striker):
    """One to three random changes each; in one segment, in two, and byte by byte.

    Each request that the app has heard was sent, with its method and target, by the strict reader's count. A message whose
    end never comes is given up after a while.
    """
    turn = asyncio.Semaphore(AT_A_TIME)
    rng = random.Random(20)  # noqa: S311 - repeatable, not secret
    cases = [damage(rng.choice(SEEDS), rng) for _ in range(CASES)]

    def split(index, raw):
        return (in_one, in_two(1 + index % len(raw)), each_byte)[index % 3] if raw else in_one

    async def strike(index, raw):
        with contextlib.suppress(TimeoutError):
            async with turn, asyncio.timeout(WHILE):
                return (await striker.strike(raw, split(index, raw), last=LAST * 8)).status
        return None

    results = await asyncio.gather(*(strike(index, raw) for index, raw in enumerate(cases)))
    await striker.attacker.send(request(target="/flush"))
    assert [] == striker.attacker.world.strangers
    # Both kinds must be many, or nothing was tried.
    assert results.count(200) > CASES / 10
    assert results.count(400) > CASES / 10
