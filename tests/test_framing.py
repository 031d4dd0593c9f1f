"""Where one request ends and the next begins: what can be read as two is refused, or goes on as exactly one."""

import asyncio
import base64
import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import pytest_asyncio

from gateway.proxy.headers import fold
from tests.attack_world import open_attack, request
from tests.gateway_world import HOST
from tests.rawwire import PATIENCE_SECONDS, cut_at, each_byte, exchange

whole = pytest.mark.asyncio(loop_scope="module")

NONCE = b"n0nce"
"""Stands in each case for what tells its requests at the upstream from those of others."""
HOST_LINE = b"Host: " + HOST.encode() + b"\r\n"
SMUGGLED = b"GET /smuggled/" + NONCE + b" HTTP/1.1\r\n" + HOST_LINE + b"\r\n"
LAST = b"GET /last/" + NONCE + b" HTTP/1.1\r\n" + HOST_LINE + b"Connection: close\r\n\r\n"
"""Follows every case, so that the connection always comes to an end."""
REFUSED = None
_FRAMING = (b"content-length", b"transfer-encoding")


def message(*lines: bytes, method=b"POST", version=b"HTTP/1.1", host=HOST_LINE, body=b"") -> bytes:
    head = method + b" /case/" + NONCE + b" " + version + b"\r\n" + host
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@dataclass
class Result:
    """What came of one case."""

    nonce: bytes
    answer: bytes
    heard: list

    @property
    def status(self) -> int:
        return int(self.answer[9:12])

    @property
    def bodies(self) -> list[bytes]:
        """Those of the requests at the upstream that are complete."""
        return [bytes(seen.body).replace(self.nonce, NONCE) for seen in self.heard if seen.complete.is_set()]

    @property
    def fault(self) -> str:
        """What of it must never be, whatever was sent; empty if nothing."""
        targets = [seen.target.split(b"/")[1] for seen in self.heard]
        if targets not in ([], [b"case"], [b"case", b"last"], [b"last"]):
            return f"heard {targets}"
        for seen in self.heard:
            framing = [name.lower() for name, _ in seen.headers if fold(name) in _FRAMING]
            if framing not in ([], [b"content-length"], [b"transfer-encoding"]) or seen.trailers:
                return f"framed by {framing}, trailers {seen.trailers}"
        return ""


class Striker:
    """Sends cases to one gateway, many at a time."""

    def __init__(self, attacker):
        self.attacker = attacker
        self._count = 0
        self._turn = asyncio.Semaphore(24)

    async def strike(self, raw: bytes, split=lambda raw: [raw], *, last=LAST) -> Result:
        self._count += 1
        nonce = b"n%04d" % self._count
        async with self._turn:
            world = self.attacker.world
            pieces = split((raw + last).replace(NONCE, nonce))
            answer = await exchange("127.0.0.1", world.port, pieces, responses=None)
        heard = [seen for seen in world.upstream.requests if nonce in seen.target]
        return Result(nonce=nonce, answer=answer, heard=heard)

    async def judge(self, cases: dict, split=lambda raw: [raw]) -> list[str]:
        """Return what was wrong, case by case; an expectation is REFUSED or the body of the one request."""
        results = await asyncio.gather(*(self.strike(raw, split) for raw, _ in cases.values()))
        await self.attacker.send(request(target="/flush"))
        return [
            f"{name}: {fault}"
            for (name, (_, expected)), result in zip(cases.items(), results, strict=True)
            if (fault := result.fault or _difference(expected, result))
        ]


def _difference(expected, result: Result) -> str:
    if expected is REFUSED:
        alone = len(re.findall(rb"HTTP/1\.[01] [0-9]{3} ", result.answer)) == 1
        told = alone and result.status in (400, 505) and result.nonce not in result.answer
        return "" if told and not result.heard else f"not refused: {result.answer[:40]!r} {result.heard}"
    return "" if (200, [expected, b""]) == (result.status, result.bodies) else f"not passed on: {result}"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def attacker(tmp_path_factory):
    async with open_attack(tmp_path_factory.mktemp("gateway")) as attacker:
        yield attacker
        assert [] == attacker.world.upstream.violations


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def striker(attacker):
    return Striker(attacker)


def named(cases) -> dict:
    return {f"{index}: {raw[:70]!r}": (raw, expected) for index, (raw, expected) in enumerate(cases)}


# --- C1, C2: two framings, or one that only some see ---

INNER = b"0\r\n\r\n" + SMUGGLED
CHUNKED_HELLO = b"5\r\nhello\r\n0\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(INNER)
CHUNKED = b"Transfer-Encoding: chunked"

NAME_DAMAGE = (
    b"%b :", b"%b\t:", b"%b\x0b:", b"%b\x00:", b" %b:", b"\t%b:", b"\x0b%b:", b"\x00%b:", b"\xa0%b:", b"%b\xa0:", b"%b\x85:",
    b"%b::", b'"%b":', b"(%b):", b"%b;:", b"X: y\n%b:", b"X: y\r%b:", b"X: y\r\r\n%b:", b"X: y\n\r%b:", b"X:\n %b:", b"%b",
    b":%b:", b"%b\r\n :", b"%b\n:", b"%b\r:", b"\xc2\xad%b:", b"%b/:", b"%b=:", b"[%b]:", b"%b@:", b"%b,:",
)  # fmt: skip
CODINGS = (
    b"chunked;q=1", b"chunked\t", b"chunked, identity", b"identity, chunked", b",chunked", b"chunked,", b"chunked, chunked", b"xchunked",
    b"chunkedx", b'"chunked"', b"'chunked'", b"chunk", b"identity", b"", b"gzip, chunked", b"gzip", b"%63hunked", b"chunked\x00",
    b"\x00chunked", b"\x0bchunked", b"chunked\x0b", b"\x0cchunked", b"chunked\xa0", b"\xa0chunked", b"\x85chunked", b"ch\xc3\xbcnked",
    b"chunked\r\n\tx", b"\r\n chunked", b"\r\n\tchunked", b"chunked\n", b"\nchunked", b"chunked\rX: y", b"=chunked", b"chunked;",
    b"chunked x", b"x chunked", b"(chunked)", b"chunked/1.0", b"cow", b"chunked\x7f", b"\xff\xfechunked",
)  # fmt: skip
SPELT_CODINGS = (b"chunked", b"CHUNKED", b"cHuNkEd", b"chunked ", b"\tchunked", b" \tChunked ")


def obfuscations():
    for method in (b"GET", b"POST"):
        for first, second in ((LENGTH, CHUNKED), (CHUNKED, LENGTH)):
            yield message(first, second, method=method, body=INNER), REFUSED
        for damage in NAME_DAMAGE:
            yield message(LENGTH, damage % b"Transfer-Encoding" + b" chunked", method=method, body=INNER), REFUSED
            yield message(damage % b"Content-Length" + b" 4", CHUNKED, method=method, body=CHUNKED_HELLO), REFUSED
        for mark in b"!#$%&'*+.^_`|~":
            alias = b"Transfer%cEncoding: chunked" % mark
            yield message(LENGTH, alias, method=method, body=INNER), REFUSED
            yield message(b"Content%cLength: 4" % mark, CHUNKED, method=method, body=CHUNKED_HELLO), REFUSED
        for coding in CODINGS:
            line = b"Transfer-Encoding:" + coding
            yield message(line, method=method, body=CHUNKED_HELLO), REFUSED
            yield message(LENGTH, line, method=method, body=INNER), REFUSED
        for coding in SPELT_CODINGS:
            line = b"tRANSFER-eNCODING:" + coding
            yield message(line, method=method, body=CHUNKED_HELLO), b"hello"
            yield message(line, LENGTH, method=method, body=INNER), REFUSED
        yield message(CHUNKED, CHUNKED, method=method, body=CHUNKED_HELLO), REFUSED
        yield message(b"X-Transfer-Encoding: chunked", LENGTH, method=method, body=INNER), INNER


@whole
async def test_a_framing_that_only_some_readers_see_is_refused(striker):
    """Damaged or doubled Transfer-Encoding and Content-Length never make two requests out of one."""
    cases = named(obfuscations())
    assert len(cases) > 300
    assert [] == await striker.judge(cases)


# --- C3: lengths ---

LENGTHS = (
    b"5, 5", b"5,", b",5", b"5, 6", b"+5", b"-5", b"-0", b"0x5", b"5_0", b"5 0", b"5;", b"", b"05", b"00", b"010", b"5.0",
    b"5e0", b"%d" % 2**63, b"%d" % 2**64, b"9" * 20, b"%d" % (2**64 + 5), b"\xd9\xa5", b"5\x00", b"5\x0b", b"\x0b5",
    b"5\xa0", b"five", b"5\r\n 0", b"\r\n 5", b'"5"', b"5h", b"0b101", b"0o5", b"5L", b"NaN", b"\xb2",
)  # fmt: skip


@whole
async def test_a_length_that_can_be_read_as_two_numbers_is_refused(striker):
    """Signs, blanks, bases, leading zeros, overflow, repetition: only a plain number counts."""
    pairs = ((b"5", b"\r\nContent-Length: 5"), (b"5", b"\r\ncontent-length:0"), (b"0", b"\r\nCONTENT-LENGTH: 5"))
    wrong = (*LENGTHS, *(first + second for first, second in pairs))
    cases = [(message(b"Content-Length:" + length, body=b"hello"), REFUSED) for length in wrong]
    cases += [
        (message(b"Content-Length:" + length, body=b"hello"), b"hello") for length in (b"5", b" 5", b"\t5 \t", b"5 ")
    ]
    assert [] == await striker.judge(named(cases))


# --- C4, C5: the ends of lines ---

LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n ", b"\r\n\t", b"\x0b\r\n", b"\x00\r\n", b"\r\x00\n", b"\r\n\x00")
PLAIN = message(b"Accept: */*", b"X-Note: a", method=b"GET")
COUNTED = message(b"Accept: */*", b"Content-Length: 5", b"X-Note: a", body=b"hello")
STREAMED = message(CHUNKED, b"X-Note: a", body=b"5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n")


def damaged(raw: bytes):
    """Replace each CRLF of a message by each other end of line, one at a time."""
    for found in re.finditer(rb"\r\n", raw):
        before, after = raw[: found.start()], raw[found.end() :]
        for end in LINE_ENDS:
            # A whole empty line with something behind it has ended the head and spoilt nothing.
            if not (end.startswith(b"\r\n") and before.endswith(b"\r\n")):
                yield before + end + after


@whole
@pytest.mark.parametrize("raw", [PLAIN, COUNTED])
async def test_a_line_that_does_not_end_in_crlf_is_refused(striker, raw):
    """Whichever line of a head it is; and no byte of the request comes back in the error."""
    assert [] == await striker.judge(named((spoilt, REFUSED) for spoilt in damaged(raw)))


@whole
async def test_chunk_framing_that_does_not_end_in_crlf_never_completes_a_request(striker):
    """The app gets nothing, or a request that breaks off; the connection ends either way."""
    spoilt = list(damaged(STREAMED))
    for split in (lambda raw: [raw], lambda raw: cut_at(raw, raw.index(b"\r\n\r\n") + 4)):
        results = await asyncio.gather(*(striker.strike(raw, split) for raw in spoilt))
        await striker.attacker.send(request(target="/flush"))
        for raw, result in zip(spoilt, results, strict=True):
            assert ("", []) == (result.fault, result.bodies), raw


# --- C6, C7: chunks and trailers ---

CHUNKS = (
    b"0x5\r\nhello\r\n", b"+5\r\nhello\r\n", b"-5\r\nhello\r\n", b" 5\r\nhello\r\n", b"5 \r\nhello\r\n", b"5\t\r\nhello\r\n",
    b"0_5\r\nhello\r\n", b"5_\r\nhello\r\n", b"g\r\nhello\r\n", b"\r\nhello\r\n", b"5\r\nhelloX\r\n", b"5\r\nhell\r\n",
    b"5\r\nhello", b"5\nhello\r\n", b"5\r\nhello\n", b"5\r\nhello\r", b"5;a=b\r\rXX\r\nhello\r\n", b"5;a\nb\r\nhello\r\n",
    b"5;a=\"\n\"\r\nhello\r\n", b"5;a\x00\r\nhello\r\n", b"10000000000000005\r\nhello\r\n", b"ffffffffffffffffffff\r\nhello\r\n",
    b"5,\r\nhello\r\n", b"5 5\r\nhello\r\n", b"\xd9\xa5\r\nhello\r\n", b"5.\r\nhello\r\n", b"0\r\n\r\r\n", b"0\r\n\n", b"0\n\r\n",
    b"\x005\r\nhello\r\n", b"5\r\r\nhello\r\n", b"5\x0b\r\nhello\r\n", b"h5\r\nhello\r\n", b"5h\r\nhello\r\n",
)  # fmt: skip
GOOD_CHUNKS = (
    b"5\r\nhello\r\n",
    b"005\r\nhello\r\n",
    b"5;a=b;c\r\nhello\r\n",
    b"1\r\nh\r\n4\r\nello\r\n",
    b'5;a="b;c"\r\nhello\r\n',
)


@whole
async def test_a_chunk_that_can_be_read_as_another_is_refused(striker):
    """Sizes are hexadecimal digits and nothing else, and each chunk ends where it says."""
    cases = [(message(CHUNKED, body=chunk + b"0\r\n\r\n"), REFUSED) for chunk in CHUNKS]
    cases += [(message(CHUNKED, body=chunk + b"0\r\n\r\n"), b"hello") for chunk in GOOD_CHUNKS]
    cases.append((message(CHUNKED, body=b"A\r\n0123456789\r\n0\r\n\r\n"), b"0123456789"))
    assert [] == await striker.judge(named(cases))


@whole
async def test_a_body_that_breaks_on_its_way_ends_both_connections(striker):
    """The app has the head already; then it gets no more, and neither side is left waiting."""

    async def strike(index, chunk):
        world = striker.attacker.world
        nonce = b"way%02d" % index
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.write(message(CHUNKED).replace(NONCE, nonce))
            await world.upstream.until(lambda: any(nonce in seen.target for seen in world.upstream.requests))
            writer.write(chunk + b"0\r\n\r\n" + LAST.replace(NONCE, nonce))
            with contextlib.suppress(ConnectionError):
                assert b" 200 " not in await reader.read()
            [seen] = [seen for seen in world.upstream.requests if nonce in seen.target]
            await world.upstream.connections[seen.connection_id].ended.wait()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return chunk if seen.complete.is_set() else None

    done = await asyncio.gather(*(strike(index, chunk) for index, chunk in enumerate(CHUNKS)))
    assert {None} == set(done)


TRAILERS = (
    b"X-Locum-Assertion: admin", b"X_Locum_Assertion: admin", b"Host: evil.example", b"Content-Length: 99",
    b"Transfer-Encoding: chunked", b"Authorization: Bearer x.y.z", b"Connection: close", b"X-Other: 1",
    b"GET /smuggled/" + NONCE + b" HTTP/1.1",
)  # fmt: skip


@whole
async def test_a_trailer_is_never_taken_for_a_header(striker):
    """What stands behind the last chunk goes nowhere, or the request does not."""
    for trailer in TRAILERS:
        raw = message(CHUNKED, b"Trailer: X-Locum-Assertion", body=b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n\r\n")
        result = await striker.strike(raw)
        name = trailer.partition(b":")[0].lower()
        assert "" == result.fault
        for seen in result.heard[:1]:
            assert (b"hello", True) == (
                seen.body,
                name == b"host" or [] == seen.values(name) or name == b"transfer-encoding",
            )
            assert [HOST.encode()] == seen.values(b"host")


@whole
async def test_trailers_have_an_end(striker):
    """Ten thousand of them are refused before they are read."""
    result = await striker.strike(message(CHUNKED, body=b"0\r\n" + b"X-T: y\r\n" * 10_000 + b"\r\n"))
    assert (400, []) == (result.status, result.bodies)


# --- C9, C13, C14: upgrades, versions, hosts ---

UPGRADES = [
    message(b"Connection: Upgrade", b"Upgrade: " + protocol, *lines, method=method, body=body)
    for protocol in (b"websocket", b"h2c", b"tcp", b"TLS/1.0")
    for method, lines, body in (
        (b"GET", (), b""),
        (b"POST", (LENGTH,), INNER),
        (b"POST", (CHUNKED,), CHUNKED_HELLO),
        (b"POST", (b"Content-Length: 5", b"Expect: 100-continue"), b"hello"),
    )
]


@whole
@pytest.mark.parametrize("raw", UPGRADES)
async def test_an_upgrade_that_is_not_made_does_not_move_the_end_of_the_request(striker, raw):
    """What follows an ignored Upgrade is still its body, and then the next request, or nothing is passed on."""
    result = await striker.strike(raw)
    assert "" == result.fault
    expected = INNER if INNER in raw else b"hello" if b"hello" in raw else b""
    assert result.bodies in ([], [expected], [expected, b""])


VERSIONS = (
    b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/2", b"HTTP/3.0", b"HTTP/9.9", b"HTTP/01.1", b"HTTP/1.10", b"HTTP/11",
    b"http/1.1", b"HTTP /1.1", b"HTTP/ 1.1", b"HTTP/1.1 x", b"HTTP/1,1", b"HTTPS/1.1", b"ICE/1.0", b"RTSP/1.0", b"1.1",
    b"", b"HTTP/1.1\x00", b"HTTP/\xb9.1", b"HTTP/-1.1", b"HTTP/1.1\t", b"\tHTTP/1.1",
)  # fmt: skip


@whole
async def test_only_two_versions_are_http_here(striker):
    """A request line that names another version, or none, is refused, and so is chunking in HTTP/1.0."""
    cases = [(message(method=b"GET", version=version), REFUSED) for version in VERSIONS]
    cases.append((message(CHUNKED, version=b"HTTP/1.0", body=CHUNKED_HELLO), REFUSED))
    cases.append((b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED))
    # RFC 9112 section 3 lets a reader take several blanks for one; the app gets one.
    cases.append((b"GET  /case/" + NONCE + b"  HTTP/1.1\r\n" + HOST_LINE + b"\r\n", b""))
    cases.append((b"GET\t/case/" + NONCE + b" HTTP/1.1\r\n" + HOST_LINE + b"\r\n", REFUSED))
    cases.append(
        (message(b"Connection: keep-alive", b"Content-Length: 5", version=b"HTTP/1.0", body=b"hello"), b"hello")
    )
    assert [] == await striker.judge(named(cases))


@whole
@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9"])
async def test_a_lone_request_of_another_version_is_refused_too(striker, version):
    """With nothing behind it the parser takes some of them; they end here all the same."""
    result = await striker.strike(message(method=b"GET", version=version), last=b"")
    assert (True, []) == (result.status in (400, 505), result.heard)


HOSTS = (
    b"a\x00.b", b"a,b", b"a/b", b"a b", b"u@a", b"u:p@a", b"a?b", b"a#b", b"a\\b", b"a:b", b"a:80:80", b"a:123456", b"[::1",
    b"::1", b"a%2eb", b"a;b", b"http://a", b"\xe9", b"a\x0b", b'"a"', b"<a>", b"{a}", b"a\r\n b", b"[::1]x", b"[z]", b"a*",
)  # fmt: skip
GOOD_HOSTS = (
    HOST.encode(),
    b"a",
    b"a:80",
    b"a:",
    b"[::1]",
    b"[::1]:8080",
    b"127.0.0.1:1",
    b"a_b.example",
    b"A.Example.",
)


@whole
async def test_there_is_one_host_and_it_is_one(striker):
    """None, two, or one that some reader would take for another host or for a path: refused for everybody."""
    cases = [(message(method=b"GET", host=b"Host: " + host + b"\r\n"), REFUSED) for host in HOSTS]
    cases.append((message(method=b"GET", host=b""), REFUSED))
    cases.append((message(HOST_LINE.strip(), method=b"GET"), REFUSED))
    cases.append((message(b"hOST: evil.example", method=b"GET"), REFUSED))
    cases += [(message(method=b"GET", host=b"Host: " + host + b"\r\n"), b"") for host in GOOD_HOSTS]
    assert [] == await striker.judge(named(cases))


# --- N2: too much ---


@whole
async def test_heads_have_an_end(striker):
    """A line, a target and a number of lines beyond the bound are refused; what fits is passed on."""
    long = b"a" * 40_000
    cases = [
        (message(b"X: " + long), REFUSED),
        (message(long + b": x"), REFUSED),
        (message(*[b"X: y"] * 300), REFUSED),
        (message(method=b"GET").replace(NONCE, NONCE + long, 1), REFUSED),
        (message(b"X: " + long[:20_000], method=b"GET"), b""),
        (message(*[b"X: y"] * 200, method=b"GET"), b""),
    ]
    assert [] == await striker.judge(named(cases))


# --- any segmentation ---

SPLIT_CASES = [
    (PLAIN, b""),
    (COUNTED, b"hello"),
    (message(CHUNKED, body=b"3;x\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"), b"hello"),
    (message(LENGTH, CHUNKED, body=INNER), REFUSED),
    (message(b"Content-Length: 05", body=b"hello"), REFUSED),
    (message(b"X: y\nTransfer-Encoding: chunked", LENGTH, body=INNER), REFUSED),
    (message(b"Transfer_Encoding: chunked", LENGTH, body=INNER), REFUSED),
]


@whole
@pytest.mark.parametrize(("raw", "expected"), SPLIT_CASES)
async def test_where_the_network_cuts_makes_no_difference(striker, raw, expected):
    """Each message comes out the same in one piece, in two at every place, and byte by byte."""
    splits = [
        lambda whole_: [whole_],
        each_byte,
        *(lambda whole_, at=at: cut_at(whole_, at) for at in range(1, len(raw))),
    ]
    results = await asyncio.gather(*(striker.strike(raw, split) for split in splits))
    await striker.attacker.send(request(target="/flush"))
    # Whoever goes on sending after a refusal may find the connection reset, and the answer with it.
    told = [result for result in results if result.answer or result.heard]
    assert len(told) > len(raw) // 2
    assert [] == [fault for result in told if (fault := result.fault or _difference(expected, result))]


# --- C10, C11: Expect, and early refusals ---

EXPECTATIONS = (b"100-continue", b"100-Continue", b"y 100-continue", b"100-continue, 100-continue", b"200-ok", b"")


@whole
@pytest.mark.parametrize("expectation", EXPECTATIONS)
async def test_nothing_is_asked_for_before_the_decision(attacker, expectation):
    """A request that is refused never hears `100 Continue`, so its body is never sent."""
    line = b"Expect: " + expectation
    for token, target, reason in (
        (attacker.token, "/tickets/1/reply", "insufficient_scope"),
        (attacker.token + "x", "/tickets/search", "token_invalid"),
    ):
        raw = request(token, line, b"Content-Length: 5", method="POST", target=target)
        outcome = await attacker.send(raw)
        assert (reason, 0, [reason]) == outcome.verdict[1:]
        assert b"100 Continue" not in outcome.answer


@whole
@pytest.mark.parametrize("staff", [True, False])
async def test_what_is_let_through_is_asked_for_once_it_is_on_the_record(attacker, staff):
    """`100 Continue` comes behind the record, the body behind it; the app never sees `Expect`."""
    before = len(attacker.world.records())
    raw = request(
        attacker.token if staff else None,
        b"Expect: 100-continue",
        b"Content-Length: 5",
        method="POST",
        target="/tickets/search",
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", attacker.world.port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        writer.write(raw)
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")
        assert staff == len(attacker.world.records()) - before
        writer.write(b"hello")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        writer.close()
        await writer.wait_closed()
    seen = attacker.world.upstream.requests[-1]
    assert (b"hello", []) == (seen.body, seen.values(b"expect"))


@whole
async def test_after_a_refusal_nothing_more_of_the_connection_is_read(attacker):
    """Neither the rest of a body nor what was pipelined behind it becomes a request."""
    since = len(attacker.world.upstream.requests)
    behind = request(target="/tickets") * 3 + request(attacker.token) * 3
    for body in (b"", b"hello", request(target="/tickets")):
        raw = request(attacker.token, method="POST", target="/tickets/1/reply", body=body)
        for pieces in ([raw + behind], [raw, behind], cut_at(raw + behind, len(raw) - len(body) // 2)):
            outcome = await attacker.refused(pieces)
            assert (403, 1) == (outcome.status, outcome.answer.count(b"HTTP/1.1"))
    assert [] == await attacker.heard_late(since)


# --- C12: who is who on one connection ---


@whole
async def test_pipelined_requests_keep_their_own_identities(attacker):
    """Hundreds of requests of two accounts and of customers on one connection: each arrives as its own."""
    world = attacker.world
    await world.add_account("umbra")
    await world.choose("day", account="umbra")
    other = await world.token(account="umbra", subject_token="noor")
    senders = [
        (attacker.token, HOST, "maria"),
        (None, HOST, None),
        (other, "umbra.helpdesk.example", "noor"),
        (None, HOST, None),
    ]
    senders *= 75
    raw = b"".join(
        request(token, b"Cookie: theme=%d" % index, host=host, target="/tickets/1" if token else f"/{index}")
        for index, (token, host, _) in enumerate(senders)
    )
    before = len(world.upstream.requests)
    answer = await world.raw(raw, responses=len(senders))
    assert len(senders) == answer.count(b"HTTP/1.1 200 OK")
    seen = [(int(entry.values(b"cookie")[0][6:]), subject(entry)) for entry in world.upstream.requests[before:]]
    assert [(index, name) for index, (_, _, name) in enumerate(senders)] == seen


def subject(seen):
    """Return whom the app is told that it has before it; None: nobody said anything."""
    said = seen.values(b"X-Locum-Assertion")
    if not said:
        return None
    [assertion] = said
    payload = assertion.split(b".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + b"=="))["sub"]


# --- the parser itself ---


def test_the_gateway_does_not_start_without_the_strict_parser():
    """aiohttp's other parser reads some messages as two, so without the compiled one there is no front."""
    program = "from gateway.proxy.front import require_c_parser; require_c_parser()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"},
        capture_output=True,
        check=False,
    )
    assert (1, True) == (done.returncode, b"FrontError: aiohttp's C parser is missing" in done.stderr)
